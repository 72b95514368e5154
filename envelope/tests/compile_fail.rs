//! What must not compile: every way to hold a fact without the check that establishes it.

#[test]
fn only_checks_make_the_next_state() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

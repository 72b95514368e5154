//! Every malformed policy in `policies/malformed` is refused with the message beside it.
//!
//! Each file has one fault and is named for it. After a change of wording run with `INSTA_UPDATE=always`
//! and read the difference.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};
use sealbus_guard::policy;
use sealbus_guard::policy::source::PolicySource;

#[test]
fn every_malformed_policy_is_refused_with_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/malformed");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 40, "only {} cases were found", files.len());
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let source = PolicySource::new(format!("{name}.toml"), text);
        let findings = match policy::check(&source) {
            Ok(_) => panic!("`{name}` was accepted"),
            Err(findings) => findings,
        };
        let mut message = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::none())
            .with_width(80)
            .render_report(&mut message, &findings)
            .expect("a report can be rendered");
        // Trailing spaces are layout, and editors remove them.
        let message = message.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        insta::with_settings!({
            snapshot_path => "policies/malformed",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

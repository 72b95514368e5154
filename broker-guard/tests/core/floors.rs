//! Whose floor rises: what counts against an agent, whatever it shows.

use super::world::{Agent, World, label, name};
use sealbus_envelope::reason::Reason;

/// Readers that forget between sessions, and writers that do not.
const POLICY: &str = r#"
levels       = ["public", "internal"]
compartments = []
integrity    = ["low"]

[teams.source]
clearance = { level = "internal" }

[teams.forgetful]
clearance = { level = "internal" }
taint     = "session"

[teams.strict]
clearance = { level = "internal" }

[rules.news]
pattern     = "news.>"
publishers  = ["source"]
subscribers = ["forgetful"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }

[rules.out]
pattern     = "out.>"
publishers  = ["strict"]
subscribers = ["source"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }
"#;

#[test]
fn who_was_moved_reads_nothing_unseen_with_its_old_credential() {
    let mut world = World::with(POLICY, 1 << 20, 4_000_000);
    let (source, reads) = (world.agent("sara", "source"), world.agent("rita", "forgetful"));
    let mut writes = world.restart(&reads);
    writes.credential = world.rename(&reads, "rita", "strict");
    assert_eq!(writes.token(), reads.token(), "one agent");
    for agent in [&source, &reads, &writes] {
        agent.hello(&mut world, &[]);
    }
    reads.subscribe(&mut world, 1, "news", "news.>");
    let (mut low, _) = writes.opened(&mut world, "out", label(0, 0, 0), 0);
    assert_eq!(writes.publish(&mut world, &mut low, "out.x").0.forwarded().len(), 1);
    let (sending, _) = source.opened(&mut world, "news", label(1, 0, 0), 0);
    source.grant(&mut world, &sending, &[&reads]);
    assert_eq!(writes.publish(&mut world, &mut low, "out.x").0.denied(&writes), Reason::BelowFloor);
}

/// Editors release what they read of the open news, and nothing else of the news.
const RELEASE: &str = r#"
levels       = ["public", "internal"]
compartments = []
integrity    = ["low"]

[teams.source]
clearance = { level = "internal" }

[teams.editor]
clearance = { level = "internal" }

[rules.news]
pattern     = "news.>"
publishers  = ["source"]
subscribers = ["editor"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }

[rules.out]
pattern     = "out.>"
publishers  = ["editor"]
subscribers = ["source"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }

[grants.release]
team       = "editor"
from       = "news.open.>"
to         = "out.>"
from_label = { level = "internal" }
to_label   = { level = "public" }
expires    = 2099-01-01
reason     = "the open news may be told"
"#;
const NARROW: (&str, &str) = (r#"pattern     = "news.>""#, r#"pattern     = "news.open.>""#);

struct Desk {
    world: World,
    editor: Agent,
}

impl Desk {
    /// An editor that was given a key of the rule `news`.
    fn under(policy: &str) -> Self {
        let mut world = World::with(policy, 1 << 20, 4_000_000);
        let (source, editor) = (world.agent("sara", "source"), world.agent("edna", "editor"));
        source.hello(&mut world, &[]);
        editor.hello(&mut world, &[]);
        editor.subscribe(&mut world, 1, "news", "news.open.>");
        let (sending, _) = source.opened(&mut world, "news", label(1, 0, 0), 0);
        assert_eq!(editor.granted(&source.grant(&mut world, &sending, &[&editor])).len(), 1);
        Self { world, editor }
    }

    /// Whether the editor may release by the flow grant.
    fn releases(&mut self) -> bool {
        let mut low = self.editor.make_key("out", label(0, 0, 0), 0, None);
        let opened = self.editor.open(&mut self.world, &[&low]);
        let mut say = self.editor.say(&self.world, &mut low, "out.x");
        say.fields.flow_grant = Some(name("release"));
        let (_, bytes) = self.editor.seal(&low, &say);
        let did = self.world.envelope(&self.editor, "out.x", &bytes);
        let passed = did.forwarded().len() == 1;
        if !passed {
            assert_eq!(opened.denials(&self.editor), [Reason::BelowFloor]);
            assert_eq!(did.denied(&self.editor), Reason::BelowFloor);
        }
        passed
    }
}

#[test]
fn a_grant_lifts_what_was_read_on_its_subjects_whatever_the_rule_covers_now() {
    let (wide, narrow) = (RELEASE.to_owned(), RELEASE.replace(NARROW.0, NARROW.1));
    assert!(Desk::under(&narrow).releases());

    let mut desk = Desk::under(&wide);
    assert!(!desk.releases());
    desk.world.replace(&narrow);
    assert!(!desk.releases(), "it was read when the rule covered all news");
    desk.world = desk.world.restarted();
    desk.editor.rejoin(&desk.world);
    desk.editor.hello(&mut desk.world, &[]);
    assert!(!desk.releases());
}

#[test]
fn a_key_that_opens_more_under_a_new_policy_counts_as_that() {
    let (wide, narrow) = (RELEASE.to_owned(), RELEASE.replace(NARROW.0, NARROW.1));
    let mut desk = Desk::under(&narrow);
    assert!(desk.releases());
    desk.world.replace(&wide);
    assert!(!desk.releases(), "the key it holds opens all news");
    desk.world.replace(&narrow);
    assert!(!desk.releases(), "and did");
    desk.world = desk.world.restarted();
    desk.editor.rejoin(&desk.world);
    desk.editor.hello(&mut desk.world, &[]);
    assert!(!desk.releases());
}

#[test]
fn a_policy_that_came_while_the_guard_was_away_changes_nothing_of_that() {
    let (wide, narrow) = (RELEASE.to_owned(), RELEASE.replace(NARROW.0, NARROW.1));
    let mut desk = Desk::under(&narrow);
    for policy in [&wide, &narrow] {
        desk.world.policy = desk.world.records(policy);
        desk.world.versions.0 += 1;
        desk.world = desk.world.restarted();
        desk.editor.rejoin(&desk.world);
        desk.editor.hello(&mut desk.world, &[]);
        assert!(!desk.releases());
    }
}

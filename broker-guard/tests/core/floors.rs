//! Whose floor rises: what counts against an agent, whatever it shows.

use super::world::{World, label};
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

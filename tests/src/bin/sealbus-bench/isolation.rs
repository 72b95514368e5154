//! What one agent at full speed costs the others: throughput, p99 and losses of honest flows, beside it and
//! without it, turn by turn.
//!
//! Flooder, server, guard and honest agents share one machine, so the first row says what the same flood costs
//! where there is no guard at all: a plain subscriber that reads both.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::time::Duration;

use crate::{
    environment::Environment,
    progress,
    report::{Report, Row},
    rig::Rig,
    samples::Samples,
};

mod flooder;
mod honest;

use flooder::{Flood, Flooder, Seen};
use honest::{Honest, Window};

const PAYLOAD: usize = 1024;
/// Of all honest publishers together.
const PER_SECOND: u32 = 2_000;
const PUBLISHERS: usize = 4;
/// Turns without and with the flooder, if there is time for two.
const ROUNDS: u32 = 2;
/// Shorter ones say nothing, so one turn of each is enough then.
const SERIOUS: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_millis(300);

/// The honest rule, which [`Rig::guarded`] knows, and one for who floods.
pub(crate) const POLICY: &str = r#"
levels = ["public"]
integrity = ["untrusted"]
freshness = "1h"

[teams.load]
clearance = { level = "public" }
[teams.mob]
clearance = { level = "public" }

[rules.load]
pattern = "load.>"
publishers = ["load"]
subscribers = ["load"]
labels = { level = "public" }
rate = { per_second = 10000, burst = 20000 }
max_bytes = 1048576

[rules.mob]
pattern = "mob.>"
publishers = ["mob"]
subscribers = ["load"]
labels = { level = "public" }
rate = { per_second = 500, burst = 1000 }
max_bytes = 65536
"#;

/// What came of the turns without and with one kind of flood.
#[derive(Default)]
struct Outcome {
    quiet: Vec<Window>,
    flooded: Vec<Window>,
    seen: Vec<Seen>,
}

pub(crate) fn run(budget: Duration) -> Report {
    let environment = Environment::take();
    let rig = Rig::start_with(POLICY);
    let mut report = Report::new("isolation", rig.environment(environment));
    let rounds = if budget < SERIOUS { 1 } else { ROUNDS };
    let turns = u32::try_from(Flood::ALL.len()).unwrap_or(1) * 2 * rounds;
    let window = (budget / turns).max(SHORTEST);
    let (mut plain, mut guarded) = (Honest::plain(&rig), Honest::guarded(&rig));
    for flood in Flood::ALL {
        let honest = if flood == Flood::Plain { &mut plain } else { &mut guarded };
        let mut outcome = Outcome::default();
        for round in 1..=rounds {
            progress::say(&format!("{}: round {round} of {rounds}", flood.what()));
            outcome.quiet.push(honest.window(&rig, window));
            // Each time another agent: one that is known already is let in less often.
            let flooder = Flooder::start(&rig, flood);
            outcome.flooded.push(honest.window(&rig, window));
            outcome.seen.push(flooder.stop());
        }
        report.push(outcome.row(flood));
    }
    report.note(format!(
        "Honest: {PUBLISHERS} publishers, {PER_SECOND} messages of {PAYLOAD} bytes a second in all, one reader; \
         {rounds} turns of {:.1} s without and with a flooder each. Latency counts from when a message was due. \
         The flooder is a new agent in each turn, sends as fast as its connection takes, and connects again at \
         once whenever it is cut. `connected_share` is how much of the time it had a connection on which the \
         server took what it sent, the lobby included.",
        window.as_secs_f64(),
    ));
    report
}

impl Outcome {
    fn row(&self, flood: Flood) -> Row {
        let together = |windows: &[Window]| {
            let mut samples = Samples::default();
            windows.iter().for_each(|window| samples.extend(&window.latency));
            samples
        };
        let (quiet, flooded) = (together(&self.quiet), together(&self.flooded));
        let rate = |windows: &[Window]| windows.iter().map(|window| window.per_second).sum::<f64>();
        let lost: usize = self.flooded.iter().map(|window| window.sent - window.latency.len()).sum();
        let sent: usize = self.flooded.iter().map(|window| window.sent).sum();
        let mean = |figure: fn(&Seen) -> f64| {
            let turns = u32::try_from(self.seen.len().max(1)).unwrap_or(1);
            self.seen.iter().map(figure).sum::<f64>() / f64::from(turns)
        };
        let late = |windows: &[Window]| {
            let mut samples = Samples::default();
            windows.iter().for_each(|window| samples.extend(&window.late));
            samples.p99_us()
        };
        // Without a guard nobody promises that nothing is lost.
        let name = if flood == Flood::Plain { "lost_without_guard" } else { "messages_lost" };
        Row::new(flood.what())
            .measured("throughput_ratio", rate(&self.flooded) / rate(&self.quiet))
            .measured("p99_ratio", flooded.p99_us() / quiet.p99_us())
            .measured("p50_us_quiet", quiet.p50_us())
            .measured("p50_us_flooded", flooded.p50_us())
            .measured("p99_us_quiet", quiet.p99_us())
            .measured("p99_us_flooded", flooded.p99_us())
            .measured("sender_late_p99_us_flooded", late(&self.flooded))
            .with("messages_sent", sent)
            .with(name, lost)
            .measured(
                "cut_after_ms",
                mean(|seen| seen.cut_after.map_or(f64::NAN, |cut| cut.as_secs_f64() * 1e3)),
            )
            .measured("connected_share", mean(Seen::share))
            .measured("connections", mean(|seen| f64::from(seen.connections)))
            .measured("refused", mean(|seen| f64::from(seen.refused)))
            .measured("flood_megabytes", mean(|seen| seen.megabytes()))
    }
}

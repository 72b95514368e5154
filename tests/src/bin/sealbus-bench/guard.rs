//! Messages a second at 1 KiB: direct, through a relay that does nothing, through the guard.
//!
//! Each round sends the same sealed bytes down every path, so that a busy machine slows all alike; ratios
//! are of one round, and their median is what counts.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    agent::Sealer,
    environment::Environment,
    progress,
    report::{Report, Row},
    rig::{Pumped, Rig},
    samples::median,
};

const PAYLOAD: usize = 1024;
/// Several senders, so that the guard sees batches of several sessions between each other.
const LANES: usize = 4;
const BATCHES: [usize; 2] = [256, 16];

/// One path, and what came of it round by round.
struct Track {
    what: &'static str,
    rates: Vec<f64>,
    lost: usize,
    sent: usize,
}

impl Track {
    const fn new(what: &'static str) -> Self {
        Self { what, rates: Vec::new(), lost: 0, sent: 0 }
    }

    fn note(&mut self, pumped: Pumped) {
        self.rates.push(pumped.per_second());
        self.lost += pumped.lost();
        self.sent += pumped.sent;
    }

    fn ratio_to(&self, base: &Self) -> f64 {
        let ratios: Vec<f64> = self.rates.iter().zip(&base.rates).map(|(own, base)| own / base).collect();
        median(&ratios)
    }
}

pub(crate) fn run(budget: Duration) -> Report {
    let environment = Environment::take();
    let rig = Rig::start();
    let mut report = Report::new("guard", rig.environment(environment));
    let (mut direct, mut relay) = (rig.direct(LANES), rig.relay(LANES));
    let (mut guarded, mut sealers) = rig.guarded(LANES);
    let mut plain_track = Track::new("direct, 1,024 plain bytes");
    let mut direct_track = Track::new("direct, sealed");
    let mut relay_track = Track::new("no-op relay, sealed");
    let mut guard_tracks = [Track::new("guard, 256 a signature"), Track::new("guard, 16 a signature")];

    let count = messages(budget) / LANES;
    let plain = vec![vec![Bytes::from(vec![7; PAYLOAD]); count]; LANES];
    let mut size = 0;
    let begun = Instant::now();
    let mut round = 0;
    while round == 0 || begun.elapsed() < budget {
        round += 1;
        plain_track.note(rig.pump(&mut direct, &plain));
        for (batch, track) in BATCHES.iter().zip(&mut guard_tracks) {
            let sealed = seal(&mut sealers, count, *batch);
            if *batch == BATCHES[0] {
                size = sealed.iter().flatten().map(Bytes::len).max().unwrap_or(0);
                direct_track.note(rig.pump(&mut direct, &sealed));
                relay_track.note(rig.pump(&mut relay, &sealed));
            }
            track.note(rig.pump(&mut guarded, &sealed));
        }
        let rate = |track: &Track| track.rates.last().copied().unwrap_or(f64::NAN) / 1_000.0;
        progress::say(&format!(
            "round {round}: plain {:.0}, direct {:.0}, relay {:.0}, guard {:.0} k/s",
            rate(&plain_track),
            rate(&direct_track),
            rate(&relay_track),
            rate(&guard_tracks[0]),
        ));
    }

    let tracks = [&plain_track, &direct_track, &relay_track, &guard_tracks[0], &guard_tracks[1]];
    for track in tracks {
        report.push(
            Row::new(track.what)
                .measured("messages_per_second", median(&track.rates))
                .measured("ratio_to_relay", track.ratio_to(&relay_track))
                .measured("ratio_to_direct", track.ratio_to(&direct_track))
                .measured("ratio_to_direct_plain", track.ratio_to(&plain_track))
                .with("messages_sent", track.sent)
                .with("messages_lost", track.lost),
        );
    }
    report.note(format!(
        "{PAYLOAD} bytes of payload are {size} bytes sealed; {LANES} senders, one reader; medians of {round} \
         rounds of {} messages. The guard's figures include its log and its signatures.",
        count * LANES,
    ));
    report
}

fn seal(sealers: &mut [Sealer], count: usize, batch: usize) -> Vec<Vec<Bytes>> {
    sealers.iter_mut().map(|sealer| sealer.seal(count, batch, &[7; PAYLOAD])).collect()
}

/// A round is short, so that what else the machine does hits all paths alike.
fn messages(budget: Duration) -> usize {
    let wanted = usize::try_from(budget.as_millis().saturating_mul(6)).unwrap_or(usize::MAX);
    wanted.clamp(512, 131_072)
}

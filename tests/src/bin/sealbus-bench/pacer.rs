//! Sends at an even pace. A message's latency counts from when it was due, not from when it was sent: a
//! sender that waits for a slow system would otherwise hide what the waiting cost (coordinated omission).

use std::time::{Duration, Instant};

use crate::samples::Samples;

/// When each message of an even pace is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    begin: Instant,
    interval: Duration,
}

impl Pace {
    /// From a little later on, so that the first is not late.
    pub(crate) fn starting_soon(per_second: u32) -> Self {
        Self {
            begin: Instant::now() + Duration::from_millis(20),
            interval: Duration::from_secs(1) / per_second.max(1),
        }
    }

    pub(crate) fn due(&self, index: usize) -> Instant {
        self.begin + self.interval * u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Calls `send` for each index when it is due, on this thread; says how late the thread woke.
    pub(crate) fn run(&self, count: usize, mut send: impl FnMut(usize)) -> Samples {
        wake_on_time();
        let mut late = Samples::default();
        for index in 0..count {
            let due = self.due(index);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            late.push(Instant::now().saturating_duration_since(due));
            send(index);
        }
        late
    }
}

/// Linux wakes sleepers up to 50 µs late to save power, which is as much as what is measured here.
fn wake_on_time() {
    let id = std::fs::read_link("/proc/thread-self");
    if let Some(id) = id.ok().as_deref().and_then(|path| path.file_name()) {
        // Where this cannot be set, figures say how late the sender was.
        let _ = std::fs::write(std::path::Path::new("/proc").join(id).join("timerslack_ns"), "1");
    }
}

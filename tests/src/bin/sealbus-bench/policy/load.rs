//! What a policy costs before the first decision: time to load it, memory to hold it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::time::{Duration, Instant};

use sealbus_guard::policy::{self, bundle, compile::CompiledPolicy};

use super::fixture::Signed;
use crate::{report::Row, samples::Samples};

pub(crate) fn measure(rules: usize, budget: Duration) -> Vec<Row> {
    let signed = Signed::new(rules);
    #[cfg(feature = "peers")]
    let texts = super::cedar::texts(rules);
    let compile = || CompiledPolicy::compile(&signed.bundle).expect("a policy");
    // What is kept keeps the second from reusing the first one's memory.
    let (_kept, own) = grown(compile);
    #[cfg(feature = "peers")]
    let (_kept_too, peer) = grown(|| super::cedar::parse(&texts));

    let mut times: [Samples; 3] = Default::default();
    #[cfg(feature = "peers")]
    let mut parse = Samples::default();
    let begun = Instant::now();
    while times.iter().all(|samples| samples.len() == 0) || begun.elapsed() < budget {
        let [check, load, compiling] = &mut times;
        check.time(|| policy::check(&signed.source).expect("a policy"));
        load.time(|| bundle::load(&signed.bytes, &signed.roots, 0).expect("a bundle"));
        compiling.time(compile);
        #[cfg(feature = "peers")]
        parse.time(|| super::cedar::parse(&texts));
    }
    let row = |what: &str, samples: &Samples| {
        Row::new(what).with("rules", rules).measured("p50_ms", samples.p50_us() / 1e3)
    };
    let [check, load, compiling] = &times;
    let compiling = row("sealbus compile", compiling).with("resident_kib", own);
    let mut rows = vec![
        row("sealbus check, from text", check),
        row("sealbus load: verify, decode, compile", load),
        compiling,
    ];
    #[cfg(feature = "peers")]
    rows.push(row("cedar parse, from text", &parse).with("resident_kib", peer));
    #[cfg(not(feature = "peers"))]
    rows.truncate(3);
    rows
}

/// What `make` made, and by how many KiB the process grew; nothing where the system does not say.
///
/// On a thread of its own: the C library gives it a heap of its own, in which no hole is left of what was
/// freed before.
fn grown<T: Send>(make: impl FnOnce() -> T + Send) -> (T, Option<u64>) {
    let measured = || {
        let before = resident_kib();
        let made = make();
        let after = resident_kib();
        (made, after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    };
    std::thread::scope(|scope| scope.spawn(measured).join().expect("the thread does not panic"))
}

/// Memory of the process that is in no file.
fn resident_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

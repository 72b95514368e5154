//! What a user sees of a run, and what it changed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use super::cli::{Place, text};

impl Place {
    /// With a bus directory `bus` in it.
    pub(crate) fn with_bus() -> Self {
        let place = Self::new();
        let made = place.run(&["init", "bus", "--bus", "demo"]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        place
    }

    /// What a user sees who gives these arguments, and the code.
    pub(crate) fn see(&self, args: &[&str]) -> String {
        seen(&args.join(" "), &self.run(args))
    }

    /// Every file below, with its bytes: to see that nothing changed.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.path(""), &mut found);
        found.sort();
        found
    }
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.file_name().unwrap() != ".lock" {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
}

/// A run as a user sees it. A crash is no result.
pub(crate) fn seen(args: &str, output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    for crash in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!stderr.contains(crash), "sealbus {args}: {stderr}");
    }
    let lines = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let parts = [
        format!("$ sealbus {args}"),
        lines(&stdout),
        lines(&stderr),
        format!("exit code {}", output.status.code().unwrap()),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

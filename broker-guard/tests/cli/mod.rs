//! Runs the real `sealbus` in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The directory a test works in, gone afterwards.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a bus directory `bus` in it.
    pub(crate) fn with_bus() -> Self {
        let place = Self::new();
        let made = place.run(&["init", "bus", "--bus", "demo"]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        place
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(relative), bytes).unwrap();
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap()
    }

    /// Replaces text in a file; the text must be there.
    pub(crate) fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = self.read(relative);
        assert!(text.contains(from), "`{from}` is not in {relative}");
        self.write(relative, text.replacen(from, to, 1));
    }

    pub(crate) fn mode(&self, relative: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.path(relative), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `sealbus` with these arguments and nothing of this process's settings. Paths are relative to the
    /// place, so that messages do not depend on where it is.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealbus"));
        command.current_dir(self.dir.path()).args(args).stdin(std::process::Stdio::null());
        for variable in ["SEALBUS_CONFIG", "SEALBUS_CREDS", "SEALBUS_OFFLINE", "SEALBUS_LOG", "COLUMNS"] {
            command.env_remove(variable);
        }
        command.env("RUST_BACKTRACE", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a user sees who gives these arguments, and the code.
    pub(crate) fn see(&self, args: &[&str]) -> String {
        seen(&args.join(" "), &self.run(args))
    }

    /// Every file below, with its bytes: to see that nothing changed.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(self.dir.path(), &mut found);
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

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

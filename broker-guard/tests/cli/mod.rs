//! Runs the real `sealbus` in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::PathBuf,
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
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

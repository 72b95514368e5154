//! Commands that run for long, beside others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::cli::{Place, text};

/// A long-running `sealbus`, killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr }
    }

    /// Starts and waits for the remark that says it is ready.
    pub(crate) fn ready(place: &Place, args: &[&str]) -> Self {
        let mut running = Self::start(place, args);
        let line = running.stderr.next().unwrap().unwrap();
        assert!(line.contains("Ctrl-C ends"), "{line}");
        running
    }

    pub(crate) fn line(&mut self) -> String {
        self.stdout.next().unwrap().unwrap()
    }

    pub(crate) fn object(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// The code it ends with by itself, and what it said that nobody read yet.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let said: Vec<String> =
            self.stdout.by_ref().chain(self.stderr.by_ref()).map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }

    /// Ctrl-C, and the code it ends with.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        let signalled = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A bus directory whose ports are free.
pub(crate) fn prepared() -> Place {
    let place = Place::new();
    let url = format!("nats://127.0.0.1:{}", free_port());
    let made = place.run(&["init", "bus", "--bus", "demo", "--url", &url]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    place.edit("bus/sealbus.toml", "127.0.0.1:9464", &format!("127.0.0.1:{}", free_port()));
    place
}

/// Runs a command that succeeds and says one object.
pub(crate) fn says(place: &Place, args: &[&str]) -> Value {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

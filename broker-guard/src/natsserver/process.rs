//! A nats-server child process.
//!
//! It must not outlive its owner: a server left behind by a crashed test or a killed `sealbus dev` keeps its
//! port and its logins. Dropping the owner kills it; for an owner that is itself killed, a small watchdog
//! shell holds the other end of a pipe and kills the server when the pipe closes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, ChildStdin, Command},
    sync::broadcast,
    time::{Instant, timeout, timeout_at},
};

use super::{
    config::{ConfigError, ListenPort, NatsConfig},
    locate::NatsServerBinary,
    log::Log,
};

/// How long the server has to start, to reload, or to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a server process did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The configuration is refused before the server sees it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or the process could not be handled.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server ended, or did not say it was done in time.
    #[error("nats-server did not {goal}; the end of its log:\n{log}")]
    Server {
        /// What it should have done.
        goal: &'static str,
        /// Its last log lines.
        log: String,
    },
    /// It was stopped before.
    #[error("nats-server is not running; restart it first")]
    NotRunning,
}

/// A running (or stopped, and restartable) nats-server with its private directory.
///
/// Must be used within a tokio runtime. Dropping it kills the server at once; [`NatsProcess::stop`] is the
/// gentle way.
#[derive(Debug)]
pub struct NatsProcess {
    binary: NatsServerBinary,
    dir: PathBuf,
    config: NatsConfig,
    port: u16,
    running: Option<Running>,
    log: Log,
}

#[derive(Debug)]
struct Running {
    child: Child,
    pid: u32,
    _watchdog: Watchdog,
}

impl Drop for Running {
    /// Kills and, for at most half a second, waits: whoever removes the server's directory next must not race
    /// with a server still writing to it.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        for _ in 0..250 {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
    }
}

impl NatsProcess {
    /// Starts the server and waits until it accepts connections. `dir` is created and becomes the server's
    /// own, with its configuration (`nats.conf`) and log (`nats.log`). With [`ListenPort::Any`] the
    /// server picks a free port, which later restarts keep.
    ///
    /// # Errors
    /// [`ProcessError`], with the end of the server's log if it would not start.
    pub async fn start(
        binary: NatsServerBinary,
        dir: impl Into<PathBuf>,
        config: NatsConfig,
    ) -> Result<Self, ProcessError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        // The server changes directory never, but its caller may; paths in the configuration must not care.
        let dir = dir.canonicalize().map_err(io_error("resolve", &dir))?;
        let log = Log::new(dir.join("nats.log"));
        let mut server = Self { binary, dir, config, port: 0, running: None, log };
        server.run().await?;
        Ok(server)
    }

    /// The address clients connect to, as `nats://host:port` or, with TLS, `tls://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.config.tls.is_some() { "tls" } else { "nats" };
        let host = &self.config.host;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{}", self.port)
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// The binary it runs.
    #[must_use]
    pub fn binary(&self) -> &NatsServerBinary {
        &self.binary
    }

    /// The configuration it runs with (the port as asked for, not as chosen; see [`NatsProcess::port`]).
    #[must_use]
    pub fn config(&self) -> &NatsConfig {
        &self.config
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last lines of its log, all runs of this process together. The whole log is `nats.log` in its
    /// directory.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Waits until a line of the log, written from now on, contains `text`.
    ///
    /// # Errors
    /// [`ProcessError::Server`] if none did within 20 seconds.
    pub async fn log_line(&self, text: &str) -> Result<String, ProcessError> {
        let mut lines = self.log.follow();
        self.await_line(&mut lines, "log what was awaited", |line| line.contains(text)).await
    }

    /// Waits for the server to end by itself. `sealbus dev` uses it to notice a crash. Returns at once if it
    /// is not running.
    ///
    /// # Errors
    /// [`ProcessError::Io`] if the process cannot be waited for.
    pub async fn wait(&mut self) -> Result<(), ProcessError> {
        if let Some(running) = &mut self.running {
            running.child.wait().await.map_err(io_error("wait for", self.binary.path()))?;
            self.running = None;
        }
        Ok(())
    }

    /// Asks the server to stop and waits; after 20 seconds kills it. Nothing happens if it is not running.
    ///
    /// # Errors
    /// [`ProcessError::Io`] if the process cannot be signalled or waited for.
    pub async fn stop(&mut self) -> Result<(), ProcessError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        signal(&self.binary, "quit", running.pid).await?;
        if timeout(PATIENCE, running.child.wait()).await.is_err() {
            return self.kill().await;
        }
        self.running = None;
        Ok(())
    }

    /// Kills the server as `kill -9` does and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError::Io`] if the process cannot be killed or waited for.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        if let Some(mut running) = self.running.take() {
            running.child.kill().await.map_err(io_error("kill", self.binary.path()))?;
        }
        Ok(())
    }

    /// Stops the server if it runs, and starts it again on the same port with the same files.
    ///
    /// # Errors
    /// As [`NatsProcess::start`].
    pub async fn restart(&mut self) -> Result<(), ProcessError> {
        self.stop().await?;
        self.run().await
    }

    /// Makes the server read its configuration again (SIGHUP) and waits until it says it has.
    ///
    /// # Errors
    /// [`ProcessError::Server`] if it refused the configuration; it then keeps the old one.
    pub async fn reload(&mut self) -> Result<(), ProcessError> {
        let running = self.running.as_ref().ok_or(ProcessError::NotRunning)?;
        self.write_config()?;
        let mut lines = self.log.follow();
        signal(&self.binary, "reload", running.pid).await?;
        let goal = "reload its configuration";
        let done =
            |line: &str| line.contains("Reloaded server configuration") || line.contains(RELOAD_FAILED);
        let line = self.await_line(&mut lines, goal, done).await?;
        if line.contains(RELOAD_FAILED) {
            return Err(ProcessError::Server { goal, log: line });
        }
        Ok(())
    }

    /// Changes the configuration and reloads it. The port stays.
    ///
    /// # Errors
    /// As [`NatsProcess::reload`]. On error the old configuration stays in force.
    pub async fn reload_with(&mut self, change: impl FnOnce(&mut NatsConfig)) -> Result<(), ProcessError> {
        let old = self.config.clone();
        change(&mut self.config);
        let reloaded = self.reload().await;
        if reloaded.is_err() {
            self.config = old;
            self.write_config()?;
        }
        reloaded
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("nats.conf")
    }

    fn write_config(&self) -> Result<(), ProcessError> {
        let mut config = self.config.clone();
        if self.port != 0 {
            config.port = ListenPort::Fixed(self.port);
        }
        let path = self.config_path();
        fs::write(&path, config.render()?).map_err(io_error("write", &path))
    }

    async fn run(&mut self) -> Result<(), ProcessError> {
        self.write_config()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.run_once().await {
                // Between a stop and the next start the port is nobody's, and an outgoing connection of any
                // process may borrow it for a moment.
                Err(ProcessError::Server { log, .. })
                    if log.contains("address already in use") && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                result => return result,
            }
        }
    }

    async fn run_once(&mut self) -> Result<(), ProcessError> {
        self.log.forget();
        let mut lines = self.log.follow();
        let mut child = Command::new(self.binary.path())
            .arg("-c")
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Its own group: Ctrl-C at a terminal goes to the owner, which stops the server last.
            .process_group(0)
            .spawn()
            .map_err(io_error("run", self.binary.path()))?;
        let pid = child.id().ok_or(ProcessError::NotRunning)?;
        let watchdog = Watchdog::over(pid)?;
        if let Some(stderr) = child.stderr.take() {
            self.log.take_over(stderr);
        }
        let goal = "start";
        let start = async {
            let listening = |line: &str| line.contains(LISTENING);
            let listening = self.await_line(&mut lines, goal, listening).await?;
            self.await_line(&mut lines, goal, |line| line.contains("Server is ready")).await?;
            Ok::<_, ProcessError>(listening)
        };
        let listening = tokio::select! {
            listening = start => listening?,
            _ = child.wait() => {
                // Its last words may still be in the pipe.
                let _ = timeout(Duration::from_secs(1), self.log.ended()).await;
                return Err(ProcessError::Server { goal, log: self.log.tail() });
            }
        };
        // Not from the ports file, which the server writes some time after it says it is ready.
        let port = listening.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        self.port = port.ok_or(ProcessError::Server { goal: "say which port it took", log: listening })?;
        self.running = Some(Running { child, pid, _watchdog: watchdog });
        Ok(())
    }

    async fn await_line(
        &self,
        lines: &mut broadcast::Receiver<String>,
        goal: &'static str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, ProcessError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, lines.recv()).await {
                Ok(Ok(line)) if wanted(&line) => return Ok(line),
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => {
                    return Err(ProcessError::Server { goal, log: self.log.tail() });
                }
            }
        }
    }
}

const LISTENING: &str = "Listening for client connections on ";
const RELOAD_FAILED: &str = "Failed to reload server configuration";

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProcessError {
    let path = path.to_owned();
    move |source| ProcessError::Io { doing, path, source }
}

/// Sends a signal through nats-server's own `--signal`, which needs neither unsafe code nor a `kill` program.
async fn signal(binary: &NatsServerBinary, name: &str, pid: u32) -> Result<(), ProcessError> {
    let sent = Command::new(binary.path())
        .args(["--signal", &format!("{name}={pid}")])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(io_error("signal with", binary.path()))?;
    if sent.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&sent.stderr).into_owned();
    Err(ProcessError::Server { goal: "take a signal", log })
}

/// A shell that waits for its input to close and then kills the server. Its input is held by this process
/// only, so it closes when this process dies in whatever way.
#[derive(Debug)]
struct Watchdog {
    shell: Child,
    _input: ChildStdin,
}

impl Watchdog {
    fn over(pid: u32) -> Result<Self, ProcessError> {
        let path = Path::new("/bin/sh");
        let mut shell = Command::new(path)
            .args(["-c", "read -r _; kill -KILL \"$1\"", "sh", &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Killed before its input closes, when the server was ended in the regular way: by then the
            // process id may be another's.
            .kill_on_drop(true)
            .process_group(0)
            .spawn()
            .map_err(io_error("run", path))?;
        let input = shell.stdin.take().ok_or(ProcessError::NotRunning)?;
        Ok(Self { shell, _input: input })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.shell.start_kill();
    }
}

//! What a child server says.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    sync::{broadcast, watch},
};

/// Lines kept for error messages.
const TAIL: usize = 60;

/// The server's log: the tail in memory, all of it in a file, new lines for whoever waits for one.
#[derive(Debug, Clone)]
pub(super) struct Log {
    path: Arc<Path>,
    tail: Arc<Mutex<VecDeque<String>>>,
    lines: broadcast::Sender<String>,
    reading: watch::Sender<bool>,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path: path.into(),
            tail: Arc::default(),
            lines: broadcast::Sender::new(4096),
            reading: watch::Sender::new(false),
        }
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<String> {
        self.lines.subscribe()
    }

    pub(super) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().map(|line| format!("{line}\n")).collect()
    }

    pub(super) fn forget(&self) {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until the server's end of the pipe is closed and all of it was read.
    pub(super) async fn ended(&self) {
        let _ = self.reading.subscribe().wait_for(|reading| !reading).await;
    }

    pub(super) fn take_over(&self, from: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        log.reading.send_replace(true);
        tokio::spawn(async move {
            let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&log.path).await.ok();
            let mut lines = BufReader::new(from).lines();
            // Reads until the server closes the pipe: a server whose log nobody reads blocks on it.
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(file) = &mut file {
                    let _ = file.write_all(format!("{line}\n").as_bytes()).await;
                }
                let mut tail = log.tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line.clone());
                drop(tail);
                let _ = log.lines.send(line);
            }
            if let Some(file) = &mut file {
                let _ = file.flush().await;
            }
            log.reading.send_replace(false);
        });
    }
}

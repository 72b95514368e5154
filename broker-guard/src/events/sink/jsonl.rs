//! Events in a file, one JSON object a line.
//!
//! `events.jsonl` grows to its size, then becomes `events.jsonl.1`, what was `.1` becomes `.2`, and so on; the
//! oldest goes. Files are 0600. Each batch is written with one call and synced before it counts as delivered,
//! so what a line says is on disk when it is there; a line that was half written when the guard or the machine
//! died is cut off at the next start. Who moves the file away finds a new one in its place.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Feed, Record, backoff};

/// How many events are written and synced together.
const BATCH: usize = 256;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How much is read at once when the end of a file is looked at.
const BLOCK: u64 = 64 << 10;

/// The file, opened when the first event comes.
#[derive(Debug)]
pub struct Jsonl {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Up to where whole lines reach.
    length: u64,
    inode: u64,
}

impl Jsonl {
    /// At `path`; up to `keep` older files of about `max_bytes` beside it.
    #[must_use]
    pub const fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self { path, max_bytes, keep, open: None }
    }

    pub(in super::super) async fn run(mut self, feed: Feed) {
        while let Some(records) = feed.take(BATCH).await {
            let mut attempt = 0;
            loop {
                let batch = records.clone();
                // The disk may take its time; the runtime's threads are for others.
                let written = tokio::task::spawn_blocking(move || {
                    let outcome = self.append(&batch);
                    (self, outcome)
                });
                let Ok((back, outcome)) = written.await else { return };
                self = back;
                let Err(error) = outcome else { break };
                feed.failed(attempt, &error);
                if !feed.pause(backoff(attempt, FIRST_WAIT, LONGEST_WAIT)).await {
                    return;
                }
                attempt += 1;
            }
            feed.delivered(&records);
        }
    }

    /// Appends whole lines and syncs them. After an error the file is as before, or is mended at the next call.
    ///
    /// # Errors
    /// The operating system's own, with the path.
    pub fn append(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let outcome = self.try_append(records);
        if outcome.is_err() {
            // Opened anew, half a line is cut off.
            self.open = None;
        }
        outcome.map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", self.path.display())))
    }

    fn try_append(&mut self, records: &[Arc<Record>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            lines.extend_from_slice(&record.json);
            lines.push(b'\n');
        }
        let adding = lines.len() as u64;
        let full = self.opened()?.length.saturating_add(adding) > self.max_bytes;
        if full && self.opened()?.length > 0 {
            self.rotate()?;
        }
        let open = self.opened()?;
        open.file.write_all(&lines)?;
        open.file.sync_data()?;
        open.length += adding;
        Ok(())
    }

    /// The file that is at the path now.
    fn opened(&mut self) -> io::Result<&mut Open> {
        let there = std::fs::metadata(&self.path).ok().map(|found| found.ino());
        let open = match self.open.take() {
            Some(open) if there == Some(open.inode) => open,
            _ => open(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for n in (1..self.keep).rev() {
            match std::fs::rename(older(&self.path, n), older(&self.path, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, older(&self.path, 1))
    }
}

/// The name of the file that was rotated `n` times; the current one for 0.
#[must_use]
pub fn older(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Opens or makes the file and cuts off half a line at its end.
fn open(path: &Path) -> io::Result<Open> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("this is no regular file"));
    }
    let length = whole_lines(&mut file, found.len())?;
    if length < found.len() {
        tracing::warn!(path = %path.display(), bytes = found.len() - length, "half a line is cut off");
        file.set_len(length)?;
    }
    Ok(Open { file, length, inode: found.ino() })
}

/// How far whole lines reach.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

//! Reading write-ahead segments, while they grow and after a crash.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::files::Layout;
use super::frame::{self, HEADER, Header, PREAMBLE};

/// One step of reading a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole frame; its payload is in [`SegmentReader::payload`].
    Frame(Header),
    /// The segment ends here, cleanly.
    End,
    /// What follows is not a frame: a write that is under way, or was when the machine stopped.
    Torn {
        /// The header, if it at least is whole.
        header: Option<Header>,
    },
}

/// Reads the frames of one segment in order.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: BufReader<File>,
    first_leaf: u64,
    /// Where the next frame begins.
    offset: u64,
    payload: Vec<u8>,
}

impl SegmentReader {
    /// `None` if the file is not a whole segment preamble (the guard stopped while making it).
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
        let mut bytes = [0; PREAMBLE];
        if !fill(&mut file, &mut bytes)? {
            return Ok(None);
        }
        let reader = |first_leaf| Self { file, first_leaf, offset: PREAMBLE as u64, payload: Vec::new() };
        Ok(frame::read_preamble(&bytes).map(reader))
    }

    pub(crate) fn first_leaf(&self) -> u64 {
        self.first_leaf
    }

    /// Where the next frame begins, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The payload of the frame last read.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Reads one frame. After [`Step::End`] or [`Step::Torn`] call [`rewind`](Self::rewind) to look again.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut bytes = [0; HEADER];
        match read_up_to(&mut self.file, &mut bytes)? {
            0 => return Ok(Step::End),
            HEADER => {}
            _ => return Ok(Step::Torn { header: None }),
        }
        let Some(header) = Header::read(&bytes) else { return Ok(Step::Torn { header: None }) };
        // A torn header may state any length: memory grows with what is really there.
        self.payload.clear();
        let length = u64::from(header.length);
        let got = (&mut self.file).take(length).read_to_end(&mut self.payload)?;
        if got as u64 != length || !header.matches(&bytes, &self.payload) {
            return Ok(Step::Torn { header: Some(header) });
        }
        self.offset = self.offset.saturating_add(HEADER as u64).saturating_add(length);
        Ok(Step::Frame(header))
    }

    /// Goes back to the end of the last whole frame, to look whether more has been written.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        self.file.seek(SeekFrom::Start(self.offset)).map(drop)
    }
}

/// Whether the buffer could be filled.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    Ok(read_up_to(file, buffer)? == buffer.len())
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The first leaves of the segments on disk, in order.
pub(crate) fn list(layout: &Layout) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let listing = match fs::read_dir(layout.wal()) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for file in listing {
        let name = file?.file_name();
        if let Some(leaf) =
            name.to_str().and_then(|name| name.strip_suffix(".wal")).and_then(|leaf| leaf.parse().ok())
        {
            found.push(leaf);
        }
    }
    found.sort_unstable();
    Ok(found)
}

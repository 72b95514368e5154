//! Blocks in text, and text in a file that only its owner can read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::{
    BUS, JWT, SEED,
    error::{CredentialsError, Problem},
};

/// The largest credentials file, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The blocks of a file, borrowed from its text.
#[derive(Debug, Default)]
pub(super) struct Blocks<'a> {
    found: Vec<(&'static str, &'a str)>,
}

impl<'a> Blocks<'a> {
    pub(super) fn get(&self, label: &'static str) -> Result<&'a str, CredentialsError> {
        let found = self.found.iter().find(|(name, _)| *name == label);
        found.map(|(_, body)| *body).ok_or(CredentialsError::in_block(label, Problem::Missing))
    }
}

/// Finds the blocks that we know; text between blocks is for people.
pub(super) fn blocks(text: &str) -> Result<Blocks<'_>, CredentialsError> {
    let mut blocks = Blocks::default();
    for label in [JWT, SEED, BUS] {
        // NATS's own tools write five dashes at the begin and six at the end.
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("END {label}-----"));
        let Some((_, rest)) = text.split_once(&begin) else { continue };
        if rest.contains(&begin) {
            return Err(CredentialsError::in_block(label, Problem::Twice));
        }
        let no_end = || CredentialsError::in_block(label, Problem::NoEnd);
        let (body, _) = rest.split_once(&end).ok_or_else(no_end)?;
        if body.contains("-----BEGIN") {
            return Err(no_end());
        }
        let body = body.trim_start_matches('-').trim_end_matches('-').trim();
        blocks.found.push((label, body));
    }
    Ok(blocks)
}

/// Writes blocks as NATS does.
pub(super) fn render(blocks: &[(&'static str, &str)]) -> Zeroizing<String> {
    // Room for all of it: a buffer that grows leaves copies of the seed behind.
    let size = blocks.iter().map(|(label, body)| 2 * label.len() + body.len() + 64).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(size + 256));
    text.push_str("Whoever can read this file is the agent. Keep it at mode 0600.\n\n");
    for (label, body) in blocks {
        for part in ["-----BEGIN ", label, "-----\n", body, "\n------END ", label, "------\n\n"] {
            text.push_str(part);
        }
    }
    text
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let mut file = File::open(path).map_err(Problem::Io)?;
    // Of the open file, not of the path: the path could be changed in between.
    let meta = file.metadata().map_err(Problem::Io)?;
    if !meta.is_file() {
        return Err(Problem::NotAFile.into());
    }
    check_mode(&meta)?;
    if meta.len() > MAX_FILE {
        return Err(Problem::TooLarge.into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1));
    (&mut file).take(MAX_FILE).read_to_end(&mut bytes).map_err(Problem::Io)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(unix)]
fn check_mode(meta: &std::fs::Metadata) -> Result<(), Problem> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Problem::Open { mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &std::fs::Metadata) -> Result<(), Problem> {
    Ok(())
}

/// Writes a new file of mode 0600: complete under a temporary name, then linked to its own, which fails if
/// that exists. A crash leaves the old state or the whole file, never half a seed.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CredentialsError> {
    let name = path.file_name().ok_or(Problem::NotAFile)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = create(&temporary, bytes).and_then(|()| std::fs::hard_link(&temporary, path));
    let removed = std::fs::remove_file(&temporary);
    match written {
        Ok(()) => Ok(removed.map_err(Problem::Io)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Problem::Exists.into()),
        Err(error) => Err(Problem::Io(error).into()),
    }
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

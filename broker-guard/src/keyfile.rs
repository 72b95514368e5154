//! Key files: secrets on disk, for their owner only.
//!
//! A secret that others may read is refused, not warned about: by the time somebody reads a warning the key
//! has been used. New secrets never replace old ones, and nothing half-written is ever found under its name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use miette::Diagnostic;
use sealbus_envelope::{
    identity::{Credential, KeyKind, Role, SigningKey},
    reason::{Reason, Refused},
};
use zeroize::Zeroizing;

use crate::{clock::now, config::Config};

/// The largest secret file, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// What a running guard holds: its keys and its credential, which agree with each other.
#[derive(Debug)]
pub struct GuardKeys {
    /// The guard's identity: signs admissions and heartbeats, and logs in to the bus.
    pub guard: SigningKey,
    /// What the issuer says of it.
    pub credential: Credential,
    /// Signs callout answers.
    pub callout: SigningKey,
    /// Opens callout requests.
    pub xkey: CurveSecret,
    /// Logs in to the system account.
    pub system: SigningKey,
}

/// A curve (X25519) nkey; `Debug` shows the public half only.
pub struct CurveSecret(nkeys::XKey);

impl CurveSecret {
    /// The key pair, for its one owner.
    #[must_use]
    pub fn into_key(self) -> nkeys::XKey {
        self.0
    }

    /// The key pair, for sealing and opening.
    #[must_use]
    pub const fn key(&self) -> &nkeys::XKey {
        &self.0
    }
}

impl std::fmt::Debug for CurveSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CurveSecret").field("public", &self.0.public_key()).finish_non_exhaustive()
    }
}

impl GuardKeys {
    /// Reads the guard's key files and its credential, and checks that they belong together, to this bus and
    /// to this time.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load(config: &Config) -> Result<Self, KeyFileError> {
        let paths = &config.keys;
        let guard = read_seed(&paths.guard, KeyKind::User)?;
        let credential = read_credential(&paths.credential, config)?;
        let path = &paths.credential;
        if credential.claims().role != Role::Guard {
            let refused = Refused::new(Reason::WrongRole, "credential");
            return Err(KeyFileError::Credential { path: path.clone(), refused });
        }
        if credential.claims().identity != *guard.public() {
            return Err(KeyFileError::OtherKey { path: path.clone(), key: paths.guard.clone() });
        }
        let told = |refused| KeyFileError::Credential { path: path.clone(), refused };
        credential.check_time(now()).map_err(told)?;
        Ok(Self {
            guard,
            credential,
            callout: read_seed(&paths.callout, KeyKind::Account)?,
            xkey: read_curve_seed(&paths.xkey)?,
            system: read_seed(&paths.system, KeyKind::User)?,
        })
    }
}

/// Reads a credential of this bus. Its time is not checked.
///
/// # Errors
/// [`KeyFileError::Io`], [`KeyFileError::Credential`].
pub fn read_credential(path: &Path, config: &Config) -> Result<Credential, KeyFileError> {
    let text = read_limited(path)?;
    let text = String::from_utf8_lossy(&text);
    Credential::verify(text.trim(), config.bus(), &config.roots.issuer)
        .map_err(|refused| KeyFileError::Credential { path: path.to_owned(), refused })
}

/// Reads an nkey seed of `kind` from a file that only its owner may read.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_seed(path: &Path, kind: KeyKind) -> Result<SigningKey, KeyFileError> {
    let wanted = match kind {
        KeyKind::User => "a user's seed, which begins with `SU`",
        KeyKind::Account => "an account's seed, which begins with `SA`",
    };
    let text = read_secret(path)?;
    SigningKey::from_nkey_seed(text.trim(), kind)
        .map_err(|_| KeyFileError::NotThatSeed { path: path.to_owned(), wanted })
}

/// Reads a curve nkey seed from a file that only its owner may read.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_curve_seed(path: &Path) -> Result<CurveSecret, KeyFileError> {
    let text = read_secret(path)?;
    let wanted = "a curve seed, which begins with `SX`";
    nkeys::XKey::from_seed(text.trim())
        .map(CurveSecret)
        .map_err(|_| KeyFileError::NotThatSeed { path: path.to_owned(), wanted })
}

/// Reads a secret text. The file must be a plain file that nobody but its owner may read or write.
///
/// # Errors
/// [`KeyFileError::Io`], [`KeyFileError::NotAFile`], [`KeyFileError::TooOpen`], [`KeyFileError::NotText`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let file = File::open(path).map_err(KeyFileError::io("read", path))?;
    // Of the file that is open, not of what stands under the name by now.
    let about = file.metadata().map_err(KeyFileError::io("read", path))?;
    if !about.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    check_mode(path, &about)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_SECRET).read_to_end(&mut bytes).map_err(KeyFileError::io("read", path))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::NotText { path: path.to_owned() }),
    }
}

/// Makes a secret file of mode 0600. What stands there already is never replaced.
///
/// # Errors
/// [`KeyFileError::Exists`], [`KeyFileError::Io`].
pub fn create_secret(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let staged = Staged::write(path, text.as_bytes(), 0o600)?;
    // A link, unlike a rename, fails if the name is taken.
    fs::hard_link(&staged.0, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::io("create", path)(source),
    })?;
    sync_parent(path)
}

/// Replaces a secret file by a new one of mode 0600: readers see the old one or the new one, whole. For
/// files in which only what surrounds the key changes; keys themselves are made with [`create_secret`].
///
/// # Errors
/// [`KeyFileError::Io`].
pub fn replace_secret(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let staged = Staged::write(path, text.as_bytes(), 0o600)?;
    fs::rename(&staged.0, path).map_err(KeyFileError::io("write", path))?;
    sync_parent(path)
}

/// Writes a file that holds no secret so that readers see the old one or the new one, whole.
///
/// # Errors
/// [`KeyFileError::Io`].
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let staged = Staged::write(path, bytes, 0o644)?;
    fs::rename(&staged.0, path).map_err(KeyFileError::io("write", path))?;
    sync_parent(path)
}

/// A temporary file beside its goal, on disk; gone afterwards unless it was renamed.
struct Staged(PathBuf);

impl Staged {
    fn write(goal: &Path, bytes: &[u8], mode: u32) -> Result<Self, KeyFileError> {
        let name = goal.file_name().unwrap_or_default().to_string_lossy();
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|source| KeyFileError::io("create", goal)(io::Error::other(source)))?;
        let unique = data_encoding::HEXLOWER.encode(&random);
        let path = goal.with_file_name(format!(".{name}.{unique}"));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            set_mode(&mut options, mode);
            let mut file = options.open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(KeyFileError::io("write", goal))?;
        Ok(Self(path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_parent(path: &Path) -> Result<(), KeyFileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(KeyFileError::io("write", parent))
}

fn read_limited(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET).read_to_end(&mut bytes))
        .map_err(KeyFileError::io("read", path))?;
    Ok(bytes)
}

#[cfg(unix)]
fn set_mode(options: &mut OpenOptions, mode: u32) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(mode);
}

#[cfg(not(unix))]
fn set_mode(_: &mut OpenOptions, _: u32) {}

#[cfg(unix)]
fn check_mode(path: &Path, about: &fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::TooOpen { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

/// Why a key file is not used or not written. No variant repeats what the file holds.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The operating system refused.
    #[error("cannot {doing} `{}`", path.display())]
    #[diagnostic(code(key_file_io), help("{remedy}"))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A secret that others may read.
    #[error("key file `{}` is open to others (mode {mode:04o})", path.display())]
    #[diagnostic(
        code(key_file_too_open),
        help("run `chmod 600 {}`; if others could log in to this machine, make a new key", path.display())
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a pipe or the like.
    #[error("key file `{}` is not a plain file", path.display())]
    #[diagnostic(code(key_file_not_a_file), help("name the file itself"))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Bytes that are no text.
    #[error("key file `{}` is not text", path.display())]
    #[diagnostic(
        code(key_file_not_text),
        help("an nkey seed is one line of 58 letters and digits; restore the file")
    )]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A secret of this name is there already.
    #[error("`{}` exists already", path.display())]
    #[diagnostic(
        code(key_file_exists),
        help("a key is never replaced: move the old one away first, if you are sure")
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another kind of key, or none.
    #[error("key file `{}` does not hold {wanted}", path.display())]
    #[diagnostic(
        code(key_file_wrong_seed),
        help("see whether two key files were swapped; else restore the file from your copy")
    )]
    NotThatSeed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The credential is refused.
    #[error("credential `{}` is refused: {} [{}]", path.display(), refused.reason.meaning(), refused.reason)]
    #[diagnostic(code(credential_refused), help("{}", refused.reason.remedy()))]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why.
        refused: Refused,
    },
    /// The credential speaks of another key.
    #[error("credential `{}` is not for the key in `{}`", path.display(), key.display())]
    #[diagnostic(
        code(credential_other_key),
        help(
            "put the two files that were made together back, or have the issuer sign a credential for this key"
        )
    )]
    OtherKey {
        /// The credential.
        path: PathBuf,
        /// The key file.
        key: PathBuf,
    },
}

impl KeyFileError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let remedy = match source.kind() {
                io::ErrorKind::NotFound => {
                    "see whether the path is right, or restore the file from your copy"
                }
                io::ErrorKind::PermissionDenied => "run as the user whose file it is",
                io::ErrorKind::StorageFull => "free space on the disk",
                _ => "see whether the path is right",
            };
            Self::Io { doing, path, source, remedy }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_secret_comes_back_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seed");
        let key = SigningKey::from_seed(&[7; 32]);
        create_secret(&path, &key.to_nkey_seed(KeyKind::User)).unwrap();
        assert_eq!(read_seed(&path, KeyKind::User).unwrap().public(), key.public());
        assert!(matches!(create_secret(&path, "x"), Err(KeyFileError::Exists { .. })));
        assert_eq!(read_seed(&path, KeyKind::User).unwrap().public(), key.public());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["a.seed"], "no temporary file stays");
    }

    #[test]
    fn a_public_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.bundle");
        replace_public(&path, b"one").unwrap();
        replace_public(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seed");
        create_secret(&path, "x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::TooOpen { mode: found, .. } if found == mode));
            assert!(error.help().unwrap().to_string().contains("chmod 600"));
        }
    }

    #[test]
    fn another_kind_of_key_is_refused_without_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.seed");
        let seed = SigningKey::from_seed(&[7; 32]).to_nkey_seed(KeyKind::User);
        create_secret(&path, &seed).unwrap();
        let error = read_seed(&path, KeyKind::Account).unwrap_err();
        assert!(matches!(error, KeyFileError::NotThatSeed { .. }));
        assert!(!format!("{error}{error:?}").contains(seed.get(4..20).unwrap()));
        assert!(matches!(read_curve_seed(&path), Err(KeyFileError::NotThatSeed { .. })));
        assert!(matches!(
            read_secret(dir.path()),
            Err(KeyFileError::NotAFile { .. } | KeyFileError::Io { .. })
        ));
        let error = read_secret(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, KeyFileError::Io { doing: "read", .. }));
    }
}

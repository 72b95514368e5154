#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use sealbus_envelope::{identity::SigningKey, reason::Reason, time::Millis};
use tempfile::TempDir;

use super::*;
use crate::quarantine::state::{self, Cause, Change};

impl Store {
    /// From now on every call fails, or none: the file is closed, and refused when it is opened anew.
    pub(crate) fn fail(&self, fails: bool) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if fails { 0o644 } else { 0o600 };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).unwrap();
        *self.db.write().unwrap() = None;
    }
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guard.redb");
    (dir, path)
}

fn agent(n: u8) -> (PublicKey, AgentToken) {
    let key = SigningKey::from_seed(&[n; 32]).public().clone();
    let token = AgentToken::new(&sealbus_envelope::name::Name::parse("collector").unwrap(), &key);
    (key, token)
}

fn quarantined(token: &AgentToken, at: u64) -> Record {
    let cause = Cause::ordered(Reason::WrongSender, "test");
    state::apply(None, token, Change::Quarantine, cause, Millis(at)).unwrap().unwrap()
}

fn connection(client: u64) -> StoredConnection {
    let (identity, agent) = agent(1);
    StoredConnection {
        server: "N1".into(),
        client,
        agent,
        identity: *identity.as_bytes(),
        session: SessionId::from_bytes([3; 32]),
        credential: "c".into(),
        certificate: vec![1, 2],
        permissions: [4; 32],
        place: Default::default(),
    }
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let (_dir, path) = place();
    let (key, token) = agent(1);
    let record = quarantined(&token, 5);
    {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.next_epoch().unwrap(), 1);
        store.put_quarantine(&key, &record).unwrap();
        store.update_connections(&[connection(1), connection(2)], &[("N1".into(), 1)]).unwrap();
        store.raise(Mark::Status, 9).unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.next_epoch().unwrap(), 2);
    assert_eq!(store.quarantine().unwrap(), [Known { identity: key, record }]);
    assert_eq!(store.connections().unwrap(), [connection(2)]);
    assert_eq!((store.highest(Mark::Status).unwrap(), store.highest(Mark::Policy).unwrap()), (9, 0));
}

#[test]
fn versions_never_go_back() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    store.raise(Mark::Policy, 3).unwrap();
    store.raise(Mark::Policy, 3).unwrap();
    let error = store.raise(Mark::Policy, 2).unwrap_err();
    assert_eq!((error.reason(), store.highest(Mark::Policy).unwrap()), (Reason::RolledBack, 3));
}

#[test]
fn a_second_guard_is_told_so() {
    let (_dir, path) = place();
    let _first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.to_string().contains("another guard"), "{error}");
}

#[test]
fn junk_and_damage_are_called_damage() {
    let (_dir, path) = place();
    fs::write(&path, b"not a store").unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Corrupt { .. }));

    fs::remove_file(&path).unwrap();
    Store::open(&path).unwrap().next_epoch().unwrap();
    let whole = fs::read(&path).unwrap();
    // Whatever bytes are lost or changed, opening says so or works; it never panics.
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Corrupt { .. } | StoreError::Io { .. })));
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_not_left_out() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let key = agent(1).0;
    store
        .write(|tx| {
            tx.open_table(QUARANTINE)?.insert(key.as_bytes(), b"\xc1".as_slice())?;
            Ok(())
        })
        .unwrap();
    assert!(matches!(store.quarantine(), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let (_dir, path) = place();
    Store::open(&path)
        .unwrap()
        .write(|tx| {
            tx.open_table(META)?.insert(SCHEMA_KEY, SCHEMA + 1)?;
            Ok(())
        })
        .unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 2, known: 1, .. })));
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, path) = place();
    drop(Store::open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("chmod 600"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_called_that() {
    let full = std::io::Error::from_raw_os_error(28);
    assert!(matches!(StoreError::io(Path::new("x"), &full), StoreError::DiskFull(_)));
}

const CHILD: &str = "SEALBUS_STORE_TEST_CHILD";

/// Not a test of its own: the process that [`a_killed_guard_loses_nothing_it_was_told_is_done`] kills.
#[test]
fn child_that_writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    for n in 0..=u8::MAX {
        let epoch = store.next_epoch().unwrap();
        let (key, token) = agent(n);
        store.put_quarantine(&key, &quarantined(&token, u64::from(n))).unwrap();
        println!("done {epoch}");
    }
}

#[test]
fn a_killed_guard_loses_nothing_it_was_told_is_done() {
    for kill_after in [1_u64, 7, 20] {
        let (_dir, path) = place();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::child_that_writes_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let done = lines
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("done ").and_then(|(_, n)| n.parse::<u64>().ok()))
            .find(|done| *done >= kill_after)
            .unwrap_or_else(|| panic!("the child wrote {kill_after} times"));
        // In the middle of whatever it does next.
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        let records = u64::try_from(store.quarantine().unwrap().len()).unwrap();
        assert!(records >= done, "{records} records, {done} done");
        assert!(store.next_epoch().unwrap() > done);
    }
}

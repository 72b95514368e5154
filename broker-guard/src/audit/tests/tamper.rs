//! Truncation, edits, reordering and rollback are found.

use super::*;
use crate::audit::bundle;
use crate::audit::entry::{Entry, Position};
use crate::audit::note::Checkpoint;
use crate::audit::order::OrderError;
use crate::audit::tree::{TreeEdge, leaf_hash};
use crate::audit::verify::{VerifyError, VerifyOptions, verify};

fn check(directory: &Path) -> Result<crate::audit::verify::Report, VerifyError> {
    verify(directory, &key(), &VerifyOptions::default())
}

/// The files a verification of the current checkpoint must read.
fn covered(directory: &Path) -> Vec<PathBuf> {
    let size = check(directory).unwrap().checkpoint.size;
    let widths: Vec<String> = (0u32..3).map(|level| ((size >> (8 * level)) % 256).to_string()).collect();
    let root = directory.join("tile");
    let level = |path: &Path| match path
        .strip_prefix(&root)
        .unwrap()
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
    {
        Some("entries") => 0,
        Some(level) => level.parse::<usize>().unwrap(),
        None => panic!("{path:?}"),
    };
    let current = |path: &PathBuf| {
        let partial = path.parent().unwrap().to_str().unwrap().ends_with(".p");
        !partial || path.file_name().unwrap().to_str() == widths.get(level(path)).map(String::as_str)
    };
    files(&root).into_iter().filter(current).collect()
}

#[test]
fn a_log_of_three_epochs_verifies() {
    let log = three_epochs(40);
    let report = check(log.path()).unwrap();
    assert_eq!(report.checkpoint.size, 3 * (40 * 7 + 2));
    assert_eq!(report.epochs, [1, 2, 3]);
    assert_eq!(report.kinds.get("admitted"), Some(&840));
    assert!(report.gaps.is_empty());
    assert_eq!(report.unsealed, 0);
    assert_eq!(everything(log.path()).len(), 846);
}

#[test]
fn every_file_is_missed_when_it_is_gone_cut_or_changed() {
    let log = three_epochs(40);
    for path in covered(log.path()) {
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(check(log.path()).is_err(), "{path:?} removed");
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(check(log.path()).is_err(), "{path:?} cut");
        for at in [0, 1, 2, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            *changed.get_mut(at).unwrap() ^= 0x20;
            fs::write(&path, &changed).unwrap();
            assert!(check(log.path()).is_err(), "{path:?} changed at {at}");
        }
        fs::write(&path, &whole).unwrap();
    }
    check(log.path()).unwrap();
    fs::remove_file(log.path().join("checkpoint")).unwrap();
    assert!(matches!(check(log.path()), Err(VerifyError::NoCheckpoint)));
}

#[test]
fn a_changed_entry_is_named() {
    let log = three_epochs(40);
    let path = log.path().join("tile/entries/001");
    let mut bytes = fs::read(&path).unwrap();
    // another short id, of the same length: still an entry, still in order
    let at = bytes.windows(10).position(|window| window == b"abcdefghij").unwrap();
    bytes.get_mut(at..at + 10).unwrap().copy_from_slice(b"abcdefghik");
    fs::write(&path, bytes).unwrap();
    assert!(matches!(check(log.path()), Err(VerifyError::Changed(256))));
}

/// Rewrites all entries and every hash over them, as a thorough forger without the key would.
fn forge(directory: &Path, change: impl Fn(&mut Vec<Vec<u8>>)) -> TreeEdge {
    let mut entries: Vec<Vec<u8>> =
        everything(directory).iter().map(|found| found.entry.encode().unwrap()).collect();
    change(&mut entries);
    let mut edge = TreeEdge::new();
    let mut bundles = vec![Vec::new()];
    let tile = |level: u8, index: u64| directory.join(format!("tile/{level}/{index:03}"));
    for entry in &entries {
        bundle::push(bundles.last_mut().unwrap(), entry).unwrap();
        edge.push(leaf_hash(entry), &mut |id, hashes| {
            fs::write(tile(id.level, id.index), hashes.as_flattened()).unwrap()
        });
        if edge.size().is_multiple_of(256) {
            bundles.push(Vec::new());
        }
    }
    for (id, hashes) in edge.partial_tiles() {
        fs::write(
            format!("{}.p/{}", tile(id.level, id.index).display(), hashes.len()),
            hashes.as_flattened(),
        )
        .unwrap();
    }
    let last = bundles.len() - 1;
    for (index, bytes) in bundles.iter().enumerate() {
        let path = directory.join(format!("tile/entries/{index:03}"));
        let partial = format!("{}.p/{}", path.display(), edge.size() % 256);
        fs::write(if index == last { PathBuf::from(partial) } else { path }, bytes).unwrap();
    }
    edge
}

#[test]
fn a_consistent_forgery_does_not_have_the_signed_root() {
    let log = three_epochs(40);
    forge(log.path(), |entries| {
        let mut entry = Entry::decode(entries.get(5).unwrap()).unwrap();
        entry.time = Millis(1);
        *entries.get_mut(5).unwrap() = entry.encode().unwrap();
    });
    assert!(matches!(check(log.path()), Err(VerifyError::Root(846))));
}

#[test]
fn reordered_and_left_out_entries_are_found_even_when_signed() {
    // the guard's own key rewrites history: the order of positions still tells
    let sign = |directory: &Path, edge: &TreeEdge| {
        let checkpoint = Checkpoint { origin: NAME.to_owned(), size: edge.size(), root: edge.root() };
        fs::write(directory.join("checkpoint"), checkpoint.sign(&key(), &signer()).unwrap()).unwrap();
    };
    let log = three_epochs(40);
    let edge = forge(log.path(), |entries| entries.swap(10, 11));
    sign(log.path(), &edge);
    let found = Position { epoch: 1, n: 11 };
    let after = Position { epoch: 1, n: 9 };
    assert!(
        matches!(check(log.path()), Err(VerifyError::Order { leaf: 10, error }) if error == OrderError::Position { after, found })
    );

    let log = three_epochs(40);
    let edge = forge(log.path(), |entries| drop(entries.remove(300)));
    sign(log.path(), &edge);
    assert!(matches!(check(log.path()), Err(VerifyError::Order { leaf: 300, .. })));
}

#[test]
fn a_rolled_back_or_rewritten_log_does_not_fit_a_remembered_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let (early, live) = (directory.path().join("early"), directory.path().join("live"));
    let mut log = open(&live, options()).unwrap();
    log.append_batch(&(0..300).map(admission).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    copy(&live, &early);
    let before = fs::read_to_string(live.join("checkpoint")).unwrap();
    let mut log = open(&live, options()).unwrap();
    log.append_batch(&[admission(300)]).unwrap();
    log.close().unwrap();
    let after = fs::read_to_string(live.join("checkpoint")).unwrap();

    verify(&live, &key(), &VerifyOptions::remembering(&before)).unwrap();
    verify(&live, &key(), &VerifyOptions::remembering(&after)).unwrap();
    let set_back = verify(&early, &key(), &VerifyOptions::remembering(&after));
    assert!(matches!(set_back, Err(VerifyError::Rollback { remembered: 305, size: 302 })));

    // the early state, continued differently by someone who has the key
    let mut log = open(&early, options()).unwrap();
    log.append_batch(&(0..20).map(denial).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    verify(&early, &key(), &VerifyOptions::default()).unwrap();
    verify(&early, &key(), &VerifyOptions::remembering(&before)).unwrap();
    let forked = verify(&early, &key(), &VerifyOptions::remembering(&after));
    assert!(matches!(forked, Err(VerifyError::Fork(305))));
    let useless = VerifyOptions::remembering(&after.replace("305", "304"));
    assert!(matches!(verify(&live, &key(), &useless), Err(VerifyError::Remembered(_))));
}

#[test]
fn a_changed_log_is_not_opened_for_writing() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), options()).unwrap();
    log.append_batch(&(0..700).map(admission).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    let pristine = directory.path().join("pristine");
    for name in ["checkpoint", "wal", "tile"] {
        let from = directory.path().join(name);
        let to = pristine.join(name);
        if from.is_dir() {
            copy(&from, &to)
        } else {
            fs::create_dir_all(&pristine).unwrap();
            fs::copy(from, to).map(drop).unwrap()
        }
    }
    let attempt = |change: &dyn Fn(&Path)| {
        let copied = tempfile::tempdir().unwrap();
        copy(&pristine, copied.path());
        change(copied.path());
        open(copied.path(), options()).map(drop)
    };
    attempt(&|_| {}).unwrap();
    let removed = attempt(&|path| fs::remove_dir_all(path.join("wal")).unwrap());
    assert!(matches!(removed, Err(OpenError::Damaged { .. })), "{removed:?}");
    let unsigned = attempt(&|path| fs::write(path.join("checkpoint"), "x\n1\n\n").unwrap());
    assert!(matches!(unsigned, Err(OpenError::Note(_))), "{unsigned:?}");
    let edited = attempt(&|path| {
        let segment = files(&path.join("wal")).pop().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        let at = bytes.len() - 3;
        *bytes.get_mut(at).unwrap() ^= 1;
        fs::write(segment, bytes).unwrap();
    });
    assert!(matches!(edited, Err(OpenError::Damaged { .. })), "{edited:?}");
}

/// What the guard's store would remember of a log.
fn remembered(directory: &Path) -> Option<(u64, [u8; 32])> {
    let note = fs::read_to_string(directory.join("checkpoint")).unwrap();
    let checkpoint = Checkpoint::open(&note, &key()).unwrap();
    Some((checkpoint.size, checkpoint.root))
}

fn reopen(directory: &Path, remembered: Option<(u64, [u8; 32])>) -> Result<(), OpenError> {
    let options = Options { remembered, ..options() };
    open(directory, options).map(drop)
}

#[test]
fn an_older_copy_of_the_whole_directory_is_not_opened() {
    let place = tempfile::tempdir().unwrap();
    let live = place.path().join("live");
    let mut copies = Vec::new();
    for (round, entries) in [300u64, 1, 900, 30].into_iter().enumerate() {
        let mut log = open(&live, options()).unwrap();
        log.append_batch(&(0..entries).map(admission).collect::<Vec<_>>()).unwrap();
        log.close().unwrap();
        let kept = place.path().join(format!("copy-{round}"));
        copy(&live, &kept);
        copies.push((remembered(&live), kept));
    }
    for (newest, (signed, _)) in copies.iter().enumerate() {
        for (held, (_, kept)) in copies.iter().enumerate() {
            let tried = place.path().join("tried");
            copy(kept, &tried);
            let opened = reopen(&tried, *signed);
            if held >= newest {
                opened.unwrap();
            } else {
                assert!(matches!(opened, Err(OpenError::SetBack { .. })), "{held} for {newest}: {opened:?}");
            }
            fs::remove_dir_all(&tried).unwrap();
        }
    }
    // nothing left at all, and another history by the same key
    let empty = place.path().join("empty");
    let signed = copies.first().unwrap().0;
    assert!(matches!(reopen(&empty, signed), Err(OpenError::SetBack { remembered: 302, size: 0 })));
    for entries in [301, 2_000] {
        let other = place.path().join(format!("other-{entries}"));
        let mut log = open(&other, options()).unwrap();
        log.append_batch(&(0..entries).map(denial).collect::<Vec<_>>()).unwrap();
        log.close().unwrap();
        assert!(matches!(reopen(&other, signed), Err(OpenError::Forked(302))), "{entries}");
    }
}

#[test]
fn an_older_copy_of_each_file_is_found_or_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let live = place.path().join("live");
    let mut log = open(&live, options()).unwrap();
    log.append_batch(&(0..200).map(admission).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    let early = place.path().join("early");
    copy(&live, &early);
    let mut log = open(&live, options()).unwrap();
    log.append_batch(&(0..400).map(admission).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    let (signed, whole) = (remembered(&live), everything(&live));
    let mut found = 0;
    for old in files(&early) {
        let name = old.strip_prefix(&early).unwrap();
        let tried = place.path().join("tried");
        copy(&live, &tried);
        // also as if the file had never been renewed: what replaced it is gone
        for newer in [false, true] {
            if newer && let Some(directory) = name.to_str().unwrap().split_once(".p/") {
                let _ = fs::remove_file(tried.join(directory.0));
            }
            fs::create_dir_all(tried.join(name).parent().unwrap()).unwrap();
            fs::copy(&old, tried.join(name)).unwrap();
            let verified = verify(&tried, &key(), &VerifyOptions::default());
            let opened = reopen(&tried, signed);
            if verified.is_err() || opened.is_err() {
                found += 1;
            } else {
                assert_eq!(everything(&tried).get(..whole.len()), Some(whole.as_slice()), "{name:?}");
            }
        }
        fs::remove_dir_all(&tried).unwrap();
    }
    assert!(found > 0);
    // the checkpoint alone: the entries are all there, so it is signed again over the same history
    fs::copy(early.join("checkpoint"), live.join("checkpoint")).unwrap();
    reopen(&live, signed).unwrap();
    let after = verify(&live, &key(), &VerifyOptions::default()).unwrap();
    assert!(after.checkpoint.size > signed.unwrap().0);
}

#[test]
fn segments_that_are_cut_edited_reordered_or_set_back_are_found() {
    let place = tempfile::tempdir().unwrap();
    let live = place.path().join("live");
    let options = || Options { segment_bytes: 2_048, ..sealed_on_request() };
    let mut log = open(&live, options()).unwrap();
    for i in 0..8 {
        log.append_batch(&(0..4).map(|n| admission(i * 4 + n)).collect::<Vec<_>>()).unwrap();
    }
    log.close().unwrap();
    let signed = remembered(&live);
    let segments = files(&live.join("wal"));
    assert!(segments.len() >= 3, "{segments:?}");
    let attempt = |what: &str, change: &dyn Fn(&Path, &Path)| {
        for (at, segment) in segments.iter().enumerate() {
            let tried = place.path().join("tried");
            copy(&live, &tried);
            let path = |at: usize| tried.join("wal").join(segments[at].file_name().unwrap());
            change(&path(at), &path((at + 1) % segments.len()));
            let opened = reopen(&tried, signed);
            assert!(opened.is_err(), "{what} {segment:?}");
            fs::remove_dir_all(&tried).unwrap();
        }
    };
    attempt("removed", &|path, _| fs::remove_file(path).unwrap());
    attempt("emptied", &|path, _| fs::write(path, b"").unwrap());
    attempt("cut", &|path, _| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    });
    attempt("edited", &|path, _| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() / 2;
        *bytes.get_mut(at).unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    });
    attempt("swapped", &|path, other| {
        let (one, two) = (fs::read(path).unwrap(), fs::read(other).unwrap());
        fs::write(path, two).unwrap();
        fs::write(other, one).unwrap();
    });
}

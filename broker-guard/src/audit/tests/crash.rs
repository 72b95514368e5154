//! What a crash leaves behind, byte by byte, and what opening makes of it.

use super::*;
use crate::audit::entry::{Gap, GapCause, Position};
use crate::audit::verify::{VerifyOptions, verify};

/// How many entries of a kind the log holds.
fn count(directory: &Path, kind: &str) -> usize {
    everything(directory).iter().filter(|found| found.entry.body.kind() == kind).count()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_back_to_whole_batches_and_confessed() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let mut log = open(&live, sealed_on_request()).unwrap();
    log.append_batch(&[denial(0)]).unwrap();
    seal(&log);
    let segment = files(&live.join("wal")).pop().unwrap();
    let length = || usize::try_from(fs::metadata(&segment).unwrap().len()).unwrap();
    let mut ends = vec![length()];
    for batch in [1..2, 2..4] {
        log.append_batch(&batch.map(denial).collect::<Vec<_>>()).unwrap();
        ends.push(length());
    }
    let image = directory.path().join("image");
    copy(&live, &image);
    drop(log);
    let name = segment.file_name().unwrap();
    let whole = fs::read(image.join("wal").join(name)).unwrap();
    let denials_at = [1, 2, 4];

    for cut in ends[0] - 66..=whole.len() {
        let crashed = directory.path().join("crashed");
        copy(&image, &crashed);
        fs::write(crashed.join("wal").join(name), &whole[..cut]).unwrap();
        let frames = ends.iter().filter(|end| **end <= cut).count();
        match open(&crashed, sealed_on_request()) {
            Err(error) => {
                assert_eq!(frames, 0, "cut at {cut}: {error}");
                assert!(matches!(error, OpenError::Damaged { .. }), "cut at {cut}: {error}");
            }
            Ok(log) => {
                assert!(frames > 0, "cut at {cut}: a checkpoint covers what is missing");
                assert_eq!(log.epoch(), 2);
                drop(log);
                assert_eq!(count(&crashed, "denied"), *denials_at.get(frames - 1).unwrap(), "cut at {cut}");
                let report = verify(&crashed, &key(), &VerifyOptions::default()).unwrap();
                let from = *[2, 3, 5].get(frames - 1).unwrap();
                let torn_bytes = u64::try_from(cut - ends.get(frames - 1).unwrap()).unwrap();
                let [gap] = report.gaps.as_slice() else { panic!("{report:?}") };
                assert_eq!((gap.epoch, gap.from, gap.torn_bytes), (1, from, torn_bytes), "cut at {cut}");
                // with the whole header on disk the gap names its end
                assert_eq!(gap.to.is_some(), torn_bytes >= 64, "cut at {cut}");
            }
        }
        fs::remove_dir_all(&crashed).unwrap();
    }
}

#[test]
fn a_lost_page_in_the_tail_takes_all_that_follows_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let mut log = open(&live, sealed_on_request()).unwrap();
    seal(&log);
    let segment = files(&live.join("wal")).pop().unwrap();
    let mut ends = Vec::new();
    for i in 0..3 {
        log.append_batch(&[admission(i)]).unwrap();
        ends.push(usize::try_from(fs::metadata(&segment).unwrap().len()).unwrap());
    }
    let image = directory.path().join("image");
    copy(&live, &image);
    drop(log);
    let path = image.join("wal").join(segment.file_name().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let (at, end) = (ends[0] + 50, ends[1] - 10);
    bytes.get_mut(at..end).unwrap().fill(0);
    fs::write(&path, bytes).unwrap();
    drop(open(&image, options()).unwrap());
    assert_eq!(count(&image, "admitted"), 1);
    verify(&image, &key(), &VerifyOptions::default()).unwrap();
}

#[test]
fn many_crashes_in_a_row_leave_one_log_with_rising_epochs() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..12u64 {
        let mut log = open(directory.path(), options()).unwrap();
        assert_eq!(log.epoch(), round + 1);
        for batch in 0..9 {
            log.append_batch(&(0..20).map(|i| admission(batch * 20 + i)).collect::<Vec<_>>()).unwrap();
        }
        // dropped, not closed: no stop entry
    }
    let report = verify(directory.path(), &key(), &VerifyOptions::default()).unwrap();
    assert_eq!(report.epochs, (1..=12).collect::<Vec<_>>());
    assert_eq!(report.gaps.len(), 11);
    assert_eq!(report.kinds.get("admitted"), Some(&2160));
    assert!(files(&directory.path().join("wal")).len() < 6, "sealed segments are removed");
}

#[test]
fn an_epoch_remembered_elsewhere_is_never_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.min_epoch = 41;
    let log = open(directory.path(), options).unwrap();
    assert_eq!(log.epoch(), 41);
    log.close().unwrap();
    assert_eq!(open(directory.path(), super::options()).unwrap().epoch(), 42);
}

#[test]
fn two_writers_are_one_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let _log = open(directory.path(), options()).unwrap();
    assert!(matches!(open(directory.path(), options()), Err(OpenError::Locked)));
}

#[test]
fn an_entry_too_long_refuses_its_batch_and_spends_no_position() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), options()).unwrap();
    let mut long = denial(1);
    if let Body::Denied(denied) = &mut long.body {
        denied.detail = Some("x".repeat(70_000).into());
    }
    assert!(log.append_batch(&[denial(1), long]).is_err());
    assert_eq!(log.append_batch(&[denial(2)]).unwrap().positions, 1..2);
    log.close().unwrap();
    verify(directory.path(), &key(), &VerifyOptions::default()).unwrap();
}

#[test]
fn a_failed_write_is_a_gap_in_the_order_of_positions() {
    use crate::audit::entry::Entry;
    use crate::audit::order::{Order, OrderError};
    let at = |n, body| Entry { time: Millis(0), position: Position { epoch: 1, n }, body };
    let start =
        || Body::Start(crate::audit::entry::Start { previous: None, clean: true, program: "0".into() });
    let gap = |from, to| {
        let cause = GapCause::WriteFailed;
        at(5, Body::Gap(Gap { epoch: 1, from, to, torn_bytes: 0, cause }))
    };
    let run = |entries: &[Entry<'_>]| {
        let mut order = Order::default();
        entries.iter().try_for_each(|entry| order.check(entry))
    };
    assert_eq!(run(&[at(0, start()), gap(1, Some(4)), at(6, Body::Stop)]), Ok(()));
    for lie in [gap(2, Some(4)), gap(1, Some(3)), gap(1, None), gap(1, Some(0))] {
        assert!(matches!(run(&[at(0, start()), lie]), Err(OrderError::FalseGap(_))));
    }
    assert!(matches!(
        run(&[at(0, start()), at(1, Body::Stop), at(2, Body::Stop)]),
        Err(OrderError::Position { .. })
    ));
    assert!(matches!(run(&[at(0, Body::Stop)]), Err(OrderError::NoStart(_))));
}

//! Parts of the log that leave it: exported, removed, and proven as before.

use super::*;
use crate::audit::entry::Hex as Digest;
use crate::audit::export::{ExportError, export, verify_export};
use crate::audit::note::Checkpoint;
use crate::audit::prove::{InclusionProof, prove_consistency, prove_inclusion};
use crate::audit::prune::{Plan, PruneError, finish_request, is_requested, take_request};
use crate::audit::verify::{VerifyError, VerifyOptions, verify};

const ALL: std::ops::Range<Millis> = Millis(0)..Millis(u64::MAX);

/// Later than any start of a log in these tests.
const fn at(ms: u64) -> Millis {
    Millis(4_000_000_000_000 + ms)
}

fn timed(i: u64) -> Record<'static> {
    Record { time: at(i), ..admission(i) }
}

/// 3,000 admissions, a millisecond each, segments turned over on the way.
fn grown(directory: &Path) -> AuditLog {
    let mut log = open(directory, options()).unwrap();
    for batch in 0..60 {
        log.append_batch(&(batch * 50..batch * 50 + 50).map(timed).collect::<Vec<_>>()).unwrap();
    }
    seal(&log);
    log
}

fn check(directory: &Path) -> Result<crate::audit::verify::Report, VerifyError> {
    verify(directory, &key(), &VerifyOptions::default())
}

/// As a guard does it: the entry durable first.
fn prune(log: &mut AuditLog, directory: &Path, plan: &Plan) -> u64 {
    plan.check(directory).unwrap();
    log.append_batch(&[Record { time: at(9_000), body: Body::Pruned(plan.entry()) }]).unwrap();
    seal(log);
    plan.carry_out(directory).unwrap()
}

#[test]
fn an_export_is_checked_by_the_key_alone_and_every_change_of_it_is_found() {
    let place = tempfile::tempdir().unwrap();
    let (live, out) = (place.path().join("live"), place.path().join("out"));
    let mut log = grown(&live);
    let times = at(700)..at(900);
    let report = export(&live, &key(), &times, &out).unwrap();
    // leaf 0 is the start: entries of the time stand at 701 to 900, and are rounded to bundles
    assert_eq!(report.held, 512..1024);
    assert!(matches!(export(&live, &key(), &times, &out), Err(ExportError::NotEmpty)));
    let none = Millis(5)..Millis(6);
    assert!(matches!(export(&live, &key(), &none, &place.path().join("none")), Err(ExportError::Empty)));

    // the log goes on, and is gone: the export stands by itself, and proves each of its entries
    log.append_batch(&[denial(1)]).unwrap();
    log.close().unwrap();
    fs::remove_dir_all(&live).unwrap();
    let again = verify_export(&out, &key()).unwrap();
    assert_eq!((again.held.clone(), again.kinds.get("admitted")), (512..1024, Some(&512)));
    for leaf in [512, 700, 1023] {
        let proof = prove_inclusion(&out, &key(), leaf).unwrap();
        InclusionProof::parse(&proof.to_text()).unwrap().verify(&key()).unwrap();
    }
    let stranger = NoteKey::new(NAME, SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()).unwrap();
    assert!(verify_export(&out, &stranger).is_err());

    for path in files(&out) {
        let name = path.strip_prefix(&out).unwrap().to_str().unwrap();
        if name == "README.md" || name == "log.key" {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            *changed.get_mut(at).unwrap() ^= 0x20;
            fs::write(&path, &changed).unwrap();
            let found = verify_export(&out, &key());
            assert!(found.is_err(), "{name} changed at {at}: {found:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(verify_export(&out, &key()).is_err(), "{name} removed");
        fs::write(&path, &whole).unwrap();
    }
    verify_export(&out, &key()).unwrap();
}

#[test]
fn an_export_of_everything_ends_where_the_checkpoint_does() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let log = three_epochs(40);
    let report = export(log.path(), &key(), &ALL, &out).unwrap();
    assert_eq!((report.held, report.epochs), (0..846, vec![1, 2, 3]));
}

#[test]
fn what_was_removed_is_said_and_everything_else_is_proven_as_before() {
    let place = tempfile::tempdir().unwrap();
    let (live, out) = (place.path().join("live"), place.path().join("out"));
    let mut log = grown(&live);
    let before = Checkpoint::open(&fs::read_to_string(live.join("checkpoint")).unwrap(), &key()).unwrap();
    let keep = at(1000);
    let plan = Plan::make(&live, keep).unwrap().unwrap();
    assert_eq!((plan.from, plan.before), (0, 768), "whole bundles only");

    // only what an export holds
    export(&live, &key(), &(at(400)..Millis(u64::MAX)), &out).unwrap();
    assert!(matches!(plan.exported(&live, &key(), &out), Err(PruneError::NotExported { from: 256, .. })));
    fs::remove_dir_all(&out).unwrap();
    export(&live, &key(), &(Millis(0)..keep), &out).unwrap();
    let plan = plan.exported(&live, &key(), &out).unwrap();
    assert_eq!(plan.exported, Some(Digest(before.root)));
    let other = three_epochs(3);
    assert!(matches!(plan.exported(other.path(), &key(), &out), Err(PruneError::Foreign(_))));

    // a request is taken once
    plan.request(&live).unwrap();
    assert!(is_requested(&live));
    assert_eq!(take_request(&live).unwrap(), Some(plan));
    assert!(take_request(&live).unwrap().is_none() && is_requested(&live));
    assert_eq!(prune(&mut log, &live, &plan), 3);
    finish_request(&live).unwrap();
    assert!(!is_requested(&live));

    let report = check(&live).unwrap();
    assert_eq!((report.held.start, report.pruned.as_slice()), (768, [plan.entry()].as_slice()));
    assert_eq!(everything(&live).first().unwrap().leaf, 768);
    let consistency = prove_consistency(&live, &key(), before.size).unwrap();
    consistency.verify(&before, &key()).unwrap();
    for leaf in [768, 1500, 3000] {
        prove_inclusion(&live, &key(), leaf).unwrap().verify(&key()).unwrap();
    }
    // what was exported is proven by the export
    prove_inclusion(&out, &key(), 5).unwrap().verify(&key()).unwrap();
    let old = VerifyOptions::remembering(&fs::read_to_string(out.join("checkpoint")).unwrap());
    verify(&live, &key(), &old).unwrap();

    // it is opened, written, exported and pruned again
    log.close().unwrap();
    let mut log = open(&live, options()).unwrap();
    log.append_batch(&(3000..3400).map(timed).collect::<Vec<_>>()).unwrap();
    seal(&log);
    let plan = Plan::make(&live, at(2000)).unwrap().unwrap();
    assert_eq!((plan.from, plan.before), (768, 1792));
    prune(&mut log, &live, &plan);
    assert!(Plan::make(&live, at(2000)).unwrap().is_none());
    log.close().unwrap();
    assert_eq!(check(&live).unwrap().held.start, 1792);
    assert_eq!(verify(&live, &key(), &old).unwrap().pruned.len(), 2);

    // the guard keeps what it needs, however old
    let plan = Plan::make(&live, Millis(u64::MAX)).unwrap().unwrap();
    let greedy = Plan { before: plan.before + 512, ..plan };
    assert!(matches!(greedy.check(&live), Err(PruneError::Needed { .. })));
    let mut log = open(&live, options()).unwrap();
    prune(&mut log, &live, &plan);
    drop(log);
    open(&live, options()).unwrap().close().unwrap();
    check(&live).unwrap();
}

#[test]
fn entries_that_are_gone_without_a_word_are_missed() {
    let place = tempfile::tempdir().unwrap();
    let live = place.path().join("live");
    grown(&live).close().unwrap();
    let plan = Plan::make(&live, at(600)).unwrap().unwrap();
    // as a thief would: the files and the mark, not the entry
    plan.carry_out(&live).unwrap();
    assert!(matches!(check(&live), Err(VerifyError::Unexplained(512))));
    fs::remove_file(live.join("pruned")).unwrap();
    assert!(matches!(check(&live), Err(VerifyError::Missing(_))));
    fs::write(live.join("pruned"), "512").unwrap();
    assert!(matches!(check(&live), Err(VerifyError::Io(_))));

    // said, but less than was done
    let live = place.path().join("second");
    let mut log = grown(&live);
    let plan = Plan::make(&live, at(600)).unwrap().unwrap();
    prune(&mut log, &live, &plan);
    log.close().unwrap();
    let more = Plan { before: plan.before + 256, ..plan };
    more.carry_out(&live).unwrap();
    assert!(matches!(check(&live), Err(VerifyError::Unexplained(768))));
}

/// Writes the sample that the verifier in Python checks (`tests/interop/log.py`).
#[test]
#[ignore = "writes tests/interop/log anew"]
fn write_the_sample_log() {
    let place = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/log");
    drop(fs::remove_dir_all(&sample));
    fs::create_dir_all(&sample).unwrap();
    let mut log = open(place.path(), sealed_on_request()).unwrap();
    let short = |i| Record { time: at(i), ..denial(i) };
    log.append_batch(&(0..420).map(short).collect::<Vec<_>>()).unwrap();
    seal(&log);
    fs::copy(place.path().join("checkpoint"), sample.join("then.checkpoint")).unwrap();
    let old = Checkpoint::open(&fs::read_to_string(sample.join("then.checkpoint")).unwrap(), &key()).unwrap();
    log.append_batch(&(420..900).map(short).collect::<Vec<_>>()).unwrap();
    log.close().unwrap();
    export(place.path(), &key(), &(at(300)..at(600)), &sample.join("export")).unwrap();
    let proof = prove_inclusion(place.path(), &key(), 333).unwrap().to_text();
    fs::write(sample.join("entry.proof"), proof).unwrap();
    let proof = prove_consistency(place.path(), &key(), old.size).unwrap().to_text();
    fs::write(sample.join("since.proof"), proof).unwrap();
    fs::write(sample.join("log.key"), format!("{}\n", key())).unwrap();
}

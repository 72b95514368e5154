//! Proofs made from tiles on disk.

use super::*;
use crate::audit::note::Checkpoint;
use crate::audit::prove::{ConsistencyProof, InclusionProof, ProofError, prove_consistency, prove_inclusion};
use crate::audit::search::locate;

#[test]
fn every_entry_is_proven_and_no_other_key_or_entry_is() {
    let log = three_epochs(100);
    let size = u64::try_from(everything(log.path()).len()).unwrap();
    for leaf in (0..size).step_by(17).chain([size - 1]) {
        let proof = prove_inclusion(log.path(), &key(), leaf).unwrap();
        let parsed = InclusionProof::parse(&proof.to_text()).unwrap();
        assert_eq!(parsed, proof);
        let entry = parsed.verify(&key()).unwrap();
        assert_eq!(entry, everything(log.path()).swap_remove(usize::try_from(leaf).unwrap()).entry);
        let moved = InclusionProof { leaf: leaf ^ 1, ..proof.clone() };
        assert!(matches!(moved.verify(&key()), Err(ProofError::False)));
        let other = InclusionProof { entry: admission(leaf + 1).body.kind().into(), ..proof };
        assert!(matches!(other.verify(&key()), Err(ProofError::False)));
    }
    assert!(matches!(prove_inclusion(log.path(), &key(), size), Err(ProofError::Beyond { .. })));
    for text in ["", "c2sp.org/tlog-proof@v1\nindex 0\n\n", "c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\n"] {
        assert!(matches!(InclusionProof::parse(text), Err(ProofError::Form(_))), "{text:?}");
    }
}

#[test]
fn every_earlier_checkpoint_is_proven_to_be_extended() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), sealed_on_request()).unwrap();
    let mut earlier = Vec::new();
    for batch in [1, 254, 1, 1, 300, 7, 1000] {
        log.append_batch(&(0..batch).map(admission).collect::<Vec<_>>()).unwrap();
        seal(&log);
        let note = fs::read_to_string(directory.path().join("checkpoint")).unwrap();
        earlier.push(Checkpoint::open(&note, &key()).unwrap());
    }
    for old in &earlier {
        let proof = prove_consistency(directory.path(), &key(), old.size).unwrap();
        assert_eq!(proof.verify(old, &key()).unwrap().size, 1565);
        assert_eq!(ConsistencyProof::parse(&proof.to_text()).unwrap(), proof);
        let forged = Checkpoint { root: [0; 32], ..old.clone() };
        assert!(matches!(proof.verify(&forged, &key()), Err(ProofError::False)));
    }
}

#[test]
fn every_position_is_found_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    for batch in [3, 300] {
        let mut log = open(directory.path(), options()).unwrap();
        log.append_batch(&(0..batch).map(admission).collect::<Vec<_>>()).unwrap();
        log.close().unwrap();
    }
    let mut log = open(directory.path(), sealed_on_request()).unwrap();
    log.append_batch(&(0..40).map(admission).collect::<Vec<_>>()).unwrap();
    for found in everything(directory.path()) {
        assert_eq!(locate(directory.path(), found.entry.position).unwrap(), Some(found));
    }
    for (epoch, n) in [(0, 0), (1, 5), (1, 900), (2, 302), (3, 41), (4, 0)] {
        let position = crate::audit::entry::Position { epoch, n };
        assert_eq!(locate(directory.path(), position).unwrap(), None, "{position}");
    }
}

//! The coding of write-ahead segments: one frame a batch, so that a batch is there whole or not at all.
//!
//! A segment is `"SBWAL\0\0\x01" ‖ first leaf: u64` and then frames. A frame is
//! `length: u32 ‖ count: u32 ‖ leaf: u64 ‖ epoch: u64 ‖ n: u64 ‖ checksum: 32 ‖ payload`, big-endian, where
//! the payload is `count` entries in bundle coding and the checksum is SHA-256 over the other fields and
//! the payload. The checksum finds accidents (a torn write, a lost page); against people there are
//! checkpoints.

use sha2::{Digest as _, Sha256};

use super::entry::Position;

/// Begins every segment; the last byte is the version.
const MAGIC: [u8; 8] = *b"SBWAL\0\0\x01";
/// Bytes before the first frame.
pub(crate) const PREAMBLE: usize = 16;
/// Bytes before a frame's payload.
pub(crate) const HEADER: usize = 64;
/// The longest payload: 256 entries of the greatest length fit.
pub(crate) const PAYLOAD_MAX: usize = 32 * 1024 * 1024;

const SUMMED: usize = 32;

/// What a frame says about its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of payload.
    pub(crate) length: u32,
    /// Entries in it.
    pub(crate) count: u32,
    /// The leaf number of the first.
    pub(crate) leaf: u64,
    /// The position of the first.
    pub(crate) first: Position,
    checksum: [u8; 32],
}

/// The first bytes of a segment.
pub(crate) fn preamble(first_leaf: u64) -> [u8; PREAMBLE] {
    let mut out = [0; PREAMBLE];
    let (magic, leaf) = out.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    leaf.copy_from_slice(&first_leaf.to_be_bytes());
    out
}

/// The first leaf a segment says it holds; `None` if it is not a segment.
pub(crate) fn read_preamble(bytes: &[u8; PREAMBLE]) -> Option<u64> {
    let (magic, leaf) = bytes.split_first_chunk::<8>()?;
    (*magic == MAGIC).then(|| leaf.first_chunk().map(|leaf| u64::from_be_bytes(*leaf))).flatten()
}

fn checksum(summed: &[u8], payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(summed).chain_update(payload).finalize().into()
}

/// Fills in the header of a frame whose payload already stands behind `HEADER` empty bytes.
pub(crate) fn finish(frame: &mut [u8], count: u32, leaf: u64, first: Position) {
    let Some((header, payload)) = frame.split_at_mut_checked(HEADER) else { return };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut fields = Vec::with_capacity(HEADER);
    fields.extend_from_slice(&length.to_be_bytes());
    fields.extend_from_slice(&count.to_be_bytes());
    fields.extend_from_slice(&leaf.to_be_bytes());
    fields.extend_from_slice(&first.epoch.to_be_bytes());
    fields.extend_from_slice(&first.n.to_be_bytes());
    let sum = checksum(&fields, payload);
    fields.extend_from_slice(&sum);
    header.copy_from_slice(&fields);
}

impl Header {
    /// Reads a header; `None` if it states a payload no frame has.
    pub(crate) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (leaf, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (n, rest) = rest.split_first_chunk()?;
        let header = Self {
            length: u32::from_be_bytes(*length),
            count: u32::from_be_bytes(*count),
            leaf: u64::from_be_bytes(*leaf),
            first: Position { epoch: u64::from_be_bytes(*epoch), n: u64::from_be_bytes(*n) },
            checksum: *rest.first_chunk()?,
        };
        (header.length as usize <= PAYLOAD_MAX && header.count > 0).then_some(header)
    }

    /// The leaf after the last one in the frame.
    pub(crate) fn end(&self) -> u64 {
        self.leaf.saturating_add(u64::from(self.count))
    }

    /// The position of the last entry in the frame.
    pub(crate) fn last(&self) -> Position {
        let n = self.first.n.saturating_add(u64::from(self.count).saturating_sub(1));
        Position { epoch: self.first.epoch, n }
    }

    /// Whether the payload is the one that was written.
    pub(crate) fn matches(&self, header: &[u8; HEADER], payload: &[u8]) -> bool {
        header.get(..SUMMED).is_some_and(|summed| checksum(summed, payload) == self.checksum)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_and_every_flipped_bit_is_found(payload in prop::collection::vec(any::<u8>(), 0..200), count in 1u32.., leaf: u64, epoch: u64, n: u64, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let first = Position { epoch, n };
            let mut frame = vec![0; HEADER];
            frame.extend_from_slice(&payload);
            finish(&mut frame, count, leaf, first);
            let read = |frame: &[u8]| {
                let (bytes, payload) = frame.split_first_chunk::<HEADER>().unwrap();
                Header::read(bytes).filter(|header| header.length as usize == payload.len() && header.matches(bytes, payload))
            };
            let header = read(&frame).unwrap();
            prop_assert_eq!((header.count, header.leaf, header.first), (count, leaf, first));
            let at = at.index(frame.len());
            *frame.get_mut(at).unwrap() ^= 1u8 << bit;
            prop_assert!(read(&frame).is_none());
        }
    }

    #[test]
    fn a_segment_of_another_version_is_not_read() {
        let mut bytes = preamble(7);
        assert_eq!(read_preamble(&bytes), Some(7));
        *bytes.get_mut(7).unwrap() = 2;
        assert_eq!(read_preamble(&bytes), None);
    }
}

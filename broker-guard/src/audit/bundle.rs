//! Entry bundles: up to 256 entries, each behind its length as two big-endian bytes (C2SP tlog-tiles).
//!
//! The write-ahead segments use the same coding, so sealing cuts bytes and re-encodes nothing.
//!
//! ```
//! use sealbus_guard::audit::bundle::{self, BundleError};
//! let mut bytes = Vec::new();
//! bundle::push(&mut bytes, b"first")?;
//! bundle::push(&mut bytes, b"")?;
//! let entries: Result<Vec<&[u8]>, BundleError> = bundle::entries(&bytes).collect();
//! assert_eq!(entries?, [b"first".as_slice(), b""]);
//! assert!(bundle::entries(&bytes[..3]).any(|entry| entry.is_err()));
//! # Ok::<(), BundleError>(())
//! ```

/// The longest entry, in bytes.
pub const ENTRY_MAX: usize = u16::MAX as usize;

/// Why a bundle was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry has 65,535 bytes at most.
    #[error("a log entry of {0} bytes is too long: at most 65535 fit")]
    TooLong(usize),
    /// The bytes end inside an entry.
    #[error("an entry bundle ends inside an entry")]
    Cut,
}

/// Appends one entry.
///
/// # Errors
/// [`BundleError::TooLong`].
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::TooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle in order. After an error it ends.
#[must_use]
pub const fn entries(bundle: &[u8]) -> Entries<'_> {
    Entries { rest: bundle }
}

/// See [`entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self
            .rest
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        Some(match entry {
            Some((entry, rest)) => {
                self.rest = rest;
                Ok(entry)
            }
            None => {
                self.rest = &[];
                Err(BundleError::Cut)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_one_byte_too_long_is_refused() {
        let mut bytes = Vec::new();
        push(&mut bytes, &vec![0; ENTRY_MAX]).unwrap();
        assert_eq!(push(&mut bytes, &vec![0; ENTRY_MAX + 1]), Err(BundleError::TooLong(ENTRY_MAX + 1)));
        assert_eq!(entries(&bytes).count(), 1);
    }

    proptest! {
        #[test]
        fn what_is_pushed_comes_back(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            for entry in &list {
                push(&mut bytes, entry).unwrap();
            }
            let back: Vec<Vec<u8>> = entries(&bytes).map(|entry| entry.unwrap().to_vec()).collect();
            prop_assert_eq!(&back, &list);
            let cut = &bytes[..cut.index(bytes.len() + 1)];
            let whole = entries(cut).filter_map(Result::ok).zip(&list).filter(|(a, b)| a == b).count();
            prop_assert!(entries(cut).count() <= whole + 1, "only the last entry of a cut bundle is lost");
        }

        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            prop_assert!(entries(&bytes).count() <= bytes.len());
        }
    }
}

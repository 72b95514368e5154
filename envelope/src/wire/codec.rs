//! The one codec: a strict subset of MessagePack.
//!
//! Every length and number is in its shortest form, arities are exact, nothing follows the structure, and
//! a length is compared with the bytes that are there *before* anything is allocated (a length bomb costs
//! its sender more than its reader). So each value has one encoding, and decoding then encoding gives the
//! same bytes: two verifiers cannot read one signed text in two ways.
//!
//! ```
//! use sealbus_envelope::wire::codec::{Reader, Writer};
//! # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
//! let mut w = Writer::default();
//! w.array(2).uint(7u8).str("seven");
//! let bytes = w.into_bytes();
//! let mut r = Reader::new(&bytes, "pair");
//! r.array(2)?;
//! assert_eq!((r.uint()?, r.str(16)?), (7, "seven"));
//! r.finish()?;
//! assert!(Reader::new(&[0xcc, 7], "number").uint().is_err(), "7 has a shorter form");
//! # Ok(())
//! # }
//! ```

use crate::reason::{Reason, Refused};

/// Reads a strict MessagePack text from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` names the structure in refusals.
    #[must_use]
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    const fn refuse(&self, reason: Reason) -> Refused {
        Refused::new(reason, self.what)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Refused> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(self.refuse(Reason::Truncated))?;
        self.rest = rest;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(self.refuse(Reason::Truncated))?;
        self.rest = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        self.take_array::<1>().map(|[b]| b)
    }

    /// An array of exactly `arity` elements.
    ///
    /// # Errors
    /// `wrong_arity`, `bad_encoding`, `truncated`.
    pub fn array(&mut self, arity: usize) -> Result<(), Refused> {
        if self.array_len(usize::MAX)? == arity { Ok(()) } else { Err(self.refuse(Reason::WrongArity)) }
    }

    /// An array's length, at most `max` elements. Every element takes at least one byte, so a length above
    /// the bytes left is refused before anything is allocated.
    ///
    /// # Errors
    /// `too_large`, `bad_encoding`, `truncated`.
    pub fn array_len(&mut self, max: usize) -> Result<usize, Refused> {
        let len = match self.byte()? {
            b @ 0x90..=0x9f => usize::from(b & 0x0f),
            0xdc => match u16::from_be_bytes(self.take_array()?) {
                n @ 16.. => usize::from(n),
                _ => return Err(self.refuse(Reason::BadEncoding)),
            },
            _ => return Err(self.refuse(Reason::BadEncoding)),
        };
        if len > max {
            return Err(self.refuse(Reason::TooLarge));
        }
        if len > self.rest.len() {
            return Err(self.refuse(Reason::Truncated));
        }
        Ok(len)
    }

    /// An unsigned integer in its shortest form.
    ///
    /// # Errors
    /// `bad_encoding`, `truncated`.
    pub fn uint(&mut self) -> Result<u64, Refused> {
        let (value, floor) = match self.byte()? {
            b @ 0x00..=0x7f => return Ok(u64::from(b)),
            0xcc => (u64::from(self.byte()?), 0x80),
            0xcd => (u64::from(u16::from_be_bytes(self.take_array()?)), 0x100),
            0xce => (u64::from(u32::from_be_bytes(self.take_array()?)), 0x1_0000),
            0xcf => (u64::from_be_bytes(self.take_array()?), 0x1_0000_0000),
            _ => return Err(self.refuse(Reason::BadEncoding)),
        };
        if value < floor { Err(self.refuse(Reason::BadEncoding)) } else { Ok(value) }
    }

    /// An unsigned integer that fits `T`.
    ///
    /// # Errors
    /// `too_large` if it does not fit; else as [`uint`](Self::uint).
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Refused> {
        let value = self.uint()?;
        T::try_from(value).map_err(|_| self.refuse(Reason::TooLarge))
    }

    /// A boolean.
    ///
    /// # Errors
    /// `bad_encoding`, `truncated`.
    pub fn bool(&mut self) -> Result<bool, Refused> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(self.refuse(Reason::BadEncoding)),
        }
    }

    /// A byte string of at most `max` bytes, borrowed from the input.
    ///
    /// # Errors
    /// `too_large`, `bad_encoding`, `truncated`.
    pub fn bin(&mut self, max: usize) -> Result<&'a [u8], Refused> {
        let (len, floor) = match self.byte()? {
            0xc4 => (u32::from(self.byte()?), 0),
            0xc5 => (u32::from(u16::from_be_bytes(self.take_array()?)), 0x100),
            0xc6 => (u32::from_be_bytes(self.take_array()?), 0x1_0000),
            _ => return Err(self.refuse(Reason::BadEncoding)),
        };
        self.body(len, floor, max)
    }

    /// A byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// `bad_length` if it has another length; else as [`bin`](Self::bin).
    pub fn bin_array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let bytes = self.bin(usize::MAX)?;
        bytes.try_into().map_err(|_| self.refuse(Reason::BadLength))
    }

    /// A UTF-8 string of at most `max` bytes, borrowed from the input.
    ///
    /// # Errors
    /// `too_large`, `bad_encoding`, `truncated`.
    pub fn str(&mut self, max: usize) -> Result<&'a str, Refused> {
        let (len, floor) = match self.byte()? {
            b @ 0xa0..=0xbf => (u32::from(b & 0x1f), 0),
            0xd9 => (u32::from(self.byte()?), 0x20),
            0xda => (u32::from(u16::from_be_bytes(self.take_array()?)), 0x100),
            _ => return Err(self.refuse(Reason::BadEncoding)),
        };
        let bytes = self.body(len, floor, max)?;
        std::str::from_utf8(bytes).map_err(|_| self.refuse(Reason::BadEncoding))
    }

    fn body(&mut self, len: u32, floor: u32, max: usize) -> Result<&'a [u8], Refused> {
        if len < floor {
            return Err(self.refuse(Reason::BadEncoding));
        }
        match usize::try_from(len) {
            Ok(len) if len <= max => self.take(len),
            _ => Err(self.refuse(Reason::TooLarge)),
        }
    }

    /// `nil`, or what `read` reads.
    ///
    /// # Errors
    /// As `read`.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<Option<T>, Refused> {
        match self.rest.first() {
            Some(0xc0) => {
                self.byte()?;
                Ok(None)
            }
            _ => read(self).map(Some),
        }
    }

    /// Ends the text: refuses bytes that follow.
    ///
    /// # Errors
    /// `trailing_bytes`.
    pub fn finish(self) -> Result<(), Refused> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.refuse(Reason::TrailingBytes)) }
    }
}

/// Writes the strict MessagePack text that [`Reader`] reads.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty text with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// The text.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Starts an array of `len` elements (at most 65,535; none of our structures has more).
    pub fn array(&mut self, len: usize) -> &mut Self {
        match u16::try_from(len).unwrap_or(u16::MAX) {
            n @ 0..=15 => self.bytes.push(0x90 | n.to_be_bytes()[1]),
            n => self.tagged(0xdc, &n.to_be_bytes()),
        }
        self
    }

    /// An unsigned integer in its shortest form.
    pub fn uint(&mut self, value: impl Into<u64>) -> &mut Self {
        let value = value.into();
        let b = value.to_be_bytes();
        match value {
            0..=0x7f => self.bytes.push(b[7]),
            0x80..=0xff => self.tagged(0xcc, &[b[7]]),
            0x100..=0xffff => self.tagged(0xcd, &[b[6], b[7]]),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &[b[4], b[5], b[6], b[7]]),
            _ => self.tagged(0xcf, &b),
        }
        self
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
        self
    }

    /// A byte string.
    pub fn bin(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        match bytes.len() {
            0..=0xff => self.tagged(0xc4, &[len[3]]),
            0x100..=0xffff => self.tagged(0xc5, &[len[2], len[3]]),
            _ => self.tagged(0xc6, &len),
        }
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A string (at most 65,535 bytes; names and subjects are far shorter).
    pub fn str(&mut self, text: &str) -> &mut Self {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
        match text.len() {
            0..=0x1f => self.bytes.push(0xa0 | len[1]),
            0x20..=0xff => self.tagged(0xd9, &[len[1]]),
            _ => self.tagged(0xda, &len),
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// `nil` for `None`, else what `write` writes.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.bytes.push(0xc0),
            Some(value) => write(self, value),
        }
        self
    }

    /// Bytes as they are, for what is no MessagePack.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(n: u64, flag: bool, bin: Vec<u8>, text in ".{0,300}", some: Option<u8>) {
            let mut w = Writer::default();
            w.array(5).uint(n).bool(flag).bin(&bin).str(&text).option(some, |w, n| { w.uint(n); });
            let bytes = w.into_bytes();
            let mut r = Reader::new(&bytes, "test");
            r.array(5).unwrap();
            prop_assert_eq!(r.uint().unwrap(), n);
            prop_assert_eq!(r.bool().unwrap(), flag);
            prop_assert_eq!(r.bin(usize::MAX).unwrap(), &bin[..]);
            prop_assert_eq!(r.str(usize::MAX).unwrap(), &text);
            prop_assert_eq!(r.option(|r| r.small::<u8>()).unwrap(), some);
            prop_assert!(r.finish().is_ok());
        }

        #[test]
        fn our_writer_agrees_with_a_well_known_encoder(n: u64, bin in prop::collection::vec(any::<u8>(), 0..70_000), len in 0u16..40) {
            let mut ours = Writer::default();
            ours.uint(n).bin(&bin).array(usize::from(len));
            let mut theirs = Vec::new();
            rmp::encode::write_uint(&mut theirs, n).unwrap();
            rmp::encode::write_bin(&mut theirs, &bin).unwrap();
            rmp::encode::write_array_len(&mut theirs, u32::from(len)).unwrap();
            prop_assert_eq!(ours.into_bytes(), theirs);
        }
    }

    #[test]
    fn longer_forms_of_short_values_are_refused() {
        for bytes in
            [&[0xcc, 0x7f][..], &[0xcd, 0, 0xff], &[0xce, 0, 0, 0xff, 0xff], &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1]]
        {
            assert_eq!(Reader::new(bytes, "n").uint().unwrap_err().reason, Reason::BadEncoding);
        }
        assert_eq!(Reader::new(&[0xdc, 0, 1, 0], "a").array(1).unwrap_err().reason, Reason::BadEncoding);
        assert_eq!(Reader::new(&[0xc5, 0, 1, 0], "b").bin(9).unwrap_err().reason, Reason::BadEncoding);
        assert_eq!(Reader::new(&[0xd9, 1, b'a'], "s").str(9).unwrap_err().reason, Reason::BadEncoding);
    }

    #[test]
    fn a_length_bomb_is_refused_before_anything_is_allocated() {
        assert_eq!(
            Reader::new(&[0xc6, 0xff, 0xff, 0xff, 0xff], "b").bin(1 << 20).unwrap_err().reason,
            Reason::TooLarge
        );
        assert_eq!(
            Reader::new(&[0xdc, 0xff, 0xff], "a").array_len(usize::MAX).unwrap_err().reason,
            Reason::Truncated
        );
    }
}

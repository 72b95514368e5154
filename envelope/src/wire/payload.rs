//! What is inside the ciphertext: content type, trace context and payload, padded so that the size on the
//! wire tells little (Padmé: Nikitin, Barman, Lueks, Underwood, Hubaux and Ford, "Reducing Metadata
//! Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019, section 4).

use zeroize::Zeroize;

use crate::{
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The largest payload, in bytes.
pub const MAX_PAYLOAD: usize = 1_000_000;
const MAX_CONTENT_TYPE: usize = 128;
const MAX_TRACEPARENT: usize = 64;
const WHAT: &str = "payload";

/// The content of an envelope. `Debug` shows no payload; the bytes are zeroized on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// A media type such as `application/json`, at most 128 bytes of printable ASCII.
    pub content_type: String,
    /// W3C trace context, if the sender traces, at most 64 bytes of printable ASCII.
    pub traceparent: Option<String>,
    /// The payload, at most 1,000,000 bytes.
    pub payload: Vec<u8>,
}

impl Content {
    /// A payload with its media type.
    #[must_use]
    pub fn new(content_type: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { content_type: content_type.into(), traceparent: None, payload: payload.into() }
    }

    /// The padded plaintext: length of the inner text as 4 bytes big-endian, the text, zeros up to the
    /// Padmé size of the whole.
    ///
    /// # Errors
    /// `too_large`; `bad_encoding` if a text is not printable ASCII.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Refused> {
        if self.payload.len() > MAX_PAYLOAD
            || self.content_type.len() > MAX_CONTENT_TYPE
            || self.traceparent.as_ref().is_some_and(|t| t.len() > MAX_TRACEPARENT)
        {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        check_text(&self.content_type)?;
        self.traceparent.as_deref().map_or(Ok(()), check_text)?;
        let mut w = Writer::with_capacity(padme(self.payload.len() + 256) + 32);
        w.raw(&[0; 4]).array(3).str(&self.content_type);
        w.option(self.traceparent.as_ref(), |w, text| {
            w.str(text);
        });
        w.bin(&self.payload);
        let mut bytes = w.into_bytes();
        let inner = u32::try_from(bytes.len() - 4).map_err(|_| Refused::new(Reason::TooLarge, WHAT))?;
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            *head = inner.to_be_bytes();
        }
        bytes.resize(padme(bytes.len()), 0);
        Ok(bytes)
    }

    /// Reads a padded plaintext.
    ///
    /// # Errors
    /// `bad_padding`; the codec's reasons.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadPadding, WHAT);
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or(bad)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| bad)?;
        let (inner, padding) = rest.split_at_checked(len).ok_or(bad)?;
        if bytes.len() != padme(len + 4) || padding.iter().any(|&b| b != 0) {
            return Err(bad);
        }
        let mut r = Reader::new(inner, WHAT);
        r.array(3)?;
        let content_type = r.str(MAX_CONTENT_TYPE)?.to_owned();
        let traceparent = r.option(|r| r.str(MAX_TRACEPARENT))?.map(str::to_owned);
        let payload = r.bin(MAX_PAYLOAD)?.to_vec();
        r.finish()?;
        check_text(&content_type)?;
        traceparent.as_deref().map_or(Ok(()), check_text)?;
        Ok(Self { content_type, traceparent, payload })
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.payload.zeroize();
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("content_type", &self.content_type)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Both texts end in logs and HTTP headers: a line break or an escape in them would forge what follows.
fn check_text(text: &str) -> Result<(), Refused> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        Ok(())
    } else {
        Err(Refused::new(Reason::BadEncoding, "payload.content_type"))
    }
}

/// The Padmé size for `len` bytes: never more than 12 % above it, and only O(log log) of its bits show.
#[must_use]
pub const fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << exponent.saturating_sub(kept)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padme_agrees_with_the_paper() {
        for (len, padded) in [(0, 0), (1, 1), (9, 10), (100, 104), (1000, 1024), (1024, 1024), (1025, 1088)] {
            assert_eq!(padme(len), padded, "{len}");
        }
    }

    proptest! {
        #[test]
        fn padding_costs_at_most_an_eighth(len in 16usize..2_000_000) {
            prop_assert!(padme(len) >= len && padme(len) <= len + len / 8);
            prop_assert_eq!(padme(padme(len)), padme(len));
        }

        #[test]
        fn content_reads_back(payload in prop::collection::vec(any::<u8>(), 0..3000), trace in prop::option::of("[0-9a-f-]{55}")) {
            let mut content = Content::new("application/json", payload);
            content.traceparent = trace;
            prop_assert_eq!(Content::decode(&content.encode().unwrap()).unwrap(), content);
        }
    }

    #[test]
    fn texts_that_would_forge_a_log_line_are_refused() {
        for text in ["a\nb", "a\0", "\x1b[2J", "ä"] {
            assert_eq!(Content::new(text, "").encode().unwrap_err().reason, Reason::BadEncoding);
            let mut content = Content::new("text/plain", "");
            content.traceparent = Some(text.to_owned());
            assert_eq!(content.encode().unwrap_err().reason, Reason::BadEncoding);
        }
    }

    #[test]
    fn debug_shows_no_payload() {
        let shown = format!("{:?}", Content::new("text/plain", "secret"));
        assert_eq!(shown, r#"Content { content_type: "text/plain", payload_len: 6, .. }"#);
    }
}

//! The signature on a webhook's body, by the scheme of standardwebhooks.com: HMAC-SHA256 over
//! `id.timestamp.body`, so that a receiver knows who sent it, that it is whole, and how old it is.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sealbus_envelope::time::Millis;
use sha2::Sha256;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The scheme's bounds on a secret, in bytes.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;
/// More than a few at once is no rotation.
const MAX_SECRETS: usize = 4;
const MAX_FILE: u64 = 4 << 10;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the webhook secret `{path}`: {source}; make one: `sealbus events secret FILE`")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's own.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error(
        "the webhook secret `{0}` is readable by others: `chmod 600` it, and make a new one if it was for long"
    )]
    Open(String),
    /// It is no secret.
    #[error(
        "the webhook secret `{0}` is not `whsec_` and base64 of 24 to 64 bytes, one a line, at most four; make one: \
         `sealbus events secret FILE`"
    )]
    Malformed(String),
}

/// A secret that this side and the receiver share. Not shown, and wiped when dropped.
#[derive(ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads `whsec_…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = BASE64.decode(text.trim().strip_prefix(PREFIX)?.as_bytes()).ok()?;
        if SIZES.contains(&bytes.len()) {
            return Some(Self(bytes));
        }
        bytes.zeroize();
        None
    }

    /// A fresh one of 32 bytes, and its text.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn generate() -> Result<(Self, Zeroizing<String>), getrandom::Error> {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes)?;
        let text = Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&bytes)));
        Ok((Self(bytes), text))
    }
}

/// The secrets of one webhook: all of them sign, so that one can take the other's place without a gap.
#[derive(Debug)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads a file of mode 0600 with one secret a line.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let shown = path.display().to_string();
        let unreadable = |source| SecretError::Unreadable { path: shown.clone(), source };
        let found = fs::metadata(path).map_err(unreadable)?;
        if found.permissions().mode() & 0o077 != 0 {
            return Err(SecretError::Open(shown));
        }
        if found.len() > MAX_FILE {
            return Err(SecretError::Malformed(shown));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let secrets: Option<Vec<Secret>> = lines.map(Secret::parse).collect();
        match secrets {
            Some(secrets) if (1..=MAX_SECRETS).contains(&secrets.len()) => Ok(Self(secrets)),
            _ => Err(SecretError::Malformed(shown)),
        }
    }

    /// The value of `webhook-signature` for a body that is sent as `id` at `time`.
    #[must_use]
    pub fn sign(&self, id: &str, time: Millis, body: &[u8]) -> String {
        let signatures = self.0.iter().filter_map(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
            mac.update(format!("{id}.{}.", time.seconds()).as_bytes());
            mac.update(body);
            Some(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl From<Secret> for Secrets {
    fn from(secret: Secret) -> Self {
        Self(vec![secret])
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    /// The example of the scheme's specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_example_is_signed_as_published() {
        let secrets = Secrets::from(Secret::parse(SECRET).unwrap());
        let signed = secrets.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Millis::from_seconds(1_614_265_330),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", Secrets::from(Secret::parse(SECRET).unwrap()));
        assert_eq!(shown, "Secrets([Secret { .. }])");
    }

    #[test]
    fn only_secrets_that_nobody_else_reads_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Secrets::load(&path), Err(SecretError::Unreadable { .. })));
        let other = Secret::generate().unwrap().1;
        fs::write(&path, format!("{SECRET}\n{}\n", *other)).unwrap();
        mode(0o640);
        assert!(matches!(Secrets::load(&path), Err(SecretError::Open(_))));
        mode(0o600);
        let both = Secrets::load(&path).unwrap().sign("id", Millis(0), b"x");
        assert_eq!(both.split(' ').count(), 2);
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            fs::write(&path, bad).unwrap();
            let error = Secrets::load(&path).unwrap_err();
            assert!(matches!(error, SecretError::Malformed(_)), "{bad}");
            assert!(bad.len() < 10 || !error.to_string().contains(bad), "{error}");
        }
    }
}

//! Which nats-server versions the bus may run on.

use semver::Version;

/// The version this project is built and tested against, and fetches when asked to.
pub const PINNED_VERSION: &str = "2.15.1";

/// The flaws that let a client choose the identity the server attests for it. The guard's whole view of
/// "who sent this" rests on that attestation, so a server that has them is not a bus.
pub const IDENTITY_SPOOFING: &[&str] = &["CVE-2026-33223", "CVE-2026-33246"];

const FIRST_CALLOUT: Version = Version::new(2, 10, 0);
const FIXED_IN_2_11: Version = Version::new(2, 11, 15);
const FIXED_IN_2_12: Version = Version::new(2, 12, 7);

/// Why a nats-server version is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitVersion {
    /// Before 2.10 there is no auth callout, so no guard can decide who connects.
    #[error(
        "nats-server `{found}` has no auth callout, which came with 2.10; install {PINNED_VERSION} with deploy/fetch-nats-server.sh"
    )]
    NoAuthCallout {
        /// The version refused.
        found: Version,
    },
    /// The version carries flaws by which a client can take another's identity.
    #[error(
        "nats-server `{found}` lets clients spoof identities ({}); install 2.11.15, 2.12.7 or later, or {PINNED_VERSION} with deploy/fetch-nats-server.sh", IDENTITY_SPOOFING.join(", ")
    )]
    IdentitySpoofing {
        /// The version refused.
        found: Version,
    },
    /// The text is no version at all. A server that hides its version is treated as an unfit one.
    #[error("`{0}` is not a nats-server version; install {PINNED_VERSION} with deploy/fetch-nats-server.sh")]
    Unreadable(String),
}

/// Reads a version from `nats-server --version` (`nats-server: v2.15.1`) or from the `version` field of a
/// server's INFO (`2.15.1`).
///
/// # Errors
/// [`UnfitVersion::Unreadable`] if the last word is no semantic version.
pub fn parse_version(text: &str) -> Result<Version, UnfitVersion> {
    let text = text.trim();
    let word = text.rsplit(char::is_whitespace).next().unwrap_or(text);
    let word = word.strip_prefix('v').unwrap_or(word);
    Version::parse(word).map_err(|_| UnfitVersion::Unreadable(text.chars().take(80).collect()))
}

/// Whether the bus may run on this server version. Pre-releases of a fixed version count as unfixed: nothing
/// says on which side of the fix they were cut.
///
/// # Errors
/// [`UnfitVersion`] says what is wrong and which version to install.
pub fn check_version(found: &Version) -> Result<(), UnfitVersion> {
    if *found < FIRST_CALLOUT {
        return Err(UnfitVersion::NoAuthCallout { found: found.clone() });
    }
    let fixed = if (found.major, found.minor) <= (2, 11) { &FIXED_IN_2_11 } else { &FIXED_IN_2_12 };
    if found < fixed {
        return Err(UnfitVersion::IdentitySpoofing { found: found.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn versions_are_judged_by_table() {
        enum Is {
            Fit,
            NoCallout,
            Spoofable,
        }
        use Is::{Fit, NoCallout, Spoofable};
        for (text, is) in [
            ("1.4.1", NoCallout),
            ("2.9.25", NoCallout),
            ("2.10.0-RC.1", NoCallout),
            ("2.10.0", Spoofable),
            ("2.10.29", Spoofable),
            ("2.11.0", Spoofable),
            ("2.11.14", Spoofable),
            ("2.11.15-RC.2", Spoofable),
            ("2.11.15", Fit),
            ("2.11.99", Fit),
            ("2.12.0-RC.1", Spoofable),
            ("2.12.0", Spoofable),
            ("2.12.6", Spoofable),
            ("2.12.7-RC.1", Spoofable),
            ("2.12.7", Fit),
            ("2.14.0-RC.1", Fit),
            ("2.15.1", Fit),
            ("3.0.0", Fit),
        ] {
            let found = check_version(&Version::parse(text).unwrap());
            let right = match is {
                Fit => found.is_ok(),
                NoCallout => matches!(found, Err(UnfitVersion::NoAuthCallout { .. })),
                Spoofable => matches!(found, Err(UnfitVersion::IdentitySpoofing { .. })),
            };
            assert!(right, "{text} was judged {found:?}");
        }
    }

    #[test]
    fn the_pinned_version_is_fit() {
        check_version(&parse_version(PINNED_VERSION).unwrap()).unwrap();
    }

    #[test]
    fn both_spellings_are_read() {
        for text in ["nats-server: v2.15.1\n", "v2.15.1", "2.15.1", " 2.15.1 "] {
            assert_eq!(parse_version(text).unwrap(), Version::new(2, 15, 1), "{text}");
        }
        for text in ["", "nats-server", "nats-server: v2.15", "2.15.1.0", "nats-server: v02.15.1"] {
            assert!(matches!(parse_version(text), Err(UnfitVersion::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_flaws_and_the_remedy() {
        let text = check_version(&Version::new(2, 12, 6)).unwrap_err().to_string();
        for part in ["2.12.6", "CVE-2026-33223", "CVE-2026-33246", "2.12.7", "deploy/fetch-nats-server.sh"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

//! Public nkeys as the server's configuration names them: checked once, then safe to write down.

use std::fmt;

use nkeys::KeyPairType;

/// Why a text is not the public key asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a public {wanted} nkey, which starts with `{letter}`")]
pub struct NotThatKey {
    found: String,
    wanted: &'static str,
    letter: char,
}

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $letter:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks prefix and checksum.
            ///
            /// # Errors
            /// [`NotThatKey`] for anything else, a seed included (which is not repeated in the message).
            pub fn parse(text: &str) -> Result<Self, NotThatKey> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                // A seed pasted by mistake must not reach a log.
                let found = if text.starts_with('S') { "S…" } else { text };
                Err(NotThatKey { found: found.chars().take(60).collect(), wanted: $wanted, letter: $letter })
            }

            /// The key as text, 56 characters of base32.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is(text: &str, wanted: &KeyPairType) -> bool {
    nkeys::KeyPair::from_public_key(text).is_ok_and(|key| key.key_pair_type() == *wanted)
}

public_key! {
    /// A user's public key, `U…`: a login that proves itself by signing the server's nonce.
    UserKey, "user", 'U', |text| is(text, &KeyPairType::User)
}
public_key! {
    /// An account's public key, `A…`: here the one whose signature the server accepts on callout answers.
    AccountKey, "account", 'A', |text| is(text, &KeyPairType::Account)
}
public_key! {
    /// An X25519 public key, `X…`: what the server seals callout requests to.
    CurveKey, "curve", 'X', |text| nkeys::XKey::from_public_key(text).is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use nkeys::{KeyPair, XKey};

    use super::*;

    #[test]
    fn only_the_right_kind_is_taken() {
        let (user, account, curve) =
            (KeyPair::new_user().public_key(), KeyPair::new_account().public_key(), XKey::new().public_key());
        for (text, is_user, is_account, is_curve) in [
            (user.as_str(), true, false, false),
            (&account, false, true, false),
            (&curve, false, false, true),
            ("", false, false, false),
            ("U\" }", false, false, false),
            (&user.to_lowercase(), false, false, false),
        ] {
            assert_eq!(UserKey::parse(text).is_ok(), is_user, "{text}");
            assert_eq!(AccountKey::parse(text).is_ok(), is_account, "{text}");
            assert_eq!(CurveKey::parse(text).is_ok(), is_curve, "{text}");
        }
    }

    #[test]
    fn a_seed_given_by_mistake_is_not_repeated() {
        let seed = KeyPair::new_user().seed().unwrap();
        let error = UserKey::parse(&seed).unwrap_err();
        assert!(!format!("{error}{error:?}").contains(seed.get(2..10).unwrap()));
    }
}

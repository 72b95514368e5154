//! A bundle on its way to its quorum, signed by one key holder after the other.

use super::{Bundle, BundleHead, HeadFields, Records};
use crate::{
    identity::{PublicKey, Purpose, Roots, SigningKey},
    reason::{Reason, Refused},
    time::Millis,
};

/// A bundle that at least one policy key signed, and perhaps not enough of them. Its bytes have the form of a
/// bundle's and are one as soon as the quorum has signed. Never enforced: there is no way from here to a
/// [`Bundle`] but [`Bundle::verify`] with all signatures.
#[derive(Debug, Clone)]
pub struct Draft {
    bundle: Bundle,
    quorum: usize,
}

impl Draft {
    /// Begins one with the signatures of `keys`.
    ///
    /// # Errors
    /// `policy_invalid` if there is no key, one is no policy key, or one is there twice.
    pub fn begin(
        records: Records,
        version: u64,
        issued: Millis,
        keys: &[&SigningKey],
        roots: &Roots,
    ) -> Result<Self, Refused> {
        let bundle = Bundle::sign(records, version, issued, keys, &any_one(roots))?;
        Ok(Self { bundle, quorum: roots.quorum })
    }

    /// Reads a draft. All of it is checked as in a bundle, the root that was signed is computed anew from the
    /// records, and every signature is verified; only how many there are is not.
    ///
    /// # Errors
    /// What [`Bundle::verify`] refuses.
    pub fn verify(bytes: &[u8], roots: &Roots) -> Result<Self, Refused> {
        Ok(Self { bundle: Bundle::verify(bytes, &any_one(roots))?, quorum: roots.quorum })
    }

    /// Adds the signature of another policy key.
    ///
    /// # Errors
    /// `policy_invalid` if this key signed already, or is no policy key of `roots`.
    pub fn sign(&mut self, key: &SigningKey, roots: &Roots) -> Result<(), Refused> {
        let fields = *self.fields();
        let mut signatures = self.bundle.head.signatures.clone();
        if signatures.iter().any(|(signer, _)| signer == key.public()) {
            return Err(Refused::new(Reason::PolicyInvalid, "signature"));
        }
        signatures.push((key.public().clone(), key.sign(Purpose::Bundle, &fields.encode())));
        self.bundle.head = BundleHead::verify(&BundleHead::assemble(&fields, &signatures), &any_one(roots))?;
        Ok(())
    }

    /// What the key holders sign.
    #[must_use]
    pub const fn fields(&self) -> &HeadFields {
        self.bundle.head.fields()
    }

    /// What it says.
    #[must_use]
    pub const fn records(&self) -> &Records {
        self.bundle.records()
    }

    /// Who signed, in the order of their signatures.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = &PublicKey> {
        self.bundle.head.signers()
    }

    /// How many signatures are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.quorum.saturating_sub(self.signers().len())
    }

    /// Writes it; a bundle if nothing is [`missing`](Self::missing).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.bundle.encode()
    }
}

/// The same keys, of which any one is enough. The bus id does not depend on the quorum.
fn any_one(roots: &Roots) -> Roots {
    Roots { quorum: 1, ..roots.clone() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::{name::Name, policy::Tables};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32])
    }

    fn roots() -> Roots {
        Roots {
            name: Name::parse("demo").unwrap(),
            issuer: key(1).public().clone(),
            policy_keys: [2, 3, 4].map(|n| key(n).public().clone()).into(),
            quorum: 2,
        }
    }

    fn records() -> Records {
        let tables = Tables {
            bus: roots().bus(),
            levels: vec![Name::parse("public").unwrap()],
            compartments: vec![],
            integrity: vec![Name::parse("untrusted").unwrap()],
            teams: vec![],
            zones: vec![],
            status_key: key(5).public().clone(),
            guards: vec![],
            freshness_ms: 60_000,
            max_readers: 10,
            observe: false,
        };
        Records { tables, rules: vec![], grants: vec![], supervision: None }
    }

    #[test]
    fn a_draft_becomes_a_bundle_with_the_quorums_last_signature() {
        let roots = roots();
        let mut draft = Draft::begin(records(), 7, Millis(1), &[&key(2)], &roots).unwrap();
        assert_eq!(draft.missing(), 1);
        assert_eq!(Bundle::verify(&draft.encode(), &roots).unwrap_err().reason, Reason::PolicyInvalid);
        assert!(draft.sign(&key(2), &roots).is_err(), "one key is one signature");
        assert!(draft.sign(&key(9), &roots).is_err(), "not a policy key");
        draft = Draft::verify(&draft.encode(), &roots).unwrap();
        draft.sign(&key(4), &roots).unwrap();
        assert_eq!(draft.missing(), 0);
        let bundle = Bundle::verify(&draft.encode(), &roots).unwrap();
        let signers: Vec<_> = bundle.head().signers().cloned().collect();
        assert_eq!(signers, [key(2).public().clone(), key(4).public().clone()]);
        // More than enough is no harm, and every one of them must be good.
        draft.sign(&key(3), &roots).unwrap();
        Bundle::verify(&draft.encode(), &roots).unwrap();
    }

    #[test]
    fn a_draft_that_says_something_else_than_was_signed_is_refused() {
        let roots = roots();
        let draft = Draft::begin(records(), 7, Millis(1), &[&key(2)], &roots).unwrap();
        let mut other = draft.clone();
        other.bundle.records.tables.max_readers = 11;
        assert_eq!(Draft::verify(&other.encode(), &roots).unwrap_err().reason, Reason::PolicyInvalid);
        let mut bytes = draft.encode();
        bytes.pop();
        Draft::verify(&bytes, &roots).unwrap_err();
        assert!(Draft::begin(records(), 7, Millis(1), &[], &roots).is_err());
        assert!(Draft::begin(records(), 7, Millis(1), &[&key(2), &key(2)], &roots).is_err());
    }
}

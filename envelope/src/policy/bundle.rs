//! Policy bundles: tables, rules and flow grants under one Merkle root, signed by a quorum of policy keys.
//!
//! Each rule can be shown alone, with its path to the root: the guard gives each client the rules that
//! concern it, and a client that checks them need not trust the guard about who may read or publish.

use crate::{
    hash::Hash,
    identity::{BusId, PublicKey, Purpose, Roots, Signature, SigningKey},
    name::Name,
    policy::{
        flow::{FlowGrant, MAX_GRANTS},
        rule::Rule,
        supervision::Supervision,
        tables::Tables,
    },
    proof::merkle,
    reason::{Reason, Refused},
    time::Millis,
    wire::codec::{Reader, Writer},
};

mod draft;

pub use draft::Draft;

/// The most rules of a bundle.
pub const MAX_RULES: usize = 20_000;
/// The most signatures on a bundle.
pub const MAX_SIGNATURES: usize = 16;
/// The largest bundle, in bytes.
pub const MAX_BUNDLE: usize = 64 << 20;
const VERSION: u8 = 1;
const WHAT: &str = "policy bundle";

/// What a quorum signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFields {
    /// The bus.
    pub bus: BusId,
    /// Only ever rises.
    pub version: u64,
    /// Merkle root over tables, rules, flow grants and supervision: the bundle's digest.
    pub root: Hash,
    /// How many leaves: one, one for each rule and flow grant, and one for supervision if there is any.
    pub leaves: u32,
    /// When it was made.
    pub issued: Millis,
}

impl HeadFields {
    /// The bytes that policy keys sign, with [`Purpose::Bundle`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(128);
        w.array(6).uint(VERSION).bin(self.bus.as_bytes()).uint(self.version).bin(&self.root);
        w.uint(self.leaves).uint(self.issued.0);
        w.into_bytes()
    }
}

/// A bundle's head that a quorum signed, verified. There is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleHead {
    fields: HeadFields,
    signatures: Vec<(PublicKey, Signature)>,
    bytes: Vec<u8>,
}

impl BundleHead {
    /// Puts a head and its signatures together. Verified by [`verify`](Self::verify), not here.
    #[must_use]
    pub fn assemble(fields: &HeadFields, signatures: &[(PublicKey, Signature)]) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.array(2).bin(&fields.encode()).array(signatures.len());
        for (key, signature) in signatures {
            w.array(2).bin(key.as_bytes()).bin(signature);
        }
        w.into_bytes()
    }

    /// Reads a head and checks that enough different policy keys of `roots` signed it.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`; `policy_invalid` if a signature is not good,
    /// its key is not a policy key or signs twice, or they are fewer than the quorum.
    pub fn verify(bytes: &[u8], roots: &Roots) -> Result<Self, Refused> {
        let invalid = Refused::new(Reason::PolicyInvalid, WHAT);
        let mut r = Reader::new(bytes, WHAT);
        r.array(2)?;
        let body = r.bin(256)?;
        let count = r.array_len(MAX_SIGNATURES)?;
        let mut signatures: Vec<(PublicKey, Signature)> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(2)?;
            let key: [u8; 32] = r.bin_array()?;
            let signature: Signature = r.bin_array()?;
            let root = roots.policy_keys.iter().find(|root| *root.as_bytes() == key).ok_or(invalid)?;
            root.verify(Purpose::Bundle, body, &signature).map_err(|_| invalid)?;
            if signatures.iter().any(|(signer, _)| signer == root) {
                return Err(invalid);
            }
            signatures.push((root.clone(), signature));
        }
        r.finish()?;
        if roots.quorum == 0 || signatures.len() < roots.quorum {
            return Err(invalid);
        }
        let mut r = Reader::new(body, WHAT);
        r.array(6)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        let fields = HeadFields {
            bus: BusId::from_bytes(r.bin_array()?),
            version: r.uint()?,
            root: r.bin_array()?,
            leaves: r.small()?,
            issued: Millis(r.uint()?),
        };
        r.finish()?;
        if fields.bus != roots.bus() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        Ok(Self { fields, signatures, bytes: bytes.to_vec() })
    }

    /// What the quorum signed.
    #[must_use]
    pub const fn fields(&self) -> &HeadFields {
        &self.fields
    }

    /// Who signed it, in the order of their signatures.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = &PublicKey> {
        self.signatures.iter().map(|(signer, _)| signer)
    }

    /// The exact bytes, signatures included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the tables and checks that they are leaf 0 under this head.
    ///
    /// # Errors
    /// `policy_invalid`; what [`Tables::decode`] refuses; `wrong_bus`.
    pub fn tables(&self, bytes: &[u8], path: &[Hash]) -> Result<Tables, Refused> {
        self.check_leaf(bytes, 0, path)?;
        let tables = Tables::decode(bytes)?;
        if tables.bus == self.fields.bus { Ok(tables) } else { Err(Refused::new(Reason::WrongBus, "tables")) }
    }

    /// Reads a rule and checks that it is leaf `index`, 1 or above, under this head.
    ///
    /// # Errors
    /// `policy_invalid`; what [`Rule::decode`] refuses.
    pub fn rule(&self, bytes: &[u8], index: u32, path: &[Hash]) -> Result<Rule, Refused> {
        if index == 0 {
            return Err(Refused::new(Reason::PolicyInvalid, "rule"));
        }
        self.check_leaf(bytes, index, path)?;
        Rule::decode(bytes)
    }

    /// Reads a flow grant and checks that it is leaf `index`, 1 or above, under this head.
    ///
    /// # Errors
    /// `policy_invalid`; what [`FlowGrant::decode`] refuses.
    pub fn grant(&self, bytes: &[u8], index: u32, path: &[Hash]) -> Result<FlowGrant, Refused> {
        if index == 0 {
            return Err(Refused::new(Reason::PolicyInvalid, "flow grant"));
        }
        self.check_leaf(bytes, index, path)?;
        FlowGrant::decode(bytes)
    }

    fn check_leaf(&self, bytes: &[u8], index: u32, path: &[Hash]) -> Result<(), Refused> {
        let invalid = Refused::new(Reason::PolicyInvalid, WHAT);
        let root = merkle::root_from_path(bytes, u64::from(index), u64::from(self.fields.leaves), path)
            .map_err(|_| invalid)?;
        if root == self.fields.root { Ok(()) } else { Err(invalid) }
    }
}

/// What a bundle says: the records under its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// Names, teams, zones, keys. Leaf 0.
    pub tables: Tables,
    /// The rules, in policy order: leaves from 1 on.
    pub rules: Vec<Rule>,
    /// The flow grants, in policy order: leaves after the rules.
    pub grants: Vec<FlowGrant>,
    /// What only guards go by: the last leaf. None if the policy leaves it to the defaults, and in every excerpt.
    pub supervision: Option<Supervision>,
}

impl Records {
    /// The leaves, encoded.
    #[must_use]
    pub fn leaves(&self) -> Leaves {
        Leaves {
            tables: self.tables.encode(),
            rules: self.rules.iter().map(Rule::encode).collect(),
            grants: self.grants.iter().map(FlowGrant::encode).collect(),
            supervision: self.supervision.as_ref().map(Supervision::encode),
        }
    }

    /// What is to be signed for these records.
    #[must_use]
    pub fn head(&self, version: u64, issued: Millis) -> HeadFields {
        let leaves = self.leaves();
        HeadFields {
            bus: self.tables.bus,
            version,
            root: leaves.tree().root(),
            leaves: u32::try_from(leaves.count()).unwrap_or(u32::MAX),
            issued,
        }
    }
}

/// The encoded leaves of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    /// Leaf 0.
    pub tables: Vec<u8>,
    /// Leaves from 1 on.
    pub rules: Vec<Vec<u8>>,
    /// Leaves after the rules.
    pub grants: Vec<Vec<u8>>,
    /// The last leaf, if there is one.
    pub supervision: Option<Vec<u8>>,
}

impl Leaves {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.rules.len() + self.grants.len() + usize::from(self.supervision.is_some())
    }

    /// The Merkle tree over them; its root is the bundle's digest.
    #[must_use]
    pub fn tree(&self) -> merkle::Tree {
        let records = self.rules.iter().chain(&self.grants).chain(&self.supervision).map(Vec::as_slice);
        merkle::Tree::build(std::iter::once(self.tables.as_slice()).chain(records))
    }
}

/// A whole bundle: head and records. Verified; there is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    head: BundleHead,
    records: Records,
}

impl Bundle {
    /// Signs with the keys at hand, and verifies against `roots`.
    ///
    /// # Errors
    /// What [`verify`](Self::verify) refuses, such as too few keys.
    pub fn sign(
        records: Records,
        version: u64,
        issued: Millis,
        keys: &[&SigningKey],
        roots: &Roots,
    ) -> Result<Self, Refused> {
        let fields = records.head(version, issued);
        let body = fields.encode();
        let signatures: Vec<_> =
            keys.iter().map(|key| (key.public().clone(), key.sign(Purpose::Bundle, &body))).collect();
        let head = BundleHead::verify(&BundleHead::assemble(&fields, &signatures), roots)?;
        Self::verify(&Self { head, records }.encode(), roots)
    }

    /// Writes the bundle: `[head, tables, [rule, …], [flow grant, …], supervision or nil]`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let leaves = self.records.leaves();
        let mut w = Writer::with_capacity(4096 + 256 * leaves.count());
        w.array(5).bin(&self.head.bytes).bin(&leaves.tables);
        for list in [&leaves.rules, &leaves.grants] {
            w.array(list.len());
            for record in list {
                w.bin(record);
            }
        }
        w.option(leaves.supervision.as_ref(), |w, record| {
            w.bin(record);
        });
        w.into_bytes()
    }

    /// Reads a bundle and checks signatures, root, and that no name of a rule or of a flow grant stands twice.
    ///
    /// # Errors
    /// `policy_invalid`, `too_large`; what the parts refuse.
    pub fn verify(bytes: &[u8], roots: &Roots) -> Result<Self, Refused> {
        let invalid = Refused::new(Reason::PolicyInvalid, WHAT);
        if bytes.len() > MAX_BUNDLE {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(5)?;
        let head = BundleHead::verify(r.bin(4096)?, roots)?;
        let tables = r.bin(MAX_BUNDLE)?.to_vec();
        let leaves = Leaves {
            tables,
            rules: list(&mut r, MAX_RULES)?,
            grants: list(&mut r, MAX_GRANTS)?,
            supervision: r.option(|r| Ok(r.bin(MAX_BUNDLE)?.to_vec()))?,
        };
        r.finish()?;
        if usize::try_from(head.fields.leaves) != Ok(leaves.count())
            || leaves.tree().root() != head.fields.root
        {
            return Err(invalid);
        }
        let tables = Tables::decode(&leaves.tables)?;
        if tables.bus != head.fields.bus {
            return Err(Refused::new(Reason::WrongBus, "tables"));
        }
        let rules = leaves.rules.iter().map(|leaf| Rule::decode(leaf)).collect::<Result<Vec<_>, _>>()?;
        let grants =
            leaves.grants.iter().map(|leaf| FlowGrant::decode(leaf)).collect::<Result<Vec<_>, _>>()?;
        if doubled(rules.iter().map(|rule| &rule.name)) || doubled(grants.iter().map(|grant| &grant.name)) {
            return Err(invalid);
        }
        let supervision = leaves.supervision.as_deref().map(Supervision::decode).transpose()?;
        Ok(Self { head, records: Records { tables, rules, grants, supervision } })
    }

    /// What the quorum signed.
    #[must_use]
    pub const fn head(&self) -> &BundleHead {
        &self.head
    }

    /// What it says.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Names, teams, zones, keys.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.records.tables
    }

    /// The rules, in policy order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.records.rules
    }

    /// The flow grants, in policy order.
    #[must_use]
    pub fn grants(&self) -> &[FlowGrant] {
        &self.records.grants
    }

    /// The head, the tables and the rules that `wanted` picks with the grants of use under them, each with its
    /// path, as clients get them.
    #[must_use]
    pub fn excerpt(&self, wanted: impl Fn(&Rule) -> bool) -> Excerpt {
        let leaves = self.records.leaves();
        let tree = leaves.tree();
        let proven = |place: usize, record: &Vec<u8>| ExcerptRecord {
            index: u32::try_from(place).unwrap_or(u32::MAX),
            record: record.clone(),
            path: tree.path(place).unwrap_or_default(),
        };
        let of_use = |grant: &FlowGrant| {
            self.rules().iter().any(|rule| wanted(rule) && grant.to.overlaps(&rule.pattern))
        };
        let rules = self.rules().iter().zip(&leaves.rules).zip(1..);
        let grants = self.grants().iter().zip(&leaves.grants).zip(1 + leaves.rules.len()..);
        Excerpt {
            head: self.head.bytes.clone(),
            tables: leaves.tables.clone(),
            tables_path: tree.path(0).unwrap_or_default(),
            rules: rules
                .filter(|((rule, _), _)| wanted(rule))
                .map(|((_, leaf), place)| proven(place, leaf))
                .collect(),
            grants: grants
                .filter(|((grant, _), _)| of_use(grant))
                .map(|((_, leaf), place)| proven(place, leaf))
                .collect(),
        }
    }
}

fn list(r: &mut Reader<'_>, most: usize) -> Result<Vec<Vec<u8>>, Refused> {
    let count = r.array_len(most)?;
    (0..count).map(|_| Ok(r.bin(MAX_BUNDLE)?.to_vec())).collect()
}

fn doubled<'a>(names: impl Iterator<Item = &'a Name>) -> bool {
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

/// The part of a bundle that concerns one agent, provable alone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Excerpt {
    /// The head with its signatures.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
    /// Leaf 0.
    #[serde(with = "serde_bytes")]
    pub tables: Vec<u8>,
    /// The path of leaf 0.
    #[serde(with = "flat")]
    pub tables_path: Vec<Hash>,
    /// Rules with their paths.
    pub rules: Vec<ExcerptRecord>,
    /// Flow grants with their paths.
    pub grants: Vec<ExcerptRecord>,
}

/// One rule or flow grant of an [`Excerpt`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExcerptRecord {
    /// Which leaf.
    pub index: u32,
    /// The record.
    #[serde(with = "serde_bytes")]
    pub record: Vec<u8>,
    /// Its path.
    #[serde(with = "flat")]
    pub path: Vec<Hash>,
}

/// A path as one byte string of 32-byte hashes.
mod flat {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::hash::Hash;

    pub(super) fn serialize<S: Serializer>(path: &[Hash], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(path.as_flattened())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hash>, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        match bytes.as_chunks::<32>() {
            (path, []) => Ok(path.to_vec()),
            _ => Err(D::Error::custom("a Merkle path is a whole number of 32-byte hashes")),
        }
    }
}

impl Excerpt {
    /// Checks every part against the quorum's signatures.
    ///
    /// # Errors
    /// What [`BundleHead::verify`], [`BundleHead::tables`], [`BundleHead::rule`] and [`BundleHead::grant`] refuse.
    pub fn verify(&self, roots: &Roots) -> Result<(BundleHead, Records), Refused> {
        let head = BundleHead::verify(&self.head, roots)?;
        let tables = head.tables(&self.tables, &self.tables_path)?;
        let rules = self.rules.iter().map(|rule| head.rule(&rule.record, rule.index, &rule.path));
        let rules = rules.collect::<Result<_, _>>()?;
        let grants = self.grants.iter().map(|grant| head.grant(&grant.record, grant.index, &grant.path));
        let grants = grants.collect::<Result<_, _>>()?;
        Ok((head, Records { tables, rules, grants, supervision: None }))
    }
}

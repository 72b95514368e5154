//! Signed orders: what no person may do alone, such as clearing what an agent was given to read.
//!
//! Policy keys sign an order, as many as [its kind](OrderKind::needed) and the policy want; whoever carries it need not
//! be trusted, so a guard takes it from anybody. It names its bus, whom it concerns, why, and until when it is good, and
//! its id is carried out once. It may be signed in several places: a [`Draft`] collects signatures, and once they are
//! enough its bytes are a [`SignedOrder`].
//!
//! ```
//! use sealbus_envelope::{
//!     identity::{Roots, SigningKey}, name::{AgentToken, Name}, time::Millis,
//!     order::{Draft, Order, OrderId, OrderKind, SignedOrder, Target},
//! };
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let [issuer, ann, bob, agent] = std::array::from_fn(|_| SigningKey::generate(rng));
//! let roots = Roots {
//!     name: Name::parse("demo")?, issuer: issuer.public().clone(),
//!     policy_keys: vec![ann.public().clone(), bob.public().clone()], quorum: 2,
//! };
//! let order = Order {
//!     bus: roots.bus(), id: OrderId::generate(rng), kind: OrderKind::ClearTaint,
//!     target: Target::Agent {
//!         token: AgentToken::new(&Name::parse("reader")?, agent.public()), identity: agent.public().clone(),
//!     },
//!     reason: "started again with an empty memory".to_owned(), issued: Millis(0), valid_until: Millis(600_000),
//! };
//! let mut draft = Draft::new(order, &roots)?;
//! draft.sign(&ann, &roots)?;
//! assert!(SignedOrder::verify(&draft.encode(), &roots).is_err(), "one person is no quorum");
//! draft.sign(&bob, &roots)?;
//! let order = SignedOrder::verify(&draft.encode(), &roots)?;
//! order.check_time(Millis(60_000))?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

use rand_core::CryptoRng;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, PublicKey, Purpose, Roots, Signature, SigningKey},
    policy::{MAX_SIGNATURES, Supervision},
    reason::{Reason, Refused},
    time::Millis,
    wire::codec::{Reader, Writer},
};

mod kind;
mod target;

pub use kind::OrderKind;
pub use target::{Target, Workflow};

/// The largest signed order, in bytes.
pub const MAX_ORDER: usize = 4_096;
/// The longest text that says why, in bytes.
pub const MAX_ORDER_REASON: usize = 512;
/// The longest time for which an order is good, in milliseconds: guards remember its id for as long.
pub const MAX_ORDER_MS: u64 = 24 * 3_600_000;
/// How far the clock of who made an order may be ahead of a guard's, in milliseconds.
pub const ORDER_SKEW_MS: u64 = 60_000;
const MAX_BODY: usize = 1_024;
const VERSION: u8 = 1;
const WHAT: &str = "order";

/// An order's id: random, and carried out once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId([u8; 16]);

impl OrderId {
    /// A fresh one.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// An id that was received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(&self.0))
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderId({self})")
    }
}

/// An order, as people sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The bus it is for.
    pub bus: BusId,
    /// Which order: no two have the same.
    pub id: OrderId,
    /// What is ordered.
    pub kind: OrderKind,
    /// Whom or what it concerns.
    pub target: Target,
    /// Why, in words, for the log: from 1 to [`MAX_ORDER_REASON`] bytes without control, invisible or turning
    /// characters.
    pub reason: String,
    /// When it was made.
    pub issued: Millis,
    /// From when on it is refused, at most [`MAX_ORDER_MS`] after `issued`.
    pub valid_until: Millis,
}

impl Order {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.array(8).uint(VERSION).bin(self.bus.as_bytes()).bin(self.id.as_bytes());
        w.array(1).uint(self.kind.number());
        self.target.write(&mut w);
        w.str(&self.reason).uint(self.issued.0).uint(self.valid_until.0);
        w.into_bytes()
    }

    fn decode(bytes: &[u8], bus: BusId) -> Result<Self, Refused> {
        let mut r = Reader::new(bytes, WHAT);
        r.array(8)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        if r.bin_array()? != *bus.as_bytes() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        let order = Self {
            bus,
            id: OrderId(r.bin_array()?),
            kind: OrderKind::read(&mut r)?,
            target: Target::read(&mut r)?,
            reason: r.str(MAX_ORDER_REASON)?.to_owned(),
            issued: Millis(r.uint()?),
            valid_until: Millis(r.uint()?),
        };
        r.finish()?;
        order.check()?;
        Ok(order)
    }

    fn check(&self) -> Result<(), Refused> {
        let invalid = |what| Err(Refused::new(Reason::OrderInvalid, what));
        if self.kind.is_of_workflow() != matches!(self.target, Target::Workflow(_)) {
            return invalid("order.target");
        }
        // It is shown on the terminals of who signs and who searches the log.
        if self.reason.trim().is_empty() || self.reason.chars().any(misleads) {
            return invalid("order.reason");
        }
        let lifetime = self.valid_until.since(self.issued);
        if lifetime == 0 || lifetime > MAX_ORDER_MS {
            return Err(Refused::new(Reason::BadTime, "order.valid_until"));
        }
        Ok(())
    }
}

/// Characters that show as something else than they are: control characters, invisible ones, and those that turn the
/// direction of the text. People sign what they read.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// An order that may lack signatures. Those that it has are good, each of another policy key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    order: Order,
    body: Vec<u8>,
    signatures: Vec<(PublicKey, Signature)>,
}

impl Draft {
    /// An order that nobody has signed yet.
    ///
    /// # Errors
    /// What [`decode`](Self::decode) refuses of an order.
    pub fn new(order: Order, roots: &Roots) -> Result<Self, Refused> {
        let body = order.encode();
        let order = Order::decode(&body, roots.bus())?;
        Ok(Self { order, body, signatures: Vec::new() })
    }

    /// Reads what [`encode`](Self::encode) wrote and checks every signature on it.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `bad_name`, `weak_key`, `bad_time`;
    /// `order_unknown` if the kind is not known; `order_invalid` if a signature is not good, its key is not a
    /// policy key or signs twice, the identity is not the agent's, the target is none for the kind, or the reason is
    /// empty or no plain text.
    pub fn decode(bytes: &[u8], roots: &Roots) -> Result<Self, Refused> {
        if bytes.len() > MAX_ORDER {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(2)?;
        let body = r.bin(MAX_BODY)?;
        let count = r.array_len(MAX_SIGNATURES)?;
        let mut signatures: Vec<(PublicKey, Signature)> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(2)?;
            let key: [u8; 32] = r.bin_array()?;
            let signature: Signature = r.bin_array()?;
            // Who has no policy key costs no more than this comparison.
            let key = roots.policy_keys.iter().find(|root| *root.as_bytes() == key);
            let key = key.ok_or(Refused::new(Reason::OrderInvalid, "order.key"))?;
            if signatures.iter().any(|(signer, _)| signer == key) {
                return Err(Refused::new(Reason::OrderInvalid, "order.key twice"));
            }
            key.verify(Purpose::Order, body, &signature)
                .map_err(|_| Refused::new(Reason::OrderInvalid, "order.signature"))?;
            signatures.push((key.clone(), signature));
        }
        r.finish()?;
        Ok(Self { order: Order::decode(body, roots.bus())?, body: body.to_vec(), signatures })
    }

    /// The draft for the next who signs; with enough signatures, the signed order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.body.len() + 112 * self.signatures.len() + 8);
        w.array(2).bin(&self.body).array(self.signatures.len());
        for (key, signature) in &self.signatures {
            w.array(2).bin(key.as_bytes()).bin(signature);
        }
        w.into_bytes()
    }

    /// Signs it. Whether that added a signature: one key's counts once.
    ///
    /// # Errors
    /// `order_invalid` if the key is not a policy key; `too_large` if there are as many signatures as fit.
    pub fn sign(&mut self, key: &SigningKey, roots: &Roots) -> Result<bool, Refused> {
        if !roots.policy_keys.contains(key.public()) {
            return Err(Refused::new(Reason::OrderInvalid, "order.key"));
        }
        if self.signers().any(|signer| signer == key.public()) {
            return Ok(false);
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(Refused::new(Reason::TooLarge, "order.signatures"));
        }
        self.signatures.push((key.public().clone(), key.sign(Purpose::Order, &self.body)));
        Ok(true)
    }

    /// What is ordered.
    #[must_use]
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// Who has signed, in that order.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// How many more must sign, if the policy asks for no more than [`OrderKind::needed`].
    #[must_use]
    pub fn missing(&self, roots: &Roots) -> usize {
        self.order.kind.needed(roots).saturating_sub(self.signatures.len())
    }

    /// Hash of what was signed: the same whoever signed it.
    #[must_use]
    pub fn digest(&self) -> Hash {
        hash::hash(Context::Order, &[&self.body])
    }
}

/// An order that as many signed as its kind needs, verified. There is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOrder(Draft);

impl SignedOrder {
    /// Reads an order and checks that enough different policy keys of `roots` signed it. Whether its time has
    /// come, and is not over, is checked apart, by [`check_time`](Self::check_time).
    ///
    /// # Errors
    /// What [`Draft::decode`] refuses; `order_invalid` if they are fewer than the kind needs. A policy may ask for
    /// more: [`check_quorum`](Self::check_quorum).
    pub fn verify(bytes: &[u8], roots: &Roots) -> Result<Self, Refused> {
        let draft = Draft::decode(bytes, roots)?;
        if draft.missing(roots) == 0 {
            Ok(Self(draft))
        } else {
            Err(Refused::new(Reason::OrderInvalid, "order.quorum"))
        }
    }

    /// Checks that as many signed as the policy asks for.
    ///
    /// # Errors
    /// `order_invalid`.
    pub fn check_quorum(&self, supervision: &Supervision) -> Result<(), Refused> {
        if self.signers().count() < supervision.quorum(self.order().kind) {
            return Err(Refused::new(Reason::OrderInvalid, "order.quorum"));
        }
        Ok(())
    }

    /// Checks that the order is good at `now`.
    ///
    /// # Errors
    /// `not_yet_valid` if it was made more than [`ORDER_SKEW_MS`] after `now`; `order_expired`.
    pub fn check_time(&self, now: Millis) -> Result<(), Refused> {
        let order = self.order();
        if order.issued.since(now) > ORDER_SKEW_MS {
            Err(Refused::new(Reason::NotYetValid, WHAT))
        } else if now >= order.valid_until {
            Err(Refused::new(Reason::OrderExpired, WHAT))
        } else {
            Ok(())
        }
    }

    /// What is ordered.
    #[must_use]
    pub const fn order(&self) -> &Order {
        self.0.order()
    }

    /// Who signed.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.signers()
    }

    /// Hash of what was signed: the same whoever signed it.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests;

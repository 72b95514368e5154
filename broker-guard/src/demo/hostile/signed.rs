//! What the guard stops: messages that the server lets through, for they come on the sender's own subject.

use bytes::Bytes;
use sealbus_client::Publish;
use sealbus_envelope::{
    control::{Subscribe, Subscribed, kind, verb},
    label::Level,
    name::Name,
    subject::Pattern,
    wire::Decoded,
};
use serde_json::Value;

use super::{Fault, Guardian, Hostile, Stopped, has, publish, reason};

const GREETING: &str = "hello.world";

impl Hostile {
    pub(super) async fn ask_for_keys(&mut self) -> Result<Stopped, Fault> {
        let wanted = Subscribe {
            id: 1,
            rule: Name::parse("findings")?,
            pattern: Pattern::parse("findings.>")?,
            serve: false,
        };
        self.thief.say(verb::SUBSCRIBE, &wanted).await?;
        let answer: Subscribed = self.thief.answer(kind::SUBSCRIBED).await?;
        let reason = answer.refused.ok_or(Fault::Not("the guard will give it the keys"))?;
        Ok((Guardian::Guard, reason.code().to_owned()))
    }

    /// The client sends a greeting; the thief, who may read it on the wire, sends the same bytes again.
    pub(super) async fn replay(&mut self) -> Result<Stopped, Fault> {
        let envelope = self.greeting().await?;
        let id = Decoded::decode(&envelope)?.claimed().id.to_string();
        let subject = self.thief.session.ingress(GREETING);
        publish(&mut self.thief.wire, &subject, &envelope).await?;
        self.denied(&id).await
    }

    /// Publishes a greeting through the client and takes its bytes off the wire as they are delivered; the
    /// witness must have got it too.
    async fn greeting(&mut self) -> Result<Bytes, Fault> {
        let subject = self.thief.session.subjects().delivery(Level::LOWEST, GREETING);
        self.thief.listen(&subject).await?;
        self.client.send_confirmed(Publish::new(GREETING, "good morning")).await?;
        self.greetings += 1;
        let message = self.inbox.next().await.ok_or(Fault::Not("the witness left"))?;
        self.witness.tally.got(&message);
        let delivered = self.thief.delivered(&subject).await?;
        self.broker.catch(delivered.clone());
        Ok(delivered.payload)
    }

    pub(super) async fn alter(&mut self) -> Result<Stopped, Fault> {
        let key = self.thief.key.clone();
        let fields = self.thief.fields(&key)?;
        let mut envelope = self.thief.envelope(&fields, &key)?;
        // The payload is much larger than all else, so the middle is inside the ciphertext.
        let middle = envelope.len() / 2;
        if let Some(byte) = envelope.get_mut(middle) {
            *byte ^= 1;
        }
        self.thief.publish(&envelope).await?;
        self.denied(&fields.id.to_string()).await
    }

    /// Signed by the thief, in the name of the analyst's session: nothing of it may be held against the
    /// analyst.
    pub(super) async fn frame_analyst(&mut self) -> Result<Stopped, Fault> {
        let victim = self.thief.victim.clone();
        let key = self.thief.secret_key_of(victim.session)?;
        let mut fields = self.thief.fields(&key)?;
        fields.sender = victim.agent.clone();
        fields.session = victim.session;
        let envelope = self.thief.envelope(&fields, &key)?;
        self.thief.publish(&envelope).await?;
        let (id, own) = (fields.id.to_string(), self.thief.session.agent().to_string());
        let event =
            self.watch.until(|event| has(event, "kind", "denied") && has(event, "envelope", &id)).await?;
        if has(&event, "agent", &own) && event.get("signed") == Some(&Value::Bool(false)) {
            Ok((Guardian::Guard, reason(&event)))
        } else {
            Err(Fault::Not("it is held against the analyst"))
        }
    }

    pub(super) async fn lower_label(&mut self) -> Result<Stopped, Fault> {
        let label = self.client.label("public/deps/untrusted")?;
        self.mislabelled(label).await
    }

    pub(super) async fn above_clearance(&mut self) -> Result<Stopped, Fault> {
        let label = self.client.label("confidential/deps/untrusted")?;
        self.mislabelled(label).await
    }

    async fn mislabelled(&mut self, label: sealbus_envelope::label::Label) -> Result<Stopped, Fault> {
        let key = self.thief.secret_key(label)?;
        let fields = self.thief.fields(&key)?;
        let envelope = self.thief.envelope(&fields, &key)?;
        self.thief.publish(&envelope).await?;
        self.denied(&fields.id.to_string()).await
    }
}

//! What an envelope's sender says, for whoever opened it: admitted or not, it is read alike.

/// The accessors of what `opened` holds, with the sender in `sender` and the policy in `view`.
macro_rules! said_by_its_sender {
    () => {
        /// The payload.
        #[must_use]
        pub fn payload(&self) -> &[u8] {
            &self.opened.content().payload
        }

        /// Its media type, as the sender says.
        #[must_use]
        pub fn content_type(&self) -> &str {
            &self.opened.content().content_type
        }

        /// The logical subject it was published on.
        #[must_use]
        pub fn subject(&self) -> &str {
            self.opened.header().subject.as_str()
        }

        /// The rule it was published under.
        #[must_use]
        pub fn rule(&self) -> &str {
            self.opened.header().rule.as_str()
        }

        /// Its label.
        #[must_use]
        pub const fn label(&self) -> sealbus_envelope::label::Label {
            self.opened.header().label
        }

        /// Its label in the policy's words, such as `internal/deps+findings/checked`.
        #[must_use]
        pub fn label_text(&self) -> String {
            self.view.tables.show(self.label())
        }

        /// The sender as subjects name it: unique on the bus, even among bearers of one name.
        #[must_use]
        pub fn sender_token(&self) -> &str {
            self.sender.token().as_str()
        }

        /// The envelope's digest: what approvals, parents, receipts and the audit log name it by.
        #[must_use]
        pub const fn digest(&self) -> sealbus_envelope::hash::Hash {
            self.opened.digest()
        }

        /// When it was sealed, by the sender's clock.
        #[must_use]
        pub const fn issued_at(&self) -> sealbus_envelope::time::Millis {
            self.opened.header().issued_at
        }

        /// What it was derived from, as its sender says.
        #[must_use]
        pub fn parents(&self) -> &[sealbus_envelope::wire::Parent] {
            &self.opened.header().parents
        }
    };
}

pub(crate) use said_by_its_sender;

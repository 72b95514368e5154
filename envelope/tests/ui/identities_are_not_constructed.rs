//! Credentials, certificates, members and policy heads come out of verification only.
use sealbus_envelope::identity::{Claims, Credential, Member, PublicKey, SessionCertificate};
use sealbus_envelope::policy::{Bundle, BundleHead, HeadFields};

fn credential(claims: Claims) -> Credential {
    Credential { claims }
}

fn certificate(identity: PublicKey) -> SessionCertificate {
    SessionCertificate { identity }
}

fn member(credential: Credential, certificate: SessionCertificate) -> Member {
    Member { credential, certificate }
}

fn head(fields: HeadFields) -> BundleHead {
    BundleHead { fields }
}

fn bundle(head: BundleHead) -> Bundle {
    Bundle { head }
}

fn main() {}

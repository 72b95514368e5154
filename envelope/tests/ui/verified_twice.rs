//! A step takes what it steps from: nobody keeps an unverified copy by accident.
use sealbus_envelope::{identity::{Credential, SessionCertificate}, wire::Decoded};

fn twice(decoded: Decoded<'_>, certificate: &SessionCertificate, credential: &Credential) {
    let _ = decoded.verify(certificate, credential, &());
    let _ = decoded.claimed();
}

fn main() {}

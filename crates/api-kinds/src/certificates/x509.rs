//! What has to be known of certificates and of requests for them.

use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

/// A certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    /// The extension of authorities says so; `None` where it does not parse.
    pub(super) is_ca: Option<bool>,
    /// Unix seconds.
    pub(super) not_before: i64,
    /// Unix seconds.
    pub(super) not_after: i64,
    /// SubjectPublicKeyInfo in DER.
    pub(super) public_key: Vec<u8>,
}

/// Reads a certificate; `None` where it is none.
pub(super) fn certificate(der: &[u8]) -> Option<Certificate> {
    let (rest, parsed) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let is_ca = match parsed.basic_constraints() {
        Ok(Some(constraints)) => Some(constraints.value.ca),
        Ok(None) => Some(false),
        Err(_) => None,
    };
    Some(Certificate {
        is_ca,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        public_key: parsed.public_key().raw.to_vec(),
    })
}

/// A request for a certificate (PKCS #10).
#[derive(Debug)]
pub(super) struct Request {
    /// SubjectPublicKeyInfo in DER.
    pub(super) public_key: Vec<u8>,
    /// Which key it is.
    pub(super) key: Key,
    /// Whether the key's owner signed it.
    pub(super) signed: bool,
}

/// A kind of public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// With the size of its modulus.
    Rsa { bits: usize },
    /// With the size of its field.
    Elliptic { bits: usize },
    /// Ed25519.
    Ed25519,
    /// Anything else.
    Unknown,
}

const ED25519_OID: &str = "1.3.101.112";

/// Reads a request; `None` where it is none.
pub(super) fn request(der: &[u8]) -> Option<Request> {
    let (rest, parsed) = X509CertificationRequest::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let info = &parsed.certification_request_info.subject_pki;
    let key = match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => Key::Rsa { bits: rsa.key_size() },
        Ok(PublicKey::EC(point)) => Key::Elliptic { bits: point.key_size() },
        _ if info.algorithm.algorithm.to_id_string() == ED25519_OID => Key::Ed25519,
        _ => Key::Unknown,
    };
    let signed = pki::is_signed_request(der);
    Some(Request { public_key: info.raw.to_vec(), key, signed })
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn junk_is_refused(bytes: Vec<u8>) {
            proptest::prop_assert!(super::certificate(&bytes).is_none());
            proptest::prop_assert!(super::request(&bytes).is_none());
        }
    }
}

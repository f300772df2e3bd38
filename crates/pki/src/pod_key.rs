//! A key that a pod gets with its certificate (KEP-4317).

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SignatureAlgorithm,
};

use crate::Error;

/// A new key and the request that proves it.
pub struct PodKey {
    /// PKCS#8 PEM. Secret.
    pub pem: String,
    /// PKCS #10, DER, of no name: whom the certificate is for the signer learns
    /// from the API.
    pub request: Vec<u8>,
}

impl std::fmt::Debug for PodKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PodKey")
    }
}

/// The kinds of keys, by the API's names.
const KINDS: [(&str, &SignatureAlgorithm); 3] = [
    ("ECDSAP256", &PKCS_ECDSA_P256_SHA256),
    ("ECDSAP384", &PKCS_ECDSA_P384_SHA384),
    ("ED25519", &PKCS_ED25519),
];

impl PodKey {
    /// Makes a key of the kind that the API calls so; `None` where no such key can
    /// be made here (RSA, P-521).
    ///
    /// # Errors
    /// Where the random source fails.
    pub fn generate(kind: &str) -> Option<Result<Self, Error>> {
        let (_, algorithm) = KINDS.iter().find(|(name, _)| *name == kind)?;
        let make = || {
            let key = KeyPair::generate_for(algorithm)?;
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            let request = params.serialize_request(&key)?.der().to_vec();
            Ok(Self { pem: key.serialize_pem(), request })
        };
        Some(make())
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

    use super::*;

    #[test]
    fn a_request_is_signed_by_its_key_and_names_nobody() {
        for (kind, _) in KINDS {
            let key = PodKey::generate(kind).expect("a kind").expect("a key");
            assert!(key.pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{kind}");
            let (rest, request) =
                X509CertificationRequest::from_der(&key.request).expect("a request");
            assert!(rest.is_empty());
            request.verify_signature().expect(kind);
            assert_eq!(request.certification_request_info.subject.to_string(), "");
        }
        for kind in ["RSA3072", "ECDSAP521", ""] {
            assert!(PodKey::generate(kind).is_none(), "{kind}");
        }
    }
}

//! A key that a pod gets with its certificate (KEP-4317).

use std::io;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SignatureAlgorithm,
};
use ring::rand::{SecureRandom, SystemRandom};
use rsa::{
    pkcs8::{EncodePrivateKey, LineEnding},
    rand_core::{TryCryptoRng, TryRng},
};

use crate::{Error, p521};

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

/// How a key is made.
enum Make {
    Curve(&'static SignatureAlgorithm),
    P521,
    Rsa { bits: usize },
}

/// The kinds of keys, by the API's names.
const KINDS: [(&str, Make); 6] = [
    ("ECDSAP256", Make::Curve(&PKCS_ECDSA_P256_SHA256)),
    ("ECDSAP384", Make::Curve(&PKCS_ECDSA_P384_SHA384)),
    ("ECDSAP521", Make::P521),
    ("ED25519", Make::Curve(&PKCS_ED25519)),
    ("RSA3072", Make::Rsa { bits: 3072 }),
    ("RSA4096", Make::Rsa { bits: 4096 }),
];

impl PodKey {
    /// Makes a key of the kind that the API calls so; `None` where there is no such
    /// kind. RSA takes a second or more: not for a thread that others wait for.
    ///
    /// # Errors
    /// Where the random source fails.
    pub fn generate(kind: &str) -> Option<Result<Self, Error>> {
        let (_, make) = KINDS.iter().find(|(name, _)| *name == kind)?;
        Some(match make {
            Make::Curve(algorithm) => {
                KeyPair::generate_for(algorithm).map_err(Error::from).and_then(|key| asked(&key))
            }
            Make::P521 => p521::generate(),
            Make::Rsa { bits } => rsa(*bits).and_then(|key| asked(&key)),
        })
    }
}

fn asked(key: &KeyPair) -> Result<PodKey, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key)?.der().to_vec();
    Ok(PodKey { pem: key.serialize_pem(), request })
}

/// The one thing that is done with `rsa` is to find the primes; what the key signs,
/// it signs with `ring`.
fn rsa(bits: usize) -> Result<KeyPair, Error> {
    let key = rsa::PrivateKey::new(&mut Random(SystemRandom::new()), bits)
        .map_err(|error| Error::Crypto(error.to_string()))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::Crypto(error.to_string()))?;
    Ok(KeyPair::from_pem(&pem)?)
}

/// The system's randomness, as `rsa` asks for it.
struct Random(SystemRandom);

impl TryRng for Random {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.fill(bytes).map_err(|_| io::Error::other("the system's random source failed"))
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

    use super::*;
    use crate::request::is_signed;

    #[test]
    fn a_request_is_signed_by_its_key_and_names_nobody() {
        for (kind, _) in KINDS {
            let key = PodKey::generate(kind).expect("a kind").expect("a key");
            assert!(key.pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{kind}");
            let (rest, request) =
                X509CertificationRequest::from_der(&key.request).expect("a request");
            assert!(rest.is_empty());
            assert!(is_signed(&request), "{kind}");
            assert_eq!(request.certification_request_info.subject.to_string(), "");
        }
        for kind in ["RSA2048", "ECDSAP224", ""] {
            assert!(PodKey::generate(kind).is_none(), "{kind}");
        }
    }
}

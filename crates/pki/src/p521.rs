//! Keys of the curve P-521, which the cryptography of the rest does not have: made,
//! asked for, verified, and put into certificates. They are keys of pods and of users
//! who ask for certificates; our own are of P-256.

use p521::{
    SecretKey,
    ecdsa::{
        DerSignature, SigningKey, VerifyingKey,
        signature::{Signer, hazmat::PrehashVerifier},
    },
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
};
use rcgen::{KeyPair, PublicKeyData, SigningKey as _};
use ring::{
    digest::{SHA256, SHA384, SHA512, digest},
    rand::{SecureRandom, SystemRandom},
};
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

use crate::{Error, pod_key::PodKey};

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// Version 0 of a request, and its empty name.
const VERSION_AND_NOBODY: [u8; 5] = [0x02, 0x01, 0x00, SEQUENCE, 0x00];
const NO_ATTRIBUTES: [u8; 2] = [0xa0, 0x00];
/// AlgorithmIdentifiers of `ecdsa-with-SHA256` and `ecdsa-with-SHA512` (RFC 5758).
const ECDSA_SHA256: [u8; 12] =
    [SEQUENCE, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA512: [u8; 12] =
    [SEQUENCE, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const SECP521R1: &str = "1.3.132.0.35";

/// A new key, and the request that it signed.
pub(crate) fn generate() -> Result<PodKey, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Crypto(error.to_string());
    let key = random()?;
    let public = key.public_key().to_public_key_der().map_err(|error| failed(&error))?;
    let info = [&VERSION_AND_NOBODY[..], public.as_bytes(), &NO_ATTRIBUTES].concat();
    let info = element(SEQUENCE, &info);
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(&error))?;
    let signature: DerSignature = SigningKey::from(&key).sign(&info);
    let request = signed(&info, &ECDSA_SHA512, signature.as_bytes());
    Ok(PodKey { pem: pem.to_string(), request })
}

fn random() -> Result<SecretKey, Error> {
    let mut bytes = [0; 66];
    loop {
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::Crypto("the system's random source failed".into()))?;
        // 521 bits. Nearly all such numbers are below the curve's order, and not zero.
        bytes[0] &= 1;
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}

/// Whether a public key is of this curve.
pub(crate) fn is_key(info: &SubjectPublicKeyInfo<'_>) -> bool {
    let algorithm = &info.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve.to_id_string() == SECP521R1)
}

/// Whether a request for a key of this curve is signed by it.
pub(crate) fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    let hash = match request.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => &SHA256,
        "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.10045.4.3.4" => &SHA512,
        _ => return false,
    };
    let info = &request.certification_request_info;
    let (Ok(key), Ok(signature)) = (
        VerifyingKey::from_sec1_bytes(&info.subject_pki.subject_public_key.data),
        DerSignature::from_bytes(&request.signature_value.data),
    ) else {
        return false;
    };
    key.verify_prehash(digest(hash, info.raw).as_ref(), &signature).is_ok()
}

/// How TLS verifies what such a key has signed.
pub(crate) const VERIFICATIONS: &[&dyn SignatureVerificationAlgorithm] = &[&Sha512];

/// `ecdsa-with-SHA512`, the one hash that TLS 1.3 has for this curve.
#[derive(Debug)]
struct Sha512;

impl SignatureVerificationAlgorithm for Sha512 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::from_bytes(signature).map_err(|_| InvalidSignature)?;
        let hash = digest(&SHA512, message);
        key.verify_prehash(hash.as_ref(), &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

/// A request that says the same of another key, for who cannot read this one.
pub(crate) fn with_stand_in(
    request: &X509CertificationRequest<'_>,
    stand_in: &KeyPair,
) -> Result<Vec<u8>, Error> {
    let info = &request.certification_request_info;
    let new = stand_in.subject_public_key_info();
    let info = replaced(info.raw, info.subject_pki.raw, &new)?;
    Ok(signed(&info, &ECDSA_SHA256, &stand_in.sign(&info)?))
}

/// The certificate that was made for a stand-in, for the key itself.
pub(crate) fn without_stand_in(
    certificate: &[u8],
    key: &[u8],
    issuer: &KeyPair,
) -> Result<Vec<u8>, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Error::Crypto(format!("no X.509 certificate: {error}")))?;
    let body: &[u8] = parsed.tbs_certificate.as_ref();
    // What the body is signed with is said behind it.
    let algorithm = content(certificate)
        .and_then(|content| content.get(body.len()..))
        .and_then(|rest| rest.get(..length(rest)?))
        .ok_or_else(damaged)?;
    let body = replaced(body, parsed.tbs_certificate.subject_pki.raw, key)?;
    Ok(signed(&body, algorithm, &issuer.sign(&body)?))
}

fn damaged() -> Error {
    Error::Crypto("DER that does not hold what it should".into())
}

/// A sequence with another element in the place of one.
fn replaced(sequence: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>, Error> {
    let content = content(sequence).ok_or_else(damaged)?;
    let at = content.windows(old.len().max(1)).position(|part| part == old);
    let at = at.ok_or_else(damaged)?;
    Ok(element(SEQUENCE, &[&content[..at], new, &content[at + old.len()..]].concat()))
}

/// What all that is signed looks like.
fn signed(body: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    // The zero is the number of bits that do not count.
    let signature = element(BIT_STRING, &[&[0], signature].concat());
    element(SEQUENCE, &[body, algorithm, &signature].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    if content.len() > 127 {
        out.push(0x80 | u8::try_from(digits.len()).expect("eight at most"));
    }
    out.extend_from_slice(digits);
    out.extend_from_slice(content);
    out
}

/// How long the element is that DER begins with: its head, and all of it.
fn lengths(der: &[u8]) -> Option<(usize, usize)> {
    let (head, content) = match *der.get(1)? {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let digits = der.get(2..2 + usize::from(long & 0x7f))?;
            let value =
                |sum: usize, digit: &u8| Some((sum.checked_mul(256)?) + usize::from(*digit));
            (2 + digits.len(), digits.iter().try_fold(0, value)?)
        }
    };
    Some((head, head.checked_add(content)?))
}

fn length(der: &[u8]) -> Option<usize> {
    Some(lengths(der)?.1)
}

fn content(der: &[u8]) -> Option<&[u8]> {
    let (head, all) = lengths(der)?;
    der.get(head..all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_as_long_as_they_say() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; len];
            let made = element(SEQUENCE, &bytes);
            assert_eq!(content(&made), Some(&bytes[..]), "{len}");
            assert_eq!(length(&made), Some(made.len()));
        }
        for cut in [&[][..], &[0x30], &[0x30, 0x82, 1], &[0x30, 5, 1], &[0x30, 0x89, 1]] {
            assert_eq!(content(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn a_request_is_believed_only_as_it_was_signed() {
        let key = generate().expect("a key");
        let (rest, request) = X509CertificationRequest::from_der(&key.request).expect("a request");
        assert!(rest.is_empty() && is_signed(&request));
        assert!(is_key(&request.certification_request_info.subject_pki));
        let other = generate().expect("a key");
        let (_, other) = X509CertificationRequest::from_der(&other.request).expect("a request");
        let info = request.certification_request_info.raw;
        let forged = signed(info, &ECDSA_SHA512, &other.signature_value.data);
        let (_, forged) = X509CertificationRequest::from_der(&forged).expect("a request");
        assert!(!is_signed(&forged));
    }
}

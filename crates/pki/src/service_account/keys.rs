//! The keys that sign tokens: loading, signing, verifying, publishing.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use VerifyError::{Foreign, Refused};

use super::{
    Claims, LegacyClaims,
    claims::{LEGACY_ISSUER, user_name},
};
use crate::{
    Error,
    authority::sha256,
    file::{self, Durable},
};

/// Longer texts are no token of ours and are not parsed at all.
const LENGTH_MAX: usize = 16 * 1024;
/// How far the clocks of two servers may differ, in seconds.
const LEEWAY_SECONDS: i64 = 60;

/// One or more keys; the first signs, all verify. To rotate, put a new key
/// before the old one, and remove the old one when its tokens have expired.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    /// Base64url of the SHA-256 of the public key (SPKI), as upstream's.
    id: String,
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for KeySet {
    /// The IDs only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a token that this cluster could have issued; another authenticator
    /// may know it.
    #[error("not a token of this cluster: {0}")]
    Foreign(&'static str),
    /// Issued here and not acceptable.
    #[error("{0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl KeySet {
    /// Loads the keys, or makes the first one, whose name the caller syncs.
    ///
    /// # Errors
    /// Where the file is there and holds no usable key: making a new one would
    /// end every token in use.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if let Some(pem) = file::read(path)? {
            return Self::from_pem(&pem).map_err(|fault| Error::Unusable {
                path: path.into(),
                fault,
                advice: "restore it from a backup; removing it makes a new key, and every ServiceAccount token ends",
            });
        }
        let pem = Self::new_pem()?;
        file::write(path, &pem, Durable::Yes)?;
        Self::from_pem(&pem).map_err(Error::Crypto)
    }

    /// A new key as PKCS#8 PEM.
    pub(crate) fn new_pem() -> Result<String, Error> {
        Ok(KeyPair::generate()?.serialize_pem())
    }

    /// Reads P-256 keys in PKCS#8 PEM form.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for der in PrivatePkcs8KeyDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|error| format!("no private key in PEM form ({error})"))?;
            let fault =
                |error: &dyn std::fmt::Display| format!("no P-256 key in PKCS#8 form ({error})");
            let spki = KeyPair::try_from(&der).map_err(|error| fault(&error))?;
            let pair = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                der.secret_pkcs8_der(),
                &SystemRandom::new(),
            )
            .map_err(|error| fault(&error))?;
            let id = URL_SAFE_NO_PAD.encode(sha256(&spki.subject_public_key_info()));
            keys.push(Key { id, pair });
        }
        match keys.is_empty() {
            true => Err("holds no private key".into()),
            false => Ok(Self { keys }),
        }
    }

    /// Signs a token.
    ///
    /// # Errors
    /// Where the system's random source fails.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let key = self.keys.first().ok_or_else(|| Error::Crypto("no signing key".into()))?;
        let header = serde_json::json!({"alg": "ES256", "kid": key.id}).to_string();
        let claims =
            serde_json::to_vec(claims).map_err(|error| Error::Crypto(error.to_string()))?;
        let mut token =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = (key.pair.sign(&SystemRandom::new(), token.as_bytes()))
            .map_err(|_| Error::Crypto("the system's random source failed".into()))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Verifies signature, issuer, audience and times. Whether the objects
    /// that the token is bound to still exist is the caller's question.
    /// Returns the claims and those of `audiences` that the token is for.
    ///
    /// # Errors
    /// Says why the token is refused.
    pub fn verify(
        &self,
        token: &str,
        issuer: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(Claims, Vec<String>), VerifyError> {
        let claims: Claims = self.opened(token, issuer)?;
        let now = now.as_second();
        if now >= claims.exp {
            return Err(Refused("service account token has expired".into()));
        }
        if now.saturating_add(LEEWAY_SECONDS) < claims.nbf {
            return Err(Refused("service account token is not valid yet".into()));
        }
        let account = &claims.kubernetes.serviceaccount.name;
        if claims.sub != user_name(&claims.kubernetes.namespace, account) {
            return Err(Refused("subject and service account differ".into()));
        }
        let matching: Vec<String> =
            audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if matching.is_empty() {
            return Err(Refused(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.aud
            )));
        }
        Ok((claims, matching))
    }

    /// Verifies the signature of a token that lives in a Secret. It has no end
    /// and no audience: it is good for the API server, while the Secret holds it.
    ///
    /// # Errors
    /// Says why the token is refused.
    pub fn verify_legacy(&self, token: &str) -> Result<LegacyClaims, VerifyError> {
        let claims: LegacyClaims = self.opened(token, LEGACY_ISSUER)?;
        if claims.sub != user_name(&claims.namespace, &claims.account) {
            return Err(Refused("subject and service account differ".into()));
        }
        match claims.secret.is_empty() {
            true => Err(Refused("the token names no secret".into())),
            false => Ok(claims),
        }
    }

    /// The claims of a token of an issuer, signed by one of the keys.
    fn opened<T: DeserializeOwned>(&self, token: &str, issuer: &str) -> Result<T, VerifyError> {
        if token.len() > LENGTH_MAX {
            return Err(Foreign("too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Foreign("not three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(Foreign("not three parts"))?;
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Foreign("not base64url"));
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Foreign("no JOSE header"))?;
        // Never the token's word for it: one algorithm, whatever it says.
        if header.alg != "ES256" {
            return Err(Foreign("not signed with ES256"));
        }
        let payload = decode(payload)?;
        let signature = decode(signature)?;
        #[derive(Deserialize)]
        struct Issuer {
            #[serde(default)]
            iss: String,
        }
        let claimed: Issuer = serde_json::from_slice(&payload).map_err(|_| Foreign("no claims"))?;
        if claimed.iss != issuer {
            return Err(Foreign("of another issuer"));
        }
        let valid = (self.keys.iter())
            .filter(|key| header.kid.is_empty() || header.kid == key.id)
            .any(|key| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key())
                    .verify(signed.as_bytes(), &signature)
                    .is_ok()
            });
        if !valid {
            return Err(Refused("invalid signature".into()));
        }
        serde_json::from_slice(&payload)
            .map_err(|error| Refused(format!("claims unreadable: {error}")))
    }

    /// The key set document, `/openid/v1/jwks`.
    pub fn jwks(&self) -> serde_json::Value {
        let keys = self.keys.iter().map(|key| {
            // An uncompressed point: 4, then 32 bytes each of x and y.
            let point = key.pair.public_key().as_ref();
            serde_json::json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
            })
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

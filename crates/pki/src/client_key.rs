//! The key of a machine that is no server, and what it asks of the cluster's
//! CAs with it. The key stays on the machine; certificates come from the API.

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    Error,
    authority::{dns_name, sha256},
    layout::BACKDATED,
    peer::{PeerIdentity, hex},
    tls,
};

/// A private key of an elliptic curve.
pub struct ClientKey(KeyPair);

impl std::fmt::Debug for ClientKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey")
    }
}

impl ClientKey {
    /// A new one.
    ///
    /// # Errors
    /// Where the random source fails.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(KeyPair::generate()?))
    }

    /// One that was kept as PKCS#8 PEM.
    ///
    /// # Errors
    /// Where the text is no key.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Ok(Self(KeyPair::from_pem(pem)?))
    }

    /// PKCS#8 PEM. Secret.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// SHA-256 of the public key (SPKI) in lower-case hex, as
    /// [`crate::SigningRequest::key_hash`] has it.
    pub fn hash(&self) -> String {
        hex(&sha256(&self.0.subject_public_key_info()))
    }

    /// A request (PKCS #10, PEM) for a certificate of this name.
    ///
    /// # Errors
    /// Where no certificate can carry the name.
    pub fn request(&self, common_name: &str, organization: Option<&str>) -> Result<String, Error> {
        self.request_for(common_name, organization, &[])
    }

    /// The same, of one that also serves under these names and addresses.
    ///
    /// # Errors
    /// Where no certificate can carry one of the names.
    pub fn request_for(
        &self,
        common_name: &str,
        organization: Option<&str>,
        served: &[String],
    ) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        for name in served {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(dns_name(name)?),
            });
        }
        Ok(params.serialize_request(&self.0)?.pem()?)
    }

    /// This key with a certificate for it (PEM, and behind it what leads to its CA),
    /// as TLS wants both.
    ///
    /// # Errors
    /// Where the text is no certificate, or one for another key.
    pub fn certified(&self, pem: &str) -> Result<CertifiedKey, Error> {
        let chain =
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Error::Crypto(format!("no certificate in PEM form: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(self.to_pem().as_bytes())
            .map_err(|error| Error::Crypto(format!("no private key in PEM form: {error}")))?;
        Ok(CertifiedKey::from_der(chain, key, &tls::provider())?)
    }

    /// When a certificate (PEM) for this key is to be renewed: a third of its
    /// life before its end. `None` where it is for another key or no certificate.
    pub fn renewal_of(&self, pem: &str) -> Option<Timestamp> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        if parsed.public_key().raw != self.0.subject_public_key_info() {
            return None;
        }
        let validity = parsed.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Timestamp::from_second(until - life(from, until) / 3).ok()
    }
}

/// How many seconds a certificate is meant to be used: those before it was made
/// do not count, or a short one would be due the moment it is there.
pub(crate) fn life(from: i64, until: i64) -> i64 {
    let backdated = i64::try_from(BACKDATED.as_secs()).unwrap_or(0);
    match until - from - backdated {
        left if left > 0 => left,
        _ => until - from,
    }
}

/// The first and the last second of a certificate in PEM form.
fn validity(pem: &str) -> Option<(i64, i64)> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// When a certificate in PEM form was made, by the clock of whoever signed it.
pub fn made(pem: &str) -> Option<Timestamp> {
    let (from, _) = validity(pem)?;
    Timestamp::from_second(from.saturating_add_unsigned(BACKDATED.as_secs())).ok()
}

/// The last instant of a certificate in PEM form.
pub fn expiry(pem: &str) -> Option<Timestamp> {
    Timestamp::from_second(validity(pem)?.1).ok()
}

/// When a certificate in PEM form begins, which is a day before it was [`made`].
pub fn beginning(pem: &str) -> Option<Timestamp> {
    Timestamp::from_second(validity(pem)?.0).ok()
}

/// The common name of a certificate in PEM form.
pub fn common_name(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(PeerIdentity::from_der(&der).ok()?.common_name)
}

/// SHA-256 of the public key (SPKI) of a certificate in PEM form: the hash that
/// join tokens have of the server CA.
///
/// # Errors
/// Says what is wrong with the text.
pub fn ca_hash(pem: &str) -> Result<[u8; 32], String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no certificate in PEM form ({error})"))?;
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|error| format!("no X.509 certificate ({error})"))?;
    Ok(sha256(parsed.public_key().raw))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Authority, SigningRequest};

    #[test]
    fn a_request_is_signed_and_its_renewal_known() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let ca = Authority::create("client-ca", now).expect("a CA");
        let key = ClientKey::generate().expect("random");
        let pem = key.request("system:node:pi", Some("system:nodes")).expect("a name");
        let asked = SigningRequest::from_pem(pem.as_bytes()).expect("our own");
        assert_eq!(asked.common_name, "system:node:pi");
        assert_eq!(asked.organizations, ["system:nodes"]);
        assert_eq!(asked.key_hash, key.hash());
        let usages = ["digital signature", "client auth"].map(str::to_owned);
        let life = Duration::from_secs(30 * 24 * 3600);
        let certificate = ca.sign_request(pem.as_bytes(), &usages, life, now).expect("signed");
        assert_eq!(common_name(&certificate).as_deref(), Some("system:node:pi"));
        let renewal = key.renewal_of(&certificate).expect("for this key");
        assert!(renewal > now && renewal < expiry(&certificate).expect("a certificate"));
        let kept = ClientKey::from_pem(&key.to_pem()).expect("its own text");
        assert_eq!(kept.hash(), key.hash());
        // A short one is not due at once.
        let hour = Duration::from_secs(3600);
        let short = ca.sign_request(pem.as_bytes(), &usages, hour, now).expect("signed");
        assert_eq!(key.renewal_of(&short), Some(now + Duration::from_secs(2400)));
        let other = ClientKey::generate().expect("random");
        assert_eq!(other.renewal_of(&certificate), None);
        assert_eq!(other.renewal_of("junk"), None);
        assert!(key.certified(&certificate).is_ok() && other.certified(&certificate).is_err());
        assert!(key.certified("junk").is_err());
        let served = ["pi".to_owned(), "192.0.2.7".to_owned()];
        let serving = key.request_for("system:node:pi", Some("system:nodes"), &served);
        let asked = SigningRequest::from_pem(serving.expect("names").as_bytes()).expect("our own");
        assert_eq!(asked.dns_names, ["pi"]);
        assert_eq!(asked.addresses, ["192.0.2.7".parse::<std::net::IpAddr>().expect("an address")]);
        assert_eq!(ca_hash(ca.pem()), Ok(ca.public_key_hash()));
        assert!(ca_hash("junk").is_err());
    }
}

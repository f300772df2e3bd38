//! A CA: making one, loading one, signing with it.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::{
    Error,
    file::{self, Durable},
    layout::{BACKDATED, CA_LIFE, CERTIFICATE_LIFE, Usage},
    rotation::certificates,
    tls::certificate_from_pem,
};

/// A CA with its key. While CAs are replaced others are trusted beside it.
pub struct Authority {
    certificate: CertificateDer<'static>,
    /// What is in its file.
    file: String,
    pem: String,
    trusted: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What a leaf certificate shall say.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) common_name: String,
    pub(crate) organization: Option<&'static str>,
    pub(crate) alternatives: Vec<String>,
    pub(crate) usage: Usage,
}

impl Authority {
    /// Loads `<dir>/<name>.crt` and `.key`. `None` where no certificate is
    /// there: a key alone is what a crash in the middle of the first start
    /// leaves, and nobody has seen its certificate.
    pub(crate) fn open(dir: &Path, name: &str, now: Timestamp) -> Result<Option<Self>, Error> {
        let (crt, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        let Some(pem) = file::read(&crt)? else {
            return Ok(None);
        };
        let unusable = |path: &Path, fault: String, advice| Error::Unusable {
            path: path.into(),
            fault,
            advice,
        };
        const RESTORE: &str = "restore it from a backup; removing all of the CA's files makes a new CA, and every node and kubeconfig must then join anew";
        let Some(key_pem) = file::read(&key)? else {
            return Err(unusable(
                &key,
                format!("missing, while {} is there", crt.display()),
                RESTORE,
            ));
        };
        let key_pair = KeyPair::from_pem(&key_pem).map_err(|error| {
            unusable(&key, format!("no private key in PEM form ({error})"), RESTORE)
        })?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
            unusable(&crt, format!("no certificate in PEM form ({error})"), RESTORE)
        })?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| unusable(&crt, format!("no X.509 certificate ({error})"), RESTORE))?;
        if !parsed.is_ca() {
            return Err(unusable(&crt, "not the certificate of a CA".into(), RESTORE));
        }
        use rcgen::PublicKeyData;
        if parsed.public_key().raw != key_pair.subject_public_key_info() {
            let fault = format!("does not belong to the key in {}", key.display());
            return Err(unusable(&crt, fault, RESTORE));
        }
        let until = parsed.validity().not_after.timestamp();
        if until <= now.as_second() {
            return Err(unusable(
                &crt,
                format!("expired at {}", parsed.validity().not_after),
                "check the machine's clock; if it is right, the CA must be replaced",
            ));
        }
        Self::from_pem(&pem, &key_pem).map(Some)
    }

    /// From the texts of both files. Of the certificates the first is the CA's own;
    /// further ones are CAs that are trusted beside it, or it again, signed by another.
    pub(crate) fn from_pem(pem: &str, key_pem: &str) -> Result<Self, Error> {
        let (mut trusted, mut chain, mut text) = (Vec::new(), Vec::new(), String::new());
        for block in certificates(pem) {
            let der = certificate_from_pem(&block)?;
            let is_chain = {
                let (_, parsed) = X509Certificate::from_der(&der)
                    .map_err(|error| Error::Crypto(format!("no X.509 certificate: {error}")))?;
                parsed.issuer() != parsed.subject()
            };
            // Its own file is never judged so: an operator's CA may be an intermediate one.
            if is_chain && !trusted.is_empty() {
                chain.push(der);
            } else {
                trusted.push(der);
                text.push_str(&block);
            }
        }
        let certificate = trusted.first().cloned();
        let certificate = certificate.ok_or_else(|| Error::Crypto("no certificate".into()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(key_pem)?)?;
        Ok(Self { certificate, file: pem.to_owned(), pem: text, trusted, chain, issuer })
    }

    /// A new CA, in memory.
    pub(crate) fn create(name: &str, now: Timestamp) -> Result<Self, Error> {
        let key_pair = KeyPair::generate()?;
        // The time in the name tells apart the CAs of two clusters, since
        // clients pick a trust anchor by its name.
        let mut params = params(&format!("skiff-{name}@{}", now.as_second()), None, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = params.self_signed(&key_pair)?;
        Self::from_pem(&certificate.pem(), &key_pair.serialize_pem())
    }

    /// Another CA's name and key in a certificate of this one's, as PEM.
    pub(crate) fn cross_sign(&self, other: &Self, now: Timestamp) -> Result<String, Error> {
        let (_, parsed) = X509Certificate::from_der(&other.certificate)
            .map_err(|error| Error::Crypto(error.to_string()))?;
        let name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let mut params = self.lasting(name.unwrap_or_default(), None, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        Ok(params.signed_by(other.issuer.key(), &self.issuer)?.pem())
    }

    /// The key as PKCS#8 PEM. Secret.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes the key, to be made durable before the certificate is there.
    pub(crate) fn write_key(&self, dir: &Path, name: &str) -> Result<(), Error> {
        let key = self.issuer.key().serialize_pem();
        file::write(&dir.join(format!("{name}.key")), &key, Durable::Yes)
    }

    /// Writes the certificate.
    pub(crate) fn write_certificate(&self, dir: &Path, name: &str) -> Result<(), Error> {
        file::write(&dir.join(format!("{name}.crt")), &self.file, Durable::Yes)
    }

    /// All that is trusted as PEM text, its own certificate first:
    /// `certificate-authority-data`, `ca.crt`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// All that is trusted, its own certificate first.
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }

    /// It again, signed by the CA that it replaces: to be shown behind what it
    /// signed, to those that know only that one.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the public key (SPKI), the hash inside join tokens. Equal to
    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum`.
    pub fn public_key_hash(&self) -> [u8; 32] {
        use rcgen::PublicKeyData;
        sha256(&self.issuer.key().subject_public_key_info())
    }

    /// Signs a certificate for a new key; returns both as PEM.
    pub(crate) fn issue(
        &self,
        request: &Request,
        now: Timestamp,
    ) -> Result<(String, String), Error> {
        let key_pair = KeyPair::generate()?;
        let mut params = params(&request.common_name, request.organization, now, CERTIFICATE_LIFE)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        for name in &request.alternatives {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(dns_name(name)?),
            });
        }
        let certificate = params.signed_by(&key_pair, &self.issuer)?;
        Ok((certificate.pem(), key_pair.serialize_pem()))
    }
}

impl Authority {
    /// Parameters of a certificate that ends no later than the CA itself.
    pub(crate) fn lasting(
        &self,
        common_name: &str,
        organization: Option<&str>,
        now: Timestamp,
        life: Duration,
    ) -> Result<CertificateParams, Error> {
        let (_, ca) = X509Certificate::from_der(&self.certificate)
            .map_err(|error| Error::Crypto(error.to_string()))?;
        let left = ca.validity().not_after.timestamp().saturating_sub(now.as_second());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        params(common_name, organization, now, life.min(left))
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    pub(crate) fn sign(
        &self,
        request: &rcgen::CertificateSigningRequestParams,
    ) -> Result<rcgen::Certificate, Error> {
        Ok(request.signed_by(&self.issuer)?)
    }
}

pub(crate) fn dns_name(name: &str) -> Result<rcgen::string::Ia5String, Error> {
    let refused = |fault: &str| Error::Name { name: name.into(), fault: fault.into() };
    let host = name.strip_prefix("*.").unwrap_or(name);
    rustls_pki_types::DnsName::try_from(host)
        .map_err(|_| refused("neither a DNS name nor an IP address"))?;
    name.try_into().map_err(|_| refused("not ASCII"))
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    now: Timestamp,
    life: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    // The trait of time types differs between crates; unix seconds do not.
    let at = |second: i64| {
        ASN1Time::from_timestamp(second).map(|time| time.to_datetime()).map_err(|error| {
            Error::Crypto(format!("no certificate can say second {second}: {error}"))
        })
    };
    params.not_before = at(now.as_second().saturating_sub_unsigned(BACKDATED.as_secs()))?;
    params.not_after = at(now.as_second().saturating_add_unsigned(life.as_secs()))?;
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| Error::Crypto("the system's random source failed".into()))?;
    // A positive number of constant length (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

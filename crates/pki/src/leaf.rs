//! One certificate that is signed by one of our CAs and renewed while running.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use jiff::Timestamp;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    Authority, Error,
    authority::Request,
    client_key::life,
    file::{self, Durable},
    peer::PeerIdentity,
    tls,
};

/// A certificate and its key as they stand now.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// The key as PKCS#8 PEM. Secret.
    pub key_pem: String,
    /// Both as TLS wants them.
    pub certified: Arc<CertifiedKey>,
    /// The first instant of validity.
    pub not_before: Timestamp,
    /// The last instant of validity.
    pub not_after: Timestamp,
}

/// A certificate on disk and in memory. TLS configurations made from it show
/// the current one at each handshake, so a renewal needs no restart.
#[derive(Debug)]
pub struct Leaf {
    crt: PathBuf,
    key: PathBuf,
    pub(crate) request: Request,
    current: RwLock<Arc<Issued>>,
}

impl Leaf {
    /// Loads the files, or issues anew where they are missing or unusable: a
    /// leaf holds nothing that cannot be made again. Returns why it was issued.
    pub(crate) fn open(
        dir: &Path,
        name: &str,
        authority: &Authority,
        request: Request,
        now: Timestamp,
    ) -> Result<(Self, Option<String>), Error> {
        let (crt, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        let loaded =
            match (file::read(&crt)?, file::read(&key)?) {
                (Some(crt), Some(key)) => parse(crt, key, authority).and_then(|issued| {
                    match why_renew(&issued, authority, &request, now) {
                        Some(why) => Err(why),
                        None => Ok(issued),
                    }
                }),
                _ => Err("missing".into()),
            };
        let (issued, why) = match loaded {
            Ok(issued) => (issued, None),
            Err(why) => (issue(&crt, &key, authority, &request, now)?, Some(why)),
        };
        let current = RwLock::new(Arc::new(issued));
        Ok((Self { crt, key, request, current }, why))
    }

    /// The certificate as it stands now.
    pub fn current(&self) -> Arc<Issued> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// When [`Self::renew`] will find something to do.
    pub(crate) fn due(&self) -> Timestamp {
        due(&self.current())
    }

    /// Issues anew where it is due; returns why.
    pub(crate) fn renew(
        &self,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        match why_renew(&self.current(), authority, &self.request, now) {
            None => Ok(None),
            Some(why) => self.replace(authority, now).map(|()| Some(why)),
        }
    }

    /// Issues anew, due or not.
    pub(crate) fn replace(&self, authority: &Authority, now: Timestamp) -> Result<(), Error> {
        let issued = Arc::new(issue(&self.crt, &self.key, authority, &self.request, now)?);
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = issued;
        Ok(())
    }
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified.clone())
    }
}

impl rustls::client::ResolvesClientCert for Leaf {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn issue(
    crt: &Path,
    key: &Path,
    authority: &Authority,
    request: &Request,
    now: Timestamp,
) -> Result<Issued, Error> {
    let (certificate_pem, key_pem) = authority.issue(request, now)?;
    // A crash leaves a pair that does not match, or torn files, which the next
    // start sees and issues anew.
    file::write(key, &key_pem, Durable::No)?;
    file::write(crt, &certificate_pem, Durable::No)?;
    parse(certificate_pem, key_pem, authority).map_err(Error::Crypto)
}

/// The error is a reason to issue anew.
fn parse(
    certificate_pem: String,
    key_pem: String,
    authority: &Authority,
) -> Result<Issued, String> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|error| format!("certificate unreadable: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| format!("key unreadable: {error}"))?;
    let (not_before, not_after) = {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| format!("certificate unreadable: {error}"))?;
        let validity = parsed.validity();
        let at = |second| Timestamp::from_second(second).map_err(|error| error.to_string());
        (at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?)
    };
    let chain = [&[certificate], authority.chain()].concat();
    let certified = CertifiedKey::from_der(chain, key, &tls::provider())
        .map_err(|error| format!("certificate and key do not match: {error}"))?;
    Ok(Issued { certificate_pem, key_pem, certified: Arc::new(certified), not_before, not_after })
}

/// A third of its life before the end.
fn due(issued: &Issued) -> Timestamp {
    let life = life(issued.not_before.as_second(), issued.not_after.as_second());
    Timestamp::from_second(issued.not_after.as_second() - life / 3).unwrap_or(issued.not_before)
}

/// Why a certificate must be issued anew at `now`, if it must.
fn why_renew(
    issued: &Issued,
    authority: &Authority,
    request: &Request,
    now: Timestamp,
) -> Option<String> {
    if now >= due(issued) {
        return Some(format!("expires at {}", issued.not_after));
    }
    // It was made while the clock was ahead.
    if now < issued.not_before {
        return Some(format!("not valid before {}", issued.not_before));
    }
    let der = issued.certified.cert.first()?;
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return Some("certificate unreadable".into());
    };
    let Ok((_, ca)) = X509Certificate::from_der(authority.certificate()) else {
        return Some("CA unreadable".into());
    };
    if parsed.issuer() != ca.subject() || parsed.verify_signature(Some(ca.public_key())).is_err() {
        return Some("signed by another CA".into());
    }
    let wanted = (request.common_name.clone(), request.organization.map(str::to_owned));
    let found = PeerIdentity::from_parsed(&parsed, der);
    if wanted != (found.common_name, found.organizations.first().cloned()) {
        return Some("the subject changed".into());
    }
    let mut alternatives = request.alternatives.clone();
    alternatives.sort();
    (alternatives != alternative_names(&parsed)).then(|| "the names changed".into())
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let mut names: Vec<String> = (extension.value.general_names.iter())
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => {
                    <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string())
                }
                _ => {
                    <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string())
                }
            },
            _ => None,
        })
        .collect();
    names.sort();
    names
}

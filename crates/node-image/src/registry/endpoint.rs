//! Where images of a registry come from, and whom to believe there.

use std::fmt;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::Auth;

/// A mirror of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://mirror.lan:5000`, with a path where the mirror has one; `/v2` is
    /// put behind it unless it is there.
    pub url: String,
    /// The repository's name there, where it is another.
    pub repository: Option<String>,
    /// Credentials of its own.
    pub auth: Option<Auth>,
    /// How to know it.
    pub trust: Trust,
}

/// Whom to believe beside the public authorities, and who we are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Authorities, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// A certificate of our own and its key, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust(ca: {}, client: {})", self.ca_pem.is_some(), self.client.is_some())
    }
}

/// A certificate chain and its key.
type Client = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Trust {
    /// The authorities that count.
    pub(super) fn roots(&self) -> Result<RootCertStore, String> {
        // Built in: a small machine may have no certificates of its own.
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in
            CertificateDer::pem_slice_iter(self.ca_pem.as_deref().unwrap_or_default())
        {
            let certificate = certificate.map_err(|error| format!("ca_file: {error:?}"))?;
            roots.add(certificate).map_err(|error| format!("ca_file: {error}"))?;
        }
        Ok(roots)
    }

    pub(super) fn client(&self) -> Result<Option<Client>, String> {
        let Some((certificate, key)) = &self.client else { return Ok(None) };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("cert_file: {error:?}"))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key_file: {error:?}"))?;
        Ok(Some((chain, key)))
    }
}

//! rustls configurations. ring is named explicitly, so that no dependency's
//! features decide about cryptography.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{ResolvesClientCert, danger::HandshakeSignatureValid},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    server::{
        NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Error, p521};

/// Which client certificates a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that the CA signed, or none at all: other credentials may follow.
    Optional,
    /// One that the CA signed.
    Required,
}

/// The cryptography that everything here uses: ring's, which also believes whoever has a
/// key of P-521.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = rustls::crypto::ring::default_provider();
        let known = provider.signature_verification_algorithms;
        // Made once, and used for ever.
        let all = [known.all, p521::VERIFICATIONS].concat();
        let more = (SignatureScheme::ECDSA_NISTP521_SHA512, p521::VERIFICATIONS);
        let mapping = [known.mapping, &[more]].concat();
        provider.signature_verification_algorithms =
            WebPkiSupportedAlgorithms { all: Vec::leak(all), mapping: Vec::leak(mapping) };
        Arc::new(provider)
    });
    PROVIDER.clone()
}

/// A server's side. `certificate` is asked at each handshake, so it may be
/// replaced while running.
///
/// # Errors
/// Where one of `client_cas` cannot be used as a trust anchor.
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    client_cas: &[CertificateDer<'static>],
    client_auth: ClientAuth,
    alpn: &[&[u8]],
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    let mut verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_cas)?), provider());
    if client_auth == ClientAuth::Optional {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(|error| Error::Crypto(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(Begun(verifier)))
        .with_cert_resolver(certificate);
    // A resumed session carries the client's identity of the first handshake
    // and is not verified again, so an expired certificate would live on in it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Takes clients' certificates that have not begun yet. A CA that is trusted has signed them,
/// so they were made: by a server whose clock was ahead and has been set right since. Refused,
/// a node could not even ask for another. When they end counts as ever.
#[derive(Debug)]
struct Begun(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Begun {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let begun = begin(end_entity).map_or(now, |begin| now.max(begin));
        self.0.verify_client_cert(end_entity, intermediates, begun)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// When it begins; `None` where it cannot be read, which the verifier says in its own words.
fn begin(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let second = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(second)))
}

/// A client's side; it trusts `server_cas` only and shows `certificate` if given.
///
/// # Errors
/// Where one of `server_cas` cannot be used as a trust anchor.
pub fn client_config(
    certificate: Option<Arc<dyn ResolvesClientCert>>,
    server_cas: &[CertificateDer<'static>],
    alpn: &[&[u8]],
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(server_cas)?);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// The first certificate of a PEM text, such as `certificate-authority-data`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::Crypto(format!("no certificate in PEM form: {error}")))
}

fn roots(cas: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone())?;
    }
    Ok(roots)
}

/// A handshake in memory.
#[cfg(test)]
pub(crate) fn handshake(
    server: ServerConfig,
    client: ClientConfig,
    name: &'static str,
) -> Result<(), rustls::Error> {
    let name = rustls_pki_types::ServerName::try_from(name).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client), name)?;
    let mut server = rustls::ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut sent = Vec::new();
        client.write_tls(&mut sent).expect("in memory");
        server.read_tls(&mut &sent[..]).expect("in memory");
        server.process_new_packets()?;
        let mut sent = Vec::new();
        server.write_tls(&mut sent).expect("in memory");
        client.read_tls(&mut &sent[..]).expect("in memory");
        client.process_new_packets()?;
    }
    Ok(())
}

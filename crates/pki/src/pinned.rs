//! TLS with a server of which only the hash of its CA's key is known: the first
//! connection of a machine that joins.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Ca, CertificateName, Leaf, Pki, authority::sha256, tls::provider, undated::SERVERS_NAME,
};

impl Pki {
    /// The API server's certificate with its CA behind it, so that a machine
    /// that knows the CA's hash alone can verify it; nobody is asked for a
    /// certificate.
    ///
    /// # Errors
    /// Where the cryptography has none of the protocol versions.
    pub fn joining_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, crate::Error> {
        let resolver = WithAuthority {
            leaf: self.leaf(CertificateName::ApiServer).clone(),
            authorities: self.authority(Ca::Server).trusted().to_vec(),
        };
        let clock = self.clock().clone();
        let mut config = ServerConfig::builder_with_details(provider(), clock)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

#[derive(Debug)]
struct WithAuthority {
    leaf: Arc<Leaf>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ResolvesServerCert for WithAuthority {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut certified = (*self.leaf.current().certified).clone();
        certified.cert.extend(self.authorities.iter().cloned());
        Some(Arc::new(certified))
    }
}

/// A client that takes a server whose certificate is signed by the CA with this
/// key hash, at whatever address it is, if it is one of the API: the CA signs for
/// the ports of nodes too, and none of them may hear a token. It shows no certificate.
///
/// # Errors
/// Where the cryptography has none of the protocol versions.
pub fn client_config(
    ca_hash: [u8; 32],
    alpn: &[&[u8]],
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, crate::Error> {
    let verifier = Pinned { ca_hash, provider: provider() };
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    ca_hash: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_ours = |der: &&CertificateDer<'_>| {
            X509Certificate::from_der(der)
                .is_ok_and(|(_, parsed)| sha256(parsed.public_key().raw) == self.ca_hash)
        };
        let Some(authority) = intermediates.iter().find(is_ours) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
        verify_server_name(&parsed, &ServerName::try_from(SERVERS_NAME).expect("a DNS name"))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

    use super::*;
    use crate::{
        Names, client_key::ClientKey, clock::FlooredClock, layout::CERTIFICATE_LIFE,
        tls::certificate_from_pem,
    };

    fn handshake(server: ServerConfig, client: ClientConfig) -> Result<(), Error> {
        crate::tls::handshake(server, client, "192.0.2.7")
    }

    #[test]
    fn only_the_cluster_of_the_hash_is_trusted() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let make = || {
            let dir = tempfile::tempdir().expect("a directory");
            let names = Names { node_name: "a".into(), ..Names::default() };
            Pki::open(dir.path(), &names, now).expect("made").0
        };
        let (ours, other) = (make(), make());
        let hash = ours.authority(Ca::Server).public_key_hash();
        let client = |hash| {
            client_config(hash, &[b"j"], Arc::new(FlooredClock::new(now))).expect("a config")
        };
        let server = |pki: &Pki| pki.joining_config(&[b"j"]).expect("a config");
        assert_eq!(handshake(server(&ours), client(hash)), Ok(()));
        assert!(handshake(server(&other), client(hash)).is_err());
        assert!(handshake(server(&ours), client([0; 32])).is_err());
        // A leaf alone proves nothing.
        let plain = ours.server_config(&[b"j"]).expect("a config");
        assert!(handshake(plain, client(hash)).is_err());
    }

    /// The CA signs for the ports of nodes as well, at the word of the node alone.
    #[test]
    fn a_node_is_told_no_token() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let dir = tempfile::tempdir().expect("a directory");
        let names = Names { node_name: "a".into(), ..Names::default() };
        let ours = Pki::open(dir.path(), &names, now).expect("made").0;
        let authority = ours.authority(Ca::Server);
        let node = |names: &[String]| {
            let key = ClientKey::generate().expect("a key");
            let request = key.request_for("system:node:n", Some("system:nodes"), names);
            let usages = ["digital signature", "server auth"].map(str::to_owned);
            let signed = authority.sign_request(
                request.expect("a request").as_bytes(),
                &usages,
                CERTIFICATE_LIFE,
                now,
            );
            let leaf = certificate_from_pem(&signed.expect("signed")).expect("a certificate");
            let chain = [vec![leaf], authority.trusted().to_vec()].concat();
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes()).expect("a key"),
                )
                .expect("a certificate with its key");
            config.alpn_protocols = vec![b"j".to_vec()];
            config
        };
        let client = || {
            client_config(authority.public_key_hash(), &[b"j"], Arc::new(FlooredClock::new(now)))
                .expect("a config")
        };
        let refused = handshake(node(&["n".into()]), client()).expect_err("a node is no server");
        let name = Error::InvalidCertificate(CertificateError::NotValidForName);
        assert!(
            matches!(
                &refused,
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
            ) || refused == name,
            "{refused}"
        );
        // The same with a server's name, which no node is given: what is refused is the name.
        assert_eq!(handshake(node(&[SERVERS_NAME.into()]), client()), Ok(()));
    }
}

//! Whose certificate it is, whenever that may be: for the question that comes before
//! all dates, what time it is. It is of no use for anything else, since a certificate
//! that has run out passes too.

use rustls::{
    Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    authority::sha256,
    tls::{certificate_from_pem, provider},
};

/// What servers' certificates name and those of nodes' ports do not.
pub(crate) const SERVERS_NAME: &str = "kubernetes.default.svc";

/// The hash of a server's key, where the CA (PEM) has signed for it as a server of the
/// API. `chain` is what the server showed, its own certificate first, over a connection
/// on which it proved that it has the key.
///
/// # Errors
/// Where it is somebody else.
pub fn server_key_hash(
    chain: &[CertificateDer<'_>],
    ca_pem: &str,
) -> Result<[u8; 32], crate::Error> {
    let (leaf, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate_from_pem(ca_pem)?)?;
    let parsed = chain.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    // When the youngest of them began, all of them were valid, if they ever were together.
    let began = parsed.iter().map(|one| one.validity().not_before.timestamp()).max();
    let began = std::time::Duration::from_secs(began.unwrap_or(0).try_into().unwrap_or(0));
    let algorithms = provider().signature_verification_algorithms.all;
    let certificate = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(
        &certificate,
        &roots,
        others,
        UnixTime::since_unix_epoch(began),
        algorithms,
    )?;
    verify_server_name(&certificate, &ServerName::try_from(SERVERS_NAME).expect("a DNS name"))?;
    Ok(sha256(parsed[0].public_key().raw))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, crate::Error> {
    let parsed = X509Certificate::from_der(der);
    parsed
        .map(|(_, parsed)| parsed)
        .map_err(|error| crate::Error::Crypto(format!("no X.509 certificate: {error}")))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Ca, CertificateName, Names, Pki, client_key::ClientKey, layout::CERTIFICATE_LIFE};

    #[test]
    fn a_server_is_known_long_after_its_certificate_ran_out_and_nobody_else_is() {
        // Long past by the clock of whoever runs this, which is not asked.
        let now: Timestamp = "2001-01-01T00:00:00Z".parse().expect("a time");
        let make = || {
            let dir = tempfile::tempdir().expect("a directory");
            let names = Names { node_name: "a".into(), ..Names::default() };
            Pki::open(dir.path(), &names, now).expect("made").0
        };
        let (ours, other) = (make(), make());
        let ca = ours.authority(Ca::Server).pem();
        let shown =
            |pki: &Pki| pki.leaf(CertificateName::ApiServer).current().certified.cert.clone();
        let known = server_key_hash(&shown(&ours), ca).expect("it is ours");
        assert_eq!(server_key_hash(&shown(&ours), ca).ok(), Some(known), "the same again");
        assert!(server_key_hash(&shown(&other), ca).is_err(), "of another cluster");
        assert!(server_key_hash(&[], ca).is_err());
        assert!(server_key_hash(&shown(&ours), "junk").is_err());

        // The CA signs for the ports of nodes as well.
        let request = ClientKey::generate()
            .and_then(|key| key.request_for("system:node:n", Some("system:nodes"), &["n".into()]));
        let usages = ["digital signature", "server auth"].map(str::to_owned);
        let node = ours.authority(Ca::Server).sign_request(
            request.expect("a request").as_bytes(),
            &usages,
            CERTIFICATE_LIFE,
            now,
        );
        let node = certificate_from_pem(&node.expect("signed")).expect("a certificate");
        assert!(server_key_hash(&[node], ca).is_err(), "a node is no server");
    }
}

//! What a certificate says, for people.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{client_key::life, peer::PeerIdentity};

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The name it is for.
    pub common_name: String,
    /// Whether it signs others.
    pub is_ca: bool,
    /// `client`, `server`, both, or none.
    pub usages: Vec<&'static str>,
    /// The last instant.
    pub not_after: Timestamp,
    /// When it is renewed by itself; a CA is not.
    pub due: Timestamp,
}

/// Reads the first certificate of a text in PEM form.
///
/// # Errors
/// Says what is wrong with it.
pub fn describe(pem: &str) -> Result<Described, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no certificate in PEM form ({error})"))?;
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|error| format!("no X.509 certificate ({error})"))?;
    let identity = PeerIdentity::from_der(&der).map_err(|error| error.to_string())?;
    let extended = parsed.extended_key_usage().ok().flatten();
    let mut usages = Vec::new();
    if let Some(extended) = extended {
        usages.extend(extended.value.client_auth.then_some("client"));
        usages.extend(extended.value.server_auth.then_some("server"));
    }
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let at = |second| Timestamp::from_second(second).map_err(|error| error.to_string());
    Ok(Described {
        common_name: identity.common_name,
        is_ca: parsed.is_ca(),
        usages,
        not_after: at(until)?,
        due: at(until - life(from, until) / 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ca, CertificateName, Names, Pki};

    #[test]
    fn authorities_and_certificates_say_what_they_are() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let dir = tempfile::tempdir().expect("a folder");
        let names = Names { node_name: "pi".into(), ..Names::default() };
        let (keys, _) = Pki::open(dir.path(), &names, now).expect("made");
        let ca = describe(keys.authority(Ca::Peer).pem()).expect("readable");
        assert!(ca.is_ca && ca.usages.is_empty() && ca.common_name.contains("peer-ca"), "{ca:?}");
        let before = keys.leaf(CertificateName::Peer).current();
        let peer = describe(&before.certificate_pem).expect("readable");
        assert_eq!(
            (peer.common_name.as_str(), &peer.usages[..]),
            ("pi", &["client", "server"][..])
        );
        assert!(!peer.is_ca && peer.due > now && peer.due < peer.not_after, "{peer:?}");
        assert!(describe("junk").is_err());
        // All of them anew, and none of them due.
        assert_eq!(keys.rotate(now).expect("written").len(), crate::layout::CERTIFICATES.len());
        let after = keys.leaf(CertificateName::Peer).current();
        assert_ne!(before.key_pem, after.key_pem);
        assert_eq!(keys.renew(now).expect("nothing to do"), []);
        let (_, made) = Pki::open(dir.path(), &names, now).expect("the same files");
        assert_eq!(made, []);
    }
}

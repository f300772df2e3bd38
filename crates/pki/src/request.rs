//! Requests for certificates (PKCS #10): what they ask for, and signing them.

use std::{net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

use crate::{Authority, Error, authority::sha256, p521, peer::hex};

/// Whom and what a certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// CN; empty where there is none.
    pub common_name: String,
    /// Every O.
    pub organizations: Vec<String>,
    /// DNS names of the certificate's owner.
    pub dns_names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its e-mail addresses, URIs and whatever else names it.
    pub other_names: Vec<String>,
    /// SHA-256 of the public key (SPKI) in lower-case hex.
    pub key_hash: String,
}

impl SigningRequest {
    /// Reads a request in PEM form; whether its owner holds the key is verified
    /// when it is signed.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error| format!("no certificate request in PEM form ({error})"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&der)
            .map_err(|error| format!("no certificate request in DER form ({error})"))?;
        let subject = &parsed.certification_request_info.subject;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().ok().map(str::to_owned)
        };
        let mut request = Self {
            common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            key_hash: hex(&sha256(parsed.certification_request_info.subject_pki.raw)),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| request.add(name));
            }
        }
        Ok(request)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                match address {
                    Ok(address) => self.addresses.push(address),
                    Err(_) => self.other_names.push(name.to_string()),
                }
            }
            other => self.other_names.push(other.to_string()),
        }
    }
}

/// Whether a request in DER form is signed by the key that it is for; also where it is
/// no request at all.
pub fn is_signed_request(der: &[u8]) -> bool {
    X509CertificationRequest::from_der(der).is_ok_and(|(_, request)| is_signed(&request))
}

pub(crate) fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    match p521::is_key(&request.certification_request_info.subject_pki) {
        true => p521::is_signed(request),
        false => request.verify_signature().is_ok(),
    }
}

/// A certificate as text.
fn to_text(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let base64 = STANDARD.encode(der);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text + "-----END CERTIFICATE-----\n"
}

impl Authority {
    /// Signs a request: subject, names and key are the request's, everything
    /// else is as said here. `usages` are spelled as in a
    /// CertificateSigningRequest. The certificate ends no later than the CA.
    ///
    /// # Errors
    /// Where the request is damaged or not signed by its own key, asks for what
    /// no certificate of ours can say, or a usage is not known.
    pub fn sign_request(
        &self,
        pem: &[u8],
        usages: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<String, Error> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error| Error::Crypto(format!("no certificate request ({error})")))?;
        let (_, parsed) = X509CertificationRequest::from_der(&der)
            .map_err(|error| Error::Crypto(format!("no certificate request ({error})")))?;
        if !is_signed(&parsed) {
            return Err(Error::Crypto("the request is not signed by its own key".into()));
        }
        let key = &parsed.certification_request_info.subject_pki;
        let stand_in = if p521::is_key(key) { Some(KeyPair::generate()?) } else { None };
        let mut request = match &stand_in {
            Some(stand_in) => {
                let der = p521::with_stand_in(&parsed, stand_in)?;
                CertificateSigningRequestParams::from_der(&der.into())?
            }
            None => CertificateSigningRequestParams::from_der(&der)?,
        };
        let mut plain = self.lasting("", None, now, life)?;
        plain.distinguished_name = request.params.distinguished_name;
        plain.subject_alt_names = request.params.subject_alt_names;
        plain.is_ca = IsCa::ExplicitNoCa;
        plain.use_authority_key_identifier_extension = true;
        for usage in usages {
            match (key_usage(usage), extended_usage(usage)) {
                (Some(usage), _) => plain.key_usages.push(usage),
                (None, Some(usage)) => plain.extended_key_usages.push(usage),
                (None, None) => {
                    return Err(Error::Crypto(format!("unrecognized usage {usage:?}")));
                }
            }
        }
        request.params = plain;
        let signed = self.sign(&request)?;
        match stand_in {
            Some(_) => Ok(to_text(&p521::without_stand_in(signed.der(), key.raw, self.key())?)),
            None => Ok(signed.pem()),
        }
    }
}

fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        _ => return None,
    })
}

fn extended_usage(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match usage {
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use x509_parser::prelude::X509Certificate;

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    /// By `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-521 -subj
    /// /O=devs/CN=jane -addext subjectAltName=DNS:jane`: it signs with SHA-256.
    const JANE: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBgjCB5QIBADAeMQ0wCwYDVQQKDARkZXZzMQ0wCwYDVQQDDARqYW5lMIGbMBAG
ByqGSM49AgEGBSuBBAAjA4GGAAQA2OPLjxcsikYsb/uzH1lXHecQRu76FF29Ui6g
sdZ8rVrumZmYHTatu8a/kQsDT7uaE6Y91ommLKp9JjAeq7CD2hQBBQeETxdC/a0j
aIZDRmQXJl2c1Kr2Rp6eDV94Je5/I9zBh279yw6McCuA/jLXsNtFUH40ojHZaPrY
1mxm4WW59KSgIjAgBgkqhkiG9w0BCQ4xEzARMA8GA1UdEQQIMAaCBGphbmUwCgYI
KoZIzj0EAwIDgYsAMIGHAkIAmvNJyaqhCuR8Synwop7Pl4uGKKCtusNhvEPYWefY
7oSl2/wX8ZmIl0Gbj1wwYfDSkwlktELcrPQXvI1PeqYpQEsCQUc447L2bExCb1EU
A8QVoJ+GmpsJLwBBISBAzRDNPgVZ+LKoebVbIhKeUDXNCZNsV9Lt+BxbmF94I4Jv
BLYaFX/p
-----END CERTIFICATE REQUEST-----
";

    fn authority() -> Authority {
        Authority::create("client-ca", NOW.parse().expect("a time")).expect("a CA")
    }

    fn request() -> String {
        let key = KeyPair::generate().expect("random");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "system:node:pi");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.subject_alt_names.push(SanType::IpAddress("10.0.0.7".parse().expect("address")));
        params.subject_alt_names.push(SanType::DnsName("pi".try_into().expect("ASCII")));
        // What the asker would like and does not get.
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.serialize_request(&key).expect("a request").pem().expect("PEM")
    }

    #[test]
    fn a_request_is_read_and_signed_for_what_is_said() {
        let pem = request();
        let read = SigningRequest::from_pem(pem.as_bytes()).expect("our own form");
        assert_eq!(read.common_name, "system:node:pi");
        assert_eq!(read.organizations, ["system:nodes"]);
        assert_eq!((read.dns_names.len(), read.addresses.len()), (1, 1));
        let authority = authority();
        let now: Timestamp = NOW.parse().expect("a time");
        let usages = ["client auth".to_owned(), "digital signature".to_owned()];
        let life = Duration::from_secs(3600);
        let signed = authority.sign_request(pem.as_bytes(), &usages, life, now).expect("signed");
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM");
        let (_, certificate) = X509Certificate::from_der(&block.contents).expect("DER");
        assert!(!certificate.is_ca());
        assert_eq!(certificate.validity().not_after.timestamp(), now.as_second() + 3600);
        let usage = certificate.key_usage().expect("readable").expect("there").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().expect("readable").expect("there").value;
        assert!(extended.client_auth && !extended.server_auth);
        assert_eq!(
            crate::peer::PeerIdentity::from_der(&block.contents).expect("a name").common_name,
            "system:node:pi"
        );
    }

    #[test]
    fn a_certificate_ends_with_its_authority_and_usages_must_be_known() {
        let (authority, pem) = (authority(), request());
        let now: Timestamp = NOW.parse().expect("a time");
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let signed = authority.sign_request(pem.as_bytes(), &[], century, now).expect("signed");
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM");
        let (_, certificate) = X509Certificate::from_der(&block.contents).expect("DER");
        let (_, ca) = X509Certificate::from_der(authority.certificate()).expect("DER");
        assert_eq!(certificate.validity().not_after, ca.validity().not_after);
        let odd = ["cert sign".to_owned()];
        assert!(authority.sign_request(pem.as_bytes(), &odd, century, now).is_err());
    }

    #[test]
    fn keys_of_every_kind_get_certificates() {
        let authority = authority();
        let now: Timestamp = NOW.parse().expect("a time");
        let usages = ["digital signature".to_owned(), "client auth".to_owned()];
        for kind in ["ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"] {
            let key = crate::pod_key::PodKey::generate(kind).expect("a kind").expect("a key");
            let text = to_text(&key.request).replace("CERTIFICATE", "CERTIFICATE REQUEST");
            let hour = Duration::from_secs(3600);
            let signed = authority.sign_request(text.as_bytes(), &usages, hour, now).expect(kind);
            let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM");
            let (rest, certificate) = X509Certificate::from_der(&block.contents).expect("DER");
            assert!(rest.is_empty());
            let (_, request) = X509CertificationRequest::from_der(&key.request).expect("a request");
            let asked = request.certification_request_info.subject_pki;
            assert_eq!(certificate.public_key().raw, asked.raw, "{kind}");
            let (_, ca) = X509Certificate::from_der(authority.certificate()).expect("DER");
            certificate.verify_signature(Some(ca.public_key())).expect(kind);
            assert!(
                certificate
                    .extended_key_usage()
                    .expect("readable")
                    .expect("there")
                    .value
                    .client_auth
            );
        }
    }

    #[test]
    fn a_name_is_kept_for_a_key_of_another_curve() {
        let request = JANE;
        let read = SigningRequest::from_pem(request.as_bytes()).expect("a request");
        assert_eq!(
            (read.common_name.as_str(), &read.dns_names[..]),
            ("jane", &["jane".to_owned()][..])
        );
        let now: Timestamp = NOW.parse().expect("a time");
        let hour = Duration::from_secs(3600);
        let signed = authority().sign_request(request.as_bytes(), &[], hour, now).expect("signed");
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM");
        let identity = crate::peer::PeerIdentity::from_der(&block.contents).expect("a name");
        assert_eq!(
            (identity.common_name.as_str(), &identity.organizations[..]),
            ("jane", &["devs".to_owned()][..])
        );
        let (_, certificate) = X509Certificate::from_der(&block.contents).expect("DER");
        let names = certificate.subject_alternative_name().expect("readable").expect("there");
        assert_eq!(names.value.general_names.len(), 1);
        let (_, block) = x509_parser::pem::parse_x509_pem(request.as_bytes()).expect("PEM");
        let mut forged = block.contents;
        let name = forged.windows(4).position(|part| part == b"jane").expect("its name");
        forged[name..name + 4].copy_from_slice(b"root");
        let forged = to_text(&forged).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        assert_eq!(
            SigningRequest::from_pem(forged.as_bytes()).expect("a request").common_name,
            "root"
        );
        let refused = authority().sign_request(forged.as_bytes(), &[], hour, now);
        assert!(refused.is_err_and(|error| error.to_string().contains("signed by its own key")));
    }

    proptest::proptest! {
        #[test]
        fn junk_is_refused(bytes: Vec<u8>) {
            proptest::prop_assert!(SigningRequest::from_pem(&bytes).is_err());
        }
    }
}

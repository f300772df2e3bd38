//! Who the other end of a TLS connection says it is, once verified.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::sha256;

/// The identity in a client certificate: the user is the common name, the
/// groups are the organizations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// CN; empty where there is none.
    pub common_name: String,
    /// Every O, in order.
    pub organizations: Vec<String>,
    /// SHA-256 of the certificate in lower-case hex.
    pub fingerprint: String,
    /// The last second of validity, in Unix time. TLS looks at it during the
    /// handshake only, and connections live long.
    pub not_after: i64,
}

impl PeerIdentity {
    /// Reads a certificate in DER form that the TLS layer has verified.
    ///
    /// # Errors
    /// Says what is wrong with the certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| format!("no X.509 certificate: {error}"))?;
        Ok(Self::from_parsed(&parsed, der))
    }

    pub(crate) fn from_parsed(parsed: &X509Certificate<'_>, der: &[u8]) -> Self {
        let subject = parsed.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().ok().map(str::to_owned)
        };
        Self {
            common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            fingerprint: hex(&sha256(der)),
            not_after: parsed.validity().not_after.timestamp(),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn junk_is_refused(bytes: Vec<u8>) {
            proptest::prop_assert!(PeerIdentity::from_der(&bytes).is_err());
        }
    }
}

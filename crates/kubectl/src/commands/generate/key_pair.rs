//! Whether a certificate and a key belong together, and can be read at all.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{self, KeyPair as _};

/// Looks at both, as a server that is given them would.
///
/// # Errors
/// For what is no certificate or no key, and for a key of another certificate.
pub(super) fn check(cert: &[u8], key: &[u8]) -> Result<(), String> {
    let cert = certificate(&blocks(cert))?;
    let key = key_block(&blocks(key))?;
    let wanted = public_of_certificate(&cert).ok_or("x509: malformed certificate")?;
    if wanted == Public::OtherCurve {
        return Err("x509: unsupported elliptic curve".into());
    }
    let found = public_of_key(&key).filter(|found| *found != Public::OtherCurve);
    match (found.ok_or("tls: failed to parse private key")?, wanted) {
        (Public::Unknown, _) | (_, Public::Unknown) => Ok(()),
        (found, wanted) if found == wanted => Ok(()),
        (found, wanted) if std::mem::discriminant(&found) == std::mem::discriminant(&wanted) => {
            Err("tls: private key does not match public key".into())
        }
        _ => Err("tls: private key type does not match public key type".into()),
    }
}

/// A block of a PEM file: its kind, and what is in it.
type Block = (String, Vec<u8>);

/// The blocks of a PEM file; what is none is passed over.
fn blocks(pem: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(pem);
    let mut found = Vec::new();
    let mut rest: &str = &text;
    while let Some((_, behind)) = rest.split_once("-----BEGIN ") {
        rest = behind;
        let Some((kind, behind)) = behind.split_once("-----") else { break };
        let Some((body, behind)) = behind.split_once(&format!("-----END {kind}-----")) else {
            continue;
        };
        // An encrypted key has headers, RFC 1421.
        let lines = body.trim_start().lines().skip_while(|line| line.contains(':'));
        let body: String = lines.flat_map(str::split_whitespace).collect();
        if let Ok(bytes) = STANDARD.decode(body) {
            found.push((kind.to_owned(), bytes));
            rest = behind;
        }
    }
    found
}

fn kinds(blocks: &[Block]) -> String {
    blocks.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(" ")
}

const KEY: &str = "PRIVATE KEY";

fn certificate(blocks: &[Block]) -> Result<Vec<u8>, String> {
    if let Some((_, bytes)) = blocks.iter().find(|(kind, _)| kind == "CERTIFICATE") {
        return Ok(bytes.clone());
    }
    Err(match blocks {
        [] => "tls: failed to find any PEM data in certificate input".into(),
        [(kind, _)] if kind.ends_with(KEY) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".into(),
        others => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]", kinds(others)),
    })
}

fn key_block(blocks: &[Block]) -> Result<Vec<u8>, String> {
    let is_key = |kind: &str| kind == KEY || kind.ends_with(&format!(" {KEY}"));
    if let Some((_, bytes)) = blocks.iter().find(|(kind, _)| is_key(kind)) {
        return Ok(bytes.clone());
    }
    Err(match blocks {
        [] => "tls: failed to find any PEM data in key input".into(),
        [(kind, _)] if kind == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".into()
        }
        others => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            kinds(others)
        ),
    })
}

/// A public key, by what tells it from others.
#[derive(Debug, PartialEq, Eq)]
enum Public {
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// A curve's point.
    Curve(Vec<u8>),
    /// A point of a curve that nobody knows.
    OtherCurve,
    Ed25519(Vec<u8>),
    /// Of a kind that nothing can be said of here.
    Unknown,
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const TAGGED_0: u8 = 0xa0;
const TAGGED_1: u8 = 0xa1;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The curves that upstream knows: P-224, P-256, P-384 and P-521.
const CURVES: &[&[u8]] = &[
    &[0x2b, 0x81, 0x04, 0x00, 0x21],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x2b, 0x81, 0x04, 0x00, 0x23],
];

/// DER, read piece by piece.
struct Der<'b>(&'b [u8]);

impl<'b> Der<'b> {
    /// The next piece: its tag and what is in it.
    fn next(&mut self) -> Option<(u8, &'b [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let digits = usize::from(first & 0x7f);
            if digits > size_of::<u32>() {
                return None;
            }
            let (number, behind) = rest.split_at_checked(digits)?;
            length = number.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (piece, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, piece))
    }

    /// What is in the next piece, which has to be of this kind.
    fn take(&mut self, wanted: u8) -> Option<&'b [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, piece)| piece)
    }

    /// What is in the next piece, where it is of this kind; else that stays.
    fn maybe(&mut self, wanted: u8) -> Option<&'b [u8]> {
        let here = self.0;
        let taken = self.take(wanted);
        if taken.is_none() {
            self.0 = here;
        }
        taken
    }

    fn inside(&mut self, wanted: u8) -> Option<Self> {
        self.take(wanted).map(Der)
    }
}

fn rsa(der: &mut Der<'_>) -> Option<Public> {
    Some(Public::Rsa(der.take(INTEGER)?.to_vec(), der.take(INTEGER)?.to_vec()))
}

fn public_of_certificate(der: &[u8]) -> Option<Public> {
    let mut signed = Der(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
    signed.maybe(TAGGED_0);
    signed.take(INTEGER)?;
    // Who signs how, who issues, when, and of whom.
    for _ in 0..4 {
        signed.take(SEQUENCE)?;
    }
    let mut public = signed.inside(SEQUENCE)?;
    let mut algorithm = public.inside(SEQUENCE)?;
    let kind = algorithm.take(OBJECT)?;
    // In front of the bits is how many of the last byte are none.
    let bits = public.take(BIT_STRING)?.get(1..)?;
    match kind {
        RSA => rsa(&mut Der(bits).inside(SEQUENCE)?),
        CURVE if !CURVES.contains(&algorithm.take(OBJECT)?) => Some(Public::OtherCurve),
        CURVE => Some(Public::Curve(bits.to_vec())),
        ED25519 => Some(Public::Ed25519(bits.to_vec())),
        _ => Some(Public::Unknown),
    }
}

/// Of a key of PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) or SEC 1 (RFC 5915).
fn public_of_key(der: &[u8]) -> Option<Public> {
    let mut key = Der(der).inside(SEQUENCE)?;
    key.take(INTEGER)?;
    if let Some(kind) = key.maybe(SEQUENCE) {
        let mut kind = Der(kind);
        let name = kind.take(OBJECT)?;
        let bytes = key.take(OCTET_STRING)?;
        return match name {
            RSA => public_of_key(bytes),
            CURVE if !CURVES.contains(&kind.take(OBJECT)?) => Some(Public::OtherCurve),
            CURVE => curve(Der(bytes).inside(SEQUENCE)?),
            ED25519 => {
                let seed = Der(bytes).take(OCTET_STRING)?;
                let pair = signature::Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
                Some(Public::Ed25519(pair.public_key().as_ref().to_vec()))
            }
            _ => Some(Public::Unknown),
        };
    }
    match key.0.first()? {
        &INTEGER => rsa(&mut key),
        _ => curve(Der(der).inside(SEQUENCE)?),
    }
}

/// Of a SEC 1 key, which mostly has the public one in it.
fn curve(mut key: Der<'_>) -> Option<Public> {
    key.take(INTEGER)?;
    key.take(OCTET_STRING)?;
    // Inside PKCS#8 the curve stands before the key.
    if let Some(named) = key.maybe(TAGGED_0)
        && !CURVES.contains(&Der(named).take(OBJECT)?)
    {
        return Some(Public::OtherCurve);
    }
    match key.maybe(TAGGED_1) {
        Some(public) => Some(Public::Curve(Der(public).take(BIT_STRING)?.get(1..)?.to_vec())),
        None => Some(Public::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with openssl for this test: what they keep secret is nothing.
    const CURVE_CERT: &str = "MIIBbzCCARWgAwIBAgIUEtcbXM4wUnVreqaGC36kpND1tGIwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYjAgFw0yNjExMjgwMTIzMjZaGA8yMTI2MTEwNDAxMjMyNlowDDEKMAgGA1UEAwwBYjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABONMJO4aoQ6iFcmv7TGKjLaOlXQ9pH+Jg3DdsoEN8avRCjp8dxHR+59FM0EQNP2NnLY5UzlPYAX0o+GZHTdCTXGjUzBRMB0GA1UdDgQWBBQnbDBd7slNkfB+FRekepY405Iy6zAfBgNVHSMEGDAWgBQnbDBd7slNkfB+FRekepY405Iy6zAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIFXE1YI8NUABWFK1dheJLE85xhNVjSSKbrEOQOqUgWnmAiEA36vumhCBAI6ET5B3/kIJCKr+GQOs8sOcZMBYualMeBY=";
    const CURVE_KEY: &str = "MHcCAQEEIGkEEh6EQG44lydmBkGTXAgN57wptZA4FqR/XiQQatXYoAoGCCqGSM49AwEHoUQDQgAE40wk7hqhDqIVya/tMYqMto6VdD2kf4mDcN2ygQ3xq9EKOnx3EdH7n0UzQRA0/Y2ctjlTOU9gBfSj4ZkdN0JNcQ==";
    const CURVE_KEY_8: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaQQSHoRAbjiXJ2YGQZNcCA3nvCm1kDgWpH9eJBBq1dihRANCAATjTCTuGqEOohXJr+0xioy2jpV0PaR/iYNw3bKBDfGr0Qo6fHcR0fufRTNBEDT9jZy2OVM5T2AF9KPhmR03Qk1x";
    const ED_CERT: &str = "MIIBLjCB4aADAgECAhQI/+ZzzJerj5oMh9ENU2lqym4VhjAFBgMrZXAwDDEKMAgGA1UEAwwBYzAgFw0yNjExMjgwMTIzMjZaGA8yMTI2MTEwNDAxMjMyNlowDDEKMAgGA1UEAwwBYzAqMAUGAytlcAMhAIcCVdRleSW9AdwdXs+H0xhZ54mSwbBQIMbtJ76QIO0Do1MwUTAdBgNVHQ4EFgQU8GxOQbXckKEmcArc9wEoxU6lU+gwHwYDVR0jBBgwFoAU8GxOQbXckKEmcArc9wEoxU6lU+gwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQCh/Ka4R1uI4U64yA+tSh8ikAD1e0Os911zpjfijLkP7Xe6IwKPczhnIJsN21lnpvQlrzpw5dbsTtanrXBFTsQF";
    const ED_KEY: &str = "MC4CAQAwBQYDK2VwBCIEIKCAS5fZZ4LX1/2FykNduzH6T23errXeFQb3qcxes2KU";
    const RSA_CERT: &str = "MIIBbjCCARigAwIBAgIULYx+UZ0MJixVQo/aLb6NG2baWm0wDQYJKoZIhvcNAQELBQAwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjgwMTIzMjZaGA8yMTI2MTEwNDAxMjMyNlowDDEKMAgGA1UEAwwBYTBcMA0GCSqGSIb3DQEBAQUAA0sAMEgCQQCrUJ3V2n6ktPtSMopSlcFkPd1z95n81hLsBmCtaTR2i5CoRF+iwZm7L+CC8u20U0bYSpX16kPnDoFShsbcAk67AgMBAAGjUDBOMB0GA1UdDgQWBBTgLssASlZkUF/FDqsrYXWr0DotvTAfBgNVHSMEGDAWgBTgLssASlZkUF/FDqsrYXWr0DotvTAMBgNVHRMBAf8EAjAAMA0GCSqGSIb3DQEBCwUAA0EAYC9Bf5ow4WVppksz8vUD2mYxdOv84LxgWtPEZhX+k1abNMg/PKmKZSUSqDIJ7fyj1mXXWCVvOlQmsZF6kRN6Ng==";
    const RSA_KEY: &str = "MIIBOgIBAAJBAKtQndXafqS0+1IyilKVwWQ93XP3mfzWEuwGYK1pNHaLkKhEX6LBmbsv4ILy7bRTRthKlfXqQ+cOgVKGxtwCTrsCAwEAAQJAcTU42BUnE1i1q7/SQHjN75wiN3wrujUNFAOy52VaUesbx1I8ZE6aEEWCiT9pQPKsZPodP/HO5IXDILOsGzI+oQIhANLcLmlFMXmVFJSTfb9uR3M72TwEXAeilXJd4UTSH8+FAiEAz/07IiPmV+jSho7DdAXmGwUUM77R47RnCxZGtka1WT8CIHYJmdWGTXbhVJ8Dnb4e7tJ8K1RkoFwJ0J0wHp3W/sW9AiAFKqk5Y+Lo9COmrA026J6atTmXP3o/Sc/1eowvIvqGSQIhAKeBqRgPhEkOuaFkVYOzftCgJJyvRXFZeBnTRBxEyD+N";
    const RSA_KEY_8: &str = "MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEAq1Cd1dp+pLT7UjKKUpXBZD3dc/eZ/NYS7AZgrWk0douQqERfosGZuy/ggvLttFNG2EqV9epD5w6BUobG3AJOuwIDAQABAkBxNTjYFScTWLWrv9JAeM3vnCI3fCu6NQ0UA7LnZVpR6xvHUjxkTpoQRYKJP2lA8qxk+h0/8c7khcMgs6wbMj6hAiEA0twuaUUxeZUUlJN9v25HczvZPARcB6KVcl3hRNIfz4UCIQDP/TsiI+ZX6NKGjsN0BeYbBRQzvtHjtGcLFka2RrVZPwIgdgmZ1YZNduFUnwOdvh7u0nwrVGSgXAnQnTAendb+xb0CIAUqqTlj4uj0I6asDTbonpq1OZc/ej9Jz/V6jC8i+oZJAiEAp4GpGA+ESQ65oWRVg7N+0KAknK9FcVl4GdNEHETIP40=";

    fn pem(kind: &str, body: &str) -> String {
        format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
    }

    #[test]
    fn a_key_belongs_to_its_certificate_alone() {
        let cert = |body| pem("CERTIFICATE", body);
        let parameters = pem("EC PARAMETERS", "BggqhkjOPQMBBw==");
        let (other, mismatch) = (
            Err("tls: private key type does not match public key type".to_owned()),
            Err("tls: private key does not match public key".to_owned()),
        );
        let another = CURVE_KEY_8.replace("mR03", "mRw3");
        for (cert, key, verdict) in [
            (cert(CURVE_CERT), parameters + &pem("EC PRIVATE KEY", CURVE_KEY), Ok(())),
            (cert(CURVE_CERT), pem("PRIVATE KEY", CURVE_KEY_8), Ok(())),
            (cert(CURVE_CERT), pem("PRIVATE KEY", &another), mismatch),
            (cert(CURVE_CERT), pem("PRIVATE KEY", ED_KEY), other.clone()),
            (cert(ED_CERT), pem("PRIVATE KEY", ED_KEY), Ok(())),
            (cert(ED_CERT), pem("RSA PRIVATE KEY", RSA_KEY), other),
            (cert(RSA_CERT), pem("RSA PRIVATE KEY", RSA_KEY), Ok(())),
            (cert(RSA_CERT), pem("PRIVATE KEY", RSA_KEY_8), Ok(())),
            (cert(CURVE_CERT) + &cert(RSA_CERT), pem("EC PRIVATE KEY", CURVE_KEY), Ok(())),
        ] {
            assert_eq!(check(cert.as_bytes(), key.as_bytes()), verdict, "{cert}{key}");
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        let (cert, key) = (pem("CERTIFICATE", CURVE_CERT), pem("EC PRIVATE KEY", CURVE_KEY));
        let (bad_cert, bad_key) = (pem("CERTIFICATE", "YQ=="), pem("PRIVATE KEY", "YQ=="));
        let (no_base64, public) = (pem("CERTIFICATE", "!!!"), pem("PUBLIC KEY", "YQ=="));
        let none = "failed to find any PEM data in certificate input";
        for (cert, key, why) in [
            ("nope", key.as_str(), none),
            (&no_base64, &key, none),
            (&cert, "", "failed to find any PEM data in key input"),
            (&key, &cert, "did find a private key; PEM inputs may have been switched"),
            (&cert, &cert, "found a certificate rather than a key in the PEM for the private key"),
            (&cert, &public, "skipping PEM blocks of the following types: [PUBLIC KEY]"),
            (&bad_cert, &key, "x509: malformed certificate"),
            (&cert, &bad_key, "tls: failed to parse private key"),
        ] {
            let said = check(cert.as_bytes(), key.as_bytes()).expect_err(why);
            assert!(said.ends_with(why), "{said}");
        }
    }
}

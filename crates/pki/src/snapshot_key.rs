//! The key that seals a cluster's snapshots: `skiffsnap1.<64 hex digits>`.
//!
//! A snapshot holds every Secret and the CAs' keys, and is carried to places
//! that must not have them. Its key is derived from the key of the server CA
//! (HKDF-SHA256, RFC 5869), so every server of the cluster has it without
//! keeping anything more, and it changes when that CA is replaced.

use std::{fmt, path::Path, str::FromStr};

use ring::hkdf::{HKDF_SHA256, Salt};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

use crate::{Ca, Error, file, layout::CAS, peer::hex};

const VERSION: &str = "skiffsnap1.";

/// The key. `Display` and `FromStr` are its text form; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotKey([u8; 32]);

impl SnapshotKey {
    /// That of the cluster whose keys are in a server's directory; `None` where
    /// there are none.
    ///
    /// # Errors
    /// Where the CA's key is there and cannot be used.
    pub fn of(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(format!("{}.key", CAS[Ca::Server as usize].1));
        let Some(pem) = file::read(&path)? else { return Ok(None) };
        let bytes = derive(&pem, b"snapshot key 1").map_err(|error| Error::Unusable {
            path,
            fault: error.to_string(),
            advice: "restore it from a backup or from another server",
        })?;
        Ok(Some(Self(bytes)))
    }

    /// For the cipher.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// A key for one purpose, derived from a CA's.
pub(crate) fn derive(key_pem: &str, purpose: &[u8]) -> Result<[u8; 32], Error> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| Error::Crypto(format!("no private key in PEM form ({error})")))?;
    let failed = |_| Error::Crypto("a key cannot be derived".into());
    let secret = Salt::new(HKDF_SHA256, b"skiff").extract(key.secret_der());
    let info = [purpose];
    let expanded = secret.expand(&info, HKDF_SHA256).map_err(failed)?;
    let mut bytes = [0; 32];
    expanded.fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}{}", hex(&self.0))
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}<secret>")
    }
}

/// A text is no snapshot key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a snapshot key looks like skiffsnap1.<64 hex digits>; a server of the cluster prints it with: skiff snapshot key"
)]
pub struct NotAKey;

impl FromStr for SnapshotKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let digits = text.trim().strip_prefix(VERSION).ok_or(NotAKey)?;
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAKey);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| NotAKey)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Names, Pki};

    #[test]
    fn each_cluster_has_its_own() {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        assert_eq!(SnapshotKey::of(a.path()).expect("nothing is no fault"), None);
        let names = Names { node_name: "pi".into(), ..Names::default() };
        for dir in [&a, &b] {
            Pki::open(dir.path(), &names, now).expect("made");
        }
        let key = |dir: &tempfile::TempDir| SnapshotKey::of(dir.path()).expect("usable");
        let first = key(&a).expect("there");
        assert_eq!(key(&a), Some(first.clone()));
        assert_ne!(key(&b), Some(first.clone()));
        assert_eq!(format!("{first}\n").parse(), Ok(first.clone()));
        assert!(!format!("{first:?}").contains(&first.to_string()[20..]));
        for text in ["", "skiffsnap1.00", "skiffsnap2.", &first.to_string().replace('.', ":")] {
            assert_eq!(text.parse::<SnapshotKey>(), Err(NotAKey), "{text}");
        }
    }
}

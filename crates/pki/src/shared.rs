//! What all servers of a cluster have in common: the CAs with their keys, and
//! the keys that sign ServiceAccount tokens. A server that joins gets them from
//! one that is there; everything else it makes itself.

use std::path::Path;

use crate::{
    Error,
    file::{self, Durable},
    layout::{CAS, SERVICE_ACCOUNT_KEYS},
};

/// File names and contents; secret.
pub type Shared = Vec<(String, String)>;

/// The names in the order in which they are written: keys before what they
/// signed, since a key alone is replaced and a certificate alone is a fault.
fn names() -> impl Iterator<Item = String> {
    let keys = CAS.iter().map(|(_, name)| format!("{name}.key"));
    let certificates = CAS.iter().map(|(_, name)| format!("{name}.crt"));
    keys.chain([SERVICE_ACCOUNT_KEYS.to_owned()]).chain(certificates)
}

/// Reads them from a server's directory.
///
/// # Errors
/// Where one is missing or cannot be read.
pub fn export(dir: &Path) -> Result<Shared, Error> {
    let read = |name: String| match file::read(&dir.join(&name))? {
        Some(text) => Ok((name, text)),
        None => Err(Error::Unusable {
            path: dir.join(name),
            fault: "missing".into(),
            advice: "restore it from a backup or from another server",
        }),
    };
    names().map(read).collect()
}

/// Writes them into the directory of a server that joins. What is there already
/// is replaced: it is of an attempt that did not end.
///
/// # Errors
/// Where a name is not one of ours, one is missing, or the disk says no.
pub fn import(dir: &Path, shared: &Shared) -> Result<(), Error> {
    for (name, _) in shared {
        if !names().any(|known| known == *name) {
            let text = format!("the other server sent a file {name:?} that is not known here");
            return Err(Error::Crypto(text));
        }
    }
    file::private_dir(dir)?;
    for name in names() {
        let Some((_, text)) = shared.iter().find(|(sent, _)| *sent == name) else {
            return Err(Error::Crypto(format!("the other server did not send {name}")));
        };
        file::write(&dir.join(&name), text, Durable::Yes)?;
    }
    file::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Ca, Names, Pki};

    #[test]
    fn two_servers_trust_each_other() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let names = |node: &str| Names { node_name: node.into(), ..Names::default() };
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        let (first, _) = Pki::open(a.path(), &names("a"), now).expect("made");
        let shared = export(a.path()).expect("whole");
        assert_eq!(shared.len(), 9);
        import(b.path(), &shared).expect("written");
        let (second, _) = Pki::open(b.path(), &names("b"), now).expect("usable");
        for (ca, _) in CAS {
            assert_eq!(first.authority(*ca).pem(), second.authority(*ca).pem());
        }
        assert_eq!(
            first.service_account_keys().jwks().to_string(),
            second.service_account_keys().jwks().to_string()
        );
        assert_eq!(first.authority(Ca::Server).public_key_hash().len(), 32);
    }

    #[test]
    fn what_is_not_known_or_missing_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let foreign = vec![("../x".to_owned(), String::new())];
        assert!(import(dir.path(), &foreign).is_err());
        assert!(import(dir.path(), &Vec::new()).is_err());
        assert!(export(dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }
}

//! Replacing the CAs, and the keys that sign ServiceAccount tokens, while the
//! cluster runs. As with Kubernetes' manual rotation
//! (https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/)
//! everybody trusts both before anybody uses the new, and the old one goes last:
//!
//! | phase | signs | trusted |
//! |---|---|---|
//! | trust | old | old, new |
//! | sign | new | new, old |
//! | drop | new | new |
//!
//! While the new CA signs, servers also show it signed by the old one, so that
//! who knows nothing but the old one still believes them.

use std::{fmt, fs, path::Path, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};

use crate::{
    Authority, Ca, Error,
    file::{self, Durable},
    layout::{CAS, SERVICE_ACCOUNT_KEYS},
    peer::hex,
    service_account,
    shared::{self, Shared},
    snapshot_key,
};

/// What a server has applied, beside its keys.
const STATE: &str = "rotation";
/// Files that are whole and not in their places yet.
const STAGED: &str = "rotating";
const SEALED_FOR: &[u8] = b"rotation key 1";

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The new CAs are trusted beside the old ones, which sign.
    Trust,
    /// The new ones sign, the old ones are still trusted.
    Sign,
    /// The old ones are not trusted any more.
    Drop,
}

const PHASES: [(Phase, &str); 3] =
    [(Phase::Trust, "trust"), (Phase::Sign, "sign"), (Phase::Drop, "drop")];

/// One rotation and its phase, `<id>/<phase>` as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Sixteen hexadecimal digits, drawn at the begin.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, PHASES[self.phase as usize].1)
    }
}

/// A text is no state of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a rotation looks like <16 hexadecimal digits>/trust, sign or drop")]
pub struct NotAState;

impl FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        let (id, phase) = text.trim().split_once('/').ok_or(NotAState)?;
        let phase = PHASES.iter().find(|(_, name)| *name == phase).ok_or(NotAState)?.0;
        let fits = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self { id: id.to_owned(), phase }).ok_or(NotAState)
    }
}

/// The keys of before and those to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    old: Shared,
    new: Shared,
}

fn of<'a>(files: &'a Shared, name: &str) -> Result<&'a str, Error> {
    let found = files.iter().find(|(file, _)| file == name);
    found
        .map(|(_, text)| text.as_str())
        .ok_or_else(|| Error::Crypto(format!("the rotation has no {name}")))
}

/// The certificates of a text, each as PEM.
pub fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut rest = pem;
    let mut found = Vec::new();
    while let Some(from) = rest.find("-----BEGIN CERTIFICATE-----")
        && let Some(until) = rest[from..].find(END)
    {
        let (block, after) = rest[from..].split_at(until + END.len());
        found.push(format!("{block}\n"));
        rest = after;
    }
    found
}

impl Change {
    /// New keys for the server whose keys are in `dir`.
    ///
    /// # Errors
    /// Where those cannot be read or the random source fails.
    pub fn begin(dir: &Path, now: Timestamp) -> Result<(State, Self), Error> {
        let mut id = [0; 8];
        let random = SystemRandom::new();
        random
            .fill(&mut id)
            .map_err(|_| Error::Crypto("the system's random source failed".into()))?;
        let mut old = shared::export(dir)?;
        for (_, text) in old.iter_mut().filter(|(name, _)| name.ends_with(".crt")) {
            *text = certificates(text).first().cloned().unwrap_or_default();
        }
        let mut new = Shared::new();
        for (_, name) in CAS {
            let authority = Authority::create(name, now)?;
            new.push((format!("{name}.key"), authority.key_pem()));
            new.push((format!("{name}.crt"), authority.pem().to_owned()));
        }
        new.push((SERVICE_ACCOUNT_KEYS.to_owned(), service_account::KeySet::new_pem()?));
        Ok((State { id: hex(&id), phase: Phase::Trust }, Self { old, new }))
    }

    /// A server's files in a phase.
    ///
    /// # Errors
    /// Where a file is missing or cannot be used.
    pub fn files(&self, phase: Phase, now: Timestamp) -> Result<Shared, Error> {
        let (first, second) = match phase {
            Phase::Trust => (&self.old, Some(&self.new)),
            Phase::Sign => (&self.new, Some(&self.old)),
            Phase::Drop => (&self.new, None),
        };
        let both = |name: &str| -> Result<String, Error> {
            let second = second.map_or(Ok(""), |files| of(files, name))?;
            Ok(format!("{}\n{}", of(first, name)?.trim_end(), second).trim_end().to_owned() + "\n")
        };
        let mut files = vec![(SERVICE_ACCOUNT_KEYS.to_owned(), both(SERVICE_ACCOUNT_KEYS)?)];
        for (ca, name) in CAS {
            let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
            let mut bundle = both(&crt)?;
            if phase == Phase::Sign && *ca == Ca::Server {
                let old = Authority::from_pem(of(&self.old, &crt)?, of(&self.old, &key)?)?;
                let new = Authority::from_pem(of(&self.new, &crt)?, of(&self.new, &key)?)?;
                bundle.push_str(&old.cross_sign(&new, now)?);
            }
            files.push((key.clone(), of(first, &key)?.to_owned()));
            files.push((crt, bundle));
        }
        Ok(files)
    }

    /// The server CAs that are trusted in a phase, as PEM, the signing one first.
    ///
    /// # Errors
    /// Where one is missing.
    pub fn trusted(&self, phase: Phase) -> Result<String, Error> {
        let name = format!("{}.crt", CAS[Ca::Server as usize].1);
        let (old, new) = (of(&self.old, &name)?, of(&self.new, &name)?);
        Ok(match phase {
            Phase::Trust => format!("{old}{new}"),
            Phase::Sign => format!("{new}{old}"),
            Phase::Drop => new.to_owned(),
        })
    }

    /// Two texts, which servers of before and after can open.
    ///
    /// # Errors
    /// Where the cryptography fails.
    pub fn seal(&self, id: &str) -> Result<[String; 2], Error> {
        let plain = serde_json::to_vec(self).map_err(|error| Error::Crypto(error.to_string()))?;
        let name = format!("{}.key", CAS[Ca::Server as usize].1);
        let seal = |files: &Shared| -> Result<String, Error> {
            let mut nonce = [0; 12];
            let failed = |_| Error::Crypto("the rotation cannot be sealed".into());
            SystemRandom::new().fill(&mut nonce).map_err(failed)?;
            let mut bytes = plain.clone();
            cipher(of(files, &name)?)?
                .seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(id.as_bytes()),
                    &mut bytes,
                )
                .map_err(failed)?;
            Ok(STANDARD.encode([&nonce[..], &bytes].concat()))
        };
        Ok([seal(&self.old)?, seal(&self.new)?])
    }

    /// Opens one of [`Self::seal`]'s texts with the key of a server's directory.
    ///
    /// # Errors
    /// Where none of them is for it.
    pub fn open(dir: &Path, id: &str, sealed: &[&str]) -> Result<Self, Error> {
        let path = dir.join(format!("{}.key", CAS[Ca::Server as usize].1));
        let pem = file::read(&path)?.unwrap_or_default();
        let key = cipher(&pem)?;
        for text in sealed {
            let Ok(bytes) = STANDARD.decode(text.trim()) else { continue };
            let Some((nonce, rest)) = bytes.split_first_chunk::<12>() else { continue };
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let mut rest = rest.to_vec();
            if let Ok(plain) = key.open_in_place(nonce, Aad::from(id.as_bytes()), &mut rest) {
                return serde_json::from_slice(plain)
                    .map_err(|error| Error::Crypto(format!("the rotation's keys: {error}")));
            }
        }
        Err(Error::Crypto(
            "the rotation's keys are sealed for another CA than this server's".into(),
        ))
    }
}

fn cipher(key_pem: &str) -> Result<LessSafeKey, Error> {
    let bytes = snapshot_key::derive(key_pem, SEALED_FOR)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes);
    Ok(LessSafeKey::new(key.map_err(|_| Error::Crypto("no cipher".into()))?))
}

/// Lays a phase's files beside those in use; the next [`settle`] takes them.
///
/// # Errors
/// Where the disk says no. Nothing was changed then.
pub fn stage(dir: &Path, files: &Shared, state: &State) -> Result<(), Error> {
    let (staged, new) = (dir.join(STAGED), dir.join(format!("{STAGED}.new")));
    let failed = |source| Error::File { action: "replace directory", path: staged.clone(), source };
    remove(&new)?;
    shared::import(&new, files)?;
    file::write(&new.join(STATE), &state.to_string(), Durable::Yes)?;
    file::sync_dir(&new)?;
    remove(&staged)?;
    fs::rename(&new, &staged).map_err(failed)?;
    file::sync_dir(dir)
}

/// Takes what was staged, whole, whatever a crash has left of it. To be called
/// before the keys are opened. Returns what is applied now.
///
/// # Errors
/// Where the disk says no; the next call goes on.
pub fn settle(dir: &Path) -> Result<Option<State>, Error> {
    let staged = dir.join(STAGED);
    if let Some(state) = file::read(&staged.join(STATE))? {
        shared::import(dir, &shared::export(&staged)?)?;
        file::write(&dir.join(STATE), &state, Durable::Yes)?;
        file::sync_dir(dir)?;
        remove(&staged)?;
    }
    Ok(file::read(&dir.join(STATE))?.and_then(|text| text.parse().ok()))
}

/// Whether a rotation has come to this server: it may be running itself anew.
pub fn has_come(dir: &Path) -> bool {
    dir.join(STATE).exists() || dir.join(STAGED).exists()
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove directory", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Names, Pki, client_key::ca_hash};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn names(node: &str) -> Names {
        Names { node_name: node.into(), ..Names::default() }
    }

    #[test]
    fn a_state_is_read_back() {
        for text in ["0123456789abcdef/trust", "0123456789abcdef/sign", "0123456789abcdef/drop"] {
            assert_eq!(text.parse::<State>().expect(text).to_string(), text);
        }
        for text in ["", "0123456789abcdef", "0123456789abcdef/", "x/trust", "/drop"] {
            assert_eq!(text.parse::<State>(), Err(NotAState), "{text}");
        }
    }

    /// Two servers go through the phases at different times, and believe each other
    /// wherever they are at most one apart.
    #[test]
    fn servers_one_phase_apart_trust_each_other() {
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        Pki::open(a.path(), &names("a"), now()).expect("made");
        shared::import(b.path(), &shared::export(a.path()).expect("whole")).expect("written");
        let later = now() + std::time::Duration::from_secs(60);
        let (state, change) = Change::begin(a.path(), later).expect("begun");
        let sealed = change.seal(&state.id).expect("sealed");
        let sealed = [sealed[0].as_str(), sealed[1].as_str()];
        let open = |dir: &Path| Pki::open(dir, &names("x"), later).expect("usable").0;
        let first_token = {
            let keys = open(a.path());
            keys.service_account_keys().sign(&serde_json::json!({"iss": "me"})).expect("signed")
        };
        let old_hash = open(a.path()).authority(Ca::Server).public_key_hash();
        let old_ca = open(a.path()).authority(Ca::Server).pem().to_owned();
        for (phase, _) in PHASES {
            for dir in [a.path(), b.path()] {
                // The other one is a phase behind.
                let opened = Change::open(dir, &state.id, &sealed).expect("for this server");
                assert_eq!(opened, change);
                let files = opened.files(phase, later).expect("whole");
                stage(dir, &files, &State { id: state.id.clone(), phase }).expect("staged");
                let applied = settle(dir).expect("applied").expect("a state");
                assert_eq!(applied.phase, phase);
                let (x, y) = (open(a.path()), open(b.path()));
                for (server, client) in [(&x, &y), (&y, &x)] {
                    let (serving, _) = server.peer_configs(&[b"p"]).expect("a config");
                    let (_, calling) = client.peer_configs(&[b"p"]).expect("a config");
                    crate::tls::handshake(serving, calling, "localhost").expect("peers");
                    let serving = server.server_config(&[b"h"]).expect("a config");
                    let calling = client.client_config(crate::CertificateName::Admin, &[b"h"]);
                    crate::tls::handshake(serving, calling.expect("a config"), "localhost")
                        .expect("a client");
                }
                let server = open(dir);
                // Who has nothing but the old CA, as a kubeconfig or a join token.
                let old = crate::tls::certificate_from_pem(&old_ca).expect("PEM");
                let old = crate::tls::client_config(None, &[old], &[b"h"], server.clock().clone());
                let serving = server.server_config(&[b"h"]).expect("a config");
                let believed =
                    crate::tls::handshake(serving, old.expect("a config"), "localhost").is_ok();
                assert_eq!(believed, phase != Phase::Drop, "{phase:?}");
                let pinned = |hash| {
                    let client =
                        crate::pinned::client_config(hash, &[b"j"], server.clock().clone());
                    let serving = server.joining_config(&[b"j"]).expect("a config");
                    crate::tls::handshake(serving, client.expect("a config"), "localhost").is_ok()
                };
                assert_eq!(pinned(old_hash), phase != Phase::Drop, "{phase:?}");
                assert!(pinned(server.authority(Ca::Server).public_key_hash()), "{phase:?}");
                // Tokens of before are good until the end.
                let verified = server.service_account_keys().verify(&first_token, "me", &[], later);
                let refused = format!("{verified:?}").contains("invalid signature");
                assert_eq!(refused, phase == Phase::Drop, "{phase:?}: {verified:?}");
                assert_eq!(
                    server.authority(Ca::Server).pem(),
                    change.trusted(phase).expect("whole"),
                    "the cross-signed one is not given out as a CA"
                );
            }
        }
        let new = open(a.path());
        assert_ne!(ca_hash(new.authority(Ca::Server).pem()), Ok(old_hash));
        assert_eq!(certificates(new.authority(Ca::Client).pem()).len(), 1);
    }

    #[test]
    fn what_was_staged_survives_a_crash_and_what_was_not_whole_is_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (keys, _) = Pki::open(dir.path(), &names("a"), now()).expect("made");
        assert_eq!(settle(dir.path()).expect("nothing to do"), None);
        let (state, change) = Change::begin(dir.path(), now()).expect("begun");
        let files = change.files(Phase::Drop, now()).expect("whole");
        stage(dir.path(), &files, &state).expect("staged");
        // Died in the middle of taking it: one file is there.
        let (name, text) = &files[1];
        fs::write(dir.path().join(name), text).expect("written");
        assert_eq!(settle(dir.path()).expect("taken"), Some(state.clone()));
        let (after, _) = Pki::open(dir.path(), &names("a"), now()).expect("usable");
        assert_ne!(after.authority(Ca::Peer).pem(), keys.authority(Ca::Peer).pem());
        // Died before it was whole.
        fs::create_dir(dir.path().join(format!("{STAGED}.new"))).expect("made");
        fs::create_dir(dir.path().join(STAGED)).expect("made");
        assert_eq!(settle(dir.path()).expect("left alone"), Some(state));
        let other = tempfile::tempdir().expect("a folder");
        Pki::open(other.path(), &names("a"), now()).expect("made");
        let sealed = change.seal("id").expect("sealed");
        for id in ["id", "di"] {
            let of = if id == "id" { other.path() } else { dir.path() };
            let error = Change::open(of, id, &[&sealed[0], &sealed[1], "junk"]).expect_err(id);
            assert!(error.to_string().contains("another CA"), "{error}");
        }
    }
}

//! By whose credentials images were pulled, so that a pod gets a private image that is
//! here already only where it could pull it itself. What came otherwise than by a pull
//! is everybody's: the kubelet's `imagePullCredentialsVerificationPolicy`, as it is
//! where nobody sets it (`NeverVerifyPreloadedImages`, KEP-2535).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{images::ImageListing, plugin::digest, sealed};

/// The format's number; a file of another one is not read.
const FORMAT: u32 = 1;
/// Pulls at once; each has several connections, and unpacks what comes.
const PULLS_MAX: usize = 4;
/// Of one image; whoever comes then proves itself by a pull each time.
const SECRETS_MAX: usize = 100;

/// A Secret that a pod names for its pulls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PullSecret {
    /// Empty where it could not be read.
    uid: String,
    namespace: String,
    name: String,
    /// Of what it holds.
    hash: String,
}

impl PullSecret {
    pub(crate) fn new(uid: &str, namespace: &str, name: &str, config: &[u8]) -> Self {
        let [uid, namespace, name] = [uid, namespace, name].map(str::to_owned);
        Self { uid, namespace, name, hash: digest(&String::from_utf8_lossy(config)) }
    }

    /// One that the API could not be asked for.
    pub(crate) fn unread(namespace: &str, name: &str) -> Self {
        let [namespace, name] = [namespace, name].map(str::to_owned);
        Self { uid: String::new(), namespace, name, hash: String::new() }
    }

    /// Whether it is as good as one that has let somebody in. A Secret that holds
    /// something else by now is still whom it is about.
    fn stands_for(&self, known: &Self) -> bool {
        let is_it = self.namespace == known.namespace && self.name == known.name;
        self.hash == known.hash || is_it && (self.uid.is_empty() || self.uid == known.uid)
    }
}

/// Who was let in to an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Access {
    /// Without credentials, or with the node's own.
    everybody: bool,
    secrets: BTreeSet<PullSecret>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Records {
    /// Names whose pulls are under way, or were cut short: nobody knows by whom.
    pulling: BTreeSet<String>,
    /// By the digest, then by the repository.
    pulled: BTreeMap<String, BTreeMap<String, Access>>,
}

impl Records {
    /// `None` where the image did not come by a pull.
    fn access(&self, name: &str, id: &str) -> Option<Access> {
        match self.pulled.get(content(id)) {
            Some(by_repository) => {
                Some(by_repository.get(repository(name)).cloned().unwrap_or_default())
            }
            None => self.pulling.contains(name).then(Access::default),
        }
    }
}

/// The digest of an image's id.
fn content(id: &str) -> &str {
    id.rsplit_once('@').map_or(id, |(_, digest)| digest)
}

/// An image's name without its tag and its digest.
fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        // The port of a registry.
        Some((_, tag)) if tag.contains('/') => name,
        Some((name, _)) => name,
        None => name,
    }
}

/// What is known of all pulls, kept over restarts.
#[derive(Debug)]
pub(crate) struct Pulled {
    path: PathBuf,
    known: Mutex<KnownPulls>,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct KnownPulls {
    records: Records,
    /// Pulls of a name that are under way here.
    under_way: BTreeMap<String, usize>,
}

impl KnownPulls {
    /// One pull of a name is over.
    fn over(&mut self, name: &str) {
        let left = self.under_way.get(name).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => {
                self.under_way.remove(name);
                self.records.pulling.remove(name);
            }
            left => drop(self.under_way.insert(name.to_owned(), left)),
        }
    }
}

impl Pulled {
    /// As an earlier process has left it in this folder. A file that cannot be read is
    /// told and not believed.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join("images-pulled.json");
        let records = sealed::read(&path, FORMAT).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "by whom images were pulled is not known");
            Records::default()
        });
        let known = Mutex::new(KnownPulls { records, ..KnownPulls::default() });
        Self { path, known, turns: Semaphore::new(PULLS_MAX) }
    }

    /// Waits until there is room for one more pull, which ends with what this answers.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// Whether every pod may have an image that is here.
    pub(crate) fn is_everybodys(&self, name: &str, id: &str) -> bool {
        self.lock().records.access(name, id).is_none_or(|access| access.everybody)
    }

    /// Whether a pod with these Secrets may.
    pub(crate) fn lets_in(&self, name: &str, id: &str, secrets: &[PullSecret]) -> bool {
        self.lock().records.access(name, id).is_none_or(|access| {
            let known = |secret: &PullSecret| access.secrets.iter().any(|k| secret.stands_for(k));
            access.everybody || secrets.iter().any(known)
        })
    }

    /// A pull begins.
    ///
    /// # Errors
    /// Where that cannot be kept: the image would pass for everybody's.
    pub(crate) fn begin(&self, name: &str) -> io::Result<()> {
        self.change(|known| {
            known.records.pulling.insert(name.to_owned());
            *known.under_way.entry(name.to_owned()).or_default() += 1;
        })
    }

    /// It has come to nothing, as far as this pod is concerned.
    pub(crate) fn failed(&self, name: &str) {
        self.told(name, |known| known.over(name));
    }

    /// It is done, by this Secret, or by nobody's in particular.
    pub(crate) fn done(&self, name: &str, id: &str, by: Option<&PullSecret>) {
        self.told(name, |known| {
            known.over(name);
            let of = known.records.pulled.entry(content(id).to_owned()).or_default();
            let access = of.entry(repository(name).to_owned()).or_default();
            match by {
                None => *access = Access { everybody: true, ..Access::default() },
                Some(secret) if !access.everybody && access.secrets.len() < SECRETS_MAX => {
                    access.secrets.insert(secret.clone());
                }
                Some(_) => {}
            }
        });
    }

    /// What is to be handed to [`Self::retain`].
    pub(crate) fn digests(&self) -> BTreeSet<String> {
        self.lock().records.pulled.keys().cloned().collect()
    }

    /// Forgets of these digests, which were known before the images were listed, those
    /// that none has any more.
    pub(crate) fn retain(&self, known: BTreeSet<String>, images: &[ImageListing]) {
        let names = images.iter().flat_map(|image| &image.names);
        let here: BTreeSet<&str> = names.map(|name| content(name)).collect();
        self.told("all", |all| {
            let pulled = &mut all.records.pulled;
            pulled.retain(|digest, _| here.contains(&**digest) || !known.contains(digest));
        });
    }

    fn told(&self, image: &str, change: impl FnOnce(&mut KnownPulls)) {
        if let Err(error) = self.change(change) {
            let path = self.path.display();
            tracing::warn!(%path, image, %error, "by whom an image was pulled is not kept");
        }
    }

    fn change(&self, change: impl FnOnce(&mut KnownPulls)) -> io::Result<()> {
        let mut known = self.lock();
        let before = known.records.clone();
        change(&mut known);
        match known.records == before {
            true => Ok(()),
            false => sealed::write(&self.path, FORMAT, &known.records),
        }
    }

    fn lock(&self) -> MutexGuard<'_, KnownPulls> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "r.io/a@sha256:1";

    fn secret(namespace: &str, holds: &str) -> PullSecret {
        PullSecret::new(&format!("uid of {namespace}"), namespace, "s", holds.as_bytes())
    }

    #[test]
    fn names_lose_tag_and_digest() {
        for (name, expected) in [
            ("nginx", "nginx"),
            ("nginx:1", "nginx"),
            ("r.io:5000/a/b", "r.io:5000/a/b"),
            ("r.io:5000/a/b:1", "r.io:5000/a/b"),
            ("r.io:5000/a/b:1@sha256:2", "r.io:5000/a/b"),
        ] {
            assert_eq!(repository(name), expected);
        }
    }

    #[test]
    fn who_could_pull_it_gets_what_is_here() {
        let dir = tempfile::tempdir().expect("a directory");
        let pulled = Pulled::open(dir.path());
        let (own, other) = (secret("own", "password"), secret("other", "guess"));
        // What was imported, or comes with the program.
        assert!(pulled.is_everybodys("r.io/a:1", ID) && pulled.lets_in("r.io/a:1", ID, &[]));
        pulled.begin("r.io/a:1").expect("written");
        assert!(!pulled.lets_in("r.io/a:1", ID, &[]), "nobody knows yet");
        pulled.done("r.io/a:1", ID, Some(&own));
        assert!(!pulled.is_everybodys("r.io/a:1", ID));
        let may =
            |pulled: &Pulled, name: &str, secrets: &[PullSecret]| pulled.lets_in(name, ID, secrets);
        for (name, secrets, expected) in [
            ("r.io/a:1", vec![own.clone()], true),
            ("r.io/a:2", vec![own.clone()], true),
            ("r.io/a@sha256:1", vec![other.clone(), own.clone()], true),
            ("r.io/a:1", vec![], false),
            ("r.io/a:1", vec![other.clone()], false),
            // It holds another password by now, or another one holds the same.
            ("r.io/a:1", vec![secret("own", "new")], true),
            ("r.io/a:1", vec![secret("other", "password")], true),
            // The API cannot be asked.
            ("r.io/a:1", vec![PullSecret::unread("own", "s")], true),
            ("r.io/a:1", vec![PullSecret::unread("other", "s")], false),
            // The same content under a name that nobody has pulled it by.
            ("r.io/b:1", vec![own.clone()], false),
        ] {
            assert_eq!(may(&pulled, name, &secrets), expected, "{name} {secrets:?}");
            let again = Pulled::open(dir.path());
            assert_eq!(may(&again, name, &secrets), expected, "{name} {secrets:?}, kept");
        }
        pulled.done("r.io/a:1", ID, None);
        assert!(pulled.is_everybodys("r.io/a:2", ID));
        pulled.done("r.io/a:1", ID, Some(&other));
        assert!(pulled.is_everybodys("r.io/a:2", ID), "that takes nothing back");
    }

    #[tokio::test]
    async fn so_many_pulls_go_on_at_once_and_the_next_has_its_turn() {
        use futures_util::FutureExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let pulled = Pulled::open(dir.path());
        let mut turns = Vec::new();
        while let Some(turn) = pulled.turn().now_or_never() {
            turns.push(turn);
        }
        assert_eq!(turns.len(), PULLS_MAX);
        let mut next = Box::pin(pulled.turn());
        assert!(next.as_mut().now_or_never().is_none());
        turns.pop();
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn what_came_to_nothing_guards_nothing_and_what_is_gone_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let pulled = Pulled::open(dir.path());
        pulled.begin("r.io/a:1").expect("written");
        // Cut short: of the next process's images nobody knows who has pulled this one.
        assert!(!Pulled::open(dir.path()).is_everybodys("r.io/a:1", ID));
        pulled.begin("r.io/a:1").expect("written");
        pulled.failed("r.io/a:1");
        assert!(!pulled.is_everybodys("r.io/a:1", ID), "another pull of it is under way");
        pulled.failed("r.io/a:1");
        assert!(pulled.is_everybodys("r.io/a:1", ID));
        pulled.done("r.io/a:1", ID, Some(&secret("own", "x")));
        let known = pulled.digests();
        pulled.done("r.io/b:1", "r.io/b@sha256:2", Some(&secret("own", "x")));
        pulled.retain(known.clone(), &[ImageListing { names: vec![ID.into()], size_bytes: 1 }]);
        assert_eq!(pulled.digests().len(), 2);
        pulled.retain(known, &[]);
        assert_eq!(pulled.digests(), ["sha256:2".to_owned()].into(), "it is younger than the list");
    }
}

//! When images were last in use, kept over restarts: an image that was used
//! yesterday must not go before one that nobody has used for a year.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use crate::sealed;

/// The format's number; a file of another one is not read.
const FORMAT: u32 = 1;
/// More are not remembered; the oldest are forgotten first.
const IMAGES_MAX: usize = 1000;

/// What is known of it.
#[derive(Debug)]
pub(super) struct LastUse {
    path: PathBuf,
    /// As containers had it when somebody looked last.
    in_use: BTreeSet<String>,
    /// Of those that are in use no more, by the image's id, seconds since 1970.
    ended: BTreeMap<String, u64>,
}

impl LastUse {
    /// As an earlier process has left it in this folder. A file that cannot be read is
    /// told and not believed.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join("images-used.json");
        let ended = sealed::read(&path, FORMAT).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "when images were used last is not known");
            BTreeMap::new()
        });
        Self { path, in_use: BTreeSet::new(), ended }
    }

    /// Takes in what is in use `now`. The file is written only where an image is used
    /// no more, which is seldom.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn note(&mut self, in_use: BTreeSet<String>, now: u64) -> io::Result<()> {
        let over: Vec<String> = self.in_use.difference(&in_use).cloned().collect();
        self.in_use = in_use;
        if over.is_empty() {
            return Ok(());
        }
        self.ended.extend(over.into_iter().map(|id| (id, now)));
        if self.ended.len() > IMAGES_MAX {
            let mut times: Vec<u64> = self.ended.values().copied().collect();
            times.sort_unstable();
            let oldest = times[times.len() - IMAGES_MAX];
            self.ended.retain(|_, time| *time >= oldest);
        }
        sealed::write(&self.path, FORMAT, &self.ended)
    }

    /// What is in use.
    pub(super) fn in_use(&self) -> &BTreeSet<String> {
        &self.in_use
    }

    /// When each was used last, those in use among them.
    pub(super) fn times(&self, now: u64) -> BTreeMap<String, u64> {
        let mut times = self.ended.clone();
        times.extend(self.in_use.iter().map(|id| (id.clone(), now)));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_over_restarts_and_written_where_a_use_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let ids = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect();
        let mut known = LastUse::open(dir.path());
        known.note(ids(&["a", "b"]), 10).expect("nothing to write");
        assert!(!dir.path().join("images-used.json").exists());
        known.note(ids(&["b"]), 20).expect("written");
        let mut again = LastUse::open(dir.path());
        assert_eq!(again.times(30), [("a".into(), 20)].into());
        again.note(ids(&["a", "c"]), 30).expect("nothing to write");
        assert_eq!(again.times(40), [("a".into(), 40), ("c".into(), 40)].into());
        // Somebody's hand.
        let path = dir.path().join("images-used.json");
        let text = std::fs::read_to_string(&path).expect("written");
        std::fs::write(&path, text.replace("20", "99")).expect("our own file");
        assert_eq!(LastUse::open(dir.path()).times(0), BTreeMap::new());
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut known = LastUse::open(dir.path());
        for (n, time) in (0..1005u64).zip(100..) {
            known.in_use = [n.to_string()].into();
            // Only the last one is worth a write.
            match n {
                1004 => known.note(BTreeSet::new(), time).expect("written"),
                _ => drop(known.ended.insert(n.to_string(), time)),
            }
        }
        assert_eq!((known.ended.len(), known.ended.get("4")), (IMAGES_MAX, None));
    }
}

//! Which images may go: a plan, made from what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{Digest, Image};

/// What the plan needs to know of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its ID.
    pub id: Digest,
    /// Never to be removed.
    pub pinned: bool,
    /// What removing it may free, in bytes.
    pub size_bytes: u64,
    /// Seconds since 1970.
    pub added_at: u64,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Stop once so many bytes are free; `None` for all that is unused.
    pub free_bytes: Option<u64>,
    /// Images of containers, running or not.
    pub in_use: BTreeSet<Digest>,
    /// When each image was last used, in seconds since 1970; those missing
    /// count from when they were added.
    pub last_used: BTreeMap<Digest, u64>,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Younger images stay, so that none goes between its pull and its start
    /// (kubelet's `imageMinimumGCAge`).
    pub age_min: Duration,
}

/// What the plan sees of images.
pub fn view(images: &[Arc<Image>]) -> Vec<Seen> {
    let seen = |image: &Arc<Image>| Seen {
        id: image.id,
        pinned: image.pinned,
        size_bytes: image.size_bytes,
        added_at: image.added_at,
    };
    images.iter().map(seen).collect()
}

/// The images to remove: unused ones, the longest unused first, until enough
/// is free.
pub fn plan(images: &[Seen], request: &Request) -> BTreeSet<Digest> {
    let last_used = |seen: &Seen| {
        request.last_used.get(&seen.id).copied().unwrap_or(seen.added_at).max(seen.added_at)
    };
    // One that was added later than it is came before the clock was set back.
    let is_young = |seen: &&Seen| {
        let age = request.now.checked_sub(seen.added_at);
        age.is_some_and(|age| age < request.age_min.as_secs())
    };
    let mut candidates: Vec<&Seen> = images
        .iter()
        .filter(|seen| !seen.pinned && !request.in_use.contains(&seen.id))
        .filter(|seen| !is_young(seen))
        .collect();
    candidates.sort_by_key(|seen| (last_used(seen), seen.id));
    let mut freed = 0;
    let mut chosen = BTreeSet::new();
    for seen in candidates {
        if request.free_bytes.is_some_and(|wanted| freed >= wanted) {
            break;
        }
        freed += seen.size_bytes;
        chosen.insert(seen.id);
    }
    chosen
}

/// The layers on the disk that nothing needs.
pub(crate) fn unused(on_disk: &[Digest], needed: &BTreeSet<Digest>) -> Vec<Digest> {
    on_disk.iter().filter(|chain| !needed.contains(chain)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first_and_no_more_than_needed() {
        let id = |text: &str| Digest::of(text.as_bytes());
        let seen = |name, pinned, added_at| Seen { id: id(name), pinned, size_bytes: 10, added_at };
        let images = [
            seen("old", false, 1),
            seen("older-but-used-later", false, 0),
            seen("pinned", true, 0),
            seen("running", false, 0),
            seen("young", false, 95),
        ];
        let request = Request {
            free_bytes: Some(15),
            in_use: [id("running")].into(),
            last_used: [(id("older-but-used-later"), 50)].into(),
            now: 100,
            age_min: Duration::from_secs(10),
        };
        assert_eq!(plan(&images, &request), [id("old"), id("older-but-used-later")].into());
        let few = Request { free_bytes: Some(5), ..request.clone() };
        assert_eq!(plan(&images, &few), [id("old")].into());
        let all = Request { free_bytes: None, now: 1000, ..request };
        assert_eq!(plan(&images, &all).len(), 3);
        let set_back = Request { now: 50, ..all };
        assert_eq!(plan(&images, &set_back).len(), 3, "the young one is from before that");
        assert_eq!(unused(&[id("a"), id("b")], &[id("b")].into()), [id("a")]);
    }
}

//! Which pod has which of the node's users and groups (`hostUsers: false`). Like
//! addresses, they are kept with the pod's sandbox, and by nobody else.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use node_runtime::spec::Ids;

/// As many as every image may use, and as kubelet gives.
const COUNT: u32 = 1 << 16;

/// The node's own users are below the first range; 2^31 and above is left to
/// whoever else hands out IDs.
const RANGES: u32 = 1 << 15;

/// The ranges of this node's pods, by UID.
#[derive(Debug, Default)]
pub(crate) struct UserRanges(Mutex<BTreeMap<String, u32>>);

impl UserRanges {
    /// Takes in what an earlier process gave a pod.
    pub(crate) fn adopt(&self, uid: &str, ids: Ids) {
        self.lock().insert(uid.to_owned(), ids.first / COUNT);
    }

    /// The pod's range; the same at every call until it is released.
    pub(crate) fn allocate(&self, uid: &str) -> Result<Ids, String> {
        let mut ranges = self.lock();
        let range = match ranges.get(uid) {
            Some(range) => *range,
            None => {
                let is_free = |range: &u32| !ranges.values().any(|taken| taken == range);
                (1..RANGES).find(is_free).ok_or("no range of users is left")?
            }
        };
        ranges.insert(uid.to_owned(), range);
        Ok(Ids { first: range * COUNT, count: COUNT })
    }

    pub(crate) fn release(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pods_share_users() {
        let ranges = UserRanges::default();
        ranges.adopt("old", Ids { first: 2 * COUNT, count: COUNT });
        let first = |uid: &str| ranges.allocate(uid).expect("there are more").first / COUNT;
        assert_eq!([first("a"), first("b"), first("a"), first("old")], [1, 3, 1, 2]);
        ranges.release("a");
        assert_eq!(first("c"), 1);
    }
}

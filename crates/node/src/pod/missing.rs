//! Of whom nobody knows. Who is taken to be gone is stopped and loses its files, so each that
//! may know is asked: the API's list, the runtime, and who is looked after. A pod of a shape
//! that is not understood is listed, may run, and is not looked after.

use std::collections::{BTreeMap, BTreeSet};

use node_runtime::Sandbox;

/// By uid, what runs and has no pod in the API any more.
pub(super) fn orphans<T>(
    sandboxes: Vec<Sandbox>,
    listed: &BTreeSet<String>,
    tended: &BTreeMap<String, T>,
) -> BTreeMap<String, Vec<Sandbox>> {
    let mut orphans: BTreeMap<String, Vec<Sandbox>> = BTreeMap::new();
    for sandbox in sandboxes {
        let uid = &sandbox.spec.pod_uid;
        if !listed.contains(uid) && !tended.contains_key(uid) {
            orphans.entry(uid.clone()).or_default().push(sandbox);
        }
    }
    orphans
}

/// All by whom a pod may be known.
pub(super) struct Known<'a, T> {
    pub(super) listed: &'a BTreeSet<String>,
    pub(super) running: &'a BTreeSet<String>,
    pub(super) tended: &'a BTreeMap<String, T>,
}

impl<T> Known<'_, T> {
    /// What a pod has on this node is somebody's.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.listed.contains(uid) || self.running.contains(uid) || self.tended.contains_key(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_to_anybody_keeps_what_it_has() {
        let set = |uid: &str| BTreeSet::from([uid.to_owned()]);
        let (listed, running) = (set("of a strange shape"), set("runs"));
        let tended = BTreeMap::from([("tended".to_owned(), ())]);
        let known = Known { listed: &listed, running: &running, tended: &tended };
        let uids = ["of a strange shape", "runs", "tended", "left by a crash"];
        assert_eq!(uids.map(|uid| known.has(uid)), [true, true, true, false]);
    }
}

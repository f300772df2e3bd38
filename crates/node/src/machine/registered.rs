//! Whether the API has this machine's Node: from what the watch tells, which is behind, and
//! from what writing to it was answered.

use client::{Reflected, revision};

/// What is known of the Node.
#[derive(Debug, Default)]
pub(super) struct Registered {
    there: Option<There>,
    /// Whether the Node was told of since the watch began anew, until that is complete.
    told: Option<bool>,
}

#[derive(Debug)]
struct There {
    uid: String,
    revision: u64,
}

impl Registered {
    pub(super) fn is_there(&self) -> bool {
        self.there.is_some()
    }

    /// The Node as it was written or read.
    pub(super) fn found(&mut self, uid: &str, version: &str) {
        let revision = revision(version).max(self.there.as_ref().map_or(0, |known| known.revision));
        self.there = Some(There { uid: uid.to_owned(), revision });
    }

    /// The API has said that there is none; whether that is news.
    pub(super) fn lost(&mut self) -> bool {
        self.there.take().is_some()
    }

    /// Takes in what the watch tells; whether the Node is gone by that.
    pub(super) fn hear(&mut self, event: &Reflected) -> bool {
        let is_gone = match (event, &self.there) {
            (Reflected::Restart, _) => {
                self.told = Some(false);
                false
            }
            (Reflected::Upsert(object), _) => {
                self.told = self.told.map(|_| true);
                self.found(&object.meta.uid, &object.meta.resource_version);
                false
            }
            // Of one that was replaced since it may be told late.
            (Reflected::Delete(object), Some(known)) => known.uid == object.meta.uid,
            // A state from before it was made does not have it, nor need a memory.
            (Reflected::Synced(at), known) => {
                let lacks = self.told.take() == Some(false);
                lacks && known.as_ref().is_some_and(|known| revision(at) >= known.revision)
            }
            (Reflected::Delete(_) | Reflected::Progress(_), _) => false,
        };
        is_gone && self.lost()
    }
}

#[cfg(test)]
mod tests {
    use api_object::Object;
    use serde_json::json;

    use super::*;
    use crate::TOLD_BEFORE;

    fn node(uid: &str, version: &str) -> Object {
        let object = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "uid": uid, "resourceVersion": version}});
        Object::parse(object.to_string().into()).expect("a Node")
    }

    fn synced(at: &str) -> Reflected {
        Reflected::Synced(at.to_owned())
    }

    #[test]
    fn a_node_that_a_new_list_lacks_is_gone() {
        let mut registered = Registered::default();
        registered.found("a", "5");
        assert!(!registered.hear(&Reflected::Restart));
        assert!(!registered.hear(&Reflected::Upsert(node("a", "5"))));
        assert!(!registered.hear(&synced("9")) && registered.is_there());
        registered.hear(&Reflected::Restart);
        assert!(registered.hear(&synced("10")) && !registered.is_there());
        registered.hear(&Reflected::Restart);
        assert!(!registered.hear(&synced("11")), "that is no news");
    }

    #[test]
    fn what_is_older_than_the_node_says_nothing_of_it() {
        let mut registered = Registered::default();
        assert!(!registered.hear(&Reflected::Restart));
        registered.found("b", "7");
        assert!(!registered.hear(&synced("6")), "the list is from before");
        assert!(!registered.hear(&Reflected::Delete(node("a", "8"))), "that was another");
        registered.hear(&Reflected::Restart);
        assert!(!registered.hear(&synced(TOLD_BEFORE)), "memory may lag");
        assert!(registered.is_there());
        assert!(registered.hear(&Reflected::Delete(node("b", "9"))));
        registered.found("c", "12");
        assert!(registered.is_there() && registered.lost() && !registered.is_there());
    }
}

//! What changes in the same commit as an object: a transaction with more keys.

use api_object::{Reason, Status, status::Details, time};
use api_schema::tree;
use store::{Condition, Conflict, Key, Op, Txn};

use crate::{Registry, admission::Beside, stored};

impl Registry {
    /// The object's own transaction with everything beside it.
    pub(crate) fn with_beside(&self, mut txn: Txn, beside: &[Beside]) -> Txn {
        // A transaction's revision is its last operation's: the object's own.
        let own = std::mem::take(&mut txn.ops);
        for change in beside {
            match change {
                Beside::Create { group, plural, object } => {
                    let mut object = object.clone();
                    tree::set(&mut object, "metadata.uid", self.new_uid());
                    let now = time::format_seconds(self.now());
                    tree::set(&mut object, "metadata.creationTimestamp", now);
                    let key = Key::new(group, plural, "", tree::text(&object, "metadata.name"));
                    txn.conditions.push((key.clone(), Condition::Absent));
                    txn.ops.push(Op::Put(stored::put_as_is(key, &object, self.epoch)));
                }
                Beside::Delete { group, plural, name } => {
                    txn.ops.push(Op::Delete { key: Key::new(group, plural, "", name) });
                }
            }
        }
        txn.ops.extend(own);
        txn
    }
}

/// Whether it was not the object itself that stood in the way: its own
/// condition is the first.
pub(crate) fn was_beside(conflict: &Conflict) -> bool {
    conflict.condition > 0
}

/// 429: clients wait and try again, and find another choice.
pub(crate) fn taken() -> Status {
    let details = Details { retry_after_seconds: 1, ..Details::default() };
    Status::failure(
        Reason::TooManyRequests,
        "what was chosen for the object was taken meanwhile; please try again",
    )
    .with_details(details)
}

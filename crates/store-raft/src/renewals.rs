//! Renewals, which are in no log: from the leader, which makes them, to the
//! other members, which keep them in memory.
//!
//! The leader counts them. Each member is told of all that come after those it
//! has; one that misses some (it has just started, or the leader is new) is
//! told of all that hold. So whoever leads next holds the leases that the last
//! one renewed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use store::{Mvcc, Renewed, Revision};
use tokio::sync::watch;

use crate::{
    consensus::machine::{RenewalsSeen, Shared},
    forward::{from_renewed, to_renewed},
    peers::{Links, Method},
    proto::raft_v1::{Node, RenewedRequest, RenewedResponse},
};

/// Remembered one by one; who misses more is told of all.
const RECENT_MAX: usize = 1024;
/// After a member could not be told.
const TELL_AGAIN: Duration = Duration::from_millis(300);
/// How long a member may take to apply what a renewal stands on.
const APPLIED_MAX: Duration = Duration::from_secs(3);

/// What this server made while it leads.
pub(crate) struct Made {
    recent: Mutex<VecDeque<Renewed>>,
    /// How many there were in the life of this process. Written under the lock
    /// of `recent`.
    count: watch::Sender<u64>,
}

impl Default for Made {
    fn default() -> Self {
        Self { recent: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Made {
    /// How many were made.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Counts one and remembers it for the others. The caller holds the state's
    /// lock, so that they are in the order of their revisions.
    pub(crate) fn add(&self, renewed: Renewed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(renewed);
        self.count.send_modify(|count| *count += 1);
    }

    /// Those after the first `after`, and how many there are with them; `None`
    /// where they are no longer remembered.
    fn since(&self, after: u64) -> Option<(Vec<Renewed>, u64)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count();
        let skip = (recent.len() as u64).checked_sub(count.checked_sub(after)?)?;
        let skip = usize::try_from(skip).ok()?;
        Some((recent.iter().skip(skip).cloned().collect(), count))
    }
}

/// Tells one member of every renewal, as the leader of `term`. Never ends.
pub(crate) async fn tell(
    shared: Arc<Shared>,
    made: Arc<Made>,
    links: Links,
    term: u64,
    (id, node): (u64, Node),
) {
    let mut count = made.count.subscribe();
    let mut told: Option<u64> = None;
    loop {
        let request = next_request(&shared, &made, term, told);
        if let Some(request) = request {
            let answer: Result<RenewedResponse, _> =
                links.call((id, &node), Method::Renewed, &request).await;
            match answer {
                Ok(answer) if answer.misses => told = None,
                Ok(_) => told = Some(request.after + request.count),
                Err(_) => {
                    told = None;
                    tokio::time::sleep(TELL_AGAIN).await;
                }
            }
            continue;
        }
        if count.changed().await.is_err() {
            return;
        }
    }
}

/// What a member is to be told, that was told of the first `told`.
fn next_request(
    shared: &Shared,
    made: &Made,
    term: u64,
    told: Option<u64>,
) -> Option<RenewedRequest> {
    let mvcc = shared.mvcc.read().unwrap_or_else(PoisonError::into_inner);
    let revision = mvcc.revision().0;
    match told.and_then(|told| Some((told, made.since(told)?))) {
        Some((_, (items, _))) if items.is_empty() => None,
        Some((told, (items, count))) => Some(RenewedRequest {
            term,
            after: told,
            count: count - told,
            all: false,
            items: items.iter().map(to_renewed).collect(),
            revision,
        }),
        None => Some(all(&mvcc, made, term)),
    }
}

/// All that hold.
pub(crate) fn all(mvcc: &Mvcc, made: &Made, term: u64) -> RenewedRequest {
    RenewedRequest {
        term,
        after: 0,
        count: made.count(),
        all: true,
        items: mvcc.all_renewed().iter().map(to_renewed).collect(),
        revision: mvcc.revision().0,
    }
}

/// Whether a member that has seen so much may take in what it is told.
fn follows(seen: RenewalsSeen, request: &RenewedRequest) -> bool {
    if request.all {
        // What was under way for long must not take back what was told meanwhile: who told
        // it would not tell it again.
        return (seen.term, seen.count) <= (request.term, request.count);
    }
    seen.term == request.term && seen.count == request.after
}

/// Takes in what the leader tells.
pub(crate) async fn take(shared: &Shared, request: RenewedRequest) -> RenewedResponse {
    let misses = RenewedResponse { misses: true };
    if !follows(*shared.renewals.borrow(), &request) {
        return misses;
    }
    // They stand on entries that this member may not have applied yet.
    let revision = Revision(request.revision);
    let entry = Revision(revision.0 & !((1 << Revision::OP_BITS) - 1));
    let applied = shared.read().applied(entry);
    if tokio::time::timeout(APPLIED_MAX, applied).await.is_err() {
        return misses;
    }
    let mut mvcc = shared.mvcc.write().unwrap_or_else(PoisonError::into_inner);
    // A snapshot or another leader may have come in between.
    if !follows(*shared.renewals.borrow(), &request) {
        return misses;
    }
    mvcc.tick(shared.start.elapsed());
    let mut items: Vec<Renewed> = request.items.into_iter().map(from_renewed).collect();
    items.sort_by_key(|renewed| renewed.revision);
    if request.all {
        mvcc.forget_renewed(&items.iter().map(|renewed| renewed.key.clone()).collect());
    }
    for renewed in items {
        mvcc.take_renewed(renewed);
    }
    mvcc.raise(revision);
    let count = request.after + request.count;
    shared.renewals.send_replace(RenewalsSeen { term: request.term, count });
    RenewedResponse { misses: false }
}

#[cfg(test)]
mod tests {
    use store::{Key, Value};

    use super::*;

    fn renewed(number: u64) -> Renewed {
        Renewed {
            key: Key::new("", "leases", "default", "a"),
            value: Value::default(),
            revision: Revision(number),
            over: Revision(1),
        }
    }

    #[test]
    fn what_is_no_longer_remembered_is_said_to_be_missing() {
        let made = Made::default();
        assert_eq!(made.since(0), Some((Vec::new(), 0)));
        let many = RECENT_MAX as u64 + 10;
        (1..=many).for_each(|number| made.add(renewed(number)));
        assert_eq!(made.since(many), Some((Vec::new(), many)));
        assert_eq!(made.since(many - 1), Some((vec![renewed(many)], many)));
        assert_eq!(made.since(9), None);
        assert_eq!(made.since(many + 1), None);
        assert_eq!(made.since(10).expect("remembered").0.len(), RECENT_MAX);
    }

    #[test]
    fn a_member_goes_forward_only() {
        let seen = RenewalsSeen { term: 3, count: 5 };
        let told = |all, term, after, count| {
            follows(seen, &RenewedRequest { all, term, after, count, ..Default::default() })
        };
        for (what, all, term, after, count, expect) in [
            ("the next", false, 3, 5, 1, true),
            ("with a gap", false, 3, 6, 1, false),
            ("once more", false, 3, 4, 1, false),
            ("the next of another leader", false, 4, 5, 1, false),
            ("all that is newer", true, 3, 0, 7, true),
            ("all that it knows", true, 3, 0, 5, true),
            ("all, as it was before", true, 3, 0, 4, false),
            ("all of the next leader", true, 4, 0, 0, true),
            ("all of the last leader", true, 2, 0, 9, false),
        ] {
            assert_eq!(told(all, term, after, count), expect, "{what}");
        }
    }
}

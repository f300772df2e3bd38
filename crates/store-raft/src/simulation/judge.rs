//! Whether what was promised was kept.

use std::{collections::BTreeMap, time::Duration};

use store::{
    Range, Revision, Store as _, Txn,
    linear::{Op, is_linearizable},
};
use tokio::time::{sleep, timeout};

use super::run::{KEYS, SERVERS, Trace, World, address, key, value_of};

/// What a watch told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) revision: Revision,
    pub(super) key: String,
    pub(super) value: u64,
}

/// What a client wrote: at a revision, or perhaps.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) value: u64,
    pub(super) revision: Option<Revision>,
}

/// What is wrong with a watch from before all writes to after them: it tells each that
/// was acknowledged, where it was, and nothing that nobody wrote.
fn misses(written: &[Written], told: &[Told]) -> Option<String> {
    let told_at: BTreeMap<Revision, &Told> =
        told.iter().map(|told| (told.revision, told)).collect();
    for write in written {
        let Some(revision) = write.revision else { continue };
        let same = |told: &&&Told| (&told.key, told.value) == (&write.key, write.value);
        if told_at.get(&revision).filter(same).is_none() {
            return Some(format!("{write:?} was not told"));
        }
    }
    for told in told {
        // A message that comes twice is a write that is done twice.
        let is_it = |write: &Written| (&write.key, write.value) == (&told.key, told.value);
        if !written.iter().any(is_it) {
            return Some(format!("{told:?} was not written"));
        }
    }
    None
}

impl World {
    /// After the storm everything works again, and everybody knows the same.
    pub(super) async fn ends_well(&self) {
        for at in 0..SERVERS {
            self.net.cut(&address(at), false);
            // A disk that failed is replaced by one that holds what it held.
            if self.seats[at].store().is_some_and(|store| store.health().is_err()) {
                self.kill(at).await;
            }
            self.start(at).await;
        }
        let settled = async {
            for at in 0..SERVERS {
                let (store, pace) = (self.seats[at].store().expect("it runs"), self.seats[at].pace);
                while pace.scope(store.commit(Txn::default())).await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
                while pace.scope(store.read_barrier()).await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let recovered = timeout(Duration::from_secs(120), settled).await;
        let leads = || self.seats.iter().map(|seat| Some(seat.store()?.consensus.lead()));
        assert!(recovered.is_ok(), "it recovers by itself: {:#?}", Vec::from_iter(leads()));
        let last = self.seats[0].store().expect("it runs");
        let page = last.range(&Range::all("/configmaps/")).expect("readable");
        let newest = page.items.iter().map(|item| item.revision).max().unwrap_or_default();
        for seat in &self.seats {
            let store = seat.store().expect("it runs");
            seat.pace.scope(store.read_barrier()).await.expect("a quorum");
            assert_eq!(
                store.range(&Range::all("/configmaps/")).expect("readable").items,
                page.items
            );
            let told = async {
                while seat.resume.get() < newest {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(Duration::from_secs(20), told).await.expect("the watch tells the last change");
        }
        for number in 0..KEYS {
            let item = last.get(&key(number), None).expect("the present");
            let found = item.map_or(0, |item| value_of(&item.value.data));
            let called = self.now();
            self.record(number, Op::Read(found), called, true);
        }
    }

    pub(super) fn judge(&self, seed: u64) -> Trace {
        for (number, history) in self.histories.borrow().iter() {
            assert!(
                is_linearizable(history),
                "seed {seed}: the history of key {number} is not linearizable: {history:#?}"
            );
        }
        for (at, seat) in self.seats.iter().enumerate() {
            let wrong = misses(&self.written.borrow(), &seat.told.borrow());
            assert_eq!(wrong, None, "seed {seed}: the watch on server {at}");
        }
        let first = self.seats[0].told.borrow();
        for (at, seat) in self.seats.iter().enumerate().skip(1) {
            // They began to watch one after the other.
            let told = seat.told.borrow();
            let (a, b) = (&first[..], &told[..]);
            let both = a.len().min(b.len());
            assert_eq!(a[a.len() - both..], b[b.len() - both..], "seed {seed}: servers 0 and {at}");
        }
        let traced = |told: &Told| (told.revision.0, format!("{}={}", told.key, told.value));
        first.iter().map(traced).collect()
    }
}

#[test]
fn a_watch_that_skips_or_invents_is_found() {
    let told = |at: u64, key: &str, value| Told { revision: Revision(at), key: key.into(), value };
    let wrote = |at: Option<u64>, key: &str, value| Written {
        key: key.into(),
        value,
        revision: at.map(Revision),
    };
    let written = [wrote(Some(1), "a", 1), wrote(None, "a", 2), wrote(Some(3), "b", 3)];
    let (one, perhaps, three) = (told(1, "a", 1), told(2, "a", 2), told(3, "b", 3));
    for (what, told, right) in [
        ("all", vec![&one, &perhaps, &three], true),
        ("what is sure", vec![&one, &three], true),
        ("a skip", vec![&one, &perhaps], false),
        ("none", vec![], false),
        ("another revision", vec![&one, &told(4, "b", 3)], false),
        ("another value", vec![&one, &told(3, "b", 1)], false),
        ("another key", vec![&one, &told(3, "a", 3)], false),
        ("one too many", vec![&one, &three, &told(4, "b", 4)], false),
    ] {
        let told: Vec<Told> = told.into_iter().cloned().collect();
        assert_eq!(misses(&written, &told).is_none(), right, "{what}");
    }
}

//! The state machine against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    Condition, Key, Limits, Mvcc, Op, Put, Range, ReadError, Renewal, Revision, Txn, Value,
};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    PutIf(u8, u8, u8),
    Delete(u8),
    Renew(u8, u8),
    Blank,
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, any::<u8>()).prop_map(|(key, data)| Step::Put(key, data)),
        2 => (0..6_u8, any::<u8>(), 0..3_u8).prop_map(|(key, data, how)| Step::PutIf(key, data, how)),
        2 => (0..6_u8).prop_map(Step::Delete),
        2 => (0..6_u8, any::<u8>()).prop_map(|(key, data)| Step::Renew(key, data)),
        1 => Just(Step::Blank),
        1 => Just(Step::Restore),
    ]
}

type State = BTreeMap<Key, (Revision, Vec<u8>)>;

fn key(number: u8) -> Key {
    Key::new("g", if number < 3 { "a" } else { "b" }, "n", &number.to_string())
}

fn put(number: u8, data: u8) -> Put {
    let value = Value { epoch: 0, data: vec![data; 3].into() };
    Put { key: key(number), value, revision_at: None }
}

fn read(mvcc: &Mvcc, prefix: &str, at: Option<Revision>) -> State {
    let page = mvcc.range(&Range { at, ..Range::all(prefix) }).expect("in the window");
    assert_eq!(page.remaining, 0);
    let item = |item: crate::Item| (item.key, (item.revision, item.value.data.to_vec()));
    page.items.into_iter().map(item).collect()
}

proptest! {
    #[test]
    fn every_state_of_the_window_is_as_it_was(steps in prop::collection::vec(step(), 1..60), bytes in 0..20_000_usize) {
        let limits = Limits { history_bytes: bytes, ..Limits::default() };
        let mut mvcc = Mvcc::new(3, limits);
        let mut past: BTreeMap<Revision, State> = BTreeMap::new();
        let mut durable = State::new();
        let mut present = State::new();
        let mut renewed = false;
        for (index, step) in (1..).zip(steps) {
            let apply = |mvcc: &mut Mvcc, txn| mvcc.apply(index, [txn]).remove(0);
            match step {
                Step::Put(number, data) => {
                    let txn = Txn { conditions: Vec::new(), ops: vec![Op::Put(put(number, data))] };
                    let revision = apply(&mut mvcc, txn).expect("no conditions").revision;
                    present.insert(key(number), (revision, vec![data; 3]));
                }
                Step::PutIf(number, data, how) => {
                    let current = present.get(&key(number)).map(|(revision, _)| *revision);
                    let condition = match how {
                        0 => Condition::Absent,
                        1 => Condition::Present,
                        _ => Condition::AtRevision(current.unwrap_or(Revision(7))),
                    };
                    let holds = match how { 0 => current.is_none(), _ => current.is_some() };
                    let conditions = vec![(key(number), condition)];
                    let mut txn = Txn { conditions, ops: vec![Op::Put(put(number, data))] };
                    let answer = match mvcc.prepare(&mut txn) {
                        Ok(()) => apply(&mut mvcc, txn),
                        Err(conflict) => Err(conflict),
                    };
                    prop_assert_eq!(answer.is_ok(), holds);
                    if let Ok(applied) = answer {
                        present.insert(key(number), (applied.revision, vec![data; 3]));
                    }
                }
                Step::Delete(number) => {
                    let txn = Txn { conditions: Vec::new(), ops: vec![Op::Delete { key: key(number) }] };
                    apply(&mut mvcc, txn).expect("no conditions");
                    present.remove(&key(number));
                }
                Step::Renew(number, data) => {
                    let Some((at, _)) = present.get(&key(number)).cloned() else { continue };
                    let answer = mvcc.renew(Renewal { put: put(number, data), at });
                    let revision = answer.expect("few").expect("current").revision;
                    let before = present.insert(key(number), (revision, vec![data; 3]));
                    renewed = true;
                    durable.entry(key(number)).or_insert(before.expect("there"));
                }
                Step::Blank => {
                    mvcc.apply(index, []);
                }
                Step::Restore => {
                    let image = mvcc.image();
                    mvcc = Mvcc::new(3, limits);
                    mvcc.restore(3, image);
                    // What was never in the log is gone, and its past with it.
                    present.extend(std::mem::take(&mut durable));
                    if std::mem::take(&mut renewed) {
                        past.clear();
                    }
                }
            }
            // A write to the log supersedes the renewals of its key.
            durable.retain(|key, (before, _)| present.get(key).is_some_and(|(now, _)| {
                now > before && mvcc.image().items.iter().any(|item| item.key == *key && item.revision == *before)
            }));
            past.insert(mvcc.revision(), present.clone());
            for (at, state) in &past {
                match mvcc.get(&key(0), Some(*at)) {
                    Err(ReadError::Compacted { oldest }) => prop_assert!(*at < oldest),
                    got => {
                        let got = got.expect("in the window").map(|item| item.revision);
                        prop_assert_eq!(got, state.get(&key(0)).map(|(revision, _)| *revision));
                        prop_assert_eq!(&read(&mvcc, "", Some(*at)), state);
                        let mut part = state.clone();
                        part.retain(|key, _| key.as_str().starts_with("g/b/"));
                        prop_assert_eq!(read(&mvcc, "g/b/", Some(*at)), part);
                    }
                }
            }
            prop_assert_eq!(&read(&mvcc, "", None), &present);
            prop_assert!(mvcc.history_bytes() <= bytes as u64);
        }
    }
}

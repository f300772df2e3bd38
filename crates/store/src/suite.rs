//! What every [`Store`] promises, as stories to run on it.
//!
//! A store's own tests call [`run`] with a way to make an empty store. A broken
//! promise panics with the story's name.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use crate::{
    BoxFuture, CommitError, Condition, EventKind, Item, Key, Limits, Op, Put, Range, ReadError,
    Renewal, Revision, Store, Txn, Value, Watcher,
};

/// Makes an empty store with these limits.
pub type Make<'a> = &'a dyn Fn(Limits) -> BoxFuture<'static, Arc<dyn Store>>;

type Story = for<'a> fn(&'a dyn Store) -> BoxFuture<'a, ()>;

/// The stories, and how much history each leaves the store.
const STORIES: &[(&str, usize, Story)] = &[
    ("a write is read back with its revision", MUCH, |store| Box::pin(writes(store))),
    ("conditions guard all operations or none", MUCH, |store| Box::pin(conditions(store))),
    ("the revision is inserted where asked", MUCH, |store| Box::pin(insertion(store))),
    ("ranges are sorted, paged and counted", MUCH, |store| Box::pin(ranges(store))),
    ("the past stays readable", MUCH, |store| Box::pin(past(store))),
    ("history ends somewhere", LITTLE, |store| Box::pin(compaction(store))),
    ("watchers see every change in order", MUCH, |store| Box::pin(watches(store))),
    ("a watch resumes from any revision", MUCH, |store| Box::pin(resumption(store))),
    ("who missed much is told all of it", MUCH, |store| Box::pin(return_from_afar(store))),
    ("a slow watcher is cut off", LITTLE, |store| Box::pin(slowness(store))),
    ("renewals are volatile writes", MUCH, |store| Box::pin(renewals(store))),
    ("revisions can be waited for", MUCH, |store| Box::pin(waiting(store))),
    ("impossible transactions are refused", MUCH, |store| Box::pin(refusals(store))),
];

const MUCH: usize = 16 << 20;
const LITTLE: usize = 4 << 10;

/// Runs every story on a store of its own.
///
/// # Panics
/// Where the store breaks a promise.
pub async fn run(make: Make<'_>) {
    for (name, history_bytes, story) in STORIES {
        println!("story: {name}");
        let store = make(Limits { history_bytes: *history_bytes, ..Limits::default() }).await;
        story(&*store).await;
    }
}

fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

fn put(name: &str, data: &str) -> Put {
    let value = Value { epoch: 7, data: data.to_owned().into() };
    Put { key: key(name), value, revision_at: None }
}

async fn set(store: &dyn Store, name: &str, data: &str) -> Revision {
    let txn = Txn { conditions: Vec::new(), ops: vec![Op::Put(put(name, data))] };
    store.commit(txn).await.expect("a write without conditions").revision
}

async fn delete(store: &dyn Store, name: &str) -> Revision {
    let txn = Txn { conditions: Vec::new(), ops: vec![Op::Delete { key: key(name) }] };
    store.commit(txn).await.expect("a delete without conditions").revision
}

fn get(store: &dyn Store, name: &str, at: Option<Revision>) -> Option<Item> {
    store.get(&key(name), at).expect("a readable revision")
}

fn text(item: &Item) -> &str {
    std::str::from_utf8(&item.value.data).expect("these stories write text")
}

fn texts(store: &dyn Store, range: &Range) -> Vec<String> {
    let page = store.range(range).expect("a readable range");
    page.items.iter().map(|item| format!("{}={}", item.key.name(), text(item))).collect()
}

async fn writes(store: &dyn Store) {
    assert!(store.revision() > Revision::ZERO, "clients take revision 0 for something else");
    let created = set(store, "a", "1").await;
    let updated = set(store, "a", "2").await;
    assert!(updated > created);
    let item = get(store, "a", None).expect("just written");
    assert_eq!((item.created, item.revision), (created, updated));
    assert_eq!((text(&item), item.value.epoch), ("2", 7));
    assert!(store.revision() >= updated);
    assert!(store.read_barrier().await.expect("it has a leader") >= updated);
    let deleted = delete(store, "a").await;
    assert!(deleted > updated);
    assert_eq!(get(store, "a", None), None);
    delete(store, "a").await;
    let again = set(store, "a", "3").await;
    assert_eq!(get(store, "a", None).expect("just written").created, again);
}

async fn conditions(store: &dyn Store) {
    let first = store.commit(Txn::create(put("a", "1"))).await.expect("absent").revision;
    let again = store.commit(Txn::create(put("a", "2"))).await;
    let Err(CommitError::Conflict(conflict)) = again else { panic!("created twice: {again:?}") };
    assert_eq!(conflict.condition, 0);
    assert_eq!(conflict.current, get(store, "a", None));
    let second = store.commit(Txn::update(put("a", "2"), first)).await.expect("current").revision;
    let stale = store.commit(Txn::update(put("a", "3"), first)).await;
    assert!(matches!(stale, Err(CommitError::Conflict(_))), "{stale:?}");
    let absent = store.commit(Txn::delete(key("b"), second)).await;
    let Err(CommitError::Conflict(conflict)) = absent else { panic!("deleted: {absent:?}") };
    assert_eq!(conflict.current, None);
    let mut txn = Txn {
        conditions: vec![(key("a"), Condition::Present), (key("b"), Condition::Present)],
        ops: vec![Op::Put(put("c", "1")), Op::Delete { key: key("a") }],
    };
    let refused = store.commit(txn.clone()).await;
    let Err(CommitError::Conflict(conflict)) = refused else { panic!("applied: {refused:?}") };
    assert_eq!(conflict.condition, 1);
    assert_eq!(texts(store, &Range::all("")), ["a=2"]);
    txn.conditions.pop();
    let applied = store.commit(txn).await.expect("the condition holds").revision;
    assert_eq!(texts(store, &Range::all("")), ["c=1"]);
    // Each operation has a revision of its own; the answer names the last.
    let c = get(store, "c", None).expect("just written");
    assert_eq!(c.revision.0 + 1, applied.0);
    store.commit(Txn::delete(key("c"), c.revision)).await.expect("current");
}

async fn insertion(store: &dyn Store) {
    let at = |offset| Put { revision_at: Some(offset), ..put("a", "[]") };
    for (offset, shape) in [(0, "R[]"), (1, "[R]"), (2, "[]R")] {
        let txn = Txn { conditions: Vec::new(), ops: vec![Op::Put(at(offset))] };
        let mut watcher = store.watch("", store.revision()).expect("the present");
        let revision = store.commit(txn).await.expect("applied").revision;
        let expected = shape.replace('R', &revision.to_string());
        assert_eq!(text(&get(store, "a", None).expect("written")), expected);
        let batch = watcher.next().await.expect("an event");
        assert_eq!(text(&batch.events[0].item().expect("a put")), expected);
    }
}

async fn ranges(store: &dyn Store) {
    for name in ["b", "a", "d", "c"] {
        set(store, name, "x").await;
    }
    let other = Put { key: Key::new("apps", "deployments", "default", "z"), ..put("", "x") };
    store.commit(Txn::create(other)).await.expect("created");
    let prefix = Key::prefix("", "configmaps", Some("default"));
    assert_eq!(texts(store, &Range::all(&prefix)), ["a=x", "b=x", "c=x", "d=x"]);
    assert_eq!(texts(store, &Range::all("apps/")), ["z=x"]);
    assert_eq!(texts(store, &Range::all("ap/")), Vec::<String>::new());
    let first = Range { limit: 3, ..Range::all(&prefix) };
    let page = store.range(&first).expect("readable");
    assert_eq!((page.items.len(), page.remaining, page.more()), (3, 1, true));
    let rest =
        Range { start_after: Some(page.items[2].key.clone()), at: Some(page.revision), ..first };
    // What happens between two pages does not show in the second.
    set(store, "e", "x").await;
    set(store, "d", "y").await;
    delete(store, "a").await;
    let page = store.range(&rest).expect("readable");
    assert_eq!((page.items.len(), page.remaining), (1, 0));
    assert_eq!(text(&page.items[0]), "x");
    assert_eq!(texts(store, &Range::all(&prefix)), ["b=x", "c=x", "d=y", "e=x"]);
}

async fn past(store: &dyn Store) {
    let one = set(store, "a", "1").await;
    let two = set(store, "b", "1").await;
    let three = set(store, "a", "2").await;
    let four = delete(store, "b").await;
    let five = set(store, "b", "2").await;
    let at = |revision| texts(store, &Range { at: Some(revision), ..Range::all("") });
    assert_eq!(at(one), ["a=1"]);
    assert_eq!(at(two), ["a=1", "b=1"]);
    assert_eq!(at(three), ["a=2", "b=1"]);
    assert_eq!(at(four), ["a=2"]);
    assert_eq!(at(five), ["a=2", "b=2"]);
    assert_eq!(text(&get(store, "a", Some(two)).expect("there")), "1");
    assert_eq!(get(store, "b", Some(one)), None);
    let item = get(store, "b", Some(three)).expect("there");
    assert_eq!((item.revision, item.created), (two, two));
    let future = Revision(store.revision().0 + (5 << Revision::OP_BITS));
    let current = store.revision();
    assert_eq!(store.get(&key("a"), Some(future)), Err(ReadError::Future { current }));
    assert!(matches!(store.watch("", future), Err(ReadError::Future { .. })));
}

async fn compaction(store: &dyn Store) {
    let first = set(store, "a", "0").await;
    for _ in 0..100 {
        set(store, "a", &"x".repeat(100)).await;
    }
    let error = store.get(&key("a"), Some(first)).expect_err("100 changes ago");
    let ReadError::Compacted { oldest } = error else { panic!("{error}") };
    assert!(oldest > first);
    assert!(matches!(store.watch("", first), Err(ReadError::Compacted { .. })));
    assert!(store.watch("", oldest).is_ok());
    assert!(get(store, "a", Some(oldest)).is_some());
}

/// Takes events until `count` have come.
async fn take(watcher: &mut Watcher, count: usize) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut last = Revision::ZERO;
    while seen.len() < count {
        let batch = watcher.next().await.expect("the watch runs");
        assert!(!batch.events.is_empty());
        for event in &batch.events {
            assert!(event.revision > last, "events come in order");
            last = event.revision;
            let before = event.prev.as_ref().map_or("", text);
            seen.push(match &event.kind {
                EventKind::Put { .. } => {
                    let item = event.item().expect("a put");
                    format!("{}: {before}>{}", item.key.name(), text(&item))
                }
                EventKind::Delete => format!("{}: {before}>gone", event.key.name()),
            });
        }
        assert!(batch.progress >= last);
    }
    assert_eq!(seen.len(), count, "{seen:?}");
    seen
}

async fn is_idle(watcher: &mut Watcher) -> bool {
    let mut next = pin!(watcher.next());
    poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await
}

async fn watches(store: &dyn Store) {
    let start = store.revision();
    let mut all = store.watch("", start).expect("the present");
    let mut maps = store.watch("/configmaps/default/", start).expect("the present");
    let mut one = store.watch(key("b").as_str(), start).expect("the present");
    let mut none = store.watch("/configmaps/def/", start).expect("the present");
    assert!(is_idle(&mut all).await);
    set(store, "a", "1").await;
    set(store, "b", "1").await;
    let other = Put { key: Key::new("apps", "deployments", "default", "z"), ..put("", "1") };
    store.commit(Txn::create(other)).await.expect("created");
    set(store, "a", "2").await;
    let last = delete(store, "b").await;
    delete(store, "b").await;
    let (a, b) = (["a: >1", "a: 1>2"], ["b: >1", "b: 1>gone"]);
    assert_eq!(take(&mut all, 5).await, [a[0], b[0], "z: >1", a[1], b[1]]);
    assert_eq!(take(&mut maps, 4).await, [a[0], b[0], a[1], b[1]]);
    assert_eq!(take(&mut one, 2).await, b);
    assert!(is_idle(&mut none).await && is_idle(&mut all).await);
    // A watcher that has nothing to see still learns how far it has come.
    assert!(none.progress() >= last);
}

async fn resumption(store: &dyn Store) {
    let mut revisions = vec![store.revision()];
    for count in 0..5 {
        revisions.push(set(store, "a", &count.to_string()).await);
    }
    for (skip, from) in revisions.iter().enumerate() {
        let mut watcher = store.watch("/configmaps/", *from).expect("in the window");
        assert!(watcher.progress() >= *from);
        let expected = ["a: >0", "a: 0>1", "a: 1>2", "a: 2>3", "a: 3>4"];
        if skip < 5 {
            assert_eq!(take(&mut watcher, 5 - skip).await, expected[skip..]);
        }
        assert!(is_idle(&mut watcher).await);
    }
    // Between a list and a watch from its revision nothing is lost or doubled.
    let page = store.range(&Range::all("")).expect("readable");
    let mut watcher = store.watch("", page.revision).expect("the present");
    set(store, "a", "5").await;
    assert_eq!(take(&mut watcher, 1).await, ["a: 4>5"]);
}

/// More than may wait for a watcher.
const CHANGES: usize = 40 * 256;

async fn change_much(store: &dyn Store) {
    for _ in 0..CHANGES / 256 {
        // Many events in few entries.
        let ops = (0..256).map(|count| Op::Put(put(&format!("n{count}"), "x"))).collect();
        store.commit(Txn { conditions: Vec::new(), ops }).await.expect("applied");
    }
}

async fn return_from_afar(store: &dyn Store) {
    let begun = store.revision();
    change_much(store).await;
    let mut late = store.watch("", begun).expect("in the window");
    // What happens before it first asks does not cut it off.
    set(store, "last", "x").await;
    let events = late.next().await.expect("it was not slow").events;
    assert_eq!(events.len(), CHANGES + 1);
    // From then on it is as any other.
    change_much(store).await;
    assert_eq!(late.next().await, Err(crate::WatchError::Slow));
}

async fn slowness(store: &dyn Store) {
    let mut slow = store.watch("", store.revision()).expect("the present");
    change_much(store).await;
    let ended = loop {
        if let Err(error) = slow.next().await {
            break error;
        }
    };
    assert_eq!(ended, crate::WatchError::Slow);
    assert_eq!(slow.next().await, Err(crate::WatchError::Slow));
}

async fn renewals(store: &dyn Store) {
    let created = set(store, "lease", "0").await;
    let mut watcher = store.watch("", created).expect("the present");
    let renew = |data, at| Renewal { put: Put { revision_at: Some(0), ..put("lease", data) }, at };
    let first = store.renew(renew("a", created)).await.expect("current").revision;
    assert!(first > created);
    let second = store.renew(renew("b", first)).await.expect("current").revision;
    let item = get(store, "lease", None).expect("there");
    assert_eq!(text(&item), format!("{second}b"));
    assert_eq!((item.created, item.revision), (created, second));
    let past = get(store, "lease", Some(first)).expect("there");
    assert_eq!(text(&past), format!("{first}a"));
    let seen = take(&mut watcher, 2).await;
    assert_eq!(seen[1], format!("lease: {first}a>{second}b"));
    for (name, at) in [("lease", created), ("absent", second)] {
        let stale = Renewal { put: put(name, ""), at };
        let refused = store.renew(stale).await;
        assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
    }
    // A write that does not know of the renewals fails; one that does passes,
    // and revisions go on rising.
    let stale = store.commit(Txn::update(put("lease", "c"), created)).await;
    let Err(CommitError::Conflict(conflict)) = stale else { panic!("applied: {stale:?}") };
    assert_eq!(conflict.current.expect("there").revision, second);
    let third = store.commit(Txn::update(put("lease", "c"), second)).await.expect("current");
    assert!(third.revision > second);
    let fourth = store.renew(renew("d", third.revision)).await.expect("current").revision;
    store.commit(Txn::delete(key("lease"), fourth)).await.expect("current");
    assert_eq!(get(store, "lease", None), None);
}

async fn waiting(store: &dyn Store) {
    let now = store.revision();
    store.applied(now).await;
    let mut later = pin!(store.applied(Revision(now.0 + 1)));
    let early = poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx).is_ready())).await;
    assert!(!early);
    set(store, "a", "1").await;
    later.await;
}

async fn refusals(store: &dyn Store) {
    let outside = Put { revision_at: Some(3), ..put("a", "12") };
    let refused = store.commit(Txn::create(outside)).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    let ops = (0..70_000).map(|_| Op::Delete { key: key("a") }).collect();
    let refused = store.commit(Txn { conditions: Vec::new(), ops }).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    // Nothing to do is not an error.
    let revision = store.commit(Txn::default()).await.expect("applied").revision;
    assert!(revision <= store.revision());
}

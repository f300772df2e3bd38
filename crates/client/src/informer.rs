//! A cache of a resource that follows the server, and who wants to hear of
//! its changes.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use api_object::Object;
use tokio::sync::watch;

use crate::{
    Ambient, Api, Cached, IndexFn, ListOptions, Reflected, Resource, View,
    cache::{Cache, revision},
    reflect,
};

/// What an informer follows and keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// The resource.
    pub resource: Resource,
    /// One namespace; empty for all.
    pub namespace: String,
    /// In query form; empty selects all.
    pub label_selector: String,
    /// In query form; empty selects all.
    pub field_selector: String,
    /// Whether the cache keeps each object's JSON beside its view.
    pub keep_bytes: bool,
    /// Whether the cache keeps of the metadata only names, uid and revision.
    pub lean: bool,
}

impl Selection {
    /// Every object of a resource, as views only.
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
            keep_bytes: false,
            lean: false,
        }
    }

    /// Without labels, annotations, owners and the like in the cache; what is needed of
    /// them the view reads itself.
    pub fn lean(self) -> Self {
        Self { lean: true, ..self }
    }

    /// Only those that match: `spec.nodeName=n1`.
    pub fn fields(self, field_selector: &str) -> Self {
        Self { field_selector: field_selector.into(), ..self }
    }

    /// Only those that match: `app=web`.
    pub fn labels(self, label_selector: &str) -> Self {
        Self { label_selector: label_selector.into(), ..self }
    }

    /// Only those of one namespace.
    pub fn namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..self }
    }

    /// With each object's JSON.
    pub fn with_bytes(self) -> Self {
        Self { keep_bytes: true, ..self }
    }
}

/// A change of one object. `old` and `new` are never both absent.
#[derive(Debug)]
pub struct Change<V> {
    /// Before; absent where the object is new to the selection.
    pub old: Option<Arc<Cached<V>>>,
    /// After; absent where the object left the selection.
    pub new: Option<Arc<Cached<V>>>,
}

impl<V> Clone for Change<V> {
    fn clone(&self) -> Self {
        Self { old: self.old.clone(), new: self.new.clone() }
    }
}

impl<V> Change<V> {
    /// The object, in its newest form.
    pub fn object(&self) -> &Arc<Cached<V>> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has a side")
    }

    /// Both forms that are there: whoever either of them concerns is concerned.
    pub fn sides(&self) -> impl Iterator<Item = &Arc<Cached<V>>> {
        self.old.iter().chain(self.new.iter())
    }
}

type Handler<V> = Box<dyn Fn(&Change<V>) + Send + Sync>;

/// How far a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    synced: bool,
    revision: u64,
}

struct Inner<V> {
    selection: Selection,
    cache: RwLock<Cache<V>>,
    /// Held while a change is applied and told, so that a new handler misses
    /// none and hears none twice.
    handlers: Mutex<Vec<Handler<V>>>,
    progress: watch::Sender<Progress>,
}

/// A cache of a selection of objects that follows the server while
/// [`Informer::run`] runs. Cheap to clone; all clones are the same cache.
pub struct Informer<V>(Arc<Inner<V>>);

impl<V> Clone for Informer<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> fmt::Debug for Informer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Informer({})", self.0.selection.resource.plural)
    }
}

impl<V: View> Informer<V> {
    /// An empty cache; nothing happens before [`Self::run`].
    pub fn new(selection: Selection) -> Self {
        Self(Arc::new(Inner {
            selection,
            cache: RwLock::default(),
            handlers: Mutex::default(),
            progress: watch::Sender::default(),
        }))
    }

    /// What it follows.
    pub fn selection(&self) -> &Selection {
        &self.0.selection
    }

    /// Follows the server. Never returns: drop it to stop; run again, it
    /// starts over and keeps its cache meanwhile.
    pub async fn run(&self, api: &Api, ambient: &Ambient) {
        let Selection { resource, namespace, label_selector, field_selector, .. } =
            &self.0.selection;
        let options = ListOptions {
            label_selector: label_selector.clone(),
            field_selector: field_selector.clone(),
            resource_version: String::new(),
        };
        // Keys told since a restart; the others are gone when it is complete.
        let mut seen: Option<BTreeSet<String>> = None;
        reflect(api, *resource, namespace, &options, ambient, |event| {
            apply(event, self, &self.0.progress, &mut seen);
        })
        .await;
    }

    /// The object under `namespace/name` (or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<Cached<V>>> {
        self.read(|cache| cache.get(key))
    }

    /// Every object, in the order of keys.
    pub fn list(&self) -> Vec<Arc<Cached<V>>> {
        self.read(Cache::list)
    }

    /// Every object of a namespace, in the order of names.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Cached<V>>> {
        self.read(|cache| cache.list_namespace(namespace))
    }

    /// The objects that an index lists under a value, in the order of keys.
    /// Empty where there is no such index (add it first).
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<Cached<V>>> {
        self.read(|cache| cache.by_index(index, value)).unwrap_or_else(|| {
            tracing::error!(index, informer = ?self, "no such index");
            Vec::new()
        })
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read(Cache::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index: the values under which each object is found. An index
    /// whose name is taken is the one that is there already.
    pub fn add_index(&self, name: &'static str, values: IndexFn<V>) {
        self.0.cache.write().unwrap_or_else(PoisonError::into_inner).add_index(name, values);
    }

    /// Calls `handler` for everything that is in the cache now (as new), and
    /// then for every change, in order, after the cache has it. It runs on
    /// the informer's task: it may read caches and put keys into queues, and
    /// must not block nor add handlers.
    pub fn on_change(&self, handler: impl Fn(&Change<V>) + Send + Sync + 'static) {
        let mut handlers = self.lock_handlers();
        for object in self.list() {
            handler(&Change { old: None, new: Some(object) });
        }
        handlers.push(Box::new(handler));
    }

    /// Whether the initial state is complete.
    pub fn is_synced(&self) -> bool {
        self.0.progress.borrow().synced
    }

    /// Waits until the initial state is complete.
    pub async fn wait_synced(&self) {
        self.wait_for(|progress| progress.synced).await;
    }

    /// The revision up to which the cache is known to be complete.
    pub fn revision(&self) -> u64 {
        self.0.progress.borrow().revision
    }

    /// Waits until the cache has everything up to a revision: reading one's
    /// own writes. The revision must be that of a write to this selection;
    /// others may be reached only with the next bookmark.
    pub async fn wait_revision(&self, revision: u64) {
        self.wait_for(|progress| progress.revision >= revision).await;
    }

    async fn wait_for(&self, reached: impl FnMut(&Progress) -> bool) {
        let mut progress = self.0.progress.subscribe();
        // The sender lives in the cache that `self` holds.
        progress.wait_for(reached).await.map(drop).expect("the informer is alive");
    }

    fn read<T>(&self, f: impl FnOnce(&Cache<V>) -> T) -> T {
        f(&self.0.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock_handlers(&self) -> MutexGuard<'_, Vec<Handler<V>>> {
        self.0.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(&mut Cache<V>) -> Option<Change<V>>) {
        let handlers = self.lock_handlers();
        let change = f(&mut self.0.cache.write().unwrap_or_else(PoisonError::into_inner));
        if let Some(change) = change {
            handlers.iter().for_each(|handler| handler(&change));
        }
    }
}

/// A cache as who fills it sees it: the same for every view, so that what does is one program.
trait Fill {
    fn upsert(&self, object: Object);

    fn remove(&self, key: &str);

    /// The keys that are not among these.
    fn keys_but(&self, seen: &BTreeSet<String>) -> Vec<String>;
}

impl<V: View> Fill for Informer<V> {
    fn upsert(&self, object: Object) {
        let key = object.meta.key();
        let new = match Cached::read(object, self.0.selection.keep_bytes) {
            Ok(new) if self.0.selection.lean => Arc::new(new.lean()),
            Ok(new) => Arc::new(new),
            Err(error) => {
                // Better not known than known wrongly: a stale form must not
                // be acted upon.
                tracing::error!(informer = ?self, key, %error, "object has another shape");
                return self.remove(&key);
            }
        };
        self.change(|cache| {
            let known = cache.get(&key);
            if known.is_some_and(|known| {
                known.meta.uid == new.meta.uid
                    && known.meta.resource_version == new.meta.resource_version
            }) {
                return None;
            }
            let old = cache.insert(new.clone());
            Some(Change { old, new: Some(new) })
        });
    }

    fn remove(&self, key: &str) {
        self.change(|cache| cache.remove(key).map(|old| Change { old: Some(old), new: None }));
    }

    fn keys_but(&self, seen: &BTreeSet<String>) -> Vec<String> {
        self.read(|cache| cache.keys().filter(|key| !seen.contains(*key)).cloned().collect())
    }
}

fn apply(
    event: Reflected,
    cache: &dyn Fill,
    progress: &watch::Sender<Progress>,
    seen: &mut Option<BTreeSet<String>>,
) {
    match event {
        Reflected::Restart => *seen = Some(BTreeSet::new()),
        Reflected::Upsert(object) => {
            if let Some(seen) = seen {
                seen.insert(object.meta.key());
            }
            let written = revision(&object.meta.resource_version);
            cache.upsert(object);
            if seen.is_none() {
                advance(progress, written, false);
            }
        }
        Reflected::Delete(object) => {
            let key = object.meta.key();
            if let Some(seen) = seen {
                seen.remove(&key);
            }
            cache.remove(&key);
            if seen.is_none() {
                advance(progress, revision(&object.meta.resource_version), false);
            }
        }
        Reflected::Synced(at) => {
            if let Some(seen) = seen.take() {
                cache.keys_but(&seen).iter().for_each(|key| cache.remove(key));
            }
            advance(progress, revision(&at), true);
        }
        Reflected::Progress(at) => advance(progress, revision(&at), false),
    }
}

fn advance(progress: &watch::Sender<Progress>, revision: u64, synced: bool) {
    progress.send_if_modified(|progress| {
        let next = Progress {
            synced: progress.synced || synced,
            revision: progress.revision.max(revision),
        };
        std::mem::replace(progress, next) != next
    });
}

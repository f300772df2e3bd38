//! What an informer knows: narrow views by key, with indexes.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use api_object::{Meta, Object};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

/// What a cache keeps of each object beside its metadata. Fields that nobody
/// reads should not be in the view: it is what the cache's memory goes into.
/// A field of type `Box<RawValue>` keeps a part as its bytes.
pub trait View: DeserializeOwned + Send + Sync + 'static {}

impl<V: DeserializeOwned + Send + Sync + 'static> View for V {}

/// A view for those who read metadata only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct MetaOnly {}

/// An object as a cache keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached<V> {
    /// Its metadata; without `kubectl.kubernetes.io/last-applied-configuration`,
    /// which repeats the whole object.
    pub meta: Meta,
    /// What its users read.
    pub view: V,
    /// The object as JSON, where the informer was asked to keep it.
    pub bytes: Option<Bytes>,
}

impl<V: View> Cached<V> {
    /// Reads the view from an object's bytes.
    ///
    /// # Errors
    /// Where the object does not have the view's shape.
    pub fn read(object: Object, keep_bytes: bool) -> Result<Self, serde_json::Error> {
        let view = serde_json::from_slice(&object.bytes)?;
        let mut meta = object.meta;
        meta.annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        // A copy, since the original may be a slice of a whole list.
        let bytes = keep_bytes.then(|| Bytes::copy_from_slice(&object.bytes));
        Ok(Self { meta, view, bytes })
    }
}

impl<V> Cached<V> {
    /// Without what the server and people have metadata for: what is left tells objects
    /// and their versions apart.
    pub(crate) fn lean(self) -> Self {
        let Meta { namespace, name, uid, resource_version, .. } = self.meta;
        let meta = Meta { namespace, name, uid, resource_version, ..Meta::default() };
        Self { meta, ..self }
    }

    /// `namespace/name` or `name`.
    pub fn key(&self) -> String {
        self.meta.key()
    }

    /// The revision of its last write; 0 where it is no number.
    pub fn revision(&self) -> u64 {
        revision(&self.meta.resource_version)
    }
}

/// A resourceVersion as a number. All versions of one cluster compare
/// (KEP-5504); 0 where the text is no number.
pub fn revision(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(0)
}

/// The values under which an index lists an object.
pub type IndexFn<V> = fn(&Cached<V>) -> Vec<String>;

struct Index<V> {
    name: &'static str,
    values: IndexFn<V>,
    listed: Listed,
}

/// The keys of objects by the values of an index; the same for every view.
#[derive(Default)]
struct Listed(BTreeMap<String, Keys>);

impl Listed {
    fn insert(&mut self, values: Vec<String>, key: &str) {
        for value in values {
            match self.0.entry(value) {
                Entry::Occupied(mut known) => known.get_mut().insert(key),
                Entry::Vacant(free) => {
                    free.insert(Keys::One(key.to_owned()));
                }
            }
        }
    }

    fn remove(&mut self, values: Vec<String>, key: &str) {
        for value in values {
            if self.0.get_mut(&value).is_some_and(|keys| keys.remove(key)) {
                self.0.remove(&value);
            }
        }
    }
}

/// The keys under one value. Often it is one, for which a set takes the room of eleven.
enum Keys {
    One(String),
    Many(BTreeSet<String>),
}

impl Keys {
    fn iter(&self) -> impl Iterator<Item = &String> {
        let (one, some) = match self {
            Self::One(key) => (Some(key), None),
            Self::Many(keys) => (None, Some(keys)),
        };
        one.into_iter().chain(some.into_iter().flatten())
    }

    fn insert(&mut self, key: &str) {
        match self {
            Self::One(known) if known == key => {}
            Self::One(known) => {
                *self = Self::Many(BTreeSet::from([std::mem::take(known), key.to_owned()]));
            }
            Self::Many(keys) => {
                keys.insert(key.to_owned());
            }
        }
    }

    /// Whether none is left.
    fn remove(&mut self, key: &str) -> bool {
        match self {
            Self::One(known) => known == key,
            Self::Many(keys) => {
                keys.remove(key);
                keys.is_empty()
            }
        }
    }
}

/// Objects by key. Ordered, so that plans made from it are deterministic.
pub(crate) struct Cache<V> {
    objects: BTreeMap<String, Arc<Cached<V>>>,
    indexes: Vec<Index<V>>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), indexes: Vec::new() }
    }
}

impl<V> Cache<V> {
    /// Adds an index over what is there and what comes; no-op where the name
    /// is taken.
    pub(crate) fn add_index(&mut self, name: &'static str, values: IndexFn<V>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, values, listed: Listed::default() };
        for (key, object) in &self.objects {
            index.listed.insert(values(object), key);
        }
        self.indexes.push(index);
    }

    /// Puts an object in; returns the one it replaces.
    pub(crate) fn insert(&mut self, object: Arc<Cached<V>>) -> Option<Arc<Cached<V>>> {
        let key = object.key();
        let old = self.remove(&key);
        for index in &mut self.indexes {
            index.listed.insert((index.values)(&object), &key);
        }
        self.objects.insert(key, object);
        old
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Cached<V>>> {
        let old = self.objects.remove(key)?;
        for index in &mut self.indexes {
            index.listed.remove((index.values)(&old), key);
        }
        Some(old)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Cached<V>>> {
        self.objects.get(key).cloned()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.objects.keys()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Cached<V>>> {
        self.objects.values().cloned().collect()
    }

    pub(crate) fn list_namespace(&self, namespace: &str) -> Vec<Arc<Cached<V>>> {
        let prefix = format!("{namespace}/");
        let from = self.objects.range(prefix.clone()..);
        from.take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// `None` where there is no such index.
    pub(crate) fn by_index(&self, name: &str, value: &str) -> Option<Vec<Arc<Cached<V>>>> {
        let index = self.indexes.iter().find(|index| index.name == name)?;
        let keys = index.listed.0.get(value).into_iter().flat_map(Keys::iter);
        Some(keys.filter_map(|key| self.get(key)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, name: &str, owner: &str) -> Arc<Cached<MetaOnly>> {
        let mut meta = Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() };
        meta.labels.insert("owner".into(), owner.into());
        Arc::new(Cached { meta, view: MetaOnly {}, bytes: None })
    }

    fn names(objects: Vec<Arc<Cached<MetaOnly>>>) -> Vec<String> {
        objects.iter().map(|object| object.key()).collect()
    }

    #[test]
    fn indexes_follow_what_is_put_in_and_taken_out() {
        let mut cache = Cache::default();
        cache.insert(object("a", "1", "x"));
        cache.add_index("owner", |o: &Cached<MetaOnly>| o.meta.labels.values().cloned().collect());
        cache.insert(object("a", "2", "x"));
        cache.insert(object("b", "1", "y"));
        cache.insert(object("ab", "1", "y"));
        assert_eq!(names(cache.by_index("owner", "x").expect("added")), ["a/1", "a/2"]);
        cache.insert(object("a", "1", "y"));
        assert_eq!(names(cache.by_index("owner", "x").expect("added")), ["a/2"]);
        cache.remove("a/2");
        assert_eq!(names(cache.by_index("owner", "x").expect("added")), [""; 0]);
        assert_eq!(names(cache.by_index("owner", "y").expect("added")), ["a/1", "ab/1", "b/1"]);
        assert_eq!(names(cache.list_namespace("a")), ["a/1"]);
        assert!(cache.by_index("other", "y").is_none());
    }

    #[test]
    fn the_view_is_read_from_the_bytes() {
        #[derive(Deserialize)]
        struct Spec {
            x: u8,
        }
        #[derive(Deserialize)]
        struct Narrow {
            spec: Spec,
        }
        let bytes = Bytes::from_static(
            br#"{"metadata":{"name":"a","resourceVersion":"12"},"spec":{"x":3,"y":4}}"#,
        );
        let object = Object::parse(bytes).expect("valid");
        let cached = Cached::<Narrow>::read(object.clone(), false).expect("has the shape");
        assert_eq!((cached.view.spec.x, cached.revision(), cached.bytes), (3, 12, None));
        assert!(Cached::<MetaOnly>::read(object, true).expect("any").bytes.is_some());
    }

    #[test]
    fn a_lean_object_is_known_by_its_name_and_version() {
        let bytes = Bytes::from_static(
            br#"{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"12",
                "labels":{"a":"b"},"annotations":{"a":"b"},"finalizers":["f"],
                "ownerReferences":[{"name":"o"}],"creationTimestamp":"2026-01-01T00:00:00Z"}}"#,
        );
        let whole = Cached::<MetaOnly>::read(Object::parse(bytes).expect("valid"), false);
        let lean = whole.expect("any").lean();
        assert_eq!((lean.key().as_str(), lean.revision(), &*lean.meta.uid), ("n/a", 12, "u"));
        let Meta { namespace, name, uid, resource_version, .. } = lean.meta.clone();
        let nothing_else = Meta { namespace, name, uid, resource_version, ..Meta::default() };
        assert_eq!(lean.meta, nothing_else);
    }
}

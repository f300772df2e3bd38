//! Pods from files of a folder, which run whether or not there is an API, and
//! what the API's mirror of each has to be. Reading and deciding; [`super::manager`]
//! acts.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use api_object::time::format_seconds;
use api_types::core::Pod;
use jiff::Timestamp;
use rustix::fs::inotify::WatchFlags;
use serde_json::{Map, Value, json};

use crate::streams::follow::Changes;

/// On a mirror pod: the hash of the pod that it mirrors.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
const SEEN: &str = "kubernetes.io/config.seen";
const SOURCE: &str = "kubernetes.io/config.source";

/// Reads a manifest into a pod with its defaults, as the API would take it.
pub type ReadPod = Arc<dyn Fn(&[u8]) -> Result<Value, String> + Send + Sync>;

/// Where static pods come from.
#[derive(Clone)]
pub struct StaticPods {
    /// The folder; made where missing. Files whose names begin with a dot are
    /// passed over.
    pub dir: PathBuf,
    /// Reads one file.
    pub read: ReadPod,
}

impl fmt::Debug for StaticPods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticPods({})", self.dir.display())
    }
}

/// A pod of a file.
#[derive(Debug, Clone)]
pub(crate) struct StaticPod {
    pub(crate) pod: Arc<Pod>,
    /// As it is mirrored, without what only the API knows.
    object: Value,
}

impl StaticPod {
    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.pod.metadata.namespace, self.pod.metadata.name)
    }

    /// The mirror to create, owned by the Node.
    pub(crate) fn mirror(&self, node: &str, node_uid: &str) -> Value {
        let mut object = self.object.clone();
        let meta = &mut object["metadata"];
        meta["annotations"][MIRROR] = self.pod.metadata.uid.as_str().into();
        meta["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": node,
            "uid": node_uid, "controller": true}]);
        object
    }
}

impl StaticPods {
    /// All pods of the folder by UID; what is no pod is told and passed over.
    pub(crate) fn load(&self, node: &str, now: Timestamp) -> BTreeMap<String, StaticPod> {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(path = %self.dir.display(), %error, "static pods cannot be read");
                return BTreeMap::new();
            }
        };
        let mut pods: BTreeMap<String, StaticPod> = BTreeMap::new();
        for path in files {
            let read = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| (self.read)(&bytes))
                .and_then(|pod| static_pod(pod, &path, node, now));
            match read {
                Ok(pod) if pods.values().any(|other| other.key() == pod.key()) => {
                    tracing::error!(path = %path.display(), pod = pod.key(), "a second static pod of this name");
                }
                Ok(pod) => drop(pods.insert(pod.pod.metadata.uid.clone(), pod)),
                Err(error) => {
                    tracing::error!(path = %path.display(), error, "not a static pod");
                }
            }
        }
        pods
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && entry.path().is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Tells of the folder now and whenever it changes.
    pub(crate) async fn follow(&self, changed: impl Fn()) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // A file that is still being written is not read yet.
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        let changes = Changes::with(&self.dir, flags)?;
        loop {
            changed();
            changes.next().await?;
        }
    }
}

/// The pod of a file, named and marked as the kubelet does it.
fn static_pod(
    mut object: Value,
    path: &Path,
    node: &str,
    now: Timestamp,
) -> Result<StaticPod, String> {
    let hash = hash(&format!("{node}\0{}\0{object}", path.display()));
    let meta = &mut object["metadata"];
    let name = meta["name"].as_str().filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let name = format!("{name}-{}", node.to_lowercase());
    let namespace = meta["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or("default");
    let mut annotations = match &meta["annotations"] {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    annotations.insert(HASH.into(), hash.as_str().into());
    annotations.insert(SEEN.into(), format_seconds(now).into());
    annotations.insert(SOURCE.into(), "file".into());
    let mut kept = json!({"name": name, "namespace": namespace, "annotations": annotations});
    if meta["labels"].is_object() {
        kept["labels"] = meta["labels"].clone();
    }
    let mut spec = object["spec"].clone();
    spec["nodeName"] = node.into();
    // It stays where its file is, whatever the node is tainted with.
    let everywhere = json!({"operator": "Exists", "effect": "NoExecute"});
    match spec["tolerations"].as_array_mut() {
        Some(tolerations) => tolerations.push(everywhere),
        None => spec["tolerations"] = json!([everywhere]),
    }
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": spec});
    let mut pod: Pod = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    pod.metadata.uid = hash;
    Ok(StaticPod { pod: Arc::new(pod), object })
}

/// 32 hexadecimal digits that change with the text (FNV-1a).
fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

/// A mirror as the API has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mirror {
    pub(crate) uid: String,
    pub(crate) hash: String,
    pub(crate) deleting: bool,
    pub(crate) status: Map<String, Value>,
}

/// What is to be done about the mirror of one name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MirrorAction {
    Create,
    Delete {
        uid: String,
    },
    /// It is as it should be.
    Keep,
}

/// Decides about one mirror: the file's pod (by its hash), and the API's.
pub(crate) fn mirror_action(wanted: Option<&str>, there: Option<&Mirror>) -> MirrorAction {
    match (wanted, there) {
        (Some(_), None) => MirrorAction::Create,
        (Some(hash), Some(mirror)) if mirror.hash == hash && !mirror.deleting => MirrorAction::Keep,
        (_, Some(mirror)) => MirrorAction::Delete { uid: mirror.uid.clone() },
        (None, None) => MirrorAction::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_pods_of_this_node() {
        let dir = tempfile::tempdir().expect("a folder");
        let pods = StaticPods {
            dir: dir.path().to_owned(),
            read: Arc::new(|bytes| serde_json::from_slice(bytes).map_err(|e| e.to_string())),
        };
        let now = Timestamp::UNIX_EPOCH;
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        write(
            "a.json",
            r#"{"metadata": {"name": "web", "labels": {"a": "b"}}, "spec": {"containers": []}}"#,
        );
        write(".hidden.json", r#"{"metadata": {"name": "hidden"}}"#);
        write("b.json", r#"{"metadata": {"name": "web"}, "spec": {}}"#);
        write("broken.json", "{");
        let all = pods.load("N1", now);
        let [(uid, web)] = all.iter().collect::<Vec<_>>()[..] else { panic!("one: {all:?}") };
        assert_eq!((uid.len(), web.key().as_str()), (32, "default/web-n1"));
        let mirror = web.mirror("N1", "u");
        assert_eq!(mirror["metadata"]["annotations"][MIRROR], *uid);
        assert_eq!(mirror["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(mirror["metadata"].get("uid"), None);
        assert_eq!(mirror["spec"]["nodeName"], "N1");
        assert_eq!(mirror["spec"]["tolerations"][0]["effect"], "NoExecute");
        assert_eq!(pods.load("N1", now).keys().collect::<Vec<_>>(), [uid], "stable");
        write("a.json", r#"{"metadata": {"name": "web"}, "spec": {"containers": []}}"#);
        assert!(!pods.load("N1", now).contains_key(uid), "another pod");
    }

    #[test]
    fn mirrors_follow_files() {
        let mirror = |hash: &str, deleting| Mirror {
            uid: "u".into(),
            hash: hash.into(),
            deleting,
            status: Map::new(),
        };
        let delete = MirrorAction::Delete { uid: "u".into() };
        for (wanted, there, expected) in [
            (Some("h"), None, MirrorAction::Create),
            (Some("h"), Some(mirror("h", false)), MirrorAction::Keep),
            (Some("h"), Some(mirror("h", true)), delete.clone()),
            (Some("h"), Some(mirror("old", false)), delete.clone()),
            (None, Some(mirror("h", false)), delete),
            (None, None, MirrorAction::Keep),
        ] {
            assert_eq!(mirror_action(wanted, there.as_ref()), expected);
        }
    }
}

//! ConfigMaps and Secrets that volumes are made of: one watch for each object
//! that is in use, shared by all pods that use it, none for the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use api_object::Object;
use client::{Ambient, Api, ListOptions, Reflected, Resource, reflect};
use tokio::{sync::watch, task::JoinHandle};

use super::{VolumeError, trust};

/// How long a first answer is waited for before the volume is reported.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(15);

/// What the API has under a name.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// No answer yet.
    Unknown,
    Absent,
    Present(Arc<Object>),
}

/// One object that is being followed, for as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct Followed {
    name: String,
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// The object as of now, `None` where there is none and none comes while there is
    /// patience. `known` comes from [`Self::changes`] and will fire for what changes after
    /// this.
    pub(crate) async fn current(
        &self,
        known: &mut watch::Receiver<Known>,
        patience: Duration,
    ) -> Result<Option<Arc<Object>>, VolumeError> {
        let wait = known.wait_for(|known| !matches!(known, Known::Unknown));
        match tokio::time::timeout(FIRST_ANSWER_MAX, wait).await {
            Ok(Ok(known)) => {
                if let Known::Present(object) = &*known {
                    return Ok(Some(object.clone()));
                }
            }
            Ok(Err(_)) | Err(_) => {
                return Err(VolumeError(format!(
                    "timed out waiting for \"{}\" from the API server",
                    self.name
                )));
            }
        }
        let comes = known.wait_for(|known| matches!(known, Known::Present(_)));
        match tokio::time::timeout(patience, comes).await {
            Ok(Ok(known)) => match &*known {
                Known::Present(object) => Ok(Some(object.clone())),
                _ => Ok(None),
            },
            // The sender lives as long as what is followed.
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// A receiver of its own place in the row of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }
}

type Key = (Resource, String, String);

/// All objects that this node's pods use.
pub(crate) struct Objects {
    api: Api,
    ambient: Ambient,
    followed: Mutex<BTreeMap<Key, Weak<Followed>>>,
    bundles: trust::Shared,
}

impl Objects {
    pub(crate) fn new(api: Api, ambient: Ambient) -> Self {
        Self { api, ambient, followed: Mutex::default(), bundles: trust::Shared::default() }
    }

    /// Every ClusterTrustBundle.
    pub(crate) fn trust_bundles(&self) -> Arc<trust::Bundles> {
        self.bundles.follow(&self.api, &self.ambient)
    }

    /// Starts following, or joins who does.
    pub(crate) fn follow(&self, resource: Resource, namespace: &str, name: &str) -> Arc<Followed> {
        self.follow_among(resource, namespace, name, "")
    }

    /// The same, for a resource of which the node may follow only what one more
    /// field selector takes.
    pub(crate) fn follow_among(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        among: &str,
    ) -> Arc<Followed> {
        let key = (resource, namespace.to_owned(), name.to_owned());
        let mut all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = all.get(&key).and_then(Weak::upgrade) {
            return followed;
        }
        all.retain(|_, followed| followed.strong_count() > 0);
        let (sender, known) = watch::channel(Known::Unknown);
        let (api, ambient) = (self.api.clone(), self.ambient.clone());
        let (space, own) = (namespace.to_owned(), name.to_owned());
        let mut fields = format!("metadata.name={own}");
        if !among.is_empty() {
            fields = format!("{fields},{among}");
        }
        let task = tokio::spawn(async move {
            let options = ListOptions { field_selector: fields, ..ListOptions::default() };
            let mut seen = false;
            reflect(&api, resource, &space, &options, &ambient, |event| match event {
                Reflected::Restart => seen = false,
                Reflected::Upsert(object) if object.meta.name == own => {
                    seen = true;
                    sender.send_if_modified(|known| {
                        let old = match known {
                            Known::Present(old) => old.meta.resource_version.as_str(),
                            _ => "",
                        };
                        let changed = old != object.meta.resource_version || old.is_empty();
                        *known = Known::Present(Arc::new(object));
                        changed
                    });
                }
                Reflected::Delete(object) if object.meta.name == own => {
                    sender.send_replace(Known::Absent);
                }
                Reflected::Synced(_) if !seen => {
                    sender.send_replace(Known::Absent);
                }
                _ => {}
            })
            .await;
        });
        let followed = Arc::new(Followed { name: name.to_owned(), known, task });
        all.insert(key, Arc::downgrade(&followed));
        followed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::FakeCluster;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::resources::CONFIG_MAPS;

    #[tokio::test(start_paused = true)]
    async fn what_comes_a_moment_later_is_waited_for() {
        const SECOND: Duration = Duration::from_secs(1);
        let cluster = FakeCluster::new();
        let api = cluster.api();
        let objects = Objects::new(api.clone(), cluster.ambient());
        let followed = objects.follow(CONFIG_MAPS, "ns", "late");
        let mut seen = followed.changes();
        let now = followed.current(&mut seen, Duration::ZERO).await.expect("an answer");
        assert!(now.is_none());
        let comes = async {
            sleep(SECOND / 2).await;
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": "ns", "name": "late"}});
            api.create(CONFIG_MAPS, "ns", &map).await.expect("created");
        };
        let (found, ()) = tokio::join!(followed.current(&mut seen, SECOND), comes);
        assert_eq!(found.expect("an answer").expect("it has come").meta.name, "late");
        let followed = objects.follow(CONFIG_MAPS, "ns", "never");
        let mut seen = followed.changes();
        let began = Instant::now();
        assert!(followed.current(&mut seen, SECOND).await.expect("an answer").is_none());
        assert_eq!(began.elapsed().as_secs(), 1);
    }
}

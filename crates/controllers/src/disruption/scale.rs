//! How many pods the controllers of some pods want.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{GroupVersion, OwnerReference};
use client::{Api, Cached, Informer};
use serde_json::Value;
use tokio::sync::Mutex;

use super::plan::Scale;
use crate::{
    cached::{Deployment, Pod, ReplicaSet, StatefulSet},
    discovery::{Found, Names, discover},
};

/// Finds sizes: in the caches where there are some, and by the scale
/// subresource of any other kind.
pub(super) struct Scales {
    pub(super) api: Api,
    pub(super) replica_sets: Informer<ReplicaSet>,
    pub(super) deployments: Informer<Deployment>,
    pub(super) stateful_sets: Informer<StatefulSet>,
    pub(super) kinds: Mutex<(Names, Vec<Found>)>,
}

impl Scales {
    /// The sizes of the pods' controllers, each counted once.
    pub(super) async fn of(&self, pods: &[Arc<Cached<Pod>>]) -> Result<Scale, String> {
        let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
        let mut scale = Scale::default();
        for pod in pods {
            let Some(controller) = pod.meta.controller() else {
                scale.some_unmanaged = true;
                continue;
            };
            if sizes.contains_key(&controller.uid) {
                continue;
            }
            let found = self.of_controller(&pod.meta.namespace, controller).await?;
            let (uid, size) =
                found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.meta.name))?;
            sizes.insert(uid, size);
        }
        scale.sum = sizes.values().sum();
        Ok(scale)
    }

    async fn of_controller(
        &self,
        namespace: &str,
        controller: &OwnerReference,
    ) -> Result<Option<(String, i64)>, String> {
        let key = |name: &str| format!("{namespace}/{name}");
        let size = |replicas: Option<i32>| i64::from(replicas.unwrap_or(1));
        match (controller.api_version.as_str(), controller.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => {
                let set = self.replica_sets.get(&key(&controller.name));
                let Some(set) = set.filter(|set| set.meta.uid == controller.uid) else {
                    return Ok(None);
                };
                let above = set.meta.controller().filter(|above| above.kind == "Deployment");
                let Some(above) = above else {
                    return Ok(Some((set.meta.uid.clone(), size(set.view.spec.replicas))));
                };
                let deployment = self.deployments.get(&key(&above.name));
                let deployment = deployment.filter(|found| found.meta.uid == above.uid);
                Ok(deployment.map(|d| (d.meta.uid.clone(), size(d.view.spec.replicas))))
            }
            ("apps/v1", "StatefulSet") => {
                let set = self.stateful_sets.get(&key(&controller.name));
                let set = set.filter(|set| set.meta.uid == controller.uid);
                Ok(set.map(|set| (set.meta.uid.clone(), size(set.view.spec.replicas))))
            }
            _ => self.by_subresource(namespace, controller).await,
        }
    }

    async fn by_subresource(
        &self,
        namespace: &str,
        controller: &OwnerReference,
    ) -> Result<Option<(String, i64)>, String> {
        let group = GroupVersion::parse(&controller.api_version)
            .ok_or_else(|| format!("malformed apiVersion {:?}", controller.api_version))?
            .group;
        let Some(resource) = self.resource(&group, &controller.kind).await? else {
            return Ok(None);
        };
        let path = resource.path(namespace, &controller.name, "scale");
        let answer = self.api.request(http::Method::GET, &path, None, bytes::Bytes::new()).await;
        let scale = match answer {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).map_err(|e| e.to_string())?,
            Err(error) if error.is_not_found() => {
                let plural = resource.plural;
                return Err(format!("{plural}.{group} does not implement the scale subresource"));
            }
            Err(error) => return Err(error.to_string()),
        };
        let is_it = scale["metadata"]["uid"] == controller.uid.as_str();
        let size = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        Ok(is_it.then(|| (controller.uid.clone(), size)))
    }

    /// Asks what there is where the kind is not known yet.
    async fn resource(&self, group: &str, kind: &str) -> Result<Option<client::Resource>, String> {
        let mut kinds = self.kinds.lock().await;
        let find = |kinds: &[Found]| {
            let known = kinds.iter().find(|k| k.kind == kind && k.resource.group == group);
            known.map(|known| known.resource)
        };
        if let Some(found) = find(&kinds.1) {
            return Ok(Some(found));
        }
        let found = discover(&self.api, &mut kinds.0).await.map_err(|error| error.to_string())?;
        kinds.1 = found.found;
        Ok(find(&kinds.1))
    }
}

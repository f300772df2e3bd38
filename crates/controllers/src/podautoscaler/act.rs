//! Asks what an autoscaler needs to know, and resizes its target.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_object::LabelSelector;
use bytes::Bytes;
use client::{
    Api, Cached, Error, Informer, ListOptions, Outcome, OwnWrites, PatchKind, Recorder, Reference,
    Selection, reconcile_loop,
};
use futures_util::future::join_all;
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    limits::History,
    metrics::measure,
    plan::{asks_metrics, plan},
    view::{Measured, ObjectRef, Scale, ScaledPod, Scaler, ScalerStatus, View},
};
use crate::{
    Context,
    cached::{AUTOSCALERS, PODS},
    status::{self, conditions_json, count},
};

/// How often each autoscaler looks; upstream's default.
const PERIOD: Duration = Duration::from_secs(15);
const WORKERS: usize = 4;

struct Autoscalers {
    api: Api,
    scalers: Informer<Scaler>,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    known: Mutex<BTreeMap<String, Known>>,
    /// What `apiVersion` and kind name; few, and they stay.
    resources: Mutex<BTreeMap<(String, String), Served>>,
}

/// Where a kind is served: `/apis/apps/v1`, `deployments`.
#[derive(Clone, Debug)]
struct Served {
    base: String,
    plural: String,
}

/// What is remembered of an autoscaler from one look to the next.
#[derive(Clone, Debug, Default)]
struct Known {
    uid: String,
    history: History,
    selector: Option<LabelSelector>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Autoscalers {
        api: context.api.clone(),
        scalers: context.informers.get(Selection::all(AUTOSCALERS)),
        recorder: context.recorder("horizontal-pod-autoscaler"),
        context,
        writes: OwnWrites::default(),
        known: Mutex::default(),
        resources: Mutex::default(),
    });
    let queue = controller.context.queue();
    let keys = queue.clone();
    controller.scalers.on_change(move |change| {
        // Its own status is no news.
        let spec = |side: &Option<Arc<Cached<Scaler>>>| {
            side.as_ref().map(|scaler| (scaler.meta.uid.clone(), scaler.view.spec.clone()))
        };
        if spec(&change.old) != spec(&change.new) {
            keys.add(change.object().key());
        }
    });
    controller.scalers.wait_synced().await;
    reconcile_loop("horizontal-pod-autoscaler", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Autoscalers {
    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.scalers).await?;
        let scaler = self.scalers.get(key);
        let Some(scaler) = scaler.filter(|scaler| scaler.meta.deletion_timestamp.is_none()) else {
            self.lock_known().remove(key);
            return Ok(None);
        };
        let view = self.look(key, scaler.clone()).await;
        let mut plan = plan(&view);
        if let Some((to, _)) = plan.rescale {
            let resized = self.resize(&scaler, to).await;
            plan.rescaled(resized);
        }
        if let Some(known) = self.lock_known().get_mut(key) {
            known.history = plan.history.clone();
        }
        for (severity, reason, message) in &plan.events {
            let about = Reference::new("autoscaling/v2", "HorizontalPodAutoscaler", &scaler.meta);
            self.recorder.event(&about, *severity, reason, message);
        }
        self.write_status(&scaler, &plan.status).await?;
        Ok(Some(PERIOD))
    }

    fn lock_known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, key: &str, scaler: Arc<Cached<Scaler>>) -> View {
        let namespace = scaler.meta.namespace.clone();
        let target = &scaler.view.spec.scale_target_ref;
        let scale = self.scale(&namespace, target).await;
        let mut known = self.lock_known().get(key).cloned().unwrap_or_default();
        if known.uid != scaler.meta.uid {
            known = Known { uid: scaler.meta.uid.clone(), ..Known::default() };
        }
        let asked = scale.as_ref().ok().filter(|scale| asks_metrics(&scaler.view, scale));
        let selector = asked.map(|scale| scale.status.selector.clone()).unwrap_or_default();
        known.selector = LabelSelector::parse(&selector).ok().filter(|s| !s.is_empty());
        let history = known.history.clone();
        self.lock_known().insert(key.to_owned(), known);
        let (mut pods, mut measured) = (Ok(Vec::new()), Vec::new());
        if !selector.is_empty() {
            pods = self.pods(&namespace, &selector).await;
            measured = self.measure(&namespace, &scaler.view, &selector).await;
        }
        let rivals = self.rivals(key, pods.as_deref().unwrap_or_default());
        let (now, steady) = (self.context.ambient.now(), Instant::now());
        View { scale, pods, rivals, measured, history, now, steady, scaler }
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<ScaledPod>, String> {
        let options = ListOptions { label_selector: selector.into(), ..ListOptions::default() };
        let failed = |error: &dyn std::fmt::Display| {
            format!("unable to get pods while calculating replica count: {error}")
        };
        let list = self.api.list(PODS, namespace, &options).await.map_err(|e| failed(&e))?;
        let pods = list.items.iter().map(|pod| serde_json::from_slice(pod));
        pods.collect::<Result<_, _>>().map_err(|e| failed(&e))
    }

    async fn measure(
        &self,
        namespace: &str,
        scaler: &Scaler,
        selector: &str,
    ) -> Vec<Result<Measured, String>> {
        let metrics = scaler.spec.metrics.iter().map(async |metric| {
            let object = match metric.object.as_ref().filter(|_| metric.r#type == "Object") {
                Some(metric) => self.object_path(namespace, &metric.described_object).await,
                None => Ok(String::new()),
            };
            measure(&self.api, namespace, metric, selector, object).await
        });
        join_all(metrics).await
    }

    /// Other autoscalers of the namespace that look at one of the pods.
    fn rivals(&self, key: &str, pods: &[ScaledPod]) -> Vec<String> {
        let namespace = key.split('/').next().unwrap_or_default();
        let known = self.lock_known();
        let others = known.iter().filter(|(other, known)| {
            let selects = |pod: &ScaledPod| {
                known.selector.as_ref().is_some_and(|s| s.matches(&pod.metadata.labels))
            };
            *other != key && other.split('/').next() == Some(namespace) && pods.iter().any(selects)
        });
        let mut rivals: Vec<String> = others.map(|(other, _)| other.clone()).collect();
        if !rivals.is_empty() {
            rivals.insert(0, key.to_owned());
        }
        rivals
    }

    /// The path of an object below `custom.metrics.k8s.io`.
    async fn object_path(&self, namespace: &str, of: &ObjectRef) -> Result<String, String> {
        if of.kind == "Namespace" {
            return Ok(format!("namespaces/{}/metrics", of.name));
        }
        let plural = self.served(of).await?.plural;
        let group = of.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = match group {
            "" => plural,
            group => format!("{plural}.{group}"),
        };
        Ok(format!("namespaces/{namespace}/{resource}/{}", of.name))
    }

    /// The kind as the server has it: in the version that is named, or, since only group and
    /// kind count, in the one that the server prefers.
    async fn served(&self, of: &ObjectRef) -> Result<Served, String> {
        let key = (of.api_version.clone(), of.kind.clone());
        let lock = || self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(known.clone());
        }
        let group = of.api_version.split_once('/').map_or("", |(group, _)| group);
        let version = if of.api_version.is_empty() { "v1" } else { &of.api_version };
        let found = match self.plural_at(version, &of.kind).await? {
            Some(plural) => Some((version.to_owned(), plural)),
            None => match self.preferred(group).await?.filter(|preferred| preferred != version) {
                Some(preferred) => {
                    let plural = self.plural_at(&preferred, &of.kind).await?;
                    plural.map(|plural| (preferred, plural))
                }
                None => None,
            },
        };
        let none = || format!("no matches for kind {:?} in group {group:?}", of.kind);
        let (version, plural) = found.ok_or_else(none)?;
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let served = Served { base: format!("{root}/{version}"), plural };
        lock().insert(key, served.clone());
        Ok(served)
    }

    /// The plural of a kind in `apps/v1`, if it is there.
    async fn plural_at(&self, version: &str, kind: &str) -> Result<Option<String>, String> {
        #[derive(Deserialize)]
        struct Resources {
            resources: Vec<Row>,
        }
        #[derive(Deserialize)]
        struct Row {
            name: String,
            kind: String,
        }
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let Some(list) = self.ask::<Resources>(&format!("{root}/{version}")).await? else {
            return Ok(None);
        };
        let mut rows = list.resources.into_iter();
        let row = rows.find(|row| row.kind == kind && !row.name.contains('/'));
        Ok(row.map(|row| row.name))
    }

    /// `apps/v1` of `apps`, if that is served.
    async fn preferred(&self, group: &str) -> Result<Option<String>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            preferred_version: Preferred,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Preferred {
            group_version: String,
        }
        if group.is_empty() {
            return Ok(Some("v1".into()));
        }
        let group: Option<Group> = self.ask(&format!("/apis/{group}")).await?;
        Ok(group.map(|group| group.preferred_version.group_version))
    }

    /// A page of discovery; `None` where there is none.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, String> {
        match self.api.request(Method::GET, path, None, Bytes::new()).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| e.to_string()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn scale_path(&self, namespace: &str, target: &ObjectRef) -> Result<String, String> {
        let Served { base, plural } = self.served(target).await?;
        Ok(format!("{base}/namespaces/{namespace}/{plural}/{}/scale", target.name))
    }

    async fn scale(&self, namespace: &str, target: &ObjectRef) -> Result<Scale, String> {
        let path = self.scale_path(namespace, target).await?;
        let bytes = self.api.request(Method::GET, &path, None, Bytes::new()).await;
        let bytes = bytes.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    async fn resize(&self, scaler: &Cached<Scaler>, replicas: i32) -> Result<(), String> {
        let target = &scaler.view.spec.scale_target_ref;
        let path = self.scale_path(&scaler.meta.namespace, target).await?;
        let patch = Bytes::from(json!({"spec": {"replicas": replicas}}).to_string());
        let kind = Some(PatchKind::Merge.media_type());
        let resized = self.api.request(Method::PATCH, &path, kind, patch).await;
        resized.map(drop).map_err(|error| error.to_string())
    }

    async fn write_status(
        &self,
        scaler: &Cached<Scaler>,
        status: &ScalerStatus,
    ) -> Result<(), Error> {
        if *status == scaler.view.status {
            return Ok(());
        }
        let metrics = match status.current_metrics.is_empty() {
            true => Value::Null,
            false => json!(status.current_metrics),
        };
        let patch = json!({"metadata": {"uid": scaler.meta.uid}, "status": {
            "lastScaleTime": status.last_scale_time,
            "currentReplicas": count(status.current_replicas),
            "desiredReplicas": status.desired_replicas,
            "currentMetrics": metrics,
            "conditions": conditions_json(&status.conditions),
        }});
        status::write(&self.api, &self.writes, AUTOSCALERS, &scaler.meta, &patch).await
    }
}

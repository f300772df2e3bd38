//! Keeps budgets' statuses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_object::{LabelSelector, Meta, time};
use api_types::IntOrString;
use client::{
    Api, Cached, Error, Informer, Outcome, OwnWrites, PatchKind, Recorder, Reference, Selection,
    View as CacheView, WorkQueue, reconcile_loop,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{
    plan::{DELETION_MAX, Scale, View, needs_scale, plan},
    scale::Scales,
};
use crate::{
    Context,
    cached::{
        self, DEPLOYMENTS, DISRUPTION_BUDGETS, DisruptionBudget, DisruptionBudgetStatus, PODS, Pod,
        STATEFUL_SETS,
    },
    discovery::Names,
    selector_text::selector_text,
    status::{self, conditions_json},
};

const WORKERS: usize = 2;
/// Before the key of a pod whose `DisruptionTarget` may have come to nothing.
const POD: &str = "pod:";

struct Budgets {
    api: Api,
    budgets: Informer<DisruptionBudget>,
    pods: Informer<Pod>,
    scales: Scales,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let informers = &context.informers;
    let scales = Scales {
        api: context.api.clone(),
        replica_sets: cached::replica_sets(informers),
        deployments: informers.get(Selection::all(DEPLOYMENTS)),
        stateful_sets: informers.get(Selection::all(STATEFUL_SETS)),
        kinds: Mutex::new((Names::default(), Vec::new())),
    };
    let controller = Arc::new(Budgets {
        api: context.api.clone(),
        budgets: informers.get(Selection::all(DISRUPTION_BUDGETS)),
        pods: cached::pods(informers),
        scales,
        recorder: context.recorder("controllermanager"),
        context,
        writes: OwnWrites::default(),
    });
    let queue = controller.context.queue();
    controller.watch(&queue);
    controller.budgets.wait_synced().await;
    controller.pods.wait_synced().await;
    controller.scales.replica_sets.wait_synced().await;
    controller.scales.deployments.wait_synced().await;
    controller.scales.stateful_sets.wait_synced().await;
    reconcile_loop("disruption", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// None selects no pod, an empty one every pod of the namespace.
fn selector(budget: &DisruptionBudget) -> Option<LabelSelector> {
    let selector = &budget.spec.selector;
    if selector.is_null() {
        return None;
    }
    LabelSelector::from_object(selector).ok()
}

fn selects(budget: &Cached<DisruptionBudget>, labels: &BTreeMap<String, String>) -> bool {
    selector(&budget.view).is_some_and(|selector| selector.matches(labels))
}

impl Budgets {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.budgets.on_change(move |change| keys.add(change.object().key()));
        let (keys, budgets) = (queue.clone(), self.budgets.clone());
        self.pods.on_change(move |change| {
            let concerns = |pod: &Cached<Pod>| {
                let ready = pod.view.ready().is_some();
                let leaving = pod.meta.deletion_timestamp.is_some();
                (pod.meta.labels.clone(), pod.meta.controller().cloned(), ready, leaving)
            };
            if change.new.as_ref().is_some_and(|pod| target_since(pod).is_some()) {
                keys.add(format!("{POD}{}", change.object().key()));
            }
            if change.old.as_deref().map(concerns) == change.new.as_deref().map(concerns) {
                return;
            }
            for budget in budgets.list_namespace(&change.object().meta.namespace) {
                if change.sides().any(|pod| selects(&budget, &pod.meta.labels)) {
                    keys.add(budget.key());
                }
            }
        });
        self.watch_sizes(queue, &self.scales.replica_sets, |set| set.spec.replicas);
        self.watch_sizes(queue, &self.scales.deployments, |deployment| deployment.spec.replicas);
        self.watch_sizes(queue, &self.scales.stateful_sets, |set| set.spec.replicas);
    }

    /// A controller's size may be part of what budgets of its namespace reckon
    /// with.
    fn watch_sizes<V: CacheView>(
        &self,
        queue: &Arc<WorkQueue<String>>,
        informer: &Informer<V>,
        size: fn(&V) -> Option<i32>,
    ) {
        let (keys, budgets) = (queue.clone(), self.budgets.clone());
        informer.on_change(move |change| {
            let of = |object: &Arc<Cached<V>>| size(&object.view);
            if change.old.as_ref().map(of) != change.new.as_ref().map(of) {
                let all = budgets.list_namespace(&change.object().meta.namespace);
                all.iter().for_each(|budget| keys.add(budget.key()));
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        if let Some(pod) = key.strip_prefix(POD) {
            return self.clear_target(pod).await;
        }
        self.writes.settle(key, &self.budgets).await?;
        let Some(budget) = self.budgets.get(key) else { return Ok(None) };
        let about = Reference::new("policy/v1", "PodDisruptionBudget", &budget.meta);
        let selector = selector(&budget.view);
        let selected = |meta: &Meta| selector.as_ref().is_some_and(|s| s.matches(&meta.labels));
        let mut pods = self.pods.list_namespace(&budget.meta.namespace);
        pods.retain(|pod| selected(&pod.meta));
        if pods.is_empty() {
            self.recorder.normal(&about, "NoPods", "No matching pods found");
        }
        let scale = match needs_scale(&budget.view, pods.len()) {
            true => self.scales.of(&pods).await,
            false => Ok(Scale::default()),
        };
        let min_is_number = matches!(budget.view.spec.min_available, Some(IntOrString::Int(_)));
        if !min_is_number && scale.as_ref().is_ok_and(|scale| scale.some_unmanaged) {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {}) were found to be \
                 unmanaged. As a result, the status of the PDB cannot be calculated correctly, \
                 which may result in undefined behavior. To account for these pods please set \
                 \".spec.minAvailable\" field of the PDB to an integer value.",
                selector_text(&budget.view.spec.selector)
            );
            self.recorder.warning(&about, "UnmanagedPods", message);
        }
        let view = View { budget: budget.clone(), pods, scale, now: self.context.ambient.now() };
        let plan = plan(&view);
        for pod in &plan.not_deleted {
            let message = format!(
                "Pod was expected by PDB {} to be deleted but it wasn't",
                budget.meta.key()
            );
            self.recorder.warning(&Reference::new("v1", "Pod", &pod.meta), "NotDeleted", message);
        }
        if let Some(why) = &plan.impossible {
            self.recorder.warning(&about, "Unsatisfiable", why.clone());
        }
        self.write_status(&budget, &plan.status).await?;
        match plan.failure {
            Some(failure) => {
                let message = format!("Failed to calculate the number of expected pods: {failure}");
                self.recorder.warning(&about, "CalculateExpectedPodCountFailed", message);
                Err(failure.into())
            }
            None => Ok(plan.look_again),
        }
    }

    /// Writes over the version that was seen: an eviction may have taken from it
    /// meanwhile.
    async fn write_status(
        &self,
        budget: &Cached<DisruptionBudget>,
        status: &DisruptionBudgetStatus,
    ) -> Result<(), Error> {
        let known = &budget.view.status;
        // A status that was never written lacks the numbers, which are required.
        if status == known && known.observed_generation != 0 {
            return Ok(());
        }
        let gone = known.disrupted_pods.keys().filter(|p| !status.disrupted_pods.contains_key(*p));
        let mut disrupted: Map<String, Value> =
            gone.map(|pod| (pod.clone(), Value::Null)).collect();
        disrupted.extend(status.disrupted_pods.iter().map(|(k, v)| (k.clone(), json!(v))));
        let disrupted = match status.disrupted_pods.is_empty() {
            true => Value::Null,
            false => Value::Object(disrupted),
        };
        let patch = json!({
            "metadata": {
                "uid": budget.meta.uid,
                "resourceVersion": budget.meta.resource_version,
            },
            "status": {
                "observedGeneration": status.observed_generation,
                "disruptedPods": disrupted,
                "disruptionsAllowed": status.disruptions_allowed,
                "currentHealthy": status.current_healthy,
                "desiredHealthy": status.desired_healthy,
                "expectedPods": status.expected_pods,
                "conditions": conditions_json(&status.conditions),
            },
        });
        status::write(&self.api, &self.writes, DISRUPTION_BUDGETS, &budget.meta, &patch).await
    }

    /// A pod that was to be disrupted and stays is no target any more.
    async fn clear_target(&self, key: &str) -> Outcome {
        let Some(pod) = self.pods.get(key) else { return Ok(None) };
        let Some(since) = target_since(&pod) else { return Ok(None) };
        let now = self.context.ambient.now();
        let left = DELETION_MAX - now.duration_since(since);
        if left.is_positive() {
            return Ok(Some(Duration::try_from(left)?));
        }
        let patch = json!({"metadata": {"uid": pod.meta.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "False",
            "lastTransitionTime": time::format_seconds(now),
        }]}});
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let patched =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch).await;
        match patched {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(None),
        }
    }
}

/// Since when a pod that neither leaves nor has ended is told to be about to be
/// disrupted.
fn target_since(pod: &Cached<Pod>) -> Option<Timestamp> {
    if pod.meta.deletion_timestamp.is_some() || pod.view.is_terminal() {
        return None;
    }
    let mut conditions = pod.view.status.conditions.iter();
    let target = conditions.find(|c| c.r#type == "DisruptionTarget" && c.status == "True")?;
    target.last_transition_time.as_deref().and_then(time::parse)
}

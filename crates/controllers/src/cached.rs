//! The resources and views that the controllers share. Views are as narrow as
//! can be: what is here is held in memory for every object of the cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_object::time;
use api_types::{
    IntOrString,
    core::{Affinity, Condition, Taint, Toleration},
};
use client::{Cached, Informer, Resource, Selection, SharedInformers};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::storage::ClaimVolumes;

pub(crate) const API_SERVICES: Resource =
    Resource::cluster("apiregistration.k8s.io", "v1", "apiservices");
pub(crate) const AUTOSCALERS: Resource =
    Resource::namespaced("autoscaling", "v2", "horizontalpodautoscalers");
pub(crate) const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
pub(crate) const CRON_JOBS: Resource = Resource::namespaced("batch", "v1", "cronjobs");
pub(crate) const CONTROLLER_REVISIONS: Resource =
    Resource::namespaced("apps", "v1", "controllerrevisions");
pub(crate) const CUSTOM_RESOURCE_DEFINITIONS: Resource =
    Resource::cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions");
pub(crate) const DAEMON_SETS: Resource = Resource::namespaced("apps", "v1", "daemonsets");
pub(crate) const DISRUPTION_BUDGETS: Resource =
    Resource::namespaced("policy", "v1", "poddisruptionbudgets");
pub(crate) const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments");
pub(crate) const ENDPOINTS: Resource = Resource::namespaced("", "v1", "endpoints");
pub(crate) const ENDPOINT_SLICES: Resource =
    Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
pub(crate) const EVENTS: Resource = Resource::namespaced("", "v1", "events");
pub(crate) const FLOW_SCHEMAS: Resource =
    Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas");
pub(crate) const JOBS: Resource = Resource::namespaced("batch", "v1", "jobs");
pub(crate) const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");
pub(crate) const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
pub(crate) const NODES: Resource = Resource::cluster("", "v1", "nodes");
pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods");
pub(crate) const PRIORITY_CLASSES: Resource =
    Resource::cluster("scheduling.k8s.io", "v1", "priorityclasses");
pub(crate) const PRIORITY_LEVELS: Resource =
    Resource::cluster("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations");
pub(crate) const REPLICA_SETS: Resource = Resource::namespaced("apps", "v1", "replicasets");
pub(crate) const REPLICATION_CONTROLLERS: Resource =
    Resource::namespaced("", "v1", "replicationcontrollers");
pub(crate) const RESOURCE_QUOTAS: Resource = Resource::namespaced("", "v1", "resourcequotas");
pub(crate) const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
pub(crate) const SIGNING_REQUESTS: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests");
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts");
pub(crate) const SERVICES: Resource = Resource::namespaced("", "v1", "services");
pub(crate) const STATEFUL_SETS: Resource = Resource::namespaced("apps", "v1", "statefulsets");
pub(crate) const STORAGE_MIGRATIONS: Resource =
    Resource::cluster("storagemigration.k8s.io", "v1", "storageversionmigrations");

/// Index by the uid of the owner that is the controller; orphans are under "".
pub(crate) const BY_CONTROLLER: &str = "controller";
/// Index of pods by node; those not bound are under "".
pub(crate) const BY_NODE: &str = "node";

macro_rules! views {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(crate) struct $name {
                $(
                    $(#[$meta])*
                    #[serde(deserialize_with = "null_is_default")]
                    pub(crate) $field: $ty,
                )*
            }
        )*
    };
}
pub(crate) use views;

views! {
    Pod { spec: PodSpec, status: PodStatus, }
    PodSpec {
        node_name: String,
        #[serde(rename = "affinity")]
        target: TargetNode,
        hostname: String,
        subdomain: String,
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        tolerations: Vec<Toleration>,
        volumes: ClaimVolumes,
    }
    Container { restart_policy: String, ports: Vec<ContainerPort>, }
    ContainerPort { name: String, container_port: i32, protocol: String, }
    PodStatus {
        phase: String,
        reason: String,
        conditions: Vec<PodCondition>,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        init_container_statuses: Vec<ContainerStatus>,
        container_statuses: Vec<ContainerStatus>,
    }
    PodCondition { r#type: String, status: String, last_transition_time: Option<String>, }
    PodIp { ip: String, }
    ContainerStatus { name: String, restart_count: i32, state: ContainerState, }
    ContainerState { terminated: Option<Terminated>, }
    Terminated { exit_code: i32, finished_at: Option<String>, }

    ReplicaSet { spec: ReplicaSetSpec, status: ReplicaSetStatus, }
    ReplicaSetSpec {
        replicas: Option<i32>,
        min_ready_seconds: i32,
        selector: Value,
        template: Raw,
    }
    ReplicaSetStatus {
        replicas: i32,
        fully_labeled_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        terminating_replicas: Option<i32>,
        observed_generation: i64,
        conditions: Vec<Condition>,
    }

    Deployment { spec: DeploymentSpec, status: DeploymentStatus, }
    DeploymentSpec {
        replicas: Option<i32>,
        selector: Value,
        template: Raw,
        strategy: DeploymentStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
        paused: bool,
        progress_deadline_seconds: Option<i32>,
    }
    DeploymentStrategy { r#type: String, rolling_update: RollingUpdate, }
    RollingUpdate { max_unavailable: Option<IntOrString>, max_surge: Option<IntOrString>, }
    DeploymentStatus {
        observed_generation: i64,
        replicas: i32,
        updated_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        unavailable_replicas: i32,
        terminating_replicas: Option<i32>,
        conditions: Vec<Condition>,
        collision_count: Option<i32>,
    }

    Job { spec: JobSpec, status: JobStatus, }
    JobSpec {
        parallelism: Option<i32>,
        completions: Option<i32>,
        active_deadline_seconds: Option<i64>,
        pod_failure_policy: Option<PodFailurePolicy>,
        success_policy: Option<SuccessPolicy>,
        backoff_limit: Option<i32>,
        backoff_limit_per_index: Option<i32>,
        max_failed_indexes: Option<i32>,
        selector: Value,
        template: Raw,
        ttl_seconds_after_finished: Option<i64>,
        completion_mode: String,
        suspend: bool,
        pod_replacement_policy: String,
        managed_by: String,
    }
    PodFailurePolicy { rules: Vec<PodFailureRule>, }
    PodFailureRule {
        action: String,
        on_exit_codes: Option<OnExitCodes>,
        on_pod_conditions: Vec<OnPodCondition>,
    }
    OnExitCodes { container_name: Option<String>, operator: String, values: Vec<i32>, }
    OnPodCondition { r#type: String, status: String, }
    SuccessPolicy { rules: Vec<SuccessRule>, }
    SuccessRule { succeeded_indexes: Option<String>, succeeded_count: Option<i32>, }
    JobStatus {
        conditions: Vec<Condition>,
        start_time: Option<String>,
        completion_time: Option<String>,
        active: i32,
        succeeded: i32,
        failed: i32,
        terminating: Option<i32>,
        completed_indexes: String,
        failed_indexes: Option<String>,
        uncounted_terminated_pods: Option<UncountedPods>,
        ready: Option<i32>,
    }
    UncountedPods { succeeded: Vec<String>, failed: Vec<String>, }

    StatefulSet { spec: StatefulSetSpec, status: StatefulSetStatus, }
    StatefulSetSpec {
        replicas: Option<i32>,
        selector: Value,
        template: Raw,
        volume_claim_templates: Raw,
        service_name: String,
        pod_management_policy: String,
        update_strategy: StatefulSetStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
        persistent_volume_claim_retention_policy: ClaimRetention,
        ordinals: Ordinals,
    }
    StatefulSetStrategy { r#type: String, rolling_update: StatefulSetRolling, }
    StatefulSetRolling { partition: i32, max_unavailable: Option<IntOrString>, }
    ClaimRetention { when_deleted: String, when_scaled: String, }
    Ordinals { start: i32, }
    StatefulSetStatus {
        observed_generation: i64,
        replicas: i32,
        ready_replicas: i32,
        current_replicas: i32,
        updated_replicas: i32,
        available_replicas: i32,
        current_revision: String,
        update_revision: String,
        collision_count: Option<i32>,
    }

    DaemonSet { spec: DaemonSetSpec, status: DaemonSetStatus, }
    DaemonSetSpec {
        selector: Value,
        template: Raw,
        update_strategy: DeploymentStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
    }
    DaemonSetStatus {
        current_number_scheduled: i32,
        number_misscheduled: i32,
        desired_number_scheduled: i32,
        number_ready: i32,
        observed_generation: i64,
        updated_number_scheduled: i32,
        number_available: i32,
        number_unavailable: i32,
        collision_count: Option<i32>,
    }

    ControllerRevision { revision: i64, data: Raw, }

    DisruptionBudget { spec: DisruptionBudgetSpec, status: DisruptionBudgetStatus, }
    DisruptionBudgetSpec {
        min_available: Option<IntOrString>,
        max_unavailable: Option<IntOrString>,
        selector: Value,
    }
    DisruptionBudgetStatus {
        observed_generation: i64,
        disrupted_pods: BTreeMap<String, String>,
        disruptions_allowed: i64,
        current_healthy: i64,
        desired_healthy: i64,
        expected_pods: i64,
        conditions: Vec<Condition>,
    }

    Service { spec: ServiceSpec, }
    ServiceSpec {
        r#type: String,
        selector: BTreeMap<String, String>,
        ports: Vec<ServicePort>,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        ip_families: Vec<String>,
        publish_not_ready_addresses: bool,
        traffic_distribution: String,
    }
    ServicePort {
        name: String,
        protocol: String,
        app_protocol: Option<String>,
        port: i32,
        target_port: Option<IntOrString>,
    }
    Node { spec: NodeSpec, status: NodeStatus, }
    NodeSpec { taints: Vec<Taint>, }
    NodeStatus { conditions: Vec<Condition>, }
}

/// `null` means unset in Kubernetes' JSON.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The node that an unbound pod of a DaemonSet is meant for: its required node
/// affinity names it by the field `metadata.name`. Empty for all other pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TargetNode(pub(crate) String);

impl<'de> Deserialize<'de> for TargetNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let affinity = Affinity::deserialize(deserializer)?;
        let required = affinity
            .node_affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution);
        let terms = required.map(|required| required.node_selector_terms).unwrap_or_default();
        let mut fields = terms.into_iter().flat_map(|term| term.match_fields);
        let named = fields.find(|field| {
            field.key == "metadata.name" && field.operator == "In" && field.values.len() == 1
        });
        Ok(Self(named.and_then(|mut field| field.values.pop()).unwrap_or_default()))
    }
}

/// A part of an object that is kept as its JSON: pod templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw(Box<RawValue>);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self(RawValue::from_string("null".into()).expect("null is JSON"))
    }
}

impl Raw {
    /// Decoded, for as long as it is needed.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was checked when it was read")
    }
}

/// The pods of the cluster, by controller and by node.
pub(crate) fn pods(informers: &SharedInformers) -> Informer<Pod> {
    let pods = informers.get::<Pod>(Selection::all(PODS));
    pods.add_index(BY_CONTROLLER, controller_uid);
    pods.add_index(BY_NODE, |pod| vec![pod.view.spec.node_name.clone()]);
    pods
}

/// The ReplicaSets of the cluster, by controller.
pub(crate) fn replica_sets(informers: &SharedInformers) -> Informer<ReplicaSet> {
    replicas(informers, REPLICA_SETS)
}

/// The same of another resource of their shape.
pub(crate) fn replicas(informers: &SharedInformers, resource: Resource) -> Informer<ReplicaSet> {
    let sets = informers.get::<ReplicaSet>(Selection::all(resource));
    sets.add_index(BY_CONTROLLER, controller_uid);
    sets
}

/// The Jobs of the cluster, by controller.
pub(crate) fn jobs(informers: &SharedInformers) -> Informer<Job> {
    let jobs = informers.get::<Job>(Selection::all(JOBS));
    jobs.add_index(BY_CONTROLLER, controller_uid);
    jobs
}

/// The ControllerRevisions of the cluster, by controller.
pub(crate) fn revisions(informers: &SharedInformers) -> Informer<ControllerRevision> {
    let revisions = informers.get::<ControllerRevision>(Selection::all(CONTROLLER_REVISIONS));
    revisions.add_index(BY_CONTROLLER, controller_uid);
    revisions
}

fn controller_uid<V>(object: &Cached<V>) -> Vec<String> {
    vec![object.meta.controller().map(|owner| owner.uid.clone()).unwrap_or_default()]
}

impl Job {
    /// The condition that says how it ended, `Complete` or `Failed`.
    pub(crate) fn finished(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| {
            matches!(condition.r#type.as_str(), "Complete" | "Failed") && condition.status == "True"
        })
    }
}

impl Pod {
    /// The condition `Ready`, if true.
    pub(crate) fn ready(&self) -> Option<&PodCondition> {
        let mut conditions = self.status.conditions.iter();
        conditions.find(|condition| condition.r#type == "Ready" && condition.status == "True")
    }

    /// Whether it has been ready for `min_ready_seconds`.
    pub(crate) fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.available_in(min_ready_seconds, now).is_some_and(|left| left.is_zero())
    }

    /// The node it runs on, or is meant for.
    pub(crate) fn node_or_target(&self) -> &str {
        match self.spec.node_name.as_str() {
            "" => &self.spec.target.0,
            bound => bound,
        }
    }

    /// Whether it has run to its end.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// How long until it has been ready for `min_ready_seconds`; absent while not
    /// ready.
    fn available_in(&self, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
        let ready = self.ready()?;
        let wanted = SignedDuration::from_secs(i64::from(min_ready_seconds.max(0)));
        if wanted.is_zero() {
            return Some(Duration::ZERO);
        }
        let since = ready.last_transition_time.as_deref().and_then(time::parse)?;
        let ahead = since.duration_since(now);
        // A node's clock may be a little ahead; where it is more, ours was set back.
        let left = if ahead > wanted { SignedDuration::ZERO } else { ahead + wanted };
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }
}

/// Neither finished nor being deleted: it counts as a replica.
pub(crate) fn is_active(pod: &Cached<Pod>) -> bool {
    !pod.view.is_terminal() && pod.meta.deletion_timestamp.is_none()
}

/// When the first of some pods becomes available by mere passing of time.
pub(crate) fn next_available<'a>(
    pods: impl Iterator<Item = &'a Arc<Cached<Pod>>>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    let left = pods.filter_map(|pod| pod.view.available_in(min_ready_seconds, now));
    left.filter(|left| !left.is_zero()).min()
}

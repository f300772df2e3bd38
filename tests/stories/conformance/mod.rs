//! The behaviours of Kubernetes' conformance suite that are about workloads, their
//! scheduling and the network, each beside the story that shows it here; by the suite's names
//! without their tags.
//!
//! A story of this folder has a namespace of its own in a cluster that it shares, so
//! that they run side by side; the others are tests elsewhere, named as functions so
//! that none is named which is not there.

mod accounts;
mod budgets;
mod collector;
mod daemons;
mod definitions;
mod discovery;
mod events;
mod fields;
mod hooks;
mod jobs;
mod lists;
mod machinery;
mod namespaces;
mod network;
mod node;
mod objects;
mod pods;
mod policies;
mod publishing;
mod quotas;
mod registries;
mod replicas;
mod stateful;
mod storage;
mod trust;
mod typed;
mod watches;
mod wire;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{batch, scheduling, workloads};
use crate::cluster::{Cluster, Run};

/// How many stories run side by side.
const AT_ONCE: usize = 4;
/// How long something may take to come true.
const COME_TRUE_MAX: Duration = Duration::from_secs(180);

/// A story in a namespace of its own.
type Story = fn(&Place);

/// What shows some behaviours.
struct Shown {
    by: By,
    behaviours: &'static [&'static str],
}

enum By {
    /// A story of this folder.
    Story(Story),
    /// A test elsewhere.
    Test(fn()),
    /// Rows of a table elsewhere, and what tells whether it has one of a name.
    Rows(fn(&str) -> bool, &'static [&'static str]),
}

const fn story(by: Story, behaviours: &'static [&'static str]) -> Shown {
    Shown { by: By::Story(by), behaviours }
}

const fn test(by: fn(), behaviours: &'static [&'static str]) -> Shown {
    Shown { by: By::Test(by), behaviours }
}

const fn rows(
    has: fn(&str) -> bool,
    names: &'static [&'static str],
    behaviours: &'static [&'static str],
) -> Shown {
    Shown { by: By::Rows(has, names), behaviours }
}

/// `[sig-apps]`, but for what takes a second machine or the minutes of a schedule.
const APPS: &[Shown] = &[
    story(
        objects::controller_revisions,
        &["ControllerRevision should manage the lifecycle of a ControllerRevision"],
    ),
    story(objects::cron_jobs, &["CronJob should support CronJob API operations"]),
    story(
        objects::daemon_sets,
        &[
            "Daemon set should list and delete a collection of DaemonSets",
            "Daemon set should verify changes to a daemon set status",
        ],
    ),
    story(
        objects::deployments,
        &[
            "Deployment should run the lifecycle of a Deployment",
            "Deployment should validate Deployment Status endpoints",
        ],
    ),
    story(
        objects::disruption_budgets,
        &[
            "DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets",
            "DisruptionController should create a PodDisruptionBudget",
            "DisruptionController should update/patch PodDisruptionBudget status",
        ],
    ),
    story(
        objects::jobs,
        &["Job should apply changes to a job status", "Job should manage the lifecycle of a job"],
    ),
    story(
        objects::replica_sets,
        &[
            "ReplicaSet Replace and Patch tests",
            "ReplicaSet should list and delete a collection of ReplicaSets",
            "ReplicaSet should validate Replicaset Status endpoints",
        ],
    ),
    story(
        objects::replication_controllers,
        &["ReplicationController should test the lifecycle of a ReplicationController"],
    ),
    story(
        objects::stateful_sets,
        &[
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets",
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints",
        ],
    ),
    story(
        replicas::scaled_by_subresource,
        &[
            "Deployment Deployment should have a working scale subresource",
            "ReplicaSet Replicaset should have a working scale subresource",
            "ReplicationController should get and update a ReplicationController scale",
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource",
        ],
    ),
    story(
        replicas::recreated,
        &["Deployment RecreateDeployment should delete old pods and create new ones"],
    ),
    story(
        replicas::adopted_and_updated,
        &["Deployment RollingUpdateDeployment should delete old pods and create new ones"],
    ),
    story(replicas::history, &["Deployment deployment should delete old replica sets"]),
    story(replicas::proportional, &["Deployment deployment should support proportional scaling"]),
    story(replicas::rolled_over, &["Deployment deployment should support rollover"]),
    story(
        replicas::orphans,
        &[
            "ReplicaSet should adopt matching pods on creation and release no longer matching pods",
            "ReplicationController should adopt matching pods on creation",
            "ReplicationController should release no longer matching pods",
        ],
    ),
    story(
        replicas::each_answers,
        &[
            "ReplicaSet should serve a basic image on each replica with a public image",
            "ReplicationController should serve a basic image on each replica with a public image",
        ],
    ),
    story(
        replicas::quota_exceeded,
        &[
            "ReplicationController should surface a failure condition on a common issue like exceeded quota",
        ],
    ),
    story(
        budgets::evictions,
        &[
            "DisruptionController should block an eviction until the PDB is updated to allow it",
            "DisruptionController should observe PodDisruptionBudget status updated",
        ],
    ),
    story(jobs::orphans, &["Job should adopt matching orphans and release non-matching pods"]),
    story(
        jobs::disruptions_ignored,
        &[
            "Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition",
        ],
    ),
    story(jobs::deleted, &["Job should delete a job"]),
    story(
        jobs::failed_index,
        &[
            "Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy",
        ],
    ),
    story(
        jobs::succeeded_early,
        &[
            "Job with successPolicy should succeeded when all indexes succeeded",
            "Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending",
            "Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending",
        ],
    ),
    story(
        stateful::burst,
        &[
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods",
        ],
    ),
    story(
        stateful::in_order,
        &[
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy",
        ],
    ),
    story(
        stateful::recreated,
        &[
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset",
        ],
    ),
    story(
        objects::limit_ranges,
        &[
            "LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.",
            "LimitRange should list, patch and delete a LimitRange by collection",
        ],
    ),
    story(
        objects::priority_classes,
        &[
            "SchedulerPreemption PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods",
        ],
    ),
];

/// What waits for the minutes of a schedule.
const BY_THE_MINUTE: &[Shown] = &[story(
    jobs::cron,
    &[
        "CronJob should not schedule jobs when suspended",
        "CronJob should not schedule new jobs when ForbidConcurrent",
        "CronJob should replace jobs when ReplaceConcurrent",
        "CronJob should schedule multiple jobs concurrently",
    ],
)];

/// What takes two nodes.
const DAEMONS: &[Shown] = &[
    story(
        daemons::simple,
        &[
            "Daemon set should retry creating failed daemon pods",
            "Daemon set should run and stop simple daemon",
        ],
    ),
    story(daemons::by_label, &["Daemon set should run and stop complex daemon"]),
    story(daemons::rolled_back, &["Daemon set should rollback without unnecessary restarts"]),
];

/// What other stories show.
const ELSEWHERE: &[Shown] = &[
    test(
        batch::jobs_run_to_their_end,
        &[
            "Job should allow to use the pod failure policy on exit code to fail the job early",
            "Job should create pods for an Indexed job with completion indexes and specified hostname",
            "Job should execute all indexes despite some failing when using backoffLimitPerIndex",
            "Job should run a job to completion when tasks sometimes fail and are locally restarted",
            "Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes",
        ],
    ),
    test(
        workloads::workloads_roll_out_and_keep_to_their_limits,
        &[
            "Daemon set should update pod when spec was updated and update strategy is RollingUpdate",
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications",
            "StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications",
        ],
    ),
    test(
        scheduling::pods_go_where_they_may_and_say_why_not,
        &[
            "SchedulerPredicates validates resource limits of pods that are allowed to run",
            "SchedulerPredicates validates that NodeSelector is respected if matching",
            "SchedulerPredicates validates that NodeSelector is respected if not matching",
            "SchedulerPredicates validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP",
            "SchedulerPreemption PreemptionExecutionPath runs ReplicaSets to verify preemption running path",
            "SchedulerPreemption validates basic preemption works",
            "SchedulerPreemption validates lower priority pod preemption by critical pod",
            "SchedulerPreemption validates pod disruption condition is added to the preempted pod",
        ],
    ),
];

/// A namespace of one's own.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: String,
}

impl Place<'_> {
    /// kubectl in the namespace, with arguments split at spaces.
    fn kubectl(&self, line: &str) -> Run {
        self.kubectl_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same with arguments that hold spaces.
    fn kubectl_args(&self, args: &[&str]) -> Run {
        self.cluster.kubectl_args(&[&["-n", &self.namespace], args].concat())
    }

    fn apply(&self, object: &Value) {
        let line = format!("apply -n {} -f -", self.namespace);
        self.cluster.kubectl_with_input(&line, &object.to_string()).ok();
    }

    /// `kubectl wait`.
    fn wait(&self, what: &str, name: &str) {
        self.kubectl_args(&["wait", "--for", what, name, "--timeout=180s"]).ok();
    }

    fn get(&self, what: &str) -> Value {
        let text = self.kubectl(&format!("get {what} -o json")).ok().stdout;
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    fn items(&self, what: &str) -> Vec<Value> {
        self.get(what)["items"].as_array().cloned().unwrap_or_default()
    }

    fn names(&self, what: &str) -> Vec<String> {
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.items(what).iter().map(name).collect()
    }

    fn patch(&self, what: &str, patch: &Value) {
        self.kubectl_args(&["patch", what, "--type=merge", "-p", &patch.to_string()]).ok();
    }

    fn patch_status(&self, what: &str, status: &Value) {
        let patch = serde_json::json!({"status": status}).to_string();
        let args = ["patch", what, "--subresource=status", "--type=merge", "-p", &patch];
        self.kubectl_args(&args).ok();
    }

    /// Looks again until it is so; for what `kubectl wait` cannot express.
    fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !so() {
            if began.elapsed() > COME_TRUE_MAX {
                let all = "get pods,replicasets,jobs,events -o wide";
                panic!("{what}\n{}", self.kubectl(all).stdout);
            }
            // Two of these at once would leave the cluster no processor.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Runs the stories of some tables; all of them, also if some fail.
fn show(cluster: &Cluster, tables: &[&[Shown]]) {
    let mut stories: Vec<(Story, &str)> = Vec::new();
    for shown in tables.iter().copied().flatten() {
        if let By::Story(story) = shown.by {
            stories.push((story, shown.behaviours[0]));
        }
    }
    // Of one process, so that no table takes the namespace of another.
    static NAMED: AtomicUsize = AtomicUsize::new(0);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((story, name)) = stories.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let number = NAMED.fetch_add(1, Ordering::SeqCst);
                    let namespace = format!("story-{number}");
                    cluster.kubectl(&format!("create namespace {namespace}")).ok();
                    let place = Place { cluster, namespace };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| story(&place))) {
                        let why = panic.downcast_ref::<String>().cloned();
                        let why = why.unwrap_or_else(|| "see above".to_owned());
                        failed.lock().expect("no panic").push(format!("{name}\n{why}"));
                    }
                    let line = format!("delete namespace {} --wait=false", place.namespace);
                    cluster.kubectl(&line).ok();
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn workloads_behave_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    show(&cluster, &[BY_THE_MINUTE, APPS]);
}

#[test]
fn networks_behave_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    show(&cluster, &[network::NETWORK]);
}

#[test]
fn every_behaviour_of_the_network_is_shown_once() {
    let all: Vec<_> = network::NETWORK.iter().flat_map(|shown| shown.behaviours).collect();
    let once: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), once.len()), (47, 47), "as many as the suite has");
}

#[test]
fn daemons_behave_as_conformance_wants() {
    let Some((first, _second)) = Cluster::start_with_agent() else { return };
    show(&first, &[DAEMONS]);
}

#[test]
fn pods_behave_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    show(&cluster, &[node::NODE, storage::STORAGE]);
    show(&cluster, &[node::ALONE]);
}

/// Each behaviour of a suite is shown by something that is there, or is said not to
/// be here; and nothing is named that the suite has not.
fn shows_all(suite: &str, tables: &[&[Shown]], not_here: &[(&str, &str)]) {
    let mut seen = BTreeSet::new();
    for shown in tables.iter().copied().flatten() {
        if let By::Rows(has, names) = shown.by {
            names.iter().for_each(|name| assert!(has(name), "no row is called {name}"));
        }
        for behaviour in shown.behaviours {
            assert!(seen.insert(*behaviour), "{behaviour} twice");
        }
    }
    for (behaviour, why) in not_here {
        assert!(seen.insert(*behaviour) && !why.is_empty(), "{behaviour}");
    }
    let suite: BTreeSet<&str> = suite.lines().collect();
    let missing: Vec<_> = suite.difference(&seen).collect();
    let unknown: Vec<_> = seen.difference(&suite).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not shown: {missing:#?} unknown: {unknown:#?}"
    );
}

#[test]
fn every_behaviour_of_nodes_and_storage_is_shown() {
    shows_all(node::SUITE, &[node::NODE, node::ALONE, node::NODE_ELSEWHERE], node::NOT_HERE);
    shows_all(storage::SUITE, &[storage::STORAGE, storage::STORAGE_ELSEWHERE], &[]);
}

#[test]
fn every_behaviour_is_shown_once() {
    let mut seen = BTreeSet::new();
    for shown in [APPS, BY_THE_MINUTE, DAEMONS, ELSEWHERE].into_iter().flatten() {
        if let By::Test(test) = shown.by {
            // That it is there is what the compiler has checked.
            let _: fn() = test;
        }
        for behaviour in shown.behaviours {
            assert!(seen.insert(behaviour), "{behaviour}");
        }
    }
    let of_scheduling =
        |name: &&&&str| ["LimitRange ", "Scheduler"].iter().any(|first| name.starts_with(first));
    let scheduling = seen.iter().filter(of_scheduling).count();
    assert_eq!((seen.len() - scheduling, scheduling), (60, 11), "as many as the suite has");
}

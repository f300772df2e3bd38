//! What is known of one pod: the API's object, what the runtime runs, and
//! what the worker remembers of its own attempts.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use api_types::core::{Container, ContainerStatus, Pod, ResourceRequirements};
use client::Backoff;
use jiff::{SignedDuration, Timestamp};
use node_runtime::{
    ContainerId, ContainerState, Sandbox, SandboxId, SandboxState,
    spec::{Resources, User},
};

use crate::{container::spec::label, eviction::DeadContainers};

/// Everything that plans and statuses are made from.
#[derive(Debug, Clone)]
pub(crate) struct PodState {
    pub(crate) pod: Arc<Pod>,
    /// The API has no such object any more.
    pub(crate) gone: bool,
    /// Oldest first.
    pub(crate) sandboxes: Vec<SandboxView>,
    /// Oldest first within each container.
    pub(crate) runs: Vec<Run>,
    pub(crate) memory: BTreeMap<String, Memory>,
    /// Directories, volumes, sandbox, network.
    pub(crate) setup: Step,
    /// Sandbox stopped, network and addresses released.
    pub(crate) stop_sandbox: Step,
    /// Volumes removed from a pod that has ended and stays in the API.
    pub(crate) unmount: Step,
    /// Volumes, logs and the runtime's records removed.
    pub(crate) clean: Step,
    /// The API was told that nothing is left.
    pub(crate) finish: Step,
    pub(crate) pod_ips: Vec<IpAddr>,
    pub(crate) host_ips: Vec<IpAddr>,
    /// Once set it stays: a pod that has ended never runs again.
    pub(crate) terminal: Option<Terminal>,
    pub(crate) deletion: Option<Deletion>,
    /// The grace of a pod that the node ends, where it is not the pod's own.
    pub(crate) grace: Option<Duration>,
    /// Which of its runs are kept.
    pub(crate) keeps: DeadContainers,
    /// The node wants the room of what is left of an ended pod.
    pub(crate) forget: bool,
    /// What each container was granted, where that is not what it asks for.
    pub(crate) allocated: BTreeMap<String, ResourceRequirements>,
    /// Why the containers do not get what they ask for.
    pub(crate) resize_pending: Option<Waiting>,
    /// Their cgroups follow what they were granted.
    pub(crate) resize: Step,
    pub(crate) resize_error: String,
    /// When this node first saw the pod.
    pub(crate) started_at: Timestamp,
}

/// Longer than anybody waits, and short enough to be added to any time.
const GRACE_SECONDS_MAX: u64 = 100 * 365 * 24 * 60 * 60;

/// The grace that so many seconds of the API are: any number is valid there, and nobody
/// gets less than one.
pub(crate) fn grace(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).clamp(1, GRACE_SECONDS_MAX))
}

/// How the pod ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// `Succeeded` or `Failed`.
    pub(crate) phase: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Terminal {
    /// How the message of a pod begins that the node did not take.
    pub(crate) const REFUSED: &str = "Pod was rejected: ";

    /// The reason of a pod that the node could not keep, or not take.
    pub(crate) const EVICTED: &str = "Evicted";

    /// The reason of a pod that goes for one that the system needs.
    pub(crate) const PREEMPTED: &str = "Preempting";

    /// The reason of a pod that ends because its machine does.
    pub(crate) const TERMINATED: &str = "Terminated";

    /// As the API has it: what has ended there never runs again.
    pub(crate) fn told(pod: &Pod) -> Option<Self> {
        let phase = ["Succeeded", "Failed"].into_iter().find(|phase| *phase == pod.status.phase)?;
        let (reason, message) = (pod.status.reason.clone(), pod.status.message.clone());
        Some(Self { phase, reason, message })
    }

    /// Whether the node has ended it, for a reason that is not the pod's.
    pub(crate) fn is_disruption(&self) -> bool {
        [Self::EVICTED, Self::PREEMPTED, Self::TERMINATED].contains(&&*self.reason)
            && !self.is_refusal()
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.message.starts_with(Self::REFUSED)
    }
}

/// Somebody asked for the pod's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub(crate) seen_at: Timestamp,
    pub(crate) grace: Duration,
}

/// A step that is done once and tried again with a growing delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Step {
    #[default]
    Todo,
    /// Under way, after so many failures.
    InFlight(u32),
    Done,
    Failed {
        failures: u32,
        retry_at: Timestamp,
    },
}

impl Step {
    const RETRY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

    pub(crate) fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight(_))
    }

    pub(crate) fn begun(self) -> Self {
        match self {
            Self::Failed { failures, .. } | Self::InFlight(failures) => Self::InFlight(failures),
            Self::Todo | Self::Done => Self::InFlight(0),
        }
    }

    pub(crate) fn failed(self, now: Timestamp) -> Self {
        let failures = match self {
            Self::Failed { failures, .. } | Self::InFlight(failures) => failures.saturating_add(1),
            Self::Todo | Self::Done => 1,
        };
        Self::Failed { failures, retry_at: now + Self::RETRY.delay(failures) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxView {
    pub(crate) id: SandboxId,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) resources: Resources,
    pub(crate) netns: Option<PathBuf>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// `None` for a start that failed before there was a container.
    pub(crate) id: Option<ContainerId>,
    pub(crate) sandbox: Option<SandboxId>,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) state: RunState,
    /// As the pod wrote it when this run was started.
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) log_path: PathBuf,
    pub(crate) termination_log: PathBuf,
    pub(crate) stop_signal: Option<i32>,
    pub(crate) user: Option<User>,
    /// What its cgroup gives it.
    pub(crate) resources: Option<ResourceRequirements>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunState {
    Created,
    Running { started_at: Timestamp },
    Exited(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
}

/// What the worker remembers of one container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    pub(crate) op: Option<Op>,
    /// Shown while it does not run; kept until it does.
    pub(crate) waiting: Option<Waiting>,
    /// When a start that failed for its image or configuration is tried again.
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) start_failures: u32,
    /// How long after its last end it is started again.
    pub(crate) backoff: Duration,
    /// Runs that failed to become a container of the runtime.
    pub(crate) failed: Vec<Run>,
    /// The run that the probes speak of.
    pub(crate) probed: Option<ContainerId>,
    pub(crate) startup_ok: bool,
    pub(crate) readiness_ok: bool,
    /// A probe or hook says that this run must end.
    pub(crate) condemned: Option<Condemned>,
    /// The run that was asked to end: its hook is not run again.
    pub(crate) asked: Option<ContainerId>,
    /// Runs before those that the runtime knows.
    pub(crate) base_attempt: u32,
    /// Termination messages, by run.
    pub(crate) messages: BTreeMap<ContainerId, String>,
}

impl Memory {
    /// A run is to end by then; whether this is the first time, whatever became of another.
    pub(crate) fn stopping(&mut self, id: &ContainerId, deadline: Timestamp) -> bool {
        self.op = Some(Op::Stopping { id: id.clone(), deadline });
        self.asked.replace(id.clone()).as_ref() != Some(id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Starting,
    Stopping { id: ContainerId, deadline: Timestamp },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Why a running container must be stopped, with the grace that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    pub(crate) id: ContainerId,
    pub(crate) message: String,
    pub(crate) grace: Option<Duration>,
}

impl PodState {
    pub(crate) fn new(pod: Arc<Pod>, host_ips: Vec<IpAddr>, now: Timestamp) -> Self {
        let started_at = pod.status.start_time.as_deref().and_then(api_object::time::parse);
        let terminal = Terminal::told(&pod);
        let mut state = Self {
            pod,
            gone: false,
            sandboxes: Vec::new(),
            runs: Vec::new(),
            memory: BTreeMap::new(),
            setup: Step::Todo,
            stop_sandbox: Step::Todo,
            unmount: Step::Todo,
            clean: Step::Todo,
            finish: Step::Todo,
            pod_ips: Vec::new(),
            host_ips,
            terminal,
            allocated: BTreeMap::new(),
            resize_pending: None,
            resize: Step::Todo,
            resize_error: String::new(),
            deletion: None,
            grace: None,
            keeps: DeadContainers::default(),
            forget: false,
            started_at: started_at.unwrap_or(now),
        };
        let pod = state.pod.clone();
        for status in told(&pod) {
            // What the API saw run counts, also where the runtime lost it.
            let ran = status.state.waiting.is_none() || status.last_state.terminated.is_some();
            let count = u32::try_from(status.restart_count).unwrap_or(0);
            state.remember(&status.name).base_attempt = count + u32::from(ran);
        }
        state
    }

    /// The clock was set by so much: moments that are so far away from now stay so.
    /// What others wrote down stays as it is.
    pub(crate) fn shift(&mut self, set_by: SignedDuration) {
        let shift = |at: &mut Timestamp| *at = at.checked_add(set_by).unwrap_or(*at);
        if let Some(deletion) = &mut self.deletion {
            shift(&mut deletion.seen_at);
        }
        for step in [
            &mut self.setup,
            &mut self.stop_sandbox,
            &mut self.unmount,
            &mut self.clean,
            &mut self.finish,
            &mut self.resize,
        ] {
            if let Step::Failed { retry_at, .. } = step {
                shift(retry_at);
            }
        }
        for memory in self.memory.values_mut() {
            memory.retry_at.iter_mut().for_each(shift);
            if let Some(Op::Stopping { deadline, .. }) = &mut memory.op {
                shift(deadline);
            }
        }
    }

    pub(crate) fn remember(&mut self, container: &str) -> &mut Memory {
        if !self.memory.contains_key(container) {
            self.memory.insert(container.to_owned(), Memory::default());
        }
        self.memory.get_mut(container).expect("just inserted")
    }

    /// Takes in what the runtime lists for this pod. Once its records are being
    /// removed they say nothing any more; the last status tells of what was.
    pub(crate) fn observe(&mut self, mut sandboxes: Vec<Sandbox>) {
        if self.clean != Step::Todo {
            return;
        }
        sandboxes.sort_by_key(|sandbox| (sandbox.spec.attempt, sandbox.created_at));
        self.runs.clear();
        self.sandboxes.clear();
        for sandbox in sandboxes {
            self.runs.extend(sandbox.containers.iter().map(run));
            self.sandboxes.push(SandboxView {
                id: sandbox.id,
                attempt: sandbox.spec.attempt,
                ready: sandbox.state == SandboxState::Ready,
                resources: sandbox.spec.resources,
                netns: sandbox.netns_path,
            });
        }
        for (name, memory) in &self.memory {
            let known =
                |run: &Run| self.runs.iter().any(|r| &r.name == name && r.attempt == run.attempt);
            let failed: Vec<Run> =
                memory.failed.iter().filter(|run| !known(run)).cloned().collect();
            self.runs.extend(failed);
        }
        self.runs.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
        for run in &mut self.runs {
            let message =
                run.id.as_ref().and_then(|id| self.memory.get(&run.name)?.messages.get(id));
            if let (Some(message), RunState::Exited(exit)) = (message, &mut run.state) {
                exit.message = message.clone();
            }
        }
    }

    pub(crate) fn last_run(&self, container: &str) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.name == container)
    }

    pub(crate) fn previous_run(&self, container: &str) -> Option<&Run> {
        self.runs.iter().rev().filter(|run| run.name == container).nth(1)
    }

    /// The newest sandbox, if containers can be started in it.
    pub(crate) fn ready_sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.last().filter(|sandbox| sandbox.ready)
    }

    /// What the next run of a container is numbered.
    pub(crate) fn next_attempt(&self, container: &str) -> u32 {
        let seen = self.last_run(container).map_or(0, |run| run.attempt + 1);
        seen.max(self.memory.get(container).map_or(0, |memory| memory.base_attempt))
    }

    pub(crate) fn is_running(&self, container: &str) -> bool {
        self.last_run(container).is_some_and(|run| matches!(run.state, RunState::Running { .. }))
    }

    /// Running, and its startup probe (if any) has succeeded.
    pub(crate) fn is_started(&self, container: &Container) -> bool {
        self.is_running(&container.name)
            && (container.startup_probe.is_none()
                || self.probe_memory(&container.name).is_some_and(|memory| memory.startup_ok))
    }

    /// Started, and its readiness probe (if any) says so.
    pub(crate) fn is_ready(&self, container: &Container) -> bool {
        self.is_started(container)
            && (container.readiness_probe.is_none()
                || self.probe_memory(&container.name).is_some_and(|memory| memory.readiness_ok))
    }

    /// What probes found out, if they spoke of the current run.
    fn probe_memory(&self, container: &str) -> Option<&Memory> {
        let run = self.last_run(container)?;
        self.memory.get(container).filter(|memory| memory.probed == run.id && run.id.is_some())
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.gone || self.deletion.is_some() || self.terminal.is_some()
    }

    /// Whether something that takes time is done to it.
    pub(crate) fn is_worked_on(&self) -> bool {
        let steps = [self.setup, self.stop_sandbox, self.unmount, self.clean, self.resize];
        self.memory.values().any(|memory| memory.op.is_some())
            || steps.into_iter().any(Step::is_in_flight)
    }

    /// It was deleted, and nothing of it runs or will.
    pub(crate) fn has_stopped(&self) -> bool {
        let is_busy = self.memory.values().any(|memory| memory.op.is_some())
            || self.setup.is_in_flight()
            || self.runs.iter().any(|run| matches!(run.state, RunState::Running { .. }));
        (self.gone || self.deletion.is_some()) && !is_busy
    }

    /// How each of its containers ended that has: `init: 0 Completed, main: 1 Error`.
    pub(crate) fn ends(&self) -> String {
        let end = |container: &Container| match &self.last_run(&container.name)?.state {
            RunState::Exited(exit) => {
                Some(format!("{}: {} {}", container.name, exit.code, exit.reason))
            }
            RunState::Created | RunState::Running { .. } => None,
        };
        containers(&self.pod).filter_map(end).collect::<Vec<_>>().join(", ")
    }

    /// `web_default(uid)`, as upstream's messages name a pod.
    pub(crate) fn full_name(&self) -> String {
        let meta = &self.pod.metadata;
        format!("{}_{}({})", meta.name, meta.namespace, meta.uid)
    }
}

/// A pod's containers of all kinds.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = &pod.spec;
    spec.init_containers.iter().chain(&spec.containers).chain(&spec.ephemeral_containers)
}

/// What the API says of a pod's containers of all kinds.
pub(crate) fn told(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = &pod.status;
    let both = status.init_container_statuses.iter().chain(&status.container_statuses);
    both.chain(&status.ephemeral_container_statuses)
}

/// Whether an init container keeps running beside the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn run(container: &node_runtime::Container) -> Run {
    let labels = &container.spec.labels;
    let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let state = match &container.state {
        ContainerState::Created => RunState::Created,
        ContainerState::Running { started_at, .. } => {
            RunState::Running { started_at: timestamp(*started_at) }
        }
        ContainerState::Exited(exit) => RunState::Exited(Exit {
            code: exit.code,
            reason: match exit {
                e if e.unknown => "ContainerStatusUnknown",
                e if e.oom_killed => "OOMKilled",
                e if e.code == 0 => "Completed",
                _ => "Error",
            },
            message: match exit.unknown {
                true => "The container could not be located when the pod was terminated".into(),
                false => String::new(),
            },
            started_at: timestamp(exit.started_at),
            finished_at: timestamp(exit.finished_at),
        }),
    };
    Run {
        id: Some(container.id.clone()),
        sandbox: Some(container.sandbox.clone()),
        name: container.spec.name.clone(),
        attempt: container.spec.attempt,
        state,
        image: text(label::IMAGE),
        image_id: text(label::IMAGE_ID),
        log_path: container.log_path.clone(),
        termination_log: text(label::TERMINATION_LOG).into(),
        user: Some(container.spec.user.clone()),
        resources: labels.get(label::RESOURCES).and_then(|text| serde_json::from_str(text).ok()),
        stop_signal: labels.get(label::STOP_SIGNAL).and_then(|signal| signal.parse().ok()),
    }
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

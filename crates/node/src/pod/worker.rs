//! The task of one pod: look, decide, act, tell; then wait for something to
//! happen. Whatever takes time runs beside it and reports back, so that a
//! shorter grace period or a crashed neighbour is seen at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_types::core::{Condition, Container, Pod};
use client::ClockSets;
use jiff::{SignedDuration, Timestamp};
use node_runtime::ContainerId;
use serde_json::{Map, Value};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    clock::Clock,
    granted::Amount,
    host_ports, message,
    plan::{outcome, plan},
    resize,
    setup::{self, SetupError},
    start::{StartFailure, reference},
    static_pods::Mirror,
    trouble::Troubles,
    view::{Deletion, PodState, RunState, Step, Terminal, containers, grace, told},
};
use crate::{eviction::Order, node::Deps, probe::Report, volume::refresh::Holdings};

/// What a worker hears from outside.
#[derive(Debug)]
pub(crate) enum Message {
    /// The API's object is new or changed.
    Pod(Arc<Pod>),
    /// The API has no such object any more; its last state, where it was seen.
    Gone(Option<Arc<Pod>>),
    /// The runtime has news of this pod.
    Runtime,
    /// A probe has come to a verdict.
    Probe(Report),
    /// The API's mirror of this static pod is new.
    Mirror(Mirror),
    /// The node cannot keep the pod.
    Evict(Order),
    /// Nor, where it has ended, what is left of its containers.
    Forget,
}

/// What was done beside the worker.
pub(super) enum Done {
    Setup(Result<Vec<std::net::IpAddr>, SetupError>),
    Start {
        container: String,
        attempt: u32,
        backoff: Duration,
        result: Result<(), StartFailure>,
    },
    Stop {
        container: String,
    },
    StopSandbox(Result<(), String>),
    Unmount(Result<(), String>),
    Clean(Result<(), String>),
    Finish(Result<(), client::Error>),
    /// With the revision that the write has made.
    Publish {
        sent: Map<String, Value>,
        result: Result<String, client::Error>,
    },
    Removed {
        container: String,
        id: ContainerId,
        result: Result<(), String>,
    },
    /// A run that stays may be removed again.
    Rested(ContainerId),
    Resize {
        result: Result<(), String>,
        told: String,
    },
}

/// The probes of one run of a container.
pub(super) struct Probes {
    pub(super) id: ContainerId,
    pub(super) ending: bool,
    pub(super) task: JoinHandle<()>,
}

/// One pod's task.
pub(crate) struct Worker {
    pub(super) deps: Arc<Deps>,
    pub(super) state: PodState,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    /// For the probes.
    pub(super) own: mpsc::UnboundedSender<Message>,
    pub(super) ops: JoinSet<Done>,
    /// Dropping one gives up that start.
    pub(super) starts: BTreeMap<String, oneshot::Sender<()>>,
    pub(super) removing: BTreeSet<ContainerId>,
    pub(super) holdings: Arc<Mutex<Holdings>>,
    pub(super) refresh: Option<JoinHandle<()>>,
    pub(super) probes: BTreeMap<String, Probes>,
    /// The UID of the object that statuses are told to: the pod itself, or the
    /// mirror of a static pod, once there is one.
    pub(super) told_to: Option<String>,
    pub(super) is_static: bool,
    /// The status as the API has it from us.
    pub(super) told: Map<String, Value>,
    /// The revision of that, once this process has written it.
    pub(super) told_at: u64,
    pub(super) conditions: Vec<Condition>,
    pub(super) troubles: Troubles,
    /// Tells that others on the node got more or less.
    room: watch::Receiver<u64>,
    pub(super) publishing: bool,
    pub(super) publish_failures: u32,
    pub(super) publish_at: Option<Timestamp>,
    /// Since when something is done, and what that is called.
    work: Option<(Instant, &'static str)>,
    /// Since when a pod is known that has not run yet.
    pub(super) unstarted: Option<Instant>,
    clock: Clock,
    clock_sets: ClockSets,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.refresh.iter().for_each(JoinHandle::abort);
        self.probes.values().for_each(|probes| probes.task.abort());
        self.deps.lookup.remove(&self.state.pod.metadata.uid);
        self.deps.tallies.forget(&self.state.pod.metadata.uid);
        self.deps.evictable.remove(&self.state.pod.metadata.uid);
        self.deps.granted.set(&self.state.pod.metadata.uid, None);
        self.deps.config.host_ports.set(&self.state.pod.metadata.uid, None);
    }
}

impl Worker {
    /// `told` is the status on the API's object, as it stands.
    pub(crate) fn new(
        deps: Arc<Deps>,
        pod: Arc<Pod>,
        told: Map<String, Value>,
        is_static: bool,
        own: mpsc::UnboundedSender<Message>,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let now = deps.ambient.now();
        let mut state = PodState::new(pod.clone(), deps.config.ips.get(), now);
        state.keeps = deps.config.dead_containers;
        let clock_sets = deps.ambient.clock_sets();
        let room = deps.granted.changed.subscribe();
        let unstarted = pod.status.start_time.is_none().then(Instant::now);
        Self {
            deps,
            state,
            inbox,
            own,
            ops: JoinSet::new(),
            starts: BTreeMap::new(),
            removing: BTreeSet::new(),
            holdings: Arc::default(),
            refresh: None,
            probes: BTreeMap::new(),
            conditions: pod.status.conditions.clone(),
            told_to: (!is_static).then(|| pod.metadata.uid.clone()),
            is_static,
            told,
            told_at: 0,
            troubles: Troubles::default(),
            room,
            publishing: false,
            publish_failures: 0,
            publish_at: None,
            work: None,
            unstarted,
            clock: Clock::new(now, Instant::now()),
            clock_sets,
        }
    }

    /// The time. Where the clock was set, what the pod waits for moves along: that is
    /// so many seconds away, and no moment of the day.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = self.deps.ambient.now();
        if let Some(set_by) = self.clock.follow(now, Instant::now()) {
            self.state.shift(set_by);
            let publish_at = self.publish_at.and_then(|at| at.checked_add(set_by).ok());
            self.publish_at = publish_at;
        }
        now
    }

    /// Until nothing is left of the pod, here and in the API.
    pub(crate) async fn run(mut self) {
        self.note_deletion();
        self.adopt().await;
        self.admit().await;
        loop {
            self.observe().await;
            let now = self.now();
            self.note_outcome(now);
            self.grant();
            let plan = plan(&self.state, now);
            for action in plan.actions {
                self.act(action, now);
            }
            self.time_work();
            self.probe();
            self.deps.lookup.put(&self.state);
            let uid = &self.state.pod.metadata.uid;
            self.deps.config.host_ports.set(uid, host_ports::of(&self.state));
            if self.state.gone && self.state.finish == Step::Done {
                return;
            }
            let publish_at = self.publish(now);
            let told = !self.publishing && publish_at.is_none();
            if self.deps.evictable.put(&self.state, self.is_static, told, &self.own) {
                self.deps.shortage.notify_one();
            }
            let wake_at = [plan.wake_at, publish_at].into_iter().flatten().min();
            if !self.wait(wake_at, now).await {
                return;
            }
        }
    }

    /// Measures how long it takes till nothing is to be done any more, for now.
    fn time_work(&mut self) {
        if !self.state.is_worked_on() {
            if let Some((begun, kind)) = self.work.take() {
                let took = begun.elapsed().as_secs_f64();
                self.deps.counts.pod_work.with(&[kind]).observe(took);
            }
        } else if self.work.is_none() {
            let kind = match &self.state {
                state if state.is_ending() => "kill",
                state if state.sandboxes.is_empty() => "create",
                _ => "sync",
            };
            self.work = Some((Instant::now(), kind));
        }
    }

    /// Waits for the next thing and takes in all that has come. `false` when
    /// nobody is left to tell anything.
    async fn wait(&mut self, wake_at: Option<Timestamp>, now: Timestamp) -> bool {
        let timer = async {
            match wake_at {
                Some(at) => {
                    let left = at.duration_since(now).max(SignedDuration::from_millis(1));
                    tokio::time::sleep(left.unsigned_abs()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = self.inbox.recv() => match message {
                Some(message) => self.hear(message),
                None => return false,
            },
            Some(done) = self.ops.join_next() => self.fold(done).await,
            () = timer => {}
            // What is due by the clock may have come.
            () = self.clock_sets.next() => {}
            _ = self.room.changed(), if self.state.resize_pending.is_some() => {}
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message);
        }
        while let Some(done) = self.ops.try_join_next() {
            self.fold(done).await;
        }
        true
    }

    /// Takes over what an earlier process left: addresses and probes' verdicts.
    async fn adopt(&mut self) {
        self.observe().await;
        let Ok(sandboxes) = setup::of_pod(&self.deps, &self.state.pod.metadata.uid).await else {
            return;
        };
        if let Some(sandbox) = sandboxes.last() {
            self.state.pod_ips = match self.state.pod.spec.host_network {
                true => self.deps.config.ips.get(),
                false => setup::ips_of(sandbox),
            };
        }
        let pod = self.state.pod.clone();
        // What a running container has is what it was granted; the others get
        // what they ask for.
        self.state.allocated = resize::resizable(&pod)
            .map(|c| {
                let run = self.state.last_run(&c.name);
                let has = run.and_then(|run| run.resources.clone());
                (c.name.clone(), has.unwrap_or_else(|| c.resources.clone()))
            })
            .collect();
        for status in told(&pod) {
            let id = self.state.last_run(&status.name).and_then(|run| run.id.clone());
            let Some(id) = id.filter(|id| status.container_id == format!("skiff://{id}")) else {
                continue;
            };
            let memory = self.state.remember(&status.name);
            memory.probed = Some(id);
            memory.startup_ok = status.started == Some(true);
            memory.readiness_ok = status.ready;
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                let relabelled = pod.metadata.labels != self.state.pod.metadata.labels
                    || pod.metadata.annotations != self.state.pod.metadata.annotations;
                self.state.pod = pod;
                self.note_overwrite();
                self.note_deletion();
                if relabelled && self.state.setup == Step::Done && !self.state.is_ending() {
                    self.keep_volumes(true);
                }
            }
            Message::Gone(last) => {
                if let Some(last) = last {
                    self.state.pod = last;
                    self.note_deletion();
                }
                self.state.gone = true;
            }
            Message::Runtime => {}
            Message::Probe(report) => self.judge(report),
            Message::Evict(order) => self.evict(order),
            Message::Forget => self.state.forget = true,
            Message::Mirror(mirror) => {
                let uid = &self.state.pod.metadata.uid;
                self.deps.lookup.alias(&mirror.uid, uid);
                if self.told_to.as_ref() != Some(&mirror.uid) {
                    self.conditions = mirror
                        .status
                        .get("conditions")
                        .and_then(|list| serde_json::from_value(list.clone()).ok())
                        .unwrap_or_default();
                    self.told = mirror.status;
                    self.told_to = Some(mirror.uid);
                }
            }
        }
    }

    fn evict(&mut self, order: Order) {
        if self.state.is_ending() {
            return;
        }
        let about = reference(&self.state.pod, None);
        self.deps.recorder.warning(&about, order.reason, &order.message);
        self.state.terminal =
            Some(Terminal { phase: "Failed", reason: order.reason.into(), message: order.message });
        self.state.grace = Some(order.grace);
    }

    fn note_deletion(&mut self) {
        let meta = &self.state.pod.metadata;
        if meta.deletion_timestamp.is_none() && !self.state.gone {
            return;
        }
        let seconds = meta
            .deletion_grace_period_seconds
            .or(self.state.pod.spec.termination_grace_period_seconds)
            .unwrap_or(30);
        let now = self.now();
        let grace = grace(seconds);
        // A later request may only bring the end nearer.
        match self.state.deletion {
            Some(old) if old.grace <= grace => {}
            _ => self.state.deletion = Some(Deletion { seen_at: now, grace }),
        }
    }

    fn note_outcome(&mut self, now: Timestamp) {
        if self.state.is_ending() {
            return;
        }
        self.state.terminal = outcome(&self.state, now);
        if let Some(terminal) = self.state.terminal.as_ref().filter(|t| t.phase == "Failed") {
            let (reason, ends) = (&terminal.reason, self.state.ends());
            tracing::info!(pod = self.state.full_name(), reason, ends, "a pod has failed");
        }
        if let Some(terminal) =
            self.state.terminal.as_ref().filter(|t| t.reason == "DeadlineExceeded")
        {
            let about = reference(&self.state.pod, None);
            self.deps.recorder.normal(&about, "DeadlineExceeded", &terminal.message);
        }
    }

    /// Grants what the containers ask for, where the node has it.
    fn grant(&mut self) {
        let uid = self.state.pod.metadata.uid.clone();
        if self.state.is_ending() {
            // Before its end is told: whoever waits for that comes at once for the room.
            if self.state.terminal.is_some() || self.state.has_stopped() {
                self.deps.granted.set(&uid, None);
            }
            return;
        }
        let pod = self.state.pod.clone();
        let asks = |state: &PodState, c: &Container| {
            resize::differing(state.granted(c), &c.resources).next().is_some()
        };
        if resize::resizable(&pod).any(|c| asks(&self.state, c)) {
            let (others, node) = (self.deps.granted.others(&uid), self.deps.machine.allocatable());
            let refusal = resize::refusal(&Amount::of(&pod), &others, &node);
            let about = reference(&pod, None);
            match &refusal {
                Some(waiting) if Some(waiting) != self.state.resize_pending.as_ref() => {
                    let reason = format!("Resize{}", waiting.reason);
                    let text = format!("Pod resize {}: {}", waiting.reason, waiting.message);
                    self.deps.recorder.warning(&about, &reason, text);
                }
                Some(_) => {}
                None => {
                    let text = format!("Pod resize started: {}", resize::told(&pod));
                    self.deps.recorder.normal(&about, "ResizeStarted", text);
                    self.state.allocated = resize::resizable(&pod)
                        .map(|c| (c.name.clone(), c.resources.clone()))
                        .collect();
                }
            }
            self.state.resize_pending = refusal;
        } else {
            self.state.resize_pending = None;
        }
        self.deps.granted.set(&uid, Some(Amount::of(&self.state.effective())));
    }

    /// Reads what the runtime runs for this pod.
    pub(super) async fn observe(&mut self) {
        let uid = self.state.pod.metadata.uid.clone();
        let begun = Instant::now();
        let seen = setup::of_pod(&self.deps, &uid).await;
        self.deps.counts.looks.with(&[]).observe(begun.elapsed().as_secs_f64());
        match seen {
            Ok(sandboxes) => self.state.observe(sandboxes),
            Err(error) => {
                tracing::error!(pod = self.state.full_name(), %error, "the runtime does not list");
            }
        }
        let had_sandbox = !self.state.sandboxes.is_empty();
        if self.state.setup == Step::Done
            && self.state.ready_sandbox().is_none()
            && !self.state.is_ending()
        {
            self.state.setup = Step::Todo;
            if had_sandbox {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                let about = reference(&self.state.pod, None);
                self.deps.recorder.normal(&about, "SandboxChanged", text);
            }
        }
        self.read_messages();
    }

    /// Termination messages of runs that have just ended.
    fn read_messages(&mut self) {
        let pod = self.state.pod.clone();
        for i in 0..self.state.runs.len() {
            let run = &self.state.runs[i];
            let (Some(id), RunState::Exited(exit)) = (run.id.clone(), &run.state) else { continue };
            let known =
                self.state.memory.get(&run.name).is_some_and(|m| m.messages.contains_key(&id));
            if known || exit.reason == "ContainerStatusUnknown" {
                continue;
            }
            let policy = containers(&pod).find(|c| c.name == run.name);
            let policy = policy.map_or("", |c| c.termination_message_policy.as_str());
            let text = message::read(run, exit.code, policy);
            let name = run.name.clone();
            if let RunState::Exited(exit) = &mut self.state.runs[i].state {
                exit.message = text.clone();
            }
            let alive: BTreeSet<ContainerId> =
                self.state.runs.iter().filter_map(|run| run.id.clone()).collect();
            let memory = self.state.remember(&name);
            memory.messages.retain(|id, _| alive.contains(id));
            memory.messages.insert(id, text);
        }
    }
}

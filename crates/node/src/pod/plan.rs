//! What to do next about a pod. Pure: the same state and time give the same
//! plan, and a plan that was carried out halfway is found again by looking.

use std::time::Duration;

use api_types::core::{Container, ContainerRestartRule};
use jiff::{SignedDuration, Timestamp};
use node_runtime::ContainerId;

use super::resize;
use super::view::{
    Exit, Memory, Op, PodState, Run, RunState, Step, Terminal, Waiting, containers, grace,
    is_sidecar, told,
};

/// Upstream's back-off between restarts (kubelet `MaxContainerBackOff`).
const BACKOFF_BASE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long has forgotten its earlier ends.
const BACKOFF_RESET: SignedDuration = SignedDuration::from_secs(600);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Directories, volumes, a sandbox with this number, network.
    Setup { attempt: u32 },
    /// Image, configuration and a run with this number.
    Start { container: String, attempt: u32 },
    /// Say that a container waits for its back-off.
    Wait { container: String, waiting: Waiting },
    /// Hook, signal, and kill after the grace.
    Stop { container: String, id: ContainerId, grace: Duration, message: String },
    /// Bring what the containers were granted into their cgroups.
    Resize,
    /// Give up a start that may take long (a pull).
    Abort { container: String },
    /// Forget a dead run and its log.
    Remove { id: ContainerId },
    /// Stop every sandbox and release the network.
    StopSandbox,
    /// Remove volumes, keep what tells how it ended.
    Unmount,
    /// Remove volumes, logs and the runtime's records.
    Clean,
    /// Tell the API that nothing is left.
    Finish,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    /// Whether the step is over; starts it where it is due.
    fn step(&mut self, step: Step, now: Timestamp, action: Action) -> bool {
        match step {
            Step::Done => return true,
            Step::InFlight(_) => {}
            Step::Failed { retry_at, .. } if now < retry_at => self.wake(retry_at),
            Step::Todo | Step::Failed { .. } => self.actions.push(action),
        }
        false
    }
}

/// Decides.
pub(crate) fn plan(state: &PodState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if state.is_ending() {
        teardown(state, now, &mut plan);
        return plan;
    }
    if let Some(deadline) = deadline(state) {
        plan.wake(deadline);
    }
    let attempt = match state.ready_sandbox() {
        Some(sandbox) => sandbox.attempt,
        None => state.sandboxes.last().map_or(0, |sandbox| sandbox.attempt + 1),
    };
    let is_set_up = plan.step(state.setup, now, Action::Setup { attempt });
    restarts(state, &mut plan);
    if is_set_up && state.ready_sandbox().is_some() {
        resize(state, now, &mut plan);
        ephemerals(state, now, &mut plan);
        starts(state, now, &mut plan);
    }
    old_runs(state, now, &mut plan);
    plan
}

/// Stops running containers that probes, hooks or a new image condemn.
fn restarts(state: &PodState, plan: &mut Plan) {
    for container in containers(&state.pod) {
        let Some(run) = state.last_run(&container.name) else { continue };
        let (Some(id), RunState::Running { .. }) = (&run.id, &run.state) else { continue };
        let memory = state.memory.get(&container.name);
        if memory.is_some_and(|memory| matches!(memory.op, Some(Op::Stopping { .. }))) {
            continue;
        }
        let condemned = memory.and_then(|m| m.condemned.as_ref()).filter(|c| &c.id == id);
        let (message, grace) = if let Some(condemned) = condemned {
            (condemned.message.clone(), condemned.grace)
        } else if is_outdated(state, run) {
            (format!("Container {} will be restarted with the whole pod", container.name), None)
        } else if let Some(has) = state.is_resized(container, run)
            && resize::takes_restart(container, has, state.granted(container))
        {
            (format!("Container {} resize requires restart", container.name), None)
        } else if run.image != container.image {
            (format!("Container {} definition changed, will be restarted", container.name), None)
        } else {
            continue;
        };
        plan.actions.push(Action::Stop {
            container: container.name.clone(),
            id: id.clone(),
            grace: grace.unwrap_or_else(|| spec_grace(state)),
            message,
        });
    }
}

/// Lets the cgroups of running containers follow what these were granted.
fn resize(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let due = |container: &Container| {
        let run = state.last_run(&container.name)?;
        let has = state.is_resized(container, run)?;
        Some(!resize::takes_restart(container, has, state.granted(container)))
    };
    if resize::resizable(&state.pod).any(|container| due(container) == Some(true)) {
        plan.step(state.resize, now, Action::Resize);
    }
}

/// Starts what was added for debugging: whatever else the pod does, and once.
fn ephemerals(state: &PodState, now: Timestamp, plan: &mut Plan) {
    for container in &state.pod.spec.ephemeral_containers {
        let memory = state.memory.get(&container.name);
        let is_busy = memory.is_some_and(|memory| memory.op.is_some());
        if let Some(Run { state: RunState::Created, id: Some(id), .. }) =
            state.last_run(&container.name).filter(|_| !is_busy)
        {
            plan.actions.push(Action::Remove { id: id.clone() });
        } else if is_busy || state.next_attempt(&container.name) > 0 {
            continue;
        } else if let Some(retry_at) = memory.and_then(|m| m.retry_at).filter(|at| now < *at) {
            plan.wake(retry_at);
        } else {
            plan.actions.push(Action::Start { container: container.name.clone(), attempt: 0 });
        }
    }
}

/// Starts what should run: init containers one after the other, then the rest.
fn starts(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let sandbox = state.ready_sandbox().map(|sandbox| &sandbox.id);
    let in_sandbox = |run: &&Run| run.sandbox.as_ref() == sandbox && !is_outdated(state, run);
    // What restarts as a whole first ends as a whole.
    let ends = |run: &Run| matches!(run.state, RunState::Running { .. }) && is_outdated(state, run);
    if state.runs.iter().any(ends) {
        return;
    }
    // Init containers do not run again once one of the others has.
    let initialized = state.pod.spec.containers.iter().any(|container| {
        state.runs.iter().filter(in_sandbox).any(|run| run.name == container.name)
    });
    for container in &state.pod.spec.init_containers {
        let last = state.last_run(&container.name).filter(in_sandbox);
        let completed = match last.map(|run| &run.state) {
            _ if is_sidecar(container) => {
                let started = state.is_started(container);
                if !started {
                    start(state, container, now, plan);
                }
                started
            }
            _ if initialized => true,
            Some(RunState::Exited(exit)) if exit.code == 0 => true,
            _ => {
                start(state, container, now, plan);
                false
            }
        };
        if !completed && !initialized {
            return;
        }
    }
    for container in &state.pod.spec.containers {
        start(state, container, now, plan);
    }
}

/// One container: start it now, later, or leave it. Starts are made one at a
/// time, in the order of the specification, because a `postStart` hook holds
/// back the containers after its own.
fn start(state: &PodState, container: &Container, now: Timestamp, plan: &mut Plan) {
    let memory = state.memory.get(&container.name);
    if memory.is_some_and(|memory| memory.op.is_some()) {
        return;
    }
    if let Some(retry_at) = memory.and_then(|memory| memory.retry_at).filter(|at| now < *at) {
        return plan.wake(retry_at);
    }
    let attempt = match state.last_run(&container.name) {
        Some(Run { state: RunState::Running { .. }, .. }) => return,
        Some(Run { state: RunState::Created, id: Some(id), .. }) => {
            // Its number is free once it is gone.
            return plan.actions.push(Action::Remove { id: id.clone() });
        }
        // A new sandbox has forgotten what its init containers had prepared.
        Some(Run { state: RunState::Exited(_), sandbox, .. })
            if is_init(state, container)
                && sandbox.as_ref() != state.ready_sandbox().map(|sandbox| &sandbox.id) =>
        {
            state.next_attempt(&container.name)
        }
        Some(Run { state: RunState::Exited(exit), .. }) => {
            let is_outdated =
                state.last_run(&container.name).is_some_and(|r| is_outdated(state, r));
            if !is_outdated && !restarts_after(state, container, exit) {
                return;
            }
            let backoff = memory.map_or(Duration::ZERO, |memory| memory.backoff);
            let wait = backoff_now(backoff, exit);
            let until = exit.finished_at + wait;
            // One that ended so far ahead did so before the clock was set back.
            if now < until && exit.finished_at <= now + wait {
                let text = format!(
                    "back-off {} restarting failed container={} pod={}",
                    go_duration(backoff),
                    container.name,
                    state.full_name()
                );
                let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: text };
                if memory.and_then(|memory| memory.waiting.as_ref()) != Some(&waiting) {
                    let container = container.name.clone();
                    plan.actions.push(Action::Wait { container, waiting });
                }
                return plan.wake(until);
            }
            state.next_attempt(&container.name)
        }
        _ => state.next_attempt(&container.name),
    };
    let counts = |name: &str| !state.pod.spec.ephemeral_containers.iter().any(|c| c.name == name);
    let planned = plan
        .actions
        .iter()
        .any(|action| matches!(action, Action::Start { container, .. } if counts(container)));
    let starting =
        |(name, memory): (&String, &Memory)| memory.op == Some(Op::Starting) && counts(name);
    let in_flight = state.memory.iter().any(starting);
    if !planned && !in_flight {
        plan.actions.push(Action::Start { container: container.name.clone(), attempt });
    }
}

/// The delay that is in force after an exit.
fn backoff_now(backoff: Duration, exit: &Exit) -> Duration {
    match exit.finished_at.duration_since(exit.started_at) >= BACKOFF_RESET {
        // A start that failed has no start time.
        true if exit.started_at != Timestamp::UNIX_EPOCH => Duration::ZERO,
        _ => backoff,
    }
}

/// The delay after the next exit, once a container is started again.
pub(crate) fn backoff_next(backoff: Duration, last: Option<&Exit>) -> Duration {
    let Some(last) = last else { return Duration::ZERO };
    match backoff_now(backoff, last) {
        Duration::ZERO => BACKOFF_BASE,
        delay => (delay * 2).min(BACKOFF_MAX),
    }
}

/// What the container's own rules say of an exit (KEP-5307); the first that
/// matches counts.
fn rule<'a>(container: &'a Container, exit: &Exit) -> Option<&'a str> {
    let matches = |rule: &&ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| match codes.operator.as_str() {
            "In" => codes.values.contains(&exit.code),
            "NotIn" => !codes.values.contains(&exit.code),
            _ => false,
        })
    };
    container.restart_policy_rules.iter().find(matches).map(|rule| rule.action.as_str())
}

const RESTART_ALL: &str = "RestartAllContainers";

/// When a container ended in a way that restarts all of them (KEP-5532): what
/// started before that is to run again.
fn all_from(state: &PodState) -> Option<Timestamp> {
    let of = |container: &Container| {
        let runs = state.runs.iter().filter(|run| run.name == container.name);
        let ends = runs.filter_map(|run| match &run.state {
            RunState::Exited(exit) if rule(container, exit) == Some(RESTART_ALL) => {
                Some(exit.finished_at)
            }
            _ => None,
        });
        ends.max()
    };
    containers(&state.pod).filter(|c| !c.restart_policy_rules.is_empty()).filter_map(of).max()
}

/// Whether a run is of before the last restart of all.
fn is_outdated(state: &PodState, run: &Run) -> bool {
    let is_ephemeral = state.pod.spec.ephemeral_containers.iter().any(|c| c.name == run.name);
    !is_ephemeral
        && all_from(state).is_some_and(|since| match &run.state {
            RunState::Running { started_at } => *started_at < since,
            // A start that failed has no start time.
            RunState::Exited(exit) if exit.started_at == Timestamp::UNIX_EPOCH => {
                exit.finished_at <= since
            }
            RunState::Exited(exit) => exit.started_at < since,
            RunState::Created => false,
        })
}

/// Whether the container's rules or the restart policy want it again.
pub(crate) fn restarts_after(state: &PodState, container: &Container, exit: &Exit) -> bool {
    if is_ephemeral(state, container) {
        return false;
    }
    if let Some("Restart" | RESTART_ALL) = rule(container, exit) {
        return true;
    }
    let policy = container.restart_policy.as_deref().unwrap_or(&state.pod.spec.restart_policy);
    match policy {
        "Never" => false,
        "OnFailure" => exit.code != 0,
        // An init container that has done its work is not started again.
        _ if is_init(state, container) && !is_sidecar(container) => exit.code != 0,
        _ => true,
    }
}

fn is_init(state: &PodState, container: &Container) -> bool {
    state.pod.spec.init_containers.iter().any(|c| c.name == container.name)
}

fn is_ephemeral(state: &PodState, container: &Container) -> bool {
    state.pod.spec.ephemeral_containers.iter().any(|c| c.name == container.name)
}

/// How the pod has ended, if it has: nothing in it will run again.
pub(crate) fn outcome(state: &PodState, now: Timestamp) -> Option<Terminal> {
    if state.terminal.is_some() {
        return state.terminal.clone();
    }
    if deadline(state).is_some_and(|deadline| now >= deadline) {
        return Some(Terminal {
            phase: "Failed",
            reason: "DeadlineExceeded".into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
        });
    }
    let ended = |container: &Container| match state.last_run(&container.name) {
        Some(run) if is_outdated(state, run) => None,
        Some(Run { state: RunState::Exited(exit), .. })
            if !restarts_after(state, container, exit) =>
        {
            Some(exit.code)
        }
        _ => None,
    };
    let phase = |phase| Some(Terminal { phase, reason: String::new(), message: String::new() });
    let init = state.pod.spec.init_containers.iter().filter(|c| !is_sidecar(c));
    if init.filter_map(ended).any(|code| code != 0) {
        return phase("Failed");
    }
    let codes: Option<Vec<i32>> = state.pod.spec.containers.iter().map(ended).collect();
    match codes?.iter().all(|code| *code == 0) {
        true => phase("Succeeded"),
        false => phase("Failed"),
    }
}

fn deadline(state: &PodState) -> Option<Timestamp> {
    let seconds = state.pod.spec.active_deadline_seconds?;
    state.started_at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Ends everything: containers (sidecars last), sandbox and network, volumes,
/// and the object itself where it is being deleted.
fn teardown(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let mut busy = state.setup.is_in_flight();
    for (name, memory) in &state.memory {
        match memory.op {
            Some(Op::Starting) => {
                plan.actions.push(Action::Abort { container: name.clone() });
                busy = true;
            }
            Some(Op::Stopping { .. }) => busy = true,
            None => {}
        }
    }
    let (deadline, grace) = match state.deletion {
        Some(deletion) => (Some(deletion.seen_at + deletion.grace), deletion.grace),
        None => (None, state.grace.unwrap_or_else(|| spec_grace(state))),
    };
    let is_running = |run: &&Run| matches!(run.state, RunState::Running { .. });
    let sidecar = |run: &Run| {
        state.pod.spec.init_containers.iter().any(|c| c.name == run.name && is_sidecar(c))
    };
    let running: Vec<&Run> = state.runs.iter().filter(is_running).collect();
    let mains_running = running.iter().any(|run| !sidecar(run));
    let last_sidecar = |run: &Run| {
        let position =
            |name: &str| state.pod.spec.init_containers.iter().position(|c| c.name == name);
        running.iter().all(|other| position(&other.name) <= position(&run.name))
    };
    for run in &running {
        busy = true;
        // Sidecars serve the others until those are gone, and each other in
        // the order of their start.
        if sidecar(run) && (mains_running || !last_sidecar(run)) {
            continue;
        }
        let Some(id) = &run.id else { continue };
        let left = match deadline {
            Some(deadline) => Duration::try_from(deadline - now).unwrap_or(Duration::ZERO),
            None => grace,
        };
        let grace = left.max(Duration::from_secs(1));
        let stopping = state.memory.get(&run.name).and_then(|memory| memory.op.as_ref());
        // A later request may only shorten what was granted.
        let granted = match stopping {
            Some(Op::Stopping { id: stopping, deadline }) if stopping == id => Some(*deadline),
            _ => None,
        };
        if granted.is_none_or(|granted| granted > now + grace + Duration::from_secs(1)) {
            plan.actions.push(Action::Stop {
                container: run.name.clone(),
                id: id.clone(),
                grace,
                message: format!("Stopping container {}", run.name),
            });
        }
    }
    if busy || !plan.step(state.stop_sandbox, now, Action::StopSandbox) {
        return;
    }
    if !(state.gone || state.deletion.is_some()) {
        if plan.step(state.unmount, now, Action::Unmount) && state.forget {
            forget(state, plan);
        }
    } else if !state.unmount.is_in_flight() && plan.step(state.clean, now, Action::Clean) {
        plan.step(state.finish, now, Action::Finish);
    }
}

fn spec_grace(state: &PodState) -> Duration {
    grace(state.pod.spec.termination_grace_period_seconds.unwrap_or(30))
}

/// Forgets runs that nobody can ask for any more: all but the last one and those
/// before it that are kept for `logs --previous`.
fn old_runs(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let Some(earlier) = state.keeps.per_container else { return };
    for container in containers(&state.pod) {
        let runs = state.runs.iter().rev().filter(|run| run.name == container.name);
        for run in runs.skip(1 + earlier) {
            let (Some(id), RunState::Exited(exit)) = (&run.id, &run.state) else { continue };
            match exit.finished_at + state.keeps.age_min {
                until if now < until => plan.wake(until),
                _ => plan.actions.push(Action::Remove { id: id.clone() }),
            }
        }
    }
}

/// Forgets the runs of a pod that has ended, of which the API knows how.
fn forget(state: &PodState, plan: &mut Plan) {
    for run in &state.runs {
        let is_told = told(&state.pod).any(|s| s.name == run.name && s.state.terminated.is_some());
        if let (Some(id), RunState::Exited(_), true) = (&run.id, &run.state, is_told) {
            plan.actions.push(Action::Remove { id: id.clone() });
        }
    }
}

/// `10s`, `1m20s`, `5m0s`: how Go prints a duration of whole seconds.
pub(crate) fn go_duration(duration: Duration) -> String {
    match duration.as_secs() {
        s if s < 60 => format!("{s}s"),
        s => format!("{}m{}s", s / 60, s % 60),
    }
}

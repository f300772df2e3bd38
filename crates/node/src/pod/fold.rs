//! What came of the actions: failures with their next attempts, volumes that are kept
//! current, probes and their verdicts.

use std::{collections::BTreeSet, time::Duration};

use api_types::core::Container;
use client::Backoff;
use jiff::Timestamp;
use tokio::task::{JoinError, JoinHandle};

use super::{
    act::RETRY_SLOW,
    setup,
    start::{StartFailure, reference},
    trouble::Attempt,
    view::{Condemned, Exit, Run, RunState, Step, Waiting, containers},
    worker::{Done, Message, Probes, Worker},
};
use crate::{
    probe::{self, Report, Verdict},
    volume,
    volume::refresh,
};

/// Between pulls of an image that failed (kubelet's `imageBackOff`).
const PULL: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// Between looks at configuration that was missing.
const CONFIG: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(20) };

impl Worker {
    pub(super) async fn fold(&mut self, done: Result<Done, JoinError>) {
        let now = self.now();
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                // Nobody knows which it was nor how far it came: forget that it was under
                // way, and what the next look shows decides.
                tracing::error!(pod = self.state.full_name(), %error, "a step of the pod broke off");
                // The others are begun anew too, and so must not go on beside that.
                self.ops.shutdown().await;
                self.starts.clear();
                self.state.memory.values_mut().for_each(|memory| memory.op = None);
                self.removing.clear();
                let state = &mut self.state;
                for step in [
                    &mut state.setup,
                    &mut state.stop_sandbox,
                    &mut state.unmount,
                    &mut state.clean,
                    &mut state.finish,
                    &mut state.resize,
                ] {
                    if step.is_in_flight() {
                        *step = step.failed(now);
                    }
                }
                self.publishing = false;
                return;
            }
        };
        let about = reference(&self.state.pod, None);
        match done {
            Done::Setup(Ok(ips)) => {
                if self.troubles.is_over(&Attempt::Setup) {
                    tracing::info!(pod = self.state.full_name(), "a pod is set up at last");
                }
                self.state.pod_ips = ips;
                self.state.setup = Step::Done;
                self.keep_volumes(false);
            }
            Done::Setup(Err(error)) => {
                let (reason, message) = (error.reason, &error.message);
                if self.troubles.failed(Attempt::Setup, &format!("{reason}: {message}")) {
                    let pod = self.state.full_name();
                    tracing::warn!(pod, reason, message, "a pod is not set up");
                }
                self.deps.recorder.warning(&about, error.reason, error.message);
                self.state.setup = self.state.setup.failed(now);
            }
            Done::Start { container, attempt, backoff, result } => {
                self.starts.remove(&container);
                self.observe().await;
                self.started(&container, attempt, backoff, result, now);
            }
            Done::Stop { container } => {
                self.starts.remove(&container);
                self.state.remember(&container).op = None;
            }
            Done::StopSandbox(result) => {
                if result.is_ok() {
                    // Nothing runs that could use them.
                    self.deps.devices.release(&self.state.pod.metadata.uid);
                }
                let step = self.state.stop_sandbox;
                self.state.stop_sandbox = self.stepped(Attempt::StopSandbox, step, result, now);
            }
            Done::Unmount(result) => {
                let step = self.state.unmount;
                self.state.unmount = self.stepped(Attempt::Unmount, step, result, now);
            }
            Done::Clean(result) => {
                let step = self.state.clean;
                self.state.clean = self.stepped(Attempt::Clean, step, result, now);
            }
            Done::Finish(Ok(())) => self.state.finish = Step::Done,
            Done::Finish(Err(error)) => {
                if self.troubles.failed(Attempt::Finish, &error.to_string()) {
                    let pod = self.state.full_name();
                    tracing::warn!(pod, %error, "not deleted in the API yet");
                }
                self.state.finish = self.state.finish.failed(now);
            }
            Done::Publish { sent, result } => self.published(sent, result, now),
            Done::Resize { result, told } => match result {
                // The next look shows the new limits: nothing is left to do.
                Ok(()) => {
                    self.state.resize = Step::Todo;
                    self.state.resize_error.clear();
                    let text = format!("Pod resize completed: {told}");
                    self.deps.recorder.normal(&about, "ResizeCompleted", text);
                }
                Err(error) => {
                    if self.state.resize_error != error {
                        let text = format!("Pod resize error: {error}");
                        self.deps.recorder.warning(&about, "ResizeError", text);
                    }
                    self.state.resize_error = error;
                    self.state.resize = self.state.resize.failed(now);
                }
            },
            Done::Removed { id, result: Ok(()), .. } => {
                self.removing.remove(&id);
                self.troubles.is_over(&Attempt::Remove(id));
            }
            Done::Removed { container, id, result: Err(error) } => {
                if self.troubles.failed(Attempt::Remove(id.clone()), &error) {
                    let pod = self.state.full_name();
                    tracing::warn!(pod, container, error, "old run stays");
                }
                self.ops.spawn(async move {
                    tokio::time::sleep(RETRY_SLOW).await;
                    Done::Rested(id)
                });
            }
            Done::Rested(id) => drop(self.removing.remove(&id)),
        }
    }

    /// A step of the pod's end.
    fn stepped(
        &mut self,
        attempt: Attempt,
        step: Step,
        result: Result<(), String>,
        now: Timestamp,
    ) -> Step {
        match result {
            Ok(()) => {
                if self.troubles.is_over(&attempt) {
                    let pod = self.state.full_name();
                    tracing::info!(pod, "a step of a pod's end is done at last");
                }
                Step::Done
            }
            Err(error) => {
                let about = reference(&self.state.pod, None);
                let text = format!("error killing pod: {error}");
                self.deps.recorder.warning(&about, "FailedKillPod", text);
                if self.troubles.failed(attempt, &error) {
                    let pod = self.state.full_name();
                    tracing::warn!(pod, error, "a step of a pod's end failed");
                }
                step.failed(now)
            }
        }
    }

    fn started(
        &mut self,
        name: &str,
        attempt: u32,
        backoff: Duration,
        result: Result<(), StartFailure>,
        now: Timestamp,
    ) {
        let running = self.state.last_run(name).filter(|run| run.attempt == attempt);
        let running = running.and_then(|run| run.id.clone());
        let image = self.image_of(name);
        self.count_start(name, result.as_ref().err());
        let memory = self.state.remember(name);
        memory.op = None;
        let trouble = Attempt::Start { container: name.to_owned() };
        let failure = match result {
            Ok(()) => {
                memory.waiting = None;
                memory.start_failures = 0;
                memory.backoff = backoff;
                if self.troubles.is_over(&trouble) {
                    let pod = self.state.full_name();
                    tracing::info!(pod, container = name, "a container starts at last");
                }
                return;
            }
            Err(failure) => failure,
        };
        let waiting = Waiting { reason: failure.reason.into(), message: failure.message.clone() };
        let is_hook = failure.reason == "PostStartHookError";
        // What a hook said may be secret, and stays in the status.
        let message = if is_hook { "" } else { &failure.message };
        let reason = failure.reason;
        if self.troubles.failed(trouble, &format!("{reason}: {message}")) {
            let pod = self.state.full_name();
            tracing::warn!(pod, container = name, reason, message, "a container does not start");
        }
        // Of images and hooks it was told where they failed.
        if !(failure.is_pull() || is_hook) {
            let about = reference(&self.state.pod, Some(name));
            self.deps.recorder.warning(&about, "Failed", format!("Error: {}", failure.message));
        }
        if is_hook {
            // It runs, and must not: the restart policy decides afterwards.
            let memory = self.state.remember(name);
            memory.waiting = Some(waiting);
            memory.backoff = backoff;
            let message = "FailedPostStartHook".into();
            memory.condemned = running.map(|id| Condemned { id, message, grace: None });
        } else if let Some(code) = failure.exit_code {
            let sandbox = self.state.ready_sandbox().map(|sandbox| sandbox.id.clone());
            let memory = self.state.remember(name);
            memory.waiting = Some(waiting);
            memory.backoff = backoff;
            memory.start_failures = 0;
            let exit = Exit {
                code,
                reason: "StartError",
                message: failure.message,
                started_at: Timestamp::UNIX_EPOCH,
                finished_at: now,
            };
            memory.failed.retain(|run| run.attempt + 1 >= attempt);
            memory.failed.push(Run {
                id: None,
                sandbox,
                name: name.to_owned(),
                attempt,
                state: RunState::Exited(exit),
                image,
                image_id: String::new(),
                log_path: Default::default(),
                termination_log: Default::default(),
                stop_signal: None,
                user: None,
                resources: None,
            });
        } else {
            let memory = self.state.remember(name);
            memory.start_failures = memory.start_failures.saturating_add(1);
            let delays = if failure.is_pull() { PULL } else { CONFIG };
            memory.retry_at = Some(now + delays.delay(memory.start_failures));
            memory.waiting = Some(waiting);
        }
    }

    fn count_start(&self, name: &str, failure: Option<&StartFailure>) {
        let spec = &self.state.pod.spec;
        let named = |list: &[Container]| list.iter().any(|c| c.name == name);
        let kind = match spec {
            spec if named(&spec.init_containers) => "init_container",
            spec if named(&spec.ephemeral_containers) => "ephemeral_container",
            _ => "container",
        };
        self.deps.counts.started.with(&[kind]).inc();
        if let Some(failure) = failure {
            self.deps.counts.not_started.with(&[kind, failure.reason]).inc();
        }
    }

    pub(super) fn image_of(&self, container: &str) -> String {
        let mut all = containers(&self.state.pod);
        all.find(|c| c.name == container).map(|c| c.image.clone()).unwrap_or_default()
    }

    /// Keeps the volumes' content current from now on; `now` where the pod
    /// itself has changed and the downward API with it.
    pub(super) fn keep_volumes(&mut self, now: bool) {
        self.refresh.take().iter().for_each(JoinHandle::abort);
        let payload = |v: &_| matches!(volume::kind(v), volume::Kind::Payload { .. });
        if !self.state.pod.spec.volumes.iter().any(payload) {
            return;
        }
        let (deps, pod) = (self.deps.clone(), self.state.pod.clone());
        let holdings = self.holdings.clone();
        let ips = self.state.pod_ips.clone();
        self.refresh = Some(tokio::spawn(async move {
            let around = setup::surroundings(&deps, &ips);
            let pod_dir = volume::pod_dir(&deps.config.kubelet_dir, &pod.metadata.uid);
            let sources = refresh::Sources {
                api: &deps.api,
                objects: &deps.objects,
                ambient: &deps.ambient,
                around: &around,
                pod_dir: &pod_dir,
                patience: Duration::ZERO,
            };
            let mut due = now;
            let mut failures = 0;
            loop {
                if !due {
                    let stale = holdings.lock().await.stale(&deps.ambient);
                    stale.await;
                }
                let filled = refresh::fill(&sources, &pod, &mut *holdings.lock().await).await;
                match filled {
                    Ok(()) => (due, failures) = (false, 0),
                    Err((name, error)) => {
                        // The old content stays; upstream says it in an event too.
                        let text =
                            format!("MountVolume.SetUp failed for volume \"{name}\" : {error}");
                        deps.recorder.warning(&reference(&pod, None), "FailedMount", text);
                        failures += 1;
                        tokio::time::sleep(PULL.delay(failures)).await;
                        due = true;
                    }
                }
            }
        }));
    }

    /// Keeps one prober for each running container that wants one.
    pub(super) fn probe(&mut self) {
        let mut wanted = BTreeSet::new();
        let pod = self.state.pod.clone();
        let ending = self.state.is_ending();
        for container in containers(&pod) {
            let probes =
                [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
            let run = self.state.last_run(&container.name);
            let (Some(Run { id: Some(id), state: RunState::Running { started_at }, .. }), true) =
                (run, probes.iter().any(|probe| probe.is_some()))
            else {
                continue;
            };
            let (id, started_at) = (id.clone(), *started_at);
            wanted.insert(container.name.clone());
            let known = self.probes.get(&container.name);
            if known.is_some_and(|probes| probes.id == id && probes.ending == ending) {
                continue;
            }
            let memory = self.state.remember(&container.name);
            if memory.probed.as_ref() != Some(&id) {
                memory.probed = Some(id.clone());
                memory.startup_ok = false;
                memory.readiness_ok = false;
            }
            let prober = probe::Prober {
                deps: self.deps.clone(),
                pod: pod.clone(),
                container: container.clone(),
                id: id.clone(),
                started_at,
                startup_ok: memory.startup_ok,
                readiness_ok: memory.readiness_ok,
                ending,
                ips: self.state.pod_ips.clone(),
            };
            let own = self.own.clone();
            let task = tokio::spawn(prober.run(move |report| {
                // A worker that has ended needs no reports.
                let _ = own.send(Message::Probe(report));
            }));
            let probes = Probes { id, ending, task };
            if let Some(old) = self.probes.insert(container.name.clone(), probes) {
                old.task.abort();
            }
        }
        self.probes.retain(|name, probes| {
            let keep = wanted.contains(name);
            if !keep {
                probes.task.abort();
            }
            keep
        });
    }

    pub(super) fn judge(&mut self, report: Report) {
        let memory = self.state.remember(&report.container);
        if memory.probed.as_ref() != Some(&report.id) {
            return;
        }
        let condemn = |kind: &str, grace: Option<Duration>| {
            let message =
                format!("Container {} failed {kind} probe, will be restarted", report.container);
            Some(Condemned { id: report.id.clone(), message, grace })
        };
        match report.verdict {
            Verdict::Started => memory.startup_ok = true,
            Verdict::Ready(ready) => memory.readiness_ok = ready,
            Verdict::NotStarted(grace) => memory.condemned = condemn("startup", grace),
            Verdict::NotAlive(grace) => memory.condemned = condemn("liveness", grace),
        }
    }
}

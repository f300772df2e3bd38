//! Carries out what was planned. Whatever takes time becomes a task of its own
//! that reports back.

use std::time::Duration;

use api_types::core::Pod;
use client::{DeleteOptions, PatchKind};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    plan::{Action, backoff_next},
    resize, setup, start,
    start::reference,
    status, stop,
    view::{Op, RunState, SandboxView, Step, containers},
    worker::{Done, Worker},
};
use crate::{node::Deps, resources::PODS};

/// Between attempts at what the runtime or the disk refused.
const RETRY: Duration = Duration::from_secs(2);
pub(super) const RETRY_SLOW: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn act(&mut self, action: Action, now: Timestamp) {
        let (deps, pod) = (self.deps.clone(), self.state.effective());
        let ips = self.state.pod_ips.clone();
        match action {
            Action::Setup { attempt } => {
                self.state.setup = self.state.setup.begun();
                let holdings = self.holdings.clone();
                self.ops.spawn(async move {
                    let mut holdings = holdings.lock().await;
                    Done::Setup(setup::setup(&deps, &pod, attempt, &mut holdings).await)
                });
            }
            Action::Start { container, attempt } => {
                let Some(SandboxView { id: sandbox, .. }) = self.state.ready_sandbox().cloned()
                else {
                    return;
                };
                let last = self.state.last_run(&container).map(|run| &run.state);
                let exit = match last {
                    Some(RunState::Exited(exit)) => Some(exit.clone()),
                    _ => None,
                };
                let memory = self.state.remember(&container);
                let backoff = backoff_next(memory.backoff, exit.as_ref());
                memory.op = Some(Op::Starting);
                memory.retry_at = None;
                let (keep, cancelled) = oneshot::channel::<()>();
                self.starts.insert(container.clone(), keep);
                self.ops.spawn(async move {
                    let result = async {
                        match containers(&pod).find(|c| c.name == container) {
                            Some(spec) => {
                                start::start(&deps, &pod, spec, &sandbox, attempt, &ips).await
                            }
                            None => Ok(()),
                        }
                    };
                    let result = tokio::select! {
                        result = result => Some(result),
                        _ = cancelled => None,
                    };
                    match result {
                        Some(result) => Done::Start { container, attempt, backoff, result },
                        None => Done::Stop { container },
                    }
                });
            }
            Action::Resize => {
                let Some(sandbox) = self.state.ready_sandbox().cloned() else { return };
                self.state.resize = self.state.resize.begun();
                let changes: Vec<resize::Change> = resize::resizable(&pod)
                    .filter_map(|container| {
                        let run = self.state.last_run(&container.name)?;
                        let has = self.state.is_resized(container, run)?;
                        let restarts = resize::takes_restart(container, has, &container.resources);
                        let id = run.id.clone().filter(|_| !restarts)?;
                        Some(resize::Change { id, container: container.clone() })
                    })
                    .collect();
                self.ops.spawn(async move {
                    let told = resize::told(&pod);
                    let had = sandbox.resources;
                    let result = resize::act(&deps, &pod, &sandbox.id, had, changes).await;
                    Done::Resize { result, told }
                });
            }
            Action::Abort { container } => drop(self.starts.remove(&container)),
            Action::Wait { container, waiting } => {
                let text = format!(
                    "Back-off restarting failed container {container} in pod {}",
                    self.state.full_name()
                );
                self.deps.recorder.warning(&reference(&pod, Some(&container)), "BackOff", text);
                self.state.remember(&container).waiting = Some(waiting);
            }
            Action::Stop { container, id, grace, message } => {
                let run = self.state.runs.iter().find(|run| run.id.as_ref() == Some(&id)).cloned();
                let Some(run) = run else { return };
                let is_first = self.state.remember(&container).stopping(&id, now + grace);
                self.ops.spawn(async move {
                    let stopped = match is_first {
                        true => stop::stop(&deps, &pod, &run, &ips, grace, &message).await,
                        // The hook runs once; only the signal's grace shrinks.
                        false => stop::kill(&deps, &run, grace).await,
                    };
                    if let Err(error) = stopped {
                        let text = format!("error killing container: {error}");
                        let about = reference(&pod, Some(&container));
                        deps.recorder.warning(&about, "FailedKillPod", text);
                        tokio::time::sleep(RETRY).await;
                    }
                    Done::Stop { container }
                });
            }
            Action::Remove { id } => {
                let run = self.state.runs.iter().find(|run| run.id.as_ref() == Some(&id)).cloned();
                let Some(run) = run.filter(|_| self.removing.insert(id.clone())) else { return };
                self.ops.spawn(async move {
                    let result = stop::remove_run(&deps, &pod, &run).await;
                    Done::Removed { container: run.name, id, result }
                });
            }
            Action::StopSandbox => {
                self.state.stop_sandbox = self.state.stop_sandbox.begun();
                self.refresh.take().iter().for_each(JoinHandle::abort);
                self.ops.spawn(async move {
                    Done::StopSandbox(stop::stop_sandboxes(&deps, &pod).await)
                });
            }
            Action::Unmount => {
                self.state.unmount = self.state.unmount.begun();
                self.ops.spawn(async move { Done::Unmount(stop::unmount(&deps, &pod).await) });
            }
            Action::Clean => {
                self.state.clean = self.state.clean.begun();
                self.ops.spawn(async move { Done::Clean(stop::clean(&deps, &pod).await) });
            }
            Action::Finish => {
                if self.state.gone {
                    self.state.finish = Step::Done;
                } else if !self.publishing {
                    self.state.finish = self.state.finish.begun();
                    let new = status::status(&self.state, &self.conditions, now);
                    let patch = status::patch(&pod.metadata.uid, &self.told, &new);
                    self.ops.spawn(async move { Done::Finish(finish(&deps, &pod, patch).await) });
                }
            }
        }
    }
}

/// Whether the same request will be answered the same again: not by a server that has too
/// much to do, no leader or a fault of its own.
fn is_final(error: &client::Error) -> bool {
    error.code().is_some_and(|code| (400..500).contains(&code) && code != 429)
}

/// The last word to the API: the final status, then the object's end.
async fn finish(deps: &Deps, pod: &Pod, patch: Option<Value>) -> Result<(), client::Error> {
    let meta = &pod.metadata;
    let (namespace, name) = (&meta.namespace, &meta.name);
    let is_gone = |error: &client::Error| error.is_not_found() || error.is_conflict();
    if let Some(patch) = patch {
        let kind = PatchKind::Strategic;
        match deps.api.patch(PODS, namespace, name, "status", kind, &patch).await {
            Err(error) if is_gone(&error) => return Ok(()),
            // An answer that will not change must not keep the pod for ever.
            Err(error) if is_final(&error) => {
                tracing::warn!(pod = name, %error, "the last status was refused");
            }
            result => result.map(drop)?,
        }
    }
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&meta.uid) };
    match deps.api.delete(PODS, namespace, name, &options).await {
        Err(error) if is_gone(&error) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use api_object::Status;
    use client::{Error, TransportError};

    use super::*;

    #[test]
    fn a_last_status_is_given_up_for_what_will_not_pass_and_nothing_else() {
        let status = |code| Error::Status(Box::new(Status { code, ..Status::bad_request("") }));
        for (code, expected) in [
            (400, true),
            (403, true),
            (413, true),
            (422, true),
            (429, false),
            (500, false),
            (503, false),
            (504, false),
        ] {
            assert_eq!(is_final(&status(code)), expected, "{code}");
        }
        assert!(!is_final(&Error::Transport(TransportError("reset".into()))));
        assert!(!is_final(&Error::Malformed("half an answer".into())));
    }
}

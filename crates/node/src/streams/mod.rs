//! What a server may ask of this node: logs, exec, attach, port-forward,
//! connections, and the pages of its own API.

pub(crate) mod cri;
pub(crate) mod follow;
mod forward;
mod logs;
mod session;

use std::sync::Arc;

use tunnel::{Open, OpenError, ServerEnd, Target};

use crate::{
    node::Deps,
    pod::{
        lookup::{ContainerFacts, PodFacts},
        view::{Run, RunState},
    },
    usage::pages,
};

/// Opens a stream; what follows runs in a task that ends with either side.
pub(crate) async fn open(deps: Arc<Deps>, open: Open) -> Result<ServerEnd, OpenError> {
    let target = match &open {
        Open::Page(page) => return pages::open(deps, page).await,
        Open::Logs(target, _)
        | Open::Exec(target, _, _)
        | Open::Attach(target, _)
        | Open::PortForward(target, _)
        | Open::Connect(target, _) => target.clone(),
    };
    let pod = deps
        .lookup
        .get(&target.uid)
        .filter(|pod| pod.name == target.pod && pod.namespace == target.namespace);
    let pod = pod.ok_or_else(|| {
        OpenError::NotFound(format!("pod not found (\"{}_{}\")", target.pod, target.namespace))
    })?;
    match open {
        Open::Logs(_, options) => {
            let run = logged(&pod, &target, options.previous)?;
            logs::open(deps, run, options).await
        }
        Open::Exec(_, command, stdio) => {
            session::exec(deps, running(&pod, &target)?, command, stdio).await
        }
        Open::Attach(_, stdio) => session::attach(deps, running(&pod, &target)?, stdio).await,
        Open::PortForward(_, port) => forward::localhost(&pod, port).await,
        Open::Connect(_, port) => forward::address(&pod, port).await,
        Open::Page(_) => unreachable!("answered above"),
    }
}

fn container<'a>(pod: &'a PodFacts, target: &Target) -> Result<&'a ContainerFacts, OpenError> {
    pod.containers.iter().find(|c| c.name == target.container).ok_or_else(|| {
        OpenError::BadRequest(format!(
            "container {} is not valid for pod {}",
            target.container, target.pod
        ))
    })
}

/// The run whose log is asked for.
fn logged(pod: &PodFacts, target: &Target, previous: bool) -> Result<Run, OpenError> {
    let facts = container(pod, target)?;
    let named = format!("container \"{}\" in pod \"{}\"", target.container, target.pod);
    // A start that failed left no log; the run before it may have one.
    let with_log = |run: &&Run| run.id.is_some() && !matches!(run.state, RunState::Created);
    if previous {
        return facts.previous.as_ref().filter(with_log).cloned().ok_or_else(|| {
            OpenError::BadRequest(format!("previous terminated {named} not found"))
        });
    }
    match facts.last.as_ref().filter(with_log) {
        Some(run) => Ok(run.clone()),
        None => {
            let why = match facts.waiting.as_str() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            };
            Err(OpenError::BadRequest(format!("{named} is waiting to start: {why}")))
        }
    }
}

/// The run that processes can be started in.
fn running(pod: &PodFacts, target: &Target) -> Result<node_runtime::ContainerId, OpenError> {
    let run = container(pod, target)?.last.as_ref();
    let run = run.filter(|run| matches!(run.state, RunState::Running { .. }));
    run.and_then(|run| run.id.clone()).ok_or_else(|| {
        OpenError::NotFound(format!(
            "unable to upgrade connection: container not found (\"{}\")",
            target.container
        ))
    })
}

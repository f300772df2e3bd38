//! One stop of one container, and the hooks at both ends of its life.

use std::{fs, net::IpAddr, time::Duration};

use api_types::{
    IntOrString,
    core::{Container, LifecycleHandler, Pod},
};
use node_runtime::ContainerId;
use tokio::time::{Instant, timeout};

use super::{
    setup,
    start::reference,
    view::{Run, containers},
};
use crate::{node::Deps, probe::http, volume};

/// A container's lifecycle hook and where it runs.
pub(crate) struct Hook<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) container: &'a Container,
    pub(crate) id: &'a ContainerId,
    pub(crate) pod_ips: &'a [IpAddr],
}

/// Runs a hook to its end; who calls limits the time.
pub(crate) async fn run_hook(hook: &Hook<'_>, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone();
        let limit = Duration::from_secs(24 * 3600);
        let output = hook.deps.runtime.exec_sync(hook.id, command.clone(), limit).await;
        let output = output.map_err(|error| error.to_string())?;
        return match output.code {
            0 => Ok(()),
            code => Err(format!(
                "command '{}' exited with {code}: {}",
                command.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let ip = hook.pod_ips.first().ok_or("the pod has no address")?;
        let port = port(hook.container, &action.port)?;
        return http::get(action, *ip, port).await.map(drop).map_err(|error| error.to_string());
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    // A tcpSocket hook is deprecated and does nothing, as upstream.
    Ok(())
}

/// A port by number or by the name that the container gave it.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                let named = container.ports.iter().find(|p| &p.name == name);
                named.ok_or_else(|| format!("couldn't find port: {name}"))?.container_port
            }
        },
    };
    u16::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// Hook, signal, grace, kill. The hook's time is part of the grace, but the
/// program always has two seconds for itself.
pub(crate) async fn stop(
    deps: &Deps,
    pod: &Pod,
    run: &Run,
    pod_ips: &[IpAddr],
    grace: Duration,
    message: &str,
) -> Result<(), node_runtime::Error> {
    const MINIMUM: Duration = Duration::from_secs(2);
    let Some(id) = &run.id else { return Ok(()) };
    let begun = Instant::now();
    let about = reference(pod, Some(&run.name));
    deps.recorder.normal(&about, "Killing", message);
    let container = containers(pod).find(|c| c.name == run.name);
    if let Some((container, handler)) =
        container.and_then(|c| Some((c, c.lifecycle.pre_stop.as_ref()?)))
    {
        let hook = Hook { deps, container, id, pod_ips };
        match timeout(grace, run_hook(&hook, handler)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                // What the hook said may be secret, and events are read by many.
                tracing::warn!(
                    pod = pod.metadata.name,
                    container = run.name,
                    error,
                    "preStop hook failed"
                );
                deps.recorder.warning(&about, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => tracing::warn!(
                pod = pod.metadata.name,
                container = run.name,
                "preStop hook used up the grace period"
            ),
        }
    }
    let left = grace.saturating_sub(begun.elapsed()).max(MINIMUM);
    kill(deps, run, left).await
}

/// Signal, grace, kill, without the hook.
pub(crate) async fn kill(
    deps: &Deps,
    run: &Run,
    grace: Duration,
) -> Result<(), node_runtime::Error> {
    use node_runtime::Error;
    let Some(id) = &run.id else { return Ok(()) };
    match deps.runtime.stop_container(id, run.stop_signal, grace).await {
        Ok(_) | Err(Error::ContainerNotFound(_) | Error::NotRunning(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stops every sandbox and releases the network. The link goes last, so that
/// connections drain for as long as anything runs.
pub(crate) async fn stop_sandboxes(deps: &Deps, pod: &Pod) -> Result<(), String> {
    let uid = &pod.metadata.uid;
    let sandboxes = setup::of_pod(deps, uid).await.map_err(|error| error.to_string())?;
    for sandbox in &sandboxes {
        deps.runtime.stop_sandbox(&sandbox.id).await.map_err(|error| error.to_string())?;
    }
    if !pod.spec.host_network {
        let name = netlink::pod_link::host_ifname(uid);
        setup::blocking(move || netlink::pod_link::remove(&name)).await?;
    }
    deps.addresses.release(uid);
    Ok(())
}

/// Removes the volumes of a pod that has ended.
pub(crate) async fn unmount(deps: &Deps, pod: &Pod) -> Result<(), String> {
    volume::ready::tear_down(deps, &pod.metadata.uid, false).await
}

/// Removes volumes, logs and the runtime's records.
pub(crate) async fn clean(deps: &Deps, pod: &Pod) -> Result<(), String> {
    let uid = &pod.metadata.uid;
    volume::ready::tear_down(deps, uid, true).await?;
    let sandboxes = setup::of_pod(deps, uid).await.map_err(|error| error.to_string())?;
    for sandbox in sandboxes {
        for container in &sandbox.containers {
            let name = format!(
                "{}_{}_{}-{}.log",
                pod.metadata.name, pod.metadata.namespace, container.spec.name, container.id
            );
            remove_file(&deps.config.log_dir.join("containers").join(name))?;
        }
        deps.runtime.remove_sandbox(&sandbox.id).await.map_err(|error| error.to_string())?;
    }
    // What is left has no owner among them any more.
    deps.users.release(uid);
    let logs = setup::log_dir(&deps.config.log_dir, pod);
    linux::tree::remove(&logs).map_err(|error| format!("{}: {error}", logs.display()))
}

/// Forgets one dead run: the runtime's record, its log, its message file.
pub(crate) async fn remove_run(deps: &Deps, pod: &Pod, run: &Run) -> Result<(), String> {
    let Some(id) = &run.id else { return Ok(()) };
    deps.runtime.remove_container(id).await.map_err(|error| error.to_string())?;
    let meta = &pod.metadata;
    let link = format!("{}_{}_{}-{id}.log", meta.name, meta.namespace, run.name);
    remove_file(&deps.config.log_dir.join("containers").join(link))?;
    for path in [&run.log_path, &run.termination_log] {
        if !path.as_os_str().is_empty() {
            remove_file(path)?;
        }
    }
    // The shim keeps rotated files beside the log.
    if let (Some(parent), Some(name)) = (run.log_path.parent(), run.log_path.file_name()) {
        let prefix = format!("{}.", name.to_string_lossy());
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove_file(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn remove_file(path: &std::path::Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

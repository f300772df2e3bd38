//! The pod's status in the API's words. Pure.

use api_object::time::format_seconds;
use api_types::core::{Condition, Container, Pod, Volume, VolumeMount};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    plan::restarts_after,
    resize,
    view::{Exit, PodState, Run, RunState, Terminal, is_sidecar, told},
};
use crate::container::{qos, security, spec::is_recursively_read_only};

/// The conditions that are the node's to write; others on the object belong
/// to somebody else and are never touched.
pub(crate) const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
/// Of a pod that the node ended for its own sake (KEP-3329).
const DISRUPTED: &str = "DisruptionTarget";
/// Those that are there only while they hold.
const PASSING_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];
/// The fields of `status` that are the node's to write.
const OWN_FIELDS: [&str; 12] = [
    "observedGeneration",
    "phase",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

/// The whole status as this node sees it. `known` are the conditions as last
/// told, whose transition times stay where nothing turned.
pub(crate) fn status(state: &PodState, known: &[Condition], now: Timestamp) -> Map<String, Value> {
    let spec = &state.pod.spec;
    let init: Vec<Value> = spec.init_containers.iter().map(|c| container(state, c, true)).collect();
    let mut mains: Vec<&Container> = spec.containers.iter().collect();
    mains.sort_by(|a, b| a.name.cmp(&b.name));
    let mains: Vec<Value> = mains.into_iter().map(|c| container(state, c, false)).collect();
    let phase = phase(state, &init, &mains);
    let generation = state.pod.metadata.generation;

    let mut status = Map::new();
    if generation > 0 {
        status.insert("observedGeneration".into(), generation.into());
    }
    status.insert("phase".into(), phase.into());
    status.insert("conditions".into(), conditions(state, phase, &init, &mains, known, now).into());
    if let Some(terminal) = &state.terminal {
        for (key, text) in [("reason", &terminal.reason), ("message", &terminal.message)] {
            if !text.is_empty() {
                status.insert(key.into(), text.as_str().into());
            }
        }
    }
    for (one, many, ips) in
        [("hostIP", "hostIPs", &state.host_ips), ("podIP", "podIPs", &state.pod_ips)]
    {
        if let Some(first) = ips.first() {
            status.insert(one.into(), first.to_string().into());
            let all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
            status.insert(many.into(), all.into());
        }
    }
    status.insert("startTime".into(), format_seconds(state.started_at).into());
    // A pod that was not taken has no containers to tell of: its reason is what
    // `kubectl get` shows.
    let refused = state.terminal.as_ref().is_some_and(Terminal::is_refusal);
    if !init.is_empty() && !refused {
        status.insert("initContainerStatuses".into(), init.into());
    }
    if !refused {
        status.insert("containerStatuses".into(), mains.into());
    }
    let ephemeral = spec.ephemeral_containers.iter().map(|c| container(state, c, false));
    let ephemeral: Vec<Value> = ephemeral
        .map(|mut status| {
            // Nobody waits for it to be ready.
            status["ready"] = false.into();
            status
        })
        .collect();
    if !ephemeral.is_empty() {
        status.insert("ephemeralContainerStatuses".into(), ephemeral.into());
    }
    status.insert("qosClass".into(), qos::class(&state.pod).as_str().into());
    status
}

/// One entry of `containerStatuses` or `initContainerStatuses`.
fn container(state: &PodState, spec: &Container, is_init: bool) -> Value {
    let last = state.last_run(&spec.name);
    let told = told(&state.pod).find(|s| s.name == spec.name);
    if let (None, Some(told), true) = (last, told, state.is_ending()) {
        // The runtime has forgotten a pod that had ended; the API has not.
        if let Some(kept) = keep(told) {
            return kept;
        }
    }
    let memory = state.memory.get(&spec.name);
    let waiting = memory.and_then(|memory| memory.waiting.as_ref());
    let (current, previous) = match last {
        Some(Run { state: RunState::Running { started_at }, .. }) => {
            let running = json!({"running": {"startedAt": format_seconds(*started_at)}});
            (running, state.previous_run(&spec.name))
        }
        Some(run @ Run { state: RunState::Exited(exit), .. }) => {
            match waiting.filter(|_| restarts_after(state, spec, exit) && !state.is_ending()) {
                Some(waiting) => (wait(&waiting.reason, &waiting.message), Some(run)),
                None => (terminated(run, exit), state.previous_run(&spec.name)),
            }
        }
        _ => {
            let default = match !is_init && state.pod.spec.init_containers.is_empty() {
                true => "ContainerCreating",
                false => "PodInitializing",
            };
            let current = match waiting {
                Some(waiting) => wait(&waiting.reason, &waiting.message),
                None => wait(default, ""),
            };
            (current, state.previous_run(&spec.name))
        }
    };
    let last_state = match previous.map(|run| (run, &run.state)) {
        Some((run, RunState::Exited(exit))) => terminated(run, exit),
        _ => json!({}),
    };
    let ready = match is_init && !is_sidecar(spec) {
        true => last.is_some_and(|run| matches!(&run.state, RunState::Exited(e) if e.code == 0)),
        false => state.is_ready(spec),
    };
    let started = match is_init && !is_sidecar(spec) {
        true => state.is_running(&spec.name),
        false => state.is_started(spec),
    };
    let attempt = match last {
        Some(run) => run.attempt,
        None => state.next_attempt(&spec.name),
    };
    let mut status = json!({
        "name": spec.name,
        "state": current,
        "lastState": last_state,
        "ready": ready,
        "restartCount": attempt,
        "image": last.map_or(&spec.image, |run| &run.image),
        "imageID": last.map_or("", |run| &run.image_id),
        "started": started,
    });
    if let Some(run) = last
        && let Some(id) = &run.id
    {
        status["containerID"] = format!("skiff://{id}").into();
        // Upstream's gate is off by default: who does not ask for a signal is told of none.
        if let (Some(_), Some(signal)) = (&spec.lifecycle.stop_signal, run.stop_signal) {
            status["stopSignal"] = security::signal_name(signal).into();
        }
    }
    if let Some(run) = last {
        let granted = state.granted(spec);
        let is_running = matches!(run.state, RunState::Running { .. });
        let has = run.resources.as_ref().filter(|_| is_running).unwrap_or(granted);
        status["resources"] = resize::value(has);
        if !granted.requests.is_empty() {
            status["allocatedResources"] = json!(granted.requests);
        }
    }
    if last.is_some_and(|run| run.id.is_some()) && !spec.volume_mounts.is_empty() {
        let mounts = spec.volume_mounts.iter().map(|mount| mounted(&state.pod, mount));
        status["volumeMounts"] = mounts.collect::<Vec<_>>().into();
    }
    if let Some(user) = last.and_then(|run| run.user.as_ref()) {
        let others = user.groups.iter().filter(|group| **group != user.gid);
        let groups: Vec<u32> = std::iter::once(user.gid).chain(others.copied()).collect();
        status["user"] =
            json!({"linux": {"uid": user.uid, "gid": user.gid, "supplementalGroups": groups}});
    }
    status
}

/// How a volume is mounted, which tells what became of `IfPossible`.
fn mounted(pod: &Pod, mount: &VolumeMount) -> Value {
    let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
    let mut told = json!({"name": mount.name, "mountPath": mount.mount_path});
    if mount.read_only || volume.is_some_and(is_never_written) {
        told["readOnly"] = true.into();
        let is_recursive = is_recursively_read_only(mount);
        told["recursiveReadOnly"] = if is_recursive { "Enabled" } else { "Disabled" }.into();
    }
    told
}

/// Whether a volume is read-only however it is mounted.
fn is_never_written(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.as_ref().is_some_and(|source| source.read_only)
        || volume.nfs.as_ref().is_some_and(|source| source.read_only)
        || volume.csi.as_ref().is_some_and(|source| source.read_only)
}

fn wait(reason: &str, message: &str) -> Value {
    match message {
        "" => json!({"waiting": {"reason": reason}}),
        message => json!({"waiting": {"reason": reason, "message": message}}),
    }
}

fn terminated(run: &Run, exit: &Exit) -> Value {
    let mut state = json!({
        "exitCode": exit.code,
        "reason": exit.reason,
        "startedAt": format_seconds(exit.started_at),
        "finishedAt": format_seconds(exit.finished_at),
    });
    if !exit.message.is_empty() {
        state["message"] = exit.message.as_str().into();
    }
    if let Some(id) = &run.id {
        state["containerID"] = format!("skiff://{id}").into();
    }
    json!({"terminated": state})
}

/// What the API already says of a container that ended for good.
fn keep(told: &api_types::core::ContainerStatus) -> Option<Value> {
    let ended = told.state.terminated.as_ref()?;
    Some(json!({
        "name": told.name,
        "state": {"terminated": {
            "exitCode": ended.exit_code,
            "reason": ended.reason,
            "message": ended.message,
            "startedAt": ended.started_at,
            "finishedAt": ended.finished_at,
            "containerID": ended.container_id,
        }},
        "lastState": {},
        "ready": told.ready,
        "restartCount": told.restart_count,
        "image": told.image,
        "imageID": told.image_id,
        "containerID": told.container_id,
        "started": false,
    }))
}

/// Upstream's `getPhase`, over the statuses just made.
fn phase(state: &PodState, init: &[Value], mains: &[Value]) -> &'static str {
    if let Some(terminal) = &state.terminal {
        return terminal.phase;
    }
    let code = |s: &Value| {
        let ended = s["state"].get("terminated").or_else(|| s["lastState"].get("terminated"))?;
        ended["exitCode"].as_i64()
    };
    let is_running = |s: &Value| s["state"].get("running").is_some();
    if state.has_stopped() {
        // Nothing runs and nothing will: the API wants a word for it.
        let succeeded =
            mains.iter().all(|s| code(s) == Some(0) && s["state"].get("terminated").is_some());
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    // What has ended for good is an outcome, told above: the others run again.
    for (spec, status) in state.pod.spec.init_containers.iter().zip(init) {
        if is_sidecar(spec) {
            continue;
        }
        match code(status) {
            Some(0) => {}
            _ if mains.iter().any(|s| is_running(s) || code(s).is_some()) => {}
            _ => return "Pending",
        }
    }
    let running = mains.iter().filter(|s| is_running(s)).count();
    let stopped = mains.iter().filter(|s| !is_running(s) && code(s).is_some()).count();
    match running + stopped < mains.len() {
        true => "Pending",
        false => "Running",
    }
}

fn conditions(
    state: &PodState,
    phase: &str,
    init: &[Value],
    mains: &[Value],
    known: &[Condition],
    now: Timestamp,
) -> Vec<Value> {
    let names = |specs: &[&Value], bad: fn(&Value) -> bool| -> Vec<String> {
        let bad = specs.iter().filter(|s| bad(s));
        bad.filter_map(|s| s["name"].as_str().map(str::to_owned)).collect()
    };
    let list = |names: &[String]| format!("[{}]", names.join(" "));

    let has_network = state.ready_sandbox().is_some() && !state.pod_ips.is_empty();
    let sandbox = Verdict::of(has_network);

    let init_specs = state.pod.spec.init_containers.iter();
    let init_refs: Vec<&Value> = init_specs
        .zip(init)
        // A sidecar's part in initialization is over once it has started.
        .filter(|(spec, s)| match is_sidecar(spec) {
            true => s["started"] == false,
            false => s["ready"] == false,
        })
        .map(|(_, status)| status)
        .collect();
    let any_main = mains.iter().any(|s| s["containerID"].is_string());
    let incomplete = if any_main { Vec::new() } else { names(&init_refs, |_| true) };
    let initialized = match (phase, incomplete.is_empty()) {
        ("Succeeded", _) => Verdict::why(true, "PodCompleted", ""),
        (_, true) => Verdict::of(true),
        (_, false) => Verdict::why(
            false,
            "ContainersNotInitialized",
            &format!("containers with incomplete status: {}", list(&incomplete)),
        ),
    };

    let sidecars = state.pod.spec.init_containers.iter().zip(init).filter(|(c, _)| is_sidecar(c));
    let serving: Vec<&Value> = mains.iter().chain(sidecars.map(|(_, status)| status)).collect();
    let unready = names(&serving, |s| s["ready"] == false);
    let containers_ready = match phase {
        "Succeeded" => Verdict::why(false, "PodCompleted", ""),
        "Failed" => Verdict::why(false, "PodFailed", ""),
        _ if unready.is_empty() => Verdict::of(true),
        _ => Verdict::why(
            false,
            "ContainersNotReady",
            &format!("containers with unready status: {}", list(&unready)),
        ),
    };
    let mut gates = Vec::new();
    for gate in &state.pod.spec.readiness_gates {
        let name = &gate.condition_type;
        match state.pod.status.condition(name) {
            None => gates.push(format!(
                "corresponding condition of pod readiness gate \"{name}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => gates.push(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    let ready = match (containers_ready.status, gates.is_empty()) {
        ("True", false) => Verdict::why(false, "ReadinessGatesNotReady", &gates.join(", ")),
        _ => containers_ready.clone(),
    };

    let verdicts = [sandbox, initialized, ready, containers_ready, Verdict::of(true)];
    let disruption = state.terminal.as_ref().filter(|terminal| terminal.is_disruption());
    let disruption = disruption
        .map(|terminal| (DISRUPTED, Verdict::why(true, "TerminationByKubelet", &terminal.message)));
    let resizing = resize_verdicts(state).into_iter().chain(disruption);
    OWN_CONDITIONS
        .into_iter()
        .zip(verdicts)
        .chain(resizing)
        .map(|(name, verdict)| {
            let before = known.iter().find(|c| c.r#type == name && c.status == verdict.status);
            let since = before.and_then(|condition| condition.last_transition_time.clone());
            let mut condition = json!({
                "type": name,
                "status": verdict.status,
                "lastProbeTime": null,
                "lastTransitionTime": since.unwrap_or_else(|| format_seconds(now)),
            });
            if state.pod.metadata.generation > 0 {
                condition["observedGeneration"] = state.pod.metadata.generation.into();
            }
            for (key, text) in [("reason", verdict.reason), ("message", verdict.message)] {
                if !text.is_empty() {
                    condition[key] = text.into();
                }
            }
            condition
        })
        .collect()
}

/// What is told of containers that ask for another share than they have.
fn resize_verdicts(state: &PodState) -> Vec<(&'static str, Verdict)> {
    let mut verdicts = Vec::new();
    if state.is_ending() {
        return verdicts;
    }
    if let Some(pending) = &state.resize_pending {
        let verdict = Verdict::why(true, &pending.reason, &pending.message);
        verdicts.push(("PodResizePending", verdict));
    }
    let due = |c: &Container| state.is_resized(c, state.last_run(&c.name)?);
    if resize::resizable(&state.pod).any(|c| due(c).is_some()) {
        let reason = if state.resize_error.is_empty() { "" } else { "Error" };
        verdicts.push(("PodResizeInProgress", Verdict::why(true, reason, &state.resize_error)));
    }
    verdicts
}

#[derive(Clone)]
struct Verdict {
    status: &'static str,
    reason: String,
    message: String,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        Self::why(holds, "", "")
    }

    fn why(holds: bool, reason: &str, message: &str) -> Self {
        let status = if holds { "True" } else { "False" };
        Self { status, reason: reason.into(), message: message.into() }
    }
}

/// The strategic merge patch that turns the status `old` into `new`, and
/// `None` where nothing changes. Lists of others' items (foreign conditions)
/// are left alone; the uid makes it miss a new pod of the same name.
pub(crate) fn patch(
    uid: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Option<Value> {
    let mut changes = Map::new();
    for (key, value) in new {
        if key == "conditions" {
            let before = old.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let mut changed: Vec<Value> = value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|condition| changed_condition(before, condition))
                .collect();
            let there = |list: &[Value], name: &str| list.iter().any(|c| c["type"] == name);
            let now = value.as_array().map_or(&[][..], Vec::as_slice);
            let over = PASSING_CONDITIONS.iter().filter(|n| there(before, n) && !there(now, n));
            changed.extend(over.map(|name| json!({"$patch": "delete", "type": name})));
            if !changed.is_empty() {
                changes.insert(key.clone(), changed.into());
            }
        } else if old.get(key) != Some(value) {
            let mut value = value.clone();
            // These two merge by address, so an address that went away must
            // be said to be replaced.
            if let (true, Some(list)) =
                (key.ends_with("IPs") && old.contains_key(key), value.as_array_mut())
            {
                list.insert(0, json!({"$patch": "replace"}));
            }
            changes.insert(key.clone(), value);
        }
    }
    for key in OWN_FIELDS {
        if old.get(key).is_some_and(|value| !value.is_null()) && !new.contains_key(key) {
            changes.insert(key.into(), Value::Null);
        }
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

fn changed_condition(before: &[Value], condition: &Value) -> Option<Value> {
    const SAID: [&str; 4] = ["status", "reason", "message", "observedGeneration"];
    let old = before.iter().find(|old| old["type"] == condition["type"]);
    let Some(old) = old else { return Some(condition.clone()) };
    if SAID.iter().all(|key| old.get(*key).unwrap_or(&Value::Null) == &condition[*key]) {
        return None;
    }
    let mut condition = condition.clone();
    for key in ["reason", "message"] {
        if condition.get(key).is_none() && old.get(key).is_some() {
            condition[key] = Value::Null;
        }
    }
    Some(condition)
}

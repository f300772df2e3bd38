//! What the API is told in each situation.

use api_types::core::Condition;
use serde_json::{Map, Value, json};

use super::{
    plan::outcome,
    plan_tests::{add, at, containers, exited, pod, running},
    status::{patch, status},
    view::{Deletion, Op, PodState, Step, Waiting},
};

/// `phase | container=state(reason) ready restarts, … | conditions that hold`.
fn told(state: &PodState) -> String {
    let status = status(state, &[], at(100));
    let mut parts = vec![status["phase"].as_str().expect("a text").to_owned()];
    let mut list = Vec::new();
    for field in ["initContainerStatuses", "containerStatuses"] {
        for c in status.get(field).and_then(Value::as_array).into_iter().flatten() {
            let (kind, detail) = c["state"].as_object().expect("a map").iter().next().expect("one");
            let reason = detail["reason"].as_str().map_or(String::new(), |r| format!("({r})"));
            let ready = if c["ready"] == true { " ready" } else { "" };
            let last = c["lastState"]["terminated"]["exitCode"].as_i64();
            let last = last.map_or(String::new(), |code| format!(" last={code}"));
            list.push(format!(
                "{}={kind}{reason}{ready} {}{last}",
                c["name"].as_str().expect("a name"),
                c["restartCount"]
            ));
        }
    }
    parts.push(list.join(", "));
    let conditions = status["conditions"].as_array().expect("a list").iter();
    let holding = conditions.filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str());
    parts.push(holding.collect::<Vec<_>>().join(" "));
    parts.join(" | ")
}

#[test]
fn from_creation_to_running() {
    let mut state = pod(containers("Always", &["a"]));
    state.sandboxes.clear();
    assert_eq!(told(&state), "Pending | a=waiting(ContainerCreating) 0 | Initialized PodScheduled");
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, running());
    assert_eq!(
        told(&state),
        "Running | a=running ready 0 | PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"
    );
    let status = status(&state, &[], at(0));
    assert_eq!(status["podIPs"], json!([{"ip": "10.42.0.2"}]));
    assert_eq!(status["hostIP"], "10.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["containerStatuses"][0]["containerID"], "skiff://a0");
}

#[test]
fn mounts_tell_whether_they_can_be_written() {
    let mut spec = containers("Always", &["a"]);
    spec["volumes"] = json!([{"name": "d", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "p", "readOnly": true}}]);
    spec["containers"][0]["volumeMounts"] = json!([
        {"name": "d", "mountPath": "/w"},
        {"name": "d", "mountPath": "/r", "readOnly": true},
        {"name": "d", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "c", "mountPath": "/c"}, {"name": "p", "mountPath": "/p"}]);
    let mut state = pod(spec);
    let mounts = |state: &PodState| {
        status(state, &[], at(0))["containerStatuses"][0]["volumeMounts"].clone()
    };
    assert_eq!(mounts(&state), Value::Null, "nothing is mounted yet");
    add(&mut state, "a", 0, running());
    assert_eq!(
        mounts(&state),
        json!([
            {"name": "d", "mountPath": "/w"},
            {"name": "d", "mountPath": "/r", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "d", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "Enabled"},
            {"name": "c", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "p", "mountPath": "/p", "readOnly": true, "recursiveReadOnly": "Disabled"},
        ])
    );
}

#[test]
fn ephemeral_containers_are_told_apart() {
    let mut spec = containers("Always", &["a"]);
    spec["ephemeralContainers"] = json!([{"name": "debugger", "image": "i"}]);
    let mut state = pod(spec);
    let one = |state: &PodState| status(state, &[], at(0))["ephemeralContainerStatuses"][0].clone();
    assert_eq!(one(&state)["state"], json!({"waiting": {"reason": "ContainerCreating"}}));
    add(&mut state, "debugger", 0, running());
    let told = one(&state);
    assert_eq!(told["ready"], false, "{told}");
    assert_eq!(told["state"]["running"]["startedAt"], "2023-11-14T22:13:20Z");
    let pod = status(&state, &[], at(0));
    assert_eq!(pod["phase"], "Pending", "the pod's own container has not run");
    state.runs[0].state = exited(3, 0, 1);
    assert_eq!(one(&state)["state"]["terminated"]["exitCode"], 3);
}

#[test]
fn init_containers_first() {
    let spec = json!({"restartPolicy": "Always", "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}]});
    let mut state = pod(spec);
    add(&mut state, "i", 0, running());
    assert_eq!(
        told(&state),
        "Pending | i=running 0, a=waiting(PodInitializing) 0 | PodReadyToStartContainers PodScheduled"
    );
    state.runs[0].state = exited(0, 0, 1);
    assert_eq!(
        told(&state),
        "Pending | i=terminated(Completed) ready 0, a=waiting(PodInitializing) 0 | PodReadyToStartContainers Initialized PodScheduled"
    );
}

#[test]
fn a_crash_loop() {
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, exited(1, 0, 1));
    add(&mut state, "a", 1, exited(3, 2, 3));
    assert!(
        told(&state).starts_with("Running | a=terminated(Error) 1 last=1 |"),
        "{}",
        told(&state)
    );
    state.remember("a").waiting =
        Some(Waiting { reason: "CrashLoopBackOff".into(), message: "back-off".into() });
    assert!(
        told(&state).starts_with("Running | a=waiting(CrashLoopBackOff) 1 last=3 |"),
        "{}",
        told(&state)
    );
}

#[test]
fn a_missing_image() {
    let mut state = pod(containers("Always", &["a", "b"]));
    add(&mut state, "a", 0, running());
    state.remember("b").waiting =
        Some(Waiting { reason: "ImagePullBackOff".into(), message: "m".into() });
    assert_eq!(
        told(&state),
        "Pending | a=running ready 0, b=waiting(ImagePullBackOff) 0 | PodReadyToStartContainers Initialized PodScheduled"
    );
}

#[test]
fn ends() {
    for (code, phase, state_text) in
        [(0, "Succeeded", "terminated(Completed)"), (1, "Failed", "terminated(Error)")]
    {
        let mut state = pod(containers("Never", &["a"]));
        add(&mut state, "a", 0, exited(code, 0, 1));
        state.terminal = outcome(&state, at(1));
        assert!(
            told(&state).starts_with(&format!("{phase} | a={state_text} 0 |")),
            "{}",
            told(&state)
        );
    }
    // Deleted while running: the word comes once nothing runs.
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, running());
    state.deletion = Some(Deletion { seen_at: at(0), grace: std::time::Duration::from_secs(1) });
    assert!(told(&state).starts_with("Running |"));
    state.runs[0].state = exited(143, 0, 1);
    assert!(told(&state).starts_with("Failed | a=terminated(Error) 0 |"), "{}", told(&state));
    state.remember("a").op = Some(Op::Starting);
    assert!(told(&state).starts_with("Running |"), "{}", told(&state));
}

#[test]
fn the_last_status_tells_of_runs_whose_records_are_gone() {
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 2, exited(0, 0, 1));
    state.deletion = Some(Deletion { seen_at: at(0), grace: std::time::Duration::from_secs(1) });
    let ended = told(&state);
    assert!(ended.starts_with("Succeeded | a=terminated(Completed) 2 |"), "{ended}");
    state.clean = Step::Done;
    state.observe(Vec::new());
    assert_eq!(told(&state), ended);
    // The next process has only what the API was told.
    let mut pod = (*state.pod).clone();
    let known = status(&state, &[], at(2));
    pod.status = serde_json::from_value(known.into()).expect("a status");
    state.pod = std::sync::Arc::new(pod);
    (state.clean, state.runs) = (Step::Todo, Vec::new());
    let ended = told(&state);
    assert!(ended.starts_with("Succeeded | a=terminated(Completed) 2 |"), "{ended}");
}

#[test]
fn readiness_gates_and_unready_containers_are_named() {
    let mut spec = containers("Always", &["a"]);
    spec["readinessGates"] = json!([{"conditionType": "x.y/z"}]);
    let mut state = pod(spec);
    let ready = |state: &PodState| {
        let status = status(state, &[], at(0));
        let conditions = status["conditions"].as_array().expect("a list");
        let ready = conditions.iter().find(|c| c["type"] == "Ready").expect("there");
        format!(
            "{} {}",
            ready["reason"].as_str().expect("text"),
            ready["message"].as_str().expect("text")
        )
    };
    assert_eq!(ready(&state), "ContainersNotReady containers with unready status: [a]");
    add(&mut state, "a", 0, running());
    assert_eq!(
        ready(&state),
        "ReadinessGatesNotReady corresponding condition of pod readiness gate \"x.y/z\" does not exist."
    );
}

#[test]
fn a_patch_holds_what_changed_and_times_stay() {
    let mut state = pod(containers("Always", &["a"]));
    let first = status(&state, &[], at(0));
    let known: Vec<Condition> =
        serde_json::from_value(first["conditions"].clone()).expect("conditions");
    assert_eq!(patch("u", &first, &status(&state, &known, at(50))), None);
    add(&mut state, "a", 0, running());
    let second = status(&state, &known, at(60));
    let patch = patch("u", &first, &second).expect("changed");
    let keys: Vec<&String> = patch["status"].as_object().expect("a map").keys().collect();
    assert_eq!(keys, ["conditions", "containerStatuses", "phase"]);
    let conditions = patch["status"]["conditions"].as_array().expect("a list");
    assert_eq!(conditions.len(), 2, "Ready and ContainersReady");
    assert_eq!(conditions[0]["reason"], Value::Null, "the old reason goes");
    assert_eq!(patch["metadata"]["uid"], "u");
    let known: Vec<Condition> = serde_json::from_value(second["conditions"].clone()).expect("ok");
    let initialized = known.iter().find(|c| c.r#type == "Initialized").expect("there");
    assert_eq!(initialized.last_transition_time.as_deref(), Some("2023-11-14T22:13:20Z"));
}

#[test]
fn addresses_that_change_are_replaced() {
    let state = pod(containers("Always", &["a"]));
    let mut old: Map<String, Value> = status(&state, &[], at(0));
    old.insert("podIPs".into(), json!([{"ip": "10.42.0.9"}]));
    let patch = patch("u", &old, &status(&state, &[], at(0))).expect("changed");
    assert_eq!(patch["status"]["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.42.0.2"}]));
}

//! Stories of one pod: what is there, and what is done about it.

use std::{sync::Arc, time::Duration};

use api_types::core::Pod;
use jiff::{SignedDuration, Timestamp};
use node_runtime::{ContainerId, SandboxId};
use serde_json::{Value, json};

use super::{
    plan::{Action, backoff_next, outcome, plan},
    view::{
        Condemned, Deletion, Exit, Op, PodState, Run, RunState, SandboxView, Step, Waiting, grace,
    },
};

/// Seconds after some moment.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

/// A pod that is set up, with nothing run yet.
pub(super) fn pod(spec: Value) -> PodState {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": spec,
    }))
    .expect("a pod");
    let mut state = PodState::new(Arc::new(pod), vec!["10.0.0.1".parse().expect("ip")], at(0));
    state.setup = Step::Done;
    state.pod_ips = vec!["10.42.0.2".parse().expect("ip")];
    state.sandboxes.push(SandboxView {
        id: SandboxId::new("s0"),
        attempt: 0,
        ready: true,
        resources: Default::default(),
        netns: None,
    });
    state
}

pub(super) fn containers(policy: &str, names: &[&str]) -> Value {
    let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    json!({"restartPolicy": policy, "containers": list})
}

pub(super) fn add(state: &mut PodState, name: &str, attempt: u32, run: RunState) {
    state.runs.push(Run {
        id: Some(ContainerId::new(format!("{name}{attempt}"))),
        sandbox: state.sandboxes.last().map(|s| s.id.clone()),
        name: name.into(),
        attempt,
        state: run,
        image: "i".into(),
        image_id: "id".into(),
        log_path: Default::default(),
        termination_log: Default::default(),
        stop_signal: None,
        user: None,
        resources: None,
    });
}

pub(super) fn running() -> RunState {
    RunState::Running { started_at: at(0) }
}

pub(super) fn exited(code: i32, started: i64, finished: i64) -> RunState {
    RunState::Exited(Exit {
        code,
        reason: if code == 0 { "Completed" } else { "Error" },
        message: String::new(),
        started_at: at(started),
        finished_at: at(finished),
    })
}

/// One line an action, and when it looks again.
fn told(state: &PodState, second: i64) -> String {
    let plan = plan(state, at(second));
    let mut lines: Vec<String> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::Setup { attempt } => format!("setup {attempt}"),
            Action::Start { container, attempt } => format!("start {container} {attempt}"),
            Action::Wait { container, waiting } => format!("wait {container} {}", waiting.message),
            Action::Stop { id, grace, message, .. } => {
                format!("stop {id} {}s {message}", grace.as_secs())
            }
            Action::Resize => "resize".into(),
            Action::Abort { container } => format!("abort {container}"),
            Action::Remove { id } => format!("remove {id}"),
            Action::StopSandbox => "stop sandbox".into(),
            Action::Unmount => "unmount".into(),
            Action::Clean => "clean".into(),
            Action::Finish => "finish".into(),
        })
        .collect();
    if let Some(wake) = plan.wake_at {
        lines.push(format!("look at {}", wake.duration_since(at(0)).as_secs()));
    }
    lines.join("\n")
}

#[track_caller]
fn check(state: &PodState, second: i64, expected: &[&str]) {
    assert_eq!(told(state, second), expected.join("\n"));
}

#[test]
fn a_new_pod_is_set_up_and_its_containers_start_one_after_the_other() {
    let mut state = pod(containers("Always", &["a", "b"]));
    state.sandboxes.clear();
    state.setup = Step::Todo;
    check(&state, 0, &["setup 0"]);
    state.setup = Step::InFlight(0);
    check(&state, 0, &[]);
    let mut state = pod(containers("Always", &["a", "b"]));
    check(&state, 0, &["start a 0"]);
    state.remember("a").op = Some(Op::Starting);
    check(&state, 0, &[]);
    state.remember("a").op = None;
    add(&mut state, "a", 0, running());
    check(&state, 0, &["start b 0"]);
    add(&mut state, "b", 0, running());
    check(&state, 0, &[]);
}

#[test]
fn a_failed_step_is_tried_again_later() {
    let mut state = pod(containers("Always", &["a"]));
    state.setup = Step::InFlight(2).failed(at(0));
    check(&state, 1, &["look at 4"]);
    check(&state, 4, &["setup 0"]);
    state.setup = Step::Done;
    state.remember("a").retry_at = Some(at(20));
    check(&state, 10, &["look at 20"]);
    check(&state, 20, &["start a 0"]);
}

#[test]
fn a_crash_loop_backs_off() {
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, exited(1, 0, 1));
    check(&state, 1, &["start a 1"]);
    state.remember("a").backoff = Duration::from_secs(10);
    add(&mut state, "a", 1, exited(1, 2, 3));
    let text = "wait a back-off 10s restarting failed container=a pod=p_ns(u)";
    check(&state, 4, &[text, "look at 13"]);
    state.remember("a").waiting = Some(Waiting {
        reason: "CrashLoopBackOff".into(),
        message: "back-off 10s restarting failed container=a pod=p_ns(u)".into(),
    });
    check(&state, 5, &["look at 13"]);
    check(&state, 13, &["start a 2"]);
    // A long run forgets it all.
    state.runs.clear();
    add(&mut state, "a", 2, exited(1, 20, 700));
    check(&state, 700, &["start a 3"]);
}

#[test]
fn a_clock_that_is_set_neither_prolongs_nor_ends_a_wait() {
    const YEARS: i64 = 100_000_000;
    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, exited(1, 0, 100));
    state.remember("a").backoff = Duration::from_secs(10);
    // The end is in the runtime's records, as the clock was then.
    check(&state, 105 - YEARS, &["start a 1"]);

    let mut state = pod(containers("Always", &["a"]));
    state.setup = Step::Failed { failures: 1, retry_at: at(103) };
    state.remember("a").retry_at = Some(at(107));
    for set_by in [YEARS, -YEARS] {
        let mut set = state.clone();
        set.shift(SignedDuration::from_secs(set_by));
        check(&set, 101 + set_by, &[&format!("look at {}", 103 + set_by)]);
        set.setup = Step::Done;
        check(&set, 105 + set_by, &[&format!("look at {}", 107 + set_by)]);
    }

    let mut state = pod(containers("Always", &["a"]));
    add(&mut state, "a", 0, running());
    state.deletion = Some(Deletion { seen_at: at(100), grace: Duration::from_secs(30) });
    state.shift(SignedDuration::from_secs(-YEARS));
    check(&state, 110 - YEARS, &["stop a0 20s Stopping container a"]);
}

/// Any number of seconds is valid in the API.
#[test]
fn grace_without_end_is_a_long_one() {
    let spec = |policy: &str| {
        let mut spec = containers(policy, &["a"]);
        spec["terminationGracePeriodSeconds"] = i64::MAX.into();
        spec
    };
    let mut state = pod(spec("Always"));
    add(&mut state, "a", 0, running());
    state.deletion = Some(Deletion { seen_at: at(100), grace: grace(i64::MAX) });
    check(&state, 110, &["stop a0 3153599990s Stopping container a"]);
    state.deletion = None;
    state.remember("a").condemned =
        Some(Condemned { id: ContainerId::new("a0"), message: "unhealthy".into(), grace: None });
    check(&state, 110, &["stop a0 3153600000s unhealthy"]);
    assert_eq!([-1, 0, 1, 30].map(|seconds| grace(seconds).as_secs()), [1, 1, 1, 30]);
}

#[test]
fn delays_double_up_to_five_minutes() {
    let RunState::Exited(exit) = exited(1, 0, 1) else { unreachable!() };
    let mut delay = backoff_next(Duration::ZERO, None);
    let mut delays = Vec::new();
    for _ in 0..7 {
        delay = backoff_next(delay, Some(&exit));
        delays.push(delay.as_secs());
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn restart_policies() {
    for (policy, code, expected) in [
        ("Always", 0, "start a 1"),
        ("OnFailure", 0, ""),
        ("OnFailure", 1, "start a 1"),
        ("Never", 1, ""),
    ] {
        let mut state = pod(containers(policy, &["a"]));
        add(&mut state, "a", 0, exited(code, 0, 1));
        assert_eq!(told(&state, 1), expected, "{policy} {code}");
        assert_eq!(outcome(&state, at(1)).is_some(), expected.is_empty());
    }
}

#[test]
fn rules_of_a_container_come_before_its_policy() {
    let rule = |action: &str, operator: &str| json!([{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]);
    for (policy, own, rules, code, expected) in [
        ("Never", Some("Always"), json!([]), 0, "start a 1"),
        ("Never", Some("OnFailure"), json!([]), 0, ""),
        ("Always", Some("Never"), json!([]), 1, ""),
        ("Always", Some("Never"), rule("Restart", "In"), 42, "start a 1"),
        ("Always", Some("Never"), rule("Restart", "In"), 1, ""),
        ("Never", Some("Never"), rule("Restart", "NotIn"), 1, "start a 1"),
        ("Never", None, rule("Restart", "NotIn"), 42, ""),
    ] {
        let mut spec = containers(policy, &["a"]);
        spec["containers"][0]["restartPolicy"] = json!(own);
        spec["containers"][0]["restartPolicyRules"] = rules;
        let mut state = pod(spec);
        add(&mut state, "a", 0, exited(code, 0, 1));
        assert_eq!(told(&state, 1), expected, "{policy} {own:?} {code}");
        assert_eq!(outcome(&state, at(1)).is_some(), expected.is_empty());
    }
}

#[test]
fn a_rule_restarts_the_whole_pod() {
    let mut spec = containers("Never", &["a", "b"]);
    spec["initContainers"] = json!([{"name": "i", "image": "i"}]);
    spec["containers"][1]["restartPolicyRules"] = json!([{"action": "RestartAllContainers",
        "exitCodes": {"operator": "In", "values": [88]}}]);
    let mut state = pod(spec);
    add(&mut state, "a", 0, running());
    add(&mut state, "b", 0, exited(88, 2, 9));
    add(&mut state, "i", 0, exited(0, 0, 1));
    let stop = "stop a0 30s Container a will be restarted with the whole pod";
    check(&state, 9, &[stop]);
    assert_eq!(outcome(&state, at(9)), None);
    state.runs[0].state = exited(137, 0, 12);
    check(&state, 12, &["start i 1"]);
    add(&mut state, "i", 1, exited(0, 12, 13));
    check(&state, 13, &["start a 1"]);
    add(&mut state, "a", 1, RunState::Running { started_at: at(13) });
    check(&state, 13, &["start b 1"]);
    add(&mut state, "b", 1, exited(0, 13, 14));
    state.runs.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
    check(&state, 14, &[]);
}

#[test]
fn ephemeral_containers_run_once_whatever_else_the_pod_does() {
    let spec = json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}],
        "ephemeralContainers": [{"name": "e", "image": "i"}]});
    let mut state = pod(spec);
    state.remember("i").op = Some(Op::Starting);
    check(&state, 0, &["start e 0"]);
    state.remember("e").op = Some(Op::Starting);
    state.remember("i").op = None;
    check(&state, 0, &["start i 0"]);
    state.remember("e").op = None;
    state.remember("e").retry_at = Some(at(10));
    add(&mut state, "i", 0, running());
    check(&state, 5, &["look at 10"]);
    add(&mut state, "e", 0, exited(1, 10, 11));
    check(&state, 20, &[]);
    state.deletion = Some(Deletion { seen_at: at(20), grace: Duration::from_secs(30) });
    state.runs[1].state = running();
    check(&state, 20, &["stop i0 30s Stopping container i", "stop e0 30s Stopping container e"]);
}

#[test]
fn init_containers_run_to_their_end_in_order() {
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}]});
    let mut state = pod(spec);
    check(&state, 0, &["start i1 0"]);
    add(&mut state, "i1", 0, running());
    check(&state, 0, &[]);
    state.runs.clear();
    add(&mut state, "i1", 0, exited(0, 0, 1));
    check(&state, 1, &["start i2 0"]);
    add(&mut state, "i2", 0, exited(2, 1, 2));
    check(&state, 2, &[]);
    assert_eq!(outcome(&state, at(2)).expect("failed").phase, "Failed");
    state.runs.pop();
    add(&mut state, "i2", 0, exited(0, 1, 2));
    check(&state, 2, &["start a 0"]);
}

#[test]
fn a_sidecar_starts_first_and_is_restarted_beside_the_others() {
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always",
            "startupProbe": {"tcpSocket": {"port": 1}}}],
        "containers": [{"name": "a", "image": "i"}]});
    let mut state = pod(spec);
    add(&mut state, "s", 0, running());
    check(&state, 0, &[]);
    let memory = state.remember("s");
    (memory.probed, memory.startup_ok) = (Some(ContainerId::new("s0")), true);
    check(&state, 0, &["start a 0"]);
    add(&mut state, "a", 0, running());
    state.runs[0].state = exited(0, 0, 1);
    check(&state, 1, &["start s 1"]);
}

#[test]
fn probes_and_new_images_restart_a_container() {
    let mut state = pod(containers("Always", &["a", "b"]));
    add(&mut state, "a", 0, running());
    add(&mut state, "b", 0, running());
    state.remember("a").condemned = Some(Condemned {
        id: ContainerId::new("a0"),
        message: "Container a failed liveness probe, will be restarted".into(),
        grace: Some(Duration::from_secs(5)),
    });
    state.runs[1].image = "old".into();
    check(
        &state,
        0,
        &[
            "stop a0 5s Container a failed liveness probe, will be restarted",
            "stop b0 30s Container b definition changed, will be restarted",
        ],
    );
}

#[test]
fn a_grant_reaches_the_cgroup_or_restarts_the_container() {
    let mut spec = containers("Always", &["a"]);
    spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    spec["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut state = pod(spec);
    add(&mut state, "a", 0, running());
    let has = |cpu: &str, memory: &str| {
        serde_json::from_value(json!({"limits": {"cpu": cpu, "memory": memory}})).expect("valid")
    };
    for (cpu, memory, expected) in [
        ("1", "1024Mi", ""),
        ("500m", "1Gi", "resize"),
        ("1", "2Gi", "stop a0 30s Container a resize requires restart"),
    ] {
        state.runs[0].resources = Some(has(cpu, memory));
        assert_eq!(told(&state, 0), expected, "{cpu} {memory}");
    }
    // What is not granted changes nothing.
    state.allocated.insert("a".into(), has("1", "2Gi"));
    assert_eq!(told(&state, 0), "");
    assert_eq!(state.effective().spec.containers[0].resources, has("1", "2Gi"));
}

#[test]
fn a_lost_sandbox_is_replaced() {
    let mut state = pod(containers("Always", &["a"]));
    state.sandboxes[0].ready = false;
    state.setup = Step::Todo;
    add(&mut state, "a", 0, exited(137, 0, 5));
    check(&state, 6, &["setup 1"]);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let spec = json!({"restartPolicy": "Always", "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}]});
    let mut state = pod(spec);
    add(&mut state, "i", 0, exited(0, 0, 1));
    add(&mut state, "a", 0, exited(137, 1, 5));
    state.sandboxes[0].ready = false;
    let id = SandboxId::new("s1");
    state.sandboxes.push(SandboxView { ready: true, attempt: 1, id, ..state.sandboxes[0].clone() });
    check(&state, 6, &["start i 1"]);
    add(&mut state, "i", 1, exited(0, 6, 7));
    state.runs.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
    check(&state, 7, &["start a 1"]);
}

#[test]
fn deletion_goes_step_by_step() {
    let mut state = pod(containers("Always", &["a", "b"]));
    add(&mut state, "a", 0, running());
    state.remember("b").op = Some(Op::Starting);
    state.deletion = Some(Deletion { seen_at: at(10), grace: Duration::from_secs(30) });
    check(&state, 10, &["abort b", "stop a0 30s Stopping container a"]);
    state.remember("b").op = None;
    state.remember("a").op = Some(Op::Stopping { id: ContainerId::new("a0"), deadline: at(40) });
    check(&state, 15, &[]);
    // Somebody is in a hurry.
    state.deletion = Some(Deletion { seen_at: at(15), grace: Duration::from_secs(2) });
    check(&state, 15, &["stop a0 2s Stopping container a"]);
    state.remember("a").op = None;
    state.runs[0].state = exited(143, 0, 16);
    check(&state, 16, &["stop sandbox"]);
    state.stop_sandbox = Step::Done;
    check(&state, 16, &["clean"]);
    state.clean = Step::Done;
    check(&state, 16, &["finish"]);
    state.finish = Step::Done;
    check(&state, 16, &[]);
}

#[test]
fn sidecars_end_last_and_backwards() {
    let spec = json!({"restartPolicy": "Always",
        "initContainers": [{"name": "s1", "image": "i", "restartPolicy": "Always"},
            {"name": "s2", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "i"}]});
    let mut state = pod(spec);
    for name in ["s1", "s2", "a"] {
        add(&mut state, name, 0, running());
    }
    state.deletion = Some(Deletion { seen_at: at(0), grace: Duration::from_secs(30) });
    check(&state, 0, &["stop a0 30s Stopping container a"]);
    state.runs[2].state = exited(0, 0, 5);
    check(&state, 5, &["stop s20 25s Stopping container s2"]);
    state.runs[1].state = exited(0, 0, 6);
    check(&state, 6, &["stop s10 24s Stopping container s1"]);
}

#[test]
fn a_pod_that_has_ended_keeps_its_logs_until_it_is_deleted() {
    let mut state = pod(containers("Never", &["a"]));
    add(&mut state, "a", 0, exited(0, 0, 1));
    state.terminal = outcome(&state, at(1));
    check(&state, 1, &["stop sandbox"]);
    state.stop_sandbox = Step::Done;
    check(&state, 1, &["unmount"]);
    state.unmount = Step::InFlight(0);
    state.deletion = Some(Deletion { seen_at: at(1), grace: Duration::from_secs(30) });
    check(&state, 1, &[]);
    state.unmount = Step::Done;
    check(&state, 1, &["clean"]);
    state.deletion = None;
    check(&state, 1, &[]);
}

#[test]
fn a_deadline_ends_the_pod() {
    let mut spec = containers("Always", &["a"]);
    spec["activeDeadlineSeconds"] = 60.into();
    let mut state = pod(spec);
    add(&mut state, "a", 0, running());
    check(&state, 1, &["look at 60"]);
    let terminal = outcome(&state, at(60)).expect("over");
    assert_eq!((terminal.phase, terminal.reason.as_str()), ("Failed", "DeadlineExceeded"));
}

#[test]
fn only_the_last_dead_run_is_kept() {
    let mut state = pod(containers("Always", &["a"]));
    for attempt in 0..3 {
        add(&mut state, "a", attempt, exited(1, 0, 1));
    }
    add(&mut state, "a", 3, running());
    check(&state, 2, &["remove a1", "remove a0"]);
}

#[test]
fn what_the_api_saw_run_counts_after_the_runtime_lost_it() {
    let mut state = pod(containers("Always", &["a"]));
    let mut pod = (*state.pod).clone();
    pod.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "a", "restartCount": 4, "state": {"running": {}}}]}))
    .expect("a status");
    state = PodState {
        setup: Step::Done,
        sandboxes: state.sandboxes,
        ..PodState::new(Arc::new(pod), Vec::new(), at(0))
    };
    check(&state, 0, &["start a 5"]);
    assert_eq!(SignedDuration::from_secs(0), at(0).duration_since(state.started_at));
}

#[test]
fn earlier_runs_are_forgotten_but_for_those_that_are_kept() {
    let mut state = pod(containers("Always", &["a"]));
    for attempt in 0..3 {
        add(&mut state, "a", attempt, exited(1, 0, i64::from(attempt)));
    }
    add(&mut state, "a", 3, RunState::Running { started_at: at(3) });
    let removed = |state: &PodState, second| {
        let plan = plan(state, at(second));
        let ids = plan.actions.iter().filter_map(|action| match action {
            Action::Remove { id } => Some(id.to_string()),
            _ => None,
        });
        (ids.collect::<Vec<_>>().join(" "), plan.wake_at)
    };
    assert_eq!(removed(&state, 10), ("a1 a0".into(), None));
    state.keeps.per_container = Some(2);
    assert_eq!(removed(&state, 10), ("a0".into(), None));
    state.keeps.per_container = Some(0);
    assert_eq!(removed(&state, 10), ("a2 a1 a0".into(), None));
    state.keeps.age_min = Duration::from_secs(10);
    assert_eq!(removed(&state, 11), ("a1 a0".into(), Some(at(12))), "the last is too young");
    state.keeps.per_container = None;
    assert_eq!(removed(&state, 100), (String::new(), None));
}

#[test]
fn an_ended_pod_is_forgotten_once_the_api_knows_how_it_ended() {
    let mut state = pod(containers("Never", &["a"]));
    add(&mut state, "a", 0, exited(3, 0, 1));
    state.terminal = outcome(&state, at(1));
    (state.stop_sandbox, state.unmount) = (Step::Done, Step::Done);
    assert_eq!(told(&state, 10), "");
    state.forget = true;
    assert_eq!(told(&state, 10), "", "nobody knows yet");
    let mut known = (*state.pod).clone();
    known.status.container_statuses = serde_json::from_value(json!([
        {"name": "a", "state": {"terminated": {"exitCode": 3}}}]))
    .expect("statuses");
    state.pod = Arc::new(known);
    assert_eq!(told(&state, 10), "remove a0");
}

//! Job plans as tables.

use std::sync::Arc;

use api_object::LabelSelector;
use client::Cached;
use serde_json::{Value, json};
use testkit::{Build, job, pod};

use super::{
    plan::{NewPod, Plan, plan},
    pods::{FINALIZER, INDEX, INDEX_FAILURES, PodRef},
    view::View,
};
use crate::cached::{Job, Pod};

const NOW: i64 = 1_700_000_000;

fn time(before_now: i64) -> Value {
    let at = jiff::Timestamp::from_second(NOW - before_now).expect("in range");
    json!(api_object::time::format_seconds(at))
}

pub(super) fn decide(job: &Build, pods: &[Build]) -> Plan {
    decide_with(job, pods, &[])
}

/// The same where the pods of these names are deleted, and the cache does not show it yet.
pub(super) fn decide_with(job: &Build, pods: &[Build], deleted: &[&str]) -> Plan {
    plan(&seen(job, pods, deleted))
}

pub(super) fn seen(job: &Build, pods: &[Build], deleted: &[&str]) -> View {
    let job: Arc<Cached<Job>> = Arc::new(Cached::read(job.object(), false).expect("a Job"));
    let pods =
        pods.iter().map(|pod| Arc::new(Cached::<Pod>::read(pod.object(), false).expect("pod")));
    View {
        selector: LabelSelector::from_object(&job.view.spec.selector).expect("a selector"),
        template: job.view.spec.template.value(),
        pods: pods.collect(),
        job,
        deleted: deleted.iter().map(|name| uid(name)).collect(),
        failures: None,
        decided: None,
        now: jiff::Timestamp::from_second(NOW).expect("in range"),
    }
}

/// A Job that began a minute ago.
pub(super) fn begun(spec: &[(&str, Value)]) -> Build {
    let job = job("default/work").set("/status/startTime", time(60));
    spec.iter().fold(job, |job, (field, value)| job.set(&format!("/spec/{field}"), value.clone()))
}

fn indexed(completions: i32, spec: &[(&str, Value)]) -> Build {
    let n = json!(completions);
    begun(spec)
        .set("/spec/completionMode", json!("Indexed"))
        .set("/spec/completions", n.clone())
        .set("/spec/parallelism", n)
}

pub(super) fn own(name: &str) -> Build {
    pod(&format!("default/{name}"))
        .label("job-name", "work")
        .owned_by(&job("default/work"))
        .set("/metadata/finalizers", json!([FINALIZER]))
}

fn ended(name: &str, phase: &str, seconds_ago: i64, code: i64) -> Build {
    let state = json!({"terminated": {"exitCode": code, "finishedAt": time(seconds_ago)}});
    own(name)
        .set("/status/phase", json!(phase))
        .set("/status/containerStatuses", json!([{"name": "main", "state": state}]))
}

pub(super) fn failed(name: &str, seconds_ago: i64) -> Build {
    ended(name, "Failed", seconds_ago, 1)
}

pub(super) fn succeeded(name: &str) -> Build {
    ended(name, "Succeeded", 5, 0)
}

fn at(pod: Build, index: i32) -> Build {
    pod.annotation(INDEX, &index.to_string())
}

pub(super) fn uid(name: &str) -> String {
    format!("uid-default/{name}")
}

pub(super) fn names(pods: &[PodRef]) -> Vec<&str> {
    pods.iter().map(|pod| pod.meta.name.as_str()).collect()
}

fn conditions(plan: &Plan) -> Vec<String> {
    let line = |c: &api_types::core::Condition| {
        format!("{}={} {}: {}", c.r#type, c.status, c.reason, c.message)
    };
    plan.status.conditions.iter().map(line).collect()
}

fn indexes(plan: &Plan) -> Vec<usize> {
    plan.create.iter().filter_map(|new| new.index).collect()
}

#[test]
fn as_many_pods_as_are_still_needed() {
    let spec = |parallelism, completions: Value| {
        begun(&[("parallelism", json!(parallelism)), ("completions", completions)])
    };
    let running = || vec![own("a").running("10.0.0.1"), own("b").running("10.0.0.2")];
    let with = |pod| running().into_iter().chain([pod]).collect::<Vec<_>>();
    // Parallelism, completions, pods → created, discarded.
    let table: Vec<(i32, Value, Vec<Build>, usize, usize)> = vec![
        (3, json!(5), vec![], 3, 0),
        (3, json!(5), running(), 1, 0),
        (3, json!(2), running(), 0, 0),
        (1, json!(5), running(), 0, 1),
        (0, json!(5), running(), 0, 2),
        (3, json!(3), with(succeeded("s")), 0, 0),
        (3, json!(2), with(succeeded("s")), 0, 1),
        // A work queue: nobody comes after the first success, all end by themselves.
        (4, Value::Null, running(), 2, 0),
        (4, Value::Null, with(succeeded("s")), 0, 0),
    ];
    for (parallelism, completions, pods, create, discard) in table {
        let plan = decide(&spec(parallelism, completions.clone()), &pods);
        let done = (plan.create.len(), plan.discard.len());
        assert_eq!(done, (create, discard), "{parallelism} of {completions}");
    }
}

#[test]
fn failures_are_waited_for_longer_and_longer() {
    let job = begun(&[]);
    // The last failure's age, how many there were → whether one is created, and when else.
    for (ago, failures, expect) in
        [(3, 1, Err(7)), (10, 1, Ok(())), (10, 2, Err(10)), (25, 3, Err(15)), (599, 6, Ok(()))]
    {
        let pods: Vec<Build> =
            (0..failures).map(|i| failed(&format!("f{i}"), ago + i64::from(i))).collect();
        let plan = decide(&job, &pods);
        let created = match plan.create.len() {
            1 => Ok(()),
            _ => Err(plan.look_again.map_or(0, |wait| wait.as_secs())),
        };
        assert_eq!(created, expect, "{failures} failures, {ago} s ago");
    }
    let after_success = begun(&[("completions", json!(9))]);
    let plan = decide(&after_success, &[failed("f", 20), succeeded("s")]);
    assert_eq!(plan.create.len(), 1, "a success ends the waiting");
}

#[test]
fn a_pod_counts_in_two_steps() {
    let job = begun(&[("completions", json!(5)), ("parallelism", json!(2))]);
    let first = decide(&job, &[succeeded("a"), failed("b", 60)]);
    let uncounted = first.status.uncounted_terminated_pods.clone().expect("there");
    assert_eq!((&uncounted.succeeded, &uncounted.failed), (&vec![uid("a")], &vec![uid("b")]));
    assert_eq!((first.status.succeeded, first.status.failed), (0, 0));
    assert_eq!(names(&first.let_go), ["a", "b"]);
    // The status is written; one finalizer is gone, the other not yet.
    let job = job.set(
        "/status/uncountedTerminatedPods",
        json!({"succeeded": [uid("a")], "failed": [uid("b")]}),
    );
    let second =
        decide(&job, &[succeeded("a").set("/metadata/finalizers", json!([])), failed("b", 60)]);
    assert_eq!((second.status.succeeded, second.status.failed), (1, 0));
    assert_eq!(names(&second.let_go), ["b"]);
    let uncounted = second.status.uncounted_terminated_pods.clone().expect("there");
    assert_eq!((uncounted.succeeded.len(), uncounted.failed), (0, vec![uid("b")]));
    // Both are gone altogether.
    let third = decide(&job, &[]);
    assert_eq!((third.status.succeeded, third.status.failed), (1, 1));
    // Who never had a finalizer does not count.
    let plan = decide(&job, &[succeeded("x").set("/metadata/finalizers", json!([]))]);
    assert_eq!(plan.status.succeeded, 1);
    // A pod on its way out has failed, unless failed ones only are replaced.
    let going = own("c").running("10.0.0.1").deleting();
    let plan = decide(&begun(&[]), std::slice::from_ref(&going));
    assert_eq!(plan.status.uncounted_terminated_pods.expect("there").failed, [uid("c")]);
    let patient = begun(&[("podReplacementPolicy", json!("Failed"))]);
    let plan = decide(&patient, &[going]);
    assert_eq!(plan.status.uncounted_terminated_pods.expect("there").failed.len(), 0);
    assert_eq!((plan.create.len(), plan.status.terminating), (0, Some(1)));
}

#[test]
fn every_end_has_its_reason() {
    let codes = |action: &str| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]});
    let disrupted = json!({"rules": [{
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }]});
    let policy = |policy: Value| {
        begun(&[
            ("podFailurePolicy", policy),
            ("podReplacementPolicy", json!("Failed")),
            ("backoffLimit", json!(0)),
        ])
    };
    let restarted = |n| {
        own("r")
            .running("10.0.0.1")
            .set("/status/containerStatuses", json!([{"name": "main", "restartCount": n}]))
    };
    let on_failure = |limit| {
        begun(&[("backoffLimit", json!(limit))])
            .set("/spec/template/spec/restartPolicy", json!("OnFailure"))
    };
    let exceeded =
        "FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit";
    // Job, pods → the condition, and how many pods are ended.
    let table: Vec<(&str, Build, Vec<Build>, &str, usize)> = vec![
        (
            "one failure",
            begun(&[("backoffLimit", json!(0))]),
            vec![failed("f", 5), own("a")],
            exceeded,
            1,
        ),
        ("a failure to spare", begun(&[("backoffLimit", json!(1))]), vec![failed("f", 5)], "", 0),
        ("restarts", on_failure(2), vec![restarted(2)], exceeded, 1),
        ("restarts to spare", on_failure(3), vec![restarted(2)], "", 0),
        ("no restart allowed", on_failure(0), vec![restarted(1)], exceeded, 1),
        (
            "too long",
            begun(&[("activeDeadlineSeconds", json!(60))]),
            vec![own("a")],
            "FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline",
            1,
        ),
        ("not too long yet", begun(&[("activeDeadlineSeconds", json!(61))]), vec![own("a")], "", 0),
        (
            "an exit code that ends it",
            policy(codes("FailJob")),
            vec![ended("f", "Failed", 5, 42)],
            "FailureTarget=True PodFailurePolicy: Container main for pod default/f failed with exit code 42 matching FailJob rule at index 0",
            0,
        ),
        (
            "another exit code",
            policy(codes("FailJob")),
            vec![ended("f", "Failed", 5, 3)],
            exceeded,
            0,
        ),
        (
            "an exit code that is ignored",
            policy(codes("Ignore")),
            vec![ended("f", "Failed", 5, 42)],
            "",
            0,
        ),
        (
            "a disruption that is ignored",
            policy(disrupted),
            vec![failed("f", 5).condition("DisruptionTarget", "True")],
            "",
            0,
        ),
        (
            "enough",
            begun(&[]),
            vec![succeeded("s")],
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            0,
        ),
        (
            "nothing to do",
            begun(&[("completions", json!(0))]),
            vec![],
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            0,
        ),
    ];
    for (name, job, pods, condition, end) in table {
        let plan = decide(&job, &pods);
        assert_eq!(conditions(&plan).first().map_or("", String::as_str), condition, "{name}");
        assert_eq!(plan.end.len(), end, "{name}");
        assert!(condition.is_empty() || plan.create.is_empty(), "{name}");
    }
}

#[test]
fn it_has_finished_when_nothing_is_left() {
    let ending = |kind: &str| {
        begun(&[]).set(
            "/status/conditions",
            json!([{"type": kind, "status": "True", "reason": "Why", "message": "so"}]),
        )
    };
    let failing = ending("FailureTarget");
    let going = own("a").running("10.0.0.1").deleting().set("/metadata/finalizers", json!([]));
    let plan = decide(&failing, &[going]);
    assert_eq!(conditions(&plan), ["FailureTarget=True Why: so"], "a pod is still going");
    // Whatever had not ended when the Job failed has failed.
    let going = own("a").running("10.0.0.1").deleting();
    let plan = decide(&failing, &[going]);
    assert_eq!(plan.status.uncounted_terminated_pods.clone().expect("there").failed, [uid("a")]);
    assert_eq!((plan.end.len(), names(&plan.let_go)), (0, vec!["a"]));
    let plan = decide(&failing, &[]);
    assert_eq!(conditions(&plan), ["FailureTarget=True Why: so", "Failed=True Why: so"]);
    assert_eq!(plan.events, [(client::Severity::Warning, "Why".into(), "so".into())]);
    assert_eq!(plan.status.completion_time, None);
    let plan = decide(&ending("SuccessCriteriaMet"), &[own("a").running("10.0.0.1")]);
    assert_eq!(names(&plan.let_go), ["a"], "who is ended by a success counts as nothing");
    assert_eq!(plan.status.uncounted_terminated_pods.clone().expect("there").failed.len(), 0);
    let plan = decide(&ending("SuccessCriteriaMet"), &[]);
    assert_eq!(conditions(&plan), ["SuccessCriteriaMet=True Why: so", "Complete=True Why: so"]);
    assert!(plan.status.completion_time.is_some());
    // The clock was set back; times must not contradict each other.
    let late = ending("SuccessCriteriaMet").set("/status/startTime", time(-90));
    let plan = decide(&late, &[]);
    assert_eq!(plan.status.completion_time, plan.status.start_time);
}

#[test]
fn suspended_and_resumed() {
    let suspended = begun(&[("suspend", json!(true))]);
    let plan = decide(&suspended, &[own("a").running("10.0.0.1")]);
    assert_eq!(names(&plan.discard), ["a"]);
    assert_eq!(plan.status.active, 0);
    assert_eq!(conditions(&plan), ["Suspended=True JobSuspended: Job suspended"]);
    let plan = decide(&suspended, &[]);
    assert_eq!(plan.status.start_time, None, "it may be placed anew");
    let was = json!([{"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended"}]);
    let resumed = begun(&[]).set("/status/conditions", was);
    let plan = decide(&resumed, &[]);
    assert_eq!(conditions(&plan), ["Suspended=False JobResumed: Job resumed"]);
    assert_eq!(plan.create.len(), 1);
    assert_eq!(plan.events.len(), 1);
    assert_eq!(plan.status.start_time, decide(&begun(&[]), &[]).status.start_time);
    let plan = decide(&resumed.set("/status/startTime", Value::Null), &[]);
    assert_eq!(json!(plan.status.start_time), time(0), "it was taken back");
}

#[test]
fn every_index_once() {
    let job = indexed(4, &[]);
    assert_eq!(indexes(&decide(&job, &[])), [0, 1, 2, 3]);
    let pods = [
        at(succeeded("a"), 1),
        at(own("b").running("10.0.0.1"), 2),
        at(own("twin"), 2),
        own("none"),
        at(own("beyond"), 9),
    ];
    let plan = decide(&job, &pods);
    assert_eq!(names(&plan.discard), ["none", "beyond", "twin"]);
    assert_eq!(plan.status.completed_indexes, "1");
    assert_eq!(plan.status.succeeded, 1);
    let job = job.set("/status/completedIndexes", json!("1"));
    assert_eq!(indexes(&decide(&job, &pods[..2])), [0, 3]);
    // The pod of an index that is told already adds nothing.
    assert_eq!(decide(&job, &[at(succeeded("again"), 1)]).status.succeeded, 1);
    // It is made smaller, and its last indexes are forgotten.
    let smaller = indexed(2, &[]).set("/status/completedIndexes", json!("0,1,3"));
    let plan = decide(&smaller, &[]);
    assert_eq!((plan.status.succeeded, plan.status.completed_indexes.as_str()), (2, "0,1"));
}

#[test]
fn a_success_policy_ends_it_early() {
    for (rule, done, met) in [
        (json!({"succeededIndexes": "0,2"}), "0-2", true),
        (json!({"succeededIndexes": "0,2"}), "0,1", false),
        (json!({"succeededIndexes": "0-3", "succeededCount": 2}), "1,2", true),
        (json!({"succeededCount": 2}), "5", false),
        (json!({"succeededCount": 2}), "5,7", true),
    ] {
        let job = indexed(9, &[("successPolicy", json!({"rules": [rule]}))])
            .set("/status/completedIndexes", json!(done));
        let plan = decide(&job, &[at(own("a").running("10.0.0.1"), 8)]);
        let told = conditions(&plan);
        let expect = "SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0";
        assert_eq!(told.first().is_some_and(|told| told == expect), met, "{rule} {done}: {told:?}");
        assert_eq!(plan.end.len(), usize::from(met));
    }
}

#[test]
fn each_index_has_its_own_limit() {
    let spec = [("backoffLimitPerIndex", json!(1)), ("backoffLimit", json!(i32::MAX))];
    let job = indexed(3, &spec);
    let new = decide(&job, &[]).create;
    assert_eq!(new[0], NewPod { index: Some(0), failures: Some((0, 0)) });
    let first = at(failed("first", 20), 0).annotation(INDEX_FAILURES, "0");
    // It stays uncounted until the next one of its index is there, which knows of it.
    let plan = decide(&job, std::slice::from_ref(&first));
    assert!(plan.let_go.is_empty());
    assert_eq!(plan.create[0], NewPod { index: Some(0), failures: Some((1, 0)) });
    let next = at(own("next"), 0).annotation(INDEX_FAILURES, "1");
    assert_eq!(names(&decide(&job, &[first.clone(), next.clone()]).let_go), ["first"]);
    // It waits for itself; others do not.
    let recent = at(failed("recent", 4), 1).annotation(INDEX_FAILURES, "0");
    let plan = decide(&job, &[recent]);
    assert_eq!(indexes(&plan), [0, 2]);
    assert_eq!(plan.look_again.map(|wait| wait.as_secs()), Some(6));
    // The second failure of an index is one too many.
    let last = at(failed("last", 9), 0).annotation(INDEX_FAILURES, "1");
    let plan = decide(&job, std::slice::from_ref(&last));
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!((indexes(&plan), names(&plan.let_go)), (vec![1, 2], vec!["last"]));
    // All are done or given up.
    let done = job.clone().set("/status/completedIndexes", json!("1,2"));
    let told = conditions(&decide(&done, std::slice::from_ref(&last)));
    assert_eq!(told, ["FailureTarget=True FailedIndexes: Job has failed indexes"]);
    // More are given up than may be.
    let strict = job.set("/spec/maxFailedIndexes", json!(0));
    let told = conditions(&decide(&strict, &[last]));
    assert_eq!(
        told,
        [
            "FailureTarget=True MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes"
        ]
    );
    // A rule gives an index up at once.
    let rule = json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}});
    let job = indexed(3, &spec).set("/spec/podFailurePolicy", json!({"rules": [rule]}));
    let plan = decide(&job, &[at(failed("f", 5), 2)]);
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("2"));
}

#[test]
fn pods_are_adopted_and_released() {
    let orphan = pod("default/orphan").label("job-name", "work");
    let strayed = own("strayed").label("job-name", "else");
    let other = orphan.clone().owned_by(&testkit::job("default/other"));
    let plan = decide(&begun(&[]), &[orphan.clone(), strayed, other]);
    assert_eq!(
        (names(&plan.pods.adopt), names(&plan.pods.release)),
        (vec!["orphan"], vec!["strayed"])
    );
    assert_eq!(plan.create.len(), 0, "the adopted one counts");
    let plan = decide(&begun(&[]).deleting(), &[orphan, own("a"), succeeded("s")]);
    assert_eq!((plan.pods.adopt.len(), plan.create.len()), (0, 0));
    assert_eq!(names(&plan.let_go), ["a", "s"], "nobody waits for a Job that goes");
}

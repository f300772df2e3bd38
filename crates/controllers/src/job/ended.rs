//! Pods that are ended with their Job, and what they count as.

use serde_json::json;
use testkit::Build;

use super::{
    plan::{Plan, plan},
    tests::{begun, decide, decide_with, failed, names, own, seen, succeeded, uid},
};

#[test]
fn who_is_ended_with_a_job_counts_as_what_it_was_by_then() {
    let told = json!([{"type": "FailureTarget", "status": "True", "reason": "Why"}]);
    for policy in ["TerminatingOrFailed", "Failed"] {
        let job = begun(&[("podReplacementPolicy", json!(policy))])
            .set("/status/conditions", told.clone());
        let uncounted =
            |plan: &Plan| plan.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let running = own("a").running("10.0.0.1");
        // As far as the cache knows it runs, though it may have succeeded by now.
        let ended = decide(&job, std::slice::from_ref(&running));
        let lagging = decide_with(&job, std::slice::from_ref(&running), &["a"]);
        for plan in [&ended, &lagging] {
            assert_eq!((plan.status.active, plan.status.terminating), (0, Some(1)), "{policy}");
            assert_eq!((uncounted(plan), plan.let_go.len()), Default::default(), "{policy}");
            assert_eq!(plan.status.conditions.len(), 1, "{policy}: it has not finished");
        }
        assert_eq!((names(&ended.end), lagging.end.len()), (vec!["a"], 0), "{policy}");
        for (pod, counted) in
            [(succeeded("a"), [vec![uid("a")], vec![]]), (running, [vec![], vec![uid("a")]])]
        {
            let plan = decide(&job, &[pod.deleting()]);
            let now = uncounted(&plan);
            assert_eq!([now.succeeded, now.failed], counted, "{policy}");
            assert_eq!(names(&plan.let_go), ["a"], "{policy}");
        }
    }
}

#[test]
fn who_is_ended_with_a_job_counts_in_the_same_pass() {
    let late = begun(&[
        ("activeDeadlineSeconds", json!(60)),
        ("backoffLimit", json!(0)),
        ("completions", json!(2)),
        ("parallelism", json!(2)),
    ]);
    let enough = begun(&[]).set(
        "/status/conditions",
        json!([{"type": "SuccessCriteriaMet", "status": "True", "reason": "Why"}]),
    );
    let running = || own("a").running("10.0.0.1");
    let gone = running().set("/metadata/finalizers", json!([]));
    // Job, what the deletion made of its pod → what counts, who is let go, terminating.
    type Counted<'a> = ([Vec<String>; 2], Vec<&'a str>, i32);
    let (none, a) = (Vec::new, || vec![uid("a")]);
    let table: Vec<(&str, &Build, Build, Counted<'_>)> = vec![
        ("it ran", &late, running().deleting(), ([none(), a()], vec!["a"], 1)),
        ("it had done", &late, succeeded("a").deleting(), ([a(), none()], vec!["a"], 0)),
        ("it had failed", &late, failed("a", 5).deleting(), ([none(), a()], vec!["a"], 0)),
        ("nothing held it", &late, gone, ([none(), none()], vec![], 0)),
        ("its Job is done", &enough, running().deleting(), ([none(), none()], vec!["a"], 1)),
        ("both are done", &enough, succeeded("a").deleting(), ([a(), none()], vec!["a"], 0)),
    ];
    for (name, job, left, counted) in table {
        let view = seen(job, &[running()], &[]);
        let first = plan(&view);
        assert_eq!(names(&first.end), ["a"], "{name}");
        let left = vec![left.object()];
        let view = view.once_ended(first.verdict.clone(), left).expect("a pod");
        let plan = plan(&view);
        let uncounted = plan.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let told = ([uncounted.succeeded, uncounted.failed], names(&plan.let_go));
        let terminating = plan.status.terminating.unwrap_or(-1);
        assert_eq!((told.0, told.1, terminating), counted, "{name}");
        assert_eq!(plan.verdict, first.verdict, "{name}: not since the pod counts now");
        assert_eq!((plan.status.active, plan.end.len()), (0, 0), "{name}");
    }
}

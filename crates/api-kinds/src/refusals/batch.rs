//! Jobs and CronJobs.

use serde_json::json;

use super::*;

const JOB: [&str; 3] = ["batch", "v1", "jobs"];
const CRON_JOB: [&str; 3] = ["batch", "v1", "cronjobs"];

#[test]
fn jobs() {
    let template = |policy: &str| json!({ "spec": { "restartPolicy": policy, "containers": [{ "name": "c", "image": "i" }] } });
    let spec = |more: Value| {
        let mut spec = json!({ "template": template("Never") });
        tree::as_map(&mut spec).extend(more.as_object().cloned().unwrap_or_default());
        spec
    };
    let table: &[(Value, &[&str])] = &[
        (
            spec(json!({ "template": template("Always") })),
            &[
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        ),
        (
            spec(json!({ "parallelism": -1, "ttlSecondsAfterFinished": -1 })),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            spec(json!({ "completionMode": "Indexed", "parallelism": 100_001 })),
            &[
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        ),
        (
            spec(json!({ "backoffLimitPerIndex": 1 })),
            &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            spec(json!({ "managedBy": "me" })),
            &[
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            spec(json!({ "podFailurePolicy": { "rules": [
                { "action": "FailIndex", "onExitCodes": { "operator": "In", "values": [2, 0] } },
                { "action": "Ignore" },
            ] } })),
            &[
                "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0]: must be ordered",
                "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ],
        ),
        (
            spec(json!({ "successPolicy": { "rules": [] } })),
            &[
                "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
            ],
        ),
        (
            spec(json!({
                "completionMode": "Indexed", "completions": 3,
                "successPolicy": { "rules": [{ "succeededIndexes": "0-1", "succeededCount": 4 }, {}] },
            })),
            &[
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)",
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
                "spec.successPolicy.rules[1]: Required value: at least one of succeededCount or succeededIndexes must be specified",
            ],
        ),
        (spec(json!({ "manualSelector": true })), &["spec.selector: Required value"]),
    ];
    for (value, faults) in table {
        refused(JOB, "spec", value.clone(), faults);
    }
}

#[test]
fn a_job_finds_its_own_pods_only() {
    let spec = row(JOB);
    let job = created(&spec, &sample(&spec));
    let uid = &job["metadata"]["uid"];
    assert_eq!(
        job["spec"]["selector"],
        json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } })
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({
            "app": "a",
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": "a",
            "controller-uid": uid,
            "job-name": "a",
        })
    );
    refused(
        JOB,
        "spec.template.metadata.labels",
        json!({ "job-name": "b" }),
        &[
            "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"11111111-2222-3333-4444-555555555555\",\"job-name\":\"b\"}: must be 'a'",
        ],
    );
}

#[test]
fn a_job_that_waits_can_be_placed() {
    let place = |suspended: bool, faults: &[&str]| {
        let spec = row(JOB);
        let mut job = sample(&spec);
        put(&mut job, "spec.suspend", json!(suspended));
        let old = created(&spec, &job);
        let mut new = old.clone();
        put(&mut new, "spec.template.spec.nodeSelector", json!({ "zone": "a" }));
        spec.prepare_update(&mut new, &old);
        let found = shown(spec.validate_update(&new, &old));
        assert_eq!(found.len(), faults.len(), "{found:?}");
        for (found, fault) in found.iter().zip(faults) {
            assert!(found.starts_with("spec.template: Invalid value") && found.ends_with(fault));
        }
    };
    place(true, &[]);
    place(false, &["field is immutable"]);
    update(JOB, "spec.parallelism", json!(1), json!(5), &[]);
    update(JOB, "spec.suspend", json!(false), json!(true), &[]);
    update(
        JOB,
        "spec.completions",
        json!(1),
        json!(2),
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
}

#[test]
fn statuses_of_jobs_do_not_contradict_themselves() {
    let spec = row(JOB);
    let old = created(&spec, &sample(&spec));
    let check = |status: Value, faults: &[&str]| {
        let mut new = old.clone();
        put(&mut new, "status", status);
        assert_eq!(shown(spec.validate_status(&new, &old)), faults);
    };
    let start = "2024-01-01T00:00:00Z";
    let is = |kind: &str| json!({ "type": kind, "status": "True" });
    check(json!({ "active": 1, "ready": 1, "startTime": start }), &[]);
    check(
        json!({
            "startTime": start, "completionTime": start, "succeeded": 1,
            "conditions": [is("SuccessCriteriaMet"), is("Complete")],
        }),
        &[],
    );
    check(
        json!({ "ready": 1 }),
        &["status.ready: Invalid value: 1: cannot set more ready pods than active"],
    );
    check(
        json!({ "active": 1, "conditions": [is("Failed")] }),
        &[
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            "status.startTime: Required value: startTime is required for finished job",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ],
    );
    check(
        json!({ "completedIndexes": "0" }),
        &[
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
        ],
    );
}

#[test]
fn cron_jobs() {
    let table: &[(&str, Value, &[&str])] = &[
        ("spec.schedule", json!(""), &["spec.schedule: Required value"]),
        (
            "spec.schedule",
            json!("* * * *"),
            &[
                "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
            ],
        ),
        (
            "spec.schedule",
            json!("TZ=UTC 0 * * * *"),
            &[
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ],
        ),
        ("spec.timeZone", json!("Europe/Berlin"), &[]),
        (
            "spec.timeZone",
            json!("europe/berlin"),
            &["spec.timeZone: Invalid value: \"europe/berlin\": unknown time zone europe/berlin"],
        ),
        (
            "spec.timeZone",
            json!("local"),
            &[
                "spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ],
        ),
        (
            "spec.jobTemplate.spec.manualSelector",
            json!(true),
            &[
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"false\", \"nil\"",
            ],
        ),
        (
            "spec.concurrencyPolicy",
            json!("Sometimes"),
            &[
                "spec.concurrencyPolicy: Unsupported value: \"Sometimes\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        ),
        (
            "metadata.name",
            json!("n".repeat(53)),
            &[&format!(
                "metadata.name: Invalid value: {:?}: must be no more than 52 characters",
                "n".repeat(53)
            )],
        ),
    ];
    for (path, value, faults) in table {
        refused(CRON_JOB, path, value.clone(), faults);
    }
}

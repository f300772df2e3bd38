//! Jobs of every form whose pods fail now and then, one that is suspended and
//! resized, and one that is taken away.

use client::{DeleteOptions, Resource};
use serde_json::{Value, json};

use super::{Scenario, expect};
use crate::{Cluster, World, history::has_condition, kubelet::SPECIAL};

pub(super) const JOBS: Resource = Resource::namespaced("batch", "v1", "jobs");

pub(super) const SCENARIO: Scenario = Scenario {
    name: "jobs",
    holds: &["jobs", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

/// Name, what its pods do, and what is special.
fn all() -> [(&'static str, &'static str, Value); 7] {
    let on_special = json!({"containerName": "main", "operator": "In", "values": [SPECIAL]});
    let ignore = json!({"rules": [{"action": "Ignore", "onExitCodes": on_special}]});
    let fail = json!({"rules": [{"action": "FailJob", "onExitCodes": on_special}]});
    [
        ("plain", "either", json!({"parallelism": 3, "completions": 8, "backoffLimit": 30})),
        ("queue", "succeed", json!({"parallelism": 2})),
        ("doomed", "fail", json!({"parallelism": 2, "completions": 4, "backoffLimit": 2})),
        (
            "indexed",
            "either",
            json!({"parallelism": 3, "completions": 6, "completionMode": "Indexed",
                   "backoffLimitPerIndex": 2}),
        ),
        (
            "ignoring",
            "either",
            json!({"parallelism": 2, "completions": 4, "backoffLimit": 30,
                   "podFailurePolicy": ignore}),
        ),
        (
            "failing",
            "either",
            json!({"parallelism": 3, "completions": 9, "backoffLimit": 30,
                   "podFailurePolicy": fail}),
        ),
        ("elastic", "either", json!({"parallelism": 1, "completions": 9, "backoffLimit": 30})),
    ]
}

pub(super) fn job(name: &str, fate: &str, mut spec: Value) -> Value {
    spec["template"] = json!({
        "metadata": {"labels": {"sim/fate": fate}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]},
    });
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

async fn users(world: World) {
    for (name, fate, spec) in all() {
        world.create(JOBS, job(name, fate, spec)).await;
    }
    world.create(JOBS, job("removed", "either", json!({"parallelism": 2, "completions": 9}))).await;
    for _ in 0..6 {
        world.some_time(60).await;
        let change = match world.random().below(3) {
            0 => json!({"spec": {"suspend": true}}),
            _ => json!({"spec": {"suspend": false, "parallelism": 1 + world.random().below(4)}}),
        };
        world.patch(JOBS, "default/elastic", change).await;
    }
    world.patch(JOBS, "default/elastic", json!({"spec": {"suspend": false}})).await;
    let policy = *world.random().pick(&["Background", "Foreground"]).expect("two");
    let options = DeleteOptions { propagation_policy: Some(policy), ..Default::default() };
    world.delete(JOBS, "default/removed", options).await;
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    expect(cluster.get("batch/jobs", "default/removed").is_none(), || "a Job is left".into())?;
    for (name, _, spec) in all() {
        let key = format!("default/{name}");
        let job = cluster.get("batch/jobs", &key).ok_or_else(|| format!("{key} is gone"))?;
        let complete = has_condition(job, "Complete");
        let status = &job["status"];
        expect(complete || has_condition(job, "Failed"), || format!("{name} runs on: {status}"))?;
        if complete && spec["completions"].is_u64() {
            let (wanted, done) = (&spec["completions"], &status["succeeded"]);
            expect(done == wanted, || format!("{name}: {done} of {wanted}"))?;
        }
        expect(name != "doomed" || !complete, || "doomed is complete".into())?;
    }
    Ok(())
}

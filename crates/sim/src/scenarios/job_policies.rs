//! Jobs that succeed by a policy, that give single indexes up, and that replace pods
//! only when they have ended, of which users take some away.

use client::DeleteOptions;
use serde_json::{Value, json};

use super::{PODS, Scenario, expect, jobs};
use crate::{
    Cluster, World,
    history::{controller, has_condition, uid},
    kubelet::SPECIAL,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "job_policies",
    holds: &["jobs", "replacement", "index limit", "success policy", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

/// Its pods are taken away now and then.
const CAREFUL: [&str; 2] = ["careful", "careful-indexed"];

/// Name, what its pods do, and what is special.
fn all() -> [(&'static str, &'static str, Value); 7] {
    let on_special = json!({"containerName": "main", "operator": "In", "values": [SPECIAL]});
    let fail_index = json!({"rules": [{"action": "FailIndex", "onExitCodes": on_special}]});
    let indexed = |mut special: Value| {
        special["completionMode"] = "Indexed".into();
        special["completions"] = 6.into();
        special["parallelism"] = 3.into();
        special
    };
    [
        (
            "quorum",
            "either",
            indexed(json!({
                "backoffLimit": 30,
                "successPolicy": {"rules": [{"succeededIndexes": "1-4", "succeededCount": 2}]},
            })),
        ),
        (
            "leader",
            "either",
            indexed(json!({
                "backoffLimitPerIndex": 1,
                "successPolicy": {"rules": [{"succeededIndexes": "0"}, {"succeededCount": 5}]},
            })),
        ),
        ("limited", "either", indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 2}))),
        ("doomed", "fail", indexed(json!({"backoffLimitPerIndex": 1}))),
        (
            "picky",
            "either",
            indexed(json!({"backoffLimitPerIndex": 2, "podFailurePolicy": fail_index})),
        ),
        (
            CAREFUL[0],
            "either",
            json!({"parallelism": 3, "completions": 6, "backoffLimit": 60,
                   "podReplacementPolicy": "Failed"}),
        ),
        (
            CAREFUL[1],
            "either",
            indexed(json!({"backoffLimit": 60, "podReplacementPolicy": "Failed"})),
        ),
    ]
}

async fn users(world: World) {
    for (name, fate, spec) in all() {
        world.create(jobs::JOBS, jobs::job(name, fate, spec)).await;
    }
    for _ in 0..12 {
        world.some_time(30).await;
        let job = format!("default/{}", world.random().pick(&CAREFUL).expect("two"));
        let pods: Vec<String> = {
            let cluster = world.cluster();
            let job = cluster.get("batch/jobs", &job).map(uid);
            let pods = cluster.all("/pods").filter(|(_, pod)| job == controller(pod));
            pods.map(|(key, _)| key.to_owned()).collect()
        };
        if let Some(pod) = world.random().pick(&pods) {
            world.delete(PODS, pod, DeleteOptions::default()).await;
        }
        if world.random().chance(200) {
            world.patch(jobs::JOBS, &job, json!({"spec": {"suspend": true}})).await;
            world.some_time(30).await;
            world.patch(jobs::JOBS, &job, json!({"spec": {"suspend": false}})).await;
        }
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (name, ..) in all() {
        let key = format!("default/{name}");
        let job = cluster.get("batch/jobs", &key).ok_or_else(|| format!("{key} is gone"))?;
        let (complete, failed) = (has_condition(job, "Complete"), has_condition(job, "Failed"));
        let status = &job["status"];
        expect(complete != failed, || format!("{name} has not ended: {status}"))?;
        let is_certain = CAREFUL.contains(&name) || name == "quorum";
        expect(!is_certain || complete, || format!("{name} has failed: {status}"))?;
        expect(name != "doomed" || failed, || "doomed is complete".into())?;
    }
    Ok(())
}

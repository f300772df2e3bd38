//! CronJobs and Jobs that expire while the wall clock is set forward by hours, days
//! and years, and back.

use std::time::Duration;

use client::Resource;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Scenario, expect, jobs::JOBS};
use crate::{Cluster, World, history::has_condition};

const CRON_JOBS: Resource = Resource::namespaced("batch", "v1", "cronjobs");
/// How far, in hours: longer than a run, so that what the clock leads to and what
/// the run leads to are told apart.
const LEAPS_H: [i64; 3] = [6, 50, 3 * 8766];

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock",
    holds: &["schedule", "jobs", "time to live", "nodes stay", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

fn template(fate: &str) -> Value {
    json!({
        "metadata": {"labels": {"sim/fate": fate}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]},
    })
}

fn cron(name: &str, policy: &str, deadline: Option<u64>) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": policy,
            "startingDeadlineSeconds": deadline, "successfulJobsHistoryLimit": 2,
            "jobTemplate": {"spec": {"template": template("slow")}},
        },
    })
}

fn job(name: &str, ttl_s: u64) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 30,
            "ttlSecondsAfterFinished": ttl_s, "template": template("either"),
        },
    })
}

async fn users(world: World) {
    let crons =
        [("all", "Allow", None), ("one", "Forbid", None), ("punctual", "Replace", Some(20))];
    for (name, policy, deadline) in crons {
        world.create(CRON_JOBS, cron(name, policy, deadline)).await;
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    for round in 0..3 {
        world.create(JOBS, job(&format!("brief-{round}"), 30)).await;
        world.create(JOBS, job(&format!("long-{round}"), 4 * 3600)).await;
        world.some_time(300).await;
        let hours = *world.random().pick(&LEAPS_H).expect("there are some");
        world.set_clock(SignedDuration::from_hours(hours));
        world.some_time(300).await;
        // Sometimes it was wrong before, and stays.
        if world.random().chance(600) {
            world.set_clock(SignedDuration::from_hours(-hours));
            world.some_time(300).await;
        }
    }
    for (name, ..) in crons {
        let suspend = json!({"spec": {"suspend": true}});
        world.patch(CRON_JOBS, &format!("default/{name}"), suspend).await;
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, cron) in cluster.all("batch/cronjobs") {
        let status = &cron["status"];
        expect(status["active"].is_null(), || format!("{key} says {status}"))?;
        expect(status["lastScheduleTime"].is_string(), || format!("{key} never ran"))?;
    }
    for (key, job) in cluster.all("batch/jobs") {
        let status = &job["status"];
        expect(has_condition(job, "Complete"), || format!("{key} has not ended: {status}"))?;
    }
    Ok(())
}

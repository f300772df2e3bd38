//! CronJobs with Jobs that take longer than the time between two of them.

use client::Resource;
use serde_json::json;

use super::{Scenario, expect};
use crate::{Cluster, World, history::has_condition};

const CRON_JOBS: Resource = Resource::namespaced("batch", "v1", "cronjobs");
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cron",
    holds: &["schedule", "jobs", "orphans"],
    users: |world| Box::pin(users(world)),
    settled,
};

async fn users(world: World) {
    for policy in POLICIES {
        let template = json!({
            "metadata": {"labels": {"sim/fate": "slow"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]},
        });
        let cron = json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": policy.to_lowercase(), "namespace": "default"},
            "spec": {
                "schedule": "* * * * *", "concurrencyPolicy": policy,
                "successfulJobsHistoryLimit": 2,
                "jobTemplate": {"spec": {"template": template}},
            },
        });
        world.create(CRON_JOBS, cron).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(9 * 60)).await;
    for policy in POLICIES {
        let key = format!("default/{}", policy.to_lowercase());
        world.patch(CRON_JOBS, &key, json!({"spec": {"suspend": true}})).await;
    }
    world.some_time(60).await;
}

fn settled(cluster: &Cluster) -> Result<(), String> {
    for (key, cron) in cluster.all("batch/cronjobs") {
        let status = &cron["status"];
        expect(status["active"].is_null(), || format!("{key} says {status}"))?;
        let uid = cron["metadata"]["uid"].as_str().unwrap_or_default();
        let jobs = cluster.controlled("batch/jobs", uid);
        let done = jobs.iter().filter(|job| has_condition(job, "Complete")).count();
        expect(done == jobs.len() && done <= 2, || format!("{key} keeps {} Jobs", jobs.len()))?;
        expect(done > 0, || format!("{key} never ran"))?;
    }
    Ok(())
}

//! `apps/v1`. Pod templates stay JSON: they are copied, never decoded.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use api_object::Meta;
use serde_json::Value;

use crate::{IntOrString, core::Condition, views};

views! {
    Deployment { metadata: Meta, spec: DeploymentSpec, status: DeploymentStatus, }
    DeploymentSpec {
        replicas: Option<i32>,
        selector: Value,
        template: Value,
        strategy: DeploymentStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
        paused: bool,
        progress_deadline_seconds: Option<i32>,
    }
    DeploymentStrategy { r#type: String, rolling_update: Option<RollingUpdateDeployment>, }
    RollingUpdateDeployment { max_unavailable: Option<IntOrString>, max_surge: Option<IntOrString>, }
    DeploymentStatus {
        observed_generation: i64,
        replicas: i32,
        updated_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        unavailable_replicas: i32,
        terminating_replicas: Option<i32>,
        conditions: Vec<Condition>,
        collision_count: Option<i32>,
    }

    ReplicaSet { metadata: Meta, spec: ReplicaSetSpec, status: ReplicaSetStatus, }
    ReplicaSetSpec { replicas: Option<i32>, min_ready_seconds: i32, selector: Value, template: Value, }
    ReplicaSetStatus {
        replicas: i32,
        fully_labeled_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        terminating_replicas: Option<i32>,
        observed_generation: i64,
        conditions: Vec<Condition>,
    }
}

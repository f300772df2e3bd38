//! What the autoscaler sees.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{Quantity, time};
use api_types::core::Condition;
use client::Cached;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::limits::History;
use crate::{cached::null_is_default, selector_text::selector_text};

/// One autoscaler, what it scales, and what was measured.
#[derive(Debug)]
pub(super) struct View {
    pub(super) scaler: Arc<Cached<Scaler>>,
    /// The scale of the target, or why there is none.
    pub(super) scale: Result<Scale, String>,
    /// The target's pods, for metrics.
    pub(super) pods: Result<Vec<ScaledPod>, String>,
    /// Other autoscalers that look at one of these pods.
    pub(super) rivals: Vec<String>,
    /// For each metric of the spec, or why it could not be had; nothing where
    /// the scale alone decides.
    pub(super) measured: Vec<Result<Measured, String>>,
    pub(super) history: History,
    pub(super) now: Timestamp,
    /// The same moment on the clock that nobody sets.
    pub(super) steady: Instant,
}

/// What was measured for one metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measured {
    /// By name of pod.
    Pods(BTreeMap<String, Sample>),
    /// Of one object, or the sum over all series, in thousandths.
    One(i64),
}

/// What was measured of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// In thousandths.
    pub(super) value: i64,
    /// When, and over how many seconds before.
    pub(super) at: Timestamp,
    pub(super) window: i64,
}

macro_rules! views {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(super) struct $name {
                $(
                    $(#[$meta])*
                    #[serde(deserialize_with = "null_is_default")]
                    pub(super) $field: $ty,
                )*
            }
        )*
    };
}

views! {
    Scaler { spec: ScalerSpec, status: ScalerStatus, }
    ScalerSpec {
        scale_target_ref: ObjectRef,
        min_replicas: Option<i32>,
        max_replicas: i32,
        metrics: Vec<MetricSpec>,
        behavior: Option<Behavior>,
    }
    ObjectRef { api_version: String, kind: String, name: String, }
    MetricSpec {
        r#type: String,
        resource: Option<ResourceMetric>,
        container_resource: Option<ResourceMetric>,
        pods: Option<NamedMetric>,
        object: Option<NamedMetric>,
        external: Option<NamedMetric>,
    }
    ResourceMetric { name: String, container: String, target: Target, }
    NamedMetric { described_object: ObjectRef, metric: Metric, target: Target, }
    Metric { name: String, selector: Option<Value>, }
    Target {
        value: Option<Quantity>,
        average_value: Option<Quantity>,
        average_utilization: Option<i32>,
    }
    Behavior { scale_up: Option<Rules>, scale_down: Option<Rules>, }
    Rules {
        stabilization_window_seconds: Option<i32>,
        select_policy: Option<String>,
        policies: Vec<Policy>,
        tolerance: Option<Quantity>,
    }
    Policy { r#type: String, value: i32, period_seconds: i32, }
    ScalerStatus {
        last_scale_time: Option<String>,
        current_replicas: i32,
        desired_replicas: i32,
        current_metrics: Vec<Value>,
        conditions: Vec<Condition>,
    }

    Scale { spec: ScaleSpec, status: ScaleStatus, }
    ScaleSpec { replicas: i32, }
    ScaleStatus { replicas: i32, selector: String, }

    // A pod, with what the caches do not keep of it.
    ScaledPod { metadata: api_object::Meta, spec: PodSpec, status: PodStatus, }
    PodSpec {
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        resources: Option<Resources>,
    }
    Container { name: String, restart_policy: String, resources: Resources, }
    Resources { requests: BTreeMap<String, Quantity>, }
    PodStatus { phase: String, start_time: Option<String>, conditions: Vec<Condition>, }
}

impl ScalerSpec {
    /// Whether a metric tells how much there is to do while no pod runs.
    pub(super) fn measures_from_outside(&self) -> bool {
        self.metrics.iter().any(|metric| matches!(metric.r#type.as_str(), "Object" | "External"))
    }
}

impl Metric {
    /// Its selector in messages.
    pub(super) fn selector_text(&self) -> String {
        selector_text(self.selector.as_ref().unwrap_or(&Value::Null))
    }
}

impl ScaledPod {
    /// The condition `Ready`: whether it holds, and since when it is so.
    pub(super) fn ready(&self) -> Option<(bool, Timestamp)> {
        let ready = self.status.conditions.iter().find(|c| c.r#type == "Ready")?;
        let since = ready.last_transition_time.as_deref().and_then(time::parse);
        Some((ready.status != "False", since.unwrap_or(Timestamp::UNIX_EPOCH)))
    }
}

//! What an autoscaler does next, as a whole.

use api_object::{Quantity, time};
use api_types::core::Condition;
use client::Severity;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    limits::{self, History},
    replicas::{self, Goal, Proposal, Tolerance},
    view::{Measured, MetricSpec, NamedMetric, Rules, Scale, Scaler, ScalerStatus, Target, View},
};

/// Upstream's default.
const TOLERANCE: f64 = 0.1;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The new size, and why.
    pub(super) rescale: Option<(i32, String)>,
    pub(super) status: ScalerStatus,
    pub(super) events: Vec<(Severity, String, String)>,
    pub(super) history: History,
    now: Timestamp,
    steady: Instant,
}

/// What the bounds alone decide of a target's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// People set it to nothing, not the autoscaler (KEP-2021): autoscaling is off.
    Off,
    Above,
    Below,
    Within,
}

const BELOW: &str = "Current number of replicas below Spec.MinReplicas";
const SCALED_TO_ZERO: &str = "ScaledToZero";

fn bounds(scaler: &Scaler, scale: &Scale) -> Bounds {
    let (min, now) = (scaler.spec.min_replicas.unwrap_or(1), scale.spec.replicas);
    let mut conditions = scaler.status.conditions.iter();
    let ours = conditions.any(|c| c.r#type == SCALED_TO_ZERO && c.status == "True");
    match now {
        // Nothing runs whose CPU could be measured.
        0 if ours && scaler.spec.measures_from_outside() => Bounds::Within,
        0 if ours && min > 0 => Bounds::Below,
        0 => Bounds::Off,
        now if now > scaler.spec.max_replicas => Bounds::Above,
        now if now < min => Bounds::Below,
        _ => Bounds::Within,
    }
}

/// Whether metrics have a say.
pub(super) fn asks_metrics(scaler: &Scaler, scale: &Scale) -> bool {
    bounds(scaler, scale) == Bounds::Within
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let scaler = &view.scaler.view;
    let mut plan = Plan {
        rescale: None,
        status: scaler.status.clone(),
        events: Vec::new(),
        history: view.history.clone(),
        now: view.now,
        steady: view.steady,
    };
    let scale = match &view.scale {
        Ok(scale) => scale,
        Err(error) => {
            plan.warn("FailedGetScale", error);
            let message =
                format!("the HPA controller was unable to get the target's current scale: {error}");
            plan.set("AbleToScale", false, "FailedGetScale", &message);
            return plan;
        }
    };
    plan.set(
        "AbleToScale",
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    let current = scale.spec.replicas;
    plan.history.begin(current, view.steady);
    plan.status.current_replicas = current;
    let (min, max) = (scaler.spec.min_replicas.unwrap_or(1), scaler.spec.max_replicas);
    let mut wanted = (current, String::new());
    match bounds(scaler, scale) {
        Bounds::Off => {
            let message = "scaling is disabled since the replica count of the target is zero";
            plan.set("ScalingActive", false, "ScalingDisabled", message);
        }
        Bounds::Above => {
            wanted = (max, "Current number of replicas above Spec.MaxReplicas".into());
        }
        Bounds::Below => {
            wanted = (min, BELOW.into());
        }
        Bounds::Within => match by_metrics(view, scale, &mut plan) {
            Ok(by_metrics) => wanted = by_metrics,
            Err(error) => {
                plan.warn("FailedComputeMetricsReplicas", &error);
                return plan;
            }
        },
    }
    match wanted.0 == current {
        true => plan.status.desired_replicas = current,
        false => plan.rescale = Some(wanted),
    }
    plan
}

/// The greatest size that a metric asks for, within the limits.
fn by_metrics(view: &View, scale: &Scale, plan: &mut Plan) -> Result<(i32, String), String> {
    check_selector(view, scale, plan)?;
    let scaler = &view.scaler.view;
    let current = scale.spec.replicas;
    let metrics = &scaler.spec.metrics;
    let mut best: Option<(i32, String)> = None;
    let mut failures = Vec::new();
    let mut statuses = Vec::new();
    for (metric, measured) in metrics.iter().zip(&view.measured) {
        match one_metric(view, scale, metric, measured) {
            Ok((proposal, name, status)) => {
                statuses.push(status);
                if best.as_ref().is_none_or(|(replicas, _)| proposal.replicas > *replicas) {
                    best = Some((proposal.replicas, name));
                }
            }
            Err(error) => {
                let reason = failed_reason(metric);
                plan.warn(reason, &error);
                failures.push((reason, error, metric));
            }
        }
    }
    // What is not known must not make it smaller.
    let safe = best.filter(|(replicas, _)| failures.is_empty() || *replicas >= current);
    let Some((desired, name)) = safe else {
        let (reason, error, metric) = failures.first().ok_or("no metrics")?;
        let message = format!("the HPA was unable to compute the replica count: {error}");
        plan.set("ScalingActive", false, reason, &message);
        plan.status.current_metrics = statuses;
        return Err(format!(
            "invalid metrics ({} invalid out of {}), first error is: {}{error}",
            failures.len(),
            metrics.len(),
            failed_to(metric),
        ));
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    plan.set("ScalingActive", true, "ValidMetricFound", &message);
    plan.status.current_metrics = statuses;
    let reason = match desired > current {
        true => format!("{name} above target"),
        false => "All metrics below target".to_owned(),
    };
    let range = (scaler.spec.min_replicas.unwrap_or(1), scaler.spec.max_replicas);
    let behavior = scaler.spec.behavior.as_ref();
    let limited = limits::limit(&mut plan.history, behavior, current, desired, range, view.steady);
    plan.set("AbleToScale", true, limited.able.0, limited.able.1);
    let (reason_limited, message) = limited.limited.unwrap_or(limits::WITHIN);
    plan.set("ScalingLimited", limited.limited.is_some(), reason_limited, message);
    match desired <= current && limited.replicas > current {
        true => Ok((limited.replicas, BELOW.into())),
        false => Ok((limited.replicas, reason)),
    }
}

fn check_selector(view: &View, scale: &Scale, plan: &mut Plan) -> Result<(), String> {
    if scale.status.selector.is_empty() {
        let error = "selector is required";
        plan.warn("SelectorRequired", error);
        let message = "the HPA target's scale is missing a selector";
        plan.set("ScalingActive", false, "InvalidSelector", message);
        return Err(error.into());
    }
    if !view.rivals.is_empty() {
        let error = format!(
            "pods by selector {} are controlled by multiple HPAs: [{}]",
            scale.status.selector,
            view.rivals.join(" ")
        );
        plan.warn("AmbiguousSelector", &error);
        plan.set("ScalingActive", false, "AmbiguousSelector", &error);
        return Err(error);
    }
    Ok(())
}

/// What one metric proposes, what it is called, and how the status shows it.
fn one_metric(
    view: &View,
    scale: &Scale,
    metric: &MetricSpec,
    measured: &Result<Measured, String>,
) -> Result<(Proposal, String, Value), String> {
    let kind = metric.r#type.as_str();
    let resource = match kind {
        "Resource" => metric.resource.as_ref(),
        "ContainerResource" => metric.container_resource.as_ref(),
        _ => None,
    };
    if let Some(resource) = resource {
        let (proposal, name) =
            of_resource(view, scale, kind, resource, measured).map_err(|error| {
                let what = match resource.target.average_value {
                    Some(_) => "usage",
                    None => "utilization",
                };
                format!("failed to get {} {what}: {error}", resource.name)
            })?;
        let binary = resource.name == "memory";
        let mut status = json!({"name": resource.name, "current": current(proposal, true, binary)});
        let field = match kind {
            "Resource" => "resource",
            _ => {
                status["container"] = json!(resource.container);
                "containerResource"
            }
        };
        return Ok((proposal, name, json!({"type": kind, field: status})));
    }
    let (field, named) = match kind {
        "Pods" => ("pods", metric.pods.as_ref()),
        "Object" => ("object", metric.object.as_ref()),
        "External" => ("external", metric.external.as_ref()),
        _ => ("", None),
    };
    let named = named.ok_or_else(|| format!("unknown metric source type {kind:?}"))?;
    let (proposal, average) = of_named(view, scale, named, measured)?;
    let id = &named.metric;
    let mut status =
        json!({"metric": {"name": id.name}, "current": current(proposal, average, false)});
    if let Some(selector) = &id.selector {
        status["metric"]["selector"] = selector.clone();
    }
    let name = match kind {
        "Pods" => format!("pods metric {}", id.name),
        "Object" => {
            let of = &named.described_object;
            status["describedObject"] = json!({"kind": of.kind, "name": of.name});
            if !of.api_version.is_empty() {
                status["describedObject"]["apiVersion"] = json!(of.api_version);
            }
            format!("{} metric {}", of.kind, id.name)
        }
        _ => {
            format!("external metric {}({})", id.name, id.selector_text())
        }
    };
    Ok((proposal, name, json!({"type": kind, field: status})))
}

fn of_resource(
    view: &View,
    scale: &Scale,
    kind: &str,
    metric: &super::view::ResourceMetric,
    measured: &Result<Measured, String>,
) -> Result<(Proposal, String), String> {
    let samples = match measured.as_ref()? {
        Measured::Pods(samples) => samples,
        Measured::One(_) => return Err("the metric is not of pods".into()),
    };
    let pods = view.pods.as_ref()?;
    let requests;
    let (goal, name) = match (&metric.target.average_value, metric.target.average_utilization) {
        (Some(value), _) => (Goal::Average(value.millis()), format!("{} resource", metric.name)),
        (None, Some(percent)) => {
            requests = replicas::requests(pods, &metric.name, &metric.container)?;
            let of = if kind == "Resource" { "resource" } else { "container resource" };
            let name = format!("{} {of} utilization (percentage of request)", metric.name);
            (Goal::Utilization(percent, &requests), name)
        }
        (None, None) => {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        }
    };
    let (current, is_cpu) = (scale.spec.replicas, metric.name == "cpu");
    let tolerance = tolerance(&view.scaler.view);
    let proposal = replicas::from_pods(current, pods, samples, goal, is_cpu, tolerance, view.now)?;
    Ok((proposal, name))
}

/// With whether the value is an average over pods.
fn of_named(
    view: &View,
    scale: &Scale,
    metric: &NamedMetric,
    measured: &Result<Measured, String>,
) -> Result<(Proposal, bool), String> {
    let (current, tolerance) = (scale.spec.replicas, tolerance(&view.scaler.view));
    let Target { value, average_value, .. } = &metric.target;
    match (measured.as_ref()?, value, average_value) {
        (Measured::Pods(samples), _, Some(target)) => {
            let (pods, goal) = (view.pods.as_ref()?, Goal::Average(target.millis()));
            replicas::from_pods(current, pods, samples, goal, false, tolerance, view.now)
                .map(|proposal| (proposal, true))
        }
        (Measured::One(value), _, Some(target)) => {
            let replicas = scale.status.replicas;
            Ok((replicas::from_share(replicas, *value, target.millis(), tolerance), true))
        }
        (Measured::One(value), Some(target), None) => {
            let pods = view.pods.as_ref()?;
            replicas::from_value(current, pods, *value, target.millis(), tolerance)
                .map(|proposal| (proposal, false))
        }
        _ => {
            Err("invalid metric source: neither a value target nor an average value target was set"
                .into())
        }
    }
}

fn tolerance(scaler: &Scaler) -> Tolerance {
    let of = |rules: Option<&Rules>| {
        rules.and_then(|rules| rules.tolerance).map_or(TOLERANCE, Quantity::approximate)
    };
    let behavior = scaler.spec.behavior.as_ref();
    Tolerance {
        up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
        down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
    }
}

/// `binary` as memory is shown everywhere.
fn current(proposal: Proposal, average: bool, binary: bool) -> Value {
    let quantity = Quantity::from_millis(proposal.value);
    let quantity = json!(if binary { quantity.binary() } else { quantity });
    match (average, proposal.utilization) {
        (false, _) => json!({"value": quantity}),
        (true, None) => json!({"averageValue": quantity}),
        (true, Some(percent)) => {
            json!({"averageUtilization": percent, "averageValue": quantity})
        }
    }
}

fn failed_reason(metric: &MetricSpec) -> &'static str {
    match metric.r#type.as_str() {
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "Pods" => "FailedGetPodsMetric",
        "Object" => "FailedGetObjectMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

/// What could not be done, from the whole to the part, as upstream puts it before an error.
fn failed_to(metric: &MetricSpec) -> String {
    let resource = metric.resource.as_ref().or(metric.container_resource.as_ref());
    let named = metric.object.as_ref().or(metric.external.as_ref());
    let name = named.map_or("", |named| named.metric.name.as_str());
    let is_average = named.is_some_and(|named| named.target.average_value.is_some());
    match metric.r#type.as_str() {
        "Resource" => {
            let name = resource.map_or("", |resource| resource.name.as_str());
            format!("failed to get {name} resource metric value: ")
        }
        "ContainerResource" => {
            let container = resource.map_or("", |resource| resource.container.as_str());
            format!("failed to get {container} container metric value: ")
        }
        "Pods" => "failed to get pods metric value: ".into(),
        "Object" if is_average => {
            format!("failed to get object metric value: failed to get {name} object metric: ")
        }
        "Object" => "failed to get object metric value: ".into(),
        "External" => {
            let within = match is_average {
                true => format!("failed to get {name} external metric: "),
                false => format!("failed to get external metric {name}: "),
            };
            format!("failed to get {name} external metric value: {within}")
        }
        _ => String::new(),
    }
}

impl Plan {
    fn warn(&mut self, reason: &str, message: &str) {
        self.events.push((Severity::Warning, reason.into(), message.into()));
    }

    /// Puts a condition in; its message is always the newest.
    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let conditions = &mut self.status.conditions;
        let at = conditions.iter().position(|c| c.r#type == kind).unwrap_or_else(|| {
            conditions.push(Condition { r#type: kind.into(), ..Condition::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status != status {
            condition.status = status.into();
            condition.last_transition_time = Some(time::format_seconds(self.now));
        }
        condition.reason = reason.into();
        condition.message = message.into();
    }

    /// The target was resized, or could not be.
    pub(super) fn rescaled(&mut self, result: Result<(), String>) {
        let Some((to, why)) = self.rescale.clone() else { return };
        let from = self.status.current_replicas;
        match result {
            Ok(()) => {
                let message =
                    format!("the HPA controller was able to update the target scale to {to}");
                self.set("AbleToScale", true, "SucceededRescale", &message);
                // It remembers who took the last pod: only its own nothing does it end again.
                let (reason, did) = match to {
                    0 => (SCALED_TO_ZERO, "scaled"),
                    _ => ("NotScaledToZero", "did not scale"),
                };
                let message = format!("the HPA controller {did} the workload to zero");
                self.set(SCALED_TO_ZERO, to == 0, reason, &message);
                let message = format!("New size: {to}; reason: {why}");
                self.events.push((Severity::Normal, "SuccessfulRescale".into(), message));
                self.history.change(from, to, self.steady);
                self.status.desired_replicas = to;
                self.status.last_scale_time = Some(time::format_seconds(self.now));
            }
            Err(error) => {
                self.warn(
                    "FailedRescale",
                    &format!("New size: {to}; reason: {why}; error: {error}"),
                );
                let message =
                    format!("the HPA controller was unable to update the target scale: {error}");
                self.set("AbleToScale", false, "FailedUpdateScale", &message);
            }
        }
    }
}

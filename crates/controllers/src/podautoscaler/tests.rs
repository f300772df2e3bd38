//! Autoscaler plans as tables.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use client::Cached;
use serde_json::{Value, json};
use testkit::{Build, pod};
use tokio::time::Instant;

use super::{
    limits::History,
    plan::{Plan, plan},
    view::{Measured, Sample, Scale, ScaledPod, Scaler, View},
};

const NOW: i64 = 1_700_000_000;

fn steady(seconds: i64) -> Instant {
    static LONG_AGO: LazyLock<Instant> = LazyLock::new(Instant::now);
    *LONG_AGO + Duration::from_secs(u64::try_from(3600 + seconds).expect("not that long ago"))
}

fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(NOW + seconds).expect("in range")
}

fn text(seconds: i64) -> String {
    api_object::time::format_seconds(at(seconds))
}

/// An autoscaler of two to ten replicas.
fn scaler(metrics: Value) -> Build {
    pod("default/web").set("/kind", json!("HorizontalPodAutoscaler")).set("/status", json!({})).set(
        "/spec",
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": metrics,
        }),
    )
}

fn cpu(percent: i32) -> Value {
    json!([{"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
    }}])
}

/// A pod that has been ready for long and asks for 100m.
fn ready(name: &str) -> Build {
    pod(&format!("default/{name}"))
        .requests("100m", "1Mi")
        .running("10.0.0.1")
        .set("/status/startTime", json!(text(-3600)))
        .set(
            "/status/conditions/-",
            json!({"type": "Ready", "status": "True", "lastTransitionTime": text(-3500)}),
        )
}

fn pods(n: usize) -> Vec<Build> {
    (0..n).map(|i| ready(&format!("p{i}"))).collect()
}

/// What each pod uses, in thousandths.
fn used(values: &[i64]) -> Result<Measured, String> {
    let sample = |(i, value): (usize, &i64)| {
        (format!("p{i}"), Sample { value: *value, at: at(-10), window: 30 })
    };
    Ok(Measured::Pods(values.iter().enumerate().map(sample).collect()))
}

struct Case {
    scaler: Build,
    replicas: i32,
    pods: Vec<Build>,
    measured: Vec<Result<Measured, String>>,
    history: History,
    seconds: i64,
}

fn case(scaler: Build, replicas: i32, measured: Vec<Result<Measured, String>>) -> Case {
    let pods = pods(usize::try_from(replicas).unwrap_or(0));
    Case { scaler, replicas, pods, measured, history: History::default(), seconds: 0 }
}

impl Case {
    fn decide(&self) -> Plan {
        let scale = json!({
            "spec": {"replicas": self.replicas},
            "status": {"replicas": self.replicas, "selector": "app=web"},
        });
        let pods = self.pods.iter().map(|pod| serde_json::from_value::<ScaledPod>(pod.json()));
        plan(&View {
            scaler: Arc::new(
                Cached::<Scaler>::read(self.scaler.object(), false).expect("a scaler"),
            ),
            scale: Ok(serde_json::from_value::<Scale>(scale).expect("a scale")),
            pods: Ok(pods.collect::<Result<_, _>>().expect("pods")),
            rivals: Vec::new(),
            measured: self.measured.clone(),
            history: self.history.clone(),
            now: at(self.seconds),
            steady: steady(self.seconds),
        })
    }

    fn size(&self) -> i32 {
        self.decide().rescale.map_or(self.replicas, |(size, _)| size)
    }
}

fn conditions(plan: &Plan) -> BTreeMap<&str, String> {
    let of = |c| {
        let api_types::core::Condition { status, reason, .. } = c;
        format!("{status} {reason}")
    };
    plan.status.conditions.iter().map(|c| (c.r#type.as_str(), of(c.clone()))).collect()
}

#[test]
fn the_number_follows_the_load() {
    // Replicas, use of each pod → the new number.
    for (replicas, uses, size) in [
        (2, vec![50, 50], 2),
        (2, vec![100, 100], 4),
        // Within a tenth nothing is done.
        (2, vec![54, 54], 2),
        (2, vec![56, 56], 3),
        (4, vec![50, 50, 50, 60], 4),
        // Never more than twice as many (or four) at once, nor beyond the limits.
        (4, vec![300, 300, 300, 300], 8),
        (6, vec![300; 6], 10),
        (3, vec![1, 1, 1], 3),
    ] {
        let case = case(scaler(cpu(50)), replicas, vec![used(&uses)]);
        assert_eq!(case.size(), size, "{replicas} with {uses:?}");
    }
    // What was recommended of late keeps it up for five minutes.
    let mut case = case(scaler(cpu(50)), 4, vec![used(&[10; 4])]);
    let first = case.decide();
    assert_eq!(first.rescale, None);
    assert_eq!(conditions(&first)["AbleToScale"], "True ScaleDownStabilized");
    (case.history, case.seconds) = (first.history, 301);
    let later = case.decide();
    assert_eq!(later.rescale, Some((2, "All metrics below target".into())));
    assert_eq!(conditions(&later)["ScalingLimited"], "True TooFewReplicas");
    assert_eq!(
        later.status.current_metrics,
        [json!({"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": 10, "averageValue": "10m"},
        }})]
    );
}

#[test]
fn pods_that_say_nothing_are_taken_with_care() {
    let starting = |i: usize| {
        ready(&format!("p{i}")).set("/status/startTime", json!(text(-60))).set(
            "/status/conditions",
            json!([{"type": "Ready", "status": "False", "lastTransitionTime": text(-60)}]),
        )
    };
    // The last pod, the uses of those that tell → the new number of four.
    let table: Vec<(&str, Build, Vec<i64>, i32)> = vec![
        // It would be 6 by the three; the fourth is taken to use nothing.
        ("missing, upwards", ready("p3"), vec![75, 75, 75], 5),
        // It would be 2; the fourth is taken to use all that it asks for.
        ("missing, downwards", ready("p3"), vec![10, 10, 10], 4),
        ("missing, at rest", ready("p3"), vec![50, 50, 50], 4),
        ("starting, upwards", starting(3), vec![100, 100, 100, 900], 6),
        ("starting, at rest", starting(3), vec![50, 50, 50, 900], 4),
        ("pending", ready("p3").set("/status/phase", json!("Pending")), vec![100, 100, 100], 6),
        ("on its way out", ready("p3").deleting(), vec![100, 100, 100, 900], 6),
        ("failed", ready("p3").set("/status/phase", json!("Failed")), vec![100; 3], 6),
    ];
    for (name, last, uses, size) in table {
        let mut case = case(scaler(cpu(50)), 4, vec![used(&uses)]);
        case.pods[3] = last;
        assert_eq!(case.size(), size, "{name}");
    }
}

#[test]
fn every_kind_of_metric() {
    let named = |kind: &str, target: Value| {
        let metric = json!({"metric": {"name": "queue"}, "target": target, "describedObject": {
            "apiVersion": "v1", "kind": "Service", "name": "web",
        }});
        json!({"type": kind, (kind.to_lowercase()): metric})
    };
    let memory = json!({"type": "Resource", "resource": {
        "name": "memory", "target": {"type": "AverageValue", "averageValue": "100"},
    }});
    let main = json!({"type": "ContainerResource", "containerResource": {
        "name": "cpu", "container": "main",
        "target": {"type": "Utilization", "averageUtilization": 50},
    }});
    let average = json!({"type": "AverageValue", "averageValue": "100"});
    let value = json!({"type": "Value", "value": "100"});
    let one = |value| Ok(Measured::One(value));
    let table: Vec<(Value, Result<Measured, String>, i32, &str)> = vec![
        (memory, used(&[150_000, 150_000]), 3, "memory resource"),
        (main, used(&[75, 75]), 3, "cpu container resource utilization (percentage of request)"),
        (named("Pods", average.clone()), used(&[150_000, 150_000]), 3, "pods metric queue"),
        (named("Object", value.clone()), one(150_000), 3, "Service metric queue"),
        (named("Object", average.clone()), one(350_000), 4, "Service metric queue"),
        (named("External", value), one(200_000), 4, "external metric queue(nil)"),
        (named("External", average.clone()), one(350_000), 4, "external metric queue(nil)"),
        (
            json!({"type": "External", "external": {"target": average, "metric": {
                "name": "queue", "selector": {"matchLabels": {"of": "web"}},
            }}}),
            one(350_000),
            4,
            "external metric queue(&LabelSelector{MatchLabels:map[string]string{of: web,},MatchExpressions:[]LabelSelectorRequirement{},})",
        ),
    ];
    for (metric, measured, size, name) in table {
        let case = case(scaler(json!([metric])), 2, vec![measured]);
        let plan = case.decide();
        assert_eq!(plan.rescale, Some((size, format!("{name} above target"))), "{metric}");
        assert_eq!(conditions(&plan)["ScalingActive"], "True ValidMetricFound");
        assert_eq!(plan.status.current_metrics[0]["type"], metric["type"]);
    }
    // Memory is shown as memory.
    let memory = json!([{"type": "Resource", "resource": {
        "name": "memory", "target": {"type": "AverageValue", "averageValue": "64Mi"},
    }}]);
    let plan = case(scaler(memory), 2, vec![used(&[(32 << 20) * 1000; 2])]).decide();
    let shown = json!({"name": "memory", "current": {"averageValue": "32Mi"}});
    assert_eq!(plan.status.current_metrics[0]["resource"], shown);
    // The greatest of several counts.
    let both = [cpu(50)[0].clone(), named("External", json!({"averageValue": "100"}))];
    let case = case(scaler(json!(both)), 2, vec![used(&[75, 75]), one(350_000)]);
    assert_eq!(case.size(), 4);
}

#[test]
fn what_cannot_be_known_is_told() {
    let failed = |error: &str| Err(error.to_owned());
    let no_api = "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource";
    let plan = case(scaler(cpu(50)), 3, vec![failed(no_api)]).decide();
    assert_eq!(plan.rescale, None);
    assert_eq!(plan.status.current_replicas, 3);
    let active = &plan.status.conditions[1];
    assert_eq!(
        (active.r#type.as_str(), active.reason.as_str()),
        ("ScalingActive", "FailedGetResourceMetric")
    );
    assert_eq!(
        active.message,
        format!(
            "the HPA was unable to compute the replica count: failed to get cpu utilization: {no_api}"
        )
    );
    let reasons: Vec<&str> = plan.events.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["FailedGetResourceMetric", "FailedComputeMetricsReplicas"]);
    assert_eq!(
        plan.events[1].2,
        format!(
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: {no_api}"
        )
    );
    // The whole names the part.
    let queue = |kind: &str, target: Value| {
        let of = json!({"kind": "Service", "name": "web"});
        let metric = json!({"metric": {"name": "queue"}, "target": target, "describedObject": of});
        json!([{"type": kind, (kind.to_lowercase()): metric}])
    };
    let average = json!({"type": "AverageValue", "averageValue": "100"});
    let value = json!({"type": "Value", "value": "100"});
    for (kind, target, what) in [
        ("Pods", &average, "failed to get pods metric value: away"),
        ("Object", &value, "failed to get object metric value: away"),
        (
            "Object",
            &average,
            "failed to get object metric value: failed to get queue object metric: away",
        ),
        (
            "External",
            &value,
            "failed to get queue external metric value: failed to get external metric queue: away",
        ),
        (
            "External",
            &average,
            "failed to get queue external metric value: failed to get queue external metric: away",
        ),
    ] {
        let plan = case(scaler(queue(kind, target.clone())), 3, vec![failed("away")]).decide();
        let told = format!("invalid metrics (1 invalid out of 1), first error is: {what}");
        assert_eq!(plan.events[1].2, told);
        let active = &plan.status.conditions[1];
        let message = "the HPA was unable to compute the replica count: away";
        assert_eq!((active.r#type.as_str(), active.message.as_str()), ("ScalingActive", message));
    }
    // One metric of two is not known: it may grow, and does not shrink.
    let two = json!([cpu(50)[0], {"type": "External", "external": {
        "metric": {"name": "queue"}, "target": {"averageValue": "100"},
    }}]);
    let grows = case(scaler(two.clone()), 3, vec![used(&[100; 3]), failed("away")]);
    assert_eq!(grows.size(), 6);
    let shrinks = case(scaler(two), 3, vec![used(&[1; 3]), failed("away")]).decide();
    assert_eq!(shrinks.rescale, None);
    assert_eq!(conditions(&shrinks)["ScalingActive"], "False FailedGetExternalMetric");
    // A percentage of nothing.
    let mut asks_nothing = case(scaler(cpu(50)), 1, vec![used(&[10, 10])]);
    (asks_nothing.replicas, asks_nothing.pods) = (2, vec![pod("default/p0").running("10.0.0.1")]);
    let plan = asks_nothing.decide();
    assert!(
        plan.events[0].2.ends_with("missing request for cpu in container main of Pod p0"),
        "{plan:?}"
    );
}

#[test]
fn the_limits_come_first() {
    // Whoever resized it by hand, or to nothing.
    for (replicas, rescale, active) in [
        (12, Some((10, "Current number of replicas above Spec.MaxReplicas".to_owned())), None),
        (1, Some((2, "Current number of replicas below Spec.MinReplicas".to_owned())), None),
        (0, None, Some("False ScalingDisabled")),
    ] {
        let plan = case(scaler(cpu(50)), replicas, vec![]).decide();
        assert_eq!(plan.rescale, rescale);
        assert_eq!(conditions(&plan).get("ScalingActive").map(String::as_str), active);
    }
    let mut plan = case(scaler(cpu(50)), 12, vec![]).decide();
    plan.rescaled(Err("no".into()));
    assert_eq!(conditions(&plan)["AbleToScale"], "False FailedUpdateScale");
    assert_eq!(plan.status.desired_replicas, 0, "what it was");
    plan.rescaled(Ok(()));
    assert_eq!(plan.status.desired_replicas, 10);
    assert_eq!(conditions(&plan)["AbleToScale"], "True SucceededRescale");
    let told = "New size: 10; reason: Current number of replicas above Spec.MaxReplicas";
    assert!(plan.events.iter().any(|(_, _, message)| message == told));
}

#[test]
fn only_its_own_nothing_does_it_end() {
    let queue = json!([{"type": "External", "external": {
        "metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "100"},
    }}]);
    let one = |value| vec![Ok(Measured::One(value))];
    let to_zero = |min: i32| scaler(queue.clone()).set("/spec/minReplicas", json!(min));
    // Nothing is to be done for five minutes.
    let mut idle = case(to_zero(0), 2, one(0));
    idle.history = idle.decide().history;
    idle.seconds = 301;
    let mut plan = idle.decide();
    assert_eq!(plan.rescale, Some((0, "All metrics below target".into())));
    plan.rescaled(Ok(()));
    let told = plan.status.conditions.iter().find(|c| c.r#type == "ScaledToZero").expect("told");
    assert_eq!(
        (told.status.as_str(), told.reason.as_str(), told.message.as_str()),
        ("True", "ScaledToZero", "the HPA controller scaled the workload to zero")
    );
    let since = |scaler: Build| {
        scaler.set("/status/conditions", json!([{"type": "ScaledToZero", "status": "True"}]))
    };
    // Name, autoscaler, what waits → the new number and why, and whether it scales.
    let active = "True ValidMetricFound";
    let table = [
        (
            "as many as there is work for",
            since(to_zero(0)),
            350_000,
            Some((4, "external metric queue(nil) above target")),
            Some(active),
        ),
        ("still nothing", since(to_zero(0)), 0, None, Some(active)),
        (
            "it may not be nothing any more",
            since(to_zero(2)),
            0,
            Some((2, "Current number of replicas below Spec.MinReplicas")),
            Some(active),
        ),
        (
            "nor by CPU alone",
            since(scaler(cpu(50))),
            0,
            Some((2, "Current number of replicas below Spec.MinReplicas")),
            None,
        ),
        ("people's nothing", to_zero(0), 350_000, None, Some("False ScalingDisabled")),
    ];
    for (name, scaler, waits, size, active) in table {
        let mut plan = case(scaler, 0, one(waits)).decide();
        let expected = size.map(|(size, why)| (size, why.to_owned()));
        assert_eq!(plan.rescale, expected, "{name}");
        assert_eq!(conditions(&plan).get("ScalingActive").map(String::as_str), active, "{name}");
        if plan.rescale.is_some() {
            plan.rescaled(Ok(()));
            assert_eq!(conditions(&plan)["ScaledToZero"], "False NotScaledToZero", "{name}");
        }
    }
}

#[test]
fn behaviour_sets_the_pace() {
    let rules = |up: Value, down: Value| {
        scaler(cpu(50))
            .set("/spec/behavior", json!({"scaleUp": up, "scaleDown": down}))
            .set("/spec/maxReplicas", json!(100))
    };
    let policy = |kind: &str, value| json!({"type": kind, "value": value, "periodSeconds": 60});
    let policies = |select: &str, list: Vec<Value>| json!({"selectPolicy": select, "policies": list, "stabilizationWindowSeconds": 0});
    let two = vec![policy("Pods", 3), policy("Percent", 50)];
    let free = policies("Max", vec![policy("Percent", 100)]);
    for (select, size, reason) in [
        ("Max", 15, "True ScaleUpLimit"),
        ("Min", 13, "True ScaleUpLimit"),
        ("Disabled", 10, "True ScaleUpLimit"),
    ] {
        let up = rules(policies(select, two.clone()), free.clone());
        let plan = case(up, 10, vec![used(&[500; 10])]).decide();
        assert_eq!(plan.rescale.clone().map_or(10, |(size, _)| size), size, "{select}");
        assert_eq!(conditions(&plan)["ScalingLimited"], reason);
    }
    for (select, size) in [("Max", 5), ("Min", 7), ("Disabled", 10)] {
        let down = rules(free.clone(), policies(select, two.clone()));
        // It is new, so what is there counts as recommended, for no time at all.
        let case = case(down, 10, vec![used(&[1; 10])]);
        assert_eq!(case.size(), size, "{select}");
    }
    // What was done within the period counts.
    let up = rules(policies("Max", vec![policy("Pods", 3)]), free.clone());
    let mut case_of_ten = case(up, 10, vec![used(&[500; 10])]);
    case_of_ten.history.change(8, 10, steady(-30));
    assert_eq!(case_of_ten.size(), 11);
    case_of_ten.seconds = 31;
    assert_eq!(case_of_ten.size(), 13);
    // Upwards too, only what lasts counts.
    let slow = json!({"policies": [policy("Percent", 900)], "stabilizationWindowSeconds": 120});
    let mut slow = case(rules(slow, free.clone()), 10, vec![used(&[500; 10])]);
    let first = slow.decide();
    assert_eq!(first.rescale, None);
    assert_eq!(conditions(&first)["AbleToScale"], "True ScaleUpStabilized");
    (slow.history, slow.seconds) = (first.history, 121);
    assert_eq!(slow.size(), 100);
    // A tolerance of one's own.
    let mut strict = free.clone();
    strict["tolerance"] = json!("0.01");
    assert_eq!(case(rules(strict, free.clone()), 10, vec![used(&[52; 10])]).size(), 11);
    assert_eq!(case(rules(free.clone(), free), 10, vec![used(&[52; 10])]).size(), 10);
}

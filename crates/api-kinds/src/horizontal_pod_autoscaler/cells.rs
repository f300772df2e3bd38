//! What `kubectl get hpa` says, in either version.

use std::borrow::Cow;

use api_schema::{Column, tree};
use serde_json::Value;

use super::old;

/// Metrics that are shown; of others only how many there are.
const SHOWN: usize = 2;

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text(
            "Reference",
            "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
            |scaler, _| {
                let target = tree::get(scaler, "spec.scaleTargetRef");
                format!("{}/{}", tree::text(target, "kind"), tree::text(target, "name")).into()
            },
        ),
        Column::text(
            "Targets",
            "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).",
            |scaler, _| targets(&newest(scaler)).into(),
        ),
        Column::text(
            "MinPods",
            "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down. It defaults to 1 pod.",
            |scaler, _| match tree::int(scaler, "spec.minReplicas") {
                Some(least) => least.to_string().into(),
                None => "<unset>".into(),
            },
        ),
        Column::text(
            "MaxPods",
            "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up. It cannot be less that minReplicas.",
            |scaler, _| tree::int(scaler, "spec.maxReplicas").unwrap_or(0).into(),
        ),
        Column::text(
            "Replicas",
            "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
            |scaler, _| tree::int(scaler, "status.currentReplicas").unwrap_or(0).into(),
        ),
        Column::age(),
    ]
}

fn newest(scaler: &Value) -> Cow<'_, Value> {
    match tree::text(scaler, "apiVersion") {
        "autoscaling/v1" => Cow::Owned(old::to_stored(scaler.clone())),
        _ => Cow::Borrowed(scaler),
    }
}

/// `cpu: 30%/50%, 3/7 + 1 more...`
fn targets(scaler: &Value) -> String {
    let metrics = tree::list(scaler, "spec.metrics");
    if metrics.is_empty() {
        return "<none>".into();
    }
    let measured = tree::list(scaler, "status.currentMetrics");
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(index, metric)| target(metric, measured.get(index).unwrap_or(&Value::Null)))
        .collect();
    match metrics.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn target(metric: &Value, measured: &Value) -> String {
    let field = match tree::text(metric, "type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".into(),
    };
    let (wanted, current) = (tree::get(metric, field), tree::get(measured, field));
    let current = |part: &str| match tree::scalar(current, &format!("current.{part}")) {
        text if text.is_empty() => "<unknown>".to_owned(),
        text => text,
    };
    let wanted_of = |part: &str| tree::scalar(wanted, &format!("target.{part}"));
    let average = !wanted_of("averageValue").is_empty();
    match field {
        "resource" | "containerResource" => {
            let name = tree::text(wanted, "name");
            if average {
                return format!(
                    "{name}: {}/{}",
                    current("averageValue"),
                    wanted_of("averageValue")
                );
            }
            let percent = |text: String| match text.parse::<i64>() {
                Ok(percent) => format!("{percent}%"),
                Err(_) => text,
            };
            let wanted = match wanted_of("averageUtilization") {
                text if text.is_empty() => "<auto>".to_owned(),
                text => percent(text),
            };
            format!("{name}: {}/{wanted}", percent(current("averageUtilization")))
        }
        "pods" => format!("{}/{}", current("averageValue"), wanted_of("averageValue")),
        _ if average => {
            format!("{}/{} (avg)", current("averageValue"), wanted_of("averageValue"))
        }
        _ => format!("{}/{}", current("value"), wanted_of("value")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_in_a_line() {
        let utilization = |kind: &str, name: &str, percent: i64| {
            json!({ "type": "Resource", "resource": {
                "name": name, kind: { "averageUtilization": percent },
            } })
        };
        let external = json!({ "type": "External", "external": { "target": { "value": "7" } } });
        let scaler = json!({
            "spec": { "metrics": [utilization("target", "cpu", 50), external, external] },
            "status": { "currentMetrics": [utilization("current", "cpu", 30)] },
        });
        assert_eq!(targets(&scaler), "cpu: 30%/50%, <unknown>/7 + 1 more...");
        let old = json!({
            "apiVersion": "autoscaling/v1", "spec": { "targetCPUUtilizationPercentage": 60 },
        });
        assert_eq!(targets(&newest(&old)), "cpu: <unknown>/60%");
    }
}

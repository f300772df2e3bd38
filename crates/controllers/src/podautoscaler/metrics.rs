//! Asks for metrics: `metrics.k8s.io` for resources, `custom.metrics.k8s.io`
//! for those of pods and objects, `external.metrics.k8s.io` for all else.

use std::collections::BTreeMap;

use api_object::{LabelSelector, Quantity, time};
use bytes::Bytes;
use client::{Api, Error, with_query};
use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::view::{Measured, Metric, MetricSpec, NamedMetric, ResourceMetric, Sample};

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The newest first; servers of custom metrics serve one of them.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// Over which a value was measured, where that is not told.
const WINDOW_SECONDS: i64 = 60;

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Items<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Name,
    timestamp: String,
    #[serde(default)]
    window: String,
    containers: Vec<ContainerMetrics>,
}

#[derive(Default, Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, Quantity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Name,
    timestamp: String,
    window_seconds: Option<i64>,
    value: Quantity,
}

/// What a metric of the spec is measured to be for the pods of a selector.
///
/// # Errors
/// Why it is not known, in upstream's words.
pub(super) async fn measure(
    api: &Api,
    namespace: &str,
    spec: &MetricSpec,
    selector: &str,
    object_path: Result<String, String>,
) -> Result<Measured, String> {
    let kind = spec.r#type.as_str();
    match kind {
        "Resource" | "ContainerResource" => {
            let metric = if kind == "Resource" { &spec.resource } else { &spec.container_resource };
            let metric = metric.as_ref().ok_or_else(|| unset(kind))?;
            resource(api, namespace, metric, selector).await
        }
        "Pods" => {
            let metric = spec.pods.as_ref().ok_or_else(|| unset(kind))?;
            pods(api, namespace, &metric.metric, selector).await
        }
        "Object" => {
            let metric = spec.object.as_ref().ok_or_else(|| unset(kind))?;
            object(api, metric, object_path).await.map_err(|error| {
                let (name, of) = (&metric.metric.name, &metric.described_object);
                format!(
                    "unable to get metric {name}: {} on {namespace} {}/{error}",
                    of.kind, of.name
                )
            })
        }
        "External" => {
            let metric = &spec.external.as_ref().ok_or_else(|| unset(kind))?.metric;
            external(api, namespace, metric).await.map_err(|error| {
                let selector = metric.selector_text();
                let name = &metric.name;
                format!("unable to get external metric {namespace}/{name}/{selector}: {error}")
            })
        }
        kind => Err(format!("unknown metric source type {kind:?}")),
    }
}

fn unset(kind: &str) -> String {
    format!("the metric of type {kind} says nothing of what it is")
}

async fn get<T: DeserializeOwned>(api: &Api, path: &str) -> Result<T, Error> {
    let bytes = api.request(Method::GET, path, None, Bytes::new()).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))
}

async fn resource(
    api: &Api,
    namespace: &str,
    metric: &ResourceMetric,
    selector: &str,
) -> Result<Measured, String> {
    let name = &metric.name;
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let path = with_query(path, &[("labelSelector", selector)]);
    let failed = |why: String| format!("unable to get metrics for resource {name}: {why}");
    let list: Items<PodMetrics> = get(api, &path).await.map_err(|error| {
        failed(format!("unable to fetch metrics from resource metrics API: {error}"))
    })?;
    if list.items.is_empty() {
        return Err(failed("no metrics returned from resource metrics API".into()));
    }
    let lacks = |pod: &&PodMetrics| {
        !metric.container.is_empty() && pod.containers.iter().all(|c| c.name != metric.container)
    };
    if let Some(pod) = list.items.iter().find(lacks) {
        let (container, pod) = (&metric.container, &pod.metadata.name);
        return Err(failed(format!(
            "failed to get container metrics: container {container} not present in metrics for pod {namespace}/{pod}"
        )));
    }
    let samples = list.items.iter().filter_map(|pod| {
        let mut containers = pod
            .containers
            .iter()
            .filter(|container| metric.container.is_empty() || metric.container == container.name);
        // A pod whose numbers are not complete has none.
        let sum = containers.try_fold(0i64, |sum, container| {
            Some(sum.saturating_add(container.usage.get(name)?.millis()))
        })?;
        let window = time::parse_duration(&pod.window).map(|nanos| nanos / 1_000_000_000);
        let sample =
            Sample { value: sum, at: at(&pod.timestamp), window: window.unwrap_or(WINDOW_SECONDS) };
        Some((pod.metadata.name.clone(), sample))
    });
    Ok(Measured::Pods(samples.collect()))
}

async fn pods(
    api: &Api,
    namespace: &str,
    metric: &Metric,
    selector: &str,
) -> Result<Measured, String> {
    let of = format!("namespaces/{namespace}/pods/*/{}", metric.name);
    let failed = |why: String| format!("unable to get metric {}: {why}", metric.name);
    let list = custom(api, &of, metric, selector).await.map_err(failed)?;
    let samples = list.into_iter().map(|value| {
        let sample = Sample {
            value: value.value.millis(),
            at: at(&value.timestamp),
            window: value.window_seconds.unwrap_or(WINDOW_SECONDS),
        };
        (value.described_object.name, sample)
    });
    Ok(Measured::Pods(samples.collect()))
}

/// `path` is that of the object below the API.
async fn object(
    api: &Api,
    metric: &NamedMetric,
    path: Result<String, String>,
) -> Result<Measured, String> {
    let of = format!("{}/{}", path?, metric.metric.name);
    let list = custom(api, &of, &metric.metric, "").await?;
    list.first()
        .map(|value| Measured::One(value.value.millis()))
        .ok_or_else(|| "no metrics returned from custom metrics API".into())
}

async fn custom(
    api: &Api,
    of: &str,
    metric: &Metric,
    selector: &str,
) -> Result<Vec<MetricValue>, String> {
    let labels = label_query(metric)?;
    let query = [("labelSelector", selector), ("metricLabelSelector", labels.as_str())];
    let query: Vec<(&str, &str)> = query.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    let mut failed = String::new();
    for version in CUSTOM_VERSIONS {
        let path = with_query(format!("/apis/{CUSTOM}/{version}/{of}"), &query);
        match get::<Items<MetricValue>>(api, &path).await {
            Ok(list) if list.items.is_empty() => {
                return Err("no metrics returned from custom metrics API".into());
            }
            Ok(list) => return Ok(list.items),
            Err(error) => {
                let other = error.is_not_found();
                failed = format!("unable to fetch metrics from custom metrics API: {error}");
                if !other {
                    return Err(failed);
                }
            }
        }
    }
    match is_served(api, CUSTOM).await {
        true => Err(failed),
        false => Err(format!(
            "unable to fetch metrics from custom metrics API: no custom metrics API ({CUSTOM}) registered"
        )),
    }
}

async fn external(api: &Api, namespace: &str, metric: &Metric) -> Result<Measured, String> {
    let labels = label_query(metric)?;
    let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{}", metric.name);
    let path = match labels.as_str() {
        "" => path,
        labels => with_query(path, &[("labelSelector", labels)]),
    };
    let list: Items<MetricValue> = match get(api, &path).await {
        Ok(list) => list,
        Err(error) => {
            let why = match error.is_not_found() && !is_served(api, EXTERNAL).await {
                true => format!(
                    "the server could not find the requested resource (get {}.{EXTERNAL})",
                    metric.name
                ),
                false => error.to_string(),
            };
            return Err(format!("unable to fetch metrics from external metrics API: {why}"));
        }
    };
    if list.items.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    let values = list.items.iter().map(|value| value.value.millis());
    Ok(Measured::One(values.fold(0, i64::saturating_add)))
}

/// Whether anybody serves a group: a metric that is not there is another matter.
async fn is_served(api: &Api, group: &str) -> bool {
    let asked = api.request(Method::GET, &format!("/apis/{group}"), None, Bytes::new()).await;
    !asked.is_err_and(|error| error.is_not_found())
}

fn label_query(metric: &Metric) -> Result<String, String> {
    let Some(selector) = metric.selector.as_ref().filter(|selector| *selector != &Value::Null)
    else {
        return Ok(String::new());
    };
    LabelSelector::from_object(selector)
        .map(|selector| selector.to_string())
        .map_err(|error| error.to_string())
}

fn at(text: &str) -> Timestamp {
    time::parse(text).unwrap_or(Timestamp::UNIX_EPOCH)
}

//! Which pod and container a command means: `exec`, `logs`, `attach`,
//! `port-forward` and `cp` take workloads too.

use serde_json::Value;

use crate::{
    describe::selector_query,
    failure::{Outcome, failed},
    session::Session,
    targets::{self, Reading, Target},
};

/// The pods behind one target: itself, or those of its selector, best first.
pub(super) async fn behind(
    session: &Session,
    target: &Target,
    object: &Value,
) -> Outcome<Vec<Value>> {
    if target.resource.plural == "pods" {
        return Ok(vec![object.clone()]);
    }
    if target.resource.kind != "Service" && !object["spec"]["selector"].is_object() {
        let what = if session.command == "logs" { "get the logs from" } else { "attach to" };
        let kind = format!("*{}.{}", target.resource.version, target.resource.kind);
        return failed(format!("cannot {what} {kind}: selector for {kind} not implemented"));
    }
    let selector = selector_query(&object["spec"]["selector"]);
    if selector.is_empty() {
        return failed(format!(
            "cannot attach to {}/{}: it selects no pods",
            target.resource.plural, target.name
        ));
    }
    let path = format!("/api/v1/namespaces/{}/pods", target.namespace);
    let path = client::with_query(path, &[("labelSelector", &selector)]);
    let list = session.connection().await?.get(&path).await?;
    let mut pods: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    pods.sort_by_key(rank);
    for pod in &mut pods {
        pod["kind"] = "Pod".into();
        pod["apiVersion"] = "v1".into();
    }
    Ok(pods)
}

/// Ready ones first, then running ones, older ones before.
fn rank(pod: &Value) -> (bool, bool, bool, String) {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let since = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    (pod["spec"]["nodeName"].is_null(), pod["status"]["phase"] != "Running", !ready, since)
}

/// The one pod that words name.
pub(super) async fn one(session: &Session, words: &[String]) -> Outcome<Value> {
    let reading = Reading { default_type: Some("pods"), ..Reading::default() };
    let found = targets::find(session, words, reading).await?;
    let Some(target) = found.first() else { return failed("a pod is needed") };
    let object = target.object(session).await?;
    let pods = behind(session, target, &object).await?;
    let count = pods.len();
    match pods.into_iter().next() {
        Some(pod) => Ok(pod),
        None => failed(format!(
            "no pods found for {}/{} ({count})",
            target.resource.plural, target.name
        )),
    }
}

/// Names of the containers of a pod, those that run first.
fn names(pod: &Value) -> (Vec<&str>, Vec<String>) {
    let of = |list: &str| -> Vec<&str> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str()).collect()
    };
    let main = of("containers");
    let mut all: Vec<String> = main.iter().map(|name| (*name).to_owned()).collect();
    all.extend(of("ephemeralContainers").iter().map(|name| format!("{name} (ephem)")));
    all.extend(of("initContainers").iter().map(|name| format!("{name} (init)")));
    (main, all)
}

/// The container that is meant, saying so where there are several.
pub(super) fn container(session: &Session, pod: &Value, quiet: bool) -> Outcome<String> {
    let given = session.flags.one("container");
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (main, all) = names(pod);
    if !given.is_empty() {
        let known = all.iter().any(|name| name.split(' ').next() == Some(given));
        return match known {
            true => Ok(given.to_owned()),
            false => failed(format!(
                "container {given} is not valid for pod {pod_name} out of: {}",
                all.join(", ")
            )),
        };
    }
    let annotated =
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = annotated.filter(|name| main.contains(name)) {
        return Ok(name.to_owned());
    }
    let Some(first) = main.first() else {
        return failed(format!("pod {pod_name} has no containers"));
    };
    if all.len() > 1 && !quiet {
        session.say(&format!("Defaulted container {first:?} out of: {}", all.join(", ")));
    }
    Ok((*first).to_owned())
}

/// Every container of a pod, init containers first.
pub(super) fn all_containers(pod: &Value) -> Vec<String> {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect()
}

//! Pods.

use serde_json::Value;

use super::{
    Related, containers,
    text::{Text, age, date, list, or, text},
    volumes,
};

pub(crate) fn describe(out: &mut Text, pod: &Value, related: &Related) {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    if let Some(priority) = spec["priority"].as_i64() {
        out.line(0, format!("Priority:\t{priority}"));
        out.some(0, "Priority Class Name", &spec["priorityClassName"]);
    }
    out.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    out.some(0, "Service Account", &spec["serviceAccountName"]);
    match text(&spec["nodeName"]) {
        "" => out.line(0, "Node:\t<none>"),
        node => out.line(0, format!("Node:\t{node}/{}", text(&status["hostIP"]))),
    }
    if status["startTime"].is_string() {
        out.line(0, format!("Start Time:\t{}", date(&status["startTime"])));
    }
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    if meta["deletionTimestamp"].is_string() {
        let since = age(&meta["deletionTimestamp"], related.now);
        out.line(0, format!("Status:\tTerminating (lasts {since})"));
        if let Some(grace) = meta["deletionGracePeriodSeconds"].as_i64() {
            out.line(0, format!("Termination Grace Period:\t{grace}s"));
        }
    } else {
        out.line(0, format!("Status:\t{}", text(&status["phase"])));
    }
    out.some(0, "Reason", &status["reason"]);
    out.some(0, "Message", &status["message"]);
    security(out, &spec["securityContext"]);
    out.line(0, format!("IP:\t{}", text(&status["podIP"])));
    if list(&status["podIPs"]).next().is_none() {
        out.line(0, "IPs:\t<none>");
    } else {
        out.line(0, "IPs:");
        for ip in list(&status["podIPs"]) {
            out.line(1, format!("IP:\t{}", text(&ip["ip"])));
        }
    }
    if let Some(owner) = super::controller(meta) {
        out.line(0, format!("Controlled By:\t{owner}"));
    }
    out.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        out.line(0, "Resources:");
        containers::resources(out, 1, &spec["resources"]);
    }
    for (label, key, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        if key == "containers" || list(&spec[key]).next().is_some() {
            containers::containers(out, label, &spec[key], &status[statuses], Some(pod), false);
        }
    }
    if list(&spec["readinessGates"]).next().is_some() {
        out.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in list(&spec["readinessGates"]) {
            let kind = &gate["conditionType"];
            let condition = list(&status["conditions"]).find(|c| c["type"] == *kind);
            let state = condition.map_or("<none>".into(), |c| or(&c["status"], "<none>"));
            out.line(1, format!("{} \t{state} ", text(kind)));
        }
    }
    if list(&status["conditions"]).next().is_some() {
        out.line(0, "Conditions:\n  Type\tStatus");
        for condition in list(&status["conditions"]) {
            out.line(1, format!("{} \t{} ", text(&condition["type"]), text(&condition["status"])));
        }
    }
    volumes::all(out, &spec["volumes"], false);
    out.some(0, "QoS Class", &status["qosClass"]);
    out.labels(0, "Node-Selectors", &spec["nodeSelector"]);
    containers::tolerations(out, 0, &spec["tolerations"]);
    containers::topology(out, &spec["topologySpreadConstraints"], 0);
    super::events(out, related);
}

fn security(out: &mut Text, context: &Value) {
    let seccomp = &context["seccompProfile"];
    if seccomp.is_object() {
        out.line(0, format!("SeccompProfile:\t{}", text(&seccomp["type"])));
        if seccomp["type"] == "Localhost" {
            out.line(0, format!("LocalhostProfile:\t{}", text(&seccomp["localhostProfile"])));
        }
    }
}

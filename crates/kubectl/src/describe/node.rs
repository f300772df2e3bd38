//! Nodes.

use api_object::Quantity;
use serde_json::Value;

use super::{
    Need, Related,
    text::{Text, age, date, list, or, plain, text},
};

pub(crate) fn describe(out: &mut Text, node: &Value, related: &Related) {
    let (meta, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Roles:\t{}", roles(&meta["labels"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("CreationTimestamp:\t{}", date(&meta["creationTimestamp"])));
    taints(out, &spec["taints"]);
    out.line(0, format!("Unschedulable:\t{}", spec["unschedulable"] == true));
    match related.of(Need::Lease).first() {
        None => out.line(0, "Lease:\tFailed to get lease"),
        Some(lease) => {
            out.line(0, "Lease:");
            let spec = &lease["spec"];
            out.line(1, format!("HolderIdentity:\t{}", or(&spec["holderIdentity"], "<unset>")));
            for (label, key) in [("AcquireTime", "acquireTime"), ("RenewTime", "renewTime")] {
                out.line(1, format!("{label}:\t{}", date(&spec[key])));
            }
        }
    }
    if list(&status["conditions"]).next().is_some() {
        out.line(
            0,
            "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
        );
        out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for condition in list(&status["conditions"]) {
            let part = |key: &str| text(&condition[key]);
            out.line(
                1,
                format!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    part("type"),
                    part("status"),
                    date(&condition["lastHeartbeatTime"]),
                    date(&condition["lastTransitionTime"]),
                    part("reason"),
                    part("message")
                ),
            );
        }
    }
    out.line(0, "Addresses:");
    for address in list(&status["addresses"]) {
        out.line(1, format!("{}:\t{}", text(&address["type"]), text(&address["address"])));
    }
    for (label, key) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        let quantities = status[key].as_object();
        if let Some(quantities) = quantities.filter(|map| !map.is_empty()) {
            out.line(0, format!("{label}:"));
            for (name, quantity) in quantities {
                out.line(1, format!("{name}:\t{}", plain(quantity)));
            }
        }
    }
    out.line(0, "System Info:");
    for (label, key) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        out.line(1, format!("{label}:\t{}", text(&status["nodeInfo"][key])));
    }
    out.some(0, "PodCIDR", &spec["podCIDR"]);
    let ranges: Vec<String> = list(&spec["podCIDRs"]).map(plain).collect();
    if !ranges.is_empty() {
        out.line(0, format!("PodCIDRs:\t{}", ranges.join(",")));
    }
    out.some(0, "ProviderID", &spec["providerID"]);
    pods(out, &status["allocatable"], related);
    super::events(out, related);
}

fn roles(labels: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            _ if key == "kubernetes.io/role" && !text(value).is_empty() => roles.push(text(value)),
            _ => {}
        }
    }
    roles.sort_unstable();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn taints(out: &mut Text, taints: &Value) {
    let mut lines: Vec<String> = list(taints)
        .map(|taint| match text(&taint["value"]) {
            "" => format!("{}:{}", text(&taint["key"]), text(&taint["effect"])),
            value => format!("{}={value}:{}", text(&taint["key"]), text(&taint["effect"])),
        })
        .collect();
    lines.sort();
    if lines.is_empty() {
        return out.line(0, "Taints:\t<none>");
    }
    for (i, line) in lines.iter().enumerate() {
        out.line(0, format!("{}\t{line}", if i == 0 { "Taints:" } else { "" }));
    }
}

/// What containers ask for, as the scheduler adds it up.
fn asked(pod: &Value, kind: &str, resource: &str) -> Quantity {
    let spec = &pod["spec"];
    let zero = Quantity::from_units(0);
    let of = |container: &Value| {
        Quantity::parse(text(&container["resources"][kind][resource])).unwrap_or(zero)
    };
    let mut running: Quantity = list(&spec["containers"]).map(of).sum();
    let mut sidecars = zero;
    let mut starting = zero;
    for container in list(&spec["initContainers"]) {
        let wanted = of(container);
        if container["restartPolicy"] == "Always" {
            running += wanted;
            sidecars += wanted;
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(wanted + sidecars);
        }
    }
    let mut total = running.max(starting);
    // A limit that nobody set is no limit, also with an overhead.
    if let Ok(overhead) = Quantity::parse(text(&spec["overhead"][resource]))
        && (kind == "requests" || !total.is_zero())
    {
        total += overhead;
    }
    total
}

fn share(part: Quantity, whole: &Value) -> i64 {
    let whole = Quantity::parse(text(whole)).map_or(0.0, Quantity::approximate);
    if whole == 0.0 { 0 } else { (part.approximate() / whole * 100.0) as i64 }
}

fn pods(out: &mut Text, allocatable: &Value, related: &Related) {
    let pods = related.of(Need::PodsOfNode);
    out.line(0, format!("Non-terminated Pods:\t({} in total)", pods.len()));
    let columns =
        [("cpu", "requests"), ("cpu", "limits"), ("memory", "requests"), ("memory", "limits")];
    out.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    out.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    for pod in pods {
        let meta = &pod["metadata"];
        let cells = columns.map(|(resource, kind)| {
            let quantity = asked(pod, kind, resource);
            format!("{quantity} ({}%)", share(quantity, &allocatable[resource]))
        });
        out.line(
            1,
            format!(
                "{}\t{}\t\t{}\t{}",
                text(&meta["namespace"]),
                text(&meta["name"]),
                cells.join("\t"),
                age(&meta["creationTimestamp"], related.now)
            ),
        );
    }
    out.line(
        0,
        "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)",
    );
    out.line(1, "Resource\tRequests\tLimits\n  --------\t--------\t------");
    let standard = ["cpu", "memory", "ephemeral-storage"];
    let extended = allocatable.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let extended = extended.filter(|name| name.contains('/') || name.starts_with("hugepages-"));
    for resource in standard.into_iter().chain(extended) {
        let cells = ["requests", "limits"].map(|kind| {
            let total: Quantity = pods.iter().map(|pod| asked(pod, kind, resource)).sum();
            match resource.contains('/') {
                true => total.to_string(),
                false => format!("{total} ({}%)", share(total, &allocatable[resource])),
            }
        });
        out.line(1, format!("{resource}\t{}", cells.join("\t")));
    }
}

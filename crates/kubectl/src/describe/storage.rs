//! Claims, volumes and classes (of storage and of priority).

use serde_json::Value;

use super::{
    Need, Related,
    text::{Text, bracketed, label_line, list, or, plain, text},
    volumes,
};

/// `RWO,ROX`
fn modes(value: &Value) -> String {
    let short = list(value).map(|mode| match text(mode) {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    short.collect::<Vec<_>>().join(",")
}

pub(crate) fn claim(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.line(0, format!("Namespace:\t{}", text(&meta["namespace"])));
    out.line(0, format!("StorageClass:\t{}", text(&spec["storageClassName"])));
    match meta["deletionTimestamp"].is_string() {
        true => {
            let since = super::text::age(&meta["deletionTimestamp"], related.now);
            out.line(0, format!("Status:\tTerminating (lasts {since})"));
        }
        false => out.line(0, format!("Status:\t{}", text(&status["phase"]))),
    }
    out.line(0, format!("Volume:\t{}", text(&spec["volumeName"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Finalizers:\t{}", bracketed(&meta["finalizers"])));
    let bound = !text(&spec["volumeName"]).is_empty();
    let capacity = if bound { plain(&status["capacity"]["storage"]) } else { String::new() };
    out.line(0, format!("Capacity:\t{capacity}"));
    let access = if bound { modes(&status["accessModes"]) } else { String::new() };
    out.line(0, format!("Access Modes:\t{access}"));
    out.some(0, "VolumeMode", &spec["volumeMode"]);
    let source = &spec["dataSource"];
    if source.is_object() {
        out.line(0, "DataSource:");
        out.some(1, "APIGroup", &source["apiGroup"]);
        out.line(1, format!("Kind:\t{}", text(&source["kind"])));
        out.line(1, format!("Name:\t{}", text(&source["name"])));
    }
    let users: Vec<&str> =
        related.of(Need::PodsOfClaim).iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    if users.is_empty() {
        out.line(0, "Used By:\t<none>");
    }
    for (i, user) in users.iter().enumerate() {
        out.line(0, format!("{}\t{user}", if i == 0 { "Used By:" } else { "" }));
    }
    if list(&status["conditions"]).next().is_some() {
        out.line(
            0,
            "Conditions:\n  Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage",
        );
        out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for condition in list(&status["conditions"]) {
            let part = |key: &str| text(&condition[key]);
            let at = |key: &str| super::text::date(&condition[key]);
            out.line(
                1,
                format!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    part("type"),
                    part("status"),
                    at("lastProbeTime"),
                    at("lastTransitionTime"),
                    part("reason"),
                    part("message")
                ),
            );
        }
    }
    super::events(out, related);
}

pub(crate) fn volume(out: &mut Text, object: &Value, related: &Related) {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    out.line(0, format!("Finalizers:\t{}", bracketed(&meta["finalizers"])));
    out.line(0, format!("StorageClass:\t{}", text(&spec["storageClassName"])));
    out.line(0, format!("Status:\t{}", text(&status["phase"])));
    let claim = &spec["claimRef"];
    match claim.is_object() {
        true => {
            out.line(0, format!("Claim:\t{}/{}", text(&claim["namespace"]), text(&claim["name"])))
        }
        false => out.line(0, "Claim:\t"),
    }
    out.line(0, format!("Reclaim Policy:\t{}", text(&spec["persistentVolumeReclaimPolicy"])));
    out.line(0, format!("Access Modes:\t{}", modes(&spec["accessModes"])));
    out.some(0, "VolumeMode", &spec["volumeMode"]);
    out.line(0, format!("Capacity:\t{}", plain(&spec["capacity"]["storage"])));
    affinity(out, &spec["nodeAffinity"]);
    out.line(0, format!("Message:\t{}", text(&status["message"])));
    out.line(0, "Source:");
    volumes::source(out, spec, 2);
    super::events(out, related);
}

fn affinity(out: &mut Text, affinity: &Value) {
    let required = &affinity["required"];
    if !required.is_object() {
        return out.line(0, "Node Affinity:\t<none>");
    }
    out.line(0, "Node Affinity:\t");
    out.line(1, "Required Terms:\t");
    let required = list(&required["nodeSelectorTerms"]);
    terms(out, 2, required.map(|term| requirements(&term["matchExpressions"], "")));
}

/// Requirements as text, each with its operator or else with this one.
fn requirements(all: &Value, operator: &str) -> Vec<String> {
    let told = |requirement: &Value| {
        let operator = or(&requirement["operator"], operator).to_lowercase();
        let key = text(&requirement["key"]);
        let values: Vec<String> = list(&requirement["values"]).map(plain).collect();
        match values.is_empty() {
            true => format!("{key} {operator}"),
            false => format!("{key} {operator} [{}]", values.join(", ")),
        }
    };
    list(all).map(told).collect()
}

fn terms(out: &mut Text, level: usize, terms: impl Iterator<Item = Vec<String>>) {
    for (i, lines) in terms.enumerate() {
        if lines.is_empty() {
            out.line(level, format!("Term {i}:\t<none>"));
        }
        for (j, line) in lines.iter().enumerate() {
            match j {
                0 => out.line(level, format!("Term {i}:\t{line}")),
                _ => out.line(level, format!("\t{line}")),
            }
        }
    }
}

pub(crate) fn priority_class(out: &mut Text, object: &Value, related: &Related) {
    out.line(0, format!("Name:\t{}", text(&object["metadata"]["name"])));
    out.line(0, format!("Value:\t{}", plain(&object["value"])));
    out.line(0, format!("GlobalDefault:\t{}", object["globalDefault"] == true));
    out.line(0, format!("PreemptionPolicy:\t{}", text(&object["preemptionPolicy"])));
    out.line(0, format!("Description:\t{}", text(&object["description"])));
    out.line(0, format!("Annotations:\t{}", label_line(&object["metadata"]["annotations"])));
    super::events(out, related);
}

pub(crate) fn class(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    let default = &meta["annotations"]["storageclass.kubernetes.io/is-default-class"];
    out.line(0, format!("IsDefaultClass:\t{}", if default == "true" { "Yes" } else { "No" }));
    out.line(0, format!("Annotations:\t{}", label_line(&meta["annotations"])));
    out.line(0, format!("Provisioner:\t{}", text(&object["provisioner"])));
    out.line(0, format!("Parameters:\t{}", label_line(&object["parameters"])));
    let expands = match object["allowVolumeExpansion"].as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    out.line(0, format!("AllowVolumeExpansion:\t{expands}"));
    if list(&object["mountOptions"]).next().is_none() {
        out.line(0, "MountOptions:\t<none>");
    } else {
        out.line(0, "MountOptions:");
        for option in list(&object["mountOptions"]) {
            out.line(1, plain(option));
        }
    }
    out.line(0, format!("ReclaimPolicy:\t{}", text(&object["reclaimPolicy"])));
    out.line(0, format!("VolumeBindingMode:\t{}", or(&object["volumeBindingMode"], "<unset>")));
    if list(&object["allowedTopologies"]).next().is_some() {
        out.line(0, "AllowedTopologies:\t");
        let allowed = list(&object["allowedTopologies"]);
        // One operator is all that there is.
        terms(out, 1, allowed.map(|term| requirements(&term["matchLabelExpressions"], "In")));
    }
    super::events(out, related);
}

pub(crate) fn csi_node(out: &mut Text, object: &Value, related: &Related) {
    let meta = &object["metadata"];
    out.line(0, format!("Name:\t{}", text(&meta["name"])));
    out.labels(0, "Labels", &meta["labels"]);
    out.annotations(0, &meta["annotations"]);
    let created = super::text::date(&meta["creationTimestamp"]);
    out.line(0, format!("CreationTimestamp:\t{created}"));
    out.line(0, "Spec:");
    for (i, driver) in list(&object["spec"]["drivers"]).enumerate() {
        if i == 0 {
            out.line(1, "Drivers:");
        }
        out.line(2, format!("{}:", text(&driver["name"])));
        out.line(3, format!("Node ID:\t{}", text(&driver["nodeID"])));
        if let Some(count) = driver["allocatable"]["count"].as_i64() {
            out.line(3, "Allocatables:");
            out.line(4, format!("Count:\t{count}"));
        }
        out.line(3, format!("Topology Keys:\t{}", bracketed(&driver["topologyKeys"])));
    }
    super::events(out, related);
}

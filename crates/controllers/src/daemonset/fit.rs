//! Which nodes a DaemonSet's pods belong on, and the pod for one of them.

use std::collections::BTreeMap;

use api_object::Meta;
use api_types::core::{Affinity, Taint, Toleration};
use client::Cached;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cached::{Node, null_is_default},
    owner,
    revisions::POD_LABEL,
};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";

/// What every daemon pod bears with: it belongs to its node, whatever the
/// node's state is.
const BORNE: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And one with the host's network, which needs no other.
const BORNE_ON_HOST_NETWORK: (&str, &str) =
    ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What of the template says where its pods may be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Fit {
    #[serde(deserialize_with = "null_is_default")]
    node_name: String,
    #[serde(deserialize_with = "null_is_default")]
    node_selector: BTreeMap<String, String>,
    affinity: Option<Affinity>,
    #[serde(deserialize_with = "null_is_default")]
    tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "null_is_default")]
    host_network: bool,
}

/// Whether a pod belongs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    /// It is to run there.
    Yes,
    /// One that runs there may stay, though no other would be put there.
    MayStay,
    No,
}

impl Fit {
    /// Of a pod template.
    pub(super) fn of(template: &Value) -> Result<Self, serde_json::Error> {
        if template["spec"].is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(&template["spec"])
    }

    pub(super) fn on(&self, node: &Cached<Node>) -> Belongs {
        let (name, labels) = (&node.meta.name, &node.meta.labels);
        let is_named = self.node_name.is_empty() || self.node_name == *name;
        let is_selected =
            self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let required = self
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let is_wanted = required.is_none_or(|required| required.matches(name, labels));
        if !(is_named && is_selected && is_wanted) {
            return Belongs::No;
        }
        let taints = &node.view.spec.taints;
        let keeps = |effects: &[&str]| {
            taints
                .iter()
                .filter(|taint| effects.contains(&taint.effect.as_str()))
                .all(|taint| self.tolerates(taint))
        };
        match (keeps(&["NoSchedule", "NoExecute"]), keeps(&["NoExecute"])) {
            (true, _) => Belongs::Yes,
            (false, true) => Belongs::MayStay,
            (false, false) => Belongs::No,
        }
    }

    fn borne(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        BORNE.iter().chain(self.host_network.then_some(&BORNE_ON_HOST_NETWORK))
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.borne().any(|(key, effect)| taint.key == *key && taint.effect == *effect)
            || self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

/// The pod for a node. The default scheduler binds it: its required node
/// affinity names the node, and replaces the template's, which was judged here.
pub(super) fn pod(set: &Meta, template: &Value, fit: &Fit, hash: &str, node: &str) -> Value {
    let mut pod = owner::pod_from_template("apps/v1", "DaemonSet", set, template);
    let labels = &mut pod["metadata"]["labels"];
    labels[POD_LABEL] = json!(hash);
    if let Some(generation) = set.annotations.get(TEMPLATE_GENERATION) {
        labels[TEMPLATE_GENERATION_LABEL] = json!(generation);
    }
    let spec = &mut pod["spec"];
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
        "nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [node]},
        ]}],
    });
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let tolerations = spec["tolerations"].as_array_mut().expect("made a list above");
    for (key, effect) in fit.borne() {
        let is_same = |known: &Value| {
            known["key"] == *key && known["effect"] == *effect && known["operator"] == "Exists"
        };
        tolerations.retain(|known| !is_same(known));
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": effect}));
    }
    pod
}

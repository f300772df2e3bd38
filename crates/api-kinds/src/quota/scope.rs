//! Which objects a quota is about: `scopes` and `scopeSelector`.

use api_schema::tree;
use serde_json::Value;

use crate::pod;

/// One scope of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    /// All of a quota's; an object must be in each.
    pub fn of(quota: &Value) -> Vec<Self> {
        let plain = tree::list(quota, "spec.scopes").iter().filter_map(Value::as_str);
        let plain = plain.map(|name| Self {
            name: name.to_owned(),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        let terms = tree::list(quota, "spec.scopeSelector.matchExpressions").iter();
        let selected = terms.map(|term| {
            let values = tree::list(term, "values").iter().filter_map(Value::as_str);
            Self {
                name: tree::text(term, "scopeName").to_owned(),
                operator: tree::text(term, "operator").to_owned(),
                values: values.map(str::to_owned).collect(),
            }
        });
        plain.chain(selected).collect()
    }

    /// Whether an object is in it. Kinds without scopes are in none.
    pub fn holds(&self, group: &str, plural: &str, object: &Value) -> bool {
        if !group.is_empty() {
            return false;
        }
        match (plural, self.name.as_str()) {
            ("pods", "Terminating") => is_terminating(object),
            ("pods", "NotTerminating") => !is_terminating(object),
            ("pods", "BestEffort") => pod::qos_class(object) == "BestEffort",
            ("pods", "NotBestEffort") => pod::qos_class(object) != "BestEffort",
            ("pods", "PriorityClass") => self.selects(tree::text(object, "spec.priorityClassName")),
            ("pods", "CrossNamespacePodAffinity") => crosses_namespaces(object),
            ("persistentvolumeclaims", "VolumeAttributesClass") => [
                "spec.volumeAttributesClassName",
                "status.currentVolumeAttributesClassName",
                "status.modifyVolumeStatus.targetVolumeAttributesClassName",
            ]
            .iter()
            .map(|path| tree::text(object, path))
            .any(|class| self.selects(class)),
            _ => false,
        }
    }

    fn selects(&self, value: &str) -> bool {
        let is_listed = || self.values.iter().any(|listed| listed == value);
        match self.operator.as_str() {
            "In" => !value.is_empty() && is_listed(),
            "NotIn" => !is_listed(),
            "DoesNotExist" => value.is_empty(),
            _ => !value.is_empty(),
        }
    }
}

/// What decides of an object's scopes and may change while it lives.
pub fn marks(object: &Value) -> [Value; 4] {
    [
        "spec.activeDeadlineSeconds",
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ]
    .map(|path| tree::get(object, path).clone())
}

fn is_terminating(pod: &Value) -> bool {
    tree::int(pod, "spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !tree::list(term, "namespaces").is_empty()
            || !tree::get(term, "namespaceSelector").is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = tree::get(tree::get(pod, "spec.affinity"), kind);
        tree::list(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || tree::list(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|wish| crosses(tree::get(wish, "podAffinityTerm")))
    })
}

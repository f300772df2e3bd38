//! What is accepted but probably not meant, for `Warning` headers.

use api_schema::tree;
use serde_json::Value;

/// (old label of nodes, what to use instead).
const OLD_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];

/// Warnings about a pod's spec at `path`; none where an update leaves it alone.
pub(crate) fn of(path: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let spec = tree::get(new, path);
    let mut out = Vec::new();
    if old.is_some_and(|old| tree::get(old, path) == spec) {
        return out;
    }
    for (key, _) in tree::entries(spec, "nodeSelector") {
        if let Some(why) = deprecated_label(key) {
            out.push(format!("{path}.nodeSelector[{key}]: {why}"));
        }
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in tree::list(spec, list).iter().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            let env = tree::list(container, "env");
            for (index, entry) in env.iter().enumerate() {
                let name = tree::text(entry, "name");
                if env[..index].iter().any(|earlier| tree::text(earlier, "name") == name) {
                    out.push(format!(
                        "{at}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
                    ));
                }
            }
            let ports = tree::list(container, "ports");
            let same = |a: &Value, b: &Value| {
                ["containerPort", "protocol", "hostPort", "hostIP"]
                    .iter()
                    .all(|field| tree::get(a, field) == tree::get(b, field))
            };
            for (index, port) in ports.iter().enumerate() {
                if let Some(first) = ports[..index].iter().position(|other| same(other, port)) {
                    out.push(format!(
                        "{at}.ports[{index}]: duplicate port definition with {at}.ports[{first}]"
                    ));
                }
            }
        }
    }
    out
}

/// What to use instead of an old label of nodes; `None` for any other.
pub(crate) fn deprecated_label(key: &str) -> Option<String> {
    let (_, since, instead) = OLD_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {instead:?} instead"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn duplicates_are_worth_a_word() {
        let pod = json!({ "spec": {
            "nodeSelector": { "beta.kubernetes.io/os": "linux" },
            "containers": [{
                "env": [{ "name": "A" }, { "name": "A" }],
                "ports": [{ "containerPort": 80 }, { "containerPort": 81 }, { "containerPort": 80 }],
            }],
        }});
        assert_eq!(
            super::of("spec", &pod, None),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
        assert_eq!(super::of("spec", &pod, Some(&pod)), Vec::<String>::new());
    }
}

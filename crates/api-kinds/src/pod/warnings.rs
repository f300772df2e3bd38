//! What is accepted but probably not meant, for `Warning` headers.

use std::collections::BTreeSet;

use api_object::quantity::Quantity;
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

/// Annotations that became fields, and those fields.
const OLD_ANNOTATIONS: [(&str, &str, &str); 3] = [
    ("scheduler.alpha.kubernetes.io/critical-pod", "v1.16", "priorityClassName"),
    ("security.alpha.kubernetes.io/sysctls", "v1.11", "sysctls"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "v1.11", "sysctls"),
];

/// Kinds of volumes that are no more, or soon will not be.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Warnings about a pod's spec at `path`; none where an update leaves it alone.
pub(crate) fn of(path: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let spec = tree::get(new, path);
    if old.is_some_and(|old| tree::get(old, path) == spec) {
        return Vec::new();
    }
    let metadata = format!("{}metadata", path.strip_suffix("spec").unwrap_or_default());
    let pod = Pod {
        path,
        spec,
        annotations_path: format!("{metadata}.annotations"),
        annotations: tree::get(new, &format!("{metadata}.annotations")),
    };
    let mut out = Vec::new();
    pod.placement(&mut out);
    pod.annotations(&mut out);
    pod.volumes(&mut out);
    pod.lists(&mut out);
    amounts(&format!("{path}.overhead"), tree::get(spec, "overhead"), &mut out);
    pod.profiles(&mut out);
    for (at, container) in pod.containers() {
        for of in ["limits", "requests"] {
            let list = tree::get(tree::get(container, "resources"), of);
            amounts(&format!("{at}.resources.{of}"), list, &mut out);
        }
        environment(&at, tree::list(container, "env"), &mut out);
    }
    pod.ports(&mut out);
    if tree::int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        out.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    pod.affinity(&mut out);
    out
}

/// What is looked at.
struct Pod<'a> {
    path: &'a str,
    spec: &'a Value,
    annotations_path: String,
    annotations: &'a Value,
}

impl<'a> Pod<'a> {
    fn list(&self, field: &str) -> impl Iterator<Item = (String, &'a Value)> {
        let at = format!("{}.{field}", self.path);
        let list = tree::list(self.spec, field).iter().enumerate();
        list.map(move |(index, item)| (format!("{at}[{index}]"), item))
    }

    fn containers(&self) -> impl Iterator<Item = (String, &'a Value)> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| self.list(list))
    }

    fn placement(&self, out: &mut Vec<String>) {
        let path = self.path;
        for (key, _) in tree::entries(self.spec, "nodeSelector") {
            if let Some(why) = deprecated_label(key) {
                out.push(format!("{path}.nodeSelector[{key}]: {why}"));
            }
        }
        const NODES: &str = "affinity.nodeAffinity";
        let required =
            format!("{NODES}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        for (at, term) in self.list(&required) {
            labels_of_term(&at, term, out);
        }
        let preferred = format!("{NODES}.preferredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in self.list(&preferred) {
            labels_of_term(&format!("{at}.preference"), tree::get(term, "preference"), out);
        }
        for (at, constraint) in self.list("topologySpreadConstraints") {
            let key = tree::text(constraint, "topologyKey");
            if let Some(why) = deprecated_label(key) {
                out.push(format!("{at}.topologyKey: {key} is {why}"));
            }
            if tree::get(constraint, "labelSelector").is_null() {
                out.push(format!("{at}.labelSelector: {NO_SELECTOR}"));
            }
        }
    }

    fn annotation(&self, key: &str) -> Option<String> {
        self.annotations.get(key)?;
        Some(format!("{}[{key}]", self.annotations_path))
    }

    fn annotations(&self, out: &mut Vec<String>) {
        for (key, since, field) in OLD_ANNOTATIONS {
            out.extend(self.annotation(key).map(|at| {
                format!("{at}: non-functional in {since}+; use the {field:?} field instead")
            }));
        }
    }

    fn volumes(&self, out: &mut Vec<String>) {
        for (at, volume) in self.list("volumes") {
            for (field, why) in OLD_VOLUMES {
                if !tree::get(volume, field).is_null() {
                    // Upstream names the field as its code does.
                    let field = if field == "storageos" { "storageOS" } else { field };
                    out.push(format!("{at}.{field}: {why}"));
                }
            }
        }
        let sources = |volume: &'a Value| tree::list(volume, "projected.sources").iter();
        let tokens: BTreeSet<&str> = self
            .list("volumes")
            .flat_map(|(_, volume)| sources(volume))
            .map(|source| tree::get(source, "serviceAccountToken"))
            .filter(|token| !token.is_null())
            .map(|token| tree::text(token, "path"))
            .collect();
        let taken = |at: String, path: &str| {
            tokens
                .contains(path)
                .then(|| format!("{at}: has duplicated path with ServiceAccountToken {path:?}"))
        };
        for (at, volume) in self.list("volumes") {
            for source in sources(volume) {
                for (field, shown) in [
                    ("configMap", "configMap"),
                    ("secret", "secrets"),
                    ("downwardAPI", "downwardAPI"),
                ] {
                    let items = tree::list(tree::get(source, field), "items");
                    for (index, item) in items.iter().enumerate() {
                        let at = format!("{at}.projected.sources.{shown}[{index}]");
                        out.extend(taken(at, tree::text(item, "path")));
                    }
                }
                let bundle = tree::get(source, "clusterTrustBundle");
                if !bundle.is_null() {
                    let at = format!("{at}.projected.sources.ClusterTrustBundle");
                    out.extend(taken(at, tree::text(bundle, "path")));
                }
            }
        }
    }

    /// Lists whose elements were not told apart when they were made.
    fn lists(&self, out: &mut Vec<String>) {
        for (list, key, word) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")]
        {
            let mut known = BTreeSet::new();
            for (at, item) in self.list(list) {
                let value = tree::text(item, key);
                if !known.insert(value) {
                    out.push(format!("{at}.{key}: duplicate {word} {value:?}"));
                }
            }
        }
        for (at, secret) in self.list("imagePullSecrets") {
            if tree::text(secret, "name").is_empty() {
                out.push(format!("{at}.name: invalid empty name \"\""));
            }
        }
    }

    /// Annotations that say what fields of the security context say now.
    fn profiles(&self, out: &mut Vec<String>) {
        let has = |of: &Value, field: &str| !tree::get(of, "securityContext")[field].is_null();
        if !has(self.spec, "seccompProfile") {
            let at = self.annotation("seccomp.security.alpha.kubernetes.io/pod");
            out.extend(at.map(|at| format!("{at}: {SECCOMP}")));
        }
        for (_, container) in self.containers() {
            let name = tree::text(container, "name");
            if !has(container, "seccompProfile") {
                let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
                out.extend(self.annotation(&key).map(|at| format!("{at}: {SECCOMP}")));
            }
            if !has(self.spec, "appArmorProfile") && !has(container, "appArmorProfile") {
                let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
                out.extend(self.annotation(&key).map(|at| {
                    format!(
                        "{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
                    )
                }));
            }
        }
    }

    /// Ports that stand in each other's way, in all containers.
    fn ports(&self, out: &mut Vec<String>) {
        let mut known: Vec<(String, &Value)> = Vec::new();
        for (at, container) in self.containers() {
            for (index, port) in tree::list(container, "ports").iter().enumerate() {
                let at = format!("{at}.ports[{index}]");
                let same = |other: &Value| {
                    ["containerPort", "protocol"]
                        .iter()
                        .all(|field| tree::get(other, field) == tree::get(port, field))
                };
                for (first, other) in known.iter().filter(|(_, other)| same(other)) {
                    if let Some(what) = conflict(port, other) {
                        out.push(format!("{at}: {what} port definition with {first}"));
                    }
                }
                known.push((at, port));
            }
        }
    }

    fn affinity(&self, out: &mut Vec<String>) {
        for kind in ["podAffinity", "podAntiAffinity"] {
            for (list, term) in [
                ("requiredDuringSchedulingIgnoredDuringExecution", ""),
                ("preferredDuringSchedulingIgnoredDuringExecution", ".podAffinityTerm"),
            ] {
                for (at, item) in self.list(&format!("affinity.{kind}.{list}")) {
                    let inside = match term.strip_prefix('.') {
                        Some(field) => tree::get(item, field),
                        None => item,
                    };
                    if tree::get(inside, "labelSelector").is_null() {
                        out.push(format!("{at}{term}.labelSelector: {NO_SELECTOR}"));
                    }
                }
            }
        }
    }
}

fn labels_of_term(path: &str, term: &Value, out: &mut Vec<String>) {
    for (index, expression) in tree::list(term, "matchExpressions").iter().enumerate() {
        let key = tree::text(expression, "key");
        if let Some(why) = deprecated_label(key) {
            out.push(format!("{path}.matchExpressions[{index}].key: {key} is {why}"));
        }
    }
}

/// What is wrong with two definitions of one container port.
fn conflict(port: &Value, other: &Value) -> Option<&'static str> {
    let host = |port: &Value| {
        (tree::text(port, "hostIP").to_owned(), tree::int(port, "hostPort").unwrap_or(0))
    };
    let ((ip, port), (other_ip, other_port)) = (host(port), host(other));
    match (ip == other_ip, port == other_port) {
        (true, true) => Some("duplicate"),
        _ if port == 0 || other_port == 0 => Some("overlapping"),
        (false, true) if ip.is_empty() || other_ip.is_empty() => Some("dangerously ambiguous"),
        _ => None,
    }
}

/// Names that are there twice. A value made from the one before it is meant.
fn environment(path: &str, env: &[Value], out: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for (index, entry) in env.iter().enumerate() {
        let name = tree::text(entry, "name");
        let (value, before) = (tree::text(entry, "value"), format!("$({name})"));
        let extends = value != before && value.contains(&before) && entry["valueFrom"].is_null();
        if !known.insert(name) && !extends {
            out.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// Bytes of which there is a fraction.
fn amounts(path: &str, list: &Value, out: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        let Some(text) = list.get(resource).and_then(Value::as_str) else { continue };
        if Quantity::parse(text).is_ok_and(|amount| amount.millis() % 1000 != 0) {
            out.push(format!(
                "{path}[{resource}]: fractional byte value {text:?} is invalid, must be an integer"
            ));
        }
    }
}

/// What to use instead of an old label of nodes; `None` for any other.
pub(crate) fn deprecated_label(key: &str) -> Option<String> {
    let (_, since, instead) = OLD_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {instead:?} instead"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    /// Each path and value that is put into a pod, and the warnings that follow.
    #[track_caller]
    fn warns(pod: Value, warnings: &[&str]) {
        assert_eq!(super::of("spec", &pod, None), warnings);
        assert_eq!(super::of("spec", &pod, Some(&pod)), [""; 0], "nothing changed");
        // In a template the same is said further down.
        let inside: Vec<String> = warnings.iter().map(|it| format!("spec.template.{it}")).collect();
        let inside: Vec<String> =
            inside.iter().map(|it| it.replace("with spec.", "with spec.template.spec.")).collect();
        let template = json!({"spec": {"template": pod}});
        assert_eq!(super::of("spec.template.spec", &template, None), inside);
    }

    #[test]
    fn labels_of_nodes() {
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]});
        warns(
            json!({"spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"preference": term}],
                }},
                "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
            }}),
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        );
    }

    #[test]
    fn annotations_and_volumes() {
        warns(
            json!({
                "metadata": {"annotations": {
                    "scheduler.alpha.kubernetes.io/critical-pod": "",
                    "seccomp.security.alpha.kubernetes.io/pod": "x",
                    "container.apparmor.security.beta.kubernetes.io/a": "x",
                    "container.apparmor.security.beta.kubernetes.io/b": "x",
                }},
                "spec": {
                    "containers": [
                        {"name": "a"},
                        {"name": "b", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
                    ],
                    "volumes": [
                        {"name": "g", "gitRepo": {"repository": "x"}},
                        {"name": "p", "projected": {"sources": [
                            {"serviceAccountToken": {"path": "token"}},
                            {"configMap": {"items": [{"key": "a", "path": "token"}]}},
                        ]}},
                    ],
                },
            }),
            &[
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
                "spec.volumes[0].gitRepo: deprecated in v1.11",
                "spec.volumes[1].projected.sources.configMap[0]: has duplicated path with ServiceAccountToken \"token\"",
                "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: deprecated since v1.30; use the \"appArmorProfile\" field instead",
            ],
        );
    }

    #[test]
    fn what_is_there_twice() {
        warns(
            json!({"spec": {
                "hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}],
                "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
                "containers": [{
                    "resources": {"requests": {"memory": "100m", "cpu": "100m"}},
                    "env": [
                        {"name": "A"}, {"name": "A"}, {"name": "A", "value": "x$(A)"},
                        {"name": "A", "value": "$(A)"},
                    ],
                    "ports": [{"containerPort": 80}, {"containerPort": 81}, {"containerPort": 80}],
                }, {
                    "ports": [{"containerPort": 81, "hostPort": 1}],
                }],
                "terminationGracePeriodSeconds": -1,
                "affinity": {"podAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}],
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}],
                }},
            }}),
            &[
                "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].env[3]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[1]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
            ],
        );
    }
}

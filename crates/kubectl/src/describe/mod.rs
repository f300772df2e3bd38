//! `kubectl describe`: an object and what is known beside it, as text for people.
//!
//! A kind is a row of [`KINDS`]: what else is asked for, and a pure function.
//! Every other kind is told field by field (`generic`).

mod config;
mod containers;
mod generic;
mod network;
mod node;
mod pod;
mod rbac;
mod storage;
mod text;
mod volumes;
mod workload;

use jiff::Timestamp;
use serde_json::Value;

use text::{Text, age, list, number, plain};

/// What else a description needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Pods that the object's selector selects.
    Pods,
    /// Pods on the node that the object is.
    PodsOfNode,
    /// ReplicaSets that the object controls.
    ReplicaSets,
    /// Pods that mount the claim that the object is.
    PodsOfClaim,
    /// The node's Lease.
    Lease,
    /// EndpointSlices of the Service.
    EndpointSlices,
    /// EndpointSlices of all Services in the namespace.
    AllEndpointSlices,
    /// The namespace's quotas.
    Quotas,
    /// The namespace's limit ranges.
    Limits,
}

/// What is known beside an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Related {
    /// Now.
    pub(crate) now: Timestamp,
    /// Its events; `None` where they are not shown.
    pub(crate) events: Option<Vec<Value>>,
    /// By need.
    pub(crate) found: Vec<(Need, Vec<Value>)>,
}

impl Related {
    /// What a need found.
    pub(crate) fn of(&self, need: Need) -> &[Value] {
        self.found.iter().find(|(known, _)| *known == need).map_or(&[], |(_, found)| found)
    }
}

/// How a kind is described.
pub(crate) struct Kind {
    /// Its group; empty for core.
    pub(crate) group: &'static str,
    /// `Pod`
    pub(crate) kind: &'static str,
    /// What else is asked for.
    pub(crate) needs: &'static [Need],
    /// Whether events are part of it.
    pub(crate) events: bool,
    describe: fn(&mut Text, &Value, &Related),
}

macro_rules! kind {
    ($group:literal $kind:literal $describe:path) => { kind!($group $kind $describe, [], true) };
    ($group:literal $kind:literal $describe:path, [$($need:ident),*]) => { kind!($group $kind $describe, [$($need),*], true) };
    ($group:literal $kind:literal $describe:path, [$($need:ident),*], $events:literal) => {
        Kind { group: $group, kind: $kind, needs: &[$(Need::$need),*], events: $events, describe: $describe }
    };
}

/// Kinds with a description of their own.
pub(crate) static KINDS: &[Kind] = &[
    kind!("" "Pod" pod::describe),
    kind!("" "Node" node::describe, [PodsOfNode, Lease]),
    kind!("" "Service" network::service, [EndpointSlices]),
    kind!("" "ReplicationController" workload::replica_set, [Pods]),
    kind!("" "Endpoints" network::endpoints),
    kind!("" "ConfigMap" config::config_map),
    kind!("" "Secret" config::secret, [], false),
    kind!("" "Namespace" config::namespace, [Quotas, Limits], false),
    kind!("" "ServiceAccount" config::service_account),
    kind!("" "ResourceQuota" config::quota, [], false),
    kind!("" "LimitRange" config::limit_range, [], false),
    kind!("" "PersistentVolumeClaim" storage::claim, [PodsOfClaim]),
    kind!("" "PersistentVolume" storage::volume),
    kind!("storage.k8s.io" "StorageClass" storage::class),
    kind!("storage.k8s.io" "CSINode" storage::csi_node),
    kind!("scheduling.k8s.io" "PriorityClass" storage::priority_class),
    kind!("apps" "Deployment" workload::deployment, [ReplicaSets]),
    kind!("apps" "ReplicaSet" workload::replica_set, [Pods]),
    kind!("apps" "DaemonSet" workload::daemon_set, [Pods]),
    kind!("apps" "StatefulSet" workload::stateful_set, [Pods]),
    kind!("batch" "Job" workload::job),
    kind!("batch" "CronJob" workload::cron_job),
    kind!("rbac.authorization.k8s.io" "Role" rbac::role, [], false),
    kind!("rbac.authorization.k8s.io" "ClusterRole" rbac::role, [], false),
    kind!("rbac.authorization.k8s.io" "RoleBinding" rbac::binding, [], false),
    kind!("rbac.authorization.k8s.io" "ClusterRoleBinding" rbac::binding, [], false),
    kind!("networking.k8s.io" "Ingress" network::ingress, [AllEndpointSlices]),
    kind!("networking.k8s.io" "IngressClass" network::ingress_class),
    kind!("networking.k8s.io" "ServiceCIDR" network::service_range),
    kind!("networking.k8s.io" "IPAddress" network::address),
    kind!("networking.k8s.io" "NetworkPolicy" network::policy, [], false),
    kind!("discovery.k8s.io" "EndpointSlice" network::endpoint_slice),
    kind!("policy" "PodDisruptionBudget" workload::disruption_budget),
    kind!("autoscaling" "HorizontalPodAutoscaler" workload::autoscaler),
];

/// The row of a kind.
pub(crate) fn row(group: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|row| row.group == group && row.kind == kind)
}

/// The description of an object.
pub(crate) fn describe(row: Option<&Kind>, object: &Value, related: &Related) -> String {
    let mut out = Text::default();
    match row {
        Some(row) => (row.describe)(&mut out, object, related),
        None => generic::describe(&mut out, object, related),
    }
    out.done()
}

/// `ReplicaSet/web`, where something controls the object.
fn controller(meta: &Value) -> Option<String> {
    let owner = list(&meta["ownerReferences"]).find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", text::text(&owner["kind"]), text::text(&owner["name"])))
}

/// The events at the end.
fn events(out: &mut Text, related: &Related) {
    let Some(events) = &related.events else { return };
    if events.is_empty() {
        return out.line(0, "Events:\t<none>");
    }
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| last_seen(event));
    let rows: Vec<Vec<String>> = events
        .into_iter()
        .map(|event| {
            let source = match text::text(&event["source"]["component"]) {
                "" => text::text(&event["reportingComponent"]),
                component => component,
            };
            let of = match text::text(&event["involvedObject"]["fieldPath"]) {
                "" => String::new(),
                path => format!("{path}: "),
            };
            vec![
                plain(&event["type"]),
                plain(&event["reason"]),
                interval(event, related.now),
                source.to_owned(),
                format!("{of}{}", text::text(&event["message"]).trim()),
            ]
        })
        .collect();
    out.line(0, "Events:");
    out.line(1, "Type\tReason\tAge\tFrom\tMessage");
    out.line(1, "----\t------\t----\t----\t-------");
    for row in rows {
        out.line(1, row.join("\t"));
    }
}

/// When an event was seen last, as text that sorts.
pub(crate) fn last_seen(event: &Value) -> String {
    let candidates =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    let found = candidates.into_iter().find(|value| value.is_string());
    found.map(plain).unwrap_or_default()
}

/// `5s`, or `5s (x3 over 2m)`.
pub(crate) fn interval(event: &Value, now: Timestamp) -> String {
    let first = match event["firstTimestamp"].is_string() {
        true => &event["firstTimestamp"],
        false => &event["eventTime"],
    };
    let series = &event["series"];
    if series.is_object() {
        let last = age(&series["lastObservedTime"], now);
        return format!("{last} (x{} over {})", number(&series["count"]), age(first, now));
    }
    if number(&event["count"]) > 1 {
        let last = age(&event["lastTimestamp"], now);
        return format!("{last} (x{} over {})", number(&event["count"]), age(first, now));
    }
    age(first, now)
}

/// A label selector as the API's query takes it; empty for all.
pub(crate) fn selector_query(selector: &Value) -> String {
    match text::selector(selector).as_str() {
        "<none>" => String::new(),
        text => text.to_owned(),
    }
}

/// A pod template alone, with its tabs: upstream lines none of it up.
pub(crate) fn template(template: &Value) -> String {
    let mut out = Text::default();
    containers::template(&mut out, template);
    out.unaligned()
}

/// Rules of RBAC as rows: resource, URLs, names, verbs.
pub(crate) fn policy_rules(rules: &Value) -> Vec<Vec<String>> {
    rbac::rules(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(object: Value) -> String {
        let api_version = text::text(&object["apiVersion"]);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let row = row(group, text::text(&object["kind"])).expect("a kind of ours");
        describe(Some(row), &object, &Related::default())
    }

    /// What is said from one line on, without those before.
    fn from(line: &str, text: &str) -> String {
        text.find(line).map_or_else(|| text.to_owned(), |at| text[at..].to_owned())
    }

    #[test]
    fn a_replication_controller_has_labels_for_a_selector() {
        let text = described(json!({
            "apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": "rc", "ownerReferences": [{"kind": "X", "controller": true}]},
            "spec": {"replicas": 2, "selector": {"a": "b", "c": "d"}, "template": {}},
        }));
        assert!(text.contains("\nSelector:     a=b,c=d\n"), "{text}");
        assert!(text.contains("\nReplicas:     0 current / 2 desired\n"), "{text}");
        assert!(!text.contains("Controlled By"), "{text}");
        assert_eq!(selector_query(&json!({"a": "b", "c": "d"})), "a=b,c=d");
    }

    #[test]
    fn how_an_autoscaler_behaves_is_told() {
        let text = described(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "b"},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5,
                "metrics": [
                    {"type": "ContainerResource", "containerResource": {
                        "name": "cpu", "container": "c", "target": {"averageValue": "100m"},
                    }},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Ingress", "name": "i"},
                        "metric": {"name": "hits"}, "target": {"averageValue": "10"},
                    }},
                ],
                "behavior": {
                    "scaleUp": {"policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                    ]},
                    "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min"},
                },
            },
        }));
        let said = "\
Metrics:                                       ( current / target )
  resource cpu of container \"c\" on pods:       <unknown> / 100m
  \"hits\" on Ingress/i (target average value):  <unknown> / 10
Min replicas:                                  <unset>
Max replicas:                                  5
Behavior:
  Scale Up:
    Select Policy: Max
    Policies:
      - Type: Pods     Value: 4    Period: 15 seconds
      - Type: Percent  Value: 100  Period: 15 seconds
  Scale Down:
    Stabilization Window: 0 seconds
Deployment pods:  0 current / 0 desired
";
        assert_eq!(from("Metrics:", &text), said);
    }

    #[test]
    fn a_service_says_what_its_ports_speak() {
        let text = described(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80, "protocol": "TCP", "appProtocol": "http"}]},
        }));
        let said = "AppProtocol:       http\nEndpoints:         <none>\n";
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn a_class_says_where_its_volumes_may_be() {
        let text = described(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "a"},
            "allowedTopologies": [
                {"matchLabelExpressions": [
                    {"key": "zone", "values": ["a", "b"]}, {"key": "rack", "values": ["1"]},
                ]},
                {},
            ],
        }));
        let said = "\
AllowedTopologies:     
  Term 0:              zone in [a, b]
                       rack in [1]
  Term 1:              <none>
";
        assert_eq!(from("AllowedTopologies:", &text), said);
    }

    #[test]
    fn a_volume_is_told_field_by_field() {
        let source = |name: &str, source: Value| {
            let mut volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "a"},
                "spec": {"capacity": {"storage": "1Gi"}},
            });
            volume["spec"][name] = source;
            from("    Type:", &described(volume))
        };
        let csi = json!({
            "driver": "d", "fsType": "ext4", "volumeHandle": "h",
            "volumeAttributes": {"k": "v", "l": "w"},
        });
        let said = "    \
    Type:              CSI (a Container Storage Interface (CSI) volume source)
    Driver:            d
    FSType:            ext4
    VolumeHandle:      h
    ReadOnly:          false
    VolumeAttributes:      k=v
                           l=w
";
        assert_eq!(source("csi", csi), said);
        let iscsi =
            source("iscsi", json!({"lun": 0, "portals": ["p"], "secretRef": {"name": "s"}}));
        for line in [
            "Portals:            [p]",
            "SessionCHAPAuth:    false",
            "SecretRef:          &SecretReference{Name:s,Namespace:,}",
            "InitiatorName:      <none>",
        ] {
            assert!(iscsi.contains(line), "{iscsi}");
        }
        let channel = source("fc", json!({"targetWWNs": ["a", "b"]}));
        let lines = "TargetWWNs:  a, b\n    LUN:         <none>\n";
        assert!(channel.contains(lines), "{channel}");
        let flexible = source("flexVolume", json!({"options": {"a": "b"}}));
        assert!(flexible.contains("SecretRef:  nil\n"), "{flexible}");
        assert!(flexible.contains("Options:    map[a:b]\n"), "{flexible}");
    }
}

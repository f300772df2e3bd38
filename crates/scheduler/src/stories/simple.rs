//! Names, selectors, taints, ports, resources, images.

use serde_json::{Value, json};
use testkit::{Build, node, pod};

use super::world::{check, outcome_by, profile};
use crate::Configuration;

fn p() -> Build {
    pod("default/p")
}

fn big() -> Build {
    node("big").label("zone", "a")
}

fn small() -> Build {
    node("small")
        .label("zone", "b")
        .label("cores", "4")
        .set("/status/allocatable", json!({"cpu": "1", "memory": "1Gi", "pods": "2"}))
}

fn both() -> Vec<Build> {
    vec![big(), small()]
}

fn term(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
}

fn affinity(how: &str, value: Value) -> Build {
    p().set(&format!("/spec/affinity/nodeAffinity/{how}"), value)
}

#[test]
fn which_nodes_a_pod_names() {
    let required = |terms: Value| {
        affinity("requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms", terms)
    };
    let preferred =
        |wishes: Value| affinity("preferredDuringSchedulingIgnoredDuringExecution", wishes);
    let by_name = |names: &[&str]| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]}]);
    let none = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    check(vec![
        ("no node", p(), vec![], "no nodes available to schedule pods"),
        ("one node", p(), vec![small()], "small"),
        ("selector", p().set("/spec/nodeSelector", json!({"zone": "b"})), both(), "small"),
        ("selector of none", p().set("/spec/nodeSelector", json!({"zone": "c"})), both(), none),
        (
            "one of two terms",
            required(json!([term("zone", "In", &["c"]), term("zone", "In", &["b"])])),
            both(),
            "small",
        ),
        ("not in", required(json!([term("zone", "NotIn", &["a"])])), both(), "small"),
        ("exists", required(json!([term("cores", "Exists", &[])])), both(), "small"),
        ("does not exist", required(json!([term("cores", "DoesNotExist", &[])])), both(), "big"),
        ("greater", required(json!([term("cores", "Gt", &["3"])])), both(), "small"),
        ("less", required(json!([term("cores", "Lt", &["3"])])), both(), none),
        ("no term at all", required(json!([])), both(), none),
        ("an empty term", required(json!([{}])), both(), none),
        ("by name, as a DaemonSet's", required(by_name(&["small"])), both(), "small"),
        (
            "by name, and full",
            required(by_name(&["small"])).requests("2", "1Mi"),
            both(),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
        ),
        (
            "by a name that is not there",
            required(by_name(&["gone"])),
            both(),
            "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
        ),
        (
            "a wish",
            preferred(json!([{"weight": 50, "preference": term("zone", "In", &["b"])}])),
            both(),
            "small",
        ),
        (
            "the greater wish",
            preferred(json!([
                {"weight": 10, "preference": term("zone", "In", &["b"])},
                {"weight": 90, "preference": term("zone", "In", &["a"])},
            ])),
            both(),
            "big",
        ),
    ]);
}

#[test]
fn whom_nodes_keep_away() {
    let tainted = |effect: &str| {
        big().set("/spec/taints", json!([{"key": "gpu", "value": "yes", "effect": effect}]))
    };
    let numbered = |value: &str| {
        big().set("/spec/taints", json!([{"key": "n", "value": value, "effect": "NoSchedule"}]))
    };
    let cordoned = || small().set("/spec/unschedulable", json!(true));
    let tolerating = |toleration: Value| p().set("/spec/tolerations", json!([toleration]));
    let compare = |operator: &str, value: &str| {
        tolerating(json!({"key": "n", "operator": operator, "value": value}))
    };
    let away = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    check(vec![
        ("no schedule", p(), vec![tainted("NoSchedule")], away),
        ("no execute", p(), vec![tainted("NoExecute")], away),
        ("rather not", p(), vec![tainted("PreferNoSchedule"), small()], "small"),
        ("rather not, but nowhere else", p(), vec![tainted("PreferNoSchedule")], "big"),
        (
            "tolerated key",
            tolerating(json!({"key": "gpu", "operator": "Exists"})),
            vec![tainted("NoSchedule")],
            "big",
        ),
        (
            "tolerated value",
            tolerating(json!({"key": "gpu", "value": "yes"})),
            vec![tainted("NoExecute")],
            "big",
        ),
        (
            "another value",
            tolerating(json!({"key": "gpu", "value": "no"})),
            vec![tainted("NoExecute")],
            away,
        ),
        (
            "another effect",
            tolerating(json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"})),
            vec![tainted("NoSchedule")],
            away,
        ),
        (
            "everything tolerated",
            tolerating(json!({"operator": "Exists"})),
            vec![tainted("NoExecute")],
            "big",
        ),
        ("above the bound", compare("Gt", "5"), vec![numbered("7")], "big"),
        ("not above the bound", compare("Gt", "7"), vec![numbered("7")], away),
        ("below the bound", compare("Lt", "8"), vec![numbered("7")], "big"),
        ("no number is below nothing", compare("Lt", "8"), vec![numbered("x")], away),
        (
            "each for its reason",
            tolerating(json!({"key": "gpu", "value": "no"})),
            vec![tainted("NoSchedule"), cordoned()],
            "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        ),
        (
            "a cordon tolerated",
            tolerating(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"})),
            vec![cordoned()],
            "small",
        ),
    ]);
}

#[test]
fn what_is_left_of_nodes() {
    let on_small = |cpu: &str, memory: &str| pod("default/q").on("small").requests(cpu, memory);
    let device =
        |n: &str| p().set("/spec/containers/0/resources/requests", json!({"example.com/gpu": n}));
    let gpus = || node("gpus").set("/status/allocatable/example.com~1gpu", json!("2"));
    let port = |pod: Build, ip: &str, protocol: &str| {
        pod.set(
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol}]),
        )
    };
    let at =
        |ip: &str, protocol: &str| vec![small(), port(pod("default/q").on("small"), ip, protocol)];
    let taken =
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    let sidecar = p()
        .requests("500m", "1Mi")
        .set("/spec/initContainers", json!([{"name": "s", "image": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "600m"}}}]));
    check(vec![
        ("more is left on the big one", p().requests("500m", "100Mi"), both(), "big"),
        (
            "the other is full",
            p().requests("500m", "100Mi"),
            [both(), vec![pod("default/q").on("big").requests("3800m", "1Gi")]].concat(),
            "small",
        ),
        (
            "never enough",
            p().requests("2", "100Mi"),
            vec![small()],
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            "not enough now",
            p().requests("600m", "100Mi"),
            vec![small(), on_small("500m", "1Gi")],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ),
        (
            "too many",
            p(),
            vec![small(), pod("default/q").on("small"), pod("default/r").on("small")],
            "0/1 nodes are available: 1 Too many pods.",
        ),
        (
            "what has ended takes nothing",
            p().requests("1", "1Mi"),
            vec![small(), on_small("1", "1Mi").set("/status/phase", json!("Succeeded"))],
            "small",
        ),
        (
            "a sidecar counts",
            sidecar.clone(),
            vec![small()],
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            "overhead counts",
            p().requests("1", "1Mi").set("/spec/overhead", json!({"cpu": "1m"})),
            vec![small()],
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            "an amount for the whole pod",
            sidecar.set("/spec/resources/requests", json!({"cpu": "900m"})),
            vec![small()],
            "small",
        ),
        ("a device", device("2"), vec![small(), gpus()], "gpus"),
        (
            "too many devices",
            device("3"),
            vec![small(), gpus()],
            "0/2 nodes are available: 2 Insufficient example.com/gpu.",
        ),
        ("a port taken everywhere", port(p(), "", "TCP"), at("10.0.0.1", "TCP"), taken),
        (
            "a port taken, default address there",
            port(p(), "10.0.0.1", "TCP"),
            at("0.0.0.0", "TCP"),
            taken,
        ),
        ("the same address", port(p(), "10.0.0.1", "TCP"), at("10.0.0.1", "TCP"), taken),
        ("another address", port(p(), "10.0.0.2", "TCP"), at("10.0.0.1", "TCP"), "small"),
        ("another protocol", port(p(), "10.0.0.1", "UDP"), at("10.0.0.1", "TCP"), "small"),
        (
            "where the image is",
            p().set("/spec/containers/0/image", json!("registry/web")),
            vec![
                big(),
                node("cached").set(
                    "/status/images",
                    json!([{"names": ["registry/web:latest"], "sizeBytes": 2_000_000_000}]),
                ),
            ],
            "cached",
        ),
        (
            "claims of devices are told of",
            p().set("/spec/resourceClaims", json!([{"name": "gpu"}])),
            both(),
            "0/2 nodes are available: this scheduler does not allocate resource claims yet; remove spec.resourceClaims.",
        ),
    ]);
}

#[test]
fn profiles_decide_otherwise() {
    let half = [both(), vec![pod("default/q").on("small").requests("300m", "300Mi")]].concat();
    let asks = p().requests("200m", "200Mi");
    let fit = |kind: &str| profile("NodeResourcesFit", json!({"scoringStrategy": {"type": kind}}));
    assert_eq!(outcome_by(&asks, &half, &fit("LeastAllocated")), "big");
    // Balance and spread are wishes too; only how full nodes are shall count.
    let packing = json!({"profiles": [{
        "plugins": {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit"}]}},
        "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}],
    }]});
    let packing = Configuration::read(&packing).expect("valid");
    assert_eq!(outcome_by(&asks, &half, &packing.profiles[0]), "small");
    let added = json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term("zone", "In", &["b"])]}}});
    assert_eq!(outcome_by(&asks, &both(), &profile("NodeAffinity", added.clone())), "small");
    let said = outcome_by(&asks, &[big()], &profile("NodeAffinity", added));
    assert!(
        said.starts_with(
            "0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity."
        ),
        "{said}"
    );
    let ignored = profile("NodeResourcesFit", json!({"ignoredResourceGroups": ["example.com"]}));
    let device = p().set("/spec/containers/0/resources/requests", json!({"example.com/gpu": "1"}));
    assert_eq!(outcome_by(&device, &[small()], &ignored), "small");
}

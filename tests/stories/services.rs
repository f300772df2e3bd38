//! Services whose endpoints are on one of two nodes, or on both: who serves whom.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    cluster::{Cluster, Run, comes_to_print, run},
    harness::until,
};

const NODES: [&str; 2] = ["node-1", "node-2"];

/// A pod on a node, behind Services by its labels.
fn pod(name: &str, node: &str, labels: &str, args: &str) -> String {
    let probe = match args.contains("8080") {
        true => ", readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}",
        false => "",
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 60\n  containers: [{{name: c, image: skiff.local/toolbox, args: [{args}]{probe}}}]\n"
    )
}

const SERVES: &str = "http-echo, --port, '8080'";

/// Pods that ask and those of `both` are on each node, all else is on the second.
fn objects() -> String {
    let clients = NODES.map(|node| pod(&format!("on-{node}"), node, "a: b", "sleep, infinity"));
    let both = NODES.map(|node| pod(&format!("both-{node}"), node, "app: both", SERVES));
    let far = ["far-a", "far-b"].map(|name| pod(name, "node-2", "app: far", SERVES));
    let service = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let web = "ports: [{port: 80, targetPort: 8080}]";
    [
        clients.concat(),
        both.concat(),
        far.concat(),
        pod("echo", "node-2", "app: echo", "udp-echo, --port, '8081'"),
        pod("ending", "node-2", "app: ending", &format!("{SERVES}, --drain, '50'")),
        service("both", &format!("internalTrafficPolicy: Local, selector: {{app: both}}, {web}")),
        service("near", &format!("internalTrafficPolicy: Local, selector: {{app: far}}, {web}")),
        service("sticky", &format!("sessionAffinity: ClientIP, selector: {{app: far}}, {web}")),
        service("spread", &format!("selector: {{app: far}}, {web}")),
        service("ending", &format!("selector: {{app: ending}}, {web}")),
        service(
            "echo",
            "selector: {app: echo}, ports: [{port: 80, targetPort: 8081, protocol: UDP}]",
        ),
        service(
            "balanced",
            "type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: far}, ports: [{port: 8088, targetPort: 8080}]",
        ),
    ]
    .concat()
}

fn asks(cluster: &Cluster, node: &str, service: &str) -> Run {
    let get = format!("toolbox get --timeout 2 http://{service}/");
    cluster.kubectl(&format!("exec on-{node} -- {get}"))
}

/// Who answered, of so many times.
fn answered(cluster: &Cluster, node: &str, service: &str) -> BTreeSet<String> {
    (0..8).map(|_| asks(cluster, node, service).ok().stdout.trim().to_owned()).collect()
}

#[test]
fn endpoints_on_one_of_two_nodes_serve_whom_they_should() {
    let Some((cluster, agent)) = Cluster::start_with_agent() else { return };
    cluster.apply(&objects()).ok();
    cluster.kubectl("wait --for=condition=Ready pod --all --timeout=180s").ok();
    // From then on every node knows of all endpoints.
    for node in NODES {
        until("both are known", || answered_by_both(&cluster, node));
        for service in ["sticky", "ending"] {
            comes_to_print(|| asks(&cluster, node, service), "");
        }
    }
    traffic_that_stays_on_its_node(&cluster);
    health_of_a_node_without_an_endpoint(&cluster, &agent);
    a_balanced_port_is_one_services(&cluster);
    let udp = "exec on-node-1 -- toolbox udp --timeout 2 --send hello echo:80";
    comes_to_print(|| cluster.kubectl(udp), "echo hello");
    whoever_was_served_is_served_by_the_same(&cluster);
    who_ends_serves_where_nobody_else_is(&cluster);
}

fn answered_by_both(cluster: &Cluster, node: &str) -> bool {
    let all: BTreeSet<String> =
        (0..8).map(|_| asks(cluster, node, "spread").stdout.trim().to_owned()).collect();
    all == BTreeSet::from(["far-a".to_owned(), "far-b".to_owned()])
}

/// `internalTrafficPolicy: Local`
fn traffic_that_stays_on_its_node(cluster: &Cluster) {
    for node in NODES {
        let own = format!("both-{node}");
        comes_to_print(|| asks(cluster, node, "both"), &own);
        assert_eq!(answered(cluster, node, "both"), BTreeSet::from([own]));
    }
    comes_to_print(|| asks(cluster, "node-2", "near"), "far-");
    // As upstream's proxy drops what would have to leave the node.
    for _ in 0..3 {
        asks(cluster, "node-1", "near").fails_with("timed out");
    }
}

/// The second of two LoadBalancers has what the first leaves, and all once that is gone.
fn a_balanced_port_is_one_services(cluster: &Cluster) {
    let service = |name: &str, port: u16| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: both}}, ports: [{{port: {port}, targetPort: 8080}}]}}\n"
        )
    };
    cluster.apply(&(service("second", 8088) + &service("own", 6443))).ok();
    let address = |node: &str| {
        let addresses = cluster.get(&format!("node {node}"))["status"]["addresses"].clone();
        let addresses = addresses.as_array().expect("a node has addresses");
        let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
        internal.expect("one is internal")["address"].as_str().expect("a text").to_owned()
    };
    let [first, second] = NODES.map(address);
    let ingress = |name: &str| {
        cluster.kubectl(&format!(
            "get service {name} -o jsonpath={{.status.loadBalancer.ingress[*].ip}}"
        ))
    };
    let events =
        |name: &str| cluster.kubectl(&format!("events --for service/{name} --types Warning"));
    until("the first is served", || ingress("balanced").ok().stdout == second);
    until("the second has what is left", || ingress("second").ok().stdout == first);
    let why = format!("port 8088/TCP is taken by Service default/balanced on {second}");
    comes_to_print(|| events("second"), &why);
    comes_to_print(|| events("own"), "port 6443/TCP is taken by the API server");
    assert_eq!(ingress("own").ok().stdout, "");
    cluster.kubectl("delete service balanced own").ok();
    let both = [&first, &second].map(|ip| ip.parse::<std::net::IpAddr>().expect("an address"));
    until("the second has both", || {
        let told = ingress("second").ok().stdout;
        told.split(' ').filter_map(|ip| ip.parse().ok()).collect::<BTreeSet<_>>() == both.into()
    });
}

/// `healthCheckNodePort`: a balancer passes it by.
fn health_of_a_node_without_an_endpoint(cluster: &Cluster, agent: &Cluster) {
    let port = cluster.get("service balanced")["spec"]["healthCheckNodePort"].clone();
    for (machine, told) in [(cluster, "0 503"), (agent, "2 200")] {
        let url = format!("http://127.0.0.1:{port}/healthz");
        let curl = || {
            let mut curl = machine.command("curl");
            run(curl.args(["-sS", "--max-time", "5", "-w", "\n%{http_code}", &url]), None)
        };
        let said = || {
            let mut run = curl();
            let (body, status) = run.stdout.split_once('\n').unwrap_or_default();
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            run.stdout = format!("{} {status}", body["localEndpoints"]);
            run
        };
        comes_to_print(said, told);
    }
}

/// `sessionAffinity: ClientIP`, also where the endpoints are on another node.
fn whoever_was_served_is_served_by_the_same(cluster: &Cluster) {
    for node in NODES {
        let first = answered(cluster, node, "sticky");
        assert_eq!(first.len(), 1, "{node}: {first:?}");
    }
    let first = answered(cluster, "node-1", "sticky").pop_first().expect("one");
    let other = if first == "far-a" { "far-b" } else { "far-a" };
    cluster.kubectl(&format!("delete pod {first} --grace-period=1 --timeout=180s")).ok();
    comes_to_print(|| asks(cluster, "node-1", "sticky"), other);
    assert_eq!(answered(cluster, "node-1", "sticky"), BTreeSet::from([other.to_owned()]));
}

fn who_ends_serves_where_nobody_else_is(cluster: &Cluster) {
    cluster.kubectl("delete pod ending --wait=false").ok();
    let ends = |cluster: &Cluster| {
        let slices = cluster.get("endpointslices -l kubernetes.io/service-name=ending");
        let conditions = &slices["items"][0]["endpoints"][0]["conditions"];
        let is = |name: &str| conditions[name].as_bool();
        (is("ready"), is("serving"), is("terminating")) == (Some(false), Some(true), Some(true))
    };
    until("its endpoint is told to end", || ends(cluster));
    for node in NODES {
        assert_eq!(answered(cluster, node, "ending"), BTreeSet::from(["ending".to_owned()]));
    }
    assert!(ends(cluster), "it was ending all the time");
    let pod: Value = cluster.get("pod ending");
    assert_ne!(pod["metadata"]["deletionTimestamp"], Value::Null);
    cluster.kubectl("delete pod ending --grace-period=1 --timeout=180s").ok();
    until("nobody is left", || asks(cluster, "node-1", "ending").stderr.contains("refused"));
}

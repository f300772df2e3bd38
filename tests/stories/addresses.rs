//! Addresses and ports of Services: had once, seen as objects, given back.

use crate::{cluster::Cluster, harness::until};

const MORE: &str = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.99.0.0/24]}\n";

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ports: [{port: 80}]
"#;

#[test]
fn addresses_are_objects_that_come_and_go_with_their_service() {
    let Some(mut cluster) = Cluster::start() else { return };
    // A server makes them once it leads.
    cluster.comes_to_print("get ipaddress 10.43.0.1", "services/default/kubernetes");
    cluster.comes_to_print("get servicecidr kubernetes", "10.43.0.0/16");
    cluster.kubectl("wait servicecidr/kubernetes --for=condition=Ready --timeout=180s").ok();
    cluster.apply(WEB).ok();
    let address = cluster.get("service web")["spec"]["clusterIP"].clone();
    let address = address.as_str().expect("an address").to_owned();
    cluster.kubectl(&format!("get ipaddress {address}")).prints("services/default/web");
    let object = cluster.get(&format!("ipaddress {address}"));
    assert_eq!(object["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    let port = cluster.get("service web")["spec"]["ports"][0]["nodePort"].clone();

    let dns = cluster.get("service kubernetes")["spec"]["clusterIP"].clone();
    let change =
        format!(r#"patch service web -p {{"spec":{{"clusterIP":{dns},"clusterIPs":[{dns}]}}}}"#);
    cluster.kubectl(&change).fails_with(&format!(
        "The Service \"web\" is invalid: spec.clusterIPs[0]: Invalid value: [{dns}]: may not change once set"
    ));
    assert_eq!(cluster.get("service web")["spec"]["clusterIP"], *address);

    // Nobody gets them twice, also after a crash.
    for round in ["before", "after"] {
        cluster
            .kubectl(&format!("create service clusterip other --clusterip={address} --tcp=80"))
            .fails_with("provided IP is already allocated");
        cluster
            .kubectl(&format!("create service nodeport other --node-port={port} --tcp=80"))
            .fails_with("provided port is already allocated");
        if round == "before" {
            cluster.kill_server();
            cluster.start_server();
        }
    }
    // One that is deleted by hand comes back, one without a Service goes.
    cluster.kubectl(&format!("delete ipaddress {address}")).ok();
    cluster.kubectl(&format!("wait ipaddress/{address} --for=create --timeout=180s")).ok();
    cluster
        .apply("apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata:\n  name: 10.43.77.7\n  labels: {ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io}\nspec: {parentRef: {resource: services, namespace: default, name: gone}}\n")
        .ok();
    cluster.kubectl("wait ipaddress/10.43.77.7 --for=delete --timeout=180s").ok();

    cluster.kubectl("delete service web").ok();
    cluster.kubectl(&format!("get ipaddress {address}")).fails_with("not found");
    cluster.kubectl(&format!("create service clusterip other --clusterip={address} --tcp=80")).ok();
    cluster.kubectl(&format!("create service nodeport ported --node-port={port} --tcp=80")).ok();
}

/// The life of a range beside the server's own (KEP-1880).
#[test]
fn a_range_that_is_added_gives_addresses_and_goes_when_none_is_in_use() {
    let Some(cluster) = Cluster::start() else { return };
    let fixed = "create service clusterip first --clusterip=10.99.0.7 --tcp=80";
    cluster.kubectl(fixed).fails_with("the provided network does not match the current range");
    cluster.apply(MORE).ok();
    cluster.kubectl("wait servicecidr/more --for=condition=Ready --timeout=180s").ok();
    let range = cluster.get("servicecidr more");
    assert_eq!(
        range["metadata"]["finalizers"][0], "networking.k8s.io/service-cidr-finalizer",
        "{range}"
    );
    assert_eq!(range["status"]["conditions"][0]["message"], "Kubernetes Service CIDR is ready");
    cluster.kubectl(fixed).ok();
    cluster.kubectl("get ipaddress 10.99.0.7").prints("services/default/first");
    cluster
        .kubectl("create service clusterip second --clusterip=10.99.0.7 --tcp=80")
        .fails_with("failed to allocate IP 10.99.0.7: provided IP is already allocated");

    // It stays for as long as a Service needs it, and gives nothing out meanwhile.
    cluster.kubectl("delete servicecidr more --wait=false").ok();
    cluster.kubectl("wait servicecidr/more --for=condition=Ready=False --timeout=180s").ok();
    let why = &cluster.get("servicecidr more")["status"]["conditions"][0];
    assert_eq!(why["reason"], "Terminating", "{why}");
    cluster
        .kubectl("create service clusterip second --clusterip=10.99.0.8 --tcp=80")
        .fails_with("the provided network does not match the current range");
    cluster.kubectl("delete service first").ok();
    cluster.kubectl("wait servicecidr/more --for=delete --timeout=180s").ok();
}

/// A pod on a node, with a web server where there is a text for it.
fn pod(name: &str, node: &str, text: Option<&str>) -> String {
    let args = match text {
        Some(text) => format!(
            "args: [http-echo, --port, '8080', --text, {text}], readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}"
        ),
        None => "args: [sleep, infinity]".to_owned(),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 0\n  containers: [{{name: c, image: skiff.local/toolbox, {args}}}]\n"
    )
}

fn without_default_route(machine: &Cluster) {
    let ip = |args: &[&str]| crate::cluster::run(machine.command("ip").args(args), None).ok();
    ip(&["route", "del", "default"]);
    assert_eq!(ip(&["route", "show", "default"]).stdout, "");
}

/// Nodes learn of a range while they run, as of what leads to its Services: machines
/// that have had no default route since before their first start, so that nothing but a route of its own leads there.
#[test]
fn a_service_of_an_added_range_is_reached_from_pods_and_nodes_everywhere() {
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    without_default_route(&cluster);
    cluster.start_server();
    let mut agent = cluster.prepare_agent(2);
    without_default_route(&agent);
    agent.start_server();
    for one in [&cluster, &agent] {
        cluster.has_ready(one);
    }
    let machine = |node: &str, agent: &Cluster, program: &str, args: &[&str]| {
        let on = if node == "node-1" { &cluster } else { agent };
        crate::cluster::run(on.command(program).args(args), None)
    };
    let nodes = ["node-1", "node-2"];
    let clients = nodes.map(|node| pod(&format!("on-{node}"), node, None)).concat();
    cluster.apply(&(pod("web", "node-2", Some("found")) + &clients)).ok();
    cluster.kubectl("wait --for=condition=Ready pod --all --timeout=180s").ok();
    let of_pod = |node: &str, ip: &str| {
        cluster.kubectl(&format!("exec on-{node} -- toolbox get --timeout 5 http://{ip}/"))
    };
    let of_node = |node: &str, agent: &Cluster, ip: &str| {
        machine(node, agent, "curl", &["-sS", "--max-time", "5", &format!("http://{ip}/")])
    };
    for node in nodes {
        // So far it is an address like any other, and nothing leads there.
        of_node(node, &agent, "10.99.0.99").fails_with("curl");
    }

    cluster.apply(MORE).ok();
    cluster.kubectl("wait servicecidr/more --for=condition=Ready --timeout=180s").ok();
    let service = "kind: Service\napiVersion: v1\nmetadata: {name: web}\nspec: {clusterIP: 10.99.0.7, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    cluster.apply(service).ok();
    let found = |agent: &Cluster| {
        for node in nodes {
            until("the Service is reached from pods", || {
                of_pod(node, "10.99.0.7").stdout.contains("found")
            });
            until("the Service is reached from nodes", || {
                of_node(node, agent, "10.99.0.7").stdout.contains("found")
            });
            // Nobody is there, and that is told at once.
            of_pod(node, "10.99.0.99").fails_with("refused");
            let refused = of_node(node, agent, "10.99.0.99");
            assert_eq!(refused.code, Some(7), "no time-out: {}", refused.stderr);
        }
    };
    found(&agent);
    let routes = |agent: &Cluster| {
        nodes.map(|node| machine(node, agent, "ip", &["route", "show", "10.99.0.0/24"]).ok().stdout)
    };
    assert!(routes(&agent).iter().all(|route| route.contains("dev lo")), "{:?}", routes(&agent));

    // A node that starts anew has them from the start, and takes away what ended
    // while it did not run.
    agent.stop_server();
    agent.start_server();
    found(&agent);
    agent.stop_server();
    cluster.kubectl("delete service web").ok();
    cluster.kubectl("delete servicecidr more --timeout=180s").ok();
    until("the server's route is gone", || routes(&agent)[0].is_empty());
    assert!(routes(&agent)[1].contains("dev lo"), "nobody is there to take it away");
    agent.start_server();
    until("the agent's route is gone", || routes(&agent)[1].is_empty());
    let data = agent.data_dir();
    let kept = std::fs::read_to_string(data.join("node/network.json")).expect("its footprint");
    assert!(!kept.contains("10.99.0.0"), "{kept}");
}

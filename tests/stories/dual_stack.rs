//! A cluster of both families, and one of IPv6 alone (KEP-563): what upstream's
//! "Validate IPv4/IPv6 dual-stack" looks at, with packets.

use serde_json::{Value, json};

use crate::{
    cluster::{Run, comes_to_print, run},
    harness::{Families, Segment, World, until},
};

const SERVER: &str = "server-1";
const NEAR: &str = "agent-1";
const FAR: &str = "agent-2";

const BOTH: [&str; 4] =
    ["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"];
const SIX: [&str; 4] = ["--cluster-cidr", "fd42::/56", "--service-cidr", "fd43::/112"];

/// A pod on each node, and Services that lead to them.
fn objects(nodes: &[&str]) -> String {
    let pod = |node: &&str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  hostname: on-{node}
  subdomain: pods
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080"]
    ports: [{{containerPort: 8080, hostPort: 9080}}]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
  - name: told
    image: skiff.local/toolbox
    args: [http-echo, --port, "8081", --text, "$(POD_IPS) $(HOST_IPS)"]
    env:
    - {{name: POD_IPS, valueFrom: {{fieldRef: {{fieldPath: status.podIPs}}}}}}
    - {{name: HOST_IPS, valueFrom: {{fieldRef: {{fieldPath: status.hostIPs}}}}}}
---"#
        )
    };
    nodes.iter().map(pod).collect::<String>()
        + r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 8088, targetPort: 8080}]}
"#
}

fn kubectl(world: &World, line: &str) -> Run {
    world.kubectl(SERVER, line)
}

fn get(world: &World, what: &str) -> Value {
    let run = kubectl(world, &format!("get {what} -o json")).ok();
    serde_json::from_str(&run.stdout).expect("kubectl prints JSON")
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn pod_ips(world: &World, pod: &str) -> Vec<String> {
    let pod = get(world, &format!("pod {pod}"));
    let ips = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
    ips.iter().filter_map(|ip| ip["ip"].as_str()).map(str::to_owned).collect()
}

fn host(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// What a pod gets from an address.
fn ask(world: &World, from: &str, url: &str) -> Run {
    kubectl(world, &format!("exec web-{from} -c web -- toolbox get --timeout 5 {url}"))
}

/// What a machine gets from an address.
fn curl(world: &World, from: &str, url: &str) -> Run {
    run(world.host(from).command("curl").args(["-gsS", "--max-time", "5", url]), None)
}

/// Asks again until it is so; the story's time limit is the runner's.
fn wait_for(world: &World, line: &str, done: impl Fn(&Run) -> bool) {
    let began = std::time::Instant::now();
    loop {
        let run = kubectl(world, line);
        if done(&run) {
            return;
        }
        assert!(began.elapsed().as_secs() < 60, "{line}:\n{}{}", run.stdout, run.stderr);
    }
}

/// Which of the addresses begin with what.
fn begin(all: &[String], with: &[&str]) {
    let right = all.len() == with.len() && all.iter().zip(with).all(|(ip, w)| ip.starts_with(w));
    assert!(right, "{all:?}, not {with:?}");
}

#[test]
fn pods_and_services_of_both_families() {
    let Some(mut world) = World::of(Families::Both) else { return };
    for (node, segment) in [(SERVER, Segment::A), (NEAR, Segment::A), (FAR, Segment::B)] {
        world.add(node, segment);
    }
    let wrong = ["server", "--cluster-cidr", "10.42.0.0/16,10.44.0.0/16"];
    world.host(SERVER).refused(&wrong).fails_with("one network of IPv4, one of IPv6");
    world.host_mut(SERVER).start(&[&["server"], &BOTH[..]].concat());
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    let token = token.stdout.trim().to_owned();
    // One joins by each family.
    for (agent, address) in [
        (NEAR, world.host(SERVER).address()),
        (FAR, format!("[{}]", world.host(SERVER).address_v6())),
    ] {
        let url = format!("https://{address}:6443");
        world.host_mut(agent).start(&["agent", "--server", &url, "--token", &token]);
    }
    let nodes = [SERVER, NEAR, FAR];
    for node in nodes {
        kubectl(&world, &format!("wait --for=create node/{node} --timeout=180s")).ok();
        kubectl(&world, &format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
        let node = get(&world, &format!("node {node}"));
        begin(&texts(&node["spec"]["podCIDRs"]), &["10.42.", "fd42:"]);
        let addresses = node["status"]["addresses"].as_array().expect("a list").iter();
        let internal = addresses.filter(|address| address["type"] == "InternalIP");
        let internal: Vec<String> =
            internal.filter_map(|a| a["address"].as_str()).map(str::to_owned).collect();
        begin(&internal, &["192.168.7", "fd7"]);
    }
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&objects(&nodes))).ok();
    kubectl(&world, "wait --for=condition=Ready pod -l app=web --timeout=180s").ok();

    everybody_talks(&world, &nodes);
    names(&world, &nodes, &["10.4", "fd4"]);
    from_outside_of_pods(&world, &nodes);
    slices(&world, nodes.len());
    policies_change(&world);

    // Another life of the node's adopts what there is.
    world.host_mut(FAR).kill();
    world.host_mut(FAR).start(&["agent"]);
    wait_for(&world, "logs web-agent-2 -c web --tail=1", |run| run.success);
    everybody_talks(&world, &nodes);
}

/// Every pod asks every pod at each of its addresses, and each Service. Nodes learn of
/// each other and of what is ready a moment after it is told.
fn everybody_talks(world: &World, nodes: &[&str]) {
    let service = get(world, "service web");
    let addresses = texts(&service["spec"]["clusterIPs"]);
    for from in nodes {
        for to in nodes {
            for ip in pod_ips(world, &format!("web-{to}")) {
                let url = format!("http://{}:8080/", host(&ip));
                comes_to_print(|| ask(world, from, &url), &format!("on-{to}"));
            }
        }
        for ip in &addresses {
            let url = format!("http://{}/", host(ip));
            comes_to_print(|| ask(world, from, &url), "on-");
        }
        for ip in texts(&get(world, "service nobody")["spec"]["clusterIPs"]) {
            let nobody = format!("http://{}/", host(&ip));
            wait_for(
                world,
                &format!("exec web-{from} -c web -- toolbox get --timeout 5 {nobody}"),
                |run| !run.success && run.stderr.contains("refused"),
            );
        }
    }
}

/// What pods are told of themselves, and what names say.
fn names(world: &World, nodes: &[&str], families: &[&str]) {
    for node in nodes {
        let ips = pod_ips(world, &format!("web-{node}"));
        let pod = get(world, &format!("pod web-{node}"));
        let hosts: Vec<&str> = pod["status"]["hostIPs"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|ip| ip["ip"].as_str())
            .collect();
        assert_eq!(hosts.len(), families.len(), "{hosts:?}");
        begin(&ips, families);
        let told = format!("{} {}", ips.join(","), hosts.join(","));
        ask(world, node, "http://localhost:8081/").prints(&told);
        let dns = |line: &str, told: &str| {
            let line = format!("exec web-{node} -c web -- toolbox dns --short {line}");
            comes_to_print(|| kubectl(world, &line), told);
        };
        for ip in texts(&get(world, "service web")["spec"]["clusterIPs"]) {
            let kind = if ip.contains(':') { "AAAA" } else { "A" };
            dns(&format!("web.default.svc.cluster.local {kind}"), &ip);
            dns(&ip, "web.default.svc.cluster.local.");
        }
        for ip in &ips {
            let kind = if ip.contains(':') { "AAAA" } else { "A" };
            dns(&format!("pods.default.svc.cluster.local {kind}"), ip);
            dns(&format!("on-{node}.pods.default.svc.cluster.local {kind}"), ip);
            let dashed = ip.replace(['.', ':'], "-");
            dns(&format!("{dashed}.default.pod.cluster.local {kind}"), ip);
            dns(ip, &format!("on-{node}.pods.default.svc.cluster.local."));
        }
        comes_to_print(|| ask(world, node, "http://web/"), "on-");
    }
    let dns = texts(&get(world, "-n kube-system service kube-dns")["spec"]["clusterIPs"]);
    begin(&dns, families);
    let resolv =
        kubectl(world, &format!("exec web-{} -c web -- toolbox cat /etc/resolv.conf", nodes[0]));
    let resolv = resolv.ok().stdout;
    for ip in dns {
        assert!(resolv.contains(&format!("nameserver {ip}\n")), "{resolv}");
    }
}

/// Machines, by node ports, by a balancer and by the ports of a pod on its node.
fn from_outside_of_pods(world: &World, nodes: &[&str]) {
    let ingress = "get service balanced -o jsonpath={.status.loadBalancer.ingress[*].ip}";
    wait_for(world, ingress, |run| {
        let six = run.stdout.split_whitespace().filter(|ip| ip.contains(':')).count();
        run.stdout.split_whitespace().count() == 2 * nodes.len() && six == nodes.len()
    });
    for from in nodes {
        for ip in texts(&get(world, "service web")["spec"]["clusterIPs"]) {
            let url = format!("http://{}/", host(&ip));
            comes_to_print(|| curl(world, from, &url), "on-");
        }
        for to in nodes {
            let to_host = world.host(to);
            for address in [to_host.address(), format!("[{}]", to_host.address_v6())] {
                for (port, who) in [(30080, "on-"), (8088, "on-"), (9080, &*format!("on-{to}"))] {
                    let url = format!("http://{address}:{port}/");
                    comes_to_print(|| curl(world, from, &url), who);
                }
            }
        }
    }
}

fn slices(world: &World, pods: usize) {
    let families = || {
        let slices = get(world, "endpointslices -l kubernetes.io/service-name=web");
        let mut families: Vec<(String, usize)> =
            (slices["items"].as_array().expect("a list").iter())
                .map(|slice| {
                    let count = slice["endpoints"].as_array().map_or(0, Vec::len);
                    (slice["addressType"].as_str().unwrap_or_default().to_owned(), count)
                })
                .collect();
        families.sort();
        families
    };
    let both = [("IPv4".to_owned(), pods), ("IPv6".to_owned(), pods)];
    until("a slice of each family has every pod", || families() == both);
}

/// The second address comes and goes with the policy, the first one stays.
fn policies_change(world: &World) {
    let patch = |spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        world.host(SERVER).kubectl(&["patch", "service", "web", "-p", &patch], None)
    };
    let before = texts(&get(world, "service web")["spec"]["clusterIPs"]);
    begin(&before, &["10.43.", "fd43:"]);
    kubectl(world, &format!("get ipaddress {}", before[1])).prints("services/default/web");
    patch(json!({"ipFamilies": ["IPv4"]})).fails_with("must be 'SingleStack' to release");
    patch(json!({"ipFamilyPolicy": "SingleStack"})).ok();
    assert_eq!(texts(&get(world, "service web")["spec"]["clusterIPs"]), before[..1]);
    kubectl(world, &format!("get ipaddress {}", before[1])).fails_with("not found");
    wait_for(world, "get endpointslices -l kubernetes.io/service-name=web -o name", |run| {
        run.stdout.lines().count() == 1
    });
    let gone = format!("http://[{}]/", before[1]);
    wait_for(
        world,
        &format!("exec web-{SERVER} -c web -- toolbox get --timeout 5 {gone}"),
        |run| run.stderr.contains("refused"),
    );
    patch(json!({"ipFamilyPolicy": "RequireDualStack"})).ok();
    let after = texts(&get(world, "service web")["spec"]["clusterIPs"]);
    assert_eq!(after[0], before[0]);
    begin(&after, &["10.43.", "fd43:"]);
    let again =
        format!("exec web-{SERVER} -c web -- toolbox get --timeout 5 http://[{}]/", after[1]);
    wait_for(world, &again, |run| run.stdout.contains("on-"));
    // One of IPv6 first.
    let six = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"six"},
        "spec":{"ipFamilies":["IPv6"],"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8080}]}}"#;
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(six)).ok();
    kubectl(world, "get service six").prints("fd43::");
    kubectl(world, "describe service six").prints("IPv6");
}

#[test]
fn a_cluster_of_ipv6_alone() {
    let Some(mut world) = World::of(Families::V6) else { return };
    world.add(SERVER, Segment::A);
    world.add(FAR, Segment::B);
    world.host(SERVER).refused(&["server"]).fails_with("no address yet");
    world.host_mut(SERVER).start(&[&["server"], &SIX[..]].concat());
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    let url = format!("https://[{}]:6443", world.host(SERVER).address_v6());
    let args = ["agent", "--server", &url, "--token", token.stdout.trim()];
    world.host_mut(FAR).start(&args);
    let nodes = [SERVER, FAR];
    for node in nodes {
        kubectl(&world, &format!("wait --for=create node/{node} --timeout=180s")).ok();
        kubectl(&world, &format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
    }
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&objects(&nodes))).ok();
    kubectl(&world, "wait --for=condition=Ready pod -l app=web --timeout=180s").ok();
    everybody_talks(&world, &nodes);
    names(&world, &nodes, &["fd4"]);
    assert_eq!(get(&world, "service web")["spec"]["ipFamilies"], json!(["IPv6"]));
    let wrong = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"four"},
        "spec":{"ipFamilies":["IPv4"],"ports":[{"port":80}]}}"#;
    let refused = world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(wrong));
    refused.fails_with("not configured on this cluster");
    // The API from a pod, by the Service's address, and from the server into a pod. A
    // server that is told nothing ends the connection as it should; what is not TLS it
    // may reset.
    let kubernetes = texts(&get(&world, "service kubernetes")["spec"]["clusterIPs"]);
    assert_eq!(kubernetes, ["fd43::1"]);
    let api = format!("exec web-{FAR} -c web -- toolbox tcp [fd43::1]:443");
    kubectl(&world, &api).ok();
    let proxied = format!("get --raw /api/v1/namespaces/default/pods/web-{FAR}:8080/proxy/");
    kubectl(&world, &proxied).prints(&format!("on-{FAR}"));
    kubectl(&world, &format!("logs web-{FAR} -c web")).ok();
}

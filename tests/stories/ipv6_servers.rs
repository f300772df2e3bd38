//! Several servers and agents where no machine has an address of IPv4: they join, one
//! dies and comes back, one is replaced, and every server answers and reaches every pod.

use crate::harness::{Families, Segment, World, until};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
/// Behind a router, and beside the servers.
const FAR: &str = "agent-1";
const NEAR: &str = "agent-2";
const NETWORKS: [&str; 4] = ["--cluster-cidr", "fd42::/56", "--service-cidr", "fd43::/112"];

fn url(world: &World, server: &str) -> String {
    format!("https://[{}]:6443", world.host(server).address_v6())
}

fn ready(world: &World, server: &str, node: &str) {
    world.kubectl(server, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    let line = format!("wait --for=condition=Ready node/{node} --timeout=180s");
    until(&format!("{node} is Ready"), || world.kubectl(server, &line).success);
}

fn join(world: &mut World, server: &str, through: &str, token: &str) {
    let url = url(world, through);
    let joins = [&["server", "--server", &url, "--token", token], &NETWORKS[..]].concat();
    world.host_mut(server).start(&joins);
}

/// A pod that answers with its name.
fn pod(node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: on-{node}, labels: {{app: web}}}}\nspec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 1, containers: [{{name: web, image: skiff.local/toolbox, args: [http-echo, --port, '8080'], \
         readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}}}]}}\n"
    )
}

const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";

/// Each of these servers takes a write that the others see, and reaches each pod.
fn all_work(world: &World, servers: &[&str], pods: &[&str], what: &str) {
    for server in servers {
        let label = format!("label namespace default {what}={server} --overwrite");
        until(&format!("{server} takes a write"), || world.kubectl(server, &label).success);
        for other in servers {
            let line = format!("get namespace default -o jsonpath={{.metadata.labels.{what}}}");
            until("it is seen", || world.kubectl(other, &line).stdout == *server);
        }
        for node in pods {
            until(&format!("{server} reaches the pod on {node}"), || {
                let line = format!("exec on-{node} -- toolbox get --timeout 5 http://web/");
                world.kubectl(server, &line).stdout.contains("on-")
            });
            let line = format!("get --raw /api/v1/namespaces/default/pods/on-{node}:8080/proxy/");
            world.kubectl(server, &line).prints(&format!("on-{node}"));
        }
    }
}

#[test]
fn servers_of_ipv6_alone_are_one_cluster() {
    let Some(mut world) = World::of(Families::V6) else { return };
    world.add_all(&[&SERVERS[..], &[NEAR]].concat(), Segment::A);
    world.add(FAR, Segment::B);
    let first = SERVERS[0];
    world.host_mut(first).start(&[&["server"], &NETWORKS[..]].concat());
    let token = world.host(first).read("data/server/token").trim().to_owned();
    // Through whichever is there.
    join(&mut world, SERVERS[1], SERVERS[0], &token);
    join(&mut world, SERVERS[2], SERVERS[1], &token);
    for (agent, server) in [(NEAR, SERVERS[1]), (FAR, SERVERS[0])] {
        let url = url(&world, server);
        world.host_mut(agent).start(&["agent", "--server", &url, "--token", &token]);
    }
    let nodes = [SERVERS[0], SERVERS[1], SERVERS[2], NEAR, FAR];
    for node in nodes {
        ready(&world, first, node);
    }
    for row in world.host(first).servers() {
        let address = row["address"].as_str().unwrap_or_default();
        assert!(address.starts_with("[fd77::") && address.ends_with("]:6443"), "{row}");
    }
    let objects: String = nodes.iter().map(|node| pod(node)).collect();
    world.host(first).kubectl(&["apply", "-f", "-"], Some(&(objects + SERVICE))).ok();
    world.kubectl(first, "wait --for=condition=Ready pod --all --timeout=180s").ok();
    let addresses = "get endpointslice kubernetes -o jsonpath={.endpoints[*].addresses[0]}";
    until("pods find all servers", || {
        world.kubectl(first, addresses).stdout.split_whitespace().count() == SERVERS.len()
    });
    world.kubectl(first, addresses).prints("fd77::2");
    all_work(&world, &SERVERS, &nodes, "joined");

    // Whoever leads dies: the others go on, and so do the agents that called it.
    let leader = world.leader(first);
    let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    world.host_mut(&leader).kill();
    all_work(&world, &others, &[NEAR, FAR], "failed");
    let host = world.host_mut(&leader);
    host.start_again();
    host.wait_ready();
    all_work(&world, &SERVERS, &nodes, "back");

    // One that is gone for good is replaced by a machine of the same name.
    let (gone, helper) = (others[0], others[1]);
    world.power_off(gone);
    let data = world.host(helper).path("data").to_string_lossy().into_owned();
    until("it is removed", || {
        world.host(helper).skiff(&["cluster", "remove", gone, "--data-dir", &data]).success
    });
    world.kubectl(helper, &format!("delete node {gone}")).ok();
    std::fs::remove_dir_all(world.host(gone).path("data")).expect("a folder of ours");
    world.boot(gone);
    join(&mut world, gone, helper, &token);
    ready(&world, helper, gone);
    assert_eq!(world.host(helper).servers().len(), 3);
    all_work(&world, &SERVERS, &[NEAR, FAR], "replaced");

    // An agent that starts again finds a server though the one it joined by is gone.
    world.host_mut(SERVERS[0]).kill();
    let agent = world.host_mut(FAR);
    agent.kill();
    agent.start_again();
    agent.wait_ready();
    ready(&world, SERVERS[1], FAR);
    all_work(&world, &SERVERS[1..], &[FAR], "restarted");
}

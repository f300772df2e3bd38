//! Three servers and an agent on virtual machines, each with a kernel, a disk and a clock
//! of its own: what was acknowledged survives that the power goes, of one or of all, and
//! pods come back after a reboot. `./x vm` runs it; it takes minutes. Where disks are not
//! told to flush (ext4 of `tests/vm/guest.sh` mounted with `nobarrier`), it fails.
//!
//! And two of them whose kernels have WireGuard, as many that run these tests do not, with
//! a router between them and addresses of both families.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{load, wireguard::has};
use crate::harness::{Families, Segment, Spoilt, World, until};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const AGENT: &str = "agent-1";
/// Writes that are waited for.
const WRITES: usize = 20;
/// How long one may take.
const WRITE_MAX: Duration = Duration::from_secs(180);

/// Writes through servers at once, and takes power away in the middle. `after` so many
/// more are acknowledged then. Returns what was acknowledged.
fn written_around(
    world: &mut World,
    round: &str,
    servers: &[&str],
    fault: impl FnOnce(&mut World),
    after: usize,
) -> Vec<String> {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let writers: Vec<_> = servers
        .iter()
        .map(|server| {
            let (stop, tell) = (stop.clone(), tell.clone());
            let mut commands: Vec<(String, Command)> = (0..400)
                .map(|number| {
                    let name = format!("{round}-{server}-{number}");
                    let mut command = world.host(server).kubectl_command();
                    command.args(["create", "configmap", &name, "--from-literal=a=b"]);
                    command.arg("--request-timeout=20s");
                    (name, command)
                })
                .collect();
            std::thread::spawn(move || {
                for (name, command) in &mut commands {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let output = command.output().expect("kubectl runs");
                    if output.status.success() && tell.send(name.clone()).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(tell);
    let next = || told.recv_timeout(WRITE_MAX).expect("writes are acknowledged");
    let mut all: Vec<String> = (0..WRITES).map(|_| next()).collect();
    fault(world);
    // Those that were on their way are among them.
    all.extend((0..after).map(|_| next()));
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("the writer does not panic");
    }
    all.extend(told.try_iter());
    all
}

fn are_there(world: &World, names: &[String]) {
    for server in SERVERS {
        let mut stored = String::new();
        until(&format!("{server} answers"), || {
            let run = world.kubectl(server, "get configmaps -o name");
            stored = run.stdout;
            run.success
        });
        for name in names {
            let line = format!("configmap/{name}");
            assert!(stored.lines().any(|stored| stored == line), "{server}: {name} is gone");
        }
    }
}

fn ready(world: &World, server: &str, node: &str) {
    let line =
        format!("get node {node} -o jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}");
    until(&format!("{node} is Ready"), || world.kubectl(server, &line).stdout == "True");
}

/// The pod of a name on the agent has been started so often and answers.
fn answers(world: &World, restarts: &str) {
    let count = "get pod web -o jsonpath={.status.containerStatuses[0].restartCount}";
    until("the pod has been started", || world.kubectl(SERVERS[1], count).stdout == restarts);
    for server in SERVERS {
        let line = "get --raw /api/v1/namespaces/default/pods/web:8080/proxy/";
        until(&format!("{server} reaches the pod"), || {
            world.kubectl(server, line).stdout.contains("web")
        });
    }
    let line = format!("exec asks -- toolbox get --timeout 20 http://{}/", load::SERVICE_IP);
    until("the Service leads to it", || world.kubectl(SERVERS[1], &line).stdout.contains("web"));
}

#[test]
fn power_goes_and_comes_back() {
    let Some(mut world) = World::of_machines(Families::V4) else { return };
    world.add_all(&[&SERVERS[..], &[AGENT]].concat(), Segment::A);
    world.host_mut(SERVERS[0]).start(&["server"]);
    let token = world.host(SERVERS[0]).read("data/server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
    for server in &SERVERS[1..] {
        world.host_mut(server).start(&["server", "--server", &url, "--token", &token]);
    }
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    for node in SERVERS.iter().chain(&[AGENT]) {
        ready(&world, SERVERS[0], node);
    }
    // One on the agent, one on a server.
    let asks = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: asks}\nspec: {nodeName: server-2, terminationGracePeriodSeconds: 1, containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}\n";
    let workload = [load::web(AGENT).as_str(), asks, load::service().as_str()].concat();
    // An emulated leader may be too slow for the others' patience.
    until("the workload is taken", || {
        world.host(SERVERS[0]).kubectl(&["apply", "-f", "-"], Some(&workload)).success
    });
    answers(&world, "0");

    // The leader's power goes while all are written through; the others go on.
    let leader = world.leader(SERVERS[0]);
    let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    let gone = leader.clone();
    let one = written_around(&mut world, "one", &SERVERS, |world| world.power_off(&gone), WRITES);
    world.power_on(&leader);
    world.host_mut(&leader).wait_ready();
    are_there(&world, &one);

    // That of all three: nothing but their disks is left.
    let all_off = |world: &mut World| SERVERS.iter().for_each(|server| world.power_off(server));
    let all = written_around(&mut world, "all", &SERVERS, all_off, 0);
    for server in SERVERS {
        world.power_on(server);
    }
    for server in SERVERS {
        world.host_mut(server).wait_ready();
    }
    eprintln!("{} and {} writes were acknowledged", one.len(), all.len());
    are_there(&world, &[one, all].concat());

    // The agent is shut down in order; its pods come back by themselves.
    world.reboot(AGENT);
    world.host_mut(AGENT).wait_ready();
    answers(&world, "1");
    ready(&world, SERVERS[0], AGENT);

    // Its clock leaps by more than any certificate's slack, and back; then the leader's.
    let leads = world.leader(SERVERS[0]);
    for host in [AGENT, &leads] {
        for offset_s in [13 * 3600, 0] {
            world.host_mut(host).set_clock(offset_s);
            answers(&world, "1");
            ready(&world, SERVERS[0], AGENT);
        }
    }

    certificates_renew(&mut world);

    // Two do not hear each other, and what the third sends comes late and in part.
    let how = Spoilt { delay_ms: 20, jitter_ms: 10, lost_percent: 2, ..Spoilt::default() };
    world.cut(others[0], others[1]);
    world.cut(others[1], others[0]);
    world.spoil(&leader, Some(how));
    let spoilt = written_around(&mut world, "spoilt", &[leader.as_str()], |_| {}, 0);
    world.spoil(&leader, None);
    world.heal(others[0], others[1]);
    world.heal(others[1], others[0]);
    are_there(&world, &spoilt);
}

/// All clocks leap to when certificates are due, and back to before they were made. All are
/// renewed both times while everything runs, and shown to who asks.
fn certificates_renew(world: &mut World) {
    const LEAP_S: i64 = 300 * 24 * 3600;
    const RENEWED: [&str; 2] = [
        "certificate renewed certificate=\"serving-kube-apiserver\"",
        "certificate renewed certificate=\"client-kubelet.crt\"",
    ];
    let hosts: Vec<(&str, &str)> = SERVERS
        .map(|server| (server, RENEWED[0]))
        .into_iter()
        .chain([(AGENT, RENEWED[1])])
        .collect();
    let times =
        |world: &World, host: &str, text: &str| world.host(host).log().matches(text).count();
    for offset_s in [LEAP_S, 0] {
        let before: Vec<usize> =
            hosts.iter().map(|(host, text)| times(world, host, text)).collect();
        for (host, _) in &hosts {
            world.host_mut(host).set_clock(offset_s);
        }
        for ((host, text), before) in hosts.iter().zip(before) {
            until(&format!("{host} renews"), || times(world, host, text) > before);
        }
        // By the machine's own clock, which kubectl beside the machines does not have.
        for server in SERVERS {
            let config = world.host(server).path("admin.yaml").to_string_lossy().into_owned();
            let asks = ["exec", "web", "--", "toolbox", "hostname"];
            let asks = [&["kubectl", "--kubeconfig", &config], &asks[..]].concat();
            until(&format!("{server} reaches the agent"), || {
                world.host(server).skiff(&asks).stdout.trim() == "web"
            });
        }
    }
    answers(world, "1");
    ready(world, SERVERS[0], AGENT);
}

/// What somebody on the way would look for.
const SECRET: &str = "nobody-else-may-read-this";

/// A pod that tells the secret on the agent, by a port of the node too, and one on the
/// server that asks.
const TELLS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: tells, labels: {app: tells}}
spec:
  nodeName: agent-1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: [http-echo, --port, "8080", --text, nobody-else-may-read-this]}
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec: {nodeName: server-1, terminationGracePeriodSeconds: 1, containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}
---
apiVersion: v1
kind: Service
metadata: {name: tells}
spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: tells}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"#;

#[test]
fn the_kernel_seals_what_pods_send() {
    let Some(mut world) = World::of_machines(Families::Both) else { return };
    let nodes = [SERVERS[0], AGENT];
    // A router lies between them; nobody says how pods are to be reached.
    world.add_all(&nodes[..1], Segment::A);
    world.add_all(&nodes[1..], Segment::B);
    let cidrs =
        ["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"];
    world.host_mut(SERVERS[0]).start(&[&["server"], &cidrs[..]].concat());
    let token = world.host(SERVERS[0]).read("data/server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    for node in nodes {
        ready(&world, SERVERS[0], node);
        // A link of the kernel's, and no stand-in.
        let link = ["cat", "/sys/class/net/skiff-wg/uevent"];
        until(&format!("{node} has the kernel's WireGuard"), || {
            world.host(node).run(&link, None).stdout.contains("DEVTYPE=wireguard")
        });
    }
    world.host(SERVERS[0]).kubectl(&["apply", "-f", "-"], Some(TELLS)).ok();
    until("both pods run", || {
        let line = "get pods tells asks -o jsonpath={.items[*].status.phase}";
        world.kubectl(SERVERS[0], line).stdout == "Running Running"
    });
    let addresses = |line: &str| -> Vec<String> {
        let found = world.kubectl(SERVERS[0], line).ok().stdout;
        let in_url = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        found.split_whitespace().map(in_url).collect()
    };
    let pod = addresses("get pod tells -o jsonpath={.status.podIPs[*].ip}");
    let service = addresses("get service tells -o jsonpath={.spec.clusterIPs[*]}");
    assert_eq!((pod.len(), service.len()), (2, 2), "each of both families");
    let sent = |node: &str| -> u64 {
        let count = ["cat", "/sys/class/net/skiff-wg/statistics/tx_packets"];
        world.host(node).run(&count, None).ok().stdout.trim().parse().expect("a number")
    };
    let before = nodes.map(sent);
    // On the agent's cable: what the administrator is told passes the server's alone.
    let tap = world.host(AGENT).tap();
    let at_pod = pod.iter().map(|ip| format!("http://{ip}:8080/"));
    for url in at_pod.chain(service.iter().map(|ip| format!("http://{ip}/"))) {
        let asks = format!("exec asks -- toolbox get --timeout 20 {url}");
        until(&url, || world.kubectl(SERVERS[0], &asks).stdout.contains(SECRET));
    }
    let frames = tap.end();
    let port = 51820_u16.to_be_bytes();
    assert!(has(&frames, &[port, port].concat()), "WireGuard passes the cable");
    assert!(!has(&frames, SECRET.as_bytes()), "{SECRET} can be read on the way");
    for (node, before) in nodes.into_iter().zip(before) {
        assert!(sent(node) > before, "{node} sends by its device");
    }
    // The tap would have heard it: a port of a node is not encrypted by this.
    let tap = world.host(AGENT).tap();
    let url = format!("http://{}:30080/", world.host(AGENT).address());
    until("a port of the node", || {
        let asked = world.host(SERVERS[0]).run(&["wget", "-q", "-O", "-", &url], None);
        asked.stdout.contains(SECRET)
    });
    assert!(has(&tap.end(), SECRET.as_bytes()), "what passes in the clear is heard");
}

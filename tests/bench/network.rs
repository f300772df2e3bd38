//! Figures of the network: what a Service costs a connection and how soon a change of
//! its endpoints is there, and what pods get through beside a bare pair of links.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use client::{Api, Https, PatchKind, Resource};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::{
    child,
    cluster::Cluster,
    connection::{USER_AGENT, https_config},
    load::share,
    objects::NAMESPACE,
    process::Process,
    rows::Rows,
    system::look_at_idle,
};

const CONNECTIONS: usize = 2000;
const CHANGES: usize = 20;
const POUR: Duration = Duration::from_secs(3);
/// Of the pods' two sleepers, so that their processes are found.
const SLEEPERS: [&str; 2] = ["864001", "864002"];

fn pod(name: &str, args: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}},
        "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": args}]}})
}

/// Pods that are ready, and their addresses.
fn run(cluster: &Cluster, pods: &[Value]) -> Vec<String> {
    let ready = format!("-n {NAMESPACE} wait --for=condition=Ready --timeout=60s");
    pods.iter()
        .map(|pod| {
            cluster.kubectl_with_input("apply -f -", &pod.to_string()).ok();
            let name = pod["metadata"]["name"].as_str().expect("a name");
            cluster.kubectl(&format!("{ready} pod/{name}")).ok();
            let got = cluster.get(&format!("-n {NAMESPACE} pod/{name}"));
            got["status"]["podIP"].as_str().expect("an address").to_owned()
        })
        .collect()
}

pub(crate) fn services(cluster: &mut Cluster, rows: &mut Rows) {
    cluster.start_server();
    cluster.wait_node_ready();
    cluster.kubectl(&format!("create namespace {NAMESPACE}")).ok();
    let echo = ["http-echo", "--port", "8080"];
    let ips = run(cluster, &[pod("a", &echo), pod("b", &echo)]);
    let probe = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "probe", "namespace": NAMESPACE}, "spec": {"ports": [{"port": 80}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "probe", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "probe"}},
        "endpoints": [{"addresses": [ips[0]]}], "ports": [{"port": 8080, "protocol": "TCP"}]});
    cluster.kubectl_with_input("apply -f -", &probe.to_string()).ok();
    cluster.kubectl_with_input("apply -f -", &slice.to_string()).ok();
    let got = cluster.get(&format!("-n {NAMESPACE} service/probe"));
    let service = format!("{}:80", got["spec"]["clusterIP"].as_str().expect("an address"));
    let mut there = 1;
    for count in [10_usize, 1000, 10_000] {
        let more = (count - there).to_string();
        child::run(cluster, &["create", "16", &more, "services"]);
        there = count;
        // The last of them has its endpoints, and then the rules have it.
        let slices = format!(
            "get --raw /apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices?limit=1"
        );
        loop {
            let list: Value =
                serde_json::from_str(&cluster.kubectl(&slices).ok().stdout).expect("JSON");
            let rest = list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
            if rest + 1 >= count as u64 {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(Duration::from_secs(5));
        if count == 1000 {
            // A node that joins where all of them are has all of them to serve.
            let agent = cluster.agent_beside(2);
            let process = Process::new(agent.server_pid());
            // As the row of an idle server: by then what only the start needed is given back.
            look_at_idle(&process);
            rows.add(
                format!("an agent alone, {count} Services, resident / of that heap and stacks"),
                "20 MB",
                format!("{:.1} / {:.1} MB", process.resident_mb(), process.anonymous_mb()),
            );
            drop(agent);
        }
        let (direct, through) = cluster.in_network(|| {
            let direct = format!("{}:8080", ips[0]);
            (connect(&direct), connect(&service))
        });
        let kubeconfig = cluster.path("admin.yaml").to_string_lossy().into_owned();
        let changed = cluster.in_network(|| change(&kubeconfig, &service, &ips));
        rows.add(
            format!("a connection to a pod / through a Service, {count} Services, p50"),
            "the same for any number",
            format!("{direct:.0} / {through:.0} µs"),
        );
        rows.add(
            format!("an endpoint is another, {count} Services: from the request to the first answer of the new one, p50 / p99 of {CHANGES}"),
            "–",
            format!("{:.1} / {:.1} ms", changed.0, changed.1),
        );
    }
}

/// Microseconds of half of all connections, from the node.
fn connect(target: &str) -> f64 {
    let target: SocketAddr = target.parse().expect("an address");
    let mut times: Vec<Duration> = (0..CONNECTIONS)
        .map(|_| {
            let began = Instant::now();
            let stream = TcpStream::connect(target).expect("somebody answers");
            let took = began.elapsed();
            drop(stream);
            took
        })
        .collect();
    share(&mut times, 0.5) * 1000.0
}

fn who(target: SocketAddr) -> String {
    let mut text = String::new();
    let mut asked = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut text).map(drop)
    };
    match asked() {
        Ok(()) => text.rsplit("\r\n\r\n").next().unwrap_or_default().chars().take(1).collect(),
        Err(_) => String::new(),
    }
}

/// Milliseconds at half and at 99 of 100.
fn change(kubeconfig: &str, service: &str, ips: &[String]) -> (f64, f64) {
    const SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
    let target: SocketAddr = service.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let https = Https::new(https_config(kubeconfig)).expect("our own kubeconfig");
    let api = Api::new(Arc::new(https), USER_AGENT);
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let at = (round + 1) % 2;
        let name = ["a", "b"][at];
        let patch = json!({"endpoints": [{"addresses": [ips[at]]}]});
        let began = Instant::now();
        let done = api.patch(SLICES, NAMESPACE, "probe", "", PatchKind::Merge, &patch);
        runtime.block_on(done).expect("patched");
        while who(target) != name {
            assert!(began.elapsed() < Duration::from_secs(30), "{name} never answers");
        }
        times.push(began.elapsed());
    }
    (share(&mut times, 0.5), share(&mut times, 0.99))
}

pub(crate) fn throughput(cluster: &mut Cluster, rows: &mut Rows) {
    cluster.start_server();
    cluster.wait_node_ready();
    cluster.kubectl(&format!("create namespace {NAMESPACE}")).ok();
    let pods = [pod("a", &["sleep", SLEEPERS[0]]), pod("b", &["sleep", SLEEPERS[1]])];
    let ips = run(cluster, &pods);
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "b", "namespace": NAMESPACE}, "spec": {"ports": [{"port": 80, "targetPort": 5001}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "b", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "b"}},
        "endpoints": [{"addresses": [ips[1]]}], "ports": [{"port": 5001, "protocol": "TCP"}]});
    cluster.kubectl_with_input("apply -f -", &service.to_string()).ok();
    cluster.kubectl_with_input("apply -f -", &slice.to_string()).ok();
    let got = cluster.get(&format!("-n {NAMESPACE} service/b"));
    let through = format!("{}:80", got["spec"]["clusterIP"].as_str().expect("an address"));
    let [from, to] = SLEEPERS.map(network_of);
    std::thread::sleep(Duration::from_secs(1));
    let bare = Bare::new();
    let mut best = [0_f64; 3];
    // In turns, so that what else the machine does falls on all of them.
    for _ in 0..3 {
        let measured = [
            pour(&bare.ends[0], &bare.ends[1], "10.9.9.2:5001"),
            pour(&from, &to, &format!("{}:5001", ips[1])),
            pour(&from, &to, &through),
        ];
        for (best, now) in best.iter_mut().zip(measured) {
            *best = best.max(now);
        }
    }
    let turns = [
        turn(&bare.ends[0], &bare.ends[1], "10.9.9.2:5001"),
        turn(&from, &to, &format!("{}:5001", ips[1])),
        turn(&from, &to, &through),
    ];
    rows.add(
        "a byte there and back: a bare pair of links, pod to pod, through a Service, p50",
        "the same",
        format!(
            "{:.1}, {:.1} ({:.2}), {:.1} ({:.2}) µs",
            turns[0],
            turns[1],
            turns[1] / turns[0],
            turns[2],
            turns[2] / turns[0]
        ),
    );
    let [bare, direct, service] = best;
    rows.add(
        "one stream of TCP: a bare pair of links, pod to pod, through a Service; the best of three in turns",
        "the same",
        format!(
            "{bare:.1}, {direct:.1} ({:.2}), {service:.1} ({:.2}) Gbit/s",
            direct / bare,
            service / bare
        ),
    );
}

/// What a pod gets through to one on another node, by a value of `--pod-network`.
pub(crate) fn between_nodes(first: &mut Cluster, rows: &mut Rows, mode: &str) {
    first.add_flags(&["--pod-network", mode]);
    first.start_server();
    first.wait_node_ready();
    let other = first.agent_beside(2);
    first.kubectl(&format!("create namespace {NAMESPACE}")).ok();
    let on = |node: &Cluster, at: usize| {
        let mut pod = pod(["a", "b"][at], &["sleep", SLEEPERS[at]]);
        pod["spec"]["nodeName"] = node.name().into();
        pod
    };
    let ips = run(first, &[on(first, 0), on(&other, 1)]);
    let [from, to] = SLEEPERS.map(network_of);
    let bare = Bare::new();
    let mut best = [0_f64; 2];
    for _ in 0..3 {
        let measured = [
            pour(&bare.ends[0], &bare.ends[1], "10.9.9.2:5001"),
            pour(&from, &to, &format!("{}:5001", ips[1])),
        ];
        for (best, now) in best.iter_mut().zip(measured) {
            *best = best.max(now);
        }
    }
    let carrier = format!("get node {} -o json", first.name());
    let node: Value = serde_json::from_str(&first.kubectl(&carrier).ok().stdout).expect("JSON");
    let by = match node["metadata"]["annotations"]["skiff.sh/wireguard-carrier"].as_str() {
        Some(carrier) => format!("{mode} in {carrier}"),
        None => mode.to_owned(),
    };
    let turns = [
        turn(&bare.ends[0], &bare.ends[1], "10.9.9.2:5001"),
        turn(&from, &to, &format!("{}:5001", ips[1])),
    ];
    rows.add(
        format!(
            "a byte there and back: a bare pair of links, pod to pod of another node ({by}), p50"
        ),
        "–",
        format!("{:.1}, {:.1} ({:.2}) µs", turns[0], turns[1], turns[1] / turns[0]),
    );
    let [bare, pods] = best;
    rows.add(
        format!("one stream of TCP: a bare pair of links, pod to pod of another node ({by}); the best of three in turns"),
        "–",
        format!("{bare:.1}, {pods:.2} ({:.2}) Gbit/s", pods / bare),
    );
    // Machines beside the first go before its network does.
    drop(other);
}

/// The network of the process that sleeps so long.
fn network_of(sleeper: &str) -> String {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let sleeps = |line: &[u8]| line.split(|byte| *byte == 0).any(|word| word == sleeper.as_bytes());
    let found = processes
        .map(|entry| entry.path())
        .find(|path| fs::read(path.join("cmdline")).is_ok_and(|line| sleeps(&line)));
    format!("{}/ns/net", found.expect("the pod's process").display())
}

/// Two networks with nothing between them but a pair of links.
struct Bare {
    holders: [Child; 2],
    ends: [String; 2],
}

impl Bare {
    fn new() -> Self {
        let mut holders = [(); 2].map(|()| {
            Command::new("unshare")
                .args(["--net", "sh", "-c", "echo up; exec cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("unshare of util-linux")
        });
        for holder in &mut holders {
            let mut byte = [0];
            holder.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("it runs");
        }
        let ids = [holders[0].id(), holders[1].id()];
        let ip = |line: &str| {
            let done = Command::new("ip").args(line.split(' ')).output().expect("iproute2");
            assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
        };
        ip(&format!("link add bare0 netns {} type veth peer name bare1 netns {}", ids[0], ids[1]));
        for (at, id) in ids.iter().enumerate() {
            for line in [
                format!("addr add 10.9.9.{}/24 dev bare{at}", at + 1),
                format!("link set bare{at} up"),
            ] {
                let mut inside = Command::new("nsenter");
                inside.args(["--net", "--target", &id.to_string(), "--", "ip"]);
                let done = inside.args(line.split(' ')).status().expect("nsenter");
                assert!(done.success(), "ip {line}");
            }
        }
        Self { holders, ends: ids.map(|id| format!("/proc/{id}/ns/net")) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn enter(network: &str) {
    let network = fs::File::open(network).expect("its process runs");
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(network.as_fd(), kind).expect("root may enter");
}

/// Gigabits a second that come out at port 5001 of `to`.
fn pour(from: &str, to: &str, target: &str) -> f64 {
    let target: SocketAddr = target.parse().expect("an address");
    std::thread::scope(|scope| {
        let (listening, is_there) = std::sync::mpsc::channel();
        let drain = scope.spawn(move || {
            enter(to);
            let listener = TcpListener::bind("0.0.0.0:5001").expect("a free port");
            listening.send(()).expect("it is waited for");
            let (mut stream, _) = listener.accept().expect("a caller");
            let (mut buffer, mut bytes) = (vec![0; 1 << 17], 0_usize);
            let began = Instant::now();
            loop {
                match stream.read(&mut buffer).expect("a stream") {
                    0 => break,
                    count => bytes += count,
                }
            }
            bytes as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9
        });
        is_there.recv().expect("it listens");
        scope.spawn(move || {
            enter(from);
            let mut stream = TcpStream::connect(target).expect("it answers");
            let (buffer, began) = (vec![7; 1 << 17], Instant::now());
            while began.elapsed() < POUR {
                stream.write_all(&buffer).expect("a stream");
            }
        });
        drain.join().expect("it drains")
    })
}

/// How often a byte goes there and back.
const TURNS: usize = 5000;

/// Microseconds of half of the turns of a byte, from a network to port 5001 of another.
fn turn(from: &str, to: &str, target: &str) -> f64 {
    let target: SocketAddr = target.parse().expect("an address");
    std::thread::scope(|scope| {
        let (listening, is_there) = std::sync::mpsc::channel();
        scope.spawn(move || {
            enter(to);
            let listener = TcpListener::bind("0.0.0.0:5001").expect("a free port");
            listening.send(()).expect("it is waited for");
            let (mut stream, _) = listener.accept().expect("a caller");
            stream.set_nodelay(true).expect("a stream");
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                stream.write_all(&byte).expect("a stream");
            }
        });
        is_there.recv().expect("it listens");
        let asks = scope.spawn(move || {
            enter(from);
            let mut stream = TcpStream::connect(target).expect("it answers");
            stream.set_nodelay(true).expect("a stream");
            let mut byte = [7];
            let mut times: Vec<Duration> = (0..TURNS)
                .map(|_| {
                    let began = Instant::now();
                    stream.write_all(&byte).expect("a stream");
                    stream.read_exact(&mut byte).expect("the same byte");
                    began.elapsed()
                })
                .collect();
            share(&mut times, 0.5) * 1000.0
        });
        asks.join().expect("it asks")
    })
}

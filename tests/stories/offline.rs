//! A node that boots where no server is in reach runs the pods it ran before,
//! with their Secrets, network and names, and is in step again once there is one.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use super::load;
use crate::{
    cluster::comes_to_print,
    harness::{Segment, World, until},
};

const SERVER: &str = "server-1";
const AGENT: &str = "agent-1";

/// Beside a pod that answers: one that needs what others keep for it, one that asks the
/// first by name again and again, and one that has done its work.
const OTHERS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {password: correct-horse}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  nodeName: agent-1
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: password, secret: {secretName: password}}
  containers:
  - name: asks
    image: skiff.local/toolbox
    args: [http-echo, --port, "8081", --text, "$(COLOUR) $(PASSWORD)"]
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: password, key: password}}}
    volumeMounts: [{name: settings, mountPath: /settings}, {name: password, mountPath: /password}]
    readinessProbe: {httpGet: {port: 8081}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: names}
spec:
  nodeName: agent-1
  terminationGracePeriodSeconds: 1
  containers:
  - name: names
    image: skiff.local/toolbox
    args: [get, --timeout, "2", "http://web.default.svc.cluster.local/"]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  nodeName: agent-1
  restartPolicy: Never
  containers: [{name: done, image: skiff.local/toolbox, args: [echo, worked]}]
"#;

/// The logs of a pod's container of the same name, from the host's disk.
fn logs(world: &World, pod: &str) -> BTreeMap<PathBuf, String> {
    let pods = world.host(AGENT).path("data/log/pods");
    let folders = fs::read_dir(pods).into_iter().flatten().flatten();
    let prefix = format!("default_{pod}_");
    let own = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(&prefix));
    own.flat_map(|folder| fs::read_dir(folder.path().join(pod)).into_iter().flatten())
        .filter_map(|file| Some(file.ok()?.path()))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect()
}

fn get(world: &World, url: &str) -> Option<String> {
    let mut command = world.host(AGENT).command("curl");
    let run = crate::cluster::run(command.args(["-sS", "--max-time", "2", url]), None);
    run.success.then_some(run.stdout)
}

#[test]
fn a_node_boots_without_a_server() {
    let Some(mut world) = World::new() else { return };
    for host in [SERVER, AGENT] {
        world.add(host, Segment::A);
    }
    world.host_mut(SERVER).start(&["server"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let token = fs::read_to_string(world.host(SERVER).path("data/server/token"));
    let token = token.expect("it is printed").trim().to_owned();
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    world.kubectl(SERVER, "wait --for=create node/agent-1 --timeout=180s").ok();
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    let workload = [OTHERS, &load::web(AGENT), &load::service()].concat();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&workload)).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web pod/asks --timeout=180s").ok();
    world
        .kubectl(SERVER, "wait --for=jsonpath={.status.phase}=Succeeded pod/done --timeout=180s")
        .ok();
    let address = |world: &World, pod: &str| {
        world.kubectl(SERVER, &format!("get pod {pod} -o jsonpath={{.status.podIP}}")).ok().stdout
    };
    let (web, asks) = (address(&world, "web"), address(&world, "asks"));
    let service =
        world.kubectl(SERVER, "get service web -o jsonpath={.spec.clusterIP}").ok().stdout;
    is_sealed_and_settled(&world);

    // A power cut at both; only the agent comes back.
    world.power_off(SERVER);
    world.power_off(AGENT);
    let asked = logs(&world, "names");
    assert_eq!(logs(&world, "done").len(), 1);
    world.power_on(AGENT);
    world.host_mut(AGENT).wait_ready();
    // The same addresses, so that what was told of them still holds.
    until("the pod answers", || {
        get(&world, &format!("http://{web}:8080/")).is_some_and(|text| text.contains("web"))
    });
    until("with its Secret and ConfigMap", || {
        get(&world, &format!("http://{asks}:8081/"))
            .is_some_and(|text| text.contains("blue correct-horse"))
    });
    until("the Service leads to it", || {
        get(&world, &format!("http://{service}/")).is_some_and(|text| text.contains("web"))
    });
    // By name, from a pod to a pod.
    until("names are known", || {
        let now = logs(&world, "names");
        now.iter().any(|(path, text)| !asked.contains_key(path) && text.contains(" stdout F web"))
    });
    assert_eq!(logs(&world, "done").len(), 1, "nothing that is done runs again");
    assert!(world.host(AGENT).log().contains("no server is in reach: this node goes on"));

    // What was changed meanwhile holds once the server is back.
    world.power_on(SERVER);
    world.host_mut(SERVER).wait_ready();
    until("the node is in step", || world.host(AGENT).log().contains("a server is in reach again"));
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web pod/asks --timeout=180s").ok();
    let restarts = "get pod web -o jsonpath={.status.containerStatuses[0].restartCount}";
    until("its status is told", || world.kubectl(SERVER, restarts).stdout == "1");
    world.kubectl(SERVER, "delete pod web --wait=true --timeout=180s").ok();
    let cat = "exec asks -c asks -- toolbox cat /settings/colour /password/password";
    let kept = || world.kubectl(SERVER, cat);
    comes_to_print(kept, "blue").prints("correct-horse");
    assert_eq!(get(&world, &format!("http://{web}:8080/")), None, "it is gone");
}

/// Nobody reads the Secret off the disk, and where nothing changes nothing is
/// written.
fn is_sealed_and_settled(world: &World) {
    let folder = world.host(AGENT).path("data/agent/kept");
    let state = || {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.modified().ok()?)))
            .collect();
        files.sort();
        files
    };
    let mut last = state();
    until("the node has kept what it was told", || {
        std::thread::sleep(Duration::from_secs(2));
        let now = state();
        let settled = !now.is_empty() && now == last;
        last = now;
        settled
    });
    for (name, _) in &last {
        let bytes = fs::read(folder.join(name)).expect("readable");
        for secret in [&b"correct-horse"[..], b"password", b"eyJ"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{name:?} is sealed");
        }
    }
}

/// As a board whose clock has lost itself: by it everything has run out long since, and
/// nobody is there to say otherwise.
#[test]
fn a_node_boots_far_ahead_of_time_without_a_server() {
    const YEARS_S: i64 = 30 * 365 * 24 * 3600;
    let Some(mut world) = World::new() else { return };
    for host in [SERVER, AGENT] {
        world.add(host, Segment::A);
    }
    world.host_mut(SERVER).start(&["server"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let token = world.host(SERVER).read("data/server/token").trim().to_owned();
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    world.kubectl(SERVER, "wait --for=create node/agent-1 --timeout=180s").ok();
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    let workload = [OTHERS, &load::web(AGENT), &load::service()].concat();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&workload)).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web pod/asks --timeout=180s").ok();
    let asks = "get pod asks -o jsonpath={.status.podIP}";
    let asks = world.kubectl(SERVER, asks).ok().stdout;
    is_sealed_and_settled(&world);

    world.power_off(SERVER);
    world.power_off(AGENT);
    world.host_mut(AGENT).set_clock(YEARS_S);
    world.power_on(AGENT);
    world.host_mut(AGENT).wait_ready();
    until("its pods start", || {
        get(&world, &format!("http://{asks}:8081/"))
            .is_some_and(|text| text.contains("blue correct-horse"))
    });
    let told = world.host(AGENT).log();
    assert!(told.contains("no server says what time it is"), "its clock was not ahead: {told}");

    // The server says what time it is, and nothing has run out.
    let before = world.host(AGENT).read("data/agent/client-kubelet.crt");
    world.power_on(SERVER);
    world.host_mut(SERVER).wait_ready();
    until("the node is in step", || world.host(AGENT).log().contains("a server is in reach again"));
    let told = world.host(AGENT).log();
    assert!(told.contains("days ahead of what 1 of 1 servers say"), "{told}");
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web pod/asks --timeout=180s").ok();
    assert_eq!(world.host(AGENT).read("data/agent/client-kubelet.crt"), before, "none is new");
}

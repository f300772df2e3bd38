//! What a container costs, beside crun and runc: `cargo bench -p node-runtime`.
//!
//! Each round runs `true` from one root file system once in every way, so that what
//! else the machine does falls on all of them. Needs root and a static
//! `/usr/bin/busybox`; runtimes that are not installed (Debian: crun, runc) are
//! left out with a word.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use node_runtime::{
    Config, ContainerSpec, Event, Runtime, SandboxSpec, ShimRuntime, killall,
    spec::{Namespace, Resources, Security, User},
};
use serde_json::{Value, json};

const ROUNDS: usize = 100;

fn main() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/busybox").exists() {
        println!("skipped: needs root and a static /usr/bin/busybox (Debian: busybox-static)");
        return;
    }
    if let Some(ended) = without_hybrid_cgroups() {
        std::process::exit(ended);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("bundle/rootfs");
    fs::create_dir_all(root.join("bin")).expect("made");
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("copied");
    for name in ["true", "sleep"] {
        symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    let others: Vec<&str> =
        ["crun", "runc"].into_iter().filter(|name| prepare(name, directory.path())).collect();

    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    tokio.block_on(async {
        let ours = ShimRuntime::open(Config {
            state_dir: directory.path().join("state"),
            cgroup_prefix: format!("skiff-bench-{}", std::process::id()),
        });
        let ours = ours.await.expect("a runtime");
        let mut pods = Vec::new();
        let mut containers = Vec::new();
        let mut theirs: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        let shared = ours.run_sandbox(sandbox("shared", &directory)).await.expect("a sandbox");
        for round in 0..ROUNDS {
            let began = Instant::now();
            let pod = ours.run_sandbox(sandbox(&format!("p{round}"), &directory)).await;
            let pod = pod.expect("a sandbox");
            run_true(&ours, &pod.id, &root).await;
            ours.remove_sandbox(&pod.id).await.expect("removed");
            pods.push(began.elapsed());

            let began = Instant::now();
            run_true(&ours, &shared.id, &root).await;
            containers.push(began.elapsed());

            for name in &others {
                let began = Instant::now();
                run_other(name, directory.path());
                theirs.entry(name).or_default().push(began.elapsed());
            }
        }
        show("skiff: a container in a running pod, started, ended, removed", &containers, None);
        show("skiff: a pod with one, network namespace and shim made too", &pods, None);
        for (name, times) in &theirs {
            show(&format!("{name} run"), times, Some(&containers));
        }
        memory(&ours, &shared.id, &root, &directory.path().join("state")).await;
    });
    if let Err(error) = killall(&directory.path().join("state")) {
        eprintln!("cleaning up: {error}");
    }
    for name in &others {
        remove_cgroups(name);
    }
}

/// crun refuses to work where cgroup v2 is mounted beside v1, so there the whole bench
/// runs once more in a mount namespace without it; the code that ended with.
fn without_hybrid_cgroups() -> Option<i32> {
    const HYBRID: &str = "/sys/fs/cgroup/unified";
    if !Path::new(HYBRID).join("cgroup.procs").exists() {
        return None;
    }
    let script = format!("umount {HYBRID} && exec \"$0\" --bench");
    let bench = std::env::current_exe().expect("its own path");
    let again = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(bench).status();
    Some(again.expect("util-linux' unshare runs").code().unwrap_or(1))
}

fn sandbox(uid: &str, directory: &tempfile::TempDir) -> SandboxSpec {
    SandboxSpec {
        pod_uid: uid.into(),
        pod_name: uid.into(),
        pod_namespace: "default".into(),
        attempt: 0,
        hostname: "bench".into(),
        network: Namespace::Own,
        ipc: Namespace::Own,
        pid: Namespace::Own,
        share_pid: false,
        cgroup_parent: "pods/burstable".into(),
        labels: BTreeMap::new(),
        log_dir: directory.path().join("logs").join(uid),
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
        ids: None,
    }
}

fn container(root: &Path, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: "main".into(),
        attempt: 0,
        labels: BTreeMap::new(),
        layers: vec![root.to_owned()],
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        cwd: String::new(),
        user: User::default(),
        mounts: Vec::new(),
        security: Security::default(),
        devices: Vec::new(),
        tty: false,
        stdin: false,
        stdin_once: false,
        resources: Resources::default(),
        oom_score_adj: None,
        log_path: None,
        pid_of: None,
    }
}

async fn run_true(ours: &Arc<ShimRuntime>, pod: &node_runtime::SandboxId, root: &Path) {
    let mut events = ours.subscribe();
    let started = ours.start_container(pod, container(root, &["true"])).await.expect("a start");
    loop {
        let event = events.recv().await.expect("events go on");
        if matches!(&event, Event::ContainerExited { container, .. } if *container == started.id) {
            break;
        }
    }
    ours.remove_container(&started.id).await.expect("removed");
}

/// What a shim holds with nothing and with ten containers under it.
async fn memory(ours: &Arc<ShimRuntime>, pod: &node_runtime::SandboxId, root: &Path, state: &Path) {
    let empty = shim_kib(state);
    for n in 0..10 {
        let mut spec = container(root, &["sleep", "1000"]);
        spec.name = format!("c{n}");
        ours.start_container(pod, spec).await.expect("a start");
    }
    let full = shim_kib(state);
    for (what, (resident, proportional)) in [("no container", empty), ("ten containers", full)] {
        println!("shim with {what}: RSS {resident} KiB, PSS {proportional} KiB");
    }
}

/// Resident and proportional size of this process' one shim.
fn shim_kib(state: &Path) -> (u64, u64) {
    let state = state.to_string_lossy();
    let field = |path: PathBuf, key: &str| -> u64 {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let is_shim = |path: &PathBuf| {
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        name.contains("shim") && String::from_utf8_lossy(&line).contains(&*state)
    };
    let processes = fs::read_dir("/proc").expect("procfs").flatten().map(|entry| entry.path());
    let Some(shim) = processes.into_iter().find(is_shim) else { return (0, 0) };
    (field(shim.join("status"), "VmRSS:"), field(shim.join("smaps_rollup"), "Pss:"))
}

/// Writes the bundle as this runtime's `spec` makes it; `false` where it is missing.
fn prepare(name: &str, directory: &Path) -> bool {
    let bundle = directory.join("bundle");
    let config = bundle.join("config.json");
    let _ = fs::remove_file(&config);
    let made = Command::new(name).arg("spec").current_dir(&bundle).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("{name}: skipped, not installed");
        return false;
    }
    let text = fs::read(&config).expect("a configuration");
    let mut spec: Value = serde_json::from_slice(&text).expect("JSON");
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["true"]);
    spec["root"]["readonly"] = false.into();
    spec["linux"]["cgroupsPath"] = format!("/{}/c", cgroup(name)).into();
    fs::write(directory.join(format!("{name}.json")), spec.to_string()).expect("written");
    true
}

fn cgroup(name: &str) -> String {
    format!("skiff-bench-{}-{name}", std::process::id())
}

fn run_other(name: &str, directory: &Path) {
    let bundle = directory.join("bundle");
    fs::copy(directory.join(format!("{name}.json")), bundle.join("config.json")).expect("copied");
    let ran = Command::new(name)
        .arg("--root")
        .arg(directory.join(format!("state-{name}")))
        .args(["run", "bench"])
        .current_dir(bundle)
        .stdin(Stdio::null())
        .output()
        .expect("it is installed");
    assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Other runtimes leave the parent of what they were told to use.
fn remove_cgroups(name: &str) {
    let tops = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for top in tops.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]) {
        // Absent in most places.
        let _ = fs::remove_dir(top.join(cgroup(name)));
    }
}

fn show(what: &str, times: &[Duration], beside: Option<&[Duration]>) {
    let at = |times: &[Duration], share: f64| {
        let mut sorted = times.to_vec();
        sorted.sort();
        sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0
    };
    let ratio = beside.map_or(String::new(), |ours| {
        format!(", {:.1} × a container of skiff's", at(times, 0.5) / at(ours, 0.5))
    });
    println!("{what}: p50 {:.1} ms, p99 {:.1} ms{ratio}", at(times, 0.5), at(times, 0.99));
}

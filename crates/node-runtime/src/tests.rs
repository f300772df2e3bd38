//! The runtime on a real kernel: needs root, cgroups and a static busybox, and
//! says which is missing where it skips.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    AttachStreams, Config, Container, ContainerSpec, ContainerState, Error, Event, ExecSpec,
    ExitStatus, Runtime, Sandbox, SandboxSpec, SandboxState, ShimRuntime, killall,
    spec::{Mount, MountSource, Namespace, Propagation, Resources, Seccomp, Security, User},
};

/// A state folder, an image of busybox and a cgroup prefix of its own; all gone
/// at the end, whatever happened.
struct Bed {
    directory: tempfile::TempDir,
    prefix: String,
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = killall(&self.directory.path().join("state")) {
            eprintln!("cleaning up: {error}");
        }
    }
}

fn busybox() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin/busybox");
    // A dynamic one names its interpreter.
    let bytes = fs::read(&path).ok()?;
    let dynamic = bytes.windows(7).any(|w| w == b"/ld-lin" || w == b"/ld-mus");
    (!dynamic).then_some(path)
}

impl Bed {
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let Some(busybox) = busybox() else {
            eprintln!("skipped: needs a static /usr/bin/busybox (Debian: busybox-static)");
            return None;
        };
        if let Err(error) = linux::cgroup::detect() {
            eprintln!("skipped: {error}");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bin = directory.path().join("image/bin");
        fs::create_dir_all(&bin).expect("made");
        fs::copy(busybox, bin.join("busybox")).expect("copied");
        for name in
            "sh sleep cat echo ls id mkdir mknod mount umount hostname ps kill stty tty dd readlink \
             touch head wc test env seq sync rm chroot pwd grep true false yes"
                .split_whitespace()
        {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("linked");
        }
        let etc = directory.path().join("image/etc");
        fs::create_dir_all(&etc).expect("made");
        fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
            .expect("written");
        fs::write(etc.join("no-exec"), "x").expect("written");
        let prefix =
            format!("skiff-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Some(Self { directory, prefix })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    async fn open(&self) -> Arc<ShimRuntime> {
        let config =
            Config { state_dir: self.path("state"), cgroup_prefix: self.prefix.clone() };
        ShimRuntime::open(config).await.expect("a runtime")
    }

    fn sandbox(&self) -> SandboxSpec {
        SandboxSpec {
            pod_uid: "0b5c9e9e-8f4b-4b0f-9d8e-5d8f0f7a1c11".into(),
            pod_name: "web".into(),
            pod_namespace: "default".into(),
            attempt: 0,
            hostname: "web".into(),
            network: Namespace::Own,
            ipc: Namespace::Own,
            pid: Namespace::Own,
            share_pid: false,
            cgroup_parent: "pods/burstable".into(),
            labels: BTreeMap::from([("k".into(), "v".into())]),
            log_dir: self.path("logs/default_web_uid"),
            sysctls: BTreeMap::new(),
            resources: Resources::default(),
        }
    }

    fn shell(&self, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: "main".into(),
            attempt: 0,
            labels: BTreeMap::new(),
            layers: vec![self.path("image")],
            args: ["sh", "-c", script].map(String::from).into(),
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
        }
    }
}

/// One container's run from start to end: its exit and its log's contents.
async fn run(
    bed: &Bed,
    change: impl FnOnce(&mut SandboxSpec, &mut ContainerSpec),
    script: &str,
) -> (ExitStatus, String) {
    let runtime = bed.open().await;
    let (mut sandbox, mut spec) = (bed.sandbox(), bed.shell(script));
    change(&mut sandbox, &mut spec);
    let sandbox = runtime.run_sandbox(sandbox).await.expect("a sandbox");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    let log = contents(&container.log_path);
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
    (exit, log)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an end within a minute")
}

/// A log without times, streams and tags.
fn contents(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a log");
    text.lines()
        .map(|line| line.splitn(4, ' ').nth(3).expect("four fields").to_owned() + "\n")
        .collect()
}

/// Waits until a log holds a text, woken by writes to it.
async fn logged(container: &Container, text: &str) {
    let path = container.log_path.clone();
    let text = text.to_owned();
    let watch = move || {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let inotify = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
        inotify::add_watch(&inotify, &path, WatchFlags::MODIFY).expect("a watch");
        while !contents(&path).contains(&text) {
            let mut buffer = [0u8; 4096];
            rustix::io::read(&inotify, &mut buffer).expect("an event");
        }
    };
    within(tokio::task::spawn_blocking(watch)).await.expect("the text");
}

async fn only(runtime: &ShimRuntime) -> Sandbox {
    let mut all = runtime.list().await.expect("a list");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[tokio::test]
async fn a_container_runs_and_its_log_and_exit_are_kept() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut events = runtime.subscribe();
    let spec = bed.shell("echo out; hostname; echo err >&2; echo -n rest; exit 7");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.unknown), (7, None, false, false));
    assert!(exit.started_at <= exit.finished_at);
    let log = fs::read_to_string(&container.log_path).expect("a log");
    let mut lines: Vec<&str> = log.lines().map(|l| l.split_once(' ').expect("a time").1).collect();
    // Two pipes have no order between them.
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout F web", "stdout P rest"]);
    assert_eq!(container.log_path, bed.path("logs/default_web_uid/main/0.log"));
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    assert!(seen.iter().any(|e| matches!(e, Event::ContainerExited { .. })), "{seen:?}");
    runtime.remove_container(&container.id).await.expect("a removal");
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
    runtime.remove_sandbox(&sandbox.id).await.expect("nothing left to remove");
    assert!(container.log_path.exists(), "logs stay");
    assert!(!bed.path("state/sandboxes").join(sandbox.id.as_str()).exists());
}

#[tokio::test]
async fn containers_outlive_the_runtime_and_are_adopted() {
    let Some(bed) = Bed::new() else { return };
    let gate = bed.path("gate");
    fs::create_dir(&gate).expect("made");
    let mount = Mount {
        destination: "/gate".into(),
        source: MountSource::Bind { path: gate.clone(), sub_path: None },
        read_only: false,
        propagation: Propagation::HostToContainer,
    };
    let (container, ended, pid) = {
        let runtime = bed.open().await;
        let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
        let mut spec =
            bed.shell("echo before; while ! test -e /gate/open; do sleep 0.02; done; echo after; exit 3");
        spec.mounts.push(mount);
        let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
        let ended = bed.shell("exit 5");
        let ended = runtime.start_container(&sandbox.id, ContainerSpec { name: "b".into(), ..ended });
        let ended = ended.await.expect("a start");
        let ContainerState::Running { pid, .. } = container.state else { panic!("runs") };
        (container, ended, pid)
    };
    let runtime = bed.open().await;
    let sandbox = only(&runtime).await;
    assert_eq!(sandbox.state, SandboxState::Ready);
    assert_eq!(sandbox.spec, bed.sandbox());
    let found = sandbox.containers.iter().find(|c| c.id == container.id).expect("adopted");
    assert!(matches!(found.state, ContainerState::Running { pid: now, .. } if now == pid));
    assert_eq!(found.spec, container.spec);
    assert_eq!(within(runtime.wait_exit(&ended.id)).await.expect("an exit").code, 5);
    fs::write(gate.join("open"), "").expect("opened");
    assert_eq!(within(runtime.wait_exit(&container.id)).await.expect("an exit").code, 3);
    assert_eq!(contents(&container.log_path), "before\nafter\n");
    drop(runtime);
    let runtime = bed.open().await;
    for (id, code) in [(&container.id, 3), (&ended.id, 5)] {
        assert_eq!(runtime.wait_exit(id).await.expect("an exit").code, code);
    }
}

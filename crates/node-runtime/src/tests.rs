//! The runtime on a real kernel: needs root, cgroups and a static busybox, and
//! says which is missing where it skips.

mod escapes;
mod faults;
mod pids;
mod users;

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
             touch head wc test sort stat tr env seq sync rm chroot pwd grep true false yes"
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
        let config = Config { state_dir: self.path("state"), cgroup_prefix: self.prefix.clone() };
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
            ids: None,
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
            pid_of: None,
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
        recursive_read_only: false,
        propagation: Propagation::HostToContainer,
    };
    let (container, ended, pid) = {
        let runtime = bed.open().await;
        let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
        let mut spec = bed.shell(
            "echo before; while ! test -e /gate/open; do sleep 0.02; done; echo after; exit 3",
        );
        spec.mounts.push(mount);
        let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
        let ended = bed.shell("exit 5");
        let ended =
            runtime.start_container(&sandbox.id, ContainerSpec { name: "b".into(), ..ended });
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

#[tokio::test]
async fn what_the_container_sees() {
    let Some(bed) = Bed::new() else { return };
    let script = "id -u; id -g; pwd; echo $HOME $HOSTNAME $A; ls /dev; ls /sys/fs/cgroup | grep memory; \
         readlink /proc/self/ns/net; (echo x > /proc/sys/kernel/hostname) 2>&1 | grep -o 'Read-only.*'; \
         wc -c < /proc/interrupts; echo x > /dev/null && echo null; \
         grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
         echo $$; \
         grep -c ' - overlay ' /proc/self/mountinfo; grep -c . /proc/self/mountinfo; echo out > /dev/stdout; touch /file && echo root writable; touch /sys/x; true";
    let (exit, log) = run(
        &bed,
        |_, spec| {
            spec.cwd = "/made/here".into();
            spec.env = vec![("A".into(), "b".into())];
        },
        script,
    )
    .await;
    assert_eq!(exit.code, 0, "{log}");
    let host = fs::read_link("/proc/self/ns/net").expect("a link");
    assert!(!log.contains(host.to_str().expect("text")), "{log}");
    assert!(log.starts_with("0\n0\n/made/here\n/root web b\n"), "{log}");
    let devices = "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert!(log.contains(devices), "{log}");
    assert!(log.contains("\nRead-only file system\n0\nnull\n"), "{log}");
    assert!(log.contains("NoNewPrivs:\t0\nSeccomp:\t2\n"), "{log}");
    assert!(log.contains("CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n"), "{log}");
    // The overlay, and no mount of the node.
    let mounts = log.split_once("Seccomp:\t2\n1\n1\n").expect("one overlay").1;
    let mounts: usize = mounts.lines().next().expect("a line").parse().expect("a number");
    assert!(mounts < 35, "{log}");
    assert!(log.contains("\nout\nroot writable\n"), "{log}");
    assert!(log.contains("/sys/x: Read-only file system"), "{log}");
}

#[tokio::test]
async fn a_user_without_privileges() {
    let Some(bed) = Bed::new() else { return };
    let (exit, log) = run(&bed, |_, spec| {
        spec.user = User { uid: 33, gid: 34, groups: vec![50] };
        spec.security.no_new_privs = true;
        spec.security.read_only_root = true;
        spec.security.capabilities_drop = vec!["ALL".into()];
    }, "id; echo $HOME; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /x; echo e > /dev/stderr; exit 4").await;
    assert_eq!(exit.code, 4, "{log}");
    assert!(log.contains("uid=33(www) gid=34 groups=34,50"), "{log}");
    assert!(log.contains("/srv\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"), "{log}");
    assert!(log.contains("/x: Read-only file system"), "{log}");
    assert!(log.contains("\ne\n") || log.starts_with("e\n"), "{log}");
}

#[tokio::test]
async fn starts_that_fail_say_why() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let start = async |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = bed.shell("true");
        change(&mut spec);
        runtime.start_container(&sandbox.id, spec).await.expect_err("a failure")
    };
    let error = start(&|spec| spec.args = vec!["foo".into()]).await;
    assert_eq!(error.exit_code(), Some(128));
    assert!(
        error.to_string().contains(r#"exec: "foo": executable file not found in $PATH"#),
        "{error}"
    );
    let error = start(&|spec| spec.args = vec!["/foo".into()]).await;
    assert!(
        error.to_string().contains(r#"exec: "/foo": stat /foo: no such file or directory"#),
        "{error}"
    );
    let error = start(&|spec| spec.args = vec!["/etc/no-exec".into()]).await;
    assert_eq!(error.exit_code(), Some(128));
    assert!(error.to_string().contains("permission denied"), "{error}");
    let error = start(&|spec| spec.args = Vec::new()).await;
    assert!(matches!(error, Error::InvalidSpec(_)), "{error}");
    assert_eq!(error.exit_code(), None);
    let error = start(&|spec| spec.layers = vec!["/does/not/exist".into()]).await;
    assert!(matches!(error, Error::LayerMissing(_)), "{error}");
    let error = start(&|spec| {
        spec.mounts = vec![bind("/does/not/exist".into(), None, "/x")];
    })
    .await;
    assert!(error.to_string().contains("mount /does/not/exist on /x"), "{error}");
    let error = start(&|spec| spec.security.capabilities_add = vec!["NOPE".into()]).await;
    assert!(error.to_string().contains("NOPE"), "{error}");
    assert!(only(&runtime).await.containers.is_empty());
    let left =
        fs::read_dir(bed.path("state/sandboxes").join(sandbox.id.as_str()).join("containers"));
    assert_eq!(left.expect("a folder").count(), 0);
}

fn bind(path: PathBuf, sub_path: Option<&str>, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Bind { path, sub_path: sub_path.map(Into::into) },
        read_only: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

#[tokio::test]
async fn mounts_stay_inside() {
    let Some(bed) = Bed::new() else { return };
    let volume = bed.path("volume");
    fs::create_dir_all(volume.join("sub")).expect("made");
    fs::write(volume.join("sub/file"), "sub\n").expect("written");
    fs::write(bed.path("secret"), "secret\n").expect("written");
    std::os::unix::fs::symlink("..", volume.join("out")).expect("linked");
    // An image whose links point out of it, to where mounts go.
    let image = bed.path("image");
    std::os::unix::fs::symlink("/../../../../../../tmp", image.join("link")).expect("linked");
    std::os::unix::fs::symlink("../run/x/stub", image.join("etc/resolv.conf")).expect("linked");
    let (exit, log) = run(&bed, |_, spec| {
        spec.mounts = vec![
            bind(volume.clone(), None, "/data"),
            bind(volume.clone(), Some("sub/file"), "/made/file"),
            bind(volume.clone(), None, "/link/inside"),
            bind(volume.join("sub/file"), None, "/etc/resolv.conf"),
            Mount {
                destination: "/tmpfs".into(),
                source: MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 },
                read_only: false,
                recursive_read_only: false,
                propagation: Propagation::Private,
            },
        ];
        let mut read_only = bind(volume.clone(), None, "/ro");
        read_only.read_only = true;
        spec.mounts.push(read_only);
    }, "cat /data/sub/file /made/file /tmp/inside/sub/file /run/x/stub; touch /data/new; touch /ro/x; touch /tmpfs/x; \
        dd if=/dev/zero of=/tmpfs/x bs=1M count=2 2>&1 | grep -c 'No space'; true").await;
    assert_eq!(exit.code, 0, "{log}");
    assert_eq!(log.matches("sub\n").count(), 4, "{log}");
    assert!(log.contains("/ro/x: Read-only file system"), "{log}");
    assert!(log.contains("1\n"), "{log}");
    assert!(volume.join("new").exists());
    assert!(!Path::new("/tmp/inside").exists());

    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    for sub in ["out/secret", "../secret", "out"] {
        let mut spec = bed.shell("cat /stolen");
        spec.mounts = vec![bind(volume.clone(), Some(sub), "/stolen")];
        let error = runtime.start_container(&sandbox.id, spec).await.expect_err("a refusal");
        assert!(matches!(error, Error::Start { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_mounted_below_a_read_only_mount_is_so_where_that_is_asked_for() {
    let Some(bed) = Bed::new() else { return };
    let volume = bed.path("volume");
    fs::create_dir_all(volume.join("below")).expect("made");
    linux::mount::mount_tmpfs(&volume.join("below"), 1 << 20, 0o777).expect("mounted");
    // The way to it is a link of the image.
    std::os::unix::fs::symlink("made", bed.path("image").join("link")).expect("linked");
    let read_only = |recursive, sub: Option<&str>, destination: &str| Mount {
        read_only: true,
        recursive_read_only: recursive,
        ..bind(volume.clone(), sub, destination)
    };
    let (exit, log) = run(
        &bed,
        |_, spec| {
            spec.mounts = vec![
                read_only(false, None, "/link/top"),
                read_only(true, None, "/all"),
                read_only(false, Some("below"), "/sub"),
            ];
        },
        "touch /made/top/x; touch /made/top/below/x && echo below; touch /all/x; \
         touch /all/below/y; touch /sub/z; true",
    )
    .await;
    linux::mount::unmount(&volume.join("below")).expect("unmounted");
    assert_eq!(exit.code, 0, "{log}");
    for refused in ["/made/top/x", "/all/x", "/all/below/y", "/sub/z"] {
        assert!(log.contains(&format!("{refused}: Read-only file system")), "{refused}: {log}");
    }
    assert!(log.contains("below\n"), "{log}");
}

#[tokio::test]
async fn the_filter_and_devices_hold() {
    let Some(bed) = Bed::new() else { return };
    // `unshare` and `mount` are filtered; a block device can be made, not read.
    let disk = fs::read_to_string("/proc/partitions").expect("a list");
    let disk = disk
        .lines()
        .nth(2)
        .expect("a disk")
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    let script = format!(
        "mknod /disk b {disk} && head -c 1 /disk; busybox unshare -U true; mount -t tmpfs x /etc; chroot / true && echo chroot"
    );
    let (exit, log) = run(&bed, |_, _| {}, &script).await;
    assert_eq!(exit.code, 0, "{log}");
    assert!(log.contains("head: /disk: Operation not permitted"), "{log}");
    assert!(log.contains("unshare: unshare(0x10000000): Operation not permitted"), "{log}");
    assert!(
        log.contains("mount: permission denied")
            || log.contains("mounting x on /etc failed: Operation not permitted"),
        "{log}"
    );
    assert!(log.contains("chroot\n"), "{log}");

    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let (_, log) = run(
        &bed,
        |_, spec| {
            spec.security.seccomp = Seccomp::Localhost(profile.into());
        },
        "mkdir /x; mkdir /y",
    )
    .await;
    assert!(log.contains("mkdir: can't create directory '/x': No space left on device"), "{log}");

    let (_, log) = run(&bed, |_, spec| spec.security = Security { privileged: true, ..Security::default() },
        "mount -t tmpfs x /etc && echo mounted; test -w /proc/sys/kernel && echo unmasked; grep Seccomp: /proc/self/status").await;
    assert!(log.contains("mounted\nunmasked\nSeccomp:\t0\n"), "{log}");
}

#[tokio::test]
async fn limits_hold() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut spec = bed.shell("echo in; dd if=/dev/zero of=/dev/null bs=200M count=1; echo alive");
    spec.resources = Resources {
        memory_limit: Some(32 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        pids_limit: Some(20),
        ..Resources::default()
    };
    spec.args =
        ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"].map(String::from).into();
    let container = runtime.start_container(&sandbox.id, spec.clone()).await.expect("a start");
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));

    spec.args = ["sh", "-c", "(for i in $(seq 30); do sleep 60 & done); exec sleep 60"]
        .map(String::from)
        .into();
    spec.name = "pids".into();
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "fork").await;
    let stats = runtime.container_stats(&container.id).await.expect("statistics");
    assert!(stats.pids <= 20, "{stats:?}");
    assert_eq!(stats.memory_limit, Some(32 << 20));
    assert!(stats.memory_usage > 0 && stats.memory_working_set <= stats.memory_usage);
    let pod = runtime.sandbox_stats(&sandbox.id).await.expect("statistics");
    assert!(pod.cpu_ns >= stats.cpu_ns && pod.pids >= stats.pids, "{pod:?} {stats:?}");
    let more = Resources { memory_limit: Some(64 << 20), ..Resources::default() };
    runtime.update_container(&container.id, more, BTreeMap::new()).await.expect("an update");
    let stats = runtime.container_stats(&container.id).await.expect("statistics");
    assert_eq!(stats.memory_limit, Some(64 << 20));
    let exit = runtime.stop_container(&container.id, None, Duration::from_millis(50)).await;
    assert_eq!(exit.expect("an exit").code, 137, "a shell as first process ignores SIGTERM");
}

#[tokio::test]
async fn stopping_waits_for_the_grace() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let spec =
        bed.shell("trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.05; done");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "ready").await;
    let exit = runtime
        .stop_container(&container.id, None, Duration::from_secs(30))
        .await
        .expect("an exit");
    assert_eq!((exit.code, exit.signal), (9, None));
    assert_eq!(contents(&container.log_path), "ready\nbye\n");
    let again = runtime.stop_container(&container.id, None, Duration::from_secs(30)).await;
    assert_eq!(again.expect("the same exit"), exit);
    assert!(matches!(runtime.signal(&container.id, 15).await, Err(Error::NotRunning(_))));
}

#[tokio::test]
async fn exec_in_a_container() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut spec = bed.shell("trap 'exit 0' TERM; echo ready; while true; do sleep 0.05; done");
    spec.env = vec![("A".into(), "b".into())];
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "ready").await;
    let sync = async |script: &str, timeout| {
        let args = ["sh", "-c", script].map(String::from).into();
        runtime.exec_sync(&container.id, args, Duration::from_millis(timeout)).await
    };
    let script = "echo $A; hostname; echo err >&2; cat /proc/1/comm; grep Seccomp: /proc/self/status; exit 3";
    let out = sync(script, 30_000).await.expect("output");
    assert_eq!(out.code, 3);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "b\nweb\nsh\nSeccomp:\t2\n");
    assert_eq!(out.stderr, b"err\n");
    assert!(matches!(sync("sleep 60", 50).await, Err(Error::Timeout(_))));
    let args = vec!["nothing".to_owned()];
    let error = runtime.exec_sync(&container.id, args, Duration::from_secs(9)).await;
    assert!(matches!(error, Err(Error::CommandNotFound { .. })), "{error:?}");

    let spec =
        ExecSpec { args: vec!["cat".into()], stdin: true, stdout: true, ..ExecSpec::default() };
    let mut session = runtime.exec(&container.id, spec).await.expect("a session");
    let mut stdin = session.stdin.take().expect("asked for");
    let sent = vec![b'x'; 300_000];
    let writer = async {
        stdin.write_all(&sent).await.expect("taken");
        drop(stdin);
    };
    let mut stdout = session.stdout.take().expect("asked for");
    let mut got = Vec::new();
    let (read, ()) = within(async { tokio::join!(stdout.read_to_end(&mut got), writer) }).await;
    read.expect("read");
    assert_eq!(got.len(), sent.len());
    assert_eq!(within(session.exit).await.expect("an exit").code, 0);

    let spec = ExecSpec {
        args: ["sh", "-c", "tty; stty size; read x; stty size; echo got $x; exit 5"]
            .map(String::from)
            .into(),
        tty: true,
        window: Some((40, 100)),
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let mut session = runtime.exec(&container.id, spec).await.expect("a session");
    let mut stdout = session.stdout.take().expect("asked for");
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("40 100") {
        let len = within(stdout.read(&mut buffer)).await.expect("read");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    session.control.resize(50, 120);
    // Resizing and typing go different ways; the size is asked for after both.
    let mut stdin = session.stdin.take().expect("asked for");
    tokio::task::yield_now().await;
    stdin.write_all(b"typed\n").await.expect("taken");
    within(stdout.read_to_end(&mut Vec::new())).await.map(drop).unwrap_or(());
    assert!(text.starts_with("/dev/pts/"), "{text}");
    assert_eq!(within(session.exit).await.expect("an exit").code, 5);

    runtime.stop_container(&container.id, None, Duration::from_secs(30)).await.expect("an exit");
    let error = sync("true", 1000).await;
    assert!(matches!(error, Err(Error::NotRunning(_))), "{error:?}");
}

#[tokio::test]
async fn attach_to_a_terminal_and_a_pipe() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    for tty in [false, true] {
        let mut spec = bed.shell("echo ready; while read x; do echo got $x; test $x = end && exit 6; done; echo eof; exit 8");
        spec.name = format!("tty-{tty}");
        (spec.tty, spec.stdin, spec.stdin_once) = (tty, true, true);
        let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
        logged(&container, "ready").await;
        let want = AttachStreams { stdin: true, stdout: true, stderr: true };
        let mut session = runtime.attach(&container.id, want).await.expect("a session");
        assert_eq!(session.stderr.is_some(), !tty);
        let mut stdin = session.stdin.take().expect("asked for");
        session.control.resize(10, 20);
        stdin.write_all(b"one\nend\n").await.expect("taken");
        let mut text = String::new();
        let mut stdout = session.stdout.take().expect("asked for");
        within(stdout.read_to_string(&mut text)).await.expect("read");
        assert!(text.contains("got one"), "{text}");
        assert_eq!(within(session.exit).await.expect("an exit").code, 6);
        assert!(contents(&container.log_path).contains("got one"));
    }
    let mut spec = bed.shell("echo ready; cat; exit 8");
    (spec.stdin, spec.stdin_once) = (true, true);
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "ready").await;
    let want = AttachStreams { stdin: true, stdout: false, stderr: false };
    drop(runtime.attach(&container.id, want).await.expect("a session"));
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    assert_eq!(exit.code, 8, "standard input ends with its only client");
}

#[tokio::test]
async fn a_dead_shim_is_noticed() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut events = runtime.subscribe();
    let container =
        runtime.start_container(&sandbox.id, bed.shell("sleep 600")).await.expect("a start");
    let ended = runtime
        .start_container(&sandbox.id, ContainerSpec { name: "b".into(), ..bed.shell("exit 5") })
        .await
        .expect("a start");
    within(runtime.wait_exit(&ended.id)).await.expect("an exit");
    let ContainerState::Running { pid, .. } = container.state else { panic!("runs") };
    linux::process::kill(sandbox.shim_pid).expect("killed");
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    assert_eq!((exit.code, exit.unknown), (137, true));
    assert_eq!(runtime.wait_exit(&ended.id).await.expect("an exit").code, 5);
    while within(events.recv()).await.expect("an event")
        != (Event::ShimDied { sandbox: sandbox.id.clone() })
    {}
    assert!(
        !Path::new(&format!("/proc/{pid}/ns/net")).exists()
            || fs::read_link(format!("/proc/{pid}/exe")).is_err()
    );
    assert_eq!(only(&runtime).await.state, SandboxState::NotReady);
    let error = runtime.start_container(&sandbox.id, bed.shell("true")).await;
    assert!(matches!(error, Err(Error::ShimGone(_))), "{error:?}");
    drop(runtime);
    // And by one that comes later.
    let runtime = bed.open().await;
    assert_eq!(only(&runtime).await.state, SandboxState::NotReady);
    assert_eq!(runtime.wait_exit(&ended.id).await.expect("an exit").code, 5);
    assert!(runtime.wait_exit(&container.id).await.expect("an exit").unknown);
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

#[tokio::test]
async fn killall_leaves_nothing() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    runtime.start_container(&sandbox.id, bed.shell("sleep 600")).await.expect("a start");
    drop(runtime);
    fs::write(bed.path("state/sandboxes").join(sandbox.id.as_str()).join("sandbox"), "damaged")
        .expect("written");
    killall(&bed.path("state")).expect("everything ended");
    killall(&bed.path("state")).expect("nothing to end");
    let mounts = linux::mount::mounts().expect("mounts");
    assert!(!mounts.iter().any(|m| m.mount_point.starts_with(bed.directory.path())));
    let cgroups = linux::cgroup::detect().expect("cgroups");
    assert!(cgroups.directories(&bed.prefix).iter().all(|d| !d.exists()));
    // Perhaps not reaped yet, but without a program.
    assert!(fs::read_link(format!("/proc/{}/exe", sandbox.shim_pid)).is_err());
    assert!(!bed.path("state/sandboxes").exists());
}

#[tokio::test]
async fn the_node_s_own_namespaces() {
    let Some(bed) = Bed::new() else { return };
    let (exit, log) = run(
        &bed,
        |sandbox, _| {
            sandbox.network = Namespace::Host;
            sandbox.ipc = Namespace::Host;
            sandbox.pid = Namespace::Host;
        },
        "for n in net ipc pid; do readlink /proc/self/ns/$n; done; sleep 600 & exit 2",
    )
    .await;
    assert_eq!(exit.code, 2, "{log}");
    for kind in ["net", "ipc", "pid"] {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
        assert!(log.contains(host.to_str().expect("text")), "{log}");
    }
    let runtime = bed.open().await;
    let refused = |change: fn(&mut SandboxSpec)| {
        let mut spec = bed.sandbox();
        change(&mut spec);
        let runtime = runtime.clone();
        async move { runtime.run_sandbox(spec).await.expect_err("a refusal") }
    };
    for change in [
        (|s| s.pod_uid = "../x".into()) as fn(&mut SandboxSpec),
        |s| s.cgroup_parent = "a/../../b".into(),
        |s| drop(s.sysctls.insert("vm.swappiness".into(), "1".into())),
        |s| drop(s.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "x".into())),
    ] {
        let error = refused(change).await;
        assert!(!error.to_string().is_empty());
    }
    assert!(runtime.list().await.expect("a list").is_empty());
    assert_eq!(fs::read_dir(bed.path("state/sandboxes")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_pod_shares_its_namespaces_and_sysctls() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let mut spec = bed.sandbox();
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "77".into());
    let sandbox = runtime.run_sandbox(spec).await.expect("a sandbox");
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo shared >> /dev/shm/x; \
                  wc -l < /dev/shm/x; for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done";
    let mut logs = Vec::new();
    for name in ["a", "b"] {
        let spec = ContainerSpec { name: name.into(), ..bed.shell(script) };
        let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
        within(runtime.wait_exit(&container.id)).await.expect("an exit");
        let log = contents(&container.log_path);
        logs.push(log.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!((&*logs[0][0], &*logs[0][1], &*logs[1][1]), ("77", "1", "2"));
    // Numbers of namespaces that are gone may come again, so only what is
    // shared can be told.
    assert_eq!(logs[0][2..5], logs[1][2..5]);
    use std::os::linux::fs::MetadataExt;
    let pinned = fs::metadata(sandbox.netns_path.expect("its own network")).expect("pinned");
    assert_eq!(logs[0][2], format!("net:[{}]", pinned.st_ino()));
    runtime
        .limit_parent("pods/burstable", Resources { cpu_shares: Some(100), ..Resources::default() })
        .await
        .expect("a limit");
}

#[tokio::test]
async fn mounts_of_a_privileged_container_reach_the_node() {
    let Some(bed) = Bed::new() else { return };
    let shared = bed.path("shared");
    fs::create_dir(&shared).expect("made");
    rustix::mount::mount_bind(&shared, &shared).expect("mounted");
    rustix::mount::mount_change(&shared, rustix::mount::MountPropagationFlags::SHARED)
        .expect("shared");
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut spec = bed.shell(
        "mkdir /shared/x && mount -t tmpfs y /shared/x && touch /shared/x/seen; cat /dev/null",
    );
    spec.security.privileged = true;
    spec.mounts = vec![Mount {
        propagation: Propagation::Bidirectional,
        ..bind(shared.clone(), None, "/shared")
    }];
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
    let seen = shared.join("x/seen").exists();
    linux::mount::unmount(&shared.join("x")).expect("unmounted");
    linux::mount::unmount(&shared).expect("unmounted");
    assert_eq!(exit.code, 0, "{}", contents(&container.log_path));
    assert!(seen);
}

#[tokio::test]
async fn logs_are_rotated_and_reopened() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    // 70 bytes a line, records some 45 more: 18 MB.
    let line = "x".repeat(69);
    let spec = bed.shell(&format!("yes {line} | head -n 160000"));
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    within(runtime.wait_exit(&container.id)).await.expect("an exit");
    let mut lines = 0;
    for entry in fs::read_dir(container.log_path.parent().expect("a folder")).expect("listed") {
        let path = entry.expect("listed").path();
        assert!(fs::metadata(&path).expect("there").len() <= 10 << 20);
        let text = contents(&path);
        assert!(text.lines().all(|l| l == line));
        lines += text.lines().count();
    }
    assert_eq!(lines, 160_000);

    let spec =
        bed.shell("echo first; trap 'echo second; exit' TERM; while true; do sleep 0.02; done");
    let spec = ContainerSpec { name: "b".into(), ..spec };
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "first").await;
    let moved = container.log_path.with_extension("moved");
    fs::rename(&container.log_path, &moved).expect("moved");
    runtime.reopen_log(&container.id).await.expect("opened");
    runtime.stop_container(&container.id, None, Duration::from_secs(30)).await.expect("an exit");
    assert_eq!(
        (contents(&moved), contents(&container.log_path)),
        ("first\n".into(), "second\n".into())
    );
}

#[tokio::test]
async fn nothing_is_lost_while_runtimes_come_and_go() {
    let Some(bed) = Bed::new() else { return };
    let (writer, ends) = {
        let runtime = bed.open().await;
        let mut spec = bed.sandbox();
        spec.pod_uid = "writer".into();
        let sandbox = runtime.run_sandbox(spec).await.expect("a sandbox");
        let script = "for i in $(seq 20000); do echo $i; done; echo done; exit 4";
        let writer =
            runtime.start_container(&sandbox.id, bed.shell(script)).await.expect("a start");
        // Containers that end while nobody looks.
        let mut ends = Vec::new();
        for code in 0..10 {
            let spec = bed.shell(&format!("sleep 0.{code}; exit {code}"));
            let spec = ContainerSpec { name: format!("end-{code}"), ..spec };
            let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
            ends.push((code, container));
        }
        (writer, ends)
    };
    for _ in 0..20 {
        let runtime = bed.open().await;
        assert_eq!(only(&runtime).await.containers.len(), 11);
    }
    let runtime = bed.open().await;
    for (code, container) in &ends {
        let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
        assert_eq!(exit.code, *code);
    }
    assert_eq!(within(runtime.wait_exit(&writer.id)).await.expect("an exit").code, 4);
    let expect: String = (1..=20_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(contents(&writer.log_path), expect + "done\n");
}

#[tokio::test]
async fn many_pods_at_once() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let pods = (0..20).map(|number| {
        let (mut sandbox, spec) = (bed.sandbox(), bed.shell("echo up; exit 3"));
        sandbox.pod_uid = format!("pod-{number}");
        sandbox.log_dir = bed.path(&format!("logs/{number}"));
        let runtime = runtime.clone();
        tokio::spawn(async move {
            let sandbox = runtime.run_sandbox(sandbox).await.expect("a sandbox");
            let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
            let exit = within(runtime.wait_exit(&container.id)).await.expect("an exit");
            assert_eq!(contents(&container.log_path), "up\n");
            runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
            exit.code
        })
    });
    for pod in pods.collect::<Vec<_>>() {
        assert_eq!(pod.await.expect("no panic"), 3);
    }
    assert!(runtime.list().await.expect("a list").is_empty());
}

#[tokio::test]
async fn layers_lie_on_each_other() {
    let Some(bed) = Bed::new() else { return };
    // Longer than the 255 characters that fsconfig takes.
    let long = bed.path(&["d".repeat(200), "e".repeat(200)].join("/"));
    let top = bed.path("top");
    for (layer, text) in [(&long, "middle"), (&top, "top")] {
        fs::create_dir_all(layer.join("etc")).expect("made");
        fs::write(layer.join("etc/both"), text).expect("written");
    }
    fs::write(long.join("etc/middle"), "only").expect("written");
    let whiteout = top.join("etc/no-exec");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &whiteout,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .expect("made");
    let script =
        "cat /etc/both /etc/middle; test -e /etc/no-exec || echo gone; echo new > /etc/both";
    let layers = vec![top.clone(), long, bed.path("image")];
    let (exit, log) = run(&bed, |_, spec| spec.layers = layers, script).await;
    assert_eq!((exit.code, &*log), (0, "toponlygone\n"));
    assert_eq!(fs::read_to_string(top.join("etc/both")).expect("there"), "top");
}

/// Prints figures; run with `cargo test -p node-runtime -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_pods() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let (mut sandboxes, mut starts, mut shims) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..20 {
        let mut spec = bed.sandbox();
        spec.pod_uid = format!("pod-{number}");
        let begin = std::time::Instant::now();
        let sandbox = runtime.run_sandbox(spec).await.expect("a sandbox");
        sandboxes.push(begin.elapsed());
        let begin = std::time::Instant::now();
        let container = runtime.start_container(&sandbox.id, bed.shell("echo x; exec sleep 600"));
        let container = container.await.expect("a start");
        starts.push(begin.elapsed());
        logged(&container, "x").await;
        shims.push(sandbox.shim_pid);
    }
    let kib = |pid: &u32, key: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("readable");
        let line = text.lines().find_map(|l| l.strip_prefix(key)).expect("a line");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    };
    sandboxes.sort();
    starts.sort();
    println!("sandbox p50 {:?} max {:?}", sandboxes[10], sandboxes[19]);
    println!("container p50 {:?} max {:?}", starts[10], starts[19]);
    for key in ["Pss:", "Rss:", "Private_Dirty:"] {
        let sum: u64 = shims.iter().map(|pid| kib(pid, key)).sum();
        println!("{key} {} KiB a shim of {}", sum / shims.len() as u64, shims.len());
    }
}

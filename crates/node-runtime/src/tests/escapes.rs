//! Ways out of a container that other runtimes once left open, each tried.

use super::*;

use std::os::unix::{
    fs::{PermissionsExt, symlink},
    process::CommandExt,
};

/// What the kernel keeps of the node, so that a test sees who changed it.
fn core_pattern() -> String {
    fs::read_to_string("/proc/sys/kernel/core_pattern").expect("readable")
}

/// Tries what the escapes below are after.
const TRY: &str = "(echo '|/owned' > /proc/sys/kernel/core_pattern) 2>/dev/null && echo ESCAPED; \
    (echo h > /proc/sysrq-trigger) 2>/dev/null && echo ESCAPED; \
    wc -c < /proc/keys; head -c 1 /proc/kcore 2>/dev/null | wc -c; echo tried";
const HELD: &str = "0\n0\ntried\n";

/// CVE-2019-5736: a container executes the runtime's own program through
/// `/proc/self/exe` and writes to it while it runs.
#[tokio::test]
async fn the_runtime_s_own_program_is_out_of_reach() {
    let Some(bed) = Bed::new() else { return };
    let trap = bed.path("image/bin/trap");
    fs::write(&trap, "#!/proc/self/exe\n").expect("written");
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).expect("set");
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    // Holds on to every program that runs in here and writes as soon as it can.
    let spec = bed.shell(
        "echo up; while ! test -e /done; do for p in /proc/[0-9]*; do \
           test \"$(readlink $p/exe)\" = /bin/busybox && continue; \
           (exec 9<$p/exe; echo held; echo owned > /proc/self/fd/9 && echo ESCAPED) 2>/dev/null; \
           (echo owned > $p/exe) 2>/dev/null && echo ESCAPED; done; done | sort -u; echo end",
    );
    let main = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&main, "up").await;
    for _ in 0..10 {
        // Whatever comes of it: the shim in a container says how it is used, or
        // is not there to be executed.
        let trapped =
            runtime.exec_sync(&main.id, vec!["/bin/trap".into()], Duration::from_secs(20)).await;
        assert!(trapped.is_err() || trapped.is_ok_and(|output| output.code != 0));
    }
    let mut first = bed.shell("true");
    first.args = vec!["/bin/trap".into()];
    first.name = "first".into();
    if let Ok(first) = runtime.start_container(&sandbox.id, first).await {
        assert_ne!(within(runtime.wait_exit(&first.id)).await.expect("an exit").code, 0);
    }
    let done = ["touch", "/done"].map(String::from).to_vec();
    runtime.exec_sync(&main.id, done, Duration::from_secs(20)).await.expect("the shim works");
    within(runtime.wait_exit(&main.id)).await.expect("an exit");
    let log = contents(&main.log_path);
    assert!(log.ends_with("end\n") && !log.contains("ESCAPED"), "{log}");
}

/// CVE-2021-41103: a user of the node runs a setuid program that a container
/// left in its own files. The container's users need no way to their files.
#[tokio::test]
async fn users_of_the_node_do_not_reach_containers_files() {
    let Some(bed) = Bed::new() else { return };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    // Nothing of the test itself stands in the way; and a folder of before.
    mode(bed.directory.path(), 0o755);
    let (state, images) = (bed.path("state"), bed.path("images"));
    fs::create_dir(&state).expect("made");
    mode(&state, 0o755);
    fs::create_dir(&images).expect("made");
    mode(&images, 0o700);
    let layer = images.join("fs");
    fs::rename(bed.path("image"), &layer).expect("moved");
    let runtime = bed.open().await;
    assert_eq!(fs::metadata(&state).expect("there").permissions().mode() & 0o7777, 0o700);

    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut root = bed.shell("dd if=/bin/busybox of=/suid 2>/dev/null; echo end; exec sleep 1000");
    root.layers = vec![layer.clone()];
    let root = runtime.start_container(&sandbox.id, root).await.expect("a start");
    logged(&root, "end").await;
    let mut user = bed.shell("id -u; grep -c root /etc/passwd; exit 3");
    user.name = "user".into();
    user.layers = vec![layer.clone()];
    user.user = User { uid: 33, gid: 33, groups: Vec::new() };
    let user = runtime.start_container(&sandbox.id, user).await.expect("a start");
    assert_eq!(within(runtime.wait_exit(&user.id)).await.expect("an exit").code, 3);
    assert!(contents(&user.log_path).starts_with("33\n1\n"));
    let run = ["sh", "-c", "id -u; cat /etc/passwd"].map(String::from).to_vec();
    let run = runtime.exec_sync(&root.id, run, Duration::from_secs(20)).await.expect("run");
    assert!(run.stdout.starts_with(b"0\nroot:"));

    let suid = find(&state, "suid").expect("in the container's own layer");
    // Not setuid in fact: the test opens the way to it.
    mode(&suid, 0o755);
    let nobody_runs =
        || std::process::Command::new(&suid).args(["id", "-u"]).uid(65534).output().is_ok();
    assert!(!nobody_runs());
    mode(&state, 0o755);
    for closed in suid.ancestors().skip(1).take_while(|path| **path != state) {
        mode(closed, 0o755);
    }
    assert!(nobody_runs(), "the program is one, and only the folders hide it");
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.file_name() == name {
        true => Some(entry.path()),
        false if entry.file_type().ok()?.is_dir() => find(&entry.path(), name),
        false => None,
    })
}

/// CVE-2024-21626: a working directory that is an open file of the runtime.
#[tokio::test]
async fn no_descriptor_of_the_node_is_a_working_directory() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    for number in 3..24 {
        for cwd in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../../.."),
            format!("/proc/thread-self/fd/{number}"),
        ] {
            let mut spec = bed.shell("pwd; ls ../../../../../etc/shadow");
            spec.cwd = cwd.clone();
            let error = runtime.start_container(&sandbox.id, spec).await;
            error.expect_err(&format!("{cwd} was entered"));
        }
    }
    // A link of the image to such a place, and the files that a program finds open.
    symlink("/proc/self/fd/7", bed.path("image/link")).expect("linked");
    let mut spec = bed.shell("true");
    spec.cwd = "/link".into();
    runtime.start_container(&sandbox.id, spec).await.expect_err("a refusal");
    let spec = bed.shell("exec ls /proc/self/fd");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    within(runtime.wait_exit(&container.id)).await.expect("an exit");
    assert_eq!(contents(&container.log_path), "0\n1\n2\n3\n", "3 is the listed directory");
}

/// CVE-2025-31133 and youki's CVE-2025-62161: the `/dev/null` that masks paths
/// is the image's, a link to somewhere else.
#[tokio::test]
async fn masks_are_not_made_of_what_the_image_holds() {
    let Some(bed) = Bed::new() else { return };
    let before = core_pattern();
    let dev = bed.path("image/dev");
    fs::create_dir(&dev).expect("made");
    symlink("/proc/sys/kernel/core_pattern", dev.join("null")).expect("linked");
    symlink("/proc/sysrq-trigger", dev.join("console")).expect("linked");
    let (exit, log) = run(&bed, |_, _| {}, TRY).await;
    assert_eq!((exit.code, log.as_str()), (0, HELD));
    // The same from a volume in the place of `/dev`.
    let (exit, log) =
        run(&bed, |_, spec| spec.mounts = vec![bind(dev.clone(), None, "/dev")], TRY).await;
    assert!(exit.code == 0 && log.ends_with("tried\n") && !log.contains("ESCAPED"), "{log}");
    assert_eq!(core_pattern(), before);
}

/// CVE-2025-52565: `/dev/console` and `/dev/pts` are links while the terminal
/// is mounted there.
#[tokio::test]
async fn a_terminal_is_not_mounted_elsewhere() {
    let Some(bed) = Bed::new() else { return };
    let before = core_pattern();
    let dev = bed.path("dev");
    fs::create_dir(&dev).expect("made");
    symlink("/proc/sys/kernel/core_pattern", dev.join("console")).expect("linked");
    symlink("/proc/self/fd", dev.join("pts")).expect("linked");
    symlink("/proc/sys/kernel/core_pattern", dev.join("ptmx")).expect("linked");
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    for mounts in [vec![], vec![bind(dev.clone(), None, "/dev")]] {
        let plain = mounts.is_empty();
        let mut spec = bed.shell(TRY);
        spec.tty = true;
        spec.mounts = mounts;
        match runtime.start_container(&sandbox.id, spec).await {
            Ok(container) => {
                within(runtime.wait_exit(&container.id)).await.expect("an exit");
                let log = contents(&container.log_path).replace('\r', "");
                assert!(log.ends_with(HELD) && !log.contains("ESCAPED"), "{log}");
            }
            Err(error) => assert!(!plain, "{error}"),
        }
    }
    assert_eq!(core_pattern(), before);
}

/// CVE-2025-52881 and youki's CVE-2025-62596: what the runtime writes to `/proc`
/// (limits, labels) lands in another file, since a mount covers the right one.
#[tokio::test]
async fn mounts_over_proc_redirect_nothing() {
    let Some(bed) = Bed::new() else { return };
    let before = core_pattern();
    let fake = bed.path("fake");
    for path in ["sys/kernel", "self/attr", "attr"] {
        fs::create_dir_all(fake.join(path)).expect("made");
    }
    for path in ["sysrq-trigger", "keys", "kcore", "exec", "oom_score_adj"] {
        fs::write(fake.join(path), "").expect("written");
    }
    symlink("/proc/sysrq-trigger", fake.join("attr/exec")).expect("linked");
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    symlink("/proc", bed.path("image/elsewhere")).expect("linked");
    for (sub, destination) in [
        (None, "/proc"),
        (None, "/elsewhere"),
        (Some("sys"), "/proc/sys"),
        (Some("sys"), "/elsewhere/sys"),
        (Some("attr"), "/proc/self/attr"),
        (Some("attr"), "/proc/thread-self/attr"),
        (Some("exec"), "/proc/self/attr/exec"),
        (Some("oom_score_adj"), "/proc/self/oom_score_adj"),
        (Some("keys"), "/proc/keys"),
    ] {
        let mut spec = bed.shell(TRY);
        spec.mounts = vec![bind(fake.clone(), sub, destination)];
        spec.oom_score_adj = Some(999);
        // Refused or contained: either is well.
        if let Ok(container) = runtime.start_container(&sandbox.id, spec).await {
            within(runtime.wait_exit(&container.id)).await.expect("an exit");
            let log = contents(&container.log_path);
            assert!(log.ends_with("tried\n") && !log.contains("ESCAPED"), "{destination}: {log}");
        }
    }
    assert_eq!(core_pattern(), before);
    for path in ["sysrq-trigger", "exec", "oom_score_adj"] {
        assert_eq!(fs::read_to_string(fake.join(path)).expect("read"), "", "{path} was written");
    }
}

/// A process that enters a container (exec) cannot be looked into from there on
/// its way, nor can a container's parent.
#[tokio::test]
async fn a_process_on_its_way_in_cannot_be_looked_into() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let spec = bed.shell(
        "echo up; while ! test -e /done; do for p in /proc/[0-9]*; do \
           ls $p/root/proc/1/root/etc/shadow $p/cwd/etc/shadow 2>/dev/null | grep -q shadow \
             && echo ESCAPED; done; done; echo end",
    );
    let main = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&main, "up").await;
    for _ in 0..10 {
        let output =
            runtime.exec_sync(&main.id, vec!["true".into()], Duration::from_secs(20)).await;
        assert_eq!(output.expect("run").code, 0);
    }
    let done = ["touch", "/done"].map(String::from).to_vec();
    runtime.exec_sync(&main.id, done, Duration::from_secs(20)).await.expect("run");
    within(runtime.wait_exit(&main.id)).await.expect("an exit");
    assert_eq!(contents(&main.log_path), "up\nend\n");
}

/// What a program does that goes on making a folder and going into it.
fn deepen(path: &Path) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, path, flags, Mode::empty()).expect("a folder of ours");
    for _ in 0..20_000 {
        mkdirat(&dir, c"d", Mode::RWXU).expect("made");
        dir = openat(&dir, c"d", flags, Mode::empty()).expect("just made");
    }
}

#[tokio::test]
async fn folders_in_each_other_without_end_are_removed() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut deep = Vec::new();
    for _ in 0..2 {
        let container = runtime.start_container(&sandbox.id, bed.shell("true")).await;
        let id = container.expect("a start").id;
        within(runtime.wait_exit(&id)).await.expect("an exit");
        deepen(&runtime.writable_layer(&sandbox.id, &id));
        deep.push(id);
    }
    runtime.remove_container(&deep[0]).await.expect("a removal");
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
    let left = bed.path("state/sandboxes/left");
    assert_eq!(fs::read_dir(bed.path("state/sandboxes")).expect("there").count(), 0);
    fs::create_dir(&left).expect("our own folder");
    deepen(&left);
    drop(runtime);
    killall(&bed.path("state")).expect("everything ended");
    assert!(!bed.path("state/sandboxes").exists());
}

//! A shim that hangs or cannot live where it should, and numbers of processes that
//! come again.

use std::process::Command;

use super::*;
use crate::layout;

/// As what a machine with few numbers does soon.
const NEXT: &str = "/proc/sys/kernel/ns_last_pid";
const INSIDE: &str = "SKIFF_RUNTIME_TEST_INSIDE";

/// What a test works with among numbers of its own. `None` in the outer process,
/// where there is nothing more to do.
fn among_own_numbers(name: &str) -> Option<Bed> {
    if let Ok(outer) = std::env::var(INSIDE) {
        let mut bed = Bed::new()?;
        // Cgroups are everybody's; this process's own number is not its alone, and that of the
        // outer one is all of its tests'.
        bed.prefix = format!("skiff-test-{outer}-{name}");
        return Some(bed);
    }
    if !rustix::process::geteuid().is_root() || !Path::new(NEXT).exists() {
        eprintln!("skipped: needs root and a kernel with {NEXT}");
        return None;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command
    };
    // Not every machine's knows these words.
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: needs the unshare of util-linux");
        return None;
    }
    let status = unshare()
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("tests::faults::{name}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, std::process::id().to_string())
        .status()
        .expect("it ran a moment ago");
    assert!(status.success(), "it failed inside: {status}");
    None
}

#[tokio::test]
async fn a_number_that_comes_again_is_the_new_container_s() {
    let Some(bed) = among_own_numbers("a_number_that_comes_again_is_the_new_container_s") else {
        return;
    };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let mut before = Vec::<u32>::new();
    // Far from those that are taken for as long as the test runs.
    fs::write(NEXT, "1000").expect("written");
    // Threads of this process may take a number away, and keep it.
    for attempt in 0..100 {
        if let Some(number) = before.last() {
            fs::write(NEXT, (number - 1 - attempt % 10).to_string()).expect("written");
        }
        let spec = ContainerSpec { attempt, ..bed.shell("exec sleep 600") };
        let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
        let ContainerState::Running { pid, .. } = container.state else { panic!("it sleeps") };
        let exit = runtime.stop_container(&container.id, Some(9), Duration::from_secs(60)).await;
        assert_eq!(exit.expect("an exit").code, 137, "attempt {attempt}, number {pid}");
        if before.contains(&pid) {
            runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
            return;
        }
        before.push(pid);
    }
    panic!("no number came again: {before:?}");
}

#[tokio::test]
async fn a_shim_that_hangs_is_given_up_and_serves_the_next() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let pid = i32::try_from(sandbox.shim_pid).ok().and_then(rustix::process::Pid::from_raw);
    let tell = |signal| {
        rustix::process::kill_process(pid.expect("a shim"), signal).expect("told");
    };
    tell(rustix::process::Signal::STOP);
    // Nothing but the clock goes on.
    tokio::time::pause();
    let error = runtime.start_container(&sandbox.id, bed.shell("true")).await;
    assert!(matches!(error, Err(Error::Timeout(_))), "{error:?}");
    tokio::time::resume();
    assert!(only(&runtime).await.containers.is_empty(), "it never was");
    tell(rustix::process::Signal::CONT);
    let spec = bed.shell("exit 3");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    assert_eq!(within(runtime.wait_exit(&container.id)).await.expect("an exit").code, 3);
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

/// Every shim of a test that runs among numbers of its own.
fn shims() -> Vec<std::os::fd::OwnedFd> {
    let is_shim = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The first process is called like the descriptor that it was executed from.
        name == "skiff-shim\n" || name.trim().parse::<u32>().is_ok()
    };
    let numbers = fs::read_dir("/proc").expect("listed").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(is_shim).filter_map(|pid| linux::process::pidfd_open(pid).ok()).collect()
}

/// Whatever it waits for, it is not there to be waited for.
#[tokio::test]
async fn a_shim_that_hangs_at_its_start_is_ended_and_the_next_serves() {
    let Some(bed) =
        among_own_numbers("a_shim_that_hangs_at_its_start_is_ended_and_the_next_serves")
    else {
        return;
    };
    let runtime = bed.open().await;
    let cgroups = linux::cgroup::detect().expect("cgroups");
    let pod = layout::pod_cgroup(&bed.prefix, &bed.sandbox());
    let shim_group = layout::shim_cgroup(&pod);
    cgroups.create(&shim_group).expect("made");
    // Who enters stops there.
    cgroups.freeze(&pod, true).expect("frozen");
    let run = tokio::spawn({
        let (runtime, spec) = (runtime.clone(), bed.sandbox());
        async move { runtime.run_sandbox(spec).await }
    });
    let mut directories = cgroups.controllers(&shim_group).into_iter();
    let frozen = directories.find(|(name, _)| ["", "freezer"].contains(&&**name));
    let processes = frozen.expect("what freezes").1.join("cgroup.procs");
    within(async {
        while fs::read_to_string(&processes).is_ok_and(|processes| processes.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let hangs = shims();
    assert_eq!(hangs.len(), 1);
    // Nothing but the clock goes on.
    tokio::time::pause();
    let error = run.await.expect("no panic").expect_err("it hangs");
    tokio::time::resume();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(linux::process::wait_ended(&hangs, 60_000).expect("waited"), "it stays");
    assert!(runtime.list().await.expect("a list").is_empty());
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let container = runtime.start_container(&sandbox.id, bed.shell("exit 3")).await;
    let exit = within(runtime.wait_exit(&container.expect("a start").id)).await;
    assert_eq!(exit.expect("an exit").code, 3);
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

/// Somebody else's cleaning may take a cgroup away that is still empty.
#[tokio::test]
async fn a_shim_that_cannot_enter_its_cgroup_does_not_stay() {
    let Some(bed) = among_own_numbers("a_shim_that_cannot_enter_its_cgroup_does_not_stay") else {
        return;
    };
    let runtime = bed.open().await;
    let cgroups = linux::cgroup::detect().expect("cgroups");
    let shim_group = layout::shim_cgroup(&layout::pod_cgroup(&bed.prefix, &bed.sandbox()));
    cgroups.create(&shim_group).expect("made");
    // A folder of the kernel's in which nothing is written, in this test's eyes only.
    let first = cgroups.directories(&shim_group).into_iter().next().expect("a directory");
    rustix::mount::mount_bind("/proc/self/ns", &first).expect("mounted");
    let error = runtime.run_sandbox(bed.sandbox()).await.expect_err("refused");
    let entrance = cgroups.entrances(&shim_group).remove(0);
    let text = format!("start the shim: node-shim: enter {}: ", entrance.display());
    assert!(error.to_string().starts_with(&text), "{error}");
    linux::mount::unmount(&first).expect("unmounted");
    assert!(linux::process::wait_ended(&shims(), 60_000).expect("waited"), "the shim stays");
    // The next attempt is as any other.
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

/// A pod whose first shim died has a later one in the same cgroup.
#[tokio::test]
async fn a_sandbox_that_is_over_takes_no_later_one_along() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let old = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let lost = runtime.start_container(&old.id, bed.shell("sleep 600")).await.expect("a start");
    linux::process::kill(old.shim_pid).expect("killed");
    assert!(within(runtime.wait_exit(&lost.id)).await.expect("an exit").unknown);
    let spec = SandboxSpec { attempt: 1, ..bed.sandbox() };
    let new = runtime.run_sandbox(spec).await.expect("a sandbox");
    let kept = runtime.start_container(&new.id, bed.shell("sleep 600")).await.expect("a start");
    drop(runtime);
    let runtime = bed.open().await;
    let all = runtime.list().await.expect("a list");
    let [before, after] =
        [&old.id, &new.id].map(|id| all.iter().find(|s| s.id == *id).expect("adopted"));
    assert_eq!([before.state, after.state], [SandboxState::NotReady, SandboxState::Ready]);
    assert_eq!(after.containers[0].state, kept.state, "it runs as before");
    runtime.remove_sandbox(&old.id).await.expect("a removal");
    // The first process of a pid namespace hears of no other signal without a handler.
    runtime.signal(&kept.id, 9).await.expect("it runs");
    assert_eq!(within(runtime.wait_exit(&kept.id)).await.expect("an exit").code, 137);
    runtime.remove_sandbox(&new.id).await.expect("a removal");
}

/// As after a power cut: what was on its way to the disk is there by name only.
#[tokio::test]
async fn records_that_a_power_cut_took_away_hold_nothing_up() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let [cut, other, lives] =
        ["cut", "other", "lives"].map(|uid| SandboxSpec { pod_uid: uid.into(), ..bed.sandbox() });
    let cut = runtime.run_sandbox(cut).await.expect("a sandbox");
    let other = runtime.run_sandbox(other).await.expect("a sandbox");
    let lives = runtime.run_sandbox(lives).await.expect("a sandbox");
    let spec = bed.shell("sleep 600");
    let half = runtime.start_container(&other.id, spec.clone()).await.expect("a start");
    let whole = ContainerSpec { name: "b".into(), ..spec };
    let whole = runtime.start_container(&other.id, whole).await.expect("a start");
    drop(runtime);
    for sandbox in [&cut, &other] {
        let shim = linux::process::pidfd_open(sandbox.shim_pid).expect("it runs");
        linux::process::kill(sandbox.shim_pid).expect("killed");
        assert!(linux::process::wait_ended(&[shim], 60_000).expect("waited"), "it stays");
    }
    let dir = |sandbox: &Sandbox| bed.path("state/sandboxes").join(sandbox.id.as_str());
    let of_half = dir(&other).join("containers").join(half.id.as_str()).join("container");
    for record in [dir(&cut).join("sandbox"), dir(&lives).join("sandbox"), of_half] {
        fs::write(record, "").expect("written");
    }
    let runtime = bed.open().await;
    let left = only(&runtime).await;
    assert_eq!((left.id, left.state), (other.id.clone(), SandboxState::NotReady));
    let known: Vec<_> = left.containers.iter().map(|c| c.id.clone()).collect();
    assert_eq!(known, std::slice::from_ref(&whole.id));
    assert!(within(runtime.wait_exit(&whole.id)).await.expect("an exit").unknown);
    assert!(!dir(&cut).exists());
    let shim = linux::process::pidfd_open(lives.shim_pid).expect("it is left alone");
    assert!(!linux::process::wait_ended(&[shim], 0).expect("looked"));
    runtime.remove_sandbox(&other.id).await.expect("a removal");
    assert!(!dir(&other).exists());
}

/// When the machine is switched off, all that is left is told to end and waited for.
#[tokio::test]
async fn a_shim_that_is_told_to_end_stays_for_its_containers_only() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let spec = bed.shell("trap 'exit 4' TERM; echo ready; while true; do sleep 0.05; done");
    let container = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&container, "ready").await;
    let shim = linux::process::pidfd_open(sandbox.shim_pid).expect("it runs");
    let pid = i32::try_from(sandbox.shim_pid).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a shim"), rustix::process::Signal::TERM)
        .expect("told");
    let exit = runtime.stop_container(&container.id, None, Duration::from_secs(60)).await;
    assert_eq!(exit.expect("an exit").code, 4);
    let ended = linux::process::wait_ended(&[shim], 60_000);
    assert!(ended.expect("waited"), "the shim stays without a container");
    assert_eq!(within(runtime.wait_exit(&container.id)).await.expect("an exit").code, 4);
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

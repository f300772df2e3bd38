//! PID namespaces that containers share, and limits that change.

use super::*;

const WAIT: &str = "echo up; while true; do sleep 1000; done";

#[tokio::test]
async fn containers_share_pids_with_a_first_process_that_reaps() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = SandboxSpec { share_pid: true, ..bed.sandbox() };
    let sandbox = runtime.run_sandbox(sandbox).await.expect("a sandbox");
    // Leaves a child behind that nobody of the container waits for.
    let spec = bed.shell("((sleep 0.1; echo orphan) &); exec sh -c 'echo up; exec sleep 1000'");
    let one = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    let mut spec = bed.shell(WAIT);
    spec.name = "two".into();
    spec.security.capabilities_add = vec!["SYS_PTRACE".into()];
    let two = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&one, "orphan").await;
    let sh = |script: &str| ["sh", "-c", script].map(String::from).to_vec();
    let look = "cat /proc/1/comm; ls /proc/1/root | wc -l; ps | grep -c 'sleep 100[0]'; \
        echo $$ > /dev/null; readlink /proc/1/ns/net; readlink /proc/self/ns/net; \
        grep -l zombie /proc/[0-9]*/status; true";
    let output = runtime.exec_sync(&two.id, sh(look), Duration::from_secs(20)).await.expect("run");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["pause", "0", "3"], "two that sleep, and a shell: {text}");
    assert_eq!(lines[3], lines[4], "the first process is in the pod's network: {text}");
    assert_eq!(lines.len(), 5, "no zombies: {text}");
    // Signals of containers do not reach the first process; theirs end with them.
    let kill = "kill -9 1; kill -15 1; cat /proc/1/comm";
    let output = runtime.exec_sync(&two.id, sh(kill), Duration::from_secs(20)).await.expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pause\n");
    drop(runtime);

    // All of it is adopted.
    let runtime = bed.open().await;
    let mut spec = bed.shell("cat /proc/1/comm");
    spec.name = "three".into();
    let three = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    within(runtime.wait_exit(&three.id)).await.expect("an exit");
    assert_eq!(contents(&three.log_path), "pause\n");
    let exit = runtime.stop_container(&one.id, Some(15), Duration::from_secs(20)).await;
    assert_eq!(exit.expect("an exit").code, 143, "no first process: TERM has its default");
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

#[tokio::test]
async fn a_container_joins_the_pids_of_another() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let main = runtime.start_container(&sandbox.id, bed.shell(WAIT)).await.expect("a start");
    logged(&main, "up").await;
    let mut spec = bed.shell("cat /proc/1/cmdline; sleep 1000 & echo; echo $(($$ > 1))");
    spec.name = "debug".into();
    spec.pid_of = Some(main.id.to_string());
    let debug = runtime.start_container(&sandbox.id, spec.clone()).await.expect("a start");
    assert_eq!(within(runtime.wait_exit(&debug.id)).await.expect("an exit").code, 0);
    let text = contents(&debug.log_path);
    assert!(text.starts_with("sh\0-c\0echo up") && text.ends_with("\n1\n"), "{text:?}");
    // What it left behind in the other's namespace is gone with it.
    let look = ["sh", "-c", "ps | grep -c 'sleep 100[0]'"].map(String::from).to_vec();
    // Its shell, whose command line says so too, and its own sleep.
    const ALONE: &str = "2\n";
    let mut left = String::new();
    for _ in 0..100 {
        let output = runtime.exec_sync(&main.id, look.clone(), Duration::from_secs(20)).await;
        left = String::from_utf8_lossy(&output.expect("run").stdout).into_owned();
        if left == ALONE {
            break;
        }
    }
    assert_eq!(left, ALONE);
    runtime.stop_container(&main.id, Some(9), Duration::ZERO).await.expect("stopped");
    spec.attempt = 1;
    let error = runtime.start_container(&sandbox.id, spec).await.expect_err("no target");
    assert!(error.to_string().contains("does not run"), "{error}");
}

#[tokio::test]
async fn changed_limits_are_remembered() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(bed.sandbox()).await.expect("a sandbox");
    let main = runtime.start_container(&sandbox.id, bed.shell(WAIT)).await.expect("a start");
    let limit = |bytes| Resources { memory_limit: Some(bytes), ..Resources::default() };
    runtime.update_sandbox(&sandbox.id, limit(128 << 20)).await.expect("an update");
    let labels = BTreeMap::from([("k".to_owned(), "new".to_owned())]);
    runtime.update_container(&main.id, limit(64 << 20), labels).await.expect("an update");
    let pod = runtime.sandbox_stats(&sandbox.id).await.expect("statistics");
    assert_eq!(pod.memory_limit, Some(128 << 20));
    drop(runtime);
    let runtime = bed.open().await;
    let found = only(&runtime).await;
    assert_eq!(found.spec.resources, limit(128 << 20));
    assert_eq!(found.containers[0].spec.resources, limit(64 << 20));
    assert_eq!(found.containers[0].spec.labels["k"], "new");
}

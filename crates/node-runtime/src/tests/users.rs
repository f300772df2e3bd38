//! Pods with users of their own.

use super::*;
use crate::spec::Ids;

const FIRST: u32 = 7 << 16;

fn owned(bed: &Bed) -> SandboxSpec {
    SandboxSpec { ids: Some(Ids { first: FIRST, count: 1 << 16 }), ..bed.sandbox() }
}

#[tokio::test]
async fn a_pod_s_root_is_nobody_on_the_node() {
    let Some(bed) = Bed::new() else { return };
    let volume = bed.path("volume");
    fs::create_dir(&volume).expect("made");
    fs::write(volume.join("old"), "old\n").expect("written");
    let runtime = bed.open().await;
    let sandbox = runtime.run_sandbox(owned(&bed)).await.expect("a sandbox");
    let mut spec = bed.shell(
        "id -u; cat /proc/self/uid_map | tr -s ' '; hostname; cat /v/old; stat -c %u /v/old /bin/busybox /; \
         echo new > /v/new; touch /root-file; stat -c %u /root-file; \
         hostname other 2>&1 | grep -o permitted; mount -t tmpfs none /v 2>&1 | grep -o denied; \
         grep ^CapEff: /proc/self/status; echo end; exec sleep 1000",
    );
    spec.mounts = vec![bind(volume.clone(), None, "/v")];
    let main = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    logged(&main, "end").await;
    let log = contents(&main.log_path);
    assert_eq!(
        log,
        format!(
            "0\n 0 {FIRST} 65536\nweb\nold\n0\n0\n0\n0\npermitted\ndenied\nCapEff:\t00000000a80425fb\nend\n"
        )
    );
    // Outside it is one of the pod's users, and so is what it made in its own
    // layer; in a volume it made what the node's root makes.
    let ContainerState::Running { pid, .. } = main.state else { panic!("runs") };
    let owner =
        |path: PathBuf| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).expect("there"));
    assert_eq!(owner(format!("/proc/{pid}").into()), FIRST);
    assert_eq!(owner(volume.join("new")), 0);
    let output = runtime
        .exec_sync(
            &main.id,
            ["sh", "-c", "id -u; touch /x; echo fine"].map(String::from).into(),
            Duration::from_secs(20),
        )
        .await
        .expect("run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\nfine\n");

    // A user of the image, with a terminal; and one that the pod has not.
    let mut spec = bed.shell("id -u; tty; echo > /dev/tty; exit 3");
    spec.name = "user".into();
    spec.tty = true;
    spec.user = User { uid: 33, gid: 33, groups: vec![50] };
    let user = runtime.start_container(&sandbox.id, spec.clone()).await.expect("a start");
    assert_eq!(within(runtime.wait_exit(&user.id)).await.expect("an exit").code, 3);
    assert!(
        contents(&user.log_path).replace('\r', "").starts_with("33\n/dev/pts/0\n"),
        "{}",
        contents(&user.log_path)
    );
    spec.user.uid = 70_000;
    spec.name = "stranger".into();
    let error = runtime.start_container(&sandbox.id, spec).await.expect_err("a refusal");
    assert!(error.to_string().contains("not among the 65536 of the pod"), "{error}");
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

#[tokio::test]
async fn its_network_and_processes_are_its_own() {
    let Some(bed) = Bed::new() else { return };
    let runtime = bed.open().await;
    let mut spec = owned(&bed);
    spec.share_pid = true;
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    let sandbox = runtime.run_sandbox(spec).await.expect("a sandbox");
    let mut spec = bed.shell(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/1/comm; stat -c %u /proc/1; \
         echo 81 > /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    spec.security.capabilities_add = vec!["NET_ADMIN".into()];
    let main = runtime.start_container(&sandbox.id, spec).await.expect("a start");
    within(runtime.wait_exit(&main.id)).await.expect("an exit");
    let log = contents(&main.log_path);
    assert!(log.starts_with("80\npause\n65535\n"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    drop(runtime);
    let runtime = bed.open().await;
    assert_eq!(only(&runtime).await.spec.ids, Some(Ids { first: FIRST, count: 1 << 16 }));
    runtime.remove_sandbox(&sandbox.id).await.expect("a removal");
}

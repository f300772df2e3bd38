//! Containers and what can happen to them, with the words upstream uses.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use crate::cluster::Cluster;

fn pod(name: &str, container: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: c, image: skiff.local/toolbox, {container}}}]\n{rest}"
    )
}

#[test]
pub(super) fn logs_exec_copy_and_exit_codes() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(&pod("talk", "args: [http-echo, --port, '8080', --text, hi]", "")).ok();
    cluster.kubectl("wait --for=condition=Ready pod/talk --timeout=180s").ok();
    cluster.kubectl("exec talk -- toolbox echo one two").prints("one two");
    assert_eq!(
        cluster.kubectl("exec talk -- toolbox exit 7").code,
        Some(7),
        "the exit code comes through"
    );
    cluster.kubectl("exec talk -- nope").fails_with("executable file not found");
    cluster
        .kubectl("debug talk --container=d --target=c --image=skiff.local/toolbox -- toolbox cat /proc/1/cmdline")
        .ok();
    let ended = ".status.ephemeralContainerStatuses[0].state.terminated.exitCode";
    cluster.kubectl(&format!("wait --for=jsonpath={{{ended}}}=0 pod/talk --timeout=180s")).ok();
    cluster.kubectl("logs talk -c d").prints("http-echo");
    cluster
        .kubectl_with_input("exec -i talk -- toolbox cat", "through stdin")
        .prints("through stdin");
    std::fs::write(cluster.path("file"), "copied").expect("our own folder");
    cluster.kubectl(&format!("cp {} talk:/tmp/file", cluster.path("file").display())).ok();
    cluster.kubectl("exec talk -- toolbox cat /tmp/file").prints("copied");
    cluster.kubectl(&format!("cp talk:/tmp/file {}", cluster.path("back").display())).ok();
    assert_eq!(std::fs::read_to_string(cluster.path("back")).expect("copied back"), "copied");

    cluster.apply(&pod("done", "args: [echo, finished]", "  restartPolicy: Never\n")).ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/done --timeout=180s").ok();
    cluster.kubectl("logs done").prints("finished");
    cluster.kubectl("logs done --timestamps").prints("Z finished");
    cluster.kubectl("get pod done").prints("Completed");
    cluster.kubectl("exec done -- toolbox true").fails_with("completed pod");

    cluster.apply(&pod("seven", "args: [exit, '7']", "  restartPolicy: Never\n")).ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Failed pod/seven --timeout=180s").ok();
    cluster
        .kubectl(
            "get pod seven -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}",
        )
        .prints("7");
    cluster.kubectl("delete pod talk done seven --timeout=180s").ok();
}

#[test]
fn what_can_go_wrong_says_so() {
    let Some(cluster) = Cluster::start() else { return };
    let phase = |name: &str, path: &str, value: &str| {
        cluster
            .kubectl_args(&[
                "wait",
                &format!("--for=jsonpath={{{path}}}={value}"),
                &format!("pod/{name}"),
                "--timeout=180s",
            ])
            .ok();
    };
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    let terminated = ".status.containerStatuses[0].state.terminated.reason";

    cluster
        .apply(&pod(
            "hungry",
            "args: [stress, --mem, '64'], resources: {limits: {memory: 16Mi}}",
            "  restartPolicy: Never\n",
        ))
        .ok();
    phase("hungry", terminated, "OOMKilled");
    cluster.apply(&pod("crash", "args: [exit, '1']", "")).ok();
    phase("crash", waiting, "CrashLoopBackOff");
    cluster.apply(&pod("nocommand", "command: [/nope]", "  restartPolicy: Never\n")).ok();
    phase("nocommand", terminated, "StartError");
    let absent = "apiVersion: v1\nkind: Pod\nmetadata: {name: absent}\nspec: {containers: [{name: c, image: '127.0.0.1:1/none:1'}]}";
    cluster.apply(absent).ok();
    phase("absent", waiting, "ImagePullBackOff");
    cluster.comes_to_print("describe pod absent", "Failed to pull image");
    cluster
        .apply(&pod(
            "unset",
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: a}}}]",
            "",
        ))
        .ok();
    phase("unset", waiting, "CreateContainerConfigError");
    cluster.apply(&pod("big", "resources: {requests: {cpu: '1000'}}", "")).ok();
    phase("big", ".status.conditions[0].reason", "Unschedulable");
    cluster.comes_to_print("describe pod big", "0/1 nodes are available: 1 Insufficient cpu");
    cluster.kubectl("logs crash -c nope").fails_with("container nope is not valid for pod crash");
}

#[test]
pub(super) fn volumes_and_environment_reach_the_container() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl("create configmap conf --from-literal=key=from-configmap").ok();
    cluster.kubectl("create secret generic sec --from-literal=key=from-secret").ok();
    let container = "args: [sleep, infinity], \
        env: [{name: A, value: literal}, {name: B, value: '$(A)-expanded'}, \
          {name: C, valueFrom: {configMapKeyRef: {name: conf, key: key}}}, \
          {name: D, valueFrom: {secretKeyRef: {name: sec, key: key}}}, \
          {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], \
        envFrom: [{prefix: P_, configMapRef: {name: conf}}], \
        volumeMounts: [{name: conf, mountPath: /conf}, {name: sec, mountPath: /sec}, {name: tmp, mountPath: /scratch}]";
    let volumes = "  volumes: [{name: conf, configMap: {name: conf}}, {name: sec, secret: {secretName: sec}}, {name: tmp, emptyDir: {}}]\n";
    cluster.apply(&pod("full", container, volumes)).ok();
    cluster.kubectl("wait --for=condition=Ready pod/full --timeout=180s").ok();
    let env = cluster.kubectl("exec full -- toolbox env").ok().stdout;
    let ip = cluster.kubectl("get pod full -o jsonpath={.status.podIP}").ok().stdout;
    for line in [
        "A=literal",
        "B=literal-expanded",
        "C=from-configmap",
        "D=from-secret",
        "P_key=from-configmap",
        "HOSTNAME=full",
        "KUBERNETES_SERVICE_HOST=10.43.0.1",
        &format!("IP={ip}"),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} is not in\n{env}");
    }
    cluster.kubectl("exec full -- toolbox cat /conf/key").prints("from-configmap");
    cluster.kubectl("exec full -- toolbox cat /sec/key").prints("from-secret");
    cluster.kubectl("exec full -- toolbox write /scratch/a b").ok();
    cluster
        .kubectl("exec full -- toolbox cat /etc/resolv.conf")
        .prints("search default.svc.cluster.local svc.cluster.local cluster.local");
    cluster
        .kubectl("exec full -- toolbox ls /var/run/secrets/kubernetes.io/serviceaccount")
        .prints("token");
    cluster.comes_to_print("exec full -- toolbox dns kubernetes.default", "10.43.0.1");
    cluster.kubectl("exec full -- toolbox dns nope.default").fails_with("nope.default");

    let container = "args: [sleep, infinity], volumeMounts: [{name: v, mountPath: /v, subPath: a/b}, {name: c, mountPath: /c}]";
    let rest = "  securityContext: {runAsUser: 1000, fsGroup: 3000}\n  volumes: [{name: v, emptyDir: {}}, {name: c, configMap: {name: conf}}]\n";
    cluster.apply(&pod("group", container, rest)).ok();
    cluster.kubectl("wait --for=condition=Ready pod/group --timeout=180s").ok();
    cluster.kubectl("exec group -- toolbox write /v/mine x").ok();
    // A changed ConfigMap reaches the pod that runs.
    cluster.kubectl_args(&["patch", "configmap", "conf", "-p", r#"{"data":{"key":"anew"}}"#]).ok();
    let deadline = Instant::now() + Duration::from_secs(180);
    while cluster.kubectl("exec group -- toolbox cat /c/key").ok().stdout.trim() != "anew" {
        assert!(Instant::now() < deadline, "the volume is still as it was");
    }
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(&pod("talk", "args: [http-echo, --port, '8080']", "")).ok();
    cluster.kubectl("wait --for=condition=Ready pod/talk --timeout=180s").ok();
    let descriptors = || {
        let dir = format!("/proc/{}/fd", cluster.server_pid());
        std::fs::read_dir(dir).expect("the server runs").count()
    };
    let before = descriptors();
    let lines = ["logs -f talk", "get pods -w", "exec -i talk -- toolbox cat", "get events -w"];
    let mut clients: Vec<_> = lines
        .iter()
        .cycle()
        .take(20)
        .map(|line| {
            let mut client = cluster.kubectl_command(&line.split(' ').collect::<Vec<_>>());
            let quiet = client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            quiet.spawn().expect("kubectl runs")
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(180);
    while descriptors() < before + clients.len() {
        assert!(Instant::now() < deadline, "not all clients came");
        std::thread::yield_now();
    }
    for client in &mut clients {
        client.kill().expect("our own child");
        client.wait().expect("our own child");
    }
    // Connections of other parts come and go; those of the clients are 20.
    while descriptors() > before + 5 {
        assert!(Instant::now() < deadline, "{} were {before}", descriptors());
        std::thread::yield_now();
    }
}

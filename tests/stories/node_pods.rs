//! What the kubelet does for a pod beyond running it, seen through kubectl:
//! debugging, changing its share, ports of the node, its end.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::cluster::Cluster;

/// What an HTTP server says to the node itself.
fn ask(cluster: &Cluster, address: &str) -> std::io::Result<String> {
    let address = address.parse().expect("an address");
    cluster.in_network(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

#[test]
pub(super) fn pods_are_debugged_resized_and_reached_at_ports_of_the_node() {
    let manifests = tempfile::tempdir().expect("a folder");
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: fixed}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]\n";
    std::fs::write(manifests.path().join("fixed.yaml"), manifest).expect("our own folder");
    let flag = format!("--pod-manifest-path={}", manifests.path().display());
    let Some(cluster) = Cluster::start_with(&[&flag]) else { return };
    let pod = |name: &str, container: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: c, image: skiff.local/toolbox, {container}}}]\n{rest}"
        )
    };
    let web = "args: [http-echo, --port, '8080', --text, hi], \
        ports: [{containerPort: 8080, hostPort: 9080}, {containerPort: 8080, hostPort: 9081, hostIP: 127.0.0.1}], \
        startupProbe: {httpGet: {host: 192.168.77.1, port: 9080}, periodSeconds: 1, failureThreshold: 60}, \
        readinessProbe: {httpGet: {host: 127.0.0.1, port: 9081}, periodSeconds: 1}, \
        resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}";
    cluster.apply(&pod("web", web, "")).ok();
    cluster.kubectl("wait --for=condition=Ready pod/web --timeout=180s").ok();

    // Ports of the node, on every address of it and on the loopback alone.
    for (address, answers) in [
        ("192.168.77.1:9080", true),
        ("127.0.0.1:9080", true),
        ("127.0.0.1:9081", true),
        ("192.168.77.1:9081", false),
    ] {
        let asked = ask(&cluster, address);
        assert_eq!(
            asked.as_deref().is_ok_and(|text| text.contains("hi")),
            answers,
            "{address}: {asked:?}"
        );
    }
    cluster
        .apply(&pod(
            "same-port",
            "args: [sleep, infinity], ports: [{containerPort: 1, hostPort: 9080}]",
            "",
        ))
        .ok();
    cluster
        .kubectl("wait --for=jsonpath={.status.conditions[0].reason}=Unschedulable pod/same-port --timeout=180s")
        .ok();

    // A debugging container that sees the other's processes.
    cluster
        .kubectl("debug web --container=d --target=c --image=skiff.local/toolbox -- toolbox cat /proc/1/cmdline")
        .ok();
    let ended = ".status.ephemeralContainerStatuses[0].state.terminated.exitCode";
    cluster.kubectl(&format!("wait --for=jsonpath={{{ended}}}=0 pod/web --timeout=180s")).ok();
    cluster.kubectl("logs web -c d").prints("http-echo");
    cluster.kubectl("describe pod web").prints("Ephemeral Containers:");

    // More and less while it runs.
    cluster
        .kubectl_args(&["patch", "pod", "web", "--subresource", "resize", "--patch",
            r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}}]}}"#])
        .ok();
    let actual = ".status.containerStatuses[0].resources.limits.cpu";
    cluster.kubectl(&format!("wait --for=jsonpath={{{actual}}}=300m pod/web --timeout=180s")).ok();
    cluster
        .kubectl("get pod web -o jsonpath={.status.containerStatuses[0].restartCount}")
        .prints("0");
    cluster.comes_to_print("describe pod web", "ResizeCompleted");
    cluster
        .kubectl_args(&["patch", "pod", "web", "--subresource", "resize", "--patch",
            r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"300m","memory":"64Mi"}}}]}}"#])
        .fails_with("QOS");
    cluster
        .kubectl_args(&["patch", "pod", "web", "--subresource", "resize", "--patch",
            r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"900"},"limits":{"cpu":"901"}}}]}}"#])
        .ok();
    cluster.kubectl("wait --for=condition=PodResizePending pod/web --timeout=180s").ok();
    cluster
        .kubectl(
            "get pod web -o jsonpath={.status.conditions[?(@.type==\"PodResizePending\")].reason}",
        )
        .prints("Infeasible");

    // The port goes with its pod.
    cluster.kubectl("delete pod web same-port --timeout=180s").ok();
    assert!(ask(&cluster, "192.168.77.1:9080").is_err());

    // Rules of a container; a pod that the node does not take.
    let rules = "args: [exit, '42'], restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]";
    cluster.apply(&pod("rules", rules, "  restartPolicy: Never\n")).ok();
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    cluster
        .kubectl(&format!(
            "wait --for=jsonpath={{{waiting}}}=CrashLoopBackOff pod/rules --timeout=180s"
        ))
        .ok();
    let sysctl = "  securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}\n";
    cluster.apply(&pod("unsafe", "args: [sleep, infinity]", sysctl)).ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Failed pod/unsafe --timeout=180s").ok();
    cluster.kubectl("get pod unsafe").prints("SysctlForbidden");

    // Users of a pod's own.
    cluster.apply(&pod("users", "args: [sleep, infinity]", "  hostUsers: false\n")).ok();
    cluster.kubectl("wait --for=condition=Ready pod/users --timeout=180s").ok();
    cluster.kubectl("exec users -- toolbox cat /proc/self/uid_map").prints("65536      65536");
    cluster.kubectl("exec users -- toolbox id").prints("uid=0 gid=0");

    // A pod of a file is there like any other, and stays as long as its file.
    let ready = "wait --for=condition=Ready pod/fixed-node-1 --timeout=180s";
    cluster.kubectl("wait --for=create pod/fixed-node-1 --timeout=180s").ok();
    cluster.kubectl(ready).ok();
    cluster.kubectl("exec fixed-node-1 -- toolbox echo here").prints("here");
    cluster
        .kubectl("get pod fixed-node-1 -o jsonpath={.metadata.ownerReferences[0].kind}")
        .prints("Node");
    // kubectl itself would wait for the end of the new one, if it came fast enough.
    let uid = || cluster.kubectl("get pod fixed-node-1 -o jsonpath={.metadata.uid}").stdout;
    let first = uid();
    cluster.kubectl("delete pod fixed-node-1 --wait=false").ok();
    let deadline = std::time::Instant::now() + Duration::from_secs(180);
    while uid() == first || uid().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the mirror does not come back");
    }
    cluster.kubectl(ready).ok();
    std::fs::remove_file(manifests.path().join("fixed.yaml")).expect("our own file");
    cluster.kubectl("wait --for=delete pod/fixed-node-1 --timeout=180s").ok();
}

//! A machine that is switched off ends its pods first, where it is told to.

use std::{
    fs::{self, File},
    process::{Child, Command},
};

use serde_json::Value;

use crate::systemd::Machine;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 30
  containers: [{name: c, image: skiff.local/toolbox, args: [http-echo, --port, '8080', --drain, '2']}]
---
apiVersion: v1
kind: Pod
metadata: {name: critical, namespace: kube-system}
spec:
  priorityClassName: system-node-critical
  containers: [{name: c, image: skiff.local/toolbox, args: [http-echo, --port, '8080', --drain, '1']}]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: c, image: skiff.local/toolbox, args: ['true']}]
"#;

/// What a watch on the machine has printed by its end.
struct Watch {
    kubectl: Child,
    log: std::path::PathBuf,
}

impl Watch {
    fn start(machine: &Machine, dir: &std::path::Path, what: &str) -> Self {
        let log = dir.join(what);
        let file = File::create(&log).expect("our own folder");
        let mut kubectl = machine.enter("sh");
        let line =
            format!("exec $KUBECTL --kubeconfig /etc/skiff/skiff.yaml get {what} -A -w -o json");
        kubectl.args(["-c", &line.replace("$KUBECTL", &kubectl_path())]).stdout(file);
        Self { kubectl: kubectl.spawn().expect("nsenter"), log }
    }

    fn seen(&mut self) -> Vec<Value> {
        // It ended with its machine.
        let _ = self.kubectl.wait();
        let text = fs::read_to_string(&self.log).expect("our own file");
        let stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        stream.map_while(Result::ok).collect()
    }
}

/// Where the real kubectl is: what stands before it in the path is not on the machine.
fn kubectl_path() -> String {
    let found = Command::new("sh").args(["-c", "readlink -f $(command -v kubectl)"]).output();
    String::from_utf8_lossy(&found.expect("sh").stdout).trim().to_owned()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let list = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().find(|known| known["type"] == kind).unwrap_or(&Value::Null)
}

#[test]
fn pods_end_in_order_before_the_machine_does() {
    let Some(mut machine) = Machine::boot() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let binary = dir.path().join("skiff");
    let strip =
        Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_skiff")).status();
    assert!(strip.expect("strip").success());
    machine.copy(&binary, "/usr/local/bin/skiff");
    let flags = " --shutdown-grace-period=40s --shutdown-grace-period-critical-pods=15s";
    let unit = include_str!("../../systemd/skiff.service")
        .replace("@COMMAND@", "server")
        .replace("@BINARY@", "/usr/local/bin/skiff")
        .replace("@ARGUMENTS@", flags)
        .replace("@ENVIRONMENT@", "/etc/skiff/none");
    fs::write(dir.path().join("skiff.service"), unit).expect("our own folder");
    machine.copy(&dir.path().join("skiff.service"), "/etc/systemd/system/skiff.service");
    machine.run("systemctl daemon-reload && systemctl start skiff");
    fs::write(dir.path().join("pods.yaml"), PODS).expect("our own folder");
    machine.copy(&dir.path().join("pods.yaml"), "/srv/pods.yaml");
    let kubectl =
        |line: &str| format!("{} --kubeconfig /etc/skiff/skiff.yaml {line}", kubectl_path());
    machine.until(&kubectl("get node/box"));
    machine.run(&kubectl("wait --for=condition=Ready node/box --timeout=180s"));
    machine.run(&kubectl("apply -f /srv/pods.yaml"));
    machine.run(&kubectl("wait --for=condition=Ready pod/plain --timeout=180s"));
    machine.run(&kubectl("wait -n kube-system --for=condition=Ready pod/critical --timeout=180s"));
    machine.run(&kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/done --timeout=180s"));

    // A restart of the service is no end of the machine.
    let id = kubectl("get pod plain -o jsonpath={.status.containerStatuses[0].containerID}");
    let before = machine.run(&id);
    machine.run("systemctl restart skiff");
    machine.until(&kubectl("get --raw /readyz"));
    machine.run(&kubectl("wait --for=condition=Ready node/box --timeout=180s"));
    assert_eq!(machine.run(&id), before);

    let mut pods = Watch::start(&machine, dir.path(), "pods");
    let mut nodes = Watch::start(&machine, dir.path(), "nodes");
    let has = |log: &std::path::Path, text: &str| {
        fs::read_to_string(log).is_ok_and(|all| all.contains(text))
    };
    let began = std::time::Instant::now();
    while !has(&pods.log, "critical") || !has(&nodes.log, "KubeletReady") {
        assert!(began.elapsed().as_secs() < 60, "the watches do not begin");
    }
    machine.power_off();

    let nodes = nodes.seen();
    let ready = condition(nodes.last().expect("seen"), "Ready");
    assert_eq!(
        (&ready["status"], &ready["reason"], &ready["message"]),
        (&"False".into(), &"KubeletNotReady".into(), &"node is shutting down".into())
    );
    let pods = pods.seen();
    let of = |name: &str| {
        let of = pods.iter().enumerate().filter(|(_, pod)| pod["metadata"]["name"] == name);
        of.collect::<Vec<_>>()
    };
    let ended = |name: &str| {
        let all = of(name);
        let failed = all.iter().find(|(_, pod)| pod["status"]["phase"] == "Failed");
        let (at, _) = failed.unwrap_or_else(|| panic!("{name} has not ended: {all:#?}"));
        (*at, all.last().expect("seen").1)
    };
    let (plain_at, plain) = ended("plain");
    let (critical_at, critical) = ended("critical");
    for pod in [plain, critical] {
        let status = &pod["status"];
        let message = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!(
            (&status["reason"], &status["message"]),
            (&"Terminated".into(), &message.into())
        );
        let target = condition(pod, "DisruptionTarget");
        assert_eq!(
            (&target["status"], &target["reason"], &target["message"]),
            (&"True".into(), &"TerminationByKubelet".into(), &message.into())
        );
        // They had the time that they took.
        let code = &status["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        assert_eq!(code, &0, "{status:#}");
    }
    assert!(plain_at < critical_at, "critical pods end last");
    let stopped = of("plain").iter().position(|(_, pod)| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object()
    });
    let stopped = of("plain")[stopped.expect("told")].0;
    assert!(stopped < critical_at, "and not before the others have ended");
    assert_eq!(of("done").last().expect("seen").1["status"]["phase"], "Succeeded");
}

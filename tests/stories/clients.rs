//! Clients that others wrote: Kubernetes' own for Python and JavaScript, an
//! operator in a framework, helm, and one that speaks only protobuf; and one that means
//! harm. Each is a script in `tests/clients/` that asserts what it sees; `./x test`
//! installs what they import into `target/python` and `target/javascript`.

use std::{path::PathBuf, process::Stdio};

use crate::cluster::{Cluster, Run, repository, run};

/// The interpreter that has the clients; `None`, with the reason printed, where
/// there is none.
fn python() -> Option<PathBuf> {
    let python = repository("target/python/bin/python");
    if !python.exists() {
        eprintln!("skipped: no clients in target/python; ./x test installs them");
        return None;
    }
    Some(python)
}

/// Runs a script of `tests/clients/` to its end.
fn script(cluster: &Cluster, name: &str) -> Option<Run> {
    let mut command = cluster.command(&python()?.to_string_lossy());
    command.env("KUBECONFIG", cluster.path("admin.yaml")).env("HOME", cluster.path("."));
    Some(run(command.arg(repository("tests/clients").join(name)), None))
}

#[test]
fn the_typed_python_client() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let Some(run) = script(&cluster, "typed_client.py") else { return };
    run.prints("the typed client is content");
}

#[test]
fn the_dynamic_python_client() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(run) = script(&cluster, "dynamic_client.py") else { return };
    run.prints("the dynamic client is content");
}

#[test]
fn the_javascript_client_and_one_that_speaks_only_protobuf() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let modules = repository("target/javascript");
    if modules.join("node_modules").exists() {
        let mut node = cluster.command("node");
        node.env("KUBECONFIG", cluster.path("admin.yaml")).env("HOME", cluster.path("."));
        node.arg(repository("tests/clients/javascript_client.mjs")).arg(modules);
        run(&mut node, None).prints("the JavaScript client is content");
    } else {
        eprintln!("skipped: no client in target/javascript; ./x test installs it");
    }
    let facts = repository("../shared/kubernetes-api");
    let (Some(python), true) = (python(), facts.exists()) else {
        return eprintln!("skipped: no ../shared/kubernetes-api beside the checkout");
    };
    let mut command = cluster.command(&python.to_string_lossy());
    command.env("KUBECONFIG", cluster.path("admin.yaml")).env("HOME", cluster.path("."));
    command.arg(repository("tests/clients/protobuf_client.py"));
    command.args([facts.join("types.json"), facts.join("resources.json")]);
    run(&mut command, None).prints("the protobuf client is content");
}

/// What a server may grow by while it is treated so, at its highest.
const HARM_KB_MAX: u64 = 100_000;

#[test]
fn the_hostile_python_client_costs_little_memory_and_harms_nobody() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let kilobytes = |key: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.server_pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = kilobytes("VmRSS:");
    let Some(run) = script(&cluster, "hostile_client.py") else { return };
    run.prints("nobody was harmed");
    let grown = kilobytes("VmHWM:").saturating_sub(before);
    println!("{before} kB before, {grown} kB more at the highest");
    assert!(grown < HARM_KB_MAX, "{grown} kB more than {before} kB");
    cluster.kubectl("get nodes").ok();
}

#[test]
fn helm_installs_upgrades_rolls_back_and_uninstalls() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    let Some(run) = script(&cluster, "helm_release.py") else { return };
    run.prints("helm is content");
}

const GREETINGS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.greetings.example.com}
spec:
  group: greetings.example.com
  names: {plural: greetings, singular: greeting, kind: Greeting}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, required: [who], properties: {who: {type: string}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

const ADA: &str = r#"
apiVersion: greetings.example.com/v1
kind: Greeting
metadata: {name: ada}
spec: {who: Ada}
"#;

#[test]
fn an_operator_reconciles_a_custom_resource() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(python) = python() else { return };
    cluster.apply(GREETINGS).ok();
    cluster
        .kubectl(
            "wait --for=condition=Established crd/greetings.greetings.example.com --timeout=180s",
        )
        .ok();
    let log = std::fs::File::create(cluster.path("operator.log")).expect("our own file");
    let mut operator = cluster
        .command(&python.to_string_lossy())
        .args(["-m", "kopf", "run", "--standalone", "--all-namespaces"])
        .arg(repository("tests/clients/greetings_operator.py"))
        .env("KUBECONFIG", cluster.path("admin.yaml"))
        .env("HOME", cluster.path("."))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file descriptor"))
        .stderr(log)
        .spawn()
        .expect("python runs");
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cluster.apply(ADA).prints("created");
        cluster.kubectl("wait --for=create configmap/greeting-ada --timeout=180s").ok();
        cluster
            .kubectl("get configmap greeting-ada -o jsonpath={.data.text}")
            .prints("Hello, Ada!");
        let status = "--for=jsonpath={.status.text}=Hello,\u{20}Ada!";
        cluster.kubectl_args(&["wait", status, "greeting/ada", "--timeout=180s"]).ok();
        cluster.apply(&ADA.replace("who: Ada", "who: Grace")).prints("configured");
        let changed = "--for=jsonpath={.data.text}=Hello,\u{20}Grace!";
        cluster.kubectl_args(&["wait", changed, "configmap/greeting-ada", "--timeout=180s"]).ok();
        // A finalizer holds it until the operator has said good-bye.
        cluster.kubectl("delete greeting ada --timeout=180s").ok();
        cluster.kubectl("get configmap farewell-ada").ok();
        // What the Greeting owned goes with it.
        cluster.kubectl("wait --for=delete configmap/greeting-ada --timeout=180s").ok();
    }));
    let _ = operator.kill();
    operator.wait().expect("our own child");
    if let Err(panic) = told {
        let log = std::fs::read_to_string(cluster.path("operator.log")).unwrap_or_default();
        eprintln!("--- the operator's log\n{log}");
        std::panic::resume_unwind(panic);
    }
}

//! What is typed at kubectl, and what it prints.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{Place, accounts::pod};

const IMAGE: &str = "skiff.local/toolbox";

fn controller(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"app": name}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "server", "image": IMAGE, "args": ["http-echo", "--port", "8080", "--text", name],
                "ports": [{"containerPort": 8080}]}]}}}})
}

fn create(place: &Place, object: &Value) {
    let line = format!("create -n {} -f -", place.namespace);
    place.cluster.kubectl_with_input(&line, &object.to_string()).ok();
}

/// The names of the pods of an app, once so many are ready.
fn ready(place: &Place, app: &str, count: usize) -> Vec<String> {
    place.until("its pods are ready", || {
        let pods = place.items(&format!("pods -l app={app}"));
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is =
                |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            pod["metadata"]["deletionTimestamp"].is_null() && conditions.iter().any(is)
        };
        pods.len() == count && pods.iter().filter(ready).count() == count
    });
    place.names(&format!("pods -l app={app}"))
}

pub(super) fn an_application(place: &Place) {
    let mut all = Vec::new();
    for (name, replicas) in [("agnhost-primary", 1), ("agnhost-replica", 2), ("frontend", 3)] {
        let template = controller(name, replicas)["spec"]["template"].clone();
        all.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}}));
        all.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}}));
    }
    all.iter().for_each(|object| create(place, object));
    place.kubectl("rollout status deployment/frontend --timeout=180s").ok();
    for (name, count) in [("agnhost-primary", 1), ("agnhost-replica", 2), ("frontend", 3)] {
        ready(place, name, count);
        let proxied = place.path("api/v1", &format!("services/{name}/proxy/"));
        place.until("the application answers", || {
            place.send_with("GET", &proxied, &[], "").body.contains(name)
        });
        // One reaches the other by its name.
        let line = format!("exec deployment/frontend -- toolbox get http://{name}/");
        place.until("they know each other", || place.kubectl(&line).stdout.contains(name));
    }
    for object in &all {
        let line = format!("delete -n {} --grace-period=0 --force -f -", place.namespace);
        place.cluster.kubectl_with_input(&line, &object.to_string()).ok();
    }
    place.until("nothing is left", || {
        place.names("deployments,replicasets,services,pods").is_empty()
    });
}

pub(super) fn versions(place: &Place) {
    let versions = place.kubectl("api-versions").ok().stdout;
    assert!(versions.lines().any(|line| line == "v1"), "{versions}");
    let told = place.kubectl("version").ok().stdout;
    for word in ["Client Version: v", "Server Version: v1.37"] {
        assert!(told.contains(word), "{told}");
    }
    let told = place.kubectl("version -o json").ok().stdout;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    for field in [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ] {
        assert!(told["serverVersion"][field].is_string(), "{field}: {told}");
    }
}

pub(super) fn cluster_info(place: &Place) {
    let told = place.kubectl("cluster-info").ok().stdout;
    assert!(told.contains("Kubernetes control plane") && told.contains("is running at"), "{told}");
    assert!(told.contains("https://"), "{told}");
}

/// Words that a description has, each in a line that begins with the first.
fn describes(place: &Place, line: &str, wanted: &[&[&str]]) {
    let told = place.kubectl(line).ok().stdout;
    for words in wanted {
        let found = told.lines().any(|line| {
            line.trim_start().starts_with(words[0]) && words.iter().all(|word| line.contains(word))
        });
        assert!(found, "{line} has no {words:?}:\n{told}");
    }
}

pub(super) fn described(place: &Place) {
    create(place, &controller("described", 1));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "described"},
        "spec": {"selector": {"app": "described"}, "ports": [{"port": 6379, "targetPort": 8080}]}});
    create(place, &service);
    let pod = ready(place, "described", 1).remove(0);
    let namespace = place.namespace.as_str();
    describes(
        place,
        &format!("describe pod {pod}"),
        &[
            &["Name:", "described-"],
            &["Namespace:", namespace],
            &["Node:"],
            &["Labels:", "app=described"],
            &["Status:", "Running"],
            &["IP:"],
            &["Controlled By:", "ReplicationController/described"],
            &["Image:", IMAGE],
            &["State:", "Running"],
            &["QoS Class:", "BestEffort"],
        ],
    );
    describes(
        place,
        "describe rc described",
        &[
            &["Name:", "described"],
            &["Namespace:", namespace],
            &["Selector:", "app=described"],
            &["Labels:", "app=described"],
            &["Replicas:", "1 current", "1 desired"],
            &["Pods Status:", "1 Running", "0 Waiting", "0 Succeeded", "0 Failed"],
            &["Pod Template:"],
            &["Image:", IMAGE],
            &["Events:"],
        ],
    );
    place.until("its endpoints are told", || {
        place.kubectl("describe service described").stdout.contains(":8080")
    });
    describes(
        place,
        "describe service described",
        &[
            &["Name:", "described"],
            &["Namespace:", namespace],
            &["Selector:", "app=described"],
            &["Type:", "ClusterIP"],
            &["IP:"],
            &["Port:", "<unset>", "6379/TCP"],
            &["Endpoints:", ":8080"],
            &["Session Affinity:", "None"],
        ],
    );
    describes(
        place,
        "describe node node-1",
        &[
            &["Name:", "node-1"],
            &["Labels:"],
            &["Annotations:"],
            &["CreationTimestamp:"],
            &["Conditions:"],
            &["Type"],
            &["MemoryPressure"],
            &["DiskPressure"],
            &["PIDPressure"],
            &["Ready"],
            &["Addresses:"],
            &["Capacity:"],
            &["Kernel Version:"],
            &["Container Runtime Version:"],
            &["Kubelet Version:"],
            &["Non-terminated Pods:"],
        ],
    );
    describes(
        place,
        &format!("describe namespace {namespace}"),
        &[&["Name:", namespace], &["Labels:"], &["Status:", "Active"], &["No resource quota"]],
    );
}

pub(super) fn a_difference(place: &Place) {
    let template = controller("differs", 1)["spec"]["template"].clone();
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "differs"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "differs"}}, "template": template}});
    create(place, &object);
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.k8s.io/other");
    let line = format!("diff -n {} -f -", place.namespace);
    let told = place.cluster.kubectl_with_input(&line, &object.to_string());
    assert_eq!(told.code, Some(1), "{told:?}");
    let added = told
        .stdout
        .lines()
        .any(|line| line.starts_with('+') && line.contains("registry.k8s.io/other"));
    let gone = told.stdout.lines().any(|line| line.starts_with('-') && line.contains(IMAGE));
    assert!(added && gone, "{}", told.stdout);
    let stored = place.get("deployment differs");
    assert_eq!(stored["spec"]["template"]["spec"]["containers"][0]["image"], IMAGE);
}

pub(super) fn exposed(place: &Place) {
    create(place, &controller("exposed", 1));
    let pod = ready(place, "exposed", 1).remove(0);
    let address = place.get(&format!("pod {pod}"))["status"]["podIP"].clone();
    place.kubectl("expose rc exposed --name=rm2 --port=1234 --target-port=8080").prints("exposed");
    place.kubectl("expose service rm2 --name=rm3 --port=2345 --target-port=8080").prints("exposed");
    for (name, port) in [("rm2", 1234), ("rm3", 2345)] {
        let service = place.get(&format!("service {name}"));
        assert_eq!(service["spec"]["ports"][0]["port"], port, "{service}");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
        place.until("it has the pod", || {
            let endpoints = place.get(&format!("endpoints {name}"));
            endpoints["subsets"][0]["addresses"][0]["ip"] == address
                && endpoints["subsets"][0]["ports"][0]["port"] == 8080
        });
    }
}

pub(super) fn labelled(place: &Place) {
    create(place, &pod("pause", &json!({"nodeSelector": {"nowhere": "yes"}})));
    place.kubectl("label pods pause testing-label=testing-label-value").ok();
    place.kubectl("get pod pause -L testing-label").prints("testing-label-value");
    place.kubectl("label pods pause testing-label-").ok();
    let told = place.kubectl("get pod pause -L testing-label").ok().stdout;
    assert!(told.contains("TESTING-LABEL") && !told.contains("testing-label-value"), "{told}");
}

pub(super) fn annotated(place: &Place) {
    create(place, &controller("annotated", 2));
    for pod in ready(place, "annotated", 2) {
        let patch = r#"{"metadata":{"annotations":{"x":"y"}}}"#;
        place.kubectl_args(&["patch", "pod", &pod, "-p", patch]).ok();
        assert_eq!(place.get(&format!("pod {pod}"))["metadata"]["annotations"]["x"], "y");
    }
}

pub(super) fn replaced(place: &Place) {
    place
        .kubectl(&format!("run replaced --image={IMAGE} --labels=run=replaced -- sleep infinity"))
        .ok();
    place.wait("condition=Ready", "pod/replaced");
    let mut object = place.get("pod replaced");
    // Over whatever the node wrote meanwhile.
    object["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    object["spec"]["containers"][0]["image"] = json!("skiff.local/no-such-image");
    let line = format!("replace -n {} -f -", place.namespace);
    place.cluster.kubectl_with_input(&line, &object.to_string()).ok();
    let image = place.get("pod replaced")["spec"]["containers"][0]["image"].clone();
    assert_eq!(image, "skiff.local/no-such-image");
    place.kubectl("delete pod replaced --grace-period=0 --force").ok();
}

pub(super) fn run_once(place: &Place) {
    place.kubectl(&format!("run once --restart=Never --image={IMAGE}")).prints("pod/once created");
    let pod = place.get("pod once");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["containers"][0]["image"], IMAGE);
    place.kubectl("delete pod once").ok();
}

pub(super) fn dry_run(place: &Place) {
    place.kubectl(&format!("run dry --image={IMAGE} --labels=run=dry -- sleep infinity")).ok();
    let patch = r#"{"spec":{"containers":[{"name":"dry","image":"registry.k8s.io/other"}]}}"#;
    place.kubectl_args(&["patch", "pod", "dry", "-p", patch, "--dry-run=server"]).ok();
    assert_eq!(place.get("pod dry")["spec"]["containers"][0]["image"], IMAGE);
    place.kubectl("delete pod dry --grace-period=0 --force").ok();
}

/// `kubectl proxy`, and what it says first.
fn proxy(place: &Place, flag: &str) -> (Child, String) {
    let mut command = place.cluster.kubectl_command(&["proxy", flag]);
    let mut proxy = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    BufReader::new(proxy.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    (proxy, line.trim().to_owned())
}

fn through(mut proxy: Child, mut curl: Command) {
    let told = curl.output().expect("curl");
    proxy.kill().expect("our own child");
    proxy.wait().expect("our own child");
    let told: Value =
        serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    assert_eq!(told["kind"], "APIVersions", "{told}");
}

pub(super) fn proxied(place: &Place) {
    let (child, line) = proxy(place, "--port=0");
    let (_, address) = line.rsplit_once(' ').expect("where it serves");
    let mut curl = place.cluster.command("curl");
    curl.args(["-s", &format!("http://{address}/api/")]);
    through(child, curl);
    let socket = place.cluster.path("proxy.socket").to_string_lossy().into_owned();
    let (child, _) = proxy(place, &format!("--unix-socket={socket}"));
    let mut curl = place.cluster.command("curl");
    curl.args(["-s", "--unix-socket", &socket, "http://localhost/api/"]);
    through(child, curl);
}

pub(super) fn update_demo(place: &Place) {
    create(place, &controller("update-demo", 2));
    for pod in ready(place, "update-demo", 2) {
        let path = place.path("api/v1", &format!("pods/{pod}:8080/proxy/"));
        place.until("it answers", || {
            let told = place.send_with("GET", &path, &[], "");
            told.code == 200 && told.body.contains("update-demo")
        });
    }
    for count in [1, 2] {
        place
            .kubectl(&format!("scale rc update-demo --replicas={count} --timeout=180s"))
            .prints("scaled");
        ready(place, "update-demo", count);
    }
    let line = format!("delete -n {} --grace-period=0 --force -f -", place.namespace);
    let object = controller("update-demo", 2).to_string();
    place.cluster.kubectl_with_input(&line, &object).ok();
    place.until("its pods go with it", || place.names("pods -l app=update-demo").is_empty());
}

pub(super) fn logs(place: &Place) {
    let mut writer = pod("writer", &json!({"restartPolicy": "Never"}));
    writer["spec"]["containers"][0]["args"] =
        json!(["count", "--every", "1", "--count", "100", "--text", "a line"]);
    create(place, &writer);
    place.wait("jsonpath={.status.phase}=Succeeded", "pod/writer");
    let lines = |flags: &str| -> Vec<String> {
        let told = place.kubectl(&format!("logs writer c {flags}")).ok().stdout;
        told.lines().map(str::to_owned).collect()
    };
    let all = lines("");
    assert_eq!(all.len(), 100, "{all:?}");
    assert_eq!(lines("--tail=1"), all[99..]);
    let bytes = place.kubectl("logs writer c --limit-bytes=1").ok().stdout;
    assert_eq!(bytes.len(), 1, "{bytes:?}");
    let stamped = lines("--tail=1 --timestamps");
    let (time, text) = stamped[0].split_once(' ').expect("a time before the line");
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    assert_eq!(text, all[99]);
    assert_eq!(lines("--since=24h").len(), 100);
    // What it wrote was before now.
    place.until("a moment has passed", || lines("--since=1s").is_empty());
}

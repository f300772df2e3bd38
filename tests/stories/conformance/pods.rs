//! Pods as their users see them: written, watched, changed and deleted, with what
//! the node makes of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{COME_TRUE_MAX, Place};

/// A pod of one container that sleeps, with what else its container and its
/// specification say.
pub(super) fn pod(name: &str, container: &Value, spec: &Value) -> Value {
    let merge = |mut into: Value, from: &Value| {
        for (field, value) in from.as_object().into_iter().flatten() {
            into[field] = value.clone();
        }
        into
    };
    let plain = json!({"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]});
    let of_one =
        json!({"terminationGracePeriodSeconds": 1, "containers": [merge(plain, container)]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"name": name}},
        "spec": merge(of_one, spec)})
}

fn status(place: &Place, name: &str) -> Value {
    place.get(&format!("pod {name}"))["status"].clone()
}

fn restarts(place: &Place, name: &str) -> u64 {
    status(place, name)["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default()
}

/// What a container of the toolbox prints.
fn exec(place: &Place, name: &str, line: &str) -> String {
    place.kubectl(&format!("exec {name} -- toolbox {line}")).ok().stdout
}

pub(super) fn lifecycle(place: &Place) {
    let log = std::fs::File::create(place.cluster.path(&place.namespace)).expect("our own folder");
    let watch =
        ["-n", &place.namespace, "get", "pods", "-w", "--output-watch-events", "--no-headers"];
    let mut watch = place.cluster.kubectl_command(&watch);
    let mut watch = watch.stdout(log).spawn().expect("kubectl runs");
    let seen = |event: &str| {
        let log = std::fs::read_to_string(place.cluster.path(&place.namespace));
        log.unwrap_or_default().lines().any(|line| line.starts_with(event) && line.contains("one"))
    };
    place.apply(&pod("one", &json!({}), &json!({})));
    place.until("a watch sees it", || seen("ADDED"));
    place.wait("condition=Ready", "pod/one");
    place.until("a watch sees it run", || seen("MODIFIED"));
    let is = place.get("pod one");
    let address = is["status"]["hostIP"].as_str().expect("a host's address");
    assert_eq!(is["status"]["hostIPs"][0]["ip"], address);
    let nodes = place.get("node node-1")["status"]["addresses"].clone();
    assert!(nodes.as_array().into_iter().flatten().any(|known| known["address"] == address));

    // What may change of it.
    place.kubectl("label pod one time=changed").ok();
    assert_eq!(place.names("pods -l time=changed"), ["one"]);
    let other =
        json!({"spec": {"containers": [{"name": "c", "image": "skiff.local/toolbox:latest"}]}});
    place.kubectl_args(&["patch", "pod", "one", "-p", &other.to_string()]).ok();
    let is = place.get("pod one");
    assert_eq!(is["spec"]["containers"][0]["image"], "skiff.local/toolbox:latest");
    let refused = json!({"spec": {"containers": [{"name": "c", "args": ["sleep", "1"]}]}});
    place
        .kubectl_args(&["patch", "pod", "one", "-p", &refused.to_string()])
        .fails_with("pod updates may not change fields other than");
    place.wait(
        "jsonpath={.status.containerStatuses[0].image}=skiff.local/toolbox:latest",
        "pod/one",
    );
    place.wait("condition=Ready", "pod/one");

    // Its status, patched and replaced.
    place.patch_status("pod/one", &json!({"message": "Patched by e2e", "reason": "E2E"}));
    let patched = place.get("pod one --subresource=status");
    assert!(patched["status"]["conditions"].is_array());
    let json_patch = json!([{"op": "add", "path": "/status/message", "value": "patched"}]);
    let patch = place.kubectl_args(&[
        "patch",
        "pod",
        "one",
        "--subresource=status",
        "--type=json",
        "-p",
        &json_patch.to_string(),
        "-o",
        "jsonpath={.status.message}",
    ]);
    assert_eq!(patch.ok().stdout, "patched");
    let mut not_ready = place.get("pod one");
    for condition in not_ready["status"]["conditions"].as_array_mut().expect("a list") {
        condition["status"] = json!("False");
    }
    not_ready["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let line = format!("replace -n {} --subresource=status -f - -o json", place.namespace);
    let replaced = place.cluster.kubectl_with_input(&line, &not_ready.to_string()).ok().stdout;
    let replaced: Value = serde_json::from_str(&replaced).expect("JSON");
    let conditions = replaced["status"]["conditions"].as_array().expect("a list");
    assert!(conditions.iter().all(|condition| condition["status"] == "False"), "{replaced}");
    // The node knows better.
    place.wait("condition=Ready", "pod/one");

    // Deleting is asked for, seen by the node, and done.
    place.kubectl("delete pod one --grace-period=30 --wait=false").prints("deleted");
    place.wait("delete", "pod/one");
    place.until("a watch sees it go", || seen("DELETED"));
    assert_eq!(place.names("pods"), Vec::<String>::new());
    watch.kill().expect("our own child");
    watch.wait().expect("our own child");
}

pub(super) fn collection(place: &Place) {
    for name in ["one", "two", "three"] {
        place.apply(&pod(name, &json!({}), &json!({})));
    }
    place.until("there are three", || place.names("pods").len() == 3);
    let path = format!("/api/v1/namespaces/{}/pods", place.namespace);
    place.kubectl(&format!("delete --raw {path}?labelSelector=name%3Dtwo")).ok();
    place.until("the one goes", || place.names("pods") == ["one", "three"]);
    place.kubectl(&format!("delete --raw {path}?gracePeriodSeconds=0")).ok();
    place.until("all go", || place.names("pods").is_empty());
}

pub(super) fn deadline(place: &Place) {
    place.apply(&pod("one", &json!({}), &json!({})));
    place.wait("condition=Ready", "pod/one");
    place.patch("pod/one", &json!({"spec": {"activeDeadlineSeconds": 2}}));
    place.wait("jsonpath={.status.reason}=DeadlineExceeded", "pod/one");
    assert_eq!(status(place, "one")["phase"], "Failed");
    let longer = json!({"spec": {"activeDeadlineSeconds": 3}}).to_string();
    place
        .kubectl_args(&["patch", "pod", "one", "--type=merge", "-p", &longer])
        .fails_with("spec.activeDeadlineSeconds: Invalid value: 3: must be less than or equal to previous value");
}

pub(super) fn service_environment(place: &Place) {
    place
        .apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "foo-service"},
        "spec": {"selector": {"name": "none"}, "ports": [{"port": 8765, "targetPort": 8080}]}}));
    let address = place.get("service foo-service")["spec"]["clusterIP"].clone();
    let address = address.as_str().expect("an address");
    let wanted = [
        format!("FOO_SERVICE_SERVICE_HOST={address}"),
        "FOO_SERVICE_SERVICE_PORT=8765".to_owned(),
        format!("FOO_SERVICE_PORT=tcp://{address}:8765"),
        format!("FOO_SERVICE_PORT_8765_TCP_PORT={}", 8765),
        "FOO_SERVICE_PORT_8765_TCP_PROTO=tcp".to_owned(),
        format!("FOO_SERVICE_PORT_8765_TCP=tcp://{address}:8765"),
        format!("FOO_SERVICE_PORT_8765_TCP_ADDR={address}"),
    ];
    // The node may not know the Service yet when the first pod starts.
    place.until("a pod has all of them", || {
        place.kubectl("delete pod one --ignore-not-found --timeout=180s").ok();
        place.apply(&pod("one", &json!({"args": ["env"]}), &json!({"restartPolicy": "Never"})));
        place.wait("jsonpath={.status.phase}=Succeeded", "pod/one");
        let env = place.kubectl("logs one").ok().stdout;
        wanted.iter().all(|wanted| env.lines().any(|line| line == wanted))
    });
}

pub(super) fn generation(place: &Place) {
    let init = json!({"initContainers": [{"name": "i", "image": "skiff.local/toolbox", "args": ["true"]}]});
    let mut one = pod("one", &json!({}), &init);
    one["metadata"]["generation"] = json!(100);
    place.apply(&one);
    let generation = || place.get("pod one")["metadata"]["generation"].as_u64();
    assert_eq!(generation(), Some(1), "what was asked for is not heard");
    place.wait("condition=Ready", "pod/one");
    let tolerations =
        json!([{"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}]);
    let mut known = 1;
    for (patch, bumps) in [
        (json!({}), false),
        (json!({"spec": {"tolerations": tolerations}}), true),
        (json!({"spec": {"activeDeadlineSeconds": 5000}}), true),
        (
            json!({"spec": {"containers": [{"name": "c", "image": "skiff.local/toolbox:latest"}]}}),
            true,
        ),
        (
            json!({"spec": {"initContainers": [{"name": "i", "image": "skiff.local/toolbox:latest"}]}}),
            true,
        ),
        (json!({"metadata": {"annotations": {"key": "value"}}}), false),
        (json!({"metadata": {"generation": 1}}), false),
    ] {
        place.kubectl_args(&["patch", "pod", "one", "-p", &patch.to_string()]).ok();
        known += u64::from(bumps);
        assert_eq!(generation(), Some(known), "{patch}");
    }
    let seen = || status(place, "one")["observedGeneration"].as_u64();
    place.until("the node has seen it", || seen() == Some(known));
    let path = format!("/api/v1/namespaces/{}/pods/one?gracePeriodSeconds=60", place.namespace);
    let deleted = place.kubectl(&format!("delete --raw {path}")).ok().stdout;
    let deleted: Value = serde_json::from_str(&deleted).expect("JSON");
    assert_eq!(deleted["metadata"]["generation"], known + 1, "{deleted}");
}

/// Five hundred changes by one kubectl, which replaces one after the other; again for
/// those that the node's own writes came between.
pub(super) fn many_updates(place: &Place) {
    place.apply(&pod("one", &json!({}), &json!({})));
    place.wait("condition=Ready", "pod/one");
    let mut one = place.get("pod one");
    one["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let made = || place.get("pod one")["metadata"]["generation"].as_u64().unwrap_or(0) - 1;
    let line = format!("replace -n {} -f -", place.namespace);
    let mut deadline = 100_000;
    for _ in 0..20 {
        let mut all = String::new();
        for _ in made()..500 {
            // It may only come nearer.
            deadline -= 1;
            one["spec"]["activeDeadlineSeconds"] = json!(deadline);
            all += &format!("{one}\n");
        }
        if all.is_empty() {
            break;
        }
        place.cluster.kubectl_with_input(&line, &all);
    }
    assert_eq!(made(), 500, "changes after twenty attempts");
    place.wait("jsonpath={.status.observedGeneration}=501", "pod/one");
}

pub(super) fn service_class(place: &Place) {
    let same = json!({"cpu": "100m", "memory": "100Mi"});
    for (name, resources, class) in [
        ("guaranteed", json!({"limits": same, "requests": same}), "Guaranteed"),
        ("burstable", json!({"requests": same}), "Burstable"),
        ("best-effort", json!({}), "BestEffort"),
    ] {
        place.apply(&pod(name, &json!({"resources": resources}), &json!({})));
        assert_eq!(status(place, name)["qosClass"], class);
    }
}

/// Changes what containers have, given as their `resources` by name, and sees it
/// come true without a restart.
fn resize(place: &Place, name: &str, resources: &[(&str, Value)]) {
    let containers: Vec<Value> = resources
        .iter()
        .map(|(name, resources)| json!({"name": name, "resources": resources}))
        .collect();
    let patch = json!({"spec": {"containers": containers}}).to_string();
    place.kubectl_args(&["patch", "pod", name, "--subresource=resize", "-p", &patch]).ok();
    let is = |pod: &Value| {
        resources.iter().all(|(name, wanted)| {
            let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
            let mut found = statuses.filter(|status| status["name"] == *name);
            found.next().is_some_and(|status| {
                status["resources"] == *wanted
                    && status["allocatedResources"] == wanted["requests"]
                    && status["restartCount"] == 0
            })
        })
    };
    place.until("it has what it asks for", || {
        let pod = place.get(&format!("pod {name}"));
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut pending = conditions
            .filter(|known| known["type"].as_str().is_some_and(|t| t.starts_with("PodResize")));
        is(&pod)
            && pending.next().is_none()
            && pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
    });
}

pub(super) fn resized(place: &Place) {
    let requests = |cpu: &str, memory: &str| {
        let mut asked = json!({});
        for (resource, amount) in [("cpu", cpu), ("memory", memory)] {
            if !amount.is_empty() {
                asked[resource] = json!(amount);
            }
        }
        json!({"requests": asked})
    };
    let limited = |mut resources: Value, resource: &str, amount: &str| {
        resources["limits"][resource] = json!(amount);
        resources
    };
    let before = [
        ("c1", requests("20m", "")),
        ("c2", requests("", "20Mi")),
        ("c3", requests("20m", "20Mi")),
        ("c4", requests("20m", "")),
        ("c5", requests("", "20Mi")),
    ];
    let containers: Vec<Value> = before
        .iter()
        .map(|(name, resources)| {
            json!({"name": name, "image": "skiff.local/toolbox", "args": ["sleep", "infinity"],
                "resources": resources})
        })
        .collect();
    place.apply(&pod("many", &json!({}), &json!({"containers": containers})));
    place.wait("condition=Ready", "pod/many");
    resize(
        place,
        "many",
        &[
            ("c1", limited(requests("30m", ""), "cpu", "40m")),
            ("c2", limited(requests("", "30Mi"), "memory", "40Mi")),
            ("c3", requests("20m", "15Mi")),
            ("c4", requests("15m", "20Mi")),
            ("c5", requests("20m", "30Mi")),
        ],
    );
    // What comes to the same in the kernel is told as it was written.
    let small = |request: &str, limit: &str| limited(requests(request, ""), "cpu", limit);
    place.apply(&pod("small", &json!({"resources": small("2m", "10m")}), &json!({})));
    place.wait("condition=Ready", "pod/small");
    resize(place, "small", &[("c", small("1m", "5m"))]);
    resize(place, "small", &[("c", small("2m", "10m"))]);
    // By replacing.
    place.apply(&pod("whole", &json!({"resources": requests("20m", "20Mi")}), &json!({})));
    place.wait("condition=Ready", "pod/whole");
    let mut whole = place.get("pod whole");
    assert_eq!(whole["metadata"]["generation"], 1);
    whole["spec"]["containers"][0]["resources"] = requests("30m", "30Mi");
    whole["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let line = format!("replace -n {} --subresource=resize -f -", place.namespace);
    place.cluster.kubectl_with_input(&line, &whole.to_string()).ok();
    assert_eq!(place.get("pod whole")["metadata"]["generation"], 2);
    resize(place, "whole", &[("c", requests("30m", "30Mi"))]);
    place.until("both ways show the same", || {
        place.get("pod whole --subresource=resize") == place.get("pod whole")
    });
}

/// Seconds since midnight of a time of the API.
fn second(time: &Value) -> i64 {
    let text = time.as_str().expect("a time");
    let clock = text.split_once('T').map(|(_, clock)| clock.trim_end_matches('Z')).expect("a time");
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("a number"))
}

pub(super) fn ready_after_delay(place: &Place) {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 5, "periodSeconds": 1});
    let web = json!({"args": ["http-echo", "--port", "8080"], "readinessProbe": probe});
    place.apply(&pod("one", &web, &json!({})));
    place.wait("condition=Ready", "pod/one");
    let status = status(place, "one");
    let started = second(&status["containerStatuses"][0]["state"]["running"]["startedAt"]);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|known| known["type"] == "Ready").expect("it is ready");
    let after = (second(&ready["lastTransitionTime"]) - started).rem_euclid(24 * 3600);
    assert!((5..600).contains(&after), "ready after {after} s: {status:#}");
    assert_eq!(restarts(place, "one"), 0);
}

pub(super) fn restarts_add_up(place: &Place) {
    let probe = json!({"exec": {"command": ["toolbox", "false"]}, "periodSeconds": 1, "failureThreshold": 1});
    place.apply(&pod("one", &json!({"livenessProbe": probe}), &json!({})));
    let mut known = 0;
    place.until("it was restarted three times", || {
        let now = restarts(place, "one");
        assert!((known..=known + 1).contains(&now), "{now} restarts after {known}");
        known = now;
        known == 3
    });
}

pub(super) fn pre_stop(place: &Place) {
    let dir = place.cluster.path("pre-stop");
    let hook = json!({"preStop": {"exec": {"command": ["toolbox", "write", "/v/called", "before the end"]}}});
    let container = json!({"lifecycle": hook, "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let volume = json!({"name": "v", "hostPath": {"path": dir, "type": "DirectoryOrCreate"}});
    let spec = json!({"terminationGracePeriodSeconds": 20, "volumes": [volume]});
    place.apply(&pod("one", &container, &spec));
    place.wait("condition=Ready", "pod/one");
    place.kubectl("delete pod one --timeout=180s").ok();
    let said = std::fs::read_to_string(dir.join("called"));
    assert_eq!(said.ok().as_deref(), Some("before the end\n"));
}

pub(super) fn sub_path_of_an_annotation(place: &Place) {
    let container = json!({
        "env": [{"name": "POD_NAME", "value": "foo"},
            {"name": "ANNOTATION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['mysubpath']"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/part", "subPathExpr": "$(ANNOTATION)/$(POD_NAME)"},
            {"name": "v", "mountPath": "/whole"}]});
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let mut one = pod("one", &container, &volumes);
    one["metadata"]["annotations"] = json!({"notmysubpath": "mypath"});
    place.apply(&one);
    place.wait(
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError",
        "pod/one",
    );
    place.kubectl("annotate pod one mysubpath=mypath").ok();
    place.wait("condition=Ready", "pod/one");
    exec(place, "one", "write /whole/mypath/foo/test.log found");
    assert_eq!(exec(place, "one", "cat /part/test.log"), "found\n");
    // What it is mounted from stays, and goes with the pod.
    place.kubectl("annotate pod one mysubpath=mynewpath --overwrite").ok();
    place.wait("condition=Ready", "pod/one");
    assert_eq!(restarts(place, "one"), 0);
    place.kubectl("delete pod one --timeout=180s").ok();
}

/// A share that a container does not limit is the node's.
pub(super) fn allocatable(place: &Place) {
    let resources = ["limits.cpu", "limits.memory"];
    let asked = |resource: &str| {
        let divisor = if resource.ends_with("cpu") { "1m" } else { "1" };
        json!({"containerName": "c", "resource": resource, "divisor": divisor})
    };
    let env = resources.map(|resource| {
        let name = resource.replace('.', "_");
        json!({"name": name, "valueFrom": {"resourceFieldRef": asked(resource)}})
    });
    let items =
        resources.map(|resource| json!({"path": resource, "resourceFieldRef": asked(resource)}));
    let volumes = json!({"volumes": [{"name": "plain", "downwardAPI": {"items": items}},
        {"name": "projected", "projected": {"sources": [{"downwardAPI": {"items": items}}]}}]});
    let mounts =
        ["plain", "projected"].map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    place.apply(&pod("one", &json!({"env": env, "volumeMounts": mounts}), &volumes));
    place.wait("condition=Ready", "pod/one");
    let node = place.get("node node-1")["status"]["allocatable"].clone();
    let milli = match node["cpu"].as_str().expect("an amount") {
        text if text.ends_with('m') => text.trim_end_matches('m').to_owned(),
        text => format!("{text}000"),
    };
    let memory = node["memory"].as_str().expect("an amount");
    let memory = match memory.strip_suffix("Ki") {
        Some(text) => (text.parse::<u64>().expect("a number") * 1024).to_string(),
        None => memory.to_owned(),
    };
    let env = exec(place, "one", "env");
    for (resource, wanted) in resources.into_iter().zip([milli, memory]) {
        let line = format!("{}={wanted}", resource.replace('.', "_"));
        assert!(env.lines().any(|known| known == line), "{line} is not in\n{env}");
        for volume in ["plain", "projected"] {
            assert_eq!(exec(place, "one", &format!("cat /{volume}/{resource}")), wanted);
        }
    }
}

pub(super) fn ephemeral(place: &Place) {
    place.apply(&pod("one", &json!({}), &json!({})));
    place.wait("condition=Ready", "pod/one");
    let path = format!("/api/v1/namespaces/{}/pods/one/ephemeralcontainers", place.namespace);
    let mut one: Value =
        serde_json::from_str(&place.kubectl(&format!("get --raw {path}")).ok().stdout)
            .expect("JSON");
    let debugger = |name: &str| json!({"name": name, "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]});
    one["spec"]["ephemeralContainers"] = json!([debugger("first")]);
    one["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let line = format!("replace --raw {path} -f -");
    place.cluster.kubectl_with_input(&line, &one.to_string()).ok();
    let patch = json!({"spec": {"ephemeralContainers": [debugger("second")]}}).to_string();
    place
        .kubectl_args(&["patch", "pod", "one", "--subresource=ephemeralcontainers", "-p", &patch])
        .ok();
    for n in 0..2 {
        place.until("it runs", || {
            status(place, "one")["ephemeralContainerStatuses"][n]["state"]["running"].is_object()
        });
    }
    place.kubectl("exec one -c second -- toolbox echo here").prints("here");
    // What is there stays as it is.
    one["spec"]["ephemeralContainers"] = json!([debugger("third")]);
    place
        .cluster
        .kubectl_with_input(&line, &one.to_string())
        .fails_with("existing ephemeral containers");
}

pub(super) fn runtime_classes(place: &Place) {
    let line = format!("create -n {} -f -", place.namespace);
    let of =
        |class: &str| pod("refused", &json!({}), &json!({"runtimeClassName": class})).to_string();
    let refused = |class: &str| {
        let text = format!("pod rejected: RuntimeClass \"{class}\" not found");
        place.cluster.kubectl_with_input(&line, &of(class)).fails_with(&text);
    };
    refused("story-none");
    let class = |name: &str, more: Value| {
        let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name}, "handler": "skiff"});
        for (field, value) in more.as_object().into_iter().flatten() {
            class[field] = value.clone();
        }
        place.apply(&class);
    };
    class("story-plain", json!({}));
    class("story-heavy", json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}}));
    let run = |class: &str| {
        place.until("the class is known", || {
            place.kubectl(&format!("delete pod {class} --ignore-not-found")).ok();
            let pod = pod(class, &json!({}), &json!({"runtimeClassName": class})).to_string();
            place.cluster.kubectl_with_input(&line, &pod).success
        });
        place.wait("condition=Ready", &format!("pod/{class}"));
        place.get(&format!("pod {class}"))["spec"]["overhead"].clone()
    };
    assert_eq!(run("story-plain"), Value::Null);
    assert_eq!(run("story-heavy"), json!({"cpu": "10m", "memory": "1Mi"}));
    place.kubectl("delete runtimeclass story-plain --timeout=180s").ok();
    place.until("the class is forgotten", || {
        place.kubectl("delete pod refused --ignore-not-found").ok();
        !place.cluster.kubectl_with_input(&line, &of("story-plain")).success
    });
    refused("story-plain");
    place.kubectl("delete runtimeclass story-heavy").ok();
}

pub(super) fn sysctls_refused(place: &Place) {
    let line = format!("create -n {} -f -", place.namespace);
    let names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."];
    let sysctls = names.map(|name| json!({"name": name, "value": "bar"}));
    let spec = json!({"securityContext": {"sysctls": sysctls}});
    let refused =
        place.cluster.kubectl_with_input(&line, &pod("one", &json!({}), &spec).to_string());
    let said = format!("{}{}", refused.stdout, refused.stderr);
    for (name, wrong) in names.into_iter().zip([true, false, false, true]) {
        let text = format!("Invalid value: \"{name}\"");
        assert_eq!(said.contains(&text), wrong, "{name}: {said}");
    }
}

/// Takes a node to itself: its taints end everybody's pods.
pub(super) fn evicted_by_taints(place: &Place) {
    let tolerating = |name: &str, key: &str, seconds: u64| {
        let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        place.apply(&pod(name, &json!({}), &json!({"tolerations": [toleration]})));
        place.wait("condition=Ready", &format!("pod/{name}"));
    };
    tolerating("soon", "story-evict", 2);
    tolerating("later", "story-evict", 20);
    place.kubectl("taint node node-1 story-evict=yes:NoExecute").ok();
    place.wait("delete", "pod/soon");
    assert_eq!(place.names("pods"), ["later"], "each when its time is up");
    place.wait("delete", "pod/later");
    place.kubectl("taint node node-1 story-evict-").ok();

    // A taint that goes in time ends nothing: what is given longer afterwards goes first.
    let both = ["story-first", "story-second"].map(|key| {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": if key == "story-first" { 5 } else { 300 }})
    });
    place.apply(&pod("stays", &json!({}), &json!({"tolerations": both})));
    let after = ["story-first", "story-second"].map(|key| {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 8})
    });
    place.apply(&pod("after", &json!({}), &json!({"tolerations": after})));
    place.wait("condition=Ready", "pod/stays");
    place.wait("condition=Ready", "pod/after");
    place.kubectl("taint node node-1 story-first=yes:NoExecute").ok();
    place.kubectl("taint node node-1 story-first-").ok();
    place.kubectl("taint node node-1 story-second=yes:NoExecute").ok();
    let began = std::time::Instant::now();
    place.wait("delete", "pod/after");
    assert!(began.elapsed() > Duration::from_secs(5) && began.elapsed() < COME_TRUE_MAX);
    assert_eq!(place.names("pods"), ["stays"]);
    assert!(place.get("pod stays")["metadata"]["deletionTimestamp"].is_null());
    place.kubectl("taint node node-1 story-second-").ok();
}

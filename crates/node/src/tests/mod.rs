//! Whole paths on a real kernel, with the real runtime and an API in memory:
//! needs root, cgroups, a static busybox and `unshare`, and says which is
//! missing where it skips. Each story runs in network and mount namespaces of
//! its own, in a process of its own.

mod admission;
mod bed;
mod crash;
mod devices;
mod ends;
mod full;
mod fused;
mod lines;
mod offline;
mod table;

use std::{fs, time::Duration};

use client::ListOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{End, Input, LogOptions, NodeStreams, Open, OpenError, Output, Stdio};

use self::bed::{Bed, PATIENCE, inside, read_all};
use crate::resources::{CONFIG_MAPS, CSI_NODES, NODES, PODS, SECRETS};

fn container(script: &str) -> Value {
    json!({"name": "main", "command": ["sh", "-c", script]})
}

/// Ends at once when asked to.
const SERVE: &str = "echo hello; trap 'echo bye; exit 0' TERM; sleep 1000 & wait";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lives_and_goes() {
    if !inside("a_pod_lives_and_goes") {
        return;
    }
    let bed = Bed::new();
    bed.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cm", "namespace": "default"}, "data": {"k": "v1"}}),
    )
    .await;
    bed.create(
        SECRETS,
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default"}, "data": {"pw": "aHVudGVyMg=="}}),
    )
    .await;
    let node = bed.start().await;
    let mut main = container(SERVE);
    main["env"] = json!([{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]);
    main["volumeMounts"] = json!([{"name": "cm", "mountPath": "/cm"}, {"name": "s", "mountPath": "/s"},
        {"name": "scratch", "mountPath": "/scratch"}, {"name": "mem", "mountPath": "/mem"}]);
    main["readinessProbe"] = json!({"exec": {"command": ["test", "-e", "/scratch/ready"]},
        "periodSeconds": 1});
    bed.bind("web", json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 20,
        "initContainers": [{"name": "init", "command": ["touch", "/scratch/init"],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
        "containers": [main],
        "volumes": [{"name": "cm", "configMap": {"name": "cm"}},
            {"name": "s", "secret": {"secretName": "s"}},
            {"name": "scratch", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}}],
    })).await;
    bed.until("web", "running", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Running")).await;
    let pod = bed.pod("web").expect("there");
    assert_eq!(pod["status"]["podIP"], "10.66.0.1", "{pod:#}");
    assert_eq!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);

    let (text, end) = bed
        .run(&node, "web", "ls /scratch; cat /cm/k /s/pw; echo; echo $POD_IP $K; grep web /etc/hosts; echo >/scratch/ready; exit 7")
        .await;
    assert_eq!(text, "init\nv1hunter2\n10.66.0.1 v1\n10.66.0.1\tweb\n");
    assert_eq!(end, Some(End::Exited(7)));
    bed.until_ready("web").await;

    // A volume follows its object.
    bed.cluster.edit(CONFIG_MAPS, "default/cm", |cm| cm["data"]["k"] = "v2".into());
    let (_, end) = bed.run(&node, "web", "until grep -q v2 /cm/k; do sleep 0.1; done").await;
    assert_eq!(end, Some(End::Exited(0)));

    // Logs follow to the container's end.
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let opened = node.open(Open::Logs(bed.target("web", "main"), follow)).await.expect("opened");
    bed.cluster.delete_with(PODS, "default/web", json!({"gracePeriodSeconds": 20}));
    let (text, _) = read_all(opened).await;
    assert_eq!(text, "hello\nbye\n");
    bed.until("web", "gone", |pod| pod.is_none()).await;
    let events = bed.cluster.events();
    for wanted in [
        "Pulled: Container image \"busybox\" already present on machine and can be accessed by the pod",
        "Created: Container created",
        "Started: Container started",
        "Killing: Stopping container main",
    ] {
        assert!(events.iter().any(|event| event == wanted), "{wanted}: {events:#?}");
    }
    bed.nothing_is_left(&["web"]);
    assert_eq!(netlink::pod_link::list().expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_adopts_what_runs() {
    if !inside("a_restarted_node_adopts_what_runs") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    for name in ["stays", "ends", "goes"] {
        let script = if name == "ends" {
            "until test -e /v/end; do sleep 0.05; done; exit 3"
        } else {
            SERVE
        };
        let mut main = container(script);
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        let policy = if name == "ends" { "Never" } else { "Always" };
        bed.bind(
            name,
            json!({"restartPolicy": policy, "containers": [main],
            "volumes": [{"name": "v", "emptyDir": {}}]}),
        )
        .await;
        bed.until_ready(name).await;
    }
    let id = |bed: &Bed| {
        bed.pod("stays").expect("there")["status"]["containerStatuses"][0]["containerID"].clone()
    };
    let before = id(&bed);
    node.shutdown();
    drop(node);
    // While nobody looks, one ends and one is deleted by force.
    let uid = bed.target("ends", "main").uid;
    let scratch =
        bed.dir.path().join("kubelet/pods").join(uid).join("volumes/kubernetes.io~empty-dir/v");
    fs::write(scratch.join("end"), "").expect("written");
    bed.cluster.delete_with(PODS, "default/goes", json!({"gracePeriodSeconds": 0}));
    let revision = bed.cluster.revision();
    let node = bed.start().await;
    bed.until("ends", "failed", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let ends = bed.pod("ends").expect("there");
    assert_eq!(ends["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert_eq!(id(&bed), before);
    // The other one is adopted without a word.
    let adopted = async {
        while node.pods() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, adopted).await.expect("in time");
    let (text, _) = bed.run(&node, "stays", "echo still here").await;
    assert_eq!(text, "still here\n");
    let stays = bed.pod("stays").expect("there");
    let version: u64 = stays["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|v| v.parse().ok())
        .expect("a number");
    assert!(version <= revision, "adoption of a pod that runs on tells nothing new");
    assert_eq!(bed.logs(&node, "ends", LogOptions::default()).await, Ok(String::new()));
    for name in ["stays", "ends"] {
        let options = json!({"gracePeriodSeconds": 5});
        bed.cluster.delete_with(PODS, &format!("default/{name}"), options);
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    // The orphan's link and addresses are gone too, and its folder at last.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let is_clean = || {
        let mut pods = fs::read_dir(bed.dir.path().join("kubelet/pods")).expect("there");
        netlink::pod_link::list().expect("listed").is_empty() && pods.next().is_none()
    };
    while !is_clean() {
        assert!(tokio::time::Instant::now() < deadline, "an orphan stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bed.nothing_is_left(&["stays", "ends"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_in_upstreams_words() {
    if !inside("failures_are_told_in_upstreams_words") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let one = |main: Value| json!({"restartPolicy": "Always", "containers": [main]});
    bed.bind("no-image", one(json!({"name": "main", "image": "missing"}))).await;
    let mut main = container(SERVE);
    main["envFrom"] = json!([{"configMapRef": {"name": "nope"}}]);
    bed.bind("no-config", one(main)).await;
    bed.bind("no-command", one(json!({"name": "main", "command": ["/no/such"]}))).await;
    bed.bind("crashes", one(container("echo oops >/dev/termination-log; exit 4"))).await;
    let mut root = container(SERVE);
    root["securityContext"] = json!({"runAsNonRoot": true});
    bed.bind("root", one(root)).await;
    bed.bind(
        "no-volume",
        json!({"restartPolicy": "Always", "containers": [container(SERVE)],
        "volumes": [{"name": "v", "configMap": {"name": "nope"}}]}),
    )
    .await;
    let mut hog = container("a=x; while true; do a=$a$a; done");
    hog["resources"] = json!({"limits": {"memory": "16Mi"}});
    bed.bind("hog", json!({"restartPolicy": "Never", "containers": [hog]})).await;

    bed.until_waiting("no-image", "ImagePullBackOff").await;
    let error = bed.logs(&node, "no-image", LogOptions::default()).await;
    assert_eq!(
        error,
        Err(OpenError::BadRequest(
            "container \"main\" in pod \"no-image\" is waiting to start: trying and failing to pull image"
                .into()
        ))
    );
    bed.until_waiting("no-config", "CreateContainerConfigError").await;
    let waiting =
        &bed.pod("no-config").expect("there")["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["message"], "configmap \"nope\" not found");
    bed.until_waiting("no-command", "CrashLoopBackOff").await;
    let last = bed.pod("no-command").expect("there")["status"]["containerStatuses"][0]["lastState"]
        ["terminated"]
        .clone();
    assert_eq!(
        (&last["reason"], &last["exitCode"]),
        (&json!("StartError"), &json!(128)),
        "{last:#}"
    );
    assert_eq!(last["startedAt"], "1970-01-01T00:00:00Z", "{last:#}");
    bed.until_waiting("crashes", "CrashLoopBackOff").await;
    let status = bed.pod("crashes").expect("there")["status"]["containerStatuses"][0].clone();
    assert_eq!(status["restartCount"], 1, "{status:#}");
    assert_eq!(status["lastState"]["terminated"]["message"], "oops\n", "{status:#}");
    bed.until_waiting("root", "CreateContainerConfigError").await;
    bed.until("hog", "killed", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let ended =
        bed.pod("hog").expect("there")["status"]["containerStatuses"][0]["state"]["terminated"]
            .clone();
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("OOMKilled"), &json!(137)),
        "{ended:#}"
    );

    // What was missing comes, once it was told of.
    let missing =
        "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"nope\" not found$";
    bed.until_event("no-volume", missing).await;
    bed.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "nope", "namespace": "default"}, "data": {"A": "1"}}),
    )
    .await;
    bed.until_ready("no-config").await;
    bed.until_ready("no-volume").await;
    let events = bed.cluster.events();
    for wanted in [
        "Failed: Error: failed to start container \"main\": exec: \"/no/such\": stat /no/such: no such file or directory",
        "Failed: Failed to pull image \"missing\": missing: not found",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"missing\"",
    ] {
        assert!(events.iter().any(|event| event == wanted), "{wanted}: {events:#?}");
    }
    let error = node
        .open(Open::Exec(bed.target("crashes", "main"), vec!["true".into()], Stdio::default()))
        .await
        .expect_err("it does not run");
    assert_eq!(
        error,
        OpenError::NotFound("unable to upgrade connection: container not found (\"main\")".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_hooks_and_ports() {
    if !inside("probes_hooks_and_ports") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let mut main = container(
        "mkdir /www; echo ok >/www/healthz; httpd -p 8080 -h /www; echo started; trap 'exit 0' TERM; sleep 1000 & wait",
    );
    main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    main["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    main["readinessProbe"] =
        json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1});
    main["livenessProbe"] = json!({"exec": {"command": ["test", "!", "-e", "/v/dead"]},
        "periodSeconds": 1, "failureThreshold": 1});
    main["startupProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    main["lifecycle"] = json!({"postStart": {"exec": {"command": ["touch", "/v/post"]}},
        "preStop": {"exec": {"command": ["touch", "/v/pre"]}}});
    bed.bind(
        "web",
        json!({"restartPolicy": "Always", "containers": [main],
        "volumes": [{"name": "v", "emptyDir": {}}]}),
    )
    .await;
    bed.until_ready("web").await;
    let (text, _) = bed.run(&node, "web", "ls /v").await;
    assert_eq!(text, "post\n");

    let mut port = node.open(Open::PortForward(bed.target("web", ""), 8080)).await.expect("opened");
    port.input.send(Input::Data("GET /healthz HTTP/1.0\r\n\r\n".into())).await.expect("sent");
    let mut answer = String::new();
    while let Some(Output::Stdout(bytes)) = port.output.recv().await {
        answer.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let open = Open::Connect(bed.target("web", ""), 8080);
    let mut socket = tunnel::Socket::from(node.open(open).await.expect("opened"));
    socket.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.expect("open");
    socket.shutdown().await.expect("open");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.ends_with("\r\n\r\nok\n"), "a half-closed connection: {answer}");
    let refused = node.open(Open::Connect(bed.target("web", ""), 9)).await.expect_err("nobody");
    assert!(refused.to_string().ends_with(":9: connect: connection refused"), "{refused}");
    let closed = node.open(Open::PortForward(bed.target("web", ""), 9)).await.expect("opened");
    assert!(
        matches!(read_all(closed).await.1, Some(End::Failed(text)) if text.contains("refused"))
    );

    bed.run(&node, "web", "touch /v/dead").await;
    bed.until("web", "restarted", |pod| {
        pod.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"] == 1)
    })
    .await;
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(bed.logs(&node, "web", previous).await, Ok("started\n".into()));
    let events = bed.cluster.events();
    assert!(
        events
            .iter()
            .any(|e| e == "Killing: Container main failed liveness probe, will be restarted"),
        "{events:#?}"
    );
    let uid = bed.target("web", "main").uid;
    let pre =
        bed.dir.path().join("kubelet/pods").join(uid).join("volumes/kubernetes.io~empty-dir/v/pre");
    assert!(pre.exists(), "the preStop hook ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_containers_get_more_and_less() {
    if !inside("running_containers_get_more_and_less") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let with = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}});
    let mut main = container(SERVE);
    main["resources"] = with("100m", "64Mi");
    let mut other = main.clone();
    other["name"] = "other".into();
    other["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    bed.bind("web", json!({"restartPolicy": "Always", "containers": [main, other]})).await;
    bed.until_ready("web").await;
    let resize = |container: usize, resources: Value| {
        bed.cluster.edit(PODS, "default/web", |pod| {
            pod["spec"]["containers"][container]["resources"] = resources;
        });
    };
    let status = |pod: &Value, name: &str| {
        let list = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        list.into_iter().find(|status| status["name"] == name).unwrap_or_default()
    };
    let condition = |pod: &Value, name: &str| {
        let list = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.into_iter().find(|c| c["type"] == name)
    };
    // v1 and v2 name the files differently.
    let limits = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes \
        || { cut -d' ' -f1 /sys/fs/cgroup/cpu.max; cat /sys/fs/cgroup/memory.max; }";
    let (text, _) = bed.run(&node, "web", limits).await;
    assert!(text.ends_with("10000\n67108864\n"), "{text}");
    let wanted = with("200m", "96Mi");
    resize(0, wanted.clone());
    bed.until("web", "resized", |pod| {
        pod.is_some_and(|pod| {
            let main = status(pod, "main");
            main["resources"] == wanted && condition(pod, "PodResizeInProgress").is_none()
        })
    })
    .await;
    let pod = bed.pod("web").expect("there");
    let main = status(&pod, "main");
    assert_eq!(main["allocatedResources"], wanted["requests"], "{main:#}");
    assert_eq!(main["restartCount"], 0);
    let (text, _) = bed.run(&node, "web", limits).await;
    assert!(text.ends_with("20000\n100663296\n"), "{text}");
    bed.until_event(
        "web",
        "ResizeCompleted: Pod resize completed: {\"containers\":[{\"name\":\"main\"",
    )
    .await;

    // Less, and by a restart where the container asks for one.
    resize(0, with("100m", "32Mi"));
    resize(1, with("100m", "96Mi"));
    bed.until("web", "resized", |pod| {
        pod.is_some_and(|pod| {
            let other = status(pod, "other");
            status(pod, "main")["resources"] == with("100m", "32Mi")
                && other["resources"] == with("100m", "96Mi")
                && other["restartCount"] == 1
                && !other["state"]["running"].is_null()
        })
    })
    .await;
    bed.until_event("web", "Killing: Container other resize requires restart").await;
    assert_eq!(status(&bed.pod("web").expect("there"), "main")["restartCount"], 0);

    // More than the machine has; more than is left on it.
    resize(0, with("1000", "32Mi"));
    let pending = |reason: &'static str| {
        move |pod: Option<&Value>| {
            pod.is_some_and(|pod| {
                condition(pod, "PodResizePending").is_some_and(|c| c["reason"] == reason)
            })
        }
    };
    bed.until("web", "infeasible", pending("Infeasible")).await;
    let pod = bed.pod("web").expect("there");
    let message = condition(&pod, "PodResizePending").expect("there")["message"].clone();
    assert!(
        message.as_str().is_some_and(|m| m
            .starts_with("Node didn't have enough capacity: cpu, requested: 1000100, capacity: ")),
        "{message}"
    );
    assert_eq!(status(&pod, "main")["resources"], with("100m", "32Mi"));
    let mut hog = container(SERVE);
    hog["resources"] = json!({"requests": {"cpu": "1500m"}});
    bed.bind("hog", json!({"restartPolicy": "Always", "containers": [hog]})).await;
    bed.until_ready("hog").await;
    resize(0, with("1", "32Mi"));
    bed.until("web", "deferred", pending("Deferred")).await;
    bed.cluster.delete_with(PODS, "default/hog", json!({"gracePeriodSeconds": 1}));
    bed.until("web", "resized", |pod| {
        pod.is_some_and(|pod| {
            status(pod, "main")["resources"] == with("1", "32Mi")
                && condition(pod, "PodResizePending").is_none()
        })
    })
    .await;

    // Another process knows what the containers have.
    node.shutdown();
    drop(node);
    let _node = bed.start().await;
    resize(1, with("300m", "96Mi"));
    bed.until("web", "resized", |pod| {
        pod.is_some_and(|pod| status(pod, "other")["resources"] == with("300m", "96Mi"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_files_run_and_are_mirrored() {
    if !inside("pods_of_files_run_and_are_mirrored") {
        return;
    }
    let bed = Bed::new();
    let manifests = bed.dir.path().join("manifests");
    fs::create_dir(&manifests).expect("made");
    let write = |script: &str| {
        let main = json!({"name": "main", "image": "busybox", "command": ["sh", "-c", script],
            "terminationMessagePath": "/dev/termination-log"});
        let pod = json!({"metadata": {"name": "web"},
            "spec": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 2, "containers": [main]}});
        fs::write(manifests.join("web.json"), pod.to_string()).expect("written");
    };
    write(SERVE);
    let node = bed.start().await;
    bed.until_ready("web-n1").await;
    let uid = |bed: &Bed| bed.pod("web-n1").map(|pod| pod["metadata"]["uid"].clone());
    let id = |bed: &Bed| {
        let pod = bed.pod("web-n1").expect("there");
        pod["status"]["containerStatuses"][0]["containerID"].clone()
    };
    let mirror = bed.pod("web-n1").expect("there");
    let annotations = &mirror["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(
        annotations["kubernetes.io/config.mirror"],
        annotations["kubernetes.io/config.hash"]
    );
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["name"], "n1");
    let (text, _) = bed.run(&node, "web-n1", "echo by its mirror").await;
    assert_eq!(text, "by its mirror\n");
    let (first, container) = (uid(&bed), id(&bed));

    // Whoever deletes the mirror gets another one, of the same containers.
    bed.cluster.delete_with(PODS, "default/web-n1", json!({"gracePeriodSeconds": 30}));
    bed.until("web-n1", "mirrored again", |pod| {
        pod.is_some_and(|pod| Some(&pod["metadata"]["uid"]) != first.as_ref())
    })
    .await;
    bed.until_ready("web-n1").await;
    assert_eq!(id(&bed), container);

    // Another process finds both; another file is another pod.
    node.shutdown();
    drop(node);
    let node = bed.start().await;
    write("echo second; trap 'exit 0' TERM; sleep 1000 & wait");
    bed.until("web-n1", "replaced", |pod| {
        pod.is_some_and(|pod| {
            let id = &pod["status"]["containerStatuses"][0]["containerID"];
            id.is_string() && *id != container
        })
    })
    .await;
    bed.until_ready("web-n1").await;
    let (text, _) = bed.run(&node, "web-n1", "grep -c second /proc/1/cmdline").await;
    assert_eq!(text, "1\n");
    fs::remove_file(manifests.join("web.json")).expect("removed");
    bed.until("web-n1", "gone", |pod| pod.is_none()).await;
    bed.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_tells_of_itself() {
    if !inside("the_node_tells_of_itself") {
        return;
    }
    let bed = Bed::new();
    let _node = bed.start().await;
    let mut watch =
        bed.cluster.api().watch(NODES, "", &ListOptions::default()).await.expect("a watch");
    let ready = |node: &Value| {
        node["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    while !bed.cluster.get(NODES, "n1").as_ref().is_some_and(ready) {
        tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
    }
    let node = bed.cluster.get(NODES, "n1").expect("there");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.37.0+skiff1");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    for reason in
        ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
    {
        bed.until_event("n1", &format!("{reason}: Node n1 status is now: {reason}$")).await;
    }
    bed.until_event("n1", "Starting: Starting kubelet.$").await;
    bed.until_event("n1", "NodeAllocatableEnforced: Updated Node Allocatable limit across pods$")
        .await;
    for (is_cordoned, reason) in [(true, "NodeNotSchedulable"), (false, "NodeSchedulable")] {
        let cordon = |node: &mut Value| node["spec"]["unschedulable"] = is_cordoned.into();
        bed.cluster.edit(NODES, "n1", cordon);
        bed.until_event("n1", &format!("{reason}: Node n1 status is now: {reason}$")).await;
    }

    // Before there is a driver, too.
    let mut drivers =
        bed.cluster.api().watch(CSI_NODES, "", &ListOptions::default()).await.expect("a watch");
    while bed.cluster.get(CSI_NODES, "n1").is_none() {
        tokio::time::timeout(PATIENCE, drivers.next()).await.expect("in time");
    }
    let drivers = bed.cluster.get(CSI_NODES, "n1").expect("there");
    assert_eq!(drivers["spec"]["drivers"], json!([]));
    assert_eq!(drivers["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);

    // The servers thought that it was gone: it says that it is there.
    bed.cluster.edit(NODES, "n1", |node| {
        for condition in node["status"]["conditions"].as_array_mut().expect("a list") {
            condition["status"] = "Unknown".into();
        }
    });
    while !bed.cluster.get(NODES, "n1").as_ref().is_some_and(ready) {
        tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_and_attached_clients() {
    if !inside("terminals_and_attached_clients") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let mut main = container("while read line; do echo got $line; done; echo end");
    main["stdin"] = true.into();
    main["stdinOnce"] = true.into();
    bed.bind("web", json!({"restartPolicy": "Never", "containers": [main]})).await;
    bed.until_ready("web").await;

    let stdio = Stdio { stdin: true, stdout: true, stderr: false, tty: true };
    let shell = Open::Exec(bed.target("web", "main"), vec!["sh".into()], stdio);
    let shell = node.open(shell).await.expect("opened");
    shell.input.send(Input::Resize { width: 77, height: 11 }).await.expect("sent");
    let typed = "echo $((40 + 2)); stty size; exit 3\n";
    shell.input.send(Input::Data(typed.into())).await.expect("sent");
    let (text, end) = read_all(shell).await;
    assert!(text.contains("\r\n42\r\n11 77\r\n"), "{text:?}");
    assert_eq!(end, Some(End::Exited(3)));

    let stdio = Stdio { stdin: true, stdout: true, stderr: true, tty: false };
    let attached = node.open(Open::Attach(bed.target("web", "main"), stdio)).await.expect("opened");
    attached.input.send(Input::Data("one\ntwo\n".into())).await.expect("sent");
    attached.input.send(Input::Close).await.expect("sent");
    let (text, end) = read_all(attached).await;
    assert_eq!((text.as_str(), end), ("got one\ngot two\nend\n", Some(End::Exited(0))));
    bed.until("web", "done", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Succeeded")).await;
    let logs = bed.logs(&node, "web", LogOptions { tail_lines: Some(1), ..LogOptions::default() });
    assert_eq!(logs.await, Ok("end\n".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_deleted_while_nobody_watched_is_registered_again() {
    if !inside("a_node_that_was_deleted_while_nobody_watched_is_registered_again") {
        return;
    }
    let bed = Bed::new();
    let _node = bed.start().await;
    let uid = || Some(bed.cluster.get(NODES, "n1")?["metadata"]["uid"].clone());
    let until_there = async |but: Option<&Value>| {
        let options = ListOptions::default();
        let mut watch = bed.cluster.api().watch(NODES, "", &options).await.expect("a watch");
        let wait = async {
            while uid().is_none_or(|uid| Some(&uid) == but) {
                watch.next().await.expect("it goes on").expect("an event");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it is registered");
    };
    until_there(None).await;
    let before = uid();
    // The node may follow by now: it is cut off, and what has happened till it asks again
    // is told by the list alone.
    bed.cluster.cut_watches();
    bed.cluster.delete(NODES, "n1");
    bed.cluster.forget_history();
    until_there(before.as_ref()).await;
}

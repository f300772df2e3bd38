//! The agent dies wherever it can while a pod starts and while it ends, and
//! another one takes over: nothing runs twice, nothing is left.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use serde_json::json;

use super::{
    bed::{Bed, PATIENCE, inside},
    container,
    fused::{Fuse, Fused, Stops},
    lines::Lines,
};
use crate::resources::PODS;

/// One life of the agent, on threads of its own that are gone at its end: until
/// the fuse is out or what is waited for has come. Answers whether that came.
fn live(bed: &Bed, length: i64, until: impl AsyncFn()) -> bool {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let came = threads.block_on(async {
        let fuse = Fuse::of(length);
        let fuse_of_it = fuse.clone();
        let fused = |inner| Fused { fuse: fuse_of_it, ..Fused::new(inner) };
        let node = bed.start_on(move |inner| Arc::new(fused(inner))).await;
        let came = tokio::select! {
            () = fuse.out.notified() => false,
            () = until() => true,
        };
        node.shutdown();
        came
    });
    // What a thread has begun it ends, as a killed process's system call does.
    threads.shutdown_timeout(PATIENCE);
    came
}

/// Processes whose command line has this text, without those whose parent has it
/// too: a shell's child is a copy of it until it has become another program.
fn processes(text: &str) -> usize {
    let all = fs::read_dir("/proc").expect("mounted").flatten();
    let parents: BTreeMap<String, String> = all
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            if !String::from_utf8_lossy(&line).replace('\0', " ").contains(text) {
                return None;
            }
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((entry.file_name().to_string_lossy().into_owned(), parent.trim().to_owned()))
        })
        .collect();
    parents.values().filter(|parent| !parents.contains_key(*parent)).count()
}

fn mounts_below(path: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("mounted");
    let path = path.to_str().expect("text");
    all.lines().filter(|line| line.contains(path)).map(str::to_owned).collect()
}

fn cgroups_of(prefix: &str) -> usize {
    let mut todo = vec![Path::new("/sys/fs/cgroup").to_owned()];
    let mut found = 0;
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                continue;
            }
            let text = path.to_string_lossy().into_owned();
            // Those above the pods stay.
            found += usize::from(
                text.contains(prefix) && text.contains("/pod") && {
                    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("podu"))
                },
            );
            if text.contains(prefix) || text.matches('/').count() < 5 {
                todo.push(path);
            }
        }
    }
    found
}

#[test]
fn an_agent_that_dies_anywhere_is_followed_by_one_that_goes_on() {
    if !inside("crash::an_agent_that_dies_anywhere_is_followed_by_one_that_goes_on") {
        return;
    }
    // Each pod's processes are told apart by how long they sleep.
    let script = |seconds: i64| format!("trap 'exit 0' TERM; sleep {seconds} & wait");
    let bed = Bed::new();
    let mut sleeps = 7_000_000;
    let mut story = |name: &str, starting: i64, ending: i64| -> (bool, bool) {
        sleeps += 10;
        let main = json!({"name": "main", "command": ["sh", "-c", script(sleeps)],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let sidecar = json!({"name": "side", "restartPolicy": "Always",
            "command": ["sh", "-c", script(sleeps + 1)]});
        let init = json!({"name": "init", "command": ["touch", "/v/x"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
            "initContainers": [sidecar, init], "containers": [main],
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]});
        let now = tokio::runtime::Builder::new_current_thread().build().expect("a thread");
        now.block_on(bed.bind(name, spec));
        let whole_start = live(&bed, starting, async || bed.until_ready(name).await);
        let ready = live(&bed, i64::MAX, async || bed.until_ready(name).await);
        assert!(ready);
        for (seconds, what) in [(sleeps, "main"), (sleeps + 1, "the sidecar")] {
            // The shell, that is, whether or not it has come to its sleep.
            let running = processes(&format!("sleep {seconds} &"));
            assert_eq!(running, 1, "{name}: {what} runs once");
        }
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 5}));
        let gone = async || bed.until(name, "gone", |pod| pod.is_none()).await;
        let whole_end = live(&bed, ending, gone);
        assert!(live(&bed, i64::MAX, async || {
            gone().await;
            bed.until_nothing_is_left().await;
        }));
        assert_eq!(processes(&format!("sleep {sleeps}")), 0, "{name}: main is gone");
        assert_eq!(processes(&format!("sleep {}", sleeps + 1)), 0, "{name}: the sidecar is gone");
        assert_eq!(mounts_below(bed.dir.path()), Vec::<String>::new(), "{name}");
        assert_eq!(netlink::pod_link::list().expect("listed"), [], "{name}");
        assert_eq!(cgroups_of(bed.prefix()), 0, "{name}: a cgroup stays");
        (whole_start, whole_end)
    };
    let mut length = 0;
    loop {
        let (started, ended) = story(&format!("web-{length}"), length, length);
        if started && ended {
            break;
        }
        length += 1;
        assert!(length < 500, "the story never ends by itself");
    }
    println!("died at {length} places of starting and ending");
    assert!(length > 10, "it hardly waited for anything: {length}");
}

/// Who reads a file of a static pod breaks off: that is who looks after all pods.
static READER_BREAKS: AtomicBool = AtomicBool::new(false);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_task_that_breaks_off_starts_again_and_pods_run_through() {
    if !inside("crash::the_pods_task_that_breaks_off_starts_again_and_pods_run_through") {
        return;
    }
    let lines = Lines::capture();
    let bed = Bed::tuned(|config| {
        let statics = config.static_pods.as_mut().expect("the bed's");
        let read = statics.read.clone();
        statics.read = Arc::new(move |bytes| {
            let breaks = READER_BREAKS.swap(false, Ordering::SeqCst);
            assert!(!breaks, "as this story wants it");
            read(bytes)
        });
    });
    let _node = bed.start().await;
    bed.bind("before", json!({"containers": [container("sleep 600")]})).await;
    bed.until_ready("before").await;
    let containers =
        |name: &str| bed.pod(name).expect("there")["status"]["containerStatuses"].clone();
    let before = containers("before");
    READER_BREAKS.store(true, Ordering::SeqCst);
    let file = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "file"},
        "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "600"],
            "terminationMessagePath": "/dev/termination-log"}]}});
    fs::write(bed.dir.path().join("manifests/file.yaml"), file.to_string()).expect("written");
    // What broke it off is done by the next, which knows the pods of before.
    bed.until_ready("file-n1").await;
    bed.bind("after", json!({"containers": [container("sleep 600")]})).await;
    bed.until_ready("after").await;
    assert_eq!(containers("before"), before);
    bed.cluster.delete_with(PODS, "default/before", json!({"gracePeriodSeconds": 0}));
    bed.until("before", "gone", |pod| pod.is_none()).await;
    assert_eq!(
        lines.with("broke off"),
        [
            "ERROR a task of the node broke off: it starts again after a pause task=\"pods\" seconds=1"
        ]
    );
    let told = "TaskFailed: pods: a task of the node broke off: it starts again after a pause";
    bed.until_event("n1", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_breaks_off_starts_again_by_itself() {
    if !inside("crash::a_worker_that_breaks_off_starts_again_by_itself") {
        return;
    }
    let lines = Lines::capture();
    let bed = Bed::new();
    let trap = Arc::new(AtomicBool::new(false));
    let _node = bed
        .start_on({
            let trap = trap.clone();
            move |inner| Arc::new(Fused { trap, ..Fused::new(inner) })
        })
        .await;
    let script = "until test -e /v/end; do sleep 0.05; done; exit 3";
    let mut main = container(script);
    main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [main], "volumes": volumes});
    bed.bind("ends", spec).await;
    bed.until_ready("ends").await;
    let name = &bed.pod("ends").expect("there")["metadata"]["uid"];
    let below = "volumes/kubernetes.io~empty-dir/v/end";
    let end = bed.dir.path().join("kubelet/pods").join(name.as_str().expect("a uid")).join(below);
    trap.store(true, Ordering::SeqCst);
    fs::write(end, "").expect("written");
    bed.until("ends", "failed", |p| p.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let status = bed.pod("ends").expect("there")["status"]["containerStatuses"][0].clone();
    assert_eq!(status["state"]["terminated"]["exitCode"], 3, "{status:#}");
    assert_eq!(
        lines.with("broke off"),
        [
            "ERROR a pod's worker broke off: it starts again after a pause pod=\"default/ends\" seconds=1"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_see_what_runs_waits_with_giving_addresses() {
    if !inside("crash::an_agent_that_cannot_see_what_runs_waits_with_giving_addresses") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let spec = || json!({"restartPolicy": "Always", "containers": [container("sleep 600")]});
    bed.bind("before", spec()).await;
    bed.until_ready("before").await;
    node.shutdown();
    drop(node);
    bed.bind("after", spec()).await;
    let blind = AtomicI64::new(2);
    let _node = bed.start_on(move |inner| Arc::new(Fused { blind, ..Fused::new(inner) })).await;
    bed.until_ready("after").await;
    let ip = |name: &str| bed.pod(name).expect("there")["status"]["podIP"].clone();
    assert_ne!(ip("before"), ip("after"));
    for name in ["before", "after"] {
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 0}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_shape_is_not_understood_keeps_its_files() {
    if !inside("crash::a_pod_whose_shape_is_not_understood_keeps_its_files") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let mut main = container("trap 'exit 0' TERM; sleep 1000 & wait");
    main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let spec = || json!({"containers": [main], "volumes": volumes});
    bed.bind("strange", spec()).await;
    bed.until_ready("strange").await;
    let uid = bed.target("strange", "main").uid;
    let pods = bed.dir.path().join("kubelet/pods");
    let file = pods.join(uid).join("volumes/kubernetes.io~empty-dir/v/file");
    fs::write(&file, "").expect("written");
    node.shutdown();
    drop(node);
    fs::create_dir(pods.join("stray")).expect("made");
    let shape = |grace: serde_json::Value| {
        bed.cluster.edit(PODS, "default/strange", |pod| {
            pod["spec"]["terminationGracePeriodSeconds"] = grace;
        });
    };
    shape("soon".into());
    let _node = bed.start().await;
    bed.bind("after", spec()).await;
    bed.until_ready("after").await;
    assert!(!pods.join("stray").exists(), "the list is judged by");
    assert!(file.exists(), "its container runs");
    shape(1.into());
    for name in ["strange", "after"] {
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 0}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    bed.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_breaks_off_has_no_other_done_twice() {
    if !inside("crash::a_step_that_breaks_off_has_no_other_done_twice") {
        return;
    }
    let bed = Bed::new();
    let stops = Arc::new(Stops::default());
    let of_node = stops.clone();
    let _node =
        bed.start_on(move |inner| Arc::new(Fused { stops: of_node, ..Fused::new(inner) })).await;
    let hooks = bed.dir.path().join("hooks");
    fs::create_dir(&hooks).expect("made");
    let one = |name: &str| {
        let hook = json!({"exec": {"command": ["sh", "-c", format!("echo {name} >> /hooks/ran")]}});
        json!({"name": name, "command": ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"],
            "lifecycle": {"preStop": hook}, "volumeMounts": [{"name": "v", "mountPath": "/hooks"}]})
    };
    let spec = json!({"terminationGracePeriodSeconds": 3, "containers": [one("one"), one("other")],
        "volumes": [{"name": "v", "hostPath": {"path": hooks}}]});
    bed.bind("two", spec).await;
    bed.until_ready("two").await;
    stops.breaks.store(true, Ordering::SeqCst);
    bed.cluster.delete_with(PODS, "default/two", json!({"gracePeriodSeconds": 3}));
    bed.until("two", "gone", |pod| pod.is_none()).await;
    assert!(!stops.breaks.load(Ordering::SeqCst), "one has broken off");
    assert_eq!(stops.most(), 1);
    let ran = fs::read_to_string(hooks.join("ran")).expect("written");
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    assert_eq!(ran, ["one", "other"], "each hook once");
}

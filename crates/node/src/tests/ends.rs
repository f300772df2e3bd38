//! What the node does of itself to all its pods: it ends them where the machine shuts
//! down, keeps them to their share, and forgets what is left of ended ones where the
//! disk is short.

use std::fs;

use serde_json::{Value, json};
use tunnel::LogOptions;

use super::{
    SERVE,
    bed::{Bed, PATIENCE, inside},
    container,
};
use crate::{
    Eviction, ShutdownGrace,
    resources::{NODES, PODS},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_shuts_down_ends_its_pods_in_order() {
    if !inside("ends::a_machine_that_shuts_down_ends_its_pods_in_order") {
        return;
    }
    let bed = Bed::tuned(|config| {
        let flags = ["shutdown-grace-period", "shutdown-grace-period-critical-pods"];
        let of = |flag: &str| match flags.iter().position(|known| *known == flag) {
            Some(0) => vec!["40s".to_owned()],
            Some(_) => vec!["20s".to_owned()],
            None => Vec::new(),
        };
        config.shutdown = ShutdownGrace::read(of).expect("well written");
    });
    let node = bed.start().await;
    let log = bed.dir.path().join("order");
    fs::create_dir(&log).expect("made");
    for (name, priority) in [("plain", 0), ("critical", 2_000_000_000)] {
        let script = format!(
            "trap 'sleep 0.3; echo {name} >> /order/log; exit 0' TERM; touch /up; sleep 1000 & wait"
        );
        let mut main = container(&script);
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/order"}]);
        main["readinessProbe"] =
            json!({"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1});
        bed.bind(
            name,
            json!({"containers": [main], "priority": priority, "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 15, "volumes": [{"name": "v", "hostPath": {"path": log}}]}),
        )
        .await;
        bed.until_ready(name).await;
    }
    tokio::time::timeout(PATIENCE, node.end_pods()).await.expect("it ends");
    assert_eq!(fs::read_to_string(log.join("log")).expect("written"), "plain\ncritical\n");
    // All of it has been told by then.
    let message = "Pod was terminated in response to imminent node shutdown.";
    for name in ["plain", "critical"] {
        let status = bed.pod(name).expect("there")["status"].clone();
        assert_eq!(
            (&status["phase"], &status["reason"], &status["message"]),
            (&json!("Failed"), &json!("Terminated"), &json!(message)),
            "{status:#}"
        );
        let of = |kind: &str| {
            let all = status["conditions"].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
        };
        assert_eq!(of("DisruptionTarget")["reason"], "TerminationByKubelet");
        assert_eq!(of("Ready")["status"], "False");
    }
    let object = bed.cluster.get(NODES, "n1").expect("there");
    let conditions = object["status"]["conditions"].as_array().expect("a list");
    let ready = conditions.iter().find(|c| c["type"] == "Ready").expect("told");
    assert_eq!(
        (&ready["status"], &ready["reason"], &ready["message"]),
        (&json!("False"), &json!("KubeletNotReady"), &json!("node is shutting down"))
    );
    // Who comes now is too late.
    bed.bind("late", json!({"containers": [container(SERVE)], "restartPolicy": "Never"})).await;
    bed.until("late", "refused", |pod| {
        pod.is_some_and(|pod| pod["status"]["reason"] == "NodeShutdown")
    })
    .await;
    bed.until_event("late", "NodeShutdown: Pod was rejected as the node is shutting down.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_ended_pods_goes_where_the_disk_is_short() {
    if !inside("ends::what_is_left_of_ended_pods_goes_where_the_disk_is_short") {
        return;
    }
    // Any disk is that full.
    let bed = Bed::tuned(|config| {
        let of = |flag: &str| match flag {
            "eviction-hard" => vec!["nodefs.available<100%".to_owned()],
            _ => Vec::new(),
        };
        config.eviction = Eviction::read(of).expect("well written");
    });
    let node = bed.start().await;
    // The system's own pods are taken all the same, and not evicted.
    let pod = |script: &str| json!({"containers": [container(script)], "priority": 2_000_000_000, "restartPolicy": "Never"});
    bed.bind("stays", pod(SERVE)).await;
    bed.until_ready("stays").await;
    bed.bind("ended", pod("echo said; exit 3")).await;
    bed.until("ended", "over", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let layers = || -> usize {
        let sandboxes = fs::read_dir(bed.dir.path().join("runtime/sandboxes")).expect("there");
        let containers = |sandbox: fs::DirEntry| fs::read_dir(sandbox.path().join("containers"));
        sandboxes.flatten().filter_map(|s| containers(s).ok()).flatten().count()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // The node knows of that a moment after its folder is gone, and nobody can read its log.
    while layers() > 1 || bed.logs(&node, "ended", LogOptions::default()).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the ended container stays");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The API knows how it ended.
    let status = &bed.pod("ended").expect("there")["status"];
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&status["phase"], &ended["exitCode"]), (&json!("Failed"), &json!(3)), "{status:#}");
    let running: Value =
        bed.pod("stays").expect("there")["status"]["containerStatuses"][0]["state"].clone();
    assert!(running["running"].is_object(), "{running:#}");
    assert_eq!(bed.run(&node, "stays", "echo still here").await.0, "still here\n");
    for name in ["stays", "ended"] {
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 1}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    bed.until_nothing_is_left().await;
}

/// A pod that somebody else has ended in the API may have been replaced since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_has_as_ended_ends_here() {
    if !inside("ends::what_the_api_has_as_ended_ends_here") {
        return;
    }
    let bed = Bed::new();
    let _node = bed.start().await;
    // Ready once it hears a signal: before that the first process of all is not ended by it.
    let mut hears = container("trap 'exit 0' TERM; touch /hears; sleep 1000 & wait");
    let look = json!(["test", "-e", "/hears"]);
    hears["readinessProbe"] = json!({"exec": {"command": look}, "periodSeconds": 1});
    for (name, phase) in [("failed", "Failed"), ("succeeded", "Succeeded")] {
        bed.bind(name, json!({"containers": [hears], "restartPolicy": "Always"})).await;
        bed.until_ready(name).await;
        bed.cluster.edit(PODS, &format!("default/{name}"), |pod| {
            pod["status"]["phase"] = phase.into();
            pod["status"]["reason"] = "Other".into();
            pod["status"]["message"] = "Said by somebody else".into();
        });
        bed.until(name, "ended", |pod| {
            let state = pod.map(|p| &p["status"]["containerStatuses"][0]["state"]);
            state.is_some_and(|state| state["terminated"]["exitCode"] == 0)
        })
        .await;
        let status = bed.pod(name).expect("there")["status"].take();
        let said = ["phase", "reason", "message"].map(|field| status[field].clone());
        assert_eq!(said, [phase, "Other", "Said by somebody else"], "{status:#}");
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 1}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    bed.until_nothing_is_left().await;
}

/// What the kernel has for a cgroup: of one file of v1, or of the other of v2.
fn limit_of(cgroup: &str, v1: (&str, &str), v2: &str) -> String {
    let (controller, file) = v1;
    let paths = [
        format!("/sys/fs/cgroup/{controller}/{cgroup}/{file}"),
        format!("/sys/fs/cgroup/{cgroup}/{v2}"),
    ];
    // Empty until there is such a cgroup.
    let read = paths.iter().find_map(|path| fs::read_to_string(path).ok());
    read.unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_together_are_kept_to_what_the_node_has_for_them() {
    if !inside("ends::pods_together_are_kept_to_what_the_node_has_for_them") {
        return;
    }
    let bed = Bed::tuned(|config| {
        config.reserved =
            Some(crate::Reserved { cpu_millis: 500, memory_bytes: 1 << 30, storage_bytes: 0 });
    });
    let _node = bed.start().await;
    let mut main = container(SERVE);
    main["resources"] = json!({"requests": {"cpu": "250m"}});
    bed.bind("burstable", json!({"containers": [main], "restartPolicy": "Always"})).await;
    bed.until_ready("burstable").await;
    let memory = || -> u64 {
        let text = limit_of(bed.prefix(), ("memory", "memory.limit_in_bytes"), "memory.max");
        text.parse().unwrap_or(u64::MAX)
    };
    let meminfo = fs::read_to_string("/proc/meminfo").expect("there");
    let all = crate::usage::machine::memory(&meminfo).expect("understood").total;
    let shares = |below: &str| {
        let cgroup = format!("{}{below}", bed.prefix());
        limit_of(&cgroup, ("cpu", "cpu.shares"), "cpu.weight")
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // 256 of 1024, or the weight that is as much.
    let is_so = || {
        memory() <= all - (1 << 30)
            && ["256", "35"].contains(&&*shares("/pods/burstable"))
            && ["2", "1"].contains(&&*shares("/pods/besteffort"))
    };
    while !is_so() {
        let now = (memory(), shares("/pods/burstable"), shares("/pods/besteffort"));
        assert!(tokio::time::Instant::now() < deadline, "{now:?} of {all}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

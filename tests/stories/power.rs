//! Pulling the plug on the server, again and again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::cluster::Cluster;

#[test]
fn no_acknowledged_write_is_lost_over_many_kills() {
    let Some(mut cluster) = Cluster::start() else { return };
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let stop = stop.clone();
                let mut commands: Vec<(String, std::process::Command)> = (0..40)
                    .map(|n| {
                        let name = format!("w{round}-{writer}-{n}");
                        let command = cluster.kubectl_command(&[
                            "create",
                            "configmap",
                            &name,
                            "--from-literal=a=b",
                        ]);
                        (name, command)
                    })
                    .collect();
                std::thread::spawn(move || {
                    let mut done = Vec::new();
                    for (name, command) in &mut commands {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let output = command.output().expect("kubectl runs");
                        if output.status.success() {
                            done.push(name.clone());
                        }
                    }
                    done
                })
            })
            .collect();
        // The plug is pulled once the writers know of four that were written in this round.
        let first = format!("configmap/w{round}-0-4");
        while !cluster.kubectl(&format!("get {first}")).success {
            assert!(!writers.iter().all(|writer| writer.is_finished()), "the writers write");
        }
        cluster.kill_server();
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.join().expect("the writer does not panic"));
        }
        cluster.start_server();
    }
    let stored = cluster.kubectl("get configmaps -o name").ok().stdout;
    assert!(acknowledged.len() >= 16, "{} writes", acknowledged.len());
    for name in acknowledged {
        assert!(
            stored.lines().any(|line| line == format!("configmap/{name}")),
            "{name} was acknowledged and is gone"
        );
    }
}

#[test]
fn running_pods_keep_every_log_line_and_exit_code_over_a_kill() {
    // For as long as it takes to see it ready on a loaded machine, and to kill the server.
    const LINES: u32 = 500;
    let Some(mut cluster) = Cluster::start() else { return };
    let counter = |name: &str, lines: u32| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, containers: [{{name: c, image: skiff.local/toolbox, args: [count, --every, '20', --count, '{lines}', --exit, '5']}}]}}\n---\n"
        )
    };
    cluster.apply(&counter("counter", LINES)).ok();
    cluster.kubectl("wait --for=condition=Ready pod/counter --timeout=180s").ok();
    // The container ends while nobody looks.
    cluster.kill_server();
    cluster.start_server();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Failed pod/counter --timeout=180s").ok();
    let lines = cluster.kubectl("logs counter").ok().stdout;
    let expected: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "every line, once, in order");
    cluster
        .kubectl(
            "get pod counter -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}",
        )
        .prints("5");
}

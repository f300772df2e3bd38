//! A rolling update and a rollback while clients ask all the time.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::Cluster;

fn web(text: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: skiff.local/toolbox
        args: [http-echo, --port, "8080", --text, {text}, --drain, "2"]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#
    )
}

#[test]
fn no_request_fails_through_update_and_rollback() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(&web("first")).ok();
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    cluster.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: client}\nspec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}").ok();
    cluster.kubectl("wait --for=condition=Ready pod/client --timeout=180s").ok();
    // The node learns of the first pods a moment after they are ready.
    cluster.comes_to_print("exec client -- toolbox get http://web/", "first");
    let over = AtomicBool::new(false);
    let ask = || {
        let mut answers = Vec::new();
        while !over.load(Ordering::Relaxed) {
            answers.push(
                cluster.kubectl("exec client -- toolbox get --loop 200 --every 2 http://web/"),
            );
        }
        answers
    };
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        // A story that fails must not leave the asking thread behind.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            update_and_roll_back(&cluster)
        }));
        over.store(true, Ordering::Relaxed);
        let answers = asking.join().expect("the asking thread does not panic");
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        answers
    });
    assert!(!answers.is_empty());
    for answer in answers {
        answer.prints(" 0 failed");
    }
}

fn update_and_roll_back(cluster: &Cluster) {
    cluster.apply(&web("second")).ok();
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    cluster.kubectl("rollout history deployment/web").prints("2");
    cluster.kubectl("rollout undo deployment/web").prints("rolled back");
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    cluster
        .kubectl("get deployment web -o jsonpath={.spec.template.spec.containers[0].args}")
        .prints("first");

    cluster.kubectl("rollout pause deployment/web").ok();
    cluster.kubectl("set env deployment/web A=b").ok();
    let sets = cluster.get("replicasets -l app=web");
    assert_eq!(
        sets["items"].as_array().map(Vec::len),
        Some(2),
        "a paused Deployment makes no ReplicaSet"
    );
    cluster.kubectl("rollout resume deployment/web").ok();
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
}

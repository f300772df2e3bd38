//! Nodes that answer, and one that does not.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::{FakeCluster, node, pod};
use tunnel::{BoxFuture, NodeStreams, Nodes, Open, OpenError, Output, ServerEnd};

use crate::{NODES, PODS, ResourceMetrics};

/// A node of a name that says so much of one pod; a silent one never does.
struct Answers {
    name: &'static str,
    pod: &'static str,
    silent: bool,
}

impl NodeStreams for Answers {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        assert_eq!(open, Open::Page(crate::PAGE.into()));
        let cpu = json!({"time": "2026-01-01T00:00:00Z", "usageNanoCores": 7, "window": "10s"});
        let stats = json!({"name": "main", "cpu": cpu, "memory": {"workingSetBytes": 1024}});
        let summary = json!({
            "node": {"nodeName": self.name, "cpu": cpu, "memory": {"workingSetBytes": 2048}},
            "pods": [{"podRef": {"name": self.pod, "namespace": "default", "uid": "u"},
                "containers": [stats]}],
        });
        let silent = self.silent;
        Box::pin(async move {
            let (server, node) = tunnel::pair();
            tokio::spawn(async move {
                if silent {
                    return std::future::pending().await;
                }
                let text = summary.to_string();
                let (head, tail) = text.split_at(20);
                for part in [head, tail] {
                    let part = Bytes::copy_from_slice(part.as_bytes());
                    node.output.send(Output::Stdout(part)).await.expect("somebody reads");
                }
            });
            Ok(server)
        })
    }
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_left_out_after_its_time() {
    let cluster = FakeCluster::new();
    let nodes = Arc::new(Nodes::default());
    for (name, of, silent) in [("n1", "a", false), ("n2", "b", false), ("n3", "c", true)] {
        cluster.create(NODES, &node(name));
        let pod = pod(&format!("default/{of}"))
            .label("app", of)
            .set("/spec/nodeName", json!(name))
            .set("/status/phase", json!("Running"));
        cluster.create(PODS, &pod);
        nodes.insert(name, Arc::new(Answers { name, pod: of, silent }));
    }
    cluster.create(NODES, &node("gone"));
    cluster.create(PODS, &pod("default/pending"));
    let usage = ResourceMetrics::new(nodes, Arc::new(|| Timestamp::UNIX_EPOCH));
    assert_eq!(usage.nodes("", "").await.expect_err("no API yet").code, 503);
    usage.ask_with(cluster.api());
    let start = tokio::time::Instant::now();
    let told = usage.nodes("", "").await.expect("listed");
    assert_eq!(names(&told), ["n1", "n2"]);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let told = usage.pods("", "", "").await.expect("listed");
    assert_eq!(names(&told), ["a", "b"]);
    // Only the nodes of the pods that are meant are asked.
    let start = tokio::time::Instant::now();
    let told = usage.pods("default", "", "app=b").await.expect("listed");
    assert_eq!(names(&told), ["b"]);
    assert_eq!(told[0]["metadata"]["labels"], json!({"app": "b"}));
    let told = usage.pods("default", "a", "").await.expect("listed");
    assert_eq!(names(&told), ["a"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

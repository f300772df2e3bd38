//! A node with as many pods as it may have.

use serde_json::json;

use super::{
    bed::{Bed, inside},
    container,
};
use crate::resources::PODS;

const PODS_MAX: usize = 110;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_ten_pods_run_and_one_more_does_not() {
    if !inside("full::a_hundred_and_ten_pods_run_and_one_more_does_not") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    let names: Vec<String> = (0..PODS_MAX).map(|n| format!("web-{n}")).collect();
    let spec = json!({"restartPolicy": "Always",
        "containers": [container("trap 'exit 0' TERM; sleep 1000 & wait")]});
    for name in &names {
        bed.bind(name, spec.clone()).await;
    }
    let ids = async || {
        let mut ids = Vec::new();
        for name in &names {
            bed.until_ready(name).await;
            let status = &bed.pod(name).expect("there")["status"];
            ids.push((
                status["podIP"].clone(),
                status["containerStatuses"][0]["containerID"].clone(),
            ));
        }
        ids
    };
    let first = ids().await;
    let mut addresses: Vec<String> = first.iter().map(|(ip, _)| ip.to_string()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), PODS_MAX, "each has an address of its own");

    let refused = async |name: &str| {
        bed.bind(name, spec.clone()).await;
        let ended = "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110$";
        bed.until_event(name, ended).await;
    };
    refused("too-many").await;

    // Another agent adopts them all before it takes one more.
    node.shutdown();
    drop(node);
    let node = bed.start().await;
    assert_eq!(ids().await, first, "none was started again");
    refused("too-many-still").await;

    for name in &names {
        let options = json!({"gracePeriodSeconds": 1});
        bed.cluster.delete_with(PODS, &format!("default/{name}"), options);
    }
    for name in &names {
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    for name in ["too-many", "too-many-still"] {
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 0}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    bed.until_nothing_is_left().await;
    drop(node);
}

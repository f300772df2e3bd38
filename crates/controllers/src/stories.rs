//! Stories of all controllers together on a cluster in memory. Time is
//! paused: a sleep ends when everybody else is idle.

use std::time::Duration;

use client::Resource;
use serde_json::{Value, json};
use testkit::FakeCluster;

use crate::{Settings, cached::*};

struct Story {
    cluster: FakeCluster,
    task: tokio::task::JoinHandle<()>,
}

impl Story {
    fn start(cluster: FakeCluster) -> Self {
        Self::start_with(cluster, Settings::default())
    }

    fn start_with(cluster: FakeCluster, settings: Settings) -> Self {
        let run = crate::run(cluster.api(), cluster.ambient(), settings, std::future::pending());
        Self { task: tokio::spawn(run), cluster }
    }

    /// Waits until nobody has anything left to do.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    fn names(&self, resource: Resource) -> Vec<String> {
        let objects = self.cluster.list(resource);
        let name = |o: &Value| o["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        objects.iter().map(name).collect()
    }

    fn conditions(&self, resource: Resource, key: &str) -> Vec<String> {
        let object = self.cluster.get(resource, key).expect("it is there");
        let line = |c: &Value| {
            let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
            format!("{}={} {}", text("type"), text("status"), text("reason"))
        };
        object["status"]["conditions"].as_array().into_iter().flatten().map(line).collect()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn one_node() -> FakeCluster {
    FakeCluster::new().with_kubelet().with_node("n1")
}

#[tokio::test(start_paused = true)]
async fn a_deployment_gets_its_pods_and_a_service_their_addresses() {
    let story = Story::start(one_node());
    story.cluster.create(SERVICES, &testkit::service("default/web"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 3));
    story.settle().await;

    let deployment = story.cluster.get(DEPLOYMENTS, "default/web").expect("it is there");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let status = &deployment["status"];
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[count], 3, "{count} in {status}");
    }
    assert_eq!(status["unavailableReplicas"], Value::Null);
    assert_eq!(
        story.conditions(DEPLOYMENTS, "default/web"),
        ["Available=True MinimumReplicasAvailable", "Progressing=True NewReplicaSetAvailable"]
    );
    let pods = story.cluster.list(PODS);
    assert_eq!(pods.len(), 3);
    let set = &story.names(REPLICA_SETS)[0];
    assert!(pods.iter().all(|pod| pod["metadata"]["ownerReferences"][0]["name"] == json!(set)));

    let slices = story.cluster.list(ENDPOINT_SLICES);
    assert_eq!(slices.len(), 1);
    let endpoints = slices[0]["endpoints"].as_array().expect("a list");
    assert_eq!(endpoints.len(), 3);
    assert!(endpoints.iter().all(|e| e["conditions"]["ready"] == true && e["nodeName"] == "n1"));
    assert_eq!(slices[0]["ports"], json!([{"name": "http", "protocol": "TCP", "port": 8080}]));
    assert_eq!(slices[0]["metadata"]["labels"]["kubernetes.io/service-name"], "web");

    let events = story.cluster.events();
    let scaled = format!("ScalingReplicaSet: Scaled up replica set {set} from 0 to 3");
    assert!(events.contains(&scaled), "{events:?}");
    assert_eq!(events.iter().filter(|e| e.starts_with("SuccessfulCreate")).count(), 3);

    let revision = story.cluster.revision();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(story.cluster.revision(), revision, "a settled cluster writes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_new_template_rolls_out_and_rolls_back() {
    let story = Story::start(one_node());
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 4));
    story.settle().await;
    let first = story.names(REPLICA_SETS)[0].clone();
    let image = |image: &'static str| {
        move |d: &mut Value| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image)
    };
    story.cluster.edit(DEPLOYMENTS, "default/web", image("web:2"));
    story.settle().await;
    let sets = story.cluster.list(REPLICA_SETS);
    assert_eq!(sets.len(), 2);
    let size = |name: &str| {
        let set = story.cluster.get(REPLICA_SETS, &format!("default/{name}")).expect("there");
        (set["spec"]["replicas"].clone(), set["metadata"]["annotations"].clone())
    };
    let second = story.names(REPLICA_SETS).into_iter().find(|n| *n != first).expect("two");
    assert_eq!((size(&first).0, size(&second).0), (json!(0), json!(4)));
    assert_eq!(size(&second).1["deployment.kubernetes.io/revision"], "2");
    // `kubectl rollout undo` puts the old template back.
    story.cluster.edit(DEPLOYMENTS, "default/web", image("web"));
    story.settle().await;
    assert_eq!((size(&first).0, size(&second).0), (json!(4), json!(0)));
    assert_eq!(size(&first).1["deployment.kubernetes.io/revision"], "3");
    assert_eq!(size(&first).1["deployment.kubernetes.io/revision-history"], "1");
    let deployment = story.cluster.get(DEPLOYMENTS, "default/web").expect("it is there");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(deployment["status"]["updatedReplicas"], 4);
}

#[tokio::test(start_paused = true)]
async fn controllers_survive_broken_and_expired_watches() {
    let story = Story::start(one_node());
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 2));
    story.settle().await;
    story.cluster.cut_watches();
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(3));
    story.cluster.forget_history();
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 3);
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(1));
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 1);
}

//! Stories of all controllers together on a cluster in memory. Time is
//! paused: a sleep ends when everybody else is idle.

use std::time::Duration;

use client::{Api, Resource};
use serde_json::{Value, json};
use testkit::FakeCluster;

use crate::{Settings, cached::*};

pub(crate) struct Story {
    pub(crate) cluster: FakeCluster,
    task: tokio::task::JoinHandle<()>,
}

impl Story {
    pub(crate) fn start(cluster: FakeCluster) -> Self {
        Self::start_with(cluster, Settings::default())
    }

    pub(crate) fn start_with(cluster: FakeCluster, settings: Settings) -> Self {
        Self::start_through(cluster.api(), cluster, settings)
    }

    /// The same over a connection that a test makes worse.
    pub(crate) fn start_through(api: Api, cluster: FakeCluster, settings: Settings) -> Self {
        let run =
            crate::run(move |_| api.clone(), cluster.ambient(), settings, std::future::pending());
        Self { task: tokio::spawn(run), cluster }
    }

    /// Waits until nobody has anything left to do.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    /// The same in less time: nodes whose kubelet is none are not yet silent
    /// after many of these.
    pub(crate) async fn moment(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// Lets time pass in which the node `alive` speaks all the while: pods leave
    /// no node where all are silent.
    async fn pass(&self, seconds: u64) {
        for beat in 0..seconds / 10 {
            self.cluster.edit(NODES, "alive", |node| {
                let time = jiff::Timestamp::from_second(1_700_000_000 + beat as i64 * 10);
                let time = api_object::time::format_seconds(time.expect("in range"));
                node["status"]["conditions"][0]["lastHeartbeatTime"] = json!(time);
            });
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    pub(crate) fn names(&self, resource: Resource) -> Vec<String> {
        let objects = self.cluster.list(resource);
        let name = |o: &Value| o["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        objects.iter().map(name).collect()
    }

    pub(crate) fn conditions(&self, resource: Resource, key: &str) -> Vec<String> {
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

pub(crate) fn one_node() -> FakeCluster {
    let cluster = FakeCluster::new().with_kubelet().with_node("n1");
    cluster.create(NODES, &testkit::node("n1"));
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_deployment_gets_its_pods_and_a_service_their_addresses() {
    let story = Story::start(one_node());
    story.cluster.create(SERVICES, &testkit::service("default/web"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 3));
    story.settle().await;

    let deployment = story.cluster.get(DEPLOYMENTS, "default/web").expect("it is there");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(deployment["metadata"]["generation"], 1, "nobody changed what is wanted");
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
    let triggered = &slices[0]["metadata"]["annotations"];
    assert!(triggered["endpoints.kubernetes.io/last-change-trigger-time"].is_string());

    let events = story.cluster.events();
    let scaled = format!("ScalingReplicaSet: Scaled up replica set {set} from 0 to 3");
    assert!(events.contains(&scaled), "{events:?}");
    assert_eq!(events.iter().filter(|e| e.starts_with("SuccessfulCreate")).count(), 3);

    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision, "a settled cluster writes nothing");
    // The node is silent, which is told once.
    tokio::time::sleep(Duration::from_secs(60)).await;
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

fn settings() -> Settings {
    Settings {
        signer: None,
        authentication: [("client-ca-file".to_owned(), "CA".to_owned())].into(),
        trust_bundle_name: "kubernetes.io:kube-apiserver-serving:0".into(),
        cluster_ca_pem: "PEM".into(),
        cluster: [("cluster-domain".to_owned(), "cluster.local".to_owned())].into(),
        pod_ranges: vec![
            crate::PodRange::new("10.42.0.0".parse().expect("an address"), 23).expect("valid"),
        ],
        kubernetes_service: Some(crate::KubernetesService {
            cluster_ip: "10.43.0.1".parse().expect("an address"),
            addresses: tokio::sync::watch::Sender::new(vec!["192.0.2.1:6443".to_owned()])
                .subscribe(),
            port: 6443,
        }),
        cluster_dns: vec!["10.43.0.10".parse().expect("an address")],
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_gets_what_every_cluster_has() {
    let story = Story::start_with(FakeCluster::new(), settings());
    story.settle().await;
    assert_eq!(
        story.names(NAMESPACES),
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
    assert_eq!(story.cluster.list(SERVICE_ACCOUNTS).len(), 4);
    let ca = story.cluster.get(CONFIG_MAPS, "kube-public/kube-root-ca.crt").expect("there");
    assert_eq!(ca["data"]["ca.crt"], "PEM");
    let kubernetes = story.cluster.get(SERVICES, "default/kubernetes").expect("there");
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.43.0.1");
    let slice = story.cluster.get(ENDPOINT_SLICES, "default/kubernetes").expect("there");
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    assert_eq!(slice["ports"][0]["port"], 6443);
    assert!(story.cluster.get(SERVICES, "kube-system/kube-dns").is_some());
    let told = story.cluster.get(CONFIG_MAPS, "kube-system/skiff-cluster").expect("there");
    assert_eq!(told["data"], json!({"cluster-domain": "cluster.local"}));
    // What is lost comes back, what was changed is put right.
    story.cluster.delete(SERVICE_ACCOUNTS, "default/default");
    story.cluster.edit(CONFIG_MAPS, "default/kube-root-ca.crt", |map| {
        map["data"] = json!({"ca.crt": "other", "more": "x"});
    });
    story.cluster.delete(ENDPOINT_SLICES, "default/kubernetes");
    story.settle().await;
    story.cluster.delete(ENDPOINTS, "default/kubernetes");
    story.settle().await;
    let endpoints = story.cluster.get(ENDPOINTS, "default/kubernetes").expect("there");
    assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "192.0.2.1"}]));
    assert!(story.cluster.get(SERVICE_ACCOUNTS, "default/default").is_some());
    let ca = story.cluster.get(CONFIG_MAPS, "default/kube-root-ca.crt").expect("there");
    assert_eq!(ca["data"], json!({"ca.crt": "PEM"}));
    assert!(story.cluster.get(ENDPOINT_SLICES, "default/kubernetes").is_some());
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision);
}

#[tokio::test(start_paused = true)]
async fn nodes_get_their_share_of_the_pod_network() {
    let story = Story::start_with(FakeCluster::new(), settings());
    let share = |name: &str| story.cluster.get(NODES, name).expect("there")["spec"].clone();
    for name in ["n1", "n2"] {
        story.cluster.create(NODES, &testkit::node(name));
    }
    story.settle().await;
    let mut shares = ["n1", "n2"].map(|name| share(name)["podCIDRs"].clone());
    shares.sort_by_key(Value::to_string);
    assert_eq!(shares, [json!(["10.42.0.0/24"]), json!(["10.42.1.0/24"])]);
    assert_eq!(share("n1")["podCIDR"], share("n1")["podCIDRs"][0]);
    // There is no third, until one goes.
    story.cluster.create(NODES, &testkit::node("n3"));
    story.settle().await;
    assert_eq!(share("n3").get("podCIDR"), None);
    let events = story.cluster.events();
    let told = "CIDRNotAvailable: Node n3 status is now: CIDRNotAvailable";
    assert!(events.contains(&told.to_owned()), "{events:?}");
    let freed = share("n1")["podCIDR"].clone();
    story.cluster.delete(NODES, "n1");
    story.settle().await;
    assert_eq!(share("n3")["podCIDR"], freed);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let story = Story::start_with(one_node(), settings());
    story.cluster.create(NAMESPACES, &testkit::namespace("team"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("team/web", 2));
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 2);
    // Something that somebody else must let go.
    let held = testkit::service("team/held").set("/metadata/finalizers", json!(["example.com/x"]));
    story.cluster.create(SERVICES, &held);
    story.cluster.delete(NAMESPACES, "team");
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 0);
    let conditions = story.conditions(NAMESPACES, "team");
    assert!(conditions.contains(&"NamespaceContentRemaining=True SomeResourcesRemain".to_owned()));
    let namespace = story.cluster.get(NAMESPACES, "team").expect("it waits");
    let messages = namespace["status"]["conditions"].to_string();
    assert!(messages.contains("services. has 1 resource instances"), "{messages}");
    assert!(messages.contains("example.com/x in 1 resource instances"), "{messages}");
    story.cluster.edit(SERVICES, "team/held", |s| s["metadata"]["finalizers"] = json!([]));
    story.settle().await;
    assert_eq!(story.cluster.get(NAMESPACES, "team"), None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_tainted_and_its_pods_leave_the_services() {
    let story = Story::start(one_node());
    story.cluster.create(NODES, &testkit::node("alive"));
    story.cluster.create(SERVICES, &testkit::service("default/web"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 1));
    story.settle().await;
    let endpoint = || story.cluster.list(ENDPOINT_SLICES)[0]["endpoints"][0].clone();
    assert_eq!(endpoint()["conditions"]["ready"], true);
    story.pass(60).await;
    let node = story.cluster.get(NODES, "n1").expect("there");
    let taints: Vec<_> =
        node["spec"]["taints"].as_array().expect("tainted").iter().map(|t| &t["key"]).collect();
    assert_eq!(taints, [&json!("node.kubernetes.io/unreachable"); 2]);
    assert_eq!(endpoint()["conditions"]["ready"], false);
    assert!(
        story
            .cluster
            .events()
            .contains(&"NodeNotReady: Node n1 status is now: NodeNotReady".into())
    );
    // It speaks again.
    story.cluster.edit(NODES, "n1", |node| {
        for condition in node["status"]["conditions"].as_array_mut().expect("a list") {
            let ready = condition["type"] == "Ready";
            condition["status"] = json!(if ready { "True" } else { "False" });
        }
    });
    story.settle().await;
    assert_eq!(story.cluster.get(NODES, "n1").expect("there")["spec"]["taints"], Value::Null);
    let told =
        || story.cluster.events().into_iter().filter(|event| event.contains("Node n1 event:"));
    assert_eq!(told().count(), 0, "it was there when the controllers began");
    // It goes for good: its pods cannot end by themselves.
    story.cluster.delete(NODES, "n1");
    let deployment = "default/web";
    story.cluster.edit(DEPLOYMENTS, deployment, |d| d["spec"]["replicas"] = json!(0));
    story.pass(60).await;
    assert_eq!(story.cluster.list(PODS).len(), 0);
    story.cluster.create(NODES, &testkit::node("n1"));
    story.settle().await;
    assert_eq!(
        told().collect::<Vec<_>>(),
        [
            "RemovingNode: Node n1 event: Removing Node n1 from Controller",
            "RegisteredNode: Node n1 event: Registered Node n1 in Controller",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_out_of_service_do_not_wait_for_it() {
    let story = Story::start(FakeCluster::new());
    let node = testkit::node("n1").set("/status/conditions/0/status", json!("False"));
    story.cluster.create(NODES, &node);
    story.cluster.create(PODS, &testkit::pod("default/stays").on("n1"));
    story.cluster.create(PODS, &testkit::pod("default/leaves").on("n1"));
    story.cluster.delete(PODS, "default/leaves");
    story.moment().await;
    assert_eq!(story.names(PODS), ["leaves", "stays"], "its kubelet may still end it");
    story.cluster.edit(NODES, "n1", |node| {
        node["spec"]["taints"] = json!([
            {"key": "node.kubernetes.io/out-of-service", "effect": "NoSchedule"},
        ]);
    });
    story.moment().await;
    assert_eq!(story.names(PODS), ["stays"]);
    let node = story.cluster.get(NODES, "n1").expect("there");
    assert_eq!(node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"], "0");
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_written_and_mirrored() {
    let story = Story::start(one_node());
    story.cluster.create(SERVICES, &testkit::service("default/web"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 2));
    let by_hand = testkit::service("default/by-hand").set("/spec/selector", Value::Null);
    story.cluster.create(SERVICES, &by_hand);
    let addresses = json!([{
        "addresses": [{"ip": "192.0.2.7"}],
        "notReadyAddresses": [{"ip": "192.0.2.8"}],
        "ports": [{"name": "http", "port": 80}],
    }]);
    let endpoints =
        testkit::pod("default/by-hand").set("/spec", Value::Null).set("/status", Value::Null);
    story.cluster.create(ENDPOINTS, &endpoints.set("/subsets", addresses));
    story.moment().await;
    let web = story.cluster.get(ENDPOINTS, "default/web").expect("written");
    let subset = &web["subsets"][0];
    assert_eq!(subset["addresses"].as_array().map(Vec::len), Some(2), "{web}");
    assert_eq!(subset["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(subset["addresses"][0]["targetRef"]["kind"], "Pod");
    let mirrored = || {
        let slices = story.cluster.list(ENDPOINT_SLICES);
        let of =
            |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "by-hand";
        let ready = |slice: &Value| {
            let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
            endpoints.iter().map(|e| json!([e["addresses"][0], e["conditions"]["ready"]])).collect()
        };
        slices
            .iter()
            .filter(of)
            .flat_map(|slice| -> Vec<Value> { ready(slice) })
            .collect::<Vec<_>>()
    };
    assert_eq!(mirrored(), [json!(["192.0.2.7", true]), json!(["192.0.2.8", false])]);
    story.cluster.edit(ENDPOINTS, "default/by-hand", |endpoints| {
        endpoints["subsets"][0]["addresses"] = json!([{"ip": "192.0.2.9"}]);
        endpoints["subsets"][0].as_object_mut().expect("a map").remove("notReadyAddresses");
    });
    story.moment().await;
    assert_eq!(mirrored(), [json!(["192.0.2.9", true])]);
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(0));
    story.moment().await;
    let web = story.cluster.get(ENDPOINTS, "default/web").expect("kept");
    assert_eq!(web["subsets"], Value::Null);
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision, "silent");
    story.cluster.delete(SERVICES, "default/web");
    story.cluster.delete(ENDPOINTS, "default/by-hand");
    story.moment().await;
    assert_eq!((mirrored(), story.names(ENDPOINTS)), (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn recreate_ends_all_old_pods_first() {
    // Pods end only when the test says so.
    let story = Story::start(FakeCluster::new().with_node("n1"));
    story.cluster.create(NODES, &testkit::node("n1"));
    let recreate = json!({"type": "Recreate"});
    let deployment = testkit::deployment("default/web", 2).set("/spec/strategy", recreate);
    story.cluster.create(DEPLOYMENTS, &deployment);
    story.settle().await;
    let old = story.names(PODS);
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    story.settle().await;
    assert_eq!(story.names(PODS), old, "they are on their way out, and nobody else comes");
    let end = |name: &String| story.cluster.remove(PODS, &format!("default/{name}"));
    end(&old[0]);
    story.settle().await;
    assert_eq!(story.names(PODS), old[1..]);
    end(&old[1]);
    story.settle().await;
    let new = story.names(PODS);
    assert!(new.len() == 2 && !new.contains(&old[0]) && !new.contains(&old[1]), "{new:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_hangs_is_told() {
    // There is no kubelet: nothing ever gets ready.
    let cluster = FakeCluster::new().with_node("n1").with_running_clock();
    cluster.create(NODES, &testkit::node("n1"));
    let story = Story::start(cluster);
    let deployment =
        testkit::deployment("default/web", 1).set("/spec/progressDeadlineSeconds", json!(60));
    story.cluster.create(DEPLOYMENTS, &deployment);
    story.settle().await;
    assert_eq!(
        story.conditions(DEPLOYMENTS, "default/web"),
        ["Available=False MinimumReplicasUnavailable", "Progressing=True ReplicaSetUpdated"]
    );
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(
        story.conditions(DEPLOYMENTS, "default/web"),
        [
            "Available=False MinimumReplicasUnavailable",
            "Progressing=False ProgressDeadlineExceeded"
        ]
    );
    let requests = story.cluster.requests("PATCH");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(story.cluster.requests("PATCH"), requests, "told once");
}

#[tokio::test(start_paused = true)]
async fn pods_count_as_available_after_a_while() {
    let cluster = one_node().with_running_clock();
    let story = Story::start(cluster);
    let deployment = testkit::deployment("default/web", 1).set("/spec/minReadySeconds", json!(40));
    story.cluster.create(DEPLOYMENTS, &deployment);
    story.settle().await;
    let available = || {
        let deployment = story.cluster.get(DEPLOYMENTS, "default/web").expect("there");
        (
            deployment["status"]["readyReplicas"].clone(),
            deployment["status"]["availableReplicas"].clone(),
        )
    };
    assert_eq!(available(), (json!(1), Value::Null));
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(available(), (json!(1), json!(1)));
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_to_its_limit() {
    let story = Story::start(one_node());
    let deployment =
        testkit::deployment("default/web", 1).set("/spec/revisionHistoryLimit", json!(2));
    story.cluster.create(DEPLOYMENTS, &deployment);
    for i in 0..5 {
        story.settle().await;
        story.cluster.edit(DEPLOYMENTS, "default/web", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("web:{i}"));
        });
    }
    story.settle().await;
    let mut revisions: Vec<Value> = story
        .cluster
        .list(REPLICA_SETS)
        .iter()
        .map(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone())
        .collect();
    revisions.sort_by_key(ToString::to_string);
    assert_eq!(revisions, ["4", "5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_gives_another_hash() {
    let story = Story::start(one_node());
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 1));
    story.settle().await;
    let first = story.names(REPLICA_SETS).remove(0);
    let other = Story::start(one_node());
    // Somebody else's ReplicaSet has the name.
    let taken = testkit::replica_set(&format!("default/{first}"), 0)
        .label("app", "else")
        .set("/spec/selector/matchLabels", json!({"app": "else"}));
    other.cluster.create(REPLICA_SETS, &taken);
    other.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 1));
    other.settle().await;
    let deployment = other.cluster.get(DEPLOYMENTS, "default/web").expect("there");
    assert_eq!(deployment["status"]["collisionCount"], 1);
    assert_eq!(deployment["status"]["availableReplicas"], 1);
    assert_eq!(other.names(REPLICA_SETS).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scaled_rollout_shares_the_change() {
    // Nothing gets ready, so the rollout stays in its middle.
    let story = Story::start(FakeCluster::new().with_node("n1"));
    story.cluster.create(NODES, &testkit::node("n1"));
    story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 8));
    story.settle().await;
    let first = story.names(REPLICA_SETS).remove(0);
    for pod in story.names(PODS) {
        story.cluster.edit(PODS, &format!("default/{pod}"), |pod| {
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"});
            pod["status"] = json!({"phase": "Running", "conditions": [ready]});
        });
    }
    story.settle().await;
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    story.settle().await;
    let sizes = || {
        let sets = story.cluster.list(REPLICA_SETS);
        let size = |old: bool| {
            let set = sets.iter().find(|s| (s["metadata"]["name"] == json!(first)) == old);
            set.expect("both are there")["spec"]["replicas"].as_i64().expect("a number")
        };
        (size(true), size(false))
    };
    // 8 wanted, 2 beyond that, 2 may be missing.
    assert_eq!(sizes(), (6, 4));
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(16));
    story.settle().await;
    assert_eq!(sizes(), (12, 8), "twice as many of each");
}

#[tokio::test(start_paused = true)]
async fn pods_leave_a_silent_node_when_their_patience_ends() {
    let story = Story::start(FakeCluster::new().with_running_clock());
    story.cluster.create(NODES, &testkit::node("n1"));
    story.cluster.create(NODES, &testkit::node("alive"));
    let patient = |key: &str, seconds: Value| {
        let unreachable = "node.kubernetes.io/unreachable";
        let toleration =
            json!({"key": unreachable, "operator": "Exists", "tolerationSeconds": seconds});
        testkit::pod(key).on("n1").set("/spec/tolerations", json!([toleration]))
    };
    story.cluster.create(PODS, &patient("default/five-minutes", json!(300)));
    story.cluster.create(PODS, &patient("default/for-ever", Value::Null));
    story.cluster.create(
        PODS,
        &testkit::pod("default/not-at-all").on("n1").set("/spec/tolerations", json!([])),
    );
    let going = || {
        let pods = story.cluster.list(PODS);
        let going = pods.iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        going.map(|pod| pod["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    story.pass(40).await;
    assert_eq!(going(), [""; 0]);
    story.pass(20).await;
    assert_eq!(going(), ["not-at-all"]);
    // Five minutes they are, whatever the clock is set to.
    story.cluster.set_clock(100_000_000);
    story.pass(100).await;
    story.cluster.set_clock(-200_000_000);
    story.pass(180).await;
    assert_eq!(going(), ["not-at-all"]);
    story.pass(3600).await;
    assert_eq!(going(), ["five-minutes", "not-at-all"]);
    let events = story.cluster.events();
    let told = "TaintManagerEviction: Marking for deletion Pod default/five-minutes";
    assert!(events.contains(&told.to_owned()), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_keeps_its_number() {
    let story = Story::start(one_node());
    let own = testkit::replication_controller("default/web", 2)
        .set("/spec/template/metadata/labels", json!({"app": "web", "tier": "front"}));
    // Its selector is labels and nothing else; one pod that matches is there already.
    story.cluster.create(PODS, &testkit::pod("default/there").label("app", "web"));
    story.cluster.create(REPLICATION_CONTROLLERS, &own);
    story.settle().await;
    let adopted = story.cluster.get(PODS, "default/there").expect("there");
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["apiVersion"], "v1");
    assert_eq!(story.cluster.list(PODS).len(), 2);
    let status = || {
        let object = story.cluster.get(REPLICATION_CONTROLLERS, "default/web").expect("there");
        object["status"].clone()
    };
    assert_eq!(
        status(),
        json!({
            "replicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            "fullyLabeledReplicas": 1, "observedGeneration": 1,
        })
    );
    story.cluster.edit(PODS, "default/there", |pod| pod["metadata"]["labels"] = json!({}));
    story.settle().await;
    assert_eq!(story.cluster.list(PODS).len(), 3, "released, and another one is in its place");
    story
        .cluster
        .edit(REPLICATION_CONTROLLERS, "default/web", |o| o["spec"]["replicas"] = json!(0));
    story.settle().await;
    assert_eq!((story.names(PODS), status()["replicas"].clone()), (vec!["there".into()], json!(0)));
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision);
}

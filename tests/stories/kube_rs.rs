//! The client of kube-rs, typed and dynamic, as operators in Rust use it.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures_util::TryStreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config, Discovery, ResourceExt,
    api::{
        ApiResource, AttachParams, DeleteParams, DynamicObject, GroupVersionKind, ListParams,
        Patch, PatchParams, PostParams, PropagationPolicy,
    },
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, wait::await_condition, wait::conditions, watcher},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::Cluster;

/// Runs a story in the cluster's network, with a client that kubectl's
/// configuration describes.
fn with_client<Story: Future<Output = ()>>(
    cluster: &Cluster,
    story: impl FnOnce(Client) -> Story + Send,
) {
    let path = cluster.path("admin.yaml");
    cluster.in_network(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let file = Kubeconfig::read_from(path).expect("the server wrote it");
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await.expect("complete");
            story(Client::try_from(config).expect("a client")).await;
        });
    });
}

const WAIT_MAX: Duration = Duration::from_secs(180);

#[test]
fn typed_objects_are_written_watched_applied_and_deleted() {
    let Some(cluster) = Cluster::start() else { return };
    with_client(&cluster, |client| async move {
        let version = client.apiserver_version().await.expect("a version");
        assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "37"));
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let mut made: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "settings", "labels": {"app": "kube-rs"}}, "data": {"a": "1"},
        }))
        .expect("a ConfigMap");
        made = maps.create(&PostParams::default(), &made).await.expect("created");
        let mut newer = made.clone();
        newer.data = Some(BTreeMap::from([("a".into(), "2".into())]));
        maps.replace("settings", &PostParams::default(), &newer).await.expect("replaced");
        match maps.replace("settings", &PostParams::default(), &made).await {
            Err(kube::Error::Api(status)) => {
                assert_eq!((status.code, &*status.reason), (409, "Conflict"))
            }
            other => panic!("an old version replaced a newer one: {other:?}"),
        }
        let applied = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"b": "3"},
        });
        let apply = PatchParams::apply("kube-rs").force();
        let merged =
            maps.patch("settings", &apply, &Patch::Apply(&applied)).await.expect("applied");
        assert_eq!(merged.data.as_ref().map(BTreeMap::len), Some(2));
        assert!(
            merged.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some("kube-rs"))
        );

        // A watcher gets the state and then what changes, by watch-list and by list.
        for mode in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
            let mut events =
                pin!(watcher(maps.clone(), mode.labels("app=kube-rs")).applied_objects());
            let first = events.try_next().await.expect("no error").expect("not over");
            assert_eq!(first.name_any(), "settings");
            let patch = Patch::Merge(json!({"data": {"c": first.resource_version()}}));
            maps.patch("settings", &PatchParams::default(), &patch).await.expect("patched");
            let second = events.try_next().await.expect("no error").expect("not over");
            assert_eq!(
                second.data.expect("data")["c"],
                first.resource_version().expect("a version")
            );
        }
        let one = ListParams::default().limit(1);
        let page = maps.list(&one).await.expect("a page");
        assert_eq!(page.items.len(), 1);
        maps.delete("settings", &DeleteParams::default()).await.expect("deleted");
        assert!(maps.get_opt("settings").await.expect("an answer").is_none());
    });
}

#[test]
fn pods_are_looked_into_and_ports_forwarded() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    with_client(&cluster, |client| async move {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "web", "image": "skiff.local/toolbox", "args": ["http-echo", "--port", "8080", "--text", "hi"],
                "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
            }]},
        });
        let pod = serde_json::from_value(pod).expect("a Pod");
        pods.create(&PostParams::default(), &pod).await.expect("created");
        let is_ready = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
            conditions.any(|known| known.type_ == "Ready" && known.status == "True")
        };
        let ready = await_condition(pods.clone(), "web", is_ready);
        tokio::time::timeout(WAIT_MAX, ready).await.expect("in time").expect("ready");

        let params = AttachParams::default().stdin(true).stderr(false);
        let mut cat = pods.exec("web", ["toolbox", "cat"], &params).await.expect("exec");
        let mut stdin = cat.stdin().expect("asked for");
        stdin.write_all(b"through kube-rs").await.expect("written");
        stdin.shutdown().await.expect("closed");
        drop(stdin);
        let mut said = String::new();
        cat.stdout().expect("asked for").read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "through kube-rs");
        let status = cat.take_status().expect("asked once").await.expect("a status");
        assert_eq!(status.status.as_deref(), Some("Success"));

        let mut forwarder = pods.portforward("web", &[8080]).await.expect("a port-forward");
        let mut port = forwarder.take_stream(8080).expect("asked for");
        port.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
        let mut answer = String::new();
        port.read_to_string(&mut answer).await.expect("text");
        assert!(answer.starts_with("HTTP/1."), "{answer}");
        // The server ends the connection with its last port.
        drop((port, forwarder));
    });
}

const ROBOTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: robots.factory.example.com}
spec:
  group: factory.example.com
  names: {plural: robots, kind: Robot}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {arms: {type: integer, minimum: 1, default: 2}}}
          status: {type: object, properties: {ready: {type: boolean}}}
"#;

#[test]
fn dynamic_objects_and_their_owners() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(ROBOTS).ok();
    cluster
        .kubectl("wait --for=condition=Established crd/robots.factory.example.com --timeout=180s")
        .ok();
    with_client(&cluster, |client| async move {
        let discovery = Discovery::new(client.clone()).run_aggregated().await.expect("discovery");
        let kind = GroupVersionKind::gvk("factory.example.com", "v1", "Robot");
        let (resource, _): (ApiResource, _) = discovery.resolve_gvk(&kind).expect("discovered");
        let robots: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
        let robot = DynamicObject::new("marvin", &resource).data(json!({"spec": {}}));
        let made = robots.create(&PostParams::default(), &robot).await.expect("created");
        assert_eq!(made.data["spec"]["arms"], 2, "the default is filled in");
        let bad = DynamicObject::new("bad", &resource).data(json!({"spec": {"arms": 0}}));
        match robots.create(&PostParams::default(), &bad).await {
            Err(kube::Error::Api(status)) => {
                assert_eq!(status.code, 422);
                assert!(
                    status.message.contains("should be greater than or equal to 1"),
                    "{status:?}"
                );
            }
            other => panic!("a robot without arms: {other:?}"),
        }
        let status = Patch::Merge(json!({"status": {"ready": true}, "spec": {"arms": 7}}));
        let patched = robots.patch_status("marvin", &PatchParams::default(), &status).await;
        let patched = patched.expect("patched");
        assert_eq!(
            (&patched.data["status"]["ready"], &patched.data["spec"]["arms"]),
            (&json!(true), &json!(2))
        );

        // What a robot owns goes with it.
        let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
        let owned = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "arms", "ownerReferences": [{
                "apiVersion": "factory.example.com/v1", "kind": "Robot", "name": "marvin",
                "uid": made.uid(), "controller": true, "blockOwnerDeletion": true,
            }]},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "arms"}}, "template": {
                "metadata": {"labels": {"app": "arms"}},
                "spec": {"containers": [{"name": "c", "image": "skiff.local/toolbox"}]},
            }},
        });
        let owned = serde_json::from_value(owned).expect("a Deployment");
        let owned = deployments.create(&PostParams::default(), &owned).await.expect("created");
        let foreground = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            ..DeleteParams::default()
        };
        robots.delete("marvin", &foreground).await.expect("deleted");
        let uid = owned.uid().expect("the server gives one");
        let gone = await_condition(deployments, "arms", conditions::is_deleted(&uid));
        tokio::time::timeout(WAIT_MAX, gone).await.expect("in time").expect("gone");
        let uid = made.uid().expect("the server gives one");
        let gone = await_condition(robots, "marvin", conditions::is_deleted(&uid));
        tokio::time::timeout(WAIT_MAX, gone).await.expect("in time").expect("gone");
    });
}

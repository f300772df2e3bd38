//! Stories of all storage controllers together on a cluster in memory.

use client::Resource;
use serde_json::{Value, json};
use testkit::{Build, FakeCluster};

use super::*;
use crate::{
    cached::{NODES, PODS},
    stories::Story,
};

fn object(api_version: &str, kind: &str, value: Value) -> Build {
    let mut build = Build::new(api_version, kind);
    for (field, value) in value.as_object().expect("fields") {
        build = build.set(&format!("/{field}"), value.clone());
    }
    build
}

fn claim(key: &str, class: &str) -> Build {
    let (namespace, name) = key.split_once('/').expect("a key");
    object(
        "v1",
        "PersistentVolumeClaim",
        json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"},
        }),
    )
}

fn node_with_directory() -> FakeCluster {
    let cluster = FakeCluster::new().with_kubelet();
    let node = testkit::node("n1").annotation("skiff.sh/local-path-directory", "/srv/storage");
    cluster.create(NODES, &node);
    cluster
}

fn phase(story: &Story, resource: Resource, key: &str) -> String {
    let object = story.cluster.get(resource, key);
    object.map_or("gone".into(), |o| o["status"]["phase"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_local_path_lives_and_ends() {
    let story = Story::start(node_with_directory());
    story.settle().await;
    let class = story.cluster.get(CLASSES, "local-path").expect("every cluster has it");
    assert_eq!(class["volumeBindingMode"], "WaitForFirstConsumer");
    let created = story.cluster.create(CLAIMS, &claim("default/data", "local-path"));
    story.settle().await;
    assert_eq!(phase(&story, CLAIMS, "default/data"), "Pending");
    // The scheduler chooses.
    story.cluster.edit(CLAIMS, "default/data", |claim| {
        claim["metadata"]["annotations"][SELECTED_NODE] = json!("n1");
    });
    story.settle().await;
    assert_eq!(phase(&story, CLAIMS, "default/data"), "Bound");
    let name = format!("pvc-{}", created["metadata"]["uid"].as_str().expect("a uid"));
    let volume = story.cluster.get(VOLUMES, &name).expect("made");
    assert_eq!(volume["status"]["phase"], "Bound");
    assert_eq!(volume["spec"]["local"]["path"], format!("/srv/storage/{name}_default_data"));
    let bound = story.cluster.get(CLAIMS, "default/data").expect("there");
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    let events = story.cluster.events();
    for told in [
        "WaitForFirstConsumer: waiting for first consumer to be created before binding".to_owned(),
        format!("ProvisioningSucceeded: Successfully provisioned volume {name}"),
    ] {
        assert!(events.contains(&told), "{told} is not in {events:?}");
    }
    // It grows at once.
    story.cluster.edit(CLAIMS, "default/data", |claim| {
        claim["spec"]["resources"]["requests"]["storage"] = json!("3Gi");
    });
    story.settle().await;
    let grown = story.cluster.get(CLAIMS, "default/data").expect("there");
    assert_eq!(grown["status"]["capacity"]["storage"], "3Gi");
    // A pod on the node holds the claim.
    let pod = testkit::pod("default/user").on("n1").set(
        "/spec/volumes",
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]),
    );
    story.cluster.create(PODS, &pod);
    story.settle().await;
    let revision = story.cluster.revision();
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision, "a settled cluster writes nothing");
    story.cluster.delete(CLAIMS, "default/data");
    story.settle().await;
    assert_eq!(phase(&story, CLAIMS, "default/data"), "Bound", "it waits for the pod");
    story.cluster.delete(PODS, "default/user");
    story.settle().await;
    assert_eq!(phase(&story, CLAIMS, "default/data"), "gone");
    // The volume waits for its node alone.
    let volume = story.cluster.get(VOLUMES, &name).expect("it waits");
    assert_eq!(volume["metadata"]["finalizers"], json!([LOCAL_PATH]));
    assert_ne!(volume["metadata"]["deletionTimestamp"], Value::Null);
    // The node never comes back.
    story.cluster.delete(NODES, "n1");
    story.settle().await;
    assert_eq!(phase(&story, VOLUMES, &name), "gone");
}

#[tokio::test(start_paused = true)]
async fn volumes_made_by_hand_serve_claims_one_each() {
    let story = Story::start(FakeCluster::new());
    let volume = |name: &str, size: &str| {
        object(
            "v1",
            "PersistentVolume",
            json!({
                "metadata": {"name": name},
                "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "hand", "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": "/srv/x"}},
                "status": {"phase": "Pending"},
            }),
        )
    };
    for n in 0..4 {
        story.cluster.create(CLAIMS, &claim(&format!("default/c{n}"), "hand"));
    }
    story.settle().await;
    let told = "ProvisioningFailed: storageclass.storage.k8s.io \"hand\" not found".to_owned();
    assert!(story.cluster.events().contains(&told));
    for (name, size) in [("a", "1Gi"), ("b", "2Gi"), ("c", "5Mi"), ("d", "10Gi")] {
        story.cluster.create(VOLUMES, &volume(name, size));
    }
    story.settle().await;
    let phases = |resource: Resource| -> Vec<String> {
        let all = story.cluster.list(resource).into_iter();
        all.map(|o| o["status"]["phase"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(phases(CLAIMS).iter().filter(|p| *p == "Bound").count(), 3);
    assert_eq!(phases(VOLUMES), ["Bound", "Bound", "Available", "Bound"]);
    let mut taken: Vec<String> = story
        .cluster
        .list(CLAIMS)
        .iter()
        .filter_map(|c| c["spec"]["volumeName"].as_str().map(Into::into))
        .collect();
    taken.sort();
    assert_eq!(taken, ["a", "b", "d"]);
    let holder =
        story.cluster.get(VOLUMES, "a").expect("there")["spec"]["claimRef"]["name"].clone();
    let key = format!("default/{}", holder.as_str().expect("a name"));
    story.cluster.delete(CLAIMS, &key);
    story.settle().await;
    assert_eq!(phase(&story, VOLUMES, "a"), "Released");
    // Its user lets it be used again: the claim that waits takes it.
    story.cluster.edit(VOLUMES, "a", |v| v["spec"]["claimRef"] = Value::Null);
    story.settle().await;
    assert_eq!(phase(&story, VOLUMES, "a"), "Bound");
    assert!(phases(CLAIMS).iter().all(|p| p == "Bound"), "{:?}", phases(CLAIMS));
    story.cluster.delete(VOLUMES, "b");
    story.settle().await;
    assert_eq!(phase(&story, VOLUMES, "b"), "Bound", "protected while it is bound");
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_claims_it_brings_and_drivers_are_asked_to_attach() {
    let story = Story::start(node_with_directory());
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "csi",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let pod = testkit::pod("default/p").on("n1").set(
        "/spec/volumes",
        json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]),
    );
    story.cluster.create(PODS, &pod);
    story.settle().await;
    let made = story.cluster.get(CLAIMS, "default/p-scratch").expect("made");
    assert_eq!(made["metadata"]["labels"]["a"], "b");
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "Pod");
    let volume = object(
        "v1",
        "PersistentVolume",
        json!({
            "metadata": {"name": "made-by-csi"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "csi", "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": "d.example.com", "volumeHandle": "h"},
                "claimRef": {"namespace": "default", "name": "p-scratch",
                    "uid": made["metadata"]["uid"]}},
            "status": {"phase": "Pending"},
        }),
    );
    story.cluster.create(VOLUMES, &volume);
    story.settle().await;
    assert_eq!(phase(&story, CLAIMS, "default/p-scratch"), "Bound");
    let attachments = crate::attachdetach::ATTACHMENTS;
    let attached = story.cluster.list(attachments);
    assert_eq!(attached.len(), 1);
    assert_eq!(attached[0]["spec"]["source"]["persistentVolumeName"], "made-by-csi");
    story.cluster.delete(PODS, "default/p");
    story.settle().await;
    assert_eq!(story.cluster.list(attachments).len(), 0);
    assert_eq!(phase(&story, CLAIMS, "default/p-scratch"), "gone", "it goes with its pod");
}

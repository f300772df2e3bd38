//! StatefulSet plans as a table, and its life among the other controllers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_object::LabelSelector;
use client::{Cached, MetaOnly};
use serde_json::{Value, json};
use testkit::{Build, FakeCluster, pod, stateful_set};

use super::{
    plan::{Plan, Step, plan},
    view::View,
};
use crate::{
    cached::*,
    lagging,
    revisions::{self, POD_LABEL},
    storage::CLAIMS,
    stories::{Story, one_node},
};

pub(super) const NOW: i64 = 1_700_000_000;

/// A revision as the controller writes it.
pub(super) fn revision(set: &Build, name: &str, number: i64, template: &Value) -> Build {
    pod(&format!("default/{name}"))
        .owned_by(set)
        .label("app", "web")
        .set("/data", revisions::data(template))
        .set("/revision", json!(number))
}

pub(super) fn seen(set: &Build, pods: &[Build], revisions: &[Build], claims: &[Build]) -> View {
    let set: Arc<Cached<StatefulSet>> = Arc::new(Cached::read(set.object(), false).expect("a set"));
    let read = |claim: &Build| {
        let claim: Cached<MetaOnly> = Cached::read(claim.object(), false).expect("a claim");
        (claim.meta.name.clone(), Arc::new(claim))
    };
    let claim_templates = set.view.spec.volume_claim_templates.value();
    View {
        selector: LabelSelector::from_object(&set.view.spec.selector).expect("a selector"),
        template: set.view.spec.template.value(),
        claim_templates: claim_templates.as_array().cloned().unwrap_or_default(),
        pods: pods
            .iter()
            .map(|pod| Arc::new(Cached::read(pod.object(), false).expect("a pod")))
            .collect(),
        revisions: revisions
            .iter()
            .map(|r| Arc::new(Cached::read(r.object(), false).expect("a revision")))
            .collect(),
        claims: claims.iter().map(read).collect::<BTreeMap<_, _>>(),
        deleted: BTreeSet::new(),
        set,
        now: jiff::Timestamp::from_second(NOW).expect("in range"),
    }
}

/// `+web-0`, `-web-1`, `claim data-web-0`, `own data-web-0 by Pod`, `label web-0`.
pub(super) fn words(plan: &Plan) -> Vec<String> {
    let name = |body: &Value| body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let word = |step: &Step| match step {
        Step::CreateClaim { body, .. } => format!("claim {}", name(body)),
        Step::OwnClaim(owned) => {
            let kinds: Vec<&str> = owned.owners.iter().map(|o| o.kind.as_str()).collect();
            format!("own {} by {}", owned.claim, kinds.join("+"))
        }
        Step::CreatePod { body } => format!("+{}", name(body)),
        Step::Label { pod, .. } => format!("label {}", pod.meta.name),
        Step::DeletePod(pod) | Step::DeleteBroken(pod) => format!("-{}", pod.meta.name),
    };
    plan.steps.iter().map(word).collect()
}

pub(super) fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

/// `2 ready`, `1 pending old`, `0 failed`, `3 ready old ending`.
fn pods(set: &Build, lines: &[&str]) -> Vec<Build> {
    let one = |line: &&str| {
        let mut words = line.split(' ');
        let ordinal = words.next().expect("an ordinal");
        let name = format!("web-{ordinal}");
        let mut pod = pod(&format!("default/{name}"))
            .owned_by(set)
            .label("app", "web")
            .label("statefulset.kubernetes.io/pod-name", &name)
            .label("apps.kubernetes.io/pod-index", ordinal)
            .label(POD_LABEL, "web-new");
        for word in words {
            pod = match word {
                "ready" => pod.ready("10.0.0.1"),
                "running" => pod.running("10.0.0.1"),
                "failed" => pod.set("/status/phase", json!("Failed")),
                "succeeded" => pod.set("/status/phase", json!("Succeeded")),
                "old" => pod.label(POD_LABEL, "web-old"),
                "ending" => pod.deleting(),
                "bare" => pod.set("/metadata/labels", json!({"app": "web"})),
                "pending" => pod,
                other => panic!("{other}?"),
            };
        }
        pod
    };
    lines.iter().map(one).collect()
}

#[test]
fn the_order_is_kept() {
    let ordered = |n| stateful_set("default/web", n).set("/spec/template", template("new"));
    let parallel = |n| ordered(n).set("/spec/podManagementPolicy", json!("Parallel"));
    let partition =
        |n: i32, at: i32| ordered(n).set("/spec/updateStrategy/rollingUpdate/partition", json!(at));
    let most = |set: Build, most: Value| {
        set.set("/spec/updateStrategy/rollingUpdate/maxUnavailable", most)
    };
    let on_delete = |n| ordered(n).set("/spec/updateStrategy", json!({"type": "OnDelete"}));
    let from = |start: i32, n| ordered(n).set("/spec/ordinals", json!({"start": start}));
    type Row<'a> = (&'a str, Build, &'a [&'a str], &'a [&'a str]);
    let table: &[Row<'_>] = &[
        ("first", ordered(3), &[], &["+web-0"]),
        ("all at once", parallel(3), &[], &["+web-0", "+web-1", "+web-2"]),
        ("wait", ordered(3), &["0 running"], &[]),
        ("do not wait", parallel(3), &["0 running"], &["+web-1", "+web-2"]),
        ("next", ordered(3), &["0 ready"], &["+web-1"]),
        ("a gap", ordered(3), &["0 ready", "2 ready"], &["+web-1"]),
        ("terminating", ordered(2), &["0 ready ending"], &[]),
        ("failed", ordered(2), &["0 ready", "1 failed"], &["-web-1"]),
        ("succeeded", ordered(2), &["0 ready", "1 succeeded"], &["-web-1"]),
        ("failed and going", ordered(2), &["0 ready", "1 failed ending"], &[]),
        ("failed ones", parallel(3), &["0 failed", "1 failed"], &["-web-0", "-web-1", "+web-2"]),
        ("ordinals", from(5, 2), &["5 ready"], &["+web-6"]),
        ("ordinals moved", from(5, 2), &["0 ready", "5 ready", "6 ready"], &["-web-0"]),
        ("down", ordered(1), &["0 ready", "1 ready", "2 ready"], &["-web-2"]),
        ("down waits", ordered(1), &["0 ready", "1 ready", "2 ready ending"], &[]),
        ("down halts", ordered(1), &["0 running", "1 ready", "2 ready"], &[]),
        ("down halts above a lame one", ordered(1), &["0 ready", "1 running", "2 running"], &[]),
        ("the lame one goes", ordered(1), &["0 ready", "1 running"], &["-web-1"]),
        ("down at once", parallel(1), &["0 running", "1 ready", "2 ready"], &["-web-2", "-web-1"]),
        ("roll", ordered(3), &["0 ready old", "1 ready old", "2 ready old"], &["-web-2"]),
        ("roll on", ordered(3), &["0 ready old", "1 ready old", "2 ready"], &["-web-1"]),
        ("roll waits", ordered(3), &["0 ready old", "1 ready old", "2 running"], &[]),
        ("broken stays", ordered(2), &["0 ready old", "1 running old"], &[]),
        ("broken goes", parallel(2), &["0 ready old", "1 running old"], &["-web-1"]),
        ("partition", partition(3, 2), &["0 ready old", "1 ready old", "2 ready old"], &["-web-2"]),
        ("partition done", partition(3, 2), &["0 ready old", "1 ready old", "2 ready"], &[]),
        (
            "two at once",
            most(ordered(4), json!(2)),
            &["0 ready old", "1 ready old", "2 ready old", "3 ready old"],
            &["-web-3", "-web-2"],
        ),
        (
            "half of three, rounded up, one is down",
            most(parallel(3), json!("50%")),
            &["0 ready old", "1 ready old", "2 running"],
            &["-web-1"],
        ),
        ("on delete", on_delete(2), &["0 ready old", "1 ready old"], &[]),
        ("scaling first", ordered(3), &["0 ready old", "1 ready old"], &["+web-2"]),
        ("adopted", ordered(1), &["0 ready bare"], &["label web-0", "-web-0"]),
    ];
    for (story, set, present, wanted) in table {
        let revisions = [
            revision(set, "web-old", 1, &template("old")),
            revision(set, "web-new", 2, &template("new")),
        ];
        let set = set.clone().set("/status/currentRevision", json!("web-old"));
        let plan = plan(&seen(&set, &pods(&set, present), &revisions, &[]));
        assert_eq!(words(&plan), *wanted, "{story}");
        let gone = set.deleting();
        let plan = super::plan::plan(&seen(&gone, &pods(&gone, present), &revisions, &[]));
        assert_eq!(words(&plan), [""; 0], "{story}, but the set is on its way out");
    }
}

#[test]
fn below_the_partition_the_old_revision_comes_back() {
    let set = stateful_set("default/web", 3)
        .set("/spec/template", template("new"))
        .set("/spec/podManagementPolicy", json!("Parallel"))
        .set("/spec/updateStrategy/rollingUpdate/partition", json!(2))
        .set("/status/currentRevision", json!("web-old"));
    let revisions = [
        revision(&set, "web-old", 1, &template("old")),
        revision(&set, "web-new", 2, &template("new")),
    ];
    let plan = plan(&seen(&set, &[], &revisions, &[]));
    let images: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::CreatePod { body } => {
                let image = &body["spec"]["containers"][0]["image"];
                json!([image, body["metadata"]["labels"][POD_LABEL]])
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let (old, new) = (json!(["old", "web-old"]), json!(["new", "web-new"]));
    assert_eq!(images, [old.clone(), old, new]);
}

#[test]
fn claims_follow_the_policy() {
    let with = |scaled: &str, deleted: &str| {
        stateful_set("default/web", 1)
            .set("/spec/template", template("new"))
            .set(
                "/spec/volumeClaimTemplates",
                json!([{"metadata": {"name": "data"}, "spec": {"x": 1}}]),
            )
            .set(
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenScaled": scaled, "whenDeleted": deleted}),
            )
            .set("/status/currentRevision", json!("web-new"))
    };
    let claim = |ordinal: i32| pod(&format!("default/data-web-{ordinal}"));
    let of = |claim: Build, owner: &Build| claim.owned_by(owner);
    let set = with("Retain", "Retain");
    let two = pods(&set, &["0 ready", "1 ready"]);
    let stranger = stateful_set("default/other", 1);
    type Row<'a> = (&'a str, &'a str, Vec<Build>, Vec<Build>, &'a [&'a str]);
    let table: Vec<Row<'_>> = vec![
        ("Retain", "Retain", vec![], vec![], &["claim data-web-0", "+web-0"]),
        ("Retain", "Retain", vec![], vec![claim(0)], &["+web-0"]),
        ("Retain", "Retain", pods(&set, &["0 pending"]), vec![], &["claim data-web-0"]),
        ("Retain", "Retain", two.clone(), vec![claim(0), claim(1)], &["-web-1"]),
        (
            "Delete",
            "Retain",
            two.clone(),
            vec![claim(0), claim(1)],
            &["own data-web-1 by Pod", "-web-1"],
        ),
        (
            "Retain",
            "Delete",
            two.clone(),
            vec![claim(0), of(claim(1), &set)],
            &["own data-web-0 by StatefulSet", "-web-1"],
        ),
        (
            "Delete",
            "Delete",
            two.clone(),
            vec![of(claim(0), &set), of(claim(1), &set)],
            &["own data-web-1 by Pod", "-web-1"],
        ),
        // The pod was to go, and then stays after all.
        (
            "Delete",
            "Retain",
            vec![two[0].clone()],
            vec![of(claim(0), &two[0])],
            &["own data-web-0 by "],
        ),
        ("Delete", "Retain", vec![two[0].clone()], vec![of(claim(0), &stranger)], &[]),
        // What goes with a former pod must be gone before the next pod comes.
        ("Delete", "Retain", vec![], vec![of(claim(0), &two[0])], &[]),
        ("Retain", "Retain", vec![], vec![claim(0).deleting()], &[]),
    ];
    for (scaled, deleted, pods, claims, wanted) in table {
        let set = with(scaled, deleted);
        let revisions = [revision(&set, "web-new", 1, &template("new"))];
        let plan = plan(&seen(&set, &pods, &revisions, &claims));
        assert_eq!(words(&plan), wanted, "{scaled} {deleted}");
    }
}

#[test]
fn history_is_kept_to_its_limit_and_numbered() {
    let set = stateful_set("default/web", 1)
        .set("/spec/template", template("2"))
        .set("/spec/revisionHistoryLimit", json!(1))
        .set("/status/currentRevision", json!("web-4"));
    let revisions: Vec<Build> = (1..=5)
        .map(|i| revision(&set, &format!("web-{i}"), i, &template(&i.to_string())))
        .collect();
    let pods = [pods(&set, &["0 ready"]).remove(0).label(POD_LABEL, "web-1")];
    let plan = plan(&seen(&set, &pods, &revisions, &[]));
    // The second template is back: it becomes the sixth.
    assert_eq!((plan.update.name.as_str(), plan.update.number), ("web-2", 6));
    assert!(plan.update.is_renumbered());
    let gone: Vec<&str> = plan.delete_revisions.iter().map(|r| r.meta.name.as_str()).collect();
    assert_eq!(gone, ["web-3"], "all others are in use, or within the limit");
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_lives() {
    let story = Story::start(one_node());
    let set = stateful_set("default/web", 3).set(
        "/spec/volumeClaimTemplates",
        json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]),
    );
    story.cluster.create(STATEFUL_SETS, &set);
    story.moment().await;
    assert_eq!(story.names(PODS), ["web-0", "web-1", "web-2"]);
    assert_eq!(story.names(CLAIMS), ["data-web-0", "data-web-1", "data-web-2"]);
    let first = story.names(CONTROLLER_REVISIONS).remove(0);
    let pod = story.cluster.get(PODS, "default/web-1").expect("there");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "web",
            "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": first,
            "statefulset.kubernetes.io/pod-name": "web-1",
        })
    );
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("web-1"), &json!("web"))
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}])
    );
    let events = story.cluster.events();
    for event in [
        "SuccessfulCreate: create Claim data-web-0 Pod web-0 in StatefulSet web success",
        "SuccessfulCreate: create Pod web-2 in StatefulSet web successful",
    ] {
        assert!(events.contains(&event.to_owned()), "{events:?}");
    }
    // Nobody made its Service, which is said of the first pod.
    let told = story.cluster.list(EVENTS);
    let mut told = told.iter().filter(|event| event["reason"] == "ServiceNotFound");
    assert_eq!(told.next().map(|event| &event["count"]), Some(&json!(1)));
    assert!(told.next().is_none());
    let image = |image: &'static str| {
        move |set: &mut Value| {
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
    };
    let images = || {
        let pods = story.cluster.list(PODS);
        let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
        pods.iter().map(image).collect::<Vec<_>>()
    };
    // A canary, then all, then back.
    story.cluster.edit(STATEFUL_SETS, "default/web", |set| {
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    });
    story.cluster.edit(STATEFUL_SETS, "default/web", image("web:2"));
    story.moment().await;
    assert_eq!(images(), ["web", "web", "web:2"]);
    let status = story.cluster.get(STATEFUL_SETS, "default/web").expect("there")["status"].clone();
    assert_eq!((&status["currentReplicas"], &status["updatedReplicas"]), (&json!(2), &json!(1)));
    assert_eq!(status["currentRevision"], json!(first));
    // One below the partition comes back as it was.
    story.cluster.delete(PODS, "default/web-0");
    story.moment().await;
    assert_eq!(images(), ["web", "web", "web:2"]);
    story.cluster.edit(STATEFUL_SETS, "default/web", |set| {
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(0);
    });
    story.moment().await;
    assert_eq!(images(), ["web:2"; 3]);
    let status = story.cluster.get(STATEFUL_SETS, "default/web").expect("there")["status"].clone();
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    story.cluster.edit(STATEFUL_SETS, "default/web", image("web"));
    story.moment().await;
    assert_eq!(images(), ["web"; 3]);
    let revision =
        story.cluster.get(CONTROLLER_REVISIONS, &format!("default/{first}")).expect("there");
    assert_eq!(revision["revision"], 3, "the old template has the highest number");
    assert_eq!(story.cluster.list(CONTROLLER_REVISIONS).len(), 2);

    story.cluster.edit(STATEFUL_SETS, "default/web", |set| set["spec"]["replicas"] = json!(1));
    story.moment().await;
    assert_eq!(story.names(PODS), ["web-0"]);
    assert_eq!(story.cluster.list(CLAIMS).len(), 3, "storage stays");
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision, "silent");
    story.cluster.delete(STATEFUL_SETS, "default/web");
    story.moment().await;
    assert_eq!(story.cluster.list(PODS).len() + story.cluster.list(CONTROLLER_REVISIONS).len(), 0);
    assert_eq!(story.cluster.list(CLAIMS).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn claims_go_as_the_policy_says() {
    let story = Story::start(one_node());
    let set = stateful_set("default/web", 2)
        .set("/spec/volumeClaimTemplates", json!([{"metadata": {"name": "data"}, "spec": {}}]))
        .set(
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenScaled": "Delete", "whenDeleted": "Delete"}),
        );
    story.cluster.create(STATEFUL_SETS, &set);
    story.moment().await;
    assert_eq!(story.names(PODS), ["web-0", "web-1"]);
    story.cluster.edit(STATEFUL_SETS, "default/web", |set| set["spec"]["replicas"] = json!(1));
    story.moment().await;
    assert_eq!(story.names(PODS), ["web-0"]);
    assert_eq!(story.names(CLAIMS), ["data-web-0"]);
    story.cluster.delete(STATEFUL_SETS, "default/web");
    story.moment().await;
    assert_eq!(story.cluster.list(CLAIMS).len(), 0);
}

/// As of a DaemonSet's pods: a cache that is behind by a moment has all of a new set as
/// starting, though they serve.
#[tokio::test(start_paused = true)]
async fn who_works_by_now_is_not_replaced_as_one_that_does_not() {
    let (story, hold) = lagging::start(FakeCluster::new().with_node("n1"));
    let set = stateful_set("default/web", 3).set("/spec/podManagementPolicy", json!("Parallel"));
    story.cluster.create(STATEFUL_SETS, &set);
    story.moment().await;
    let pods = story.names(PODS);
    assert_eq!(pods, ["web-0", "web-1", "web-2"]);
    hold.send_replace(true);
    for name in &pods {
        story.cluster.edit(PODS, &format!("default/{name}"), |pod| {
            pod["status"] = json!({
                "phase": "Running",
                "conditions": [{
                    "type": "Ready", "status": "True",
                    "lastTransitionTime": "2023-11-14T22:13:20Z",
                }],
            });
        });
    }
    story.cluster.edit(STATEFUL_SETS, "default/web", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    story.moment().await;
    let left = || {
        let pods = story.cluster.list(PODS);
        let serves = |pod: &&Value| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
        };
        pods.iter().filter(serves).count()
    };
    assert_eq!(left(), 3, "all serve, and one at a time may go");
    hold.send_replace(false);
    story.moment().await;
    assert_eq!(left(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_told() {
    let story = Story::start(FakeCluster::new().with_kubelet().with_node("n1"));
    story.cluster.create(PODS, &pod("default/web-0").label("app", "else"));
    story.cluster.create(STATEFUL_SETS, &stateful_set("default/web", 1));
    story.moment().await;
    let events = story.cluster.events();
    let told = "FailedCreate: create Pod web-0 in StatefulSet web failed error: pods \"web-0\" already exists";
    assert!(events.iter().any(|event| event.starts_with(told)), "{events:?}");
    story.cluster.remove(PODS, "default/web-0");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let set = story.cluster.get(STATEFUL_SETS, "default/web").expect("there");
    assert_eq!(set["status"]["readyReplicas"], 1);
}

//! Stories of claims and volumes: what is there, and what is done about it.

use std::sync::Arc;

use api_object::Object;
use client::{Cached, Severity, View};
use serde_json::{Value, json};

use super::{
    claim::claim,
    plan::{Action, BIND_COMPLETED, BOUND_BY_CONTROLLER, Plan},
    view::{ClaimView, VolumeView},
    volume::volume,
};
use crate::storage::{PROVISIONED_BY, PROVISIONER, SELECTED_NODE};

fn cached<V: View>(value: &Value) -> Arc<Cached<V>> {
    let object = Object::parse(serde_json::to_vec(value).expect("JSON").into());
    Arc::new(Cached::read(object.expect("an object"), false).expect("a view"))
}

/// `name size`, free, one writer, of class `slow`.
fn pv(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": "1"},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "slow", "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    })
}

fn bound_to(mut volume: Value, claim: &str, uid: &str) -> Value {
    let (namespace, name) = claim.split_once('/').expect("a key");
    volume["spec"]["claimRef"] = json!({"namespace": namespace, "name": name, "uid": uid});
    volume
}

/// A claim `ns/data` of uid `u` on class `slow` for 1Gi.
fn pvc() -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": "data", "uid": "u", "resourceVersion": "1",
            "annotations": {}},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "slow"},
        "status": {"phase": "Pending"},
    })
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::PatchVolume(patch) => format!("volume {patch}"),
            Action::PatchVolumeStatus(patch) => {
                format!("volume is {}", patch["phase"].as_str().unwrap_or("?"))
            }
            Action::PatchClaim(patch) => format!("claim {patch}"),
            Action::PatchClaimStatus(patch) => {
                format!("claim is {}", patch["phase"].as_str().unwrap_or("?"))
            }
            Action::TellVolume(_, reason, message) => format!("{reason} (volume): {message}"),
            Action::TellClaim(Severity::Warning, reason, message) => format!("{reason}! {message}"),
            Action::TellClaim(_, reason, message) => format!("{reason}: {message}"),
        })
        .collect()
}

struct Situation {
    claim: Value,
    volumes: Vec<Value>,
    class: Option<Value>,
    default_class: Option<&'static str>,
    waiting: Vec<&'static str>,
    used_on: Option<&'static str>,
}

impl Situation {
    fn of(edit: impl FnOnce(&mut Value)) -> Self {
        let mut claim = pvc();
        edit(&mut claim);
        Self {
            claim,
            volumes: vec![],
            class: None,
            default_class: None,
            waiting: vec![],
            used_on: None,
        }
    }

    fn with(self, volumes: &[Value]) -> Self {
        Self { volumes: volumes.to_vec(), ..self }
    }

    fn decide(&self) -> Vec<String> {
        let name = self.claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let named = self.volumes.iter().find(|v| v["metadata"]["name"] == name);
        let view = ClaimView {
            claim: cached(&self.claim),
            volume: named.map(cached),
            volumes: self.volumes.iter().map(cached).collect(),
            class: self.class.as_ref().map(cached),
            default_class: self.default_class.map(Into::into),
            used_on: self.used_on.map(Into::into),
            waiting_pods: self.waiting.iter().map(|pod| (*pod).to_owned()).collect(),
        };
        lines(&claim(&view))
    }
}

/// The name in the patch that binds, if one does.
fn taken(situation: &Situation) -> Option<String> {
    let lines = situation.decide();
    let patch = lines.iter().find_map(|line| line.strip_prefix("claim {"))?;
    let patch: Value = serde_json::from_str(&format!("{{{patch}")).expect("JSON");
    patch["spec"]["volumeName"].as_str().map(Into::into)
}

#[test]
fn the_smallest_that_fits_is_taken() {
    let fits = |edit: fn(&mut Value)| {
        let mut volume = pv("v", "2Gi");
        edit(&mut volume);
        taken(&Situation::of(|_| {}).with(&[volume])).is_some()
    };
    let three = [pv("big", "5Gi"), pv("right", "1Gi"), pv("small", "1Mi")];
    assert_eq!(taken(&Situation::of(|_| {}).with(&three)).as_deref(), Some("right"));
    assert!(fits(|_| {}));
    assert!(!fits(|v| v["spec"]["storageClassName"] = json!("fast")));
    assert!(!fits(|v| v["spec"]["accessModes"] = json!(["ReadOnlyMany"])));
    assert!(fits(|v| v["spec"]["accessModes"] = json!(["ReadOnlyMany", "ReadWriteOnce"])));
    assert!(!fits(|v| v["spec"]["volumeMode"] = json!("Block")));
    assert!(!fits(|v| v["status"]["phase"] = json!("Released")));
    assert!(!fits(|v| v["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:20Z")));
    assert!(!fits(|v| *v = bound_to(v.clone(), "ns/other", "")));
    // Set aside for it by name: taken before all others, whatever its class.
    let aside = bound_to(pv("aside", "9Gi"), "ns/data", "");
    assert_eq!(taken(&Situation::of(|_| {}).with(&[pv("a", "1Gi"), aside])), Some("aside".into()));
    let choosy = Situation::of(|c| {
        c["spec"]["selector"] = json!({"matchLabels": {"disk": "ssd"}});
    });
    let mut ssd = pv("ssd", "4Gi");
    ssd["metadata"]["labels"] = json!({"disk": "ssd"});
    assert_eq!(taken(&choosy.with(&[pv("hdd", "1Gi"), ssd])), Some("ssd".into()));
}

#[test]
fn binding_has_four_steps_and_those_that_are_done_are_left_out() {
    let lines = Situation::of(|_| {}).with(&[pv("v", "1Gi")]).decide();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains(r#""uid":"u""#) && lines[0].contains(BOUND_BY_CONTROLLER));
    assert_eq!(lines[1], "volume is Bound");
    assert!(lines[2].contains(BIND_COMPLETED) && lines[2].contains(r#""volumeName":"v""#));
    assert_eq!(lines[3], "claim is Bound");
    // Killed after the first step.
    let half = bound_to(pv("v", "1Gi"), "ns/data", "u");
    let lines = Situation::of(|_| {}).with(std::slice::from_ref(&half)).decide();
    assert_eq!(lines.len(), 3, "{lines:?}");
    // All is done.
    let mut done = half;
    done["status"]["phase"] = json!("Bound");
    let whole = Situation::of(|c| {
        c["spec"]["volumeName"] = json!("v");
        c["metadata"]["annotations"] = json!({BIND_COMPLETED: "yes"});
        c["status"] = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"]});
    });
    assert_eq!(whole.with(&[done]).decide(), [""; 0]);
}

#[test]
fn a_claim_that_nobody_serves_says_so() {
    let no_class = |c: &mut Value| c["spec"]["storageClassName"] = json!("");
    assert_eq!(
        Situation::of(no_class).decide(),
        [
            "FailedBinding: no persistent volumes available for this claim and no storage class is set"
        ]
    );
    assert_eq!(
        Situation::of(|_| {}).decide(),
        ["ProvisioningFailed! storageclass.storage.k8s.io \"slow\" not found"]
    );
    let class_of = |provisioner: &str, mode: &str, waiting: Vec<&'static str>| Situation {
        class: Some(class("slow", provisioner, mode)),
        waiting,
        ..Situation::of(|_| {})
    };
    assert_eq!(
        class_of("kubernetes.io/no-provisioner", "Immediate", vec![]).decide(),
        ["ProvisioningFailed! no volume plugin matched name: kubernetes.io/no-provisioner"]
    );
    let wait = "WaitForFirstConsumer";
    assert_eq!(
        class_of("x.example.com", wait, vec![]).decide(),
        ["WaitForFirstConsumer: waiting for first consumer to be created before binding"]
    );
    assert_eq!(
        class_of("x.example.com", wait, vec!["p"]).decide(),
        ["WaitForPodScheduled: waiting for pod p to be scheduled"]
    );
    let lines = class_of("x.example.com", "Immediate", vec![]).decide();
    assert!(lines[0].contains(PROVISIONER) && lines[0].contains("x.example.com"), "{lines:?}");
    assert!(lines[1].starts_with("ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'x.example.com'"));
    let mut chosen = class_of("x.example.com", wait, vec![]);
    chosen.claim["metadata"]["annotations"][SELECTED_NODE] = json!("n1");
    assert!(chosen.decide()[0].contains(PROVISIONER));
    let mut placed = class_of("x.example.com", wait, vec![]);
    placed.used_on = Some("n2");
    assert_eq!(
        placed.decide(),
        [format!(r#"claim {{"metadata":{{"annotations":{{"{SELECTED_NODE}":"n2"}}}}}}"#)]
    );
    // A volume that is free is not taken before a pod has a node.
    let waits = class_of("x.example.com", wait, vec![]).with(&[pv("v", "1Gi")]);
    assert_eq!(taken(&waits), None);
}

#[test]
fn a_claim_without_a_class_gets_the_default_later() {
    let mut late = Situation::of(|c| {
        c["spec"].as_object_mut().expect("an object").remove("storageClassName");
    });
    late.default_class = Some("local-path");
    assert_eq!(late.decide(), [r#"claim {"spec":{"storageClassName":"local-path"}}"#]);
}

#[test]
fn a_volume_that_was_asked_for_by_name() {
    let asks = |volumes: &[Value]| {
        Situation::of(|c| c["spec"]["volumeName"] = json!("v")).with(volumes).decide()
    };
    assert_eq!(asks(&[]), [""; 0], "it may come yet");
    assert_eq!(asks(&[pv("v", "1Gi")]).len(), 4);
    assert_eq!(
        asks(&[pv("v", "1Mi")]),
        ["VolumeMismatch! Cannot bind to requested volume \"v\": requested PV is too small"]
    );
    let mut other = pv("v", "1Gi");
    other["spec"]["storageClassName"] = json!("fast");
    assert_eq!(
        asks(&[other]),
        ["VolumeMismatch! Cannot bind to requested volume \"v\": storageClassName does not match"]
    );
    assert_eq!(
        asks(&[bound_to(pv("v", "1Gi"), "ns/else", "u2")]),
        ["FailedBinding! volume \"v\" already bound to a different claim."]
    );
}

#[test]
fn a_bound_claim_whose_volume_is_gone_is_lost() {
    let was_bound = |volumes: &[Value], name: &str| {
        Situation::of(|c| {
            c["spec"]["volumeName"] = json!(name);
            c["metadata"]["annotations"] = json!({BIND_COMPLETED: "yes"});
            c["status"]["phase"] = json!("Bound");
        })
        .with(volumes)
        .decide()
    };
    assert_eq!(
        was_bound(&[], "v"),
        [
            "ClaimLost! Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            "claim is Lost"
        ]
    );
    assert!(was_bound(&[], "")[0].contains("lost reference to PersistentVolume"));
    let misbound = was_bound(&[bound_to(pv("v", "1Gi"), "ns/else", "u2")], "v");
    assert!(misbound[0].starts_with("ClaimMisbound!"), "{misbound:?}");
}

#[test]
fn volumes_change_their_phase() {
    let decide = |volume_json: Value, claim: Option<Value>| {
        let view = VolumeView { volume: cached(&volume_json), claim: claim.as_ref().map(cached) };
        lines(&volume(&view))
    };
    let bound = |policy: &str, provisioner: Option<&str>| {
        let mut volume = bound_to(pv("v", "1Gi"), "ns/data", "u");
        volume["status"]["phase"] = json!("Bound");
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
        if let Some(by) = provisioner {
            volume["metadata"]["annotations"] = json!({PROVISIONED_BY: by});
        }
        volume
    };
    let has_volume = |name: &str| {
        let mut claim = pvc();
        claim["spec"]["volumeName"] = json!(name);
        Some(claim)
    };
    let mut new = pv("v", "1Gi");
    new["status"]["phase"] = json!("Pending");
    assert_eq!(decide(new, None), ["volume is Available"]);
    assert_eq!(decide(pv("v", "1Gi"), None), [""; 0]);
    assert_eq!(decide(bound_to(pv("v", "1Gi"), "ns/data", ""), None), [""; 0]);
    assert_eq!(decide(bound("Retain", None), has_volume("v")), [""; 0]);
    assert_eq!(decide(bound("Retain", None), Some(pvc())), [""; 0], "half bound");
    assert_eq!(decide(bound("Retain", None), None), ["volume is Released"]);
    assert_eq!(decide(bound("Delete", Some("x.example.com")), None), ["volume is Released"]);
    let failed = decide(bound("Delete", None), None);
    assert_eq!(
        failed,
        [
            "VolumeFailedDelete (volume): error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
            "volume is Failed"
        ]
    );
    assert!(decide(bound("Recycle", None), None)[0].contains("not supported by skiff"));
    // The claim took another one.
    assert_eq!(
        decide(bound("Retain", None), has_volume("w")),
        [
            r#"volume {"spec":{"claimRef":{"resourceVersion":null,"uid":null}}}"#,
            "volume is Available"
        ]
    );
    let made = decide(bound("Delete", Some("x.example.com")), has_volume("w"));
    assert_eq!(made, ["volume is Released"]);
}

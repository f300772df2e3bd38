use serde_json::json;

use super::*;
use crate::{
    state::{NAMESPACES, PODS},
    testing::{World, admin, write},
};

fn restricted() -> Value {
    json!({ "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        } }],
        "volumes": [{ "name": "v", "emptyDir": {} }],
    } })
}

fn with(path: &str, value: Value) -> Value {
    let mut pod = restricted();
    match path.strip_prefix("c.") {
        Some(path) => tree::set(&mut tree::list_mut(&mut pod, "spec.containers")[0], path, value),
        None => tree::set(&mut pod, &format!("spec.{path}"), value),
    }
    pod
}

#[test]
fn each_fault_is_found_at_its_level() {
    assert_eq!(evaluate(&restricted(), Level::Restricted, LATEST), Vec::<String>::new());
    for (path, value, baseline, restricted) in [
        (
            "hostNetwork",
            json!(true),
            "host namespaces (hostNetwork=true)",
            "host namespaces (hostNetwork=true)",
        ),
        (
            "c.securityContext.privileged",
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "c.securityContext.capabilities.add",
            json!(["SYS_ADMIN"]),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            "unrestricted capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "c.securityContext.capabilities.add",
            json!(["CHOWN"]),
            "",
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "c.securityContext.capabilities",
            json!({}),
            "",
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
        ),
        (
            "volumes",
            json!([{ "name": "v", "hostPath": { "path": "/" } }]),
            "hostPath volumes (volume \"v\")",
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        (
            "c.ports",
            json!([{ "hostPort": 80 }]),
            "hostPort (container \"c\" uses hostPort 80)",
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            "c.livenessProbe.httpGet.host",
            json!("127.0.0.1"),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"127.0.0.1\")",
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"127.0.0.1\")",
        ),
        (
            "c.lifecycle",
            json!({"preStop": {"tcpSocket": {"host": "b"}}, "postStart": {"httpGet": {"host": "a"}}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"a\", \"b\")",
            "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"a\", \"b\")",
        ),
        (
            "c.securityContext.windowsOptions.hostProcess",
            json!(true),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "c.securityContext.procMount",
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "securityContext.seccompProfile.type",
            json!("Unconfined"),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "securityContext.sysctls",
            json!([{ "name": "kernel.msgmax" }]),
            "forbidden sysctls (kernel.msgmax)",
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "securityContext.runAsNonRoot",
            Value::Null,
            "",
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            "c.securityContext.runAsUser",
            json!(0),
            "",
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
        (
            "c.securityContext.allowPrivilegeEscalation",
            json!(true),
            "",
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            "securityContext.seccompProfile",
            Value::Null,
            "",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ] {
        let pod = with(path, value);
        assert_eq!(evaluate(&pod, Level::Baseline, LATEST).join(", "), baseline, "{path}");
        assert_eq!(evaluate(&pod, Level::Restricted, LATEST).join(", "), restricted, "{path}");
    }
}

/// `enforce-version` holds a namespace to the standards of then.
#[test]
fn checks_are_those_of_a_version_and_of_a_pod() {
    let reasons = |pod: &Value, level, version| -> Vec<&str> {
        faults(pod, level, version).into_iter().map(|(reason, _)| reason).collect()
    };
    let host = with("c.readinessProbe.tcpSocket.host", json!("a"));
    assert_eq!(reasons(&host, Level::Baseline, 33), [""; 0]);
    assert_eq!(reasons(&host, Level::Baseline, 34), ["probe or lifecycle host"]);

    let mut root = with("securityContext.runAsUser", json!(0));
    tree::set(&mut root, "spec.securityContext.runAsNonRoot", json!(false));
    tree::list_mut(&mut root, "spec.containers")[0]["securityContext"]["procMount"] =
        json!("Unmasked");
    let all = ["procMount", "runAsNonRoot != true", "runAsUser=0"];
    assert_eq!(reasons(&root, Level::Restricted, LATEST), all);
    assert_eq!(reasons(&root, Level::Baseline, LATEST), ["procMount"]);
    tree::set(&mut root, "spec.hostUsers", json!(false));
    assert_eq!(reasons(&root, Level::Restricted, 34), all);
    assert_eq!(reasons(&root, Level::Restricted, 35), ["procMount"]);
    assert_eq!(reasons(&root, Level::Baseline, 35), [""; 0]);

    // What a pod calls itself lets it no further than its kind goes.
    let mut windows = json!({"spec": {
        "os": {"name": "windows"}, "hostNetwork": true, "containers": [{"name": "c"}],
        "securityContext": {"runAsNonRoot": true},
    }});
    assert_eq!(reasons(&windows, Level::Restricted, LATEST), ["host namespaces"]);
    windows["spec"]["os"]["name"] = json!("linux");
    assert_eq!(reasons(&windows, Level::Restricted, LATEST).len(), 4);
}

#[test]
fn a_version_is_its_number() {
    let version = |text: &str| ask("baseline", text).expect("a level").version;
    assert_eq!(
        ["v1.0", "v1.33", "latest", "", "junk"].map(version),
        [0, 33, LATEST, LATEST, LATEST]
    );
}

#[tokio::test]
async fn labels_decide() {
    let world = World::new(&["10.43.0.0/16"]);
    world.add(NAMESPACES, json!({ "metadata": { "name": "strict", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.37",
    } } }));
    let create = |resource: &str, object: Value| {
        write(admin(), Operation::Create, resource, "strict", Some(object), None)
    };
    let mut pod = with("hostPID", json!(true));
    pod["metadata"] = json!({ "name": "p" });
    let status = check(&world.access, &mut create("pods", pod.clone())).await.expect_err("hostPID");
    assert_eq!(
        status.message,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
    let mut plain = create("pods", json!({ "spec": { "containers": [{ "name": "c" }] } }));
    check(&world.access, &mut plain).await.expect("baseline");
    assert_eq!(
        plain.warnings,
        [
            "would violate PodSecurity \"restricted:v1.37\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        ]
    );
    // A namespace that was made a moment ago is asked for.
    world.add_unseen(
        NAMESPACES,
        json!({ "metadata": { "name": "new", "labels": {
        "pod-security.kubernetes.io/enforce": "restricted",
    } } }),
    );
    let mut early = write(admin(), Operation::Create, "pods", "new", Some(pod.clone()), None);
    check(&world.access, &mut early).await.expect_err("restricted");
    // A template is warned about, never refused.
    let mut deployment = create("deployments.apps", json!({ "spec": { "template": pod } }));
    check(&world.access, &mut deployment).await.expect("templates pass");
    assert_eq!(deployment.warnings.len(), 1);
}

fn labelled(labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(mode, word)| (format!("pod-security.kubernetes.io/{mode}"), json!(word)))
        .collect();
    json!({ "metadata": { "name": "team", "labels": labels } })
}

#[tokio::test]
async fn labels_of_a_namespace_are_words_of_the_standards() {
    let world = World::new(&["10.43.0.0/16"]);
    let wrong = labelled(&[("enforce", "zz"), ("audit-version", "v1.07"), ("warn", "")]);
    let mut create = write(admin(), Operation::Create, "namespaces", "", Some(wrong.clone()), None);
    let status = check(&world.access, &mut create).await.expect_err("no words");
    let label = "metadata.labels[pod-security.kubernetes.io";
    let level = "must be one of privileged, baseline, restricted";
    assert_eq!(
        (status.code, status.message),
        (
            422,
            format!(
                "Namespace \"team\" is invalid: [{label}/enforce]: Invalid value: \"zz\": {level}, {label}/audit-version]: Invalid value: \"v1.07\": must be \"latest\" or \"v1.x\", {label}/warn]: Invalid value: \"\": {level}]"
            )
        )
    );
    let update = |new: &Value, old: &Value| {
        let (new, old) = (Some(new.clone()), Some(old.clone()));
        write(admin(), Operation::Update, "namespaces", "", new, old)
    };
    let good = labelled(&[
        ("enforce", "privileged"),
        ("enforce-version", "v1.37"),
        ("audit", "baseline"),
        ("audit-version", "v1.0"),
        ("warn", "restricted"),
        ("warn-version", "latest"),
    ]);
    check(&world.access, &mut update(&wrong, &good)).await.expect_err("newly wrong");
    check(&world.access, &mut update(&good, &wrong)).await.expect("mended");
    // It was wrong before there was anybody to say so.
    let mut other = wrong.clone();
    other["metadata"]["labels"]["a"] = json!("b");
    check(&world.access, &mut update(&other, &wrong)).await.expect("as wrong as before");
}

#[tokio::test]
async fn who_tightens_a_namespace_hears_of_its_pods() {
    let world = World::new(&["10.43.0.0/16"]);
    let pod = |name: &str, path: &str, value: Value| {
        let mut pod = with(path, value);
        pod["metadata"] = json!({ "name": name, "namespace": "team" });
        pod
    };
    let root = || json!(0);
    let pods = [
        pod("good", "hostPID", json!(false)),
        pod("c", "c.securityContext.runAsUser", root()),
        pod("a", "c.securityContext.runAsUser", root()),
        pod("b", "c.securityContext.runAsUser", root()),
        pod("host", "hostPID", json!(true)),
    ];
    let metadata = json!({ "namespace": "team", "resourceVersion": "1" });
    world.add_unseen(PODS, json!({ "metadata": metadata, "items": pods }));
    for (before, after, warnings) in [
        (
            &[][..],
            &[("enforce", "restricted")][..],
            &[
                "existing pods in namespace \"team\" violate the new PodSecurity enforce level \"restricted:latest\"",
                "a (and 2 other pods): runAsUser=0",
                "host: host namespaces",
            ][..],
        ),
        (
            &[("enforce", "privileged")],
            &[("enforce", "baseline"), ("enforce-version", "v1.37")],
            &[
                "existing pods in namespace \"team\" violate the new PodSecurity enforce level \"baseline:v1.37\"",
                "host: host namespaces",
            ],
        ),
        (&[("enforce", "restricted")], &[("enforce", "baseline")], &[]),
        (&[("enforce", "restricted")], &[("enforce", "restricted"), ("warn", "baseline")], &[]),
        (&[("enforce", "restricted")], &[("enforce-version", "v1.37")], &[]),
    ] {
        for dry_run in [false, true] {
            let (new, old) = (Some(labelled(after)), Some(labelled(before)));
            let mut update = write(admin(), Operation::Update, "namespaces", "", new, old);
            update.dry_run = dry_run;
            check(&world.access, &mut update).await.expect("a warning is no refusal");
            assert_eq!(update.warnings, warnings, "{before:?} {after:?}");
        }
    }
}

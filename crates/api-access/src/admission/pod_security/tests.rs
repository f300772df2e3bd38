use serde_json::json;

use super::*;
use crate::{
    state::NAMESPACES,
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
    assert_eq!(evaluate(&restricted(), Level::Restricted), Vec::<String>::new());
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
        assert_eq!(evaluate(&pod, Level::Baseline).join(", "), baseline, "{path}");
        assert_eq!(evaluate(&pod, Level::Restricted).join(", "), restricted, "{path}");
    }
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

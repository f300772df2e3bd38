//! Who may be asked for by certificate, and who approves and signs: the last
//! two need a right that names the signer.

use api_object::Status;
use api_registry::{Attributes, Operation, RequestAttributes};
use api_schema::tree;
use base64::{Engine, engine::general_purpose::STANDARD};
use pki::SigningRequest;
use serde_json::Value;

use super::denied;
use crate::{Access, authorization};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Nobody gets into the group that RBAC cannot lock out by a certificate.
pub(super) fn subject(attributes: &Attributes) -> Result<(), Status> {
    let Some(request) = &attributes.object else { return Ok(()) };
    if tree::text(request, "spec.signerName") != CLIENT_SIGNER {
        return Ok(());
    }
    let pem = STANDARD.decode(tree::text(request, "spec.request")).map_err(|e| e.to_string());
    let asked = pem.and_then(|pem| SigningRequest::from_pem(&pem));
    let asked = asked.map_err(|why| denied(attributes, &format!("failed to parse CSR: {why}")))?;
    match asked.organizations.iter().any(|group| group == authorization::MASTERS) {
        false => Ok(()),
        true => {
            let masters = authorization::MASTERS;
            let why = format!("use of {CLIENT_SIGNER} signer with {masters} group is not allowed");
            Err(denied(attributes, &why))
        }
    }
}

pub(super) fn approval(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let signer = signer_of(&attributes.old_object);
    permitted(access, attributes, "approve", signer, || {
        format!("user not permitted to approve requests with signerName {signer:?}")
    })
}

pub(super) fn signing(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let same = |path| {
        let at = |object: &Option<Value>| {
            object.as_ref().map_or(Value::Null, |object| tree::get(object, path).clone())
        };
        at(&attributes.object) == at(&attributes.old_object)
    };
    if same("status.certificate") && same("status.conditions") {
        return Ok(());
    }
    let signer = signer_of(&attributes.old_object);
    permitted(access, attributes, "sign", signer, || {
        format!("user not permitted to sign requests with signerName {signer:?}")
    })
}

/// A bundle speaks for its signer.
pub(super) fn attest(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let signer = signer_of(&attributes.object);
    if signer.is_empty() {
        return Ok(());
    }
    let spec = |object: &Option<Value>| {
        object.as_ref().map_or(Value::Null, |object| tree::get(object, "spec").clone())
    };
    if attributes.operation == Operation::Update
        && spec(&attributes.object) == spec(&attributes.old_object)
    {
        return Ok(());
    }
    permitted(access, attributes, "attest", signer, || {
        format!("user not permitted to attest for signerName {signer:?}")
    })
}

fn signer_of(object: &Option<Value>) -> &str {
    object.as_ref().map_or("", |object| tree::text(object, "spec.signerName"))
}

/// The right names the signer, or all of its domain.
fn permitted(
    access: &Access,
    attributes: &Attributes,
    verb: &str,
    signer: &str,
    why: impl Fn() -> String,
) -> Result<(), Status> {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let state = access.state();
    let may = |name: &str| {
        let asked = RequestAttributes {
            user: attributes.user.clone(),
            verb: verb.into(),
            resource_request: true,
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.into(),
            ..RequestAttributes::default()
        };
        authorization::grant(&state, &asked).is_ok()
    };
    match may(signer) || may(&format!("{domain}/*")) {
        true => Ok(()),
        false => Err(denied(attributes, &why())),
    }
}

#[cfg(test)]
mod tests {
    use api_registry::Operation::{Create, Update};

    use serde_json::json;

    use super::*;
    use crate::{
        state::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES},
        testing::{World, user, write},
    };

    const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";

    fn world() -> World {
        let world = World::new(&["10.43.0.0/16"]);
        for (who, verb, name) in [
            ("ann", "approve", "example.com/web"),
            ("bob", "sign", "example.com/*"),
            ("cat", "attest", "example.com/web"),
        ] {
            world.add(
                CLUSTER_ROLES,
                json!({ "metadata": { "name": who }, "rules": [{
                    "verbs": [verb], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": [name],
                }] }),
            );
            world.add(
                CLUSTER_ROLE_BINDINGS,
                json!({
                    "metadata": { "name": who }, "roleRef": { "kind": "ClusterRole", "name": who },
                    "subjects": [{ "kind": "User", "name": who }],
                }),
            );
        }
        world
    }

    #[tokio::test]
    async fn deciding_needs_a_right_that_names_the_signer() {
        let world = world();
        let request = |status: Value| {
            json!({
                "metadata": { "name": "r" }, "spec": { "signerName": "example.com/web" },
                "status": status,
            })
        };
        let approved = json!({ "conditions": [{ "type": "Approved" }] });
        let signed = json!({ "certificate": "x" });
        for (who, subresource, status, wanted) in [
            ("ann", "approval", &approved, ""),
            (
                "bob",
                "approval",
                &approved,
                "user not permitted to approve requests with signerName \"example.com/web\"",
            ),
            ("bob", "status", &signed, ""),
            ("ann", "status", &signed, "user not permitted to sign requests with signerName"),
            ("ann", "status", &json!({}), ""),
        ] {
            let resource = format!("certificatesigningrequests/{subresource}.{GROUP}");
            let mut asked = write(
                user(who, &["system:authenticated"]),
                Update,
                &resource,
                "",
                Some(request(status.clone())),
                Some(request(json!({}))),
            );
            let found = world.admit(&mut asked).await.err().map(|status| status.message);
            assert!(
                found.as_deref().unwrap_or_default().contains(wanted)
                    && found.is_none() == wanted.is_empty(),
                "{who} {subresource}: {found:?}"
            );
        }
        for (who, refused) in [("cat", false), ("bob", true)] {
            let bundle =
                json!({ "metadata": { "name": "b" }, "spec": { "signerName": "example.com/web" } });
            let resource = "clustertrustbundles.certificates.k8s.io";
            let mut asked = write(
                user(who, &["system:authenticated"]),
                Create,
                resource,
                "",
                Some(bundle),
                None,
            );
            assert_eq!(world.admit(&mut asked).await.is_err(), refused, "{who}");
        }
    }

    #[tokio::test]
    async fn a_request_says_who_asked_and_nobody_becomes_master() {
        let world = world();
        let ask = async |signer: &str, pem: &str| {
            let request = json!({
                "metadata": { "name": "r" },
                "spec": { "signerName": signer, "request": STANDARD.encode(pem), "username": "root", "groups": ["system:masters"] },
                "status": { "certificate": "x" },
            });
            let mut asked =
                write(user("eve", &["devs"]), Create, REQUESTS, "", Some(request), None);
            world.admit(&mut asked).await.map(|()| asked.object.expect("kept"))
        };
        let made = ask(CLIENT_SIGNER, DEVS).await.expect("its own");
        assert_eq!(made["spec"]["username"], "eve");
        assert_eq!(made["spec"]["groups"], json!(["devs"]));
        let refused = ask(CLIENT_SIGNER, MASTERS).await.expect_err("master");
        assert!(
            refused.message.contains("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"),
            "{}",
            refused.message
        );
        ask("example.com/web", MASTERS).await.expect("that signer makes no users");
    }

    /// Made by `openssl req`: O `devs`, CN `jane`.
    const DEVS: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHZMIGAAgEAMB4xDTALBgNVBAoMBGRldnMxDTALBgNVBAMMBGphbmUwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAASzXa5QS+2s4E5Kq4FydZrfMZXgZp5IhqQhbhly
/eQYPxm6O9KDjCcD1t87fftsxRXs6fPTfq78WDNTJeU/hjvboAAwCgYIKoZIzj0E
AwIDSAAwRQIhALAWW4Maexl8zeJblqnLXjxD7Gz5QZAQOHz8JIieoYgmAiAhGZSm
WQLdgJ1TLCOBOnEDaMXX5CJvY/EbVLJQucOEiQ==
-----END CERTIFICATE REQUEST-----
";
    /// O `system:masters`, CN `jane`.
    const MASTERS: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHiMIGKAgEAMCgxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQ0wCwYDVQQDDARq
YW5lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEc2/9GCV25Fvfg2TFXJXpk773
k1gKxp+P7FkeXbQBo1fdL3SvWiY0v3sZpS2kEs7pwXkTjCh8Pfw6nU3GvbZBVaAA
MAoGCCqGSM49BAMCA0cAMEQCIET2FkSat3Rh2cCO87/TEOzsZpyTNJ3vgDS1loCb
K6RCAiAox8VXmKQLqlO9FzVaPhPxyU+iIJdS8BtyWTRad+H8pw==
-----END CERTIFICATE REQUEST-----
";
}

//! Tokens that a node asks for: of its pods, for whom those pods use them.

use api_registry::{Attributes, RequestAttributes};
use api_schema::tree;
use serde_json::Value;

use super::{Refusal, pod::known};
use crate::{
    Access, authorization,
    state::{Pod, State},
};

pub(super) fn check(access: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let Some(request) = &attributes.object else { return Ok(()) };
    let bound = tree::get(request, "spec.boundObjectRef");
    let text = |path| tree::text(bound, path);
    let why = match (text("apiVersion"), text("kind"), text("name"), text("uid")) {
        ("v1", "Pod", "", _) => "node requested token not bound to a pod",
        ("v1", "Pod", _, "") => "node requested token with a pod binding without a uid",
        ("v1", "Pod", ..) => "",
        _ => "node requested token not bound to a pod",
    };
    if !why.is_empty() {
        return Err(why.to_owned().into());
    }
    let state = access.state();
    let pod = known(&state, &attributes.namespace, text("name"))?;
    if pod.seen.uid != text("uid") {
        return Err(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        )
        .into());
    }
    if pod.node != node {
        let why = "node requested token bound to a pod scheduled on a different node";
        return Err(why.to_owned().into());
    }
    audience(&state, pod, request, attributes)
}

/// A node that was taken over gets tokens for no one that its pods do not talk
/// to, unless it is allowed by name (`request-serviceaccounts-token-audience`).
fn audience(
    state: &State,
    pod: &Pod,
    request: &Value,
    attributes: &Attributes,
) -> Result<(), Refusal> {
    let audience = match tree::list(request, "spec.audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned().into()),
    };
    if used(state, &attributes.namespace, pod, audience) {
        return Ok(());
    }
    let asked = RequestAttributes {
        user: attributes.user.clone(),
        verb: "request-serviceaccounts-token-audience".into(),
        resource_request: true,
        version: "v1".into(),
        resource: audience.to_owned(),
        namespace: attributes.namespace.clone(),
        name: attributes.name.clone(),
        ..RequestAttributes::default()
    };
    match authorization::grant(state, &asked) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            attributes.user.name
        )
        .into()),
    }
}

/// Whether a volume of the pod holds a token for the audience, or its driver
/// gets one.
fn used(state: &State, namespace: &str, pod: &Pod, audience: &str) -> bool {
    let of_driver = |driver: &str| {
        state
            .drivers
            .get(driver)
            .is_some_and(|audiences| audiences.iter().any(|known| known == audience))
    };
    pod.audiences.iter().any(|known| known == audience)
        || pod.drivers.iter().any(|driver| of_driver(driver))
        || pod.claims.iter().any(|claim| {
            state.volumes.of_claim(namespace, claim).any(|volume| of_driver(&volume.driver))
        })
}

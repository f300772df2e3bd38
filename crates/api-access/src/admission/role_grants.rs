//! Nobody writes a role or a binding that grants what they do not hold, unless
//! they may `escalate` or `bind`.

use api_object::Status;
use api_registry::{Attributes, Operation, RequestAttributes};
use api_schema::tree;

use super::denied;
use crate::{
    Access,
    authorization::{
        self,
        escalation::{everything, message, uncovered},
        rbac::Rule,
    },
};

pub(super) const LOOKS_AT: &[&str] = &[
    "roles.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
];

pub(super) async fn check(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    if authorization::is_master(&attributes.user) {
        return Ok(());
    }
    let binding = attributes.resource.resource.ends_with("bindings");
    let why = match binding {
        true => check_binding(access, attributes),
        false => check_role(access, attributes),
    };
    why.map_err(|why| denied(attributes, &why))
}

fn check_role(access: &Access, attributes: &Attributes) -> Result<(), String> {
    let Some(role) = &attributes.object else { return Ok(()) };
    let aggregates = !tree::get(role, "aggregationRule").is_null();
    if let (Operation::Update, Some(old)) = (attributes.operation, &attributes.old_object) {
        let same = |path| tree::get(role, path) == tree::get(old, path);
        if same("rules") && same("aggregationRule") {
            return Ok(());
        }
    }
    let state = access.state();
    if allowed(&state, attributes, "escalate", &attributes.resource.resource, &attributes.name) {
        return Ok(());
    }
    let mut wanted = Rule::all(role).to_vec();
    if aggregates {
        wanted.extend(everything());
    }
    held(&state, attributes, &wanted)
}

fn check_binding(access: &Access, attributes: &Attributes) -> Result<(), String> {
    let Some(binding) = &attributes.object else { return Ok(()) };
    if let (Operation::Update, Some(old)) = (attributes.operation, &attributes.old_object) {
        let same = |path| tree::get(binding, path) == tree::get(old, path);
        if same("roleRef") && same("subjects") {
            return Ok(());
        }
    }
    let cluster = tree::text(binding, "roleRef.kind") == "ClusterRole";
    let name = tree::text(binding, "roleRef.name");
    let state = access.state();
    let resource = if cluster { "clusterroles" } else { "roles" };
    if allowed(&state, attributes, "bind", resource, name) {
        return Ok(());
    }
    let Some(rules) = state.policy.role(&attributes.namespace, cluster, name) else {
        return Err(format!("{resource}.rbac.authorization.k8s.io {name:?} not found"));
    };
    held(&state, attributes, rules)
}

fn allowed(
    state: &crate::state::State,
    attributes: &Attributes,
    verb: &str,
    resource: &str,
    name: &str,
) -> bool {
    let asked = RequestAttributes {
        user: attributes.user.clone(),
        verb: verb.into(),
        resource_request: true,
        group: attributes.resource.group.clone(),
        version: "*".into(),
        resource: resource.into(),
        namespace: attributes.namespace.clone(),
        name: name.into(),
        ..RequestAttributes::default()
    };
    authorization::grant(state, &asked).is_ok()
}

fn held(
    state: &crate::state::State,
    attributes: &Attributes,
    wanted: &[Rule],
) -> Result<(), String> {
    let (held, missing_roles) = state.policy.rules_for(&attributes.user, &attributes.namespace);
    let missing = uncovered(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut why = message(&attributes.user, &missing);
    if !missing_roles.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", missing_roles.join(", ")));
    }
    Err(why)
}

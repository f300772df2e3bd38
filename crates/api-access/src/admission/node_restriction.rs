//! What a node writes is about itself: its Node, its Lease, its pods, what
//! those mount, and the tokens of its pods (KEP-279).

mod node;
mod pod;
mod token;

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;

use super::denied;
use crate::{Access, authorization::node::name, follow, state::LOCAL_PATH_NODE};

/// Why a write is not the node's to make.
enum Refusal {
    /// 403 with this reason.
    Forbidden(String),
    /// As it is: the object that the write is about does not exist.
    Missing(Status),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Forbidden(why)
    }
}

/// One check.
type Check = fn(&Access, &str, &Attributes) -> Result<(), Refusal>;

/// One row a resource, as `pods/status` or `leases.coordination.k8s.io`.
const CHECKS: &[(&str, Check)] = &[
    ("pods", pod::whole),
    ("pods/status", pod::status),
    ("pods/eviction", pod::eviction),
    ("nodes", node::whole),
    ("nodes/status", node::whole),
    ("persistentvolumeclaims", |_, _, _| Err("may only update PVC status".to_owned().into())),
    ("persistentvolumeclaims/status", claim_status),
    ("persistentvolumes", volume),
    ("serviceaccounts/token", token::check),
    ("leases.coordination.k8s.io", lease),
    ("csinodes.storage.k8s.io", csi_node),
    ("resourceslices.resource.k8s.io", slice),
    ("podcertificaterequests.certificates.k8s.io", pod::certificate_request),
];

/// The rows' resources.
pub(super) const LOOKS_AT: &[&str] = &{
    let mut names = [""; CHECKS.len()];
    let mut index = 0;
    while index < CHECKS.len() {
        names[index] = CHECKS[index].0;
        index += 1;
    }
    names
};

pub(super) async fn check(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let user = attributes.user.clone();
    let Some(node) = name(&user) else { return Ok(()) };
    let Some((_, check)) = CHECKS.iter().find(|(what, _)| super::is(attributes, what)) else {
        return Ok(());
    };
    let mut checked = check(access, node, attributes);
    if checked.is_err()
        && follow::pods::goes_by_pods(&attributes.resource.resource)
        && follow::pods::learned(access, node, &attributes.namespace).await
    {
        checked = check(access, node, attributes);
    }
    checked.map_err(|refusal| match refusal {
        Refusal::Forbidden(why) => denied(attributes, &why),
        Refusal::Missing(status) => status,
    })
}

/// The name in the path, or in the object that is created.
fn named(attributes: &Attributes) -> &str {
    let of_object =
        attributes.object.as_ref().map_or("", |object| tree::text(object, "metadata.name"));
    if attributes.name.is_empty() { of_object } else { &attributes.name }
}

fn lease(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    if attributes.namespace != "kube-node-lease" {
        let why = "can only access leases in the \"kube-node-lease\" system namespace";
        return Err(why.to_owned().into());
    }
    own_name(
        node,
        attributes,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    own_name(node, attributes, "can only access CSINode with the same name as the requesting node")
}

fn own_name(node: &str, attributes: &Attributes, why: &str) -> Result<(), Refusal> {
    if named(attributes) == node { Ok(()) } else { Err(why.to_owned().into()) }
}

fn slice(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let object = match attributes.operation {
        Operation::Delete => &attributes.old_object,
        _ => &attributes.object,
    };
    let of = object.as_ref().map_or("", |slice| tree::text(slice, "spec.nodeName"));
    if of == node {
        return Ok(());
    }
    let verb = match attributes.operation {
        Operation::Create => "create",
        Operation::Delete => "delete",
        _ => "update",
    };
    let why =
        format!("can only {verb} ResourceSlice with the same NodeName as the requesting node");
    Err(why.into())
}

/// How large a volume is now, and how its resizing goes; nothing else.
fn claim_status(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old_object) else {
        return Ok(());
    };
    let (mut new, mut old) = (new.clone(), old.clone());
    for claim in [&mut new, &mut old] {
        for path in [
            "metadata.resourceVersion",
            "metadata.managedFields",
            "status.capacity",
            "status.conditions",
            "status.allocatedResources",
            "status.allocatedResourceStatuses",
        ] {
            tree::remove(claim, path);
        }
        if tree::entries(claim, "status").next().is_none() {
            tree::remove(claim, "status");
        }
    }
    match new == old {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )
        .into()),
    }
}

/// Lets go of a volume that was a directory of the node; nothing else.
fn volume(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    const FINALIZER: &str = "skiff.sh/local-path";
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old_object) else {
        return Err("may only let go of PersistentVolumes".to_owned().into());
    };
    let label = tree::get(old, "metadata.labels").get(LOCAL_PATH_NODE);
    let is_own = label.and_then(serde_json::Value::as_str) == Some(node);
    let is_deleting = !tree::get(old, "metadata.deletionTimestamp").is_null();
    let rest = |volume: &serde_json::Value| {
        let mut volume = volume.clone();
        for path in ["metadata.resourceVersion", "metadata.managedFields", "metadata.finalizers"] {
            tree::remove(&mut volume, path);
        }
        volume
    };
    let mut kept = tree::list(old, "metadata.finalizers").to_vec();
    kept.retain(|finalizer| finalizer != FINALIZER);
    match is_own
        && is_deleting
        && rest(new) == rest(old)
        && tree::list(new, "metadata.finalizers") == kept.as_slice()
    {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} may only take the finalizer {FINALIZER} from its own volumes that are being deleted"
        )
        .into()),
    }
}

#[cfg(test)]
mod tests;

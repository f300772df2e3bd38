//! Nothing is written into a namespace that does not exist, nothing new into
//! one that ends, and three namespaces never end.

use api_object::{
    Status,
    status::{Cause, Details},
};
use api_registry::{Attributes, Operation};

use crate::{
    Access,
    state::{NAMESPACES, Namespace},
};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) async fn lifecycle(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let core = attributes.resource.group.is_empty();
    if core && attributes.resource.resource == "namespaces" {
        if attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name.as_str())
        {
            return Err(super::denied(attributes, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    let namespace = attributes.namespace.as_str();
    if namespace.is_empty()
        || attributes.operation == Operation::Delete
        // Asking is always allowed, also about what does not exist.
        || attributes.resource.resource == "localsubjectaccessreviews"
    {
        return Ok(());
    }
    let terminating = find(access, namespace).await?.terminating;
    if !terminating || attributes.operation != Operation::Create {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = super::denied(attributes, &why);
    let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
    details.causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(status)
}

/// A namespace as it is known; one that is not is asked for, since the memory
/// may lag behind one that was just made.
pub(super) async fn find(access: &Access, name: &str) -> Result<Namespace, Status> {
    let known = access.state().namespaces.get(name).cloned();
    if let Some(namespace) = known {
        return Ok(namespace);
    }
    let api =
        access.api.get().ok_or_else(|| Status::internal("access control is not running yet"))?;
    match api.get(NAMESPACES, "", name).await {
        Ok(object) => {
            let value = serde_json::from_slice(&object.bytes).map_err(Status::internal)?;
            Ok(Namespace::of(&object.meta, &value))
        }
        Err(error) if error.is_not_found() => Err(Status::not_found(&NAMESPACES.gvr(), name)),
        Err(error) => Err(Status::internal(error)),
    }
}

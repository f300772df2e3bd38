//! What storage objects get without asking: a class, and protection while they
//! are in use. And which claims may grow.

use api_object::{Quantity, Status};
use api_registry::Attributes;
use api_schema::tree;
use serde_json::json;

use super::{denied, list_slot};
use crate::Access;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// DefaultStorageClass: a claim that says nothing of a class gets the newest
/// of those marked as default.
pub(super) fn default_class(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let Some(claim) = &mut attributes.object else { return Ok(()) };
    let is_said = !tree::get(claim, "spec.storageClassName").is_null()
        || tree::get(claim, "metadata.annotations").get(CLASS_ANNOTATION).is_some();
    if is_said {
        return Ok(());
    }
    let state = access.state();
    let defaults = state.classes.iter().filter(|(_, class)| class.is_default);
    let newest = defaults.max_by(|(a_name, a), (b_name, b)| {
        a.created.cmp(&b.created).then_with(|| b_name.cmp(a_name))
    });
    if let Some((name, _)) = newest {
        tree::set(claim, "spec.storageClassName", name.as_str());
    }
    Ok(())
}

/// StorageObjectInUseProtection: the finalizer that a controller takes off once
/// nothing uses the object.
pub(super) fn protect(attributes: &mut Attributes) -> Result<(), Status> {
    let finalizer = match attributes.resource.resource.as_str() {
        "persistentvolumeclaims" => "kubernetes.io/pvc-protection",
        _ => "kubernetes.io/pv-protection",
    };
    let Some(object) = &mut attributes.object else { return Ok(()) };
    let finalizers = list_slot(object, "metadata.finalizers");
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(json!(finalizer));
    }
    Ok(())
}

/// PersistentVolumeClaimResize: a claim grows where its class can do that.
pub(super) fn resize(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old_object) else {
        return Ok(());
    };
    let asked = |claim| {
        Quantity::parse(tree::text(claim, "spec.resources.requests.storage")).unwrap_or_default()
    };
    if asked(new) <= asked(old) {
        return Ok(());
    }
    if tree::text(old, "status.phase") != "Bound" {
        return Err(denied(attributes, "Only bound persistent volume claims can be expanded"));
    }
    let annotation = tree::get(old, "metadata.annotations").get(CLASS_ANNOTATION);
    let class = match annotation.and_then(serde_json::Value::as_str) {
        Some(class) => class,
        None => tree::text(old, "spec.storageClassName"),
    };
    match access.state().classes.get(class).is_some_and(|class| class.expands) {
        true => Ok(()),
        false => Err(denied(
            attributes,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )),
    }
}

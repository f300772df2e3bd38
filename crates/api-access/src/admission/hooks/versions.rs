//! Objects in the version that a webhook or a policy is about.

use std::sync::Arc;

use api_object::Status;
use api_registry::Attributes;
use api_schema::{Conversion, Expected, FieldValidation, ResourceSpec, Role, ShapeRef, tree};
use serde_json::Value;

use super::matching::Meant;
use crate::Access;

/// What is shown of a request's objects; null for none.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) object: Value,
    pub(super) old: Value,
}

/// The row of a request's own version.
fn row(access: &Access, attributes: &Attributes) -> Option<Arc<ResourceSpec>> {
    let resource = &attributes.resource;
    access.settings.catalogue.find(&resource.group, &resource.version, &resource.resource)
}

/// Whether a request's body is the resource itself, so that it has its versions.
fn is_whole(row: &ResourceSpec, attributes: &Attributes) -> bool {
    match row.subresource(&attributes.subresource) {
        None => attributes.subresource.is_empty(),
        Some(sub) => matches!(sub.role, Role::Status | Role::Part { .. }),
    }
}

/// The objects of a request in the version that is meant.
///
/// # Errors
/// They cannot be converted.
pub(super) async fn shown(
    access: &Access,
    attributes: &Attributes,
    meant: &Meant,
) -> Result<Shown, Status> {
    Ok(Shown {
        object: one(access, attributes, meant, attributes.object.as_ref()).await?,
        old: one(access, attributes, meant, attributes.old_object.as_ref()).await?,
    })
}

/// The shape of what is shown; `None` for what has none, like connections.
pub(super) fn shape(access: &Access, attributes: &Attributes, meant: &Meant) -> Option<ShapeRef> {
    let own = row(access, attributes)?;
    if is_whole(&own, attributes) {
        return Some(meant.other.as_ref().unwrap_or(&own).shape.clone());
    }
    own.subresource(&attributes.subresource)?.shape.clone()
}

async fn one(
    access: &Access,
    attributes: &Attributes,
    meant: &Meant,
    object: Option<&Value>,
) -> Result<Value, Status> {
    let Some(object) = object else { return Ok(Value::Null) };
    let mut object = object.clone();
    if let (Some(other), Some(row)) = (&meant.other, row(access, attributes))
        && is_whole(&row, attributes)
    {
        return convert(access, &row, other, object).await;
    }
    // What is made here may not say what it is.
    if tree::text(&object, "kind").is_empty() && object.is_object() {
        let kind = &attributes.kind;
        let version = match kind.group.as_str() {
            "" => kind.version.clone(),
            group => format!("{group}/{}", kind.version),
        };
        tree::set(&mut object, "kind", kind.kind.as_str());
        tree::set(&mut object, "apiVersion", version);
    }
    Ok(object)
}

/// What a webhook or policy made of an object that was shown to it, in the version
/// of the request: decoded and defaulted, as if the client had sent it.
///
/// # Errors
/// It is no object of the kind any more.
pub(super) async fn taken(
    access: &Access,
    attributes: &Attributes,
    meant: &Meant,
    object: Value,
) -> Result<Value, Status> {
    let Some(own) = row(access, attributes) else { return Ok(object) };
    let ignore = FieldValidation::Ignore;
    if !is_whole(&own, attributes) {
        let Some(sub) = own.subresource(&attributes.subresource) else { return Ok(object) };
        let Some(shape) = &sub.shape else { return Ok(object) };
        let decoded = shape.conform(object);
        let (object, _) = Expected::of_sub(sub, shape).check(None, decoded, ignore)?;
        return Ok(object);
    }
    let shown = meant.other.as_ref().unwrap_or(&own);
    let (mut object, _) = shown.conform(object, ignore)?;
    shown.default(&mut object);
    match &meant.other {
        Some(other) => convert(access, other, &own, object).await,
        None => Ok(object),
    }
}

async fn convert(
    access: &Access,
    from: &ResourceSpec,
    to: &ResourceSpec,
    mut object: Value,
) -> Result<Value, Status> {
    let version = to.api_version();
    if let Some(custom) = &to.custom
        && let Conversion::Webhook(webhook) = &custom.definition.conversion
    {
        let Some(converter) = &access.settings.converter else {
            return Err(Status::internal("this server converts no custom kinds"));
        };
        let converted = converter.convert(webhook, &version, vec![object]).await;
        let failed = |why: String| {
            let (from, kind) = (from.api_version(), &from.kind);
            Status::internal(format!("conversion webhook for {from}, Kind={kind} {why}"))
        };
        object = converted.map_err(failed)?.pop().unwrap_or_default();
    } else {
        if let Some(stored) = &from.stored_as {
            object = (stored.to_stored)(object);
        }
        if let Some(stored) = &to.stored_as {
            object = (stored.from_stored)(object);
        }
        tree::set(&mut object, "apiVersion", version);
    }
    if let Some(custom) = &to.custom {
        custom.converted(&mut object);
    }
    Ok(object)
}

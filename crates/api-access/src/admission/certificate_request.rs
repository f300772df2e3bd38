//! A request for a certificate says who asked, whatever the client wrote there.

use api_object::Status;
use api_registry::Attributes;
use api_schema::tree;
use serde_json::json;

pub(super) fn name_requester(attributes: &mut Attributes) -> Result<(), Status> {
    let user = attributes.user.clone();
    let Some(request) = &mut attributes.object else { return Ok(()) };
    for field in ["username", "uid", "groups", "extra"] {
        tree::remove(request, &format!("spec.{field}"));
    }
    tree::set(request, "spec.username", user.name.as_str());
    if !user.uid.is_empty() {
        tree::set(request, "spec.uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        tree::set(request, "spec.groups", json!(user.groups));
    }
    if !user.extra.is_empty() {
        tree::set(request, "spec.extra", json!(user.extra));
    }
    Ok(())
}

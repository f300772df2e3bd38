//! A kind that is only posted, and says what a subresource of another is told:
//! `bindings`, which are `pods/binding` of the pod that they name.

use api_object::Status;
use api_schema::{Role, tree};
use serde_json::Value;

use crate::{
    BoxFuture, Request,
    create::done,
    registry::{Posted, SubresourceHandler, no_such_path},
};

/// Hands what is posted to a subresource of the object of the same name. Who
/// asks was judged by what they posted to, as was the body.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// Empty for core.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `pods`.
    pub plural: &'static str,
    /// `binding`.
    pub subresource: &'static str,
}

impl SubresourceHandler for Forward {
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let Posted { registry, request, body, options } = posted;
            let name = tree::text(&body, "metadata.name");
            if name.is_empty() {
                return Err(Status::bad_request("Name parameter required."));
            }
            let spec = registry.catalogue.find(self.group, self.version, self.plural);
            let spec = spec.ok_or_else(no_such_path)?;
            let role = spec.subresource(self.subresource).map(|sub| &sub.role);
            let Some(&Role::Post(apply)) = role else { return Err(no_such_path()) };
            let request = Request {
                spec,
                name: name.to_owned(),
                subresource: self.subresource.to_owned(),
                ..request.clone()
            };
            let now = registry.now();
            registry.replace(&request, &options, |object| apply(object, &body, now)).await?;
            serde_json::to_value(done()).map_err(Status::internal)
        })
    }
}

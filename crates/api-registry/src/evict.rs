//! A deletion that is asked for by a POST, so that it can be refused by more
//! than permissions: `pods/eviction`. Here is the deletion; who asks the
//! disruption budgets first is above this crate.

use api_object::Status;
use serde_json::Value;

use crate::{
    BoxFuture, DeleteOptions, Request,
    create::done,
    registry::{Posted, SubresourceHandler},
};

/// Deletes the object under the body's `deleteOptions`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evict;

impl SubresourceHandler for Evict {
    fn post<'a>(&'a self, mut posted: Posted<'a>) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            posted.match_name()?;
            let given = posted.body.get("deleteOptions").filter(|given| !given.is_null());
            let mut options = DeleteOptions::read(&[], given)?;
            options.dry_run |= posted.options.dry_run;
            let request = Request { subresource: String::new(), ..posted.request.clone() };
            posted.registry.delete(&request, &options).await?;
            serde_json::to_value(done()).map_err(Status::internal)
        })
    }
}

//! Byte streams to pods.

use std::sync::Arc;

use api_object::Status;
use api_schema::ResourceSpec;

use crate::{ApiServer, chain::Asked, counts::Label, path::ResourcePath, respond::Reply};

pub(crate) async fn connect(
    _server: &Arc<ApiServer>,
    _spec: Arc<ResourceSpec>,
    _path: &ResourcePath,
    asked: Asked,
    _label: &Label,
) -> Result<Reply, Status> {
    let _ = asked.upgrade;
    Err(Status::internal("not yet"))
}

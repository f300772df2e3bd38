//! `pods/exec`, `pods/attach` and `pods/portforward`: which container on which node is
//! meant, and what the session lives in. How clients speak is `streaming`.

use std::sync::Arc;

use api_object::Status;
use api_schema::tree;
use serde_json::Value;
use streaming::Host;
use tunnel::{BoxFuture, Open, OpenError, ServerEnd};

use super::pod;
use crate::{
    ApiServer,
    body::Body,
    chain::Asked,
    counts::{Label, Running},
    path::flag,
    respond::Reply,
};

/// Sessions on one node: they are counted, and end with the server.
struct Behind {
    server: Arc<ApiServer>,
    node: String,
    _counted: Running,
}

impl Behind {
    fn new(server: &Arc<ApiServer>, node: String, label: &Label) -> Arc<Self> {
        let counted = server.counts.longrunning(label);
        Arc::new(Self { server: server.clone(), node, _counted: counted })
    }
}

impl Host for Behind {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let (server, node) = (self.server.clone(), self.node.clone());
        Box::pin(async move { server.parts.nodes.open(&node, open).await })
    }

    fn run(&self, session: BoxFuture<()>) {
        let closing = self.server.closing();
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                () = closing => {}
            }
        });
    }
}

fn wanted(asked: Asked) -> streaming::Asked {
    streaming::Asked { headers: asked.head.headers, upgrade: asked.upgrade }
}

pub(super) async fn remote(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
    exec: bool,
) -> Result<Reply, Status> {
    let is_set = |name| flag(&asked.query, name);
    let stdio = streaming::remote::stdio(
        is_set("stdin"),
        is_set("stdout"),
        is_set("stderr"),
        is_set("tty"),
    )?;
    let command: Vec<String> = asked
        .query
        .iter()
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value.clone())
        .collect();
    if exec && command.is_empty() {
        return Err(Status::bad_request("you must specify a command to run"));
    }
    let container = pod::container(object, asked.parameter("container"))?;
    let (node, target) = pod::target(object, container)?;
    let open = match exec {
        true => Open::Exec(target, command, stdio),
        false => Open::Attach(target, stdio),
    };
    let behind = Behind::new(server, node, label);
    let reply = streaming::remote::serve(behind, open, wanted(asked)).await?;
    Ok(reply.map(Body::Full))
}

pub(super) fn forward(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let containers = tree::list(object, "spec.containers");
    let container = containers.first().map_or("", |first| tree::text(first, "name"));
    let (node, target) = pod::target(object, container.to_owned())?;
    let query = asked.query.clone();
    let ports: Vec<&str> =
        query.iter().filter(|(key, _)| key == "ports").map(|(_, value)| value.as_str()).collect();
    let behind = Behind::new(server, node, label);
    let reply = streaming::forward::serve(behind, target, "ports", &ports, wanted(asked))?;
    Ok(reply.map(Body::Full))
}

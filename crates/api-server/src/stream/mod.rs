//! Byte streams to containers: logs, exec, attach, port-forward and proxied
//! requests. The client speaks HTTP, WebSocket or SPDY (`streaming`); the node is spoken
//! to in `tunnel`'s frames.
//!
//! What can be refused before the stream begins is an HTTP error; what the node
//! says afterwards goes over the stream's error channel, as upstream does.

mod log;
mod pod;
pub(crate) mod proxy;
mod session;

use std::sync::Arc;

use api_object::{GroupVersionKind, Reason, Status};
use api_registry::Request;
use api_schema::{ResourceSpec, Role};
use serde_json::{Value, json};

use crate::{
    ApiServer,
    chain::{Asked, attributes_of, method_not_allowed},
    counts::Label,
    path::ResourcePath,
    respond::Reply,
};

/// What a connection asks for, as the object of its kind (`v1` `PodExecOptions`):
/// what webhooks are shown.
fn options(kind: &GroupVersionKind, query: &[(String, String)]) -> Value {
    let mut object = json!({"kind": kind.kind, "apiVersion": kind.version});
    for (name, value) in query {
        match name.as_str() {
            "stdin" | "stdout" | "stderr" | "tty" => {
                object[name] = json!(matches!(value.as_str(), "1" | "true"));
            }
            "container" | "path" => object[name] = json!(value),
            "command" | "ports" => {
                let parsed = value.parse::<i64>().ok().filter(|_| name == "ports");
                let value = parsed.map_or_else(|| json!(value), |port| json!(port));
                match &mut object[name] {
                    Value::Array(all) => all.push(value),
                    list => *list = json!([value]),
                }
            }
            _ => {}
        }
    }
    object
}

/// Serves a request to a subresource that is a stream.
pub(crate) async fn connect(
    server: &Arc<ApiServer>,
    spec: Arc<ResourceSpec>,
    path: &ResourcePath,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let Some(sub) = spec.subresource(&path.subresource) else {
        return Err(method_not_allowed());
    };
    if matches!(sub.role, Role::Connect { path_suffix: true, .. }) {
        return proxy::serve(server, spec, path, asked, label).await;
    }
    let verb = path.verb(&asked.head.method, false);
    if !sub.verbs.iter().any(|served| served == verb) {
        return Err(method_not_allowed());
    }
    let upgrade = matches!(sub.role, Role::Connect { upgrade: true, .. });
    if upgrade && verb == "get" {
        // WebSocket clients must use GET; running something is still a create.
        server.authorize(&attributes_of(path, &asked, "create")).await?;
    }
    let request = Request {
        spec: spec.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        subresource: String::new(),
        user: asked.user.clone(),
        create_refused: None,
    };
    let registry = &server.parts.registry;
    let bytes = registry.get(&request, "").await?;
    let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    if upgrade {
        let connect = Request { subresource: path.subresource.clone(), ..request };
        registry.admit_connect(&connect, options(&sub.kind, &asked.query)).await?;
    }
    match path.subresource.as_str() {
        "log" => log::serve(server, &object, asked, label).await,
        "exec" => session::remote(server, &object, asked, label, true).await,
        "attach" => session::remote(server, &object, asked, label, false).await,
        "portforward" => session::forward(server, &object, asked, label),
        other => Err(Status::failure(
            Reason::ServiceUnavailable,
            format!("{}/{other} is not served by this server yet", spec.plural),
        )),
    }
}

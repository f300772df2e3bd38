//! `nodes/proxy`: what the node's own API answers. Nodes serve no HTTP here;
//! the part of the kubelet's API that can be answered is answered from what
//! the server and its tunnel to the node know.

use std::sync::Arc;

use api_object::{Reason, Status};
use api_registry::{ListOptions, Request};
use api_schema::tree;
use bytes::{Bytes, BytesMut};
use http::Method;
use serde_json::Value;

use super::place::Place;
use crate::{
    ApiServer,
    chain::{Asked, method_not_allowed},
    counts::Label,
    respond::{self, Reply},
    stream::log,
};

/// The kubelet's port.
const PORT: &str = "10250";

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    place: &Place,
    rest: &str,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    if !(place.port.is_empty() || place.port == PORT) {
        return Err(Status::failure(
            Reason::ServiceUnavailable,
            format!("only port {PORT} of a node can be reached, not {}", place.port),
        ));
    }
    if !matches!(asked.head.method, Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    let parts: Vec<&str> = rest.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["healthz"] if server.parts.nodes.is_connected(&place.name) => Ok(respond::text(200, "ok")),
        ["healthz"] => Err(Status::failure(
            Reason::ServiceUnavailable,
            format!("node \"{}\" is not connected to this server", place.name),
        )),
        ["pods"] => pods(server, place, &asked).await,
        ["containerLogs", namespace, pod, container] => {
            let (namespace, pod) = ((*namespace).to_owned(), (*pod).to_owned());
            let container = (*container).to_owned();
            let bytes =
                server.parts.registry.get(&request(server, &asked, namespace, pod)?, "").await?;
            let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            if tree::text(&object, "spec.nodeName") != place.name {
                let name = tree::text(&object, "metadata.name");
                let why = format!("pod \"{name}\" does not exist on node \"{}\"", place.name);
                return Err(Status::failure(Reason::NotFound, why));
            }
            let mut asked = asked;
            asked.query.retain(|(key, _)| key != "container");
            asked.query.push(("container".into(), container));
            log::serve(server, &object, asked, label).await
        }
        _ => Err(Status::failure(
            Reason::NotFound,
            format!(
                "nodes of this server do not answer {rest}: only /healthz, /pods and /containerLogs"
            ),
        )),
    }
}

fn request(
    server: &ApiServer,
    asked: &Asked,
    namespace: String,
    name: String,
) -> Result<Request, Status> {
    let pods = server.parts.catalogue.find("", "v1", "pods");
    let spec = pods.ok_or_else(|| Status::internal("pods are not served"))?;
    let user = asked.user.clone();
    let subresource = String::new();
    Ok(Request { spec, namespace, name, subresource, user, create_refused: None })
}

/// The pods that are bound to the node.
async fn pods(server: &ApiServer, place: &Place, asked: &Asked) -> Result<Reply, Status> {
    let request = request(server, asked, String::new(), String::new())?;
    let selector = format!("spec.nodeName={}", place.name);
    let options = ListOptions::from_pairs(&[("fieldSelector".into(), selector)])?;
    let listed = server.parts.registry.list(&request, &options).await?;
    let mut out =
        BytesMut::from(&br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#[..]);
    for (i, item) in listed.items.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"" } else { b"," });
        out.extend_from_slice(item);
    }
    out.extend_from_slice(b"]}");
    Ok(respond::reply(200, "application/json", Bytes::from(out)))
}

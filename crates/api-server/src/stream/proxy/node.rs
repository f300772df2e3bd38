//! `nodes/proxy`: what the node's own API answers. Servers do not go to the node's
//! port, which may be closed or behind NAT: the kubelet's API is answered from what
//! the server knows, and by the node's pages through the tunnel.

use std::{sync::Arc, time::Duration};

use api_object::{Reason, Status};
use api_registry::{ListOptions, Request};
use api_schema::tree;
use bytes::{Bytes, BytesMut};
use http::Method;
use serde_json::Value;
use tunnel::{OpenError, PAGES};

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
/// A node measures itself within a second or two.
const PAGE_MAX: Duration = Duration::from_secs(30);

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
        _ => page(server, &place.name, rest, &asked).await,
    }
}

/// What the node tells of itself.
async fn page(server: &ApiServer, node: &str, rest: &str, asked: &Asked) -> Result<Reply, Status> {
    let path = rest.trim_end_matches('/');
    let Some((path, media_type)) = PAGES.iter().find(|(served, _)| *served == path) else {
        let served: Vec<&str> = PAGES.iter().map(|(path, _)| *path).collect();
        let why = format!(
            "nodes of this server do not answer {rest}: only /healthz, /pods, /containerLogs, {}",
            served.join(", ")
        );
        return Err(Status::failure(Reason::NotFound, why));
    };
    let query = asked.head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let page = format!("{path}{query}");
    let page = tokio::time::timeout(PAGE_MAX, server.parts.nodes.page(node, &page)).await;
    let page = page.unwrap_or_else(|_| {
        let why = format!("node \"{node}\" has not answered within {} s", PAGE_MAX.as_secs());
        Err(OpenError::NodeUnreachable(why))
    });
    let bytes = page.map_err(|error| streaming::refused(&error))?;
    Ok(respond::reply(200, media_type, bytes))
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

//! `pods/proxy`, `services/proxy` and `nodes/proxy`: an HTTP request that is
//! passed on. A pod is reached through its node, as its neighbours would reach
//! it; what the pod answers is passed back, with links that lead back here.

pub(crate) mod headers;
mod html;
mod link;
mod node;
mod place;
pub(crate) mod relay;

use std::sync::Arc;

use api_object::Status;
use api_registry::Request;
use api_schema::ResourceSpec;
use http::{HeaderValue, Method, header};
use serde_json::json;
use streaming::upgrade::{self, Wish};

use self::place::Place;
use crate::{
    ApiServer,
    chain::{Asked, method_not_allowed},
    counts::Label,
    path::ResourcePath,
    respond::{self, Reply},
};

/// What is passed on; the verb that was authorized follows from it.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    spec: Arc<ResourceSpec>,
    path: &ResourcePath,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    if !METHODS.contains(&asked.head.method) {
        return Err(method_not_allowed());
    }
    if path.watch || spec.namespaced == path.namespace.is_empty() {
        return Ok(respond::no_such_path());
    }
    let place = Place::parse(&path.name).ok_or_else(|| {
        Status::bad_request(format!("invalid {} request \"{}\"", spec.singular, path.name))
    })?;
    let request = |name: &str, subresource: &str| Request {
        spec: spec.clone(),
        namespace: path.namespace.clone(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        user: asked.user.clone(),
        create_refused: None,
    };
    let registry = &server.parts.registry;
    let bytes = registry.get(&request(&place.name, ""), "").await?;
    let object = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    // Before `proxy`: /api/v1/namespaces/n/pods/p, or /api/v1/nodes/n.
    let segments = if spec.namespaced { 7 } else { 5 };
    let (prefix, rest) = link::split(asked.head.uri.path(), segments);
    let kind = format!("{}ProxyOptions", spec.kind);
    let options = json!({"kind": kind, "apiVersion": "v1", "path": rest});
    registry.admit_connect(&request(&place.name, "proxy"), options).await?;
    let bare = rest.is_empty() && matches!(asked.head.method, Method::GET | Method::HEAD);
    if bare && upgrade::wish(&asked.head.headers) == Wish::Nothing {
        // Relative links of the page would lead elsewhere.
        let query = asked.head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut reply = respond::reply(301, "text/plain; charset=utf-8", "");
        let to = HeaderValue::try_from(format!("{prefix}/{query}")).map_err(Status::internal)?;
        reply.headers_mut().insert(header::LOCATION, to);
        return Ok(reply);
    }
    let (prefix, rest) = (prefix.to_owned(), rest.to_owned());
    let backend = match &*spec.plural {
        "pods" => place::pod(&object, &place)?,
        "services" => place::service(server, &object, &place, &asked).await?,
        _ => return node::serve(server, &place, &rest, asked, label).await,
    };
    relay::serve(server, backend, (&prefix, &rest), asked, label).await
}

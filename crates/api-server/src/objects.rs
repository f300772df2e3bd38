//! The verbs over HTTP: from parameters and bodies to the registry and back.

use std::{sync::Arc, time::Duration};

use api_object::Status;
use api_registry::{
    Body as Sent, DeleteOptions, ListOptions, Patch, Request, Watch, WriteOptions, Written,
};
use api_schema::{ResourceSpec, ShapeRef};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    ApiServer,
    body::{Body, RequestBody},
    chain::{Asked, method_not_allowed},
    counts::Label,
    negotiate::{self, Accept, Offer, Written as Format},
    path::ResourcePath,
    respond::{self, Reply},
    view::{IncludeObject, Shown},
};

/// Watches end after half an hour to an hour where the client does not say;
/// spread out, so that they do not all come back at once.
const WATCH_SECONDS_MIN: u64 = 1800;
/// Events that are told at once are written at once, up to so many bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Serves a request about a resource or a subresource that is no stream.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    spec: Arc<ResourceSpec>,
    path: &ResourcePath,
    mut asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let watch = crate::path::flag(&asked.query, "watch");
    let verb = path.verb(&asked.head.method, watch);
    let served = match spec.subresource(&path.subresource) {
        Some(sub) => sub.verbs.iter().any(|served| served == verb),
        None => spec.allows(verb),
    };
    let bare = spec.namespaced && path.namespace.is_empty();
    // One object is replaced and patched, a collection is created into.
    let misplaced = match verb {
        "update" | "patch" => path.name.is_empty(),
        "create" => path.subresource.is_empty() && !path.name.is_empty(),
        _ => false,
    };
    if !served || misplaced || (bare && !matches!(verb, "list" | "watch") && spec.stored) {
        return Err(method_not_allowed());
    }
    if !spec.namespaced && !path.namespace.is_empty() {
        return Ok(respond::no_such_path());
    }
    let accept = negotiate::accept(&asked.head.headers, Offer::Objects)?;
    let request = Request {
        spec: spec.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        subresource: path.subresource.clone(),
        user: asked.user.clone(),
    };
    let shown = Shown {
        spec: &spec,
        view: accept.view,
        include: IncludeObject::parse(asked.parameter("includeObject"))?,
        now: server.now(),
    };
    let registry = &server.parts.registry;
    match verb {
        "get" => {
            let bytes = registry.get(&request, asked.parameter("resourceVersion")).await?;
            let bytes = if request.subresource.is_empty() { shown.object(bytes)? } else { bytes };
            Ok(respond::object(accept, asked.pretty(), 200, bytes))
        }
        "list" => {
            let listed = registry.list(&request, &ListOptions::from_pairs(&asked.query)?).await?;
            Ok(respond::list(accept, asked.pretty(), shown.list(listed)?))
        }
        "watch" => {
            let mut options = ListOptions::from_pairs(&asked.query)?;
            options.watch = true;
            let timeout = Duration::from_secs(WATCH_SECONDS_MIN + spread(server));
            let watch = registry.watch(&request, &options, timeout).await?;
            Ok(watching(server, watch, spec.clone(), accept, shown.include, label))
        }
        "create" => {
            let options = WriteOptions::from_pairs("CreateOptions", &asked.query)?;
            let (body, warnings) = sent(&mut asked, &request).await?;
            let written = registry.create(&request, body, options).await?;
            written_reply(&asked, accept, &shown, written, warnings)
        }
        "update" => {
            let options = WriteOptions::from_pairs("UpdateOptions", &asked.query)?;
            let (body, warnings) = sent(&mut asked, &request).await?;
            let written = registry.update(&request, body, options).await?;
            written_reply(&asked, accept, &shown, written, warnings)
        }
        "patch" => {
            let options = WriteOptions::from_pairs("PatchOptions", &asked.query)?;
            let media_type = negotiate::content_type(&asked.head.headers);
            let bytes = read(&mut asked).await?;
            let patch = Patch::parse(&media_type, &bytes)?;
            let written = registry.patch(&request, patch, options).await?;
            written_reply(&asked, accept, &shown, written, Vec::new())
        }
        "delete" => {
            let options = delete_options(&mut asked, &spec).await?;
            let deleted = registry.delete(&request, &options).await?;
            let accepted = !deleted.gone && options.orphan_dependents == Some(false);
            let code = if accepted { 202 } else { 200 };
            let bytes = if deleted.gone { deleted.bytes } else { shown.object(deleted.bytes)? };
            let mut reply = respond::object(accept, asked.pretty(), code, bytes);
            respond::warn(reply.headers_mut(), &deleted.warnings);
            Ok(reply)
        }
        "deletecollection" => {
            let list = ListOptions::from_pairs(&asked.query)?;
            let options = delete_options(&mut asked, &spec).await?;
            let listed = registry.delete_collection(&request, &list, &options).await?;
            Ok(respond::list(accept, asked.pretty(), shown.list(listed)?))
        }
        _ => Err(method_not_allowed()),
    }
}

/// Half an hour's worth of seconds, spread by the clock's fraction.
fn spread(server: &ApiServer) -> u64 {
    let nanos = server.now().subsec_nanosecond().unsigned_abs();
    u64::from(nanos / 1000) % WATCH_SECONDS_MIN
}

async fn read(asked: &mut Asked) -> Result<Bytes, Status> {
    let body = std::mem::replace(&mut asked.body, RequestBody::Full(Bytes::new()));
    body.read().await
}

/// The object in the request's body, and what is odd about how it is written.
async fn sent(asked: &mut Asked, request: &Request) -> Result<(Sent, Vec<String>), Status> {
    let format = negotiate::body_format(&asked.head.headers)?;
    let bytes = read(asked).await?;
    let body = match format {
        Format::Json => Sent::Json(bytes),
        Format::Yaml => Sent::Tree(yaml(&bytes)?),
        Format::Protobuf => {
            let sub = request.spec.subresource(&request.subresource);
            let shape = sub.and_then(|sub| sub.shape.as_ref()).unwrap_or(&request.spec.shape);
            Sent::Tree(protobuf(shape, &bytes)?)
        }
    };
    Ok((body, Vec::new()))
}

fn protobuf(shape: &ShapeRef, bytes: &[u8]) -> Result<Value, Status> {
    shape.decode_protobuf(bytes).map_err(Status::bad_request)
}

fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    serde_saphyr::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))
}

async fn delete_options(asked: &mut Asked, spec: &ResourceSpec) -> Result<DeleteOptions, Status> {
    let format = negotiate::body_format(&asked.head.headers)?;
    let bytes = read(asked).await?;
    let body: Option<Value> = match format {
        _ if bytes.iter().all(u8::is_ascii_whitespace) => None,
        Format::Yaml => Some(yaml(&bytes)?),
        Format::Protobuf => {
            let shape = ShapeRef::find(&spec.shape.schema, "meta/v1.DeleteOptions")
                .ok_or_else(|| Status::internal("the schema has no DeleteOptions"))?;
            Some(protobuf(&shape, &bytes)?)
        }
        Format::Json => Some(serde_json::from_slice(&bytes).map_err(|error| {
            Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
        })?),
    };
    DeleteOptions::read(&asked.query, body.as_ref())
}

fn written_reply(
    asked: &Asked,
    accept: Accept,
    shown: &Shown<'_>,
    written: Written,
    mut warnings: Vec<String>,
) -> Result<Reply, Status> {
    let code = if written.created { 201 } else { 200 };
    let bytes = shown.object(written.bytes)?;
    let mut reply = respond::object(accept, asked.pretty(), code, bytes);
    warnings.extend(written.warnings);
    respond::warn(reply.headers_mut(), &warnings);
    Ok(reply)
}

/// A watch as a stream of lines, until the client, the watch or the server ends it.
fn watching(
    server: &Arc<ApiServer>,
    watch: Watch,
    spec: Arc<ResourceSpec>,
    accept: Accept,
    include: IncludeObject,
    label: &Label,
) -> Reply {
    struct State {
        watch: Watch,
        server: Arc<ApiServer>,
        spec: Arc<ResourceSpec>,
        _counted: crate::counts::Running,
    }
    let state =
        State { watch, server: server.clone(), spec, _counted: server.counts.longrunning(label) };
    let lines = futures_util::stream::unfold(state, move |mut state| async move {
        let mut event = state.watch.next().await?;
        let spec = state.spec.clone();
        let shown = Shown { spec: &spec, view: accept.view, include, now: state.server.now() };
        let mut out = Vec::new();
        loop {
            if let Err(status) = shown.event(event, &mut out) {
                tracing::error!("a watch ends early: {status}");
                return None;
            }
            event = match state.watch.ready() {
                Some(event) if out.len() < CHUNK_BYTES_MAX => event,
                Some(event) => {
                    state.watch.put_back(event);
                    break;
                }
                None => break,
            };
        }
        Some((Bytes::from(out), state))
    });
    let lines = lines.take_until(Box::pin(server.closing()));
    let mut reply = respond::reply(200, "application/json", "");
    *reply.body_mut() = Body::Chunks(Box::pin(lines));
    reply
}

//! The verbs over HTTP: from parameters and bodies to the registry and back.

use std::{sync::Arc, time::Duration};

use api_object::{GroupVersionResource, Status};
use api_registry::{
    Body as Sent, Decision, DeleteOptions, ListOptions, Listed, Patch, Request, Watch,
    WriteOptions, Written,
};
use api_schema::{Expected, FieldValidation, ResourceSpec, cannot_be_handled};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    ApiServer,
    body::{Body, RequestBody},
    chain::{Asked, attributes_of, method_not_allowed},
    configuration,
    counts::Label,
    negotiate::{self, Written as Format},
    path::ResourcePath,
    respond::{self, Reply},
    values,
    view::{Shown, body_shape},
};

/// Watches end after half an hour to an hour where the client does not say;
/// spread out, so that they do not all come back at once.
const WATCH_SECONDS_MIN: u64 = 1800;
/// Events that are told at once are written at once, up to so many bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// A list of more items takes milliseconds to write in another form than the
/// stored one, which other requests need not wait for.
const ITEMS_AT_ONCE_MAX: usize = 100;

/// Serves a request about a resource or a subresource that is no stream.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    spec: Arc<ResourceSpec>,
    path: &ResourcePath,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let mut reply = answer(server, &spec, path, asked, label).await?;
    respond::warn(reply.headers_mut(), spec.deprecation.as_slice());
    Ok(reply)
}

async fn answer(
    server: &Arc<ApiServer>,
    spec: &Arc<ResourceSpec>,
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
    let sub = spec.subresource(&path.subresource);
    let shown = Shown::new(server, spec, sub, verb, &asked)?;
    let mut request = Request {
        spec: spec.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        subresource: path.subresource.clone(),
        user: asked.user.clone(),
        create_refused: None,
    };
    let registry = &server.parts.registry;
    match verb {
        "get" => {
            let bytes = registry.get(&request, asked.parameter("resourceVersion")).await?;
            shown.reply(200, bytes, server.now())
        }
        "list" => {
            let listed = registry.list(&request, &ListOptions::from_pairs(&asked.query)?).await?;
            list_reply(server, shown, listed).await
        }
        "watch" => {
            let mut options = ListOptions::from_pairs(&asked.query)?;
            options.watch = true;
            let timeout = Duration::from_secs(WATCH_SECONDS_MIN + spread(server));
            let watch = registry.watch(&request, &options, timeout).await?;
            Ok(watching(server, watch, spec, shown, label))
        }
        "create" => {
            let options = WriteOptions::from_pairs("CreateOptions", &asked.query)?;
            let options = options.or_agent(asked.user_agent());
            let (body, warnings) = sent(&mut asked, &request, options.field_validation).await?;
            let written = registry.create(&request, body, &options).await?;
            written_reply(server, &shown, written, warnings)
        }
        "update" => {
            let options = WriteOptions::from_pairs("UpdateOptions", &asked.query)?;
            let options = options.or_agent(asked.user_agent());
            let (body, warnings) = sent(&mut asked, &request, options.field_validation).await?;
            if spec.allow_create_on_update {
                request.create_refused = create_refused(server, path, &asked).await;
            }
            let written = registry.update(&request, body, &options).await?;
            written_reply(server, &shown, written, warnings)
        }
        "patch" => {
            let media_type = negotiate::content_type(&asked.head.headers);
            Patch::check_type(spec, &media_type)?;
            let apply = media_type == Patch::APPLY;
            let bytes = read(&mut asked).await?;
            // YAML has a limit in its reader.
            if !apply || bytes.trim_ascii_start().starts_with(b"{") {
                values::few(&bytes)?;
            }
            let options = WriteOptions::for_patch(&asked.query, apply)?;
            let options = options.or_agent(asked.user_agent());
            let patch = if apply {
                request.create_refused = create_refused(server, path, &asked).await;
                configuration::read(&bytes)?
            } else {
                Patch::parse(&media_type, &bytes)?
            };
            let written = registry.patch(&request, patch, &options).await?;
            written_reply(server, &shown, written, Vec::new())
        }
        "delete" => {
            let options = delete_options(server, &mut asked).await?;
            if options.ignore_read_error {
                may_ignore_read_errors(server, path, &asked).await?;
            }
            let deleted = registry.delete(&request, &options).await?;
            let accepted = !deleted.gone && options.orphan_dependents == Some(false);
            let code = if accepted { 202 } else { 200 };
            let mut reply = shown.reply(code, deleted.bytes, server.now())?;
            respond::warn(reply.headers_mut(), &deleted.warnings);
            Ok(reply)
        }
        "deletecollection" => {
            let list = ListOptions::from_pairs(&asked.query)?;
            let options = delete_options(server, &mut asked).await?;
            let listed = registry.delete_collection(&request, &list, &options).await?;
            list_reply(server, shown, listed).await
        }
        _ => Err(method_not_allowed()),
    }
}

/// What a write says that would create an object, where whoever asks may only
/// change objects.
async fn create_refused(server: &ApiServer, path: &ResourcePath, asked: &Asked) -> Option<Status> {
    server.authorize(&attributes_of(path, asked, "create")).await.err()
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

/// The object in the request's body, and what is odd about how it is written:
/// texts for `Warning` headers.
async fn sent(
    asked: &mut Asked,
    request: &Request,
    mode: FieldValidation,
) -> Result<(Sent, Vec<String>), Status> {
    let sub = request.spec.subresource(&request.subresource);
    let shape = body_shape(&request.spec, sub);
    let format = negotiate::body_format(&asked.head.headers, shape.has_protobuf())?;
    let bytes = read(asked).await?;
    let expected = match sub.filter(|_| !std::ptr::eq(shape, &request.spec.shape)) {
        Some(sub) => Expected::of_sub(sub, shape),
        None => request.spec.expected(),
    };
    let unrecognized = |why: String| expected.unrecognized(&why, &bytes);
    let tree = match format {
        Format::Json => {
            values::few(&bytes)?;
            return Ok((Sent::Json(bytes), Vec::new()));
        }
        Format::Protobuf => shape.decode_protobuf(&bytes).map_err(unrecognized)?,
        Format::Yaml => {
            values::shallow(&bytes)?;
            let (tree, duplicates) = configuration::yaml(&bytes).map_err(unrecognized)?;
            match mode {
                FieldValidation::Strict if !duplicates.is_empty() => {
                    let begin = cannot_be_handled(expected.kind, expected.version, expected.kind);
                    let told = duplicates.join("\n  ");
                    return Err(Status::bad_request(format!(
                        "{begin}strict decoding error: yaml: unmarshal errors:\n  {told}"
                    )));
                }
                FieldValidation::Warn => return Ok((Sent::Tree(tree), duplicates)),
                _ => tree,
            }
        }
    };
    Ok((Sent::Tree(tree), Vec::new()))
}

async fn delete_options(server: &ApiServer, asked: &mut Asked) -> Result<DeleteOptions, Status> {
    let format = negotiate::body_format(&asked.head.headers, true)?;
    let bytes = read(asked).await?;
    let body: Option<Value> = match format {
        _ if bytes.iter().all(u8::is_ascii_whitespace) => None,
        Format::Yaml => {
            values::shallow(&bytes)?;
            Some(configuration::yaml(&bytes).map_err(Status::bad_request)?.0)
        }
        Format::Protobuf => {
            let shape = server.parts.catalogue.shape("meta/v1.DeleteOptions");
            let shape = shape.ok_or_else(|| Status::internal("no shape of DeleteOptions"))?;
            Some(shape.decode_protobuf(&bytes).map_err(Status::bad_request)?)
        }
        Format::Json => {
            values::few(&bytes)?;
            Some(serde_json::from_slice(&bytes).map_err(|error| {
                let fault = api_schema::json_fault(&bytes).unwrap_or_else(|| error.to_string());
                Status::bad_request(format!("couldn't get version/kind; json parse error: {fault}"))
            })?)
        }
    };
    DeleteOptions::read(&asked.query, body.as_ref())
}

/// Removing what cannot be read is a permission of its own.
async fn may_ignore_read_errors(
    server: &ApiServer,
    path: &ResourcePath,
    asked: &Asked,
) -> Result<(), Status> {
    const VERB: &str = "unsafe-delete-ignore-read-errors";
    let attributes = attributes_of(path, asked, VERB);
    match server.parts.authorizer.authorize(&attributes).await {
        Decision::Allow => Ok(()),
        Decision::NoOpinion { reason } | Decision::Deny { reason } => {
            let resource = GroupVersionResource::new(&path.group, &path.version, &path.resource);
            let why = format!("not permitted to do \"{VERB}\", reason: {reason}");
            Err(Status::forbidden(&resource, &path.name, &why))
        }
    }
}

async fn list_reply(server: &ApiServer, shown: Shown, listed: Listed) -> Result<Reply, Status> {
    let now = server.now();
    if shown.is_as_stored() || listed.items.len() <= ITEMS_AT_ONCE_MAX {
        return shown.list(listed, now);
    }
    tokio::task::spawn_blocking(move || shown.list(listed, now)).await.map_err(Status::internal)?
}

fn written_reply(
    server: &ApiServer,
    shown: &Shown,
    written: Written,
    mut warnings: Vec<String>,
) -> Result<Reply, Status> {
    let code = if written.created { 201 } else { 200 };
    let mut reply = shown.reply(code, written.bytes, server.now())?;
    warnings.extend(written.warnings);
    respond::warn(reply.headers_mut(), &warnings);
    Ok(reply)
}

/// A watch as a stream of lines (or frames), until the client, the watch or the
/// server ends it, or the kind becomes another one.
fn watching(
    server: &Arc<ApiServer>,
    watch: Watch,
    spec: &ResourceSpec,
    shown: Shown,
    label: &Label,
) -> Reply {
    struct State {
        watch: Watch,
        server: Arc<ApiServer>,
        shown: Shown,
        first: bool,
        _counted: crate::counts::Running,
    }
    let media_type = shown.watch_media_type();
    let _counted = server.counts.longrunning(label);
    let state = State { watch, server: server.clone(), shown, first: true, _counted };
    let lines = futures_util::stream::unfold(state, move |mut state| async move {
        let mut event = state.watch.next().await?;
        let now = state.server.now();
        let mut out = Vec::new();
        loop {
            let first = std::mem::take(&mut state.first);
            if let Err(status) = state.shown.event(event, first, now, &mut out) {
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
    let (closing, replaced) = (server.closing(), server.replaced(spec));
    let lines = lines.take_until(Box::pin(async move {
        tokio::select! {
            () = closing => {}
            () = replaced => {}
        }
    }));
    let mut reply = respond::reply(200, media_type, "");
    *reply.body_mut() = Body::Chunks(Box::pin(lines));
    reply
}

//! The request chain, in the order of a request: what is it about, who asks,
//! is there room, may they, do it, tell it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use api_object::{GroupVersionResource, Reason, Status, status::Details};
use api_registry::{Credentials, Decision, Extension, RequestAttributes, UserInfo};
use api_schema::{ResourceSpec, Role};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, request};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::{
    ApiServer,
    body::RequestBody,
    counts::Label,
    extension, impersonate,
    negotiate::{self, Accept, Format, Offer},
    objects,
    path::{self, ResourcePath, Target},
    respond::{self, Reply},
    server::Caller,
    stream, view,
};

/// Upstream's `--request-timeout`, for all that is no watch and no stream.
const REQUEST_MAX: Duration = Duration::from_secs(60);

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Who serves what is asked for: a row of this server, another server, or neither.
struct Served {
    spec: Option<Arc<ResourceSpec>>,
    elsewhere: Option<Arc<Extension>>,
}

/// A request as the chain knows it once its head is read.
pub(crate) struct Asked {
    pub(crate) head: request::Parts,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) body: RequestBody,
    pub(crate) upgrade: OnUpgrade,
}

impl Asked {
    pub(crate) fn parameter(&self, key: &str) -> &str {
        path::parameter(&self.query, key)
    }

    /// Empty where the client says nothing.
    pub(crate) fn user_agent(&self) -> &str {
        let agent = self.head.headers.get(header::USER_AGENT);
        agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default()
    }

    /// People get indented JSON.
    pub(crate) fn pretty(&self) -> bool {
        if !self.parameter("pretty").is_empty() {
            return path::flag(&self.query, "pretty");
        }
        let agent = self.user_agent();
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|people| agent.starts_with(people))
    }
}

impl ApiServer {
    /// Answers one request; never fails and never panics.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        caller: Caller,
    ) -> Reply {
        let started = Instant::now();
        let near = caller.is_near();
        let outside = matches!(caller, Caller::Connection { .. });
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let request_headers = head.headers.clone();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let query = path::parse_query(head.uri.query().unwrap_or_default());
        let Some(target) = Target::parse(head.uri.path()) else {
            let status = Status::bad_request("the path's escapes are no UTF-8");
            return respond::failure(&status, Accept::default(), None);
        };
        let watch = path::flag(&query, "watch");
        let elsewhere = self.extension(&target);
        let spec = match &target {
            Target::Resource(path) if elsewhere.is_none() => {
                self.parts.catalogue.find(&path.group, &path.version, &path.resource)
            }
            Target::Resource(_) | Target::Other(_) => None,
        };
        let label = match &elsewhere {
            Some(extension) => label_of_other(&target, extension, &head, watch),
            None => label(&target, spec.as_deref(), &head.method, watch),
        };
        let served = Served { spec, elsewhere };
        let asked = Asked { head, query, user: Arc::default(), body, upgrade };
        let long = label.is_long();
        let work = AssertUnwindSafe(async {
            let work = self.chain(&target, served, asked, caller, &label);
            match long {
                true => work.await,
                false => tokio::time::timeout(REQUEST_MAX, work)
                    .await
                    .unwrap_or_else(|_| Err(timed_out())),
            }
        });
        let reply = work.catch_unwind().await.unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without words");
            tracing::error!(?label, "a request panicked: {what}");
            let status = Status::internal(
                "This request caused apiserver to panic. Look in the logs for details.",
            );
            Err(status)
        });
        let reply = reply.unwrap_or_else(|status| {
            let accept = negotiate::accept(&request_headers, Offer::Plain).unwrap_or_default();
            let shape = match accept.format {
                Format::Protobuf => self.parts.catalogue.shape(view::STATUS),
                Format::Json | Format::Yaml => None,
            };
            respond::failure(&status, accept, shape)
        });
        let mut reply = match near {
            true => reply,
            false => respond::compress(&request_headers, reply).await,
        };
        if outside {
            let id = self.audit_id(&request_headers);
            reply.headers_mut().insert(AUDIT_ID, id);
        }
        let took = (!long).then(|| started.elapsed());
        self.counts.answered(&label, reply.status().as_u16(), took);
        tracing::debug!(
            %method, %uri, code = reply.status().as_u16(), took = ?started.elapsed(), "answered"
        );
        reply
    }

    /// What the request is called in logs and audits: as the client says, or anew.
    fn audit_id(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(AUDIT_ID).filter(|id| !id.is_empty()) {
            Some(id) => id.clone(),
            None => HeaderValue::try_from(self.parts.registry.new_uid()).expect("a UUID is ASCII"),
        }
    }

    async fn chain(
        self: &Arc<Self>,
        target: &Target,
        served: Served,
        mut asked: Asked,
        caller: Caller,
        label: &Label,
    ) -> Result<Reply, Status> {
        let Served { spec, elsewhere } = served;
        let internal = matches!(caller, Caller::Known(_));
        asked.user = self.authenticate(&asked.head.headers, caller).await?;
        let mut attributes = attributes(target, &asked, spec.as_deref());
        attributes.user = impersonate::apply(self, &mut asked.head.headers, &attributes).await?;
        asked.user = attributes.user.clone();
        // Streams and watches hold no place: they may last for days.
        let long = label.is_long();
        let writes = !matches!(asked.head.method, Method::GET | Method::HEAD);
        let room = if writes { &self.writes } else { &self.reads };
        let _place = match long || internal {
            true => None,
            false => Some(room.try_acquire().map_err(|_| too_many_requests())?),
        };
        let _counted = (!long).then(|| self.counts.inflight(writes));
        self.authorize(&attributes).await?;
        if let Some(extension) = elsewhere {
            return extension::serve(self, &extension, asked, label).await;
        }
        match (target, spec) {
            (Target::Resource(path), Some(spec)) => {
                let sub = spec.subresource(&path.subresource);
                match sub.map(|sub| &sub.role) {
                    Some(Role::Connect { .. }) => {
                        stream::connect(self, spec.clone(), path, asked, label).await
                    }
                    None if !path.subresource.is_empty() => Ok(respond::no_such_path()),
                    _ => objects::serve(self, spec, path, asked, label).await,
                }
            }
            (Target::Resource(_), None) => Ok(respond::no_such_path()),
            (Target::Other(path), _) => self.plain(path, &asked).await,
        }
    }

    async fn authenticate(
        &self,
        headers: &HeaderMap,
        caller: Caller,
    ) -> Result<Arc<UserInfo>, Status> {
        let certificate = match caller {
            Caller::Known(user) => return Ok(user),
            Caller::Connection { certificate, .. } => certificate,
        };
        let authorization =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty());
        let credentials = Credentials { bearer, certificate: certificate.as_deref() };
        let user = self.parts.authenticator.authenticate(credentials).await?;
        Ok(user.unwrap_or_else(|| Arc::new(UserInfo::anonymous())))
    }

    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn authorize(&self, attributes: &RequestAttributes) -> Result<(), Status> {
        match self.parts.authorizer.authorize(attributes).await {
            Decision::Allow => Ok(()),
            Decision::NoOpinion { reason } | Decision::Deny { reason } => {
                Err(forbidden(attributes, &reason))
            }
        }
    }
}

/// What authorizers are asked.
fn attributes(target: &Target, asked: &Asked, spec: Option<&ResourceSpec>) -> RequestAttributes {
    let user = asked.user.clone();
    let path = match target {
        Target::Resource(path) => path,
        Target::Other(path) => {
            let verb = asked.head.method.as_str().to_ascii_lowercase();
            return RequestAttributes { user, verb, path: path.clone(), ..Default::default() };
        }
    };
    let watch = path::flag(&asked.query, "watch");
    let verb = path.verb(&asked.head.method, watch);
    let collection = matches!(verb, "list" | "watch" | "deletecollection");
    let selector = |key| match collection {
        true => asked.parameter(key).to_owned(),
        false => String::new(),
    };
    // One object by name is what a list of it by field selector asks for.
    let reads = matches!(verb, "list" | "watch");
    let name = match &path.name {
        name if name.is_empty() && reads => {
            selected_name(asked.parameter("fieldSelector")).unwrap_or_default()
        }
        name => name.clone(),
    };
    // An object that is its own namespace, as upstream's request info has it.
    let own = spec.is_some_and(|spec| !spec.namespaced) && path.resource == "namespaces";
    let namespace = if own { path.name.clone() } else { path.namespace.clone() };
    RequestAttributes {
        user,
        verb: verb.to_owned(),
        resource_request: true,
        group: path.group.clone(),
        version: path.version.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        namespace,
        name,
        field_selector: selector("fieldSelector"),
        label_selector: selector("labelSelector"),
        path: asked.head.uri.path().to_owned(),
    }
}

/// The question for one object's subresource and another verb.
pub(crate) fn attributes_of(path: &ResourcePath, asked: &Asked, verb: &str) -> RequestAttributes {
    RequestAttributes {
        user: asked.user.clone(),
        verb: verb.to_owned(),
        resource_request: true,
        group: path.group.clone(),
        version: path.version.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        path: asked.head.uri.path().to_owned(),
        ..RequestAttributes::default()
    }
}

fn selected_name(selector: &str) -> Option<String> {
    let selector = api_object::FieldSelector::parse(selector).ok()?;
    selector.required("metadata.name").map(str::to_owned)
}

/// Upstream's 403.
pub(crate) fn forbidden(asked: &RequestAttributes, reason: &str) -> Status {
    let user = &asked.user.name;
    let mut why = if asked.resource_request {
        let resource = match asked.subresource.as_str() {
            "" => asked.resource.clone(),
            sub => format!("{}/{sub}", asked.resource),
        };
        let what = format!(
            "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\"",
            asked.verb, asked.group
        );
        match asked.namespace.as_str() {
            "" => format!("{what} at the cluster scope"),
            namespace => format!("{what} in the namespace \"{namespace}\""),
        }
    } else {
        format!("User \"{user}\" cannot {} path \"{}\"", asked.verb, asked.path)
    };
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    let resource = match asked.resource_request {
        true => GroupVersionResource::new(&asked.group, &asked.version, &asked.resource),
        false => GroupVersionResource::default(),
    };
    Status::forbidden(&resource, &asked.name, &why)
}

/// 405 in upstream's words.
pub(crate) fn method_not_allowed() -> Status {
    Status::failure(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
}

/// Upstream's 504; what was begun may still happen.
fn timed_out() -> Status {
    Status::failure(
        Reason::Timeout,
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
    )
}

fn too_many_requests() -> Status {
    let details = Details { retry_after_seconds: 1, ..Details::default() };
    Status::failure(Reason::TooManyRequests, "Too many requests, please try again later.")
        .with_details(details)
}

/// What a request that another server answers is counted under: its resources are
/// not known here.
fn label_of_other(
    target: &Target,
    extension: &Extension,
    head: &request::Parts,
    watch: bool,
) -> Label {
    /// Upstream's subresources that may last.
    const LONG: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];
    let own = label(target, None, &head.method, watch);
    let verb = match target {
        _ if head.headers.contains_key(header::UPGRADE) => "CONNECT",
        Target::Resource(path) if path.verb(&head.method, watch) == "watch" => "WATCH",
        Target::Resource(path) if LONG.contains(&path.subresource.as_str()) => "CONNECT",
        _ => own.verb,
    };
    let (group, version) = (extension.priority.group.clone(), extension.priority.version.clone());
    Label { verb, group, version, ..own }
}

/// What the request is counted under. Names come from the catalogue, never from
/// the path alone: whoever asks for what is not there must not make counters.
fn label(target: &Target, spec: Option<&ResourceSpec>, method: &Method, watch: bool) -> Label {
    let verb = match method.as_str() {
        "GET" | "HEAD" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "OTHER",
    };
    let (Target::Resource(path), Some(spec)) = (target, spec) else {
        return Label { verb, ..Label::default() };
    };
    let sub = spec.subresource(&path.subresource);
    Label {
        verb: match path.verb(method, watch) {
            "watch" => "WATCH",
            "list" => "LIST",
            "deletecollection" => "DELETECOLLECTION",
            _ if sub.is_some_and(|sub| matches!(sub.role, Role::Connect { .. })) => "CONNECT",
            _ => verb,
        },
        group: spec.group.to_string(),
        version: spec.version.to_string(),
        resource: spec.plural.to_string(),
        subresource: sub.map(|sub| sub.name.to_string()).unwrap_or_default(),
        scope: match (path.name.is_empty(), path.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        },
    }
}

//! The verbs of the Kubernetes API over a [`Transport`].

use std::{fmt, pin::Pin, sync::Arc};

use api_object::{
    GroupVersion, GroupVersionResource, Meta, Object, Reason, Status,
    status::{Cause, Details},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Body, Transport, TransportError};

/// Why a request failed.
#[derive(Debug)]
pub enum Error {
    /// The server said no, and why.
    Status(Box<Status>),
    /// The server was not reached, or did not answer.
    Transport(TransportError),
    /// The server answered with what the API does not allow.
    Malformed(String),
}

impl Error {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether somebody else wrote first (or created it).
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The HTTP status, where the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            Self::Transport(_) | Self::Malformed(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Transport(error) => error.fmt(f),
            Self::Malformed(what) => write!(f, "malformed answer of the API server: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// A resource, and where its objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Plural, lower case.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A namespaced resource: `Resource::namespaced("apps", "v1", "deployments")`.
    pub const fn namespaced(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
    ) -> Self {
        Self { group, version, plural, namespaced: true }
    }

    /// A cluster-scoped resource.
    pub const fn cluster(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural, namespaced: false }
    }

    /// The owned form that errors carry.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.plural)
    }

    /// As its objects have it: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        GroupVersion { group: self.group.into(), version: self.version.into() }.to_string()
    }

    /// `/apis/apps/v1/namespaces/default/deployments/web/status`; an empty
    /// namespace spans all, an empty name is the collection.
    pub fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        for part in [self.plural, name, subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }
}

/// What a list or watch selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// In query form; empty selects all.
    pub label_selector: String,
    /// In query form; empty selects all.
    pub field_selector: String,
    /// Empty for a consistent read, `0` for whatever the server has.
    pub resource_version: String,
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, with merge keys; built-in kinds only.
    Strategic,
    /// RFC 6902.
    Json,
}

impl PatchKind {
    /// What the `Content-Type` header says.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// `metav1.DeleteOptions`, the part that our own clients use.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds; 0 deletes now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground`, `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<&'static str>,
    /// Only if the object still is this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

/// Which object is meant.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// Its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its resourceVersion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Only the object with this uid.
    pub fn uid(uid: &str) -> Self {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        Self { preconditions: Some(preconditions), ..Self::default() }
    }

    /// Only an object that still is as it was seen.
    pub fn unchanged(seen: &Meta) -> Self {
        let (uid, resource_version) = (seen.uid.clone(), seen.resource_version.clone());
        let preconditions =
            Preconditions { uid: Some(uid), resource_version: Some(resource_version) };
        Self { preconditions: Some(preconditions), ..Self::default() }
    }
}

/// A list: its revision and its items as bytes. Items of a list carry no
/// apiVersion and kind of their own.
#[derive(Debug)]
pub struct List {
    /// Where a watch continues.
    pub resource_version: String,
    /// Each item's JSON.
    pub items: Vec<Bytes>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to the selection.
    Added(Object),
    /// The object changed.
    Modified(Object),
    /// The object left the selection or was deleted; its last state.
    Deleted(Object),
    /// All changes up to this revision were told. `initial_end` marks the end
    /// of the initial events of a watch-list (KEP-3157).
    Bookmark {
        /// The revision.
        resource_version: String,
        /// Whether the initial state is complete.
        initial_end: bool,
    },
}

/// A running watch; ends with `None` when the server ends it (resume from the
/// last revision) and with [`Error::Status`] 410 when that is too old.
pub struct Watch(Pin<Box<dyn Stream<Item = Result<WatchEvent, Error>> + Send>>);

impl Watch {
    /// The next event.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        self.0.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// A client of one API server (or several that are one cluster) as one
/// identity. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({})", self.user_agent)
    }
}

impl Api {
    /// `user_agent` says who writes: `kube-controller-manager/deployment-controller`.
    /// What is before the slash manages the fields that are written, and tools know
    /// upstream's names.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Self {
        Self { transport, user_agent: user_agent.into() }
    }

    /// The same connection under another name.
    pub fn named(&self, user_agent: &str) -> Self {
        Self { transport: self.transport.clone(), user_agent: user_agent.into() }
    }

    /// One object.
    ///
    /// # Errors
    /// 404 where there is none.
    pub async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Object, Error> {
        object(
            self.request(Method::GET, &resource.path(namespace, name, ""), None, Bytes::new())
                .await?,
        )
    }

    /// Every object of a namespace, or of all for the empty one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(
        &self,
        resource: Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, Error> {
        let path = with_query(resource.path(namespace, "", ""), &list_query(options));
        let bytes = self.request(Method::GET, &path, None, Bytes::new()).await?;
        #[derive(Deserialize)]
        struct Items<'a> {
            #[serde(borrow)]
            items: Option<Vec<&'a RawValue>>,
            metadata: ListMeta,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMeta {
            resource_version: String,
        }
        let list: Items<'_> = serde_json::from_slice(&bytes).map_err(malformed)?;
        let items = list.items.unwrap_or_default();
        Ok(List {
            resource_version: list.metadata.resource_version,
            items: items.into_iter().map(|item| bytes.slice_ref(item.get().as_bytes())).collect(),
        })
    }

    /// Creates an object; with `subresource`, posts to it (binding, eviction,
    /// token).
    ///
    /// # Errors
    /// 409 where it exists, 422 where it is invalid.
    pub async fn create(
        &self,
        resource: Resource,
        namespace: &str,
        body: &impl Serialize,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, "", "");
        object(self.request(Method::POST, &path, Some("application/json"), json(body)?).await?)
    }

    /// Posts to a subresource: `binding`, `eviction`, `token`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_sub(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, name, subresource);
        object(self.request(Method::POST, &path, Some("application/json"), json(body)?).await?)
    }

    /// Replaces an object, or its subresource where one is named.
    ///
    /// # Errors
    /// 409 where its resourceVersion is not the current one.
    pub async fn update(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, name, subresource);
        object(self.request(Method::PUT, &path, Some("application/json"), json(body)?).await?)
    }

    /// Changes an object, or its subresource where one is named.
    ///
    /// # Errors
    /// 404, 409 (where the patch carries a resourceVersion), 422.
    pub async fn patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: PatchKind,
        patch: &impl Serialize,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, name, subresource);
        object(self.request(Method::PATCH, &path, Some(kind.media_type()), json(patch)?).await?)
    }

    /// Asks for an object's deletion; it may stay until its finalizers or
    /// grace period are done.
    ///
    /// # Errors
    /// 404; 409 where the preconditions do not hold.
    pub async fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let path = resource.path(namespace, name, "");
        self.request(Method::DELETE, &path, Some("application/json"), json(options)?)
            .await
            .map(drop)
    }

    /// The same where the server answers with the object, as it does for pods: as the
    /// deletion left it, with its timestamp, or as it was last where it is gone.
    ///
    /// # Errors
    /// 404; 409 where the preconditions do not hold.
    pub async fn delete_answered(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Object, Error> {
        let path = resource.path(namespace, name, "");
        let body = json(options)?;
        object(self.request(Method::DELETE, &path, Some("application/json"), body).await?)
    }

    /// Asks for the deletion of every object of a namespace that is selected.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_collection(
        &self,
        resource: Resource,
        namespace: &str,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let path = with_query(resource.path(namespace, "", ""), &list_query(selection));
        self.request(Method::DELETE, &path, Some("application/json"), json(options)?)
            .await
            .map(drop)
    }

    /// Watches from after `options.resource_version`, with bookmarks. Where it
    /// is empty, the initial state is streamed first, ended by a bookmark with
    /// `initial_end`.
    ///
    /// # Errors
    /// 410 where that revision is no longer kept.
    pub async fn watch(
        &self,
        resource: Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Watch, Error> {
        self.watch_path(resource.path(namespace, "", ""), options).await
    }

    /// The same for a collection whose path is only known at run time.
    ///
    /// # Errors
    /// 410 where that revision is no longer kept.
    pub async fn watch_path(&self, path: String, options: &ListOptions) -> Result<Watch, Error> {
        let mut query = list_query(options);
        query.push(("watch", "true"));
        query.push(("allowWatchBookmarks", "true"));
        if options.resource_version.is_empty() {
            query.push(("sendInitialEvents", "true"));
            query.push(("resourceVersionMatch", "NotOlderThan"));
        }
        let path = with_query(path, &query);
        let body = self.send(Method::GET, &path, None, Bytes::new()).await?;
        Ok(Watch(Box::pin(events(body))))
    }

    /// Any request, and its whole answer; for what the verbs above do not
    /// cover.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        Ok(self.send(method, path, content_type, body).await?.collect().await?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<Body, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, &*self.user_agent)
            .header(header::ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request =
            request.body(body).map_err(|error| Error::Malformed(format!("{path}: {error}")))?;
        let (head, body) = self.transport.send(request).await?.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let bytes = body.collect().await?;
        let status = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| unexpected(head.status, &String::from_utf8_lossy(&bytes)));
        Err(Error::Status(Box::new(status)))
    }
}

/// The Status of a failure that came without one. An API server beside ours that
/// is away is told of as upstream's clients do, and what was said of it is a cause.
fn unexpected(status: StatusCode, body: &str) -> Status {
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let cause = Cause {
            reason: "UnexpectedServerResponse".into(),
            message: body.trim().to_owned(),
            ..Cause::default()
        };
        let message = "the server is currently unable to handle the request";
        return Status::failure(Reason::ServiceUnavailable, message)
            .with_details(Details { causes: vec![cause], ..Details::default() });
    }
    Status { code: status.as_u16(), ..Status::internal(format!("{status}: {body}")) }
}

fn json(body: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(body).map(Bytes::from).map_err(malformed)
}

fn object(bytes: Bytes) -> Result<Object, Error> {
    Object::parse(bytes).map_err(|error| Error::Malformed(error.to_string()))
}

fn malformed(error: serde_json::Error) -> Error {
    Error::Malformed(error.to_string())
}

fn list_query(options: &ListOptions) -> Vec<(&'static str, &str)> {
    [
        ("labelSelector", options.label_selector.as_str()),
        ("fieldSelector", options.field_selector.as_str()),
        ("resourceVersion", options.resource_version.as_str()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// A path with a query, its values encoded.
pub fn with_query(mut path: String, query: &[(&str, &str)]) -> String {
    for (i, (key, value)) in query.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(key);
        path.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    path.push(char::from(byte));
                }
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    path
}

/// Cuts a stream of JSON documents, one a line, into events.
fn events(body: Body) -> impl Stream<Item = Result<WatchEvent, Error>> + Send {
    let chunks: Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>> = match body {
        Body::Full(bytes) => Box::pin(futures_util::stream::iter([Ok(bytes)])),
        Body::Stream(stream) => stream,
    };
    futures_util::stream::unfold(
        (chunks, BytesMut::new(), false),
        |(mut chunks, mut rest, failed)| async move {
            if failed {
                return None;
            }
            loop {
                if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line = rest.split_to(end + 1).freeze();
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    let event = parse_event(&line);
                    let failed = event.is_err();
                    return Some((event, (chunks, rest, failed)));
                }
                match chunks.next().await {
                    Some(Ok(chunk)) => rest.extend_from_slice(&chunk),
                    Some(Err(error)) => return Some((Err(error.into()), (chunks, rest, true))),
                    None => return None,
                }
            }
        },
    )
}

fn parse_event(line: &Bytes) -> Result<WatchEvent, Error> {
    #[derive(Deserialize)]
    struct Event<'a> {
        r#type: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let event: Event<'_> = serde_json::from_slice(line).map_err(malformed)?;
    let bytes = line.slice_ref(event.object.get().as_bytes());
    if event.r#type == "ERROR" {
        let status: Status = serde_json::from_slice(&bytes).map_err(malformed)?;
        return Err(Error::Status(Box::new(status)));
    }
    let object = object(bytes)?;
    match event.r#type {
        "ADDED" => Ok(WatchEvent::Added(object)),
        "MODIFIED" => Ok(WatchEvent::Modified(object)),
        "DELETED" => Ok(WatchEvent::Deleted(object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark {
            initial_end: object.meta.annotations.contains_key("k8s.io/initial-events-end"),
            resource_version: object.meta.resource_version,
        }),
        other => Err(Error::Malformed(format!("unknown watch event {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: Resource = Resource::namespaced("", "v1", "pods");

    #[test]
    fn paths() {
        let deployments = Resource::namespaced("apps", "v1", "deployments");
        let nodes = Resource::cluster("", "v1", "nodes");
        assert_eq!(PODS.path("", "", ""), "/api/v1/pods");
        assert_eq!(
            deployments.path("default", "web", "status"),
            "/apis/apps/v1/namespaces/default/deployments/web/status"
        );
        assert_eq!(nodes.path("ignored", "n1", ""), "/api/v1/nodes/n1");
        assert_eq!(with_query("/a".into(), &[("b", "c=d,e"), ("f", "")]), "/a?b=c%3Dd%2Ce&f=");
    }

    #[tokio::test]
    async fn a_watch_is_cut_at_lines_wherever_the_chunks_end() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a"}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#,
            "\n",
        );
        for size in [1, 7, 64, 4096] {
            let chunks: Vec<_> =
                text.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let mut watch =
                Watch(Box::pin(events(Body::Stream(Box::pin(futures_util::stream::iter(chunks))))));
            assert!(
                matches!(watch.next().await, Some(Ok(WatchEvent::Added(o))) if o.meta.name == "a")
            );
            assert!(matches!(
                watch.next().await,
                Some(Ok(WatchEvent::Bookmark { initial_end: true, resource_version })) if resource_version == "7"
            ));
            assert!(matches!(watch.next().await, Some(Err(error)) if error.code() == Some(410)));
            assert!(watch.next().await.is_none(), "an error ends a watch");
        }
    }
}

//! The registry: one engine for every kind, and what it is told of a request.

use std::{collections::BTreeMap, fmt, sync::Arc};

use api_object::{GroupVersionResource, Reason, Status, status::Details};
use api_schema::{Catalogue, ResourceSpec, Role, Subresource};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use store::{CommitError, ReadError, Store};
use tokio::time::Instant;

use crate::{
    Admission, BoxFuture, Compute, Converter, UserInfo, WriteOptions,
    admission::{Attributes, Operation, Reinvocation},
};

/// Time and randomness, which tests and simulations replace.
#[derive(Clone)]
pub struct Sources {
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// 128 random bits.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// What get, list, watch and the writes do, for any kind. Cheap to share.
pub struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) admission: Arc<dyn Admission>,
    /// The other versions of a kind, for managers that wrote in them.
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) sources: Sources,
    /// The schema epoch that this server writes.
    pub(crate) epoch: u32,
    /// From where the moments of bookmarks are counted.
    pub(crate) started: Instant,
    /// Calls conversion webhooks.
    pub(crate) converter: Option<Arc<dyn Converter>>,
    handlers: BTreeMap<(String, String, String), Arc<dyn SubresourceHandler>>,
    /// By group and plural.
    pub(crate) computed: BTreeMap<(String, String), Compute>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry(epoch {})", self.epoch)
    }
}

/// Which object or collection a request is about, and who asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// The resource in the requested version.
    pub spec: Arc<ResourceSpec>,
    /// Empty for all namespaces and for cluster-scoped resources.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// What is said to an update or an apply of an object that is not there, where
    /// whoever asks may not create it.
    pub create_refused: Option<Status>,
}

impl Request {
    pub(crate) fn gvr(&self) -> GroupVersionResource {
        self.spec.gvr()
    }

    pub(crate) fn not_found(&self) -> Status {
        let absent = match self.sub() {
            Ok(Some(Subresource { role: Role::Scale(paths), .. })) => paths.absent.as_ref(),
            _ => None,
        };
        let gvr = match absent {
            Some((group, resource)) => GroupVersionResource::new(group, "", resource),
            None => self.gvr(),
        };
        Status::not_found(&gvr, &self.name)
    }

    /// The row of the subresource; `None` for the object itself.
    ///
    /// # Errors
    /// 404 for one that the resource does not have.
    pub(crate) fn sub(&self) -> Result<Option<&Subresource>, Status> {
        match self.subresource.as_str() {
            "" => Ok(None),
            name => self.spec.subresource(name).map(Some).ok_or_else(no_such_path),
        }
    }

    pub(crate) fn attributes(&self, operation: Operation, dry_run: bool) -> Attributes {
        let kind = match self.spec.subresource(&self.subresource) {
            Some(sub) => sub.kind.clone(),
            None => self.spec.gvk(),
        };
        Attributes {
            operation,
            resource: self.gvr(),
            kind,
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            object: None,
            old_object: None,
            dry_run,
            user: self.user.clone(),
            warnings: Vec::new(),
            beside: Vec::new(),
            options: Value::Null,
            reinvocation: Reinvocation::default(),
            reserved: Vec::new(),
        }
    }
}

/// What upstream says of a path below an object that nothing serves.
pub(crate) fn no_such_path() -> Status {
    Status::failure(Reason::NotFound, "the server could not find the requested resource")
}

/// A write that happened, or would have happened in a dry run.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object (or `Scale`, or `Status`) as JSON.
    pub bytes: Bytes,
    /// Whether it is new: 201 instead of 200.
    pub created: bool,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// A POST that is answered beyond the registry: `serviceaccounts/token`,
/// `pods/eviction`, and kinds that are not stored (access reviews).
#[derive(Debug)]
pub struct Posted<'a> {
    /// For handlers that read or delete.
    pub registry: &'a Registry,
    /// What it is about and who asks.
    pub request: &'a Request,
    /// Decoded, defaulted and admitted.
    pub body: Value,
    /// Dry run and field validation.
    pub options: WriteOptions,
}

impl Posted<'_> {
    /// Refuses a body that is about another object than the path; one without a
    /// name is given that of the path.
    ///
    /// # Errors
    /// 400.
    pub fn match_name(&mut self) -> Result<(), Status> {
        crate::create::match_name(self.request, &mut self.body)
    }
}

/// Answers a [`Posted`]; the answer goes out with 201.
pub trait SubresourceHandler: Send + Sync {
    /// Gives the answer's object, kind and apiVersion included.
    ///
    /// # Errors
    /// Any; sent as they are.
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<Value, Status>>;
}

impl Registry {
    /// A registry over a store, of the kinds of a catalogue. `epoch` names the schema that new objects are
    /// written under; objects of another epoch are defaulted when read.
    pub fn new(
        store: Arc<dyn Store>,
        admission: Arc<dyn Admission>,
        catalogue: Arc<Catalogue>,
        sources: Sources,
        epoch: u32,
    ) -> Self {
        let started = Instant::now();
        Self {
            store,
            admission,
            catalogue,
            sources,
            epoch,
            started,
            converter: None,
            handlers: BTreeMap::new(),
            computed: BTreeMap::new(),
        }
    }

    /// Has `converter` call conversion webhooks; without one, objects that need
    /// it cannot be read.
    pub fn convert_with(&mut self, converter: Arc<dyn Converter>) {
        self.converter = Some(converter);
    }

    /// Has `handler` answer POSTs of a subresource, or of a resource that is
    /// not stored where `subresource` is empty.
    pub fn handle(
        &mut self,
        group: &str,
        plural: &str,
        subresource: &str,
        handler: Arc<dyn SubresourceHandler>,
    ) {
        self.handlers.insert((group.into(), plural.into(), subresource.into()), handler);
    }

    /// The store underneath.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Asks whether a connection (exec, attach, portforward, proxy) is admitted.
    /// `options` is what it asks for, as an object of the subresource's kind
    /// (`v1` `PodExecOptions` and the like).
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_connect(&self, request: &Request, options: Value) -> Result<(), Status> {
        let mut attributes = request.attributes(Operation::Connect, false);
        attributes.object = Some(options);
        self.admission.mutate(&mut attributes).await?;
        self.admission.validate(&mut attributes).await
    }

    pub(crate) fn handler(&self, request: &Request) -> Option<&Arc<dyn SubresourceHandler>> {
        let spec = &request.spec;
        self.handlers.get(&(
            spec.group.to_string(),
            spec.plural.to_string(),
            request.subresource.clone(),
        ))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.sources.now)()
    }

    /// A random version 4 UUID (RFC 9562).
    pub fn new_uid(&self) -> String {
        let bits = (self.sources.random)();
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// A name after `prefix`, cut to fit a DNS label, and five random characters
    /// that cannot spell a word.
    pub(crate) fn new_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        const BASE_LEN_MAX: usize = 58;
        let mut end = prefix.len().min(BASE_LEN_MAX);
        while !prefix.is_char_boundary(end) {
            end -= 1;
        }
        let mut bits = (self.sources.random)();
        let mut name = prefix[..end].to_owned();
        for _ in 0..5 {
            name.push(char::from(ALPHABET[(bits % 27) as usize]));
            bits /= 27;
        }
        name
    }
}

/// How a failed commit that is no conflict is told.
pub(crate) fn commit_failed(error: &CommitError) -> Status {
    match error {
        CommitError::Unavailable(why) => {
            let details = Details { retry_after_seconds: 1, ..Details::default() };
            Status::failure(Reason::ServiceUnavailable, format!("the store is unavailable: {why}"))
                .with_details(details)
        }
        // Without a time to try again: clients would wait for it ten times over.
        CommitError::NoLeader(why) => {
            Status::failure(Reason::ServiceUnavailable, format!("the store is unavailable: {why}"))
        }
        CommitError::Unknown(why) => Status::failure(
            Reason::Timeout,
            format!("Timeout: request did not complete within the allotted timeout: {why}"),
        ),
        CommitError::Invalid(why) => {
            Status::failure(Reason::RequestEntityTooLarge, format!("Request is too large: {why}"))
        }
        error @ (CommitError::Full { .. } | CommitError::Conflict(_)) => Status::internal(error),
    }
}

/// How a failed read is told where no better words are known.
pub(crate) fn read_failed(error: ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        ReadError::Future { current } => crate::options::too_large_version(u64::MAX, current.0),
    }
}

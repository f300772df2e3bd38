//! `/openapi/v2` and `/openapi/v3`: documents that `api_schema::openapi` computes
//! from the catalogue's rows; here they get hashes and ETags.
//!
//! Documents are megabytes that clients keep by their hash, so only the hashes
//! stay in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use api_object::{Reason, Status};
use api_schema::{
    ResourceSpec,
    openapi::{Descriptions, Root},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::{
    ApiServer,
    chain::Asked,
    extension::{
        self,
        learned::{Told, What},
    },
    gnostic,
    path::parameter,
    respond::{self, Reply},
};

/// A strong ETag of a document's bytes.
pub(crate) fn etag(bytes: &[u8]) -> HeaderValue {
    quoted(&hash(bytes))
}

fn quoted(hash: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{hash}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// FNV-1a (64 bits): to tell documents apart, not to protect them.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

/// The hashes of documents, each with the rows it was computed from: a custom
/// kind that comes or goes leaves the other groups' documents as they are.
#[derive(Default)]
pub(crate) struct Index(Mutex<BTreeMap<Document, Hashed>>);

/// What a document had for a hash when it was computed from these rows, and from
/// what others said with this hash.
struct Hashed {
    rows: Vec<Arc<ResourceSpec>>,
    others: String,
    hash: String,
}

/// One of the documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Document {
    V2,
    V3(Root),
}

/// How a document is written. Its hash is that of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Gnostic,
}

/// The words of a version for its protobuf. What clients of old ask for is no media
/// type that may be sent.
struct Gnostic {
    media_type: &'static str,
    asked_as: &'static str,
    form: &'static gnostic::Form,
}

static GNOSTIC_V2: Gnostic = Gnostic {
    media_type: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    asked_as: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    form: &gnostic::V2,
};
static GNOSTIC_V3: Gnostic = Gnostic {
    media_type: "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    asked_as: "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    form: &gnostic::V3,
};

impl Document {
    fn gnostic(&self) -> &'static Gnostic {
        match self {
            Self::V2 => &GNOSTIC_V2,
            Self::V3(_) => &GNOSTIC_V3,
        }
    }
}

impl Index {
    fn known(
        &self,
        document: &Document,
        rows: &[Arc<ResourceSpec>],
        others: &str,
    ) -> Option<String> {
        // Entries are replaced as a whole, so a poisoned lock holds good ones.
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(document)?;
        let same = known.others == others
            && known.rows.len() == rows.len()
            && known.rows.iter().zip(rows).all(|(a, b)| Arc::ptr_eq(a, b));
        same.then(|| known.hash.clone())
    }

    fn keep(&self, document: Document, hashed: Hashed) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(document, hashed);
    }

    /// Forgets the groups and versions that are served no more.
    fn retain(&self, served: &BTreeSet<Root>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|document, _| match document {
            Document::V2 => true,
            Document::V3(root) => served.contains(root),
        });
    }
}

/// What documents are made of, read once a request and only where it is needed.
struct Maker<'a> {
    server: &'a ApiServer,
    all: Vec<Arc<ResourceSpec>>,
    /// What other servers said of what is asked for.
    others: Vec<Told>,
    descriptions: Option<Descriptions>,
}

impl<'a> Maker<'a> {
    fn new(server: &'a ApiServer, others: Vec<Told>) -> Self {
        Self { server, all: server.parts.catalogue.all(), others, descriptions: None }
    }

    /// The hash of what others said that is part of a document; empty for none.
    fn of_others(&self, document: &Document) -> String {
        match document {
            Document::V2 if !self.others.is_empty() => {
                let said = self.others.iter().map(|told| {
                    let version = told.of.group_version();
                    format!("{version} {}\n", told.value.as_ref().unwrap_or(&Value::Null))
                });
                hash(said.collect::<String>().as_bytes())
            }
            Document::V2 | Document::V3(_) => String::new(),
        }
    }

    /// The rows that a document depends on.
    fn rows(&self, document: &Document) -> Vec<Arc<ResourceSpec>> {
        let matters = |row: &&Arc<ResourceSpec>| match document {
            Document::V2 => true,
            Document::V3(root) => root.is_of(row),
        };
        self.all.iter().filter(matters).cloned().collect()
    }

    fn value(&mut self, document: &Document) -> Option<Value> {
        let release = self.server.parts.version.git_version.as_str();
        let descriptions = self.descriptions.get_or_insert_with(self.server.parts.descriptions);
        match document {
            Document::V2 => {
                let own = api_schema::openapi::v2(&self.all, release, descriptions);
                Some(extension::openapi::merged(own, &self.others))
            }
            Document::V3(root) => api_schema::openapi::v3(&self.all, root, release, descriptions),
        }
    }

    /// The document's hash, and itself where it had to be made for it.
    fn hash(&mut self, document: &Document) -> Option<(String, Option<Value>)> {
        let rows = self.rows(document);
        if rows.is_empty() {
            return None;
        }
        let others = self.of_others(document);
        if let Some(hash) = self.server.openapi.known(document, &rows, &others) {
            return Some((hash, None));
        }
        let value = self.value(document)?;
        let hash = hash(value.to_string().as_bytes());
        let hashed = Hashed { rows, others, hash: hash.clone() };
        self.server.openapi.keep(document.clone(), hashed);
        Some((hash, Some(value)))
    }

    /// The documents there are; those of other servers are passed on from them.
    fn index(&mut self) -> Bytes {
        let served = api_schema::openapi::v3_roots(&self.all);
        self.server.openapi.retain(&served);
        let mut paths = Map::new();
        for root in served {
            let path = root.path();
            if let Some((hash, _)) = self.hash(&Document::V3(root)) {
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        for told in &self.others {
            let root = format!("apis/{}", told.of.group_version());
            // It may have taken the place of a version of ours.
            paths.remove(&root);
            if let Some(url) = told.value.as_ref().and_then(Value::as_str) {
                let hash = url.split_once('?').map(|(_, query)| format!("?{query}"));
                let url = format!("/openapi/v3/{root}{}", hash.unwrap_or_default());
                paths.insert(root, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths}).to_string().into()
    }
}

/// Serves what follows `/openapi/`.
///
/// # Errors
/// 406 where the client takes none of the forms.
pub(crate) async fn serve(
    server: &ApiServer,
    path: &[&str],
    asked: &Asked,
) -> Result<Reply, Status> {
    let others = match path {
        ["v2"] => server.learn(What::OpenApiV2).await,
        ["v3"] => server.learn(What::OpenApi).await,
        _ => Vec::new(),
    };
    let mut maker = Maker::new(server, others);
    let document = match path {
        ["v2"] => Document::V2,
        ["v3"] => {
            let bytes = maker.index();
            let etag = etag(&bytes);
            return Ok(tagged(asked, "application/json", etag, || Some(bytes)));
        }
        ["v3", root @ ..] => match Root::parse(root) {
            Some(root) => Document::V3(root),
            None => return Ok(respond::no_such_path()),
        },
        _ => return Ok(respond::no_such_path()),
    };
    let Some((hash, value)) = maker.hash(&document) else { return Ok(respond::no_such_path()) };
    let form = form(&asked.head.headers, &document)?;
    let wanted = parameter(&asked.query, "hash");
    if !wanted.is_empty() && wanted != hash {
        // Who kept an address of before is told the one of now.
        let mut reply = respond::reply(301, "text/plain; charset=utf-8", "");
        let now = format!("/{}?hash={hash}", asked.head.uri.path().trim_matches('/'));
        let now = now.parse().map_err(Status::internal)?;
        reply.headers_mut().insert(header::LOCATION, now);
        return Ok(reply);
    }
    let media_type = match form {
        Form::Json => "application/json",
        Form::Gnostic => document.gnostic().media_type,
    };
    let mut reply = tagged(asked, media_type, quoted(&hash), || {
        let value = value.or_else(|| maker.value(&document))?;
        Some(match form {
            Form::Json => value.to_string().into(),
            Form::Gnostic => gnostic::encode(document.gnostic().form, &value).into(),
        })
    });
    let headers = reply.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if !wanted.is_empty() {
        // The hash is in the address, so the answer never changes.
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    Ok(reply)
}

/// 304 where the client has it already.
fn tagged(
    asked: &Asked,
    media_type: &'static str,
    etag: HeaderValue,
    bytes: impl FnOnce() -> Option<Bytes>,
) -> Reply {
    let known = asked.head.headers.get(header::IF_NONE_MATCH);
    let mut reply = match known.is_some_and(|known| *known == etag) {
        true => respond::reply(304, media_type, ""),
        false => respond::reply(200, media_type, bytes().unwrap_or_default()),
    };
    reply.headers_mut().insert(header::ETAG, etag);
    reply
}

/// The first form in the client's list that there is.
fn form(headers: &HeaderMap, document: &Document) -> Result<Form, Status> {
    let gnostic = document.gnostic();
    let asked: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let asked = asked.join(",");
    if asked.trim().is_empty() {
        return Ok(Form::Json);
    }
    let clauses = asked.split(',').map(|clause| clause.split(';').next().unwrap_or_default());
    clauses
        .filter_map(|media_type| match media_type.trim() {
            "application/json" | "application/*" | "*/*" => Some(Form::Json),
            asked if asked == gnostic.media_type || asked == gnostic.asked_as => {
                Some(Form::Gnostic)
            }
            _ => None,
        })
        .next()
        .ok_or_else(|| {
            Status::failure(
                Reason::NotAcceptable,
                format!(
                    "only the following media types are accepted: application/json, {}",
                    gnostic.media_type
                ),
            )
        })
}

//! `/openapi/v3`: one document a group and version, which `api_schema::openapi`
//! computes from the catalogue's rows; here they get hashes and ETags.

use std::sync::{Mutex, PoisonError};

use api_object::Status;
use api_schema::ResourceSpec;
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Map, json};

use crate::{
    ApiServer,
    chain::Asked,
    openapi_v2,
    path::parameter,
    respond::{self, Reply},
};

/// A strong ETag of a document's bytes.
pub(crate) fn etag(bytes: &[u8]) -> HeaderValue {
    let text = format!("\"{}\"", hash(bytes));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// FNV-1a (64 bits): to tell documents apart, not to protect them.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

/// The list of documents with their hashes. Every kubectl command asks for it and
/// it takes all documents to compute, so it is kept while the catalogue stays.
#[derive(Default)]
pub(crate) struct Index(Mutex<Option<(u64, Bytes)>>);

impl Index {
    fn get(&self, revision: u64, compute: impl FnOnce() -> Bytes) -> Bytes {
        // The value is replaced as a whole, so a poisoned lock holds a good one.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((at, bytes)) if *at == revision => bytes.clone(),
            _ => {
                let bytes = compute();
                *kept = Some((revision, bytes.clone()));
                bytes
            }
        }
    }
}

/// Serves what follows `/openapi/`.
///
/// # Errors
/// None today; the chain's form.
pub(crate) fn serve(server: &ApiServer, path: &[&str], asked: &Asked) -> Result<Reply, Status> {
    let revision = server.parts.catalogue.revision();
    let all = server.parts.catalogue.all();
    let release = server.parts.version.git_version.as_str();
    let of = |group: &str, version: &str| -> Option<Bytes> {
        let document = api_schema::openapi::v3(&all, group, version, release)?;
        Some(document.to_string().into())
    };
    if path == ["v2"] {
        let specs = all.iter().map(AsRef::as_ref);
        let bytes = openapi_v2::document(specs, &server.parts.version.git_version);
        return Ok(respond::reply(200, openapi_v2::MEDIA_TYPE, bytes));
    }
    let bytes = match path {
        ["v3"] => Some(server.openapi.get(revision, || {
            let mut paths = Map::new();
            for (root, group, version) in api_schema::openapi::v3_paths(&all) {
                if let Some(bytes) = of(&group, &version) {
                    let url = format!("/openapi/v3/{root}?hash={}", hash(&bytes));
                    paths.insert(root, json!({"serverRelativeURL": url}));
                }
            }
            json!({"paths": paths}).to_string().into()
        })),
        ["v3", "api", version] => of("", version),
        ["v3", "apis", group, version] => of(group, version),
        _ => None,
    };
    let Some(bytes) = bytes else { return Ok(respond::no_such_path()) };
    let etag = etag(&bytes);
    let known = asked.head.headers.get(header::IF_NONE_MATCH);
    let mut reply = match known.is_some_and(|known| *known == etag) {
        true => respond::reply(304, "application/json", ""),
        false => respond::reply(200, "application/json", bytes),
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, etag);
    if !parameter(&asked.query, "hash").is_empty() {
        // The hash is in the address, so the answer never changes.
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    Ok(reply)
}

/// `api/v1`, `apis/apps/v1`.
pub(crate) fn root(spec: &ResourceSpec) -> String {
    match &*spec.group {
        "" => format!("api/{}", spec.version),
        group => format!("apis/{group}/{}", spec.version),
    }
}

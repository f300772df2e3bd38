//! `/openapi/v2` and `/openapi/v3`.

use api_object::Status;
use http::{HeaderValue, header};

use crate::{
    ApiServer,
    chain::Asked,
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

pub(crate) fn serve(_: &ApiServer, _: &[&str], asked: &Asked) -> Result<Reply, Status> {
    let _ = (asked.head.headers.get(header::IF_NONE_MATCH), respond::no_such_path());
    Ok(respond::no_such_path())
}

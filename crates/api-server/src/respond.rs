//! From an outcome to a response: formats, headers, compression.

use std::io::Write;

use api_object::Status;
use api_schema::{ShapeRef, protobuf};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::{
    body::Body,
    negotiate::{Accept, Format},
    spliced::Spliced,
};

/// Smaller answers are not worth compressing (upstream's threshold).
const GZIP_BYTES_MIN: usize = 128 * 1024;
/// Upstream's limit for all warnings of one response.
const WARNINGS_BYTES_MAX: usize = 4096;

pub(crate) type Reply = Response<Body>;

/// A response with a body of a media type.
pub(crate) fn reply(code: u16, media_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Body::Full(bytes.into()));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text, as health checks and unknown paths answer.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Reply {
    let mut response = reply(code, "text/plain; charset=utf-8", text.into());
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// What upstream's router says of a path that nothing serves.
pub(crate) fn no_such_path() -> Reply {
    text(404, "404 page not found\n")
}

/// JSON bytes as JSON or YAML.
pub(crate) fn object(accept: Accept, pretty: bool, code: u16, bytes: Bytes) -> Reply {
    match (accept.format, pretty) {
        (Format::Yaml, _) => match serde_json::from_slice::<Value>(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()))
        {
            Ok(text) => reply(code, "application/yaml", text),
            Err(error) => failure(&Status::internal(error), Accept::default(), None),
        },
        (_, false) => reply(code, "application/json", bytes),
        (_, true) => match serde_json::from_slice::<Value>(&bytes)
            .and_then(|value| serde_json::to_vec_pretty(&value))
        {
            Ok(mut text) => {
                text.push(b'\n');
                reply(code, "application/json", text)
            }
            Err(_) => reply(code, "application/json", bytes),
        },
    }
}

/// JSON bytes for a path that has no other format.
pub(crate) fn json(pretty: bool, bytes: Bytes) -> Reply {
    object(Accept::default(), pretty, 200, bytes)
}

/// JSON bytes in the format that the client wants; `shape` is asked for protobuf.
pub(crate) fn shaped(
    accept: Accept,
    pretty: bool,
    code: u16,
    bytes: Bytes,
    shape: Option<ShapeRef>,
) -> Reply {
    if accept.format != Format::Protobuf {
        return object(accept, pretty || accept.pretty, code, bytes);
    }
    let body = shape.ok_or_else(|| "no protobuf form".to_owned());
    match body.and_then(|shape| shape.encode_protobuf(&bytes)) {
        Ok(body) => reply(code, protobuf::MEDIA_TYPE, body),
        Err(error) => failure(&Status::internal(error), Accept::default(), None),
    }
}

/// The same for a list, which is sent piece by piece where it is long.
pub(crate) fn list(accept: Accept, pretty: bool, list: Spliced) -> Reply {
    match pretty || accept.format != Format::Json {
        true => object(accept, pretty, 200, list.whole()),
        false => spliced("application/json", list),
    }
}

/// A body in pieces.
pub(crate) fn spliced(media_type: &'static str, list: Spliced) -> Reply {
    if list.len() < GZIP_BYTES_MIN {
        return reply(200, media_type, list.whole());
    }
    let mut response = reply(200, media_type, Bytes::new());
    *response.body_mut() = Body::Spliced(list);
    response
}

/// A failed request's `Status`, whose shape is asked for protobuf.
pub(crate) fn failure(status: &Status, accept: Accept, shape: Option<ShapeRef>) -> Reply {
    let bytes = serde_json::to_vec(status).unwrap_or_default();
    let mut response = shaped(accept, false, status.code, bytes.into(), shape);
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Adds `Warning` headers (RFC 9111's older form that kubectl reads): code 299,
/// no agent, quoted text.
pub(crate) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut total = 0;
    let mut said: Vec<&String> = Vec::new();
    for warning in warnings {
        if said.contains(&warning) {
            continue;
        }
        said.push(warning);
        let mut quoted = String::with_capacity(warning.len() + 8);
        for c in warning.chars() {
            match c {
                '"' | '\\' => {
                    quoted.push('\\');
                    quoted.push(c);
                }
                c if c.is_control() => quoted.push(' '),
                c => quoted.push(c),
            }
        }
        total += quoted.len();
        if total > WARNINGS_BYTES_MAX {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

/// Compresses a large body for clients that take gzip.
pub(crate) async fn compress(request: &HeaderMap, mut response: Reply) -> Reply {
    let wanted = request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip");
    let text = match response.body() {
        Body::Full(bytes) => Spliced::from(bytes.clone()),
        Body::Spliced(list) => list.clone(),
        Body::Chunks(_) | Body::Relayed(_) => return response,
    };
    if !wanted
        || text.len() < GZIP_BYTES_MIN
        || response.headers().contains_key(header::CONTENT_ENCODING)
    {
        return response;
    }
    // Megabytes take tens of milliseconds, which other requests need not wait for.
    let compressed = tokio::task::spawn_blocking(move || {
        let capacity = Vec::with_capacity(text.len() / 4);
        let mut encoder = GzEncoder::new(capacity, Compression::fast());
        text.pieces().iter().try_for_each(|piece| encoder.write_all(piece))?;
        encoder.finish()
    })
    .await;
    if let Ok(Ok(compressed)) = compressed {
        *response.body_mut() = Body::Full(compressed.into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_once_each() {
        let mut headers = HeaderMap::new();
        let twice = "unknown field \"a\"\n".to_owned();
        warn(&mut headers, &[twice.clone(), twice]);
        let values: Vec<_> = headers.get_all(header::WARNING).iter().collect();
        assert_eq!(values, [r#"299 - "unknown field \"a\" ""#]);
    }

    #[tokio::test]
    async fn only_large_bodies_are_compressed_and_only_where_wanted() {
        let mut headers = HeaderMap::new();
        let large = || reply(200, "application/json", vec![b' '; GZIP_BYTES_MIN]);
        let encoded = |response: &Reply| response.headers().contains_key(header::CONTENT_ENCODING);
        assert!(!encoded(&compress(&headers, large()).await));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=1"));
        assert!(encoded(&compress(&headers, large()).await));
        assert!(!encoded(&compress(&headers, reply(200, "application/json", "{}")).await));
    }
}

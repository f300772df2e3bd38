//! What a client sends and what it wants to get: `Content-Type` and `Accept`.

use api_object::{Reason, Status};
use http::{HeaderMap, header};

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
}

/// Which view of an object is asked for (`as=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// The object.
    #[default]
    Whole,
    /// `meta.k8s.io/v1` `Table`.
    Table,
    /// Metadata only, as `PartialObjectMetadata` or its list.
    Metadata,
    /// `apidiscovery.k8s.io` `APIGroupDiscoveryList`, `v2` or `v2beta1`.
    Discovery(&'static str),
}

/// The answer to a client's wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// How to write.
    pub(crate) format: Format,
    /// What to write.
    pub(crate) view: View,
}

/// What the API can write at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects, tables and metadata.
    Objects,
    /// JSON and YAML only.
    Plain,
    /// Plain, or aggregated discovery.
    Discovery,
}

/// Picks the first thing in the client's list that can be given. Clients send
/// lists in order of preference; `q` is not looked at, as upstream.
///
/// # Errors
/// 406 where nothing fits.
pub(crate) fn accept(headers: &HeaderMap, offer: Offer) -> Result<Accept, Status> {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return Ok(Accept::default());
    }
    let text = values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if text.trim().is_empty() {
        return Ok(Accept::default());
    }
    text.split(',').find_map(|clause| clause_fits(clause, offer)).ok_or_else(|| {
        Status::failure(
            Reason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml",
        )
    })
}

fn clause_fits(clause: &str, offer: Offer) -> Option<Accept> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "application/*" | "*/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim() {
            "as" => kind = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    let view = match (kind, group, version, offer) {
        ("", ..) => View::Whole,
        ("Table", "meta.k8s.io", "v1", Offer::Objects) => View::Table,
        (
            "PartialObjectMetadata" | "PartialObjectMetadataList",
            "meta.k8s.io",
            "v1",
            Offer::Objects,
        ) => View::Metadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2", Offer::Discovery) => {
            View::Discovery("v2")
        }
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1", Offer::Discovery) => {
            View::Discovery("v2beta1")
        }
        _ => return None,
    };
    Some(Accept { format, view })
}

/// The media type of a request's body, without parameters, in lower case;
/// empty where none is given.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`; read, but not written.
    Protobuf,
}

/// How an object in a request's body is written; JSON where nothing is said.
///
/// # Errors
/// 415 for media types that are not read.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<Written, Status> {
    match content_type(headers).as_str() {
        "" | "application/json" | "*/*" => Ok(Written::Json),
        "application/yaml" => Ok(Written::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Written::Protobuf),
        _ => Err(Status::failure(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str, offer: Offer) -> Option<Accept> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("a header value"));
        accept(&headers, offer).ok()
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let json = |view| Some(Accept { format: Format::Json, view });
        assert_eq!(asked(table, Offer::Objects), json(View::Table));
        assert_eq!(asked(table, Offer::Plain), json(View::Whole));
        assert_eq!(
            asked("application/vnd.kubernetes.protobuf,application/json", Offer::Objects),
            json(View::Whole)
        );
        assert_eq!(
            asked("application/yaml", Offer::Objects),
            Some(Accept { format: Format::Yaml, view: View::Whole })
        );
        let discovery =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(asked(discovery, Offer::Discovery), json(View::Discovery("v2")));
        assert_eq!(asked("application/vnd.kubernetes.protobuf", Offer::Objects), None);
        assert_eq!(asked("text/html,*/*;q=0.8", Offer::Objects), json(View::Whole));
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~]{0,60}") {
            let _ = asked(&text, Offer::Objects);
        }
    }
}

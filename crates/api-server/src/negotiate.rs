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
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Which view of an object is asked for (`as=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// The object.
    #[default]
    Whole,
    /// `Table` of `meta.k8s.io`.
    Table,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `PartialObjectMetadataList`.
    MetadataList,
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
    /// `pretty=1` among the parameters.
    pub(crate) pretty: bool,
    /// A table or metadata in `v1beta1` of `meta.k8s.io`, which differs from `v1`
    /// by that name only.
    pub(crate) beta: bool,
}

impl Accept {
    /// The version of tables and of metadata alone.
    pub(crate) fn meta(self) -> &'static str {
        match self.beta {
            true => "meta.k8s.io/v1beta1",
            false => "meta.k8s.io/v1",
        }
    }
}

/// What the API can write at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects, tables and metadata.
    Objects {
        /// Whole objects too have a protobuf form; metadata always has.
        protobuf: bool,
        /// There is a table of them: not of what is answered and forgotten.
        table: bool,
    },
    /// The same, one event after the other.
    Watch {
        /// As for objects.
        protobuf: bool,
    },
    /// No other view of it.
    Plain,
    /// Plain, or aggregated discovery.
    Discovery,
}

/// Picks the first thing in the client's list that can be given, in the order of
/// `q`, wildcards last.
///
/// # Errors
/// 406 where nothing fits.
pub(crate) fn accept(headers: &HeaderMap, offer: Offer) -> Result<Accept, Status> {
    let values = headers.get_all(header::ACCEPT).iter();
    let text = values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if text.trim().is_empty() {
        return Ok(Accept::default());
    }
    let mut clauses: Vec<Clause<'_>> = text.split(',').map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.wild.cmp(&b.wild)));
    clauses.iter().find_map(|clause| clause.fits(offer)).ok_or_else(|| {
        let supported = match offer {
            Offer::Watch { .. } => {
                "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
            }
            _ => SUPPORTED,
        };
        Status::failure(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {supported}"),
        )
    })
}

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// One of the client's wishes.
#[derive(Default)]
struct Clause<'a> {
    media_type: String,
    /// How many parts of the media type are `*`.
    wild: usize,
    quality: f32,
    kind: &'a str,
    group: &'a str,
    version: &'a str,
    stream: &'a str,
    pretty: bool,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let wild = media_type.split('/').filter(|part| *part == "*").count();
        let mut clause = Self { media_type, wild, quality: 1.0, ..Self::default() };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim();
            match key.trim() {
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                "as" => clause.kind = value,
                "g" => clause.group = value,
                "v" => clause.version = value,
                "stream" => clause.stream = value,
                "pretty" => clause.pretty = value == "1",
                _ => {}
            }
        }
        clause
    }

    fn fits(&self, offer: Offer) -> Option<Accept> {
        let view = self.view(offer)?;
        let metadata = matches!(view, View::Metadata | View::MetadataList);
        let format = match self.media_type.as_str() {
            "application/json" | "application/*" | "*/*" => Format::Json,
            // YAML has no form for one event after the other, a table none in protobuf.
            "application/yaml" if !matches!(offer, Offer::Watch { .. }) => Format::Yaml,
            "application/vnd.kubernetes.protobuf" if view != View::Table => match offer {
                Offer::Objects { protobuf: false, .. } | Offer::Watch { protobuf: false }
                    if !metadata =>
                {
                    return None;
                }
                _ => Format::Protobuf,
            },
            _ => return None,
        };
        match (self.stream, offer) {
            ("", _) | ("watch", Offer::Watch { .. }) => {}
            _ => return None,
        }
        let beta = self.version == "v1beta1" && (metadata || view == View::Table);
        // In protobuf the list of the older version has other field numbers.
        if beta && format == Format::Protobuf {
            return None;
        }
        Some(Accept { format, view, pretty: self.pretty, beta })
    }

    fn view(&self, offer: Offer) -> Option<View> {
        let objects = matches!(offer, Offer::Objects { .. } | Offer::Watch { .. });
        let view = match (self.kind, self.group, self.version) {
            ("", ..) => View::Whole,
            ("Table", ..) if matches!(offer, Offer::Objects { table: false, .. }) => return None,
            ("Table", "meta.k8s.io", "v1" | "v1beta1") if objects => View::Table,
            ("PartialObjectMetadata", "meta.k8s.io", "v1" | "v1beta1") if objects => View::Metadata,
            ("PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") if objects => {
                View::MetadataList
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", version)
                if offer == Offer::Discovery =>
            {
                View::Discovery(["v2", "v2beta1"].iter().find(|known| **known == version)?)
            }
            _ => return None,
        };
        Some(view)
    }
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
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// How an object in a request's body is written; JSON where nothing is said.
/// `protobuf` says whether the kind has that form.
///
/// # Errors
/// 415 for media types that are not read.
pub(crate) fn body_format(headers: &HeaderMap, protobuf: bool) -> Result<Written, Status> {
    let supported = match content_type(headers).as_str() {
        "" | "application/json" | "*/*" => return Ok(Written::Json),
        "application/yaml" => return Ok(Written::Yaml),
        "application/vnd.kubernetes.protobuf" if protobuf => return Ok(Written::Protobuf),
        _ if protobuf => SUPPORTED,
        _ => "application/json, application/yaml",
    };
    Err(Status::failure(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {supported}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECTS: Offer = Offer::Objects { protobuf: true, table: true };
    const CUSTOM: Offer = Offer::Objects { protobuf: false, table: true };
    const REVIEWS: Offer = Offer::Objects { protobuf: true, table: false };
    const WATCH: Offer = Offer::Watch { protobuf: true };

    fn asked(text: &str, offer: Offer) -> Option<(Format, View)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().expect("a header value"));
        accept(&headers, offer).ok().map(|accept| (accept.format, accept.view))
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        use Format::{Json, Protobuf, Yaml};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        let both = "application/vnd.kubernetes.protobuf,application/json";
        let protobuf = "application/vnd.kubernetes.protobuf";
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (text, offer, taken) in [
            (kubectl, OBJECTS, Some((Json, View::Table))),
            (kubectl, REVIEWS, Some((Json, View::Whole))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", REVIEWS, None),
            (kubectl, WATCH, Some((Json, View::Table))),
            (kubectl, Offer::Plain, Some((Json, View::Whole))),
            (both, OBJECTS, Some((Protobuf, View::Whole))),
            (both, CUSTOM, Some((Json, View::Whole))),
            (protobuf, CUSTOM, None),
            (protobuf, Offer::Plain, Some((Protobuf, View::Whole))),
            (metadata, OBJECTS, Some((Protobuf, View::MetadataList))),
            (metadata, CUSTOM, Some((Protobuf, View::MetadataList))),
            (table, OBJECTS, None),
            (&format!("{table},{kubectl}"), OBJECTS, Some((Json, View::Table))),
            ("application/yaml", OBJECTS, Some((Yaml, View::Whole))),
            ("application/yaml", WATCH, None),
            ("application/json;stream=watch", WATCH, Some((Json, View::Whole))),
            ("application/json;stream=watch", OBJECTS, None),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                WATCH,
                Some((Protobuf, View::Whole)),
            ),
            (discovery, Offer::Discovery, Some((Json, View::Discovery("v2")))),
            (discovery, Offer::Plain, Some((Json, View::Whole))),
            (
                "application/json;as=APIGroupDiscoveryList;v=v3;g=apidiscovery.k8s.io",
                Offer::Discovery,
                None,
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                OBJECTS,
                Some((Json, View::Table)),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", OBJECTS, None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io",
                OBJECTS,
                None,
            ),
            (browser, OBJECTS, Some((Json, View::Whole))),
            ("application/json;q=0.5, application/yaml", OBJECTS, Some((Yaml, View::Whole))),
            ("*/*, application/yaml", OBJECTS, Some((Yaml, View::Whole))),
            ("application/JSON; charset=utf-8", OBJECTS, Some((Json, View::Whole))),
            ("text/html", OBJECTS, None),
            ("application/cbor", OBJECTS, None),
            ("application/cbor-seq", WATCH, None),
            ("application/cbor,application/json;q=0.9", OBJECTS, Some((Json, View::Whole))),
            (" ", OBJECTS, Some((Json, View::Whole))),
        ] {
            assert_eq!(asked(text, offer), taken, "{text} of {offer:?}");
        }
    }

    #[test]
    fn what_is_not_read_or_written_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "text/plain".parse().expect("a header value"));
        assert_eq!(
            accept(&headers, OBJECTS).expect_err("no text").message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        assert_eq!(
            accept(&headers, WATCH).expect_err("no text").message,
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
        // A client that speaks CBOR goes on in JSON once it is told so.
        for unknown in ["text/plain", "application/cbor"] {
            headers.insert(header::CONTENT_TYPE, unknown.parse().expect("a header value"));
            let status = body_format(&headers, true).expect_err("not read");
            assert_eq!(
                (status.code, status.message.as_str()),
                (
                    415,
                    "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
                )
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~]{0,60}") {
            let _ = asked(&text, OBJECTS);
        }
    }
}

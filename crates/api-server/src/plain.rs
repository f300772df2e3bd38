//! Paths that are no resources: discovery, health, version, metrics, OpenAPI.

use api_object::Status;
use bytes::Bytes;
use http::{Method, header};

use crate::{
    ApiServer,
    chain::{Asked, method_not_allowed},
    discovery,
    negotiate::{self, Accept, Offer, View},
    openapi,
    respond::{self, Reply},
};

impl ApiServer {
    /// Answers a path that is no resource.
    ///
    /// # Errors
    /// 405 for all but reading, 406 for formats that are not written.
    pub(crate) fn plain(&self, path: &str, asked: &Asked) -> Result<Reply, Status> {
        if !matches!(asked.head.method, Method::GET | Method::HEAD) {
            return Err(method_not_allowed());
        }
        if let Some(reply) = self.health.answer(path, &asked.query) {
            return Ok(reply);
        }
        let catalogue = &self.parts.catalogue;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let accept = |offer| negotiate::accept(&asked.head.headers, offer);
        let (accept, bytes) = match parts.as_slice() {
            ["version"] => (accept(Offer::Plain)?, Some(self.version())),
            ["metrics"] => {
                return Ok(respond::reply(
                    200,
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.parts.metrics.text(),
                ));
            }
            [""] => (accept(Offer::Plain)?, Some(self.paths())),
            [root @ ("api" | "apis")] => {
                let accept = accept(Offer::Discovery)?;
                let bytes = match accept.view {
                    View::Discovery(version) => {
                        let bytes = discovery::aggregated(catalogue, *root == "api", version);
                        return Ok(aggregated(asked, accept, version, bytes));
                    }
                    _ if *root == "api" => discovery::core_versions(catalogue, &self.parts.address),
                    _ => discovery::group_list(catalogue),
                };
                (accept, Some(bytes))
            }
            ["api", version] => {
                (accept(Offer::Plain)?, discovery::resources(catalogue, "", version))
            }
            ["apis", group] => (accept(Offer::Plain)?, discovery::group(catalogue, group)),
            ["apis", group, version] => {
                (accept(Offer::Plain)?, discovery::resources(catalogue, group, version))
            }
            ["openapi", ..] => return openapi::serve(self, &parts[1..], asked),
            _ => return Ok(respond::no_such_path()),
        };
        Ok(match bytes {
            Some(bytes) => respond::object(accept, asked.pretty(), 200, bytes),
            None => respond::no_such_path(),
        })
    }

    fn version(&self) -> Bytes {
        let version = &self.parts.version;
        let mut numbers = version.git_version.trim_start_matches('v').split('.');
        let (major, minor) =
            (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        serde_json::json!({
            "major": major, "minor": minor,
            "gitVersion": version.git_version, "gitCommit": version.git_commit,
            "gitTreeState": "clean", "buildDate": version.build_date,
            "goVersion": "", "compiler": "rustc",
            "platform": format!("linux/{}", go_architecture()),
        })
        .to_string()
        .into()
    }

    fn paths(&self) -> Bytes {
        let mut paths: Vec<String> = [
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned)
        .into();
        for spec in self.parts.catalogue.all() {
            let path = match &*spec.group {
                "" => format!("/api/{}", spec.version),
                group => format!("/apis/{group}/{}", spec.version),
            };
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths.sort();
        serde_json::json!({"paths": paths}).to_string().into()
    }
}

/// Clients keep aggregated discovery by its ETag.
fn aggregated(asked: &Asked, accept: Accept, version: &str, bytes: Bytes) -> Reply {
    let etag = openapi::etag(&bytes);
    let known = asked.head.headers.get(header::IF_NONE_MATCH);
    let mut reply = if known.is_some_and(|known| *known == etag) {
        respond::reply(304, "application/json", "")
    } else {
        respond::object(accept, asked.pretty(), 200, bytes)
    };
    let media_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::VARY, header::HeaderValue::from_static("Accept"));
    if let Ok(media_type) = media_type.parse()
        && accept.format == negotiate::Format::Json
    {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    reply
}

fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

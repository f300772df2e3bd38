//! Paths that are no resources: discovery, health, version, metrics, OpenAPI.

use api_object::Status;
use api_schema::protobuf;
use bytes::Bytes;
use http::{HeaderValue, Method, header};

use crate::{
    ApiServer,
    chain::{Asked, method_not_allowed},
    discovery::Document,
    extension::{discovery::merged, learned::What},
    negotiate::{self, Format, Offer, View},
    openapi,
    respond::{self, Reply},
};

/// A text that is served as it is: what others verify our tokens by.
#[derive(Clone, Debug)]
pub struct Published {
    /// `/openid/v1/jwks`.
    pub path: &'static str,
    /// `application/json`.
    pub media_type: &'static str,
    /// `public, max-age=3600`.
    pub cache_control: &'static str,
    /// What is sent.
    pub text: String,
}

impl Published {
    fn reply(&self) -> Reply {
        let mut reply = respond::reply(200, self.media_type, self.text.clone());
        let cache = header::HeaderValue::from_static(self.cache_control);
        reply.headers_mut().insert(header::CACHE_CONTROL, cache);
        reply
    }
}

impl ApiServer {
    /// Answers a path that is no resource.
    ///
    /// # Errors
    /// 405 for all but reading, 406 for formats that are not written.
    pub(crate) async fn plain(&self, path: &str, asked: &Asked) -> Result<Reply, Status> {
        if !matches!(asked.head.method, Method::GET | Method::HEAD) {
            return Err(method_not_allowed());
        }
        if let Some(reply) = self.health.answer(path, &asked.query) {
            return Ok(reply);
        }
        let published = &self.parts.published;
        if let Some(text) = published.iter().find(|published| published.path == path) {
            return Ok(text.reply());
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let document = match parts.as_slice() {
            ["version"] => return Ok(respond::json(asked.pretty(), self.version())),
            [""] => return Ok(respond::json(asked.pretty(), self.paths())),
            ["metrics"] => {
                return Ok(respond::reply(
                    200,
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.parts.metrics.text(),
                ));
            }
            ["openapi", ..] => return openapi::serve(self, &parts[1..], asked).await,
            ["api"] => Document::CoreVersions,
            ["apis"] => Document::Groups,
            ["api", version] => {
                Document::Resources { group: String::new(), version: (*version).to_owned() }
            }
            ["apis", group] => Document::Group((*group).to_owned()),
            ["apis", group, version] => {
                Document::Resources { group: (*group).to_owned(), version: (*version).to_owned() }
            }
            _ => return Ok(respond::no_such_path()),
        };
        self.discovery(document, asked).await
    }

    async fn discovery(&self, document: Document, asked: &Asked) -> Result<Reply, Status> {
        let core = document == Document::CoreVersions;
        let offer = match core || document == Document::Groups {
            true => Offer::Discovery,
            false => Offer::Plain,
        };
        let accept = negotiate::accept(&asked.head.headers, offer)?;
        let document = match accept.view {
            View::Discovery(version) => Document::Aggregated { core, version },
            _ => document,
        };
        let catalogue = &self.parts.catalogue;
        let Some(bytes) = self.document(&document).await else {
            return Ok(respond::no_such_path());
        };
        let etag = openapi::etag(&bytes);
        let known = asked.head.headers.get(header::IF_NONE_MATCH);
        let shape = match accept.format {
            Format::Protobuf => catalogue.shape(document.shape()),
            Format::Json | Format::Yaml => None,
        };
        let Document::Aggregated { version, .. } = document else {
            return Ok(respond::shaped(accept, asked.pretty(), 200, bytes, shape));
        };
        let mut reply = match known.is_some_and(|known| *known == etag) {
            true => respond::reply(304, "application/json", ""),
            false => respond::shaped(accept, asked.pretty(), 200, bytes, shape),
        };
        let headers = reply.headers_mut();
        // Clients keep it by its ETag; the same address has other answers for others.
        headers.insert(header::ETAG, etag);
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        let media_type = match accept.format {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => protobuf::MEDIA_TYPE,
        };
        let media_type =
            format!("{media_type};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        headers.insert(header::CONTENT_TYPE, media_type.parse().map_err(Status::internal)?);
        Ok(reply)
    }

    /// A document as JSON, with what other servers serve in it.
    async fn document(&self, document: &Document) -> Option<Bytes> {
        let (catalogue, address) = (&self.parts.catalogue, &self.parts.address);
        let registered = self.parts.extensions.registered();
        if registered.others.is_empty() || !document.is_of_groups() {
            return self.documents.get(catalogue, address, document.clone());
        }
        let told = match document {
            Document::Aggregated { .. } => self.learn(What::Resources).await,
            _ => Vec::new(),
        };
        let groups = merged(catalogue.groups(), &registered);
        let document = document.compute(catalogue, address, &groups, &told)?;
        Some(document.to_string().into())
    }

    fn version(&self) -> Bytes {
        let version = &self.parts.version;
        let mut numbers = version.git_version.trim_start_matches('v').split('.');
        let (major, minor) =
            (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let before = minor.parse::<u32>().map_or(0, |minor| minor.saturating_sub(1));
        serde_json::json!({
            "major": major, "minor": minor,
            "emulationMajor": major, "emulationMinor": minor,
            "minCompatibilityMajor": major, "minCompatibilityMinor": before.to_string(),
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
        paths.extend(self.parts.published.iter().map(|published| published.path.to_owned()));
        let registered = self.parts.extensions.registered();
        for (group, versions) in merged(self.parts.catalogue.groups(), &registered) {
            let root = match group.as_str() {
                "" => "/api".to_owned(),
                group => format!("/apis/{group}"),
            };
            paths.extend(versions.iter().map(|version| format!("{root}/{version}")));
            if !group.is_empty() {
                paths.push(root);
            }
        }
        paths.sort();
        serde_json::json!({"paths": paths}).to_string().into()
    }
}

fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

//! A client of OCI registries (distribution-spec v1.1, the pull part).

mod auth;
mod connection;
mod endpoint;
mod proxy;
mod resolve;

pub use endpoint::{Endpoint, Trust};
pub use proxy::Proxies;

use bytes::Bytes;
use http::{Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{Mutex, mpsc};

use crate::{
    Auth, Digest, ImageError, PullOptions, Reference,
    oci::{DOCUMENT_BYTES_MAX, MANIFEST_TYPES},
};
use auth::Challenge;
use connection::Tls;

/// One repository of one registry.
pub(crate) struct Registry {
    /// `https://registry-1.docker.io/v2/library/nginx`
    base: String,
    name: String,
    repository: String,
    auth: Option<Auth>,
    http_registries: Vec<String>,
    /// The `Authorization` header that worked last.
    header: Mutex<Option<String>>,
    tls: Tls,
}

/// Redirects before it is taken for a ring.
const REDIRECTS_MAX: usize = 5;
/// How often a layer's download is taken up again where it broke off.
const RESUMES_MAX: usize = 4;

impl Registry {
    /// The registry that a name says.
    pub(crate) fn new(reference: &Reference, options: &PullOptions) -> Result<Self, ImageError> {
        // Docker Hub's name is not its API's.
        let host = match reference.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if is_http(host, &options.http_registries) { "http" } else { "https" };
        let own = Endpoint {
            url: format!("{scheme}://{host}"),
            auth: options.auth.clone(),
            trust: options.trust.clone(),
            ..Endpoint::default()
        };
        Self::mirror(reference, options, &own)
    }

    /// A mirror of it.
    pub(crate) fn mirror(
        reference: &Reference,
        options: &PullOptions,
        endpoint: &Endpoint,
    ) -> Result<Self, ImageError> {
        let uri = parse_uri(&endpoint.url)?;
        let wrong = |text: String| ImageError::Registry { url: endpoint.url.clone(), text };
        let mut http_registries = options.http_registries.clone();
        if uri.scheme_str() == Some("http") {
            // It was written so.
            http_registries.extend(uri.authority().map(|authority| authority.to_string()));
        }
        let url = endpoint.url.trim_end_matches('/');
        let slash = if url.ends_with("/v2") { "" } else { "/v2" };
        let repository = endpoint.repository.as_ref().unwrap_or(&reference.repository).clone();
        Ok(Self {
            base: format!("{url}{slash}/{repository}"),
            name: reference.to_string(),
            repository,
            auth: endpoint.auth.clone(),
            http_registries,
            header: Mutex::default(),
            tls: Tls::new(&endpoint.trust, &options.proxies).map_err(wrong)?,
        })
    }

    /// A manifest or index by tag or digest, and its digest.
    pub(crate) async fn manifest(&self, version: &str) -> Result<(Bytes, Digest), ImageError> {
        let url = format!("{}/manifests/{version}", self.base);
        let accept = MANIFEST_TYPES.join(", ");
        let response = self.get(&url, &[(header::ACCEPT, accept)]).await?;
        let promised = response.headers().get("docker-content-digest").cloned();
        let bytes = collect(response, &url).await?;
        let found = Digest::of(&bytes);
        let promised = promised.and_then(|value| value.to_str().ok()?.parse().ok());
        match promised.filter(|promised| *promised != found) {
            Some(expected) => Err(ImageError::DigestMismatch { what: url, expected, found }),
            None => Ok((bytes, found)),
        }
    }

    /// A small blob.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Bytes, ImageError> {
        let url = format!("{}/blobs/{digest}", self.base);
        let bytes = collect(self.get(&url, &[]).await?, &url).await?;
        let found = Digest::of(&bytes);
        match found == *digest {
            true => Ok(bytes),
            false => Err(ImageError::DigestMismatch { what: url, expected: *digest, found }),
        }
    }

    /// A large blob, in chunks. A connection that breaks is taken up again
    /// where it broke. Ends early, without an error, if nobody takes the chunks.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        chunks: &mpsc::Sender<Option<Bytes>>,
    ) -> Result<(), ImageError> {
        let url = format!("{}/blobs/{digest}", self.base);
        let mut at = 0;
        let mut resumes = 0;
        loop {
            let failed = match self.blob_from(&url, size, &mut at, chunks).await {
                Ok(()) => return Ok(()),
                Err(error @ ImageError::Unavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            resumes += 1;
            if resumes > RESUMES_MAX {
                return Err(failed);
            }
            tracing::debug!("{failed}; going on at byte {at}");
        }
    }

    async fn blob_from(
        &self,
        url: &str,
        size: u64,
        at: &mut u64,
        chunks: &mpsc::Sender<Option<Bytes>>,
    ) -> Result<(), ImageError> {
        let mut headers = Vec::new();
        if *at > 0 && size > *at {
            // Both ends: some registries do not take an open range.
            headers.push((header::RANGE, format!("bytes={at}-{}", size - 1)));
        }
        let response = self.get(url, &headers).await?;
        // Without a range the answer starts over: what we have is skipped.
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let mut skip = if partial { 0 } else { *at };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unavailable(url, &error))?;
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = skip.min(data.len() as u64);
            skip -= skipped;
            let _ = data.split_to(usize::try_from(skipped).unwrap_or(data.len()));
            *at += data.len() as u64;
            if size > 0 && *at > size {
                let text = format!("it sends more than the {size} bytes of the manifest");
                return Err(ImageError::Registry { url: url.into(), text });
            }
            if !data.is_empty() && chunks.send(Some(data)).await.is_err() {
                return Ok(());
            }
        }
        match size > 0 && *at < size {
            true => Err(unavailable(url, &format!("the answer ended after {at} of {size} bytes"))),
            false => Ok(()),
        }
    }

    /// Asks, identifying itself and following redirects as it takes.
    async fn get(
        &self,
        url: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Response<Incoming>, ImageError> {
        let mut authorization = self.header.lock().await.clone();
        let response = self.follow(url, headers, authorization.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.check(response, url).await;
        }
        let challenge = Challenge::from_headers(response.headers());
        authorization = self.answer(&challenge, url).await?;
        let response = self.follow(url, headers, authorization.as_deref()).await?;
        let response = self.check(response, url).await?;
        *self.header.lock().await = authorization;
        Ok(response)
    }

    async fn follow(
        &self,
        url: &str,
        headers: &[(header::HeaderName, String)],
        authorization: Option<&str>,
    ) -> Result<Response<Incoming>, ImageError> {
        let mut uri = parse_uri(url)?;
        let first_host = uri.authority().cloned();
        for _ in 0..=REDIRECTS_MAX {
            let mut all = headers.to_vec();
            // Credentials are for the registry, not for whom it points to.
            if let Some(value) = authorization.filter(|_| uri.authority() == first_host.as_ref()) {
                all.push((header::AUTHORIZATION, value.to_owned()));
            }
            let response = connection::get(&uri, &all, &self.tls).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok()).ok_or_else(|| {
                ImageError::Registry { url: url.into(), text: "a redirect to nowhere".into() }
            })?;
            let next = redirect(&uri, location)?;
            let host = next.authority().map_or("", |authority| authority.as_str());
            let downgrade = uri.scheme_str() == Some("https") && next.scheme_str() == Some("http");
            if downgrade && !is_http(host, &self.http_registries) {
                let text = format!("a redirect from https to {next}");
                return Err(ImageError::Registry { url: url.into(), text });
            }
            uri = next;
        }
        Err(ImageError::Registry { url: url.into(), text: "too many redirects".into() })
    }

    async fn check(
        &self,
        response: Response<Incoming>,
        url: &str,
    ) -> Result<Response<Incoming>, ImageError> {
        let status = response.status();
        let name = self.name.clone();
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::NotFound { name }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ImageError::Denied { name, text: format!("{status}") })
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(unavailable(url, &status))
            }
            status => Err(ImageError::Registry { url: url.into(), text: status.to_string() }),
        }
    }

    /// The `Authorization` header that a challenge asks for.
    async fn answer(&self, challenge: &Challenge, url: &str) -> Result<Option<String>, ImageError> {
        let denied = |text: &str| ImageError::Denied { name: self.name.clone(), text: text.into() };
        match challenge {
            Challenge::Basic => match &self.auth {
                Some(auth) => Ok(Some(auth.basic())),
                None => Err(denied("no basic auth credentials")),
            },
            Challenge::Bearer { .. } => {
                let token_url = challenge
                    .token_url(&self.repository)
                    .ok_or_else(|| denied("the registry does not say where tokens come from"))?;
                let uri = parse_uri(&token_url)?;
                let host = uri.authority().map_or("", |authority| authority.as_str());
                if uri.scheme_str() != Some("https") && !is_http(host, &self.http_registries) {
                    return Err(denied("the registry wants tokens from a server without TLS"));
                }
                let mut headers = Vec::new();
                headers
                    .extend(self.auth.as_ref().map(|auth| (header::AUTHORIZATION, auth.basic())));
                let response = connection::get(&uri, &headers, &self.tls).await?;
                let status = response.status();
                if status != StatusCode::OK {
                    return Err(denied(&format!("the token server answers {status}")));
                }
                let bytes = collect(response, &token_url).await?;
                let token = auth::token(&bytes)
                    .ok_or_else(|| denied("the token server's answer holds no token"))?;
                Ok(Some(format!("Bearer {token}")))
            }
            Challenge::None => Err(ImageError::Registry {
                url: url.into(),
                text: "401 Unauthorized without a way to log in".into(),
            }),
        }
    }
}

/// Any file, following redirects, which may not leave TLS.
pub(crate) async fn plain_get(
    url: &str,
    proxies: &Proxies,
    trust: &Trust,
) -> Result<Response<Incoming>, ImageError> {
    let wrong = |text: String| ImageError::Registry { url: url.into(), text };
    let tls = Tls::new(trust, proxies).map_err(wrong)?;
    let mut uri = parse_uri(url)?;
    for _ in 0..=REDIRECTS_MAX {
        let response = connection::get(&uri, &[], &tls).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
        let Some(location) = location.and_then(|value| value.to_str().ok()) else {
            return Err(wrong(status.to_string()));
        };
        let next = redirect(&uri, location)?;
        if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(wrong(format!("a redirect from https to {next}")));
        }
        uri = next;
    }
    Err(wrong("too many redirects".into()))
}

/// Whether a host is spoken to without TLS.
fn is_http(host: &str, configured: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    name == "localhost" || loopback || configured.iter().any(|other| other == host || other == name)
}

fn parse_uri(url: &str) -> Result<Uri, ImageError> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.authority().is_some());
    uri.ok_or_else(|| ImageError::Registry { url: url.into(), text: "it is no URL".into() })
}

fn redirect(from: &Uri, location: &str) -> Result<Uri, ImageError> {
    match (from.scheme_str(), from.authority()) {
        (Some(scheme), Some(authority)) if location.starts_with('/') => {
            parse_uri(&format!("{scheme}://{authority}{location}"))
        }
        _ => parse_uri(location),
    }
}

pub(crate) fn unavailable(url: &str, error: &impl std::fmt::Display) -> ImageError {
    ImageError::Unavailable { method: "GET", url: url.into(), text: error.to_string() }
}

async fn collect(response: Response<Incoming>, url: &str) -> Result<Bytes, ImageError> {
    let limit = usize::try_from(DOCUMENT_BYTES_MAX).unwrap_or(usize::MAX);
    let body = http_body_util::Limited::new(response.into_body(), limit);
    let collected = body.collect().await.map_err(|error| unavailable(url, &error))?;
    Ok(collected.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_configured_hosts_go_without_tls() {
        let configured = ["reg.lan:5000".to_owned(), "other.lan".to_owned()];
        for (host, http) in [
            ("localhost:5000", true),
            ("localhost", true),
            ("127.1.2.3:80", true),
            ("[::1]:5000", true),
            ("reg.lan:5000", true),
            ("reg.lan", false),
            ("other.lan:9", true),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.evil.com", false),
            ("registry-1.docker.io", false),
        ] {
            assert_eq!(is_http(host, &configured), http, "{host}");
        }
    }
}

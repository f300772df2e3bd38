//! The load's connections, with the administrator's certificate.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use client::{Body, Credentials, Https, HttpsConfig, Transport as _};
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;

/// Who the load says it is, and what manages the fields that it writes.
pub(crate) const USER_AGENT: &str = "skiff-bench";

/// The administrator's access, as the kubeconfig has it.
pub(crate) fn https_config(kubeconfig: &str) -> HttpsConfig {
    let text = std::fs::read_to_string(kubeconfig).expect("the kubeconfig");
    let config: Value = serde_saphyr::from_str(&text).expect("YAML");
    let pem = |value: &Value| STANDARD.decode(value.as_str().expect("data")).expect("base64");
    let cluster = &config["clusters"][0]["cluster"];
    let user = &config["users"][0]["user"];
    let server = cluster["server"].as_str().expect("a URL").trim_start_matches("https://");
    HttpsConfig {
        servers: vec![server.to_owned()],
        ca_pem: pem(&cluster["certificate-authority-data"]),
        clock: None,
        credentials: Credentials::Pem {
            cert: pem(&user["client-certificate-data"]),
            key: pem(&user["client-key-data"]),
        },
    }
}

/// A connection that asks for one encoding.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) https: Arc<Https>,
    /// The media type of its answers.
    pub(crate) accept: &'static str,
}

impl Connection {
    pub(crate) async fn send(&self, asked: Asked) -> (StatusCode, Bytes) {
        let request = Request::builder()
            .method(asked.method)
            .uri(asked.path)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, self.accept)
            .header(header::CONTENT_TYPE, asked.content_type)
            .body(asked.body)
            .expect("a valid request");
        let (head, body) = self.https.send(request).await.expect("an answer").into_parts();
        let bytes = match body {
            Body::Full(bytes) => bytes,
            Body::Stream(mut stream) => {
                let mut all = BytesMut::new();
                while let Some(chunk) = stream.next().await {
                    all.extend_from_slice(&chunk.expect("the whole answer"));
                }
                all.freeze()
            }
        };
        (head.status, bytes)
    }

    /// The same, where any refusal ends the load.
    pub(crate) async fn ask(&self, asked: Asked) -> Bytes {
        let what = format!("{} {}", asked.method, asked.path);
        let (status, bytes) = self.send(asked).await;
        assert!(status.is_success(), "{what}: {status}: {}", String::from_utf8_lossy(&bytes));
        bytes
    }

    pub(crate) async fn get(&self, path: &str) -> Bytes {
        self.ask(Asked::new(Method::GET, path.to_owned(), "application/json", Bytes::new())).await
    }
}

/// A request.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn new(
        method: Method,
        path: String,
        content_type: &'static str,
        body: Bytes,
    ) -> Self {
        Self { method, path, content_type, body }
    }
}

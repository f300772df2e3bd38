//! The end of a server: who may join, and what those are given.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{Api, DeleteOptions, ListOptions, Resource};
use grpc::{BoxFuture, Call, Code, Messages, Service, Status};
use pki::{
    Ca, Pki,
    join_token::{AGENTS_GROUP, JoinToken, SERVERS_GROUP},
};
use prost::Message as _;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use store_raft::RaftStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::info;

use super::messages::{File, SERVER, ServerRequest, ServerResponse, Setting};
use crate::{StartError, config::Config, server::kubeconfig};
use futures_util::StreamExt as _;

const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
const NAMESPACE: &str = "kube-system";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Takes servers in.
pub(in crate::server) struct Admission {
    pub(in crate::server) api: Api,
    pub(in crate::server) store: Arc<RaftStore>,
    pub(in crate::server) keys_dir: PathBuf,
    pub(in crate::server) settings: std::collections::BTreeMap<String, String>,
    pub(in crate::server) now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

impl Admission {
    /// Answers on one connection.
    pub(in crate::server) async fn speak(
        self: Arc<Self>,
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        stop: impl Future<Output = ()>,
    ) {
        grpc::serve(connection, Arc::new(Incoming(self)), stop).await;
    }

    async fn server(&self, request: ServerRequest) -> Result<ServerResponse, Status> {
        self.check(&request.token).await?;
        let internal =
            |error: &dyn std::fmt::Display| Status::new(Code::Internal, error.to_string());
        let files = pki::shared::export(&self.keys_dir).map_err(|error| internal(&error))?;
        info!(server = request.name, version = request.version, "a server joins the cluster");
        Ok(ServerResponse {
            cluster_id: self.store.cluster_id().to_vec().into(),
            files: files.into_iter().map(|(name, text)| File { name, text }).collect(),
            servers: self
                .store
                .member_addresses()
                .into_iter()
                .map(|(_, address)| address)
                .collect(),
            settings: self
                .settings
                .iter()
                .map(|(flag, value)| Setting { flag: flag.clone(), value: value.clone() })
                .collect(),
        })
    }

    /// Whether a token lets servers in.
    async fn check(&self, token: &str) -> Result<(), Status> {
        let refused = |why: String| Status::new(Code::Unauthenticated, why);
        const ANEW: &str = "print a token on a server with `cat /var/lib/skiff/server/token`, or \
                            make one with `skiff token create --usage server`";
        let (id, secret) = token
            .split_once('.')
            .ok_or_else(|| refused(format!("the token is cut short; {ANEW}")))?;
        let found = match self.api.get(SECRETS, NAMESPACE, &format!("bootstrap-token-{id}")).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                let why = format!(
                    "this cluster has no token {id}: it was deleted or has expired; {ANEW}"
                );
                return Err(refused(why));
            }
            Err(error) => return Err(Status::new(Code::Unavailable, error.to_string())),
        };
        let found: Value = serde_json::from_slice(&found.bytes)
            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        judge(&found, secret, (self.now)()).map_err(|why| refused(format!("{why}; {ANEW}")))
    }
}

/// Whether a token's Secret and what was shown of it let a server in.
fn judge(held: &Value, secret: &str, now: jiff::Timestamp) -> Result<(), &'static str> {
    let field = |name: &str| {
        let text = held["data"][name].as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    if held["type"] != TOKEN_TYPE {
        return Err("the token's Secret is of another type");
    }
    let known = field("token-secret").ok_or("the token's Secret is damaged")?;
    // Of the digests, how far two are equal tells nothing about the secret.
    if digest(&SHA256, known.as_bytes()).as_ref() != digest(&SHA256, secret.as_bytes()).as_ref() {
        return Err("the token's secret is wrong: was it copied whole?");
    }
    if let Some(expiration) = field("expiration") {
        let until =
            api_object::time::parse(&expiration).ok_or("the token's expiration is no time")?;
        if until <= now {
            return Err("the token has expired");
        }
    }
    let groups = field("auth-extra-groups").unwrap_or_default();
    match groups.split(',').any(|group| group == SERVERS_GROUP) {
        true => Ok(()),
        false => Err("this token is for agents, not for servers"),
    }
}

struct Incoming(Arc<Admission>);

impl Service for Incoming {
    fn call(&self, mut call: Call) -> BoxFuture<Result<Messages, Status>> {
        let admission = self.0.clone();
        Box::pin(async move {
            if call.path != SERVER {
                return Err(Status::unimplemented(&call.path));
            }
            let nothing = || Status::new(Code::InvalidArgument, "a request without a message");
            let message = call.messages.next().await.ok_or_else(nothing)??;
            let request = ServerRequest::decode(message)
                .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
            let answer = admission.server(request).await?;
            Ok(grpc::once(answer.encode_to_vec().into()))
        })
    }
}

/// The token with which further servers and agents join: in a file that only root reads,
/// made once, and in the cluster, where it can be revoked like any other.
pub(in crate::server) async fn publish_token(
    config: &Config,
    keys: &Pki,
    api: &Api,
) -> Result<(), StartError> {
    let path = config.machine.data_dir.join("server/token");
    let hash = keys.authority(Ca::Server).public_key_hash();
    match std::fs::read_to_string(&path) {
        // Deleted from the cluster since, perhaps: that is how it is revoked. It says
        // which CA to believe, and that may be another now.
        Ok(text) => {
            let Ok(known) = text.parse::<JoinToken>() else { return Ok(()) };
            if known.ca_hash == hash {
                return Ok(());
            }
            let token = JoinToken { ca_hash: hash, ..known };
            return kubeconfig::write_secret(&path, &format!("{token}\n"), 0o600)
                .map_err(|error| format!("{}: {error}", path.display()).into());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", path.display()).into()),
    }
    let token = JoinToken::generate(hash, &ring::rand::SystemRandom::new())?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", token.id), "namespace": NAMESPACE },
        "type": TOKEN_TYPE,
        "stringData": {
            "token-id": token.id,
            "token-secret": token.secret,
            "auth-extra-groups": format!("{SERVERS_GROUP},{AGENTS_GROUP}"),
            "usage-bootstrap-authentication": "true",
            "description": description(&path, &config.machine.node_name),
        },
    });
    api.create(SECRETS, NAMESPACE, &secret).await?;
    kubeconfig::write_secret(&path, &format!("{token}\n"), 0o600)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

const PRINTED_IN: &str = "for servers and agents; printed in";

fn description(path: &Path, server: &str) -> String {
    format!("{PRINTED_IN} {} of {server}", path.display())
}

/// Whether a token is the one that a server made for its own file.
fn is_of(description: &str, server: &str) -> bool {
    let (printed, of) = (format!("{PRINTED_IN} "), format!(" of {server}"));
    description.strip_prefix(&printed).is_some_and(|rest| rest.ends_with(&of))
}

/// Puts a token in the place of one that a server printed into its file, where its
/// description says so. Returns the file.
///
/// # Errors
/// Where that file is not on this machine, or cannot be written: what is to be done.
pub(crate) fn keep_instead(
    description: &str,
    former_id: &str,
    token: &JoinToken,
) -> Result<Option<PathBuf>, String> {
    let said = description.strip_prefix(PRINTED_IN).and_then(|rest| rest.rsplit_once(" of "));
    let Some((path, server)) = said else { return Ok(None) };
    let path = PathBuf::from(path.trim());
    let known = std::fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
    if known.is_none_or(|known: JoinToken| known.id != former_id) {
        return Err(format!("write it into {} on {server}, which has the old one", path.display()));
    }
    match kubeconfig::write_secret(&path, &format!("{token}\n"), 0o600) {
        Ok(()) => Ok(Some(path)),
        Err(error) => Err(format!("write it into {}: {error}", path.display())),
    }
}

/// Revokes the token that a server has on its disk, now that it is a server no more.
/// Returns the IDs.
pub(in crate::server) async fn revoke_token(
    api: &Api,
    server: &str,
) -> Result<Vec<String>, client::Error> {
    let field_selector = format!("type={TOKEN_TYPE}");
    let options = ListOptions { field_selector, ..ListOptions::default() };
    let mut revoked = Vec::new();
    for item in api.list(SECRETS, NAMESPACE, &options).await?.items {
        let secret: Value = serde_json::from_slice(&item).unwrap_or_default();
        let field = |name: &str| {
            let bytes = STANDARD.decode(secret["data"][name].as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let (Some(id), Some(name)) = (field("token-id"), secret["metadata"]["name"].as_str())
        else {
            continue;
        };
        if field("description").is_some_and(|description| is_of(&description, server)) {
            match api.delete(SECRETS, NAMESPACE, name, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => revoked.push(id),
            }
        }
    }
    Ok(revoked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_server_s() {
        let made = description(Path::new("/var/lib/skiff/server/token"), "pi-1");
        assert!(is_of(&made, "pi-1"));
        assert!(!is_of(&made, "pi-11") && !is_of(&made, "1"));
        assert!(!is_of("the rack of pi-1", "pi-1"));
    }

    #[test]
    fn a_rotated_token_takes_the_place_of_its_former() {
        let random = ring::rand::SystemRandom::new();
        let [former, new] = [1, 2].map(|_| JoinToken::generate([7; 32], &random).expect("random"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("of the server");
        let said = description(&path, "pi-1");
        assert_eq!(keep_instead("for the rack", &former.id, &new), Ok(None));
        assert!(keep_instead(&said, &former.id, &new).expect_err("no file").contains("on pi-1"));
        std::fs::write(&path, format!("{former}\n")).expect("our own folder");
        assert!(keep_instead(&said, "000000", &new).is_err(), "it has another");
        assert_eq!(keep_instead(&said, &former.id, &new), Ok(Some(path.clone())));
        let text = std::fs::read_to_string(&path).expect("our own folder");
        assert_eq!(text, format!("{new}\n"));
    }

    #[test]
    fn tokens_are_judged() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let held = |groups: &str, expiration: &str| {
            json!({"type": TOKEN_TYPE, "data": {
                "token-secret": STANDARD.encode("0123456789abcdef"),
                "auth-extra-groups": STANDARD.encode(groups),
                "expiration": STANDARD.encode(expiration),
            }})
        };
        let late = "2026-01-01T00:00:01Z";
        let servers = format!("system:bootstrappers:x,{SERVERS_GROUP}");
        assert_eq!(judge(&held(&servers, late), "0123456789abcdef", now), Ok(()));
        for (held, secret, why) in [
            (held(&servers, late), "0123456789abcdee", "secret is wrong"),
            (held(&servers, "2026-01-01T00:00:00Z"), "0123456789abcdef", "has expired"),
            (held("system:bootstrappers:x", late), "0123456789abcdef", "for agents"),
            (json!({"type": "Opaque"}), "0123456789abcdef", "another type"),
        ] {
            assert!(judge(&held, secret, now).expect_err(why).contains(why));
        }
    }
}

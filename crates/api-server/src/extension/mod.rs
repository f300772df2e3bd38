//! Versions of groups that another API server serves: API aggregation.
//!
//! A request for one is authenticated, limited and authorized here like any other
//! and then passed on, with the name of its user in headers that the other server
//! believes, since the connection shows the front proxy's certificate. What the
//! others serve is learned from them when somebody asks for it (`learned`) and told
//! beside what this server has (`discovery`). Connections are kept for the next read
//! (`idle`).

pub(crate) mod discovery;
mod identity;
pub(crate) mod idle;
pub(crate) mod learned;
pub(crate) mod openapi;

use std::sync::Arc;

use api_object::Status;
use api_registry::{Extension, UserInfo};
use futures_util::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::{
    ApiServer,
    body::Body,
    chain::Asked,
    counts::Label,
    path::{Target, percent_decode},
    respond::{self, Reply},
    server::Peer,
    stream::proxy::{headers, relay},
};

/// Who asks the others what they serve, and whether they answer.
const AGGREGATOR: &str = "system:kube-aggregator";

/// Upstream's name of itself towards other servers, which may do everything: what
/// they serve must not depend on anybody's rights.
fn aggregator() -> UserInfo {
    UserInfo {
        name: AGGREGATOR.to_owned(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..UserInfo::default()
    }
}

impl ApiServer {
    /// The other server that a path belongs to.
    pub(crate) fn extension(&self, target: &Target) -> Option<Arc<Extension>> {
        let registered = self.parts.extensions.registered();
        if registered.others.is_empty() {
            return None;
        }
        match target {
            Target::Resource(path) => registered.find(&path.group, &path.version),
            Target::Other(path) => {
                let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
                match parts.as_slice() {
                    ["apis", group, version, ..] | ["openapi", "v3", "apis", group, version] => {
                        registered.find(group, version)
                    }
                    _ => None,
                }
            }
        }
    }
}

/// Passes a request on.
///
/// # Errors
/// 400 for what cannot be said in headers. That the other server is not there is
/// a text, as upstream's.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    extension: &Arc<Extension>,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    // Who finds out whether it answers is not told what was found last time.
    if !extension.available && asked.user.name != AGGREGATOR {
        return Ok(respond::text(503, "service unavailable\n"));
    }
    let Asked { head, body, user, upgrade: client, .. } = asked;
    if climbs(head.uri.path()) {
        return Ok(respond::no_such_path());
    }
    let change = relay::upgrade_of(&head.headers);
    let changes = change.is_some();
    let peer = head.extensions.get::<Peer>().map(|peer| peer.0);
    let place = head.uri.path_and_query().map_or("/", |place| place.as_str());
    let mut request = Request::builder().method(head.method.clone()).uri(place);
    if let Some(out) = request.headers_mut() {
        *out = headers::request(&head.headers, change, head.uri.path(), peer);
        out.insert(header::HOST, host(extension)?);
        identity::put(out, &user)?;
    }
    let request = request.body(relay::outgoing(body)).map_err(Status::internal)?;
    let response = match server.exchange(extension, request).await {
        Ok(response) => response,
        Err(why) => return Ok(unreachable(&why)),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(match changes {
            true => relay::switch(server, response, client, label),
            false => bad_gateway("the backend changed protocols without being asked"),
        });
    }
    if redirects(&response) {
        return Ok(bad_gateway(
            "the backend attempted to redirect this request, which is not permitted",
        ));
    }
    let counted = label.is_long().then(|| server.counts.longrunning(label));
    let (mut head, body) = response.into_parts();
    headers::response(&mut head.headers);
    let chunks = relay::chunks(body, None, counted).take_until(Box::pin(server.closing()));
    Ok(Response::from_parts(head, Body::Relayed(Box::pin(chunks))))
}

/// What is authorized here is what is asked there: a path that leads up again may
/// mean something else to others.
fn climbs(path: &str) -> bool {
    let path = percent_decode(path, false).unwrap_or_default();
    path.split('/').any(|part| matches!(part, "." | ".."))
}

fn host(extension: &Extension) -> Result<HeaderValue, Status> {
    let host = match extension.port {
        443 => extension.server_name(),
        port => format!("{}:{port}", extension.server_name()),
    };
    HeaderValue::try_from(host).map_err(Status::internal)
}

/// A client that followed it would show its credentials to somebody else.
fn redirects(response: &Response<Incoming>) -> bool {
    response.status().is_redirection() && response.headers().contains_key(header::LOCATION)
}

fn unreachable(why: &str) -> Reply {
    respond::text(503, format!("error trying to reach service: {why}\n"))
}

fn bad_gateway(why: &'static str) -> Reply {
    respond::text(502, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_up_again_is_none() {
        for (path, expected) in [
            ("/apis/a.io/v1/namespaces/a/flunders/b", false),
            ("/apis/a.io/v1/namespaces/a/flunders/b..c", false),
            ("/apis/a.io/v1/namespaces/a/../b/flunders", true),
            ("/apis/a.io/v1/namespaces/a/%2e%2E/b/flunders", true),
            ("/apis/a.io/v1/namespaces/a%2f..%2fb/flunders", true),
            ("/apis/a.io/v1/./flunders", true),
        ] {
            assert_eq!(climbs(path), expected, "{path}");
        }
    }
}

//! Port-forward: connections to ports of a pod. Over SPDY a client opens
//! two streams for every connection; over a WebSocket it either tunnels that
//! (kubectl since 1.31) or names its ports and has one connection each.

mod channels;
mod streams;

use std::sync::Arc;

use api_object::Status;
use tunnel::Target;

use crate::{
    Asked, Host, Reply, tunneled,
    upgrade::{self, Wish},
    websocket,
};

/// What SPDY clients name.
const PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];

/// Answers a request for connections to a pod. `ports` are what the query has under
/// `key`, which only the older WebSocket clients need.
///
/// # Errors
/// Where the request does not say what its connection is to become, or names no ports
/// where it must.
pub fn serve(
    host: Arc<dyn Host>,
    target: Target,
    key: &str,
    ports: &[&str],
    asked: Asked,
) -> Result<Reply, Status> {
    let to = streams::To { host: host.clone(), target };
    let headers = &asked.headers;
    let tunnels = websocket::offers(headers, &websocket::TUNNEL);
    match upgrade::wish(headers) {
        Wish::Spdy => {
            let (reply, _) = match upgrade::spdy(headers, &PROTOCOLS) {
                Ok(agreed) => agreed,
                Err(refusal) => return Ok(*refusal),
            };
            host.run(Box::pin(async move {
                let Some(io) = upgrade::connection(asked.upgrade).await else { return };
                streams::relay(io, to).await;
            }));
            Ok(reply)
        }
        Wish::WebSocket if tunnels => {
            let (reply, _) = websocket::handshake(headers, &websocket::TUNNEL)?;
            host.run(Box::pin(async move {
                let Some(socket) = websocket::socket(asked.upgrade).await else { return };
                streams::relay(tunneled::Tunneled::new(socket), to).await;
            }));
            Ok(reply)
        }
        Wish::WebSocket => channels::serve(to, key, ports, asked),
        Wish::Nothing => Err(upgrade::required()),
    }
}

//! `pods/portforward`: connections to ports of a pod. Over SPDY a client opens
//! two streams for every connection; over a WebSocket it either tunnels that
//! (kubectl since 1.31) or names its ports and has one connection each.

mod channels;
mod streams;

use std::sync::Arc;

use api_object::Status;
use api_schema::tree;
use serde_json::Value;

use super::{
    pod, tunneled,
    upgrade::{self, Wish},
    websocket,
};
use crate::{ApiServer, chain::Asked, counts::Label, respond::Reply};

/// What SPDY clients name.
const PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let containers = tree::list(object, "spec.containers");
    let container = containers.first().map_or("", |first| tree::text(first, "name"));
    let (node, target) = pod::target(object, container.to_owned())?;
    let to = streams::To { node, target };
    let headers = &asked.head.headers;
    let tunnels = websocket::offers(headers, &websocket::TUNNEL);
    match upgrade::wish(headers) {
        Wish::Spdy => {
            let (reply, _) = match upgrade::spdy(headers, &PROTOCOLS) {
                Ok(agreed) => agreed,
                Err(refusal) => return Ok(*refusal),
            };
            let (server, counted) = (server.clone(), server.counts.longrunning(label));
            tokio::spawn(async move {
                let _counted = counted;
                let Some(io) = upgrade::connection(asked.upgrade).await else { return };
                streams::relay(io, &server, to).await;
            });
            Ok(reply)
        }
        Wish::WebSocket if tunnels => {
            let (reply, _) = websocket::handshake(headers, &websocket::TUNNEL)?;
            let (server, counted) = (server.clone(), server.counts.longrunning(label));
            tokio::spawn(async move {
                let _counted = counted;
                let Some(socket) = websocket::socket(asked.upgrade).await else { return };
                streams::relay(tunneled::Tunneled::new(socket), &server, to).await;
            });
            Ok(reply)
        }
        Wish::WebSocket => channels::serve(server, to, asked, label),
        Wish::Nothing => Err(upgrade::required()),
    }
}

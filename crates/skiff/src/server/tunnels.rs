//! How nodes that are elsewhere let this server reach them: on the API's port,
//! by a protocol of its own, with the node's certificate.

use std::sync::Arc;

use api_server::{BoxFuture, Protocol};
use pki::{Pki, peer::PeerIdentity};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::server::TlsStream;
use tracing::debug;
use tunnel::Nodes;

use crate::StartError;

/// The protocol's name on the API's port.
pub(crate) const PROTOCOL: &[u8] = b"skiff-tunnel/1";

/// What the API's port speaks with nodes; `closing` turns true when the server
/// stops.
pub(super) fn protocol(
    keys: &Pki,
    nodes: Arc<Nodes>,
    closing: watch::Receiver<bool>,
) -> Result<Protocol, StartError> {
    let tls = Arc::new(keys.node_config(&[PROTOCOL])?);
    let speak = Arc::new(move |stream: TlsStream<TcpStream>, stop: BoxFuture| {
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let node =
            leaf.map(|leaf| PeerIdentity::from_der(leaf)).and_then(|peer| node_name(peer.ok()?));
        let (nodes, closing) = (nodes.clone(), closing.clone());
        Box::pin(async move {
            match node {
                Some(node) => {
                    let service = tunnel::service(nodes, node, closing);
                    grpc::serve_with(stream, service, tunnel::SETTINGS, stop).await;
                }
                None => debug!("somebody who is no node asked for the nodes' protocol"),
            }
        }) as BoxFuture
    });
    Ok(Protocol { name: PROTOCOL, tls, speak })
}

fn node_name(peer: PeerIdentity) -> Option<String> {
    let name = peer.common_name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    peer.organizations.iter().any(|group| group == "system:nodes").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_those_of_the_group() {
        let peer = |name: &str, group: &str| PeerIdentity {
            common_name: name.into(),
            organizations: vec![group.into()],
            ..PeerIdentity::default()
        };
        assert_eq!(node_name(peer("system:node:pi", "system:nodes")).as_deref(), Some("pi"));
        for other in [
            peer("system:node:pi", "system:masters"),
            peer("system:node:", "system:nodes"),
            peer("jane", "system:nodes"),
        ] {
            assert_eq!(node_name(other), None);
        }
    }
}

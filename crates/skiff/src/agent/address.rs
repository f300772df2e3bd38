//! What an agent does where its machine moves.

use std::{net::IpAddr, sync::Arc};

use ::node::Live;
use client::Https;
use tokio::sync::watch;
use tracing::info;

use super::join::Membership;

/// Calls the servers anew whenever the machine's first address is another: nothing comes
/// back to the one of before, which else only pings without an answer would show. Between
/// two addresses a machine has none, and nothing is done until it has one again.
pub(super) async fn call_from_elsewhere(
    ips: Live<Vec<IpAddr>>,
    member: Arc<Membership>,
    identity: watch::Sender<Https>,
) {
    let mut told = ips.follow();
    let mut known = told.borrow_and_update().first().copied();
    loop {
        let moved = |ips: &Vec<IpAddr>| ips.first().is_some_and(|first| Some(*first) != known);
        // Whoever tells is held here and does not go away.
        let Ok(found) = told.wait_for(moved).await.map(|ips| ips.first().copied()) else { return };
        let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        info!(before = text(known), now = text(found), "this machine has another address");
        known = found;
        member.node.hang_up().await;
        member.proxy.hang_up().await;
        identity.send_replace(member.node.clone());
    }
}

//! Where a server is: what it listens at, and what it does where its machine moves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ::node::Live;
use tokio::sync::watch;
use tracing::info;

use crate::config::Config;

/// Where the API is served. As upstream has it, 0.0.0.0 means every address of
/// the machine, so in a cluster with IPv6 those of that family too.
pub(super) fn listening_at(config: &Config) -> SocketAddr {
    let everywhere = config.bind_address == Ipv4Addr::UNSPECIFIED;
    let ip = match everywhere && config.cluster.has_ipv6() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => config.bind_address,
    };
    SocketAddr::new(ip, config.https_port)
}

/// Runs the server anew once the machine's first address is another than `known`: that one
/// is in its certificates, in what agents are told, and what the other servers call. Between
/// two addresses a machine has none, and nothing is done until it has one again.
pub(super) async fn run_anew_elsewhere(
    ips: Live<Vec<IpAddr>>,
    known: IpAddr,
    again: watch::Sender<bool>,
) {
    let mut told = ips.follow();
    let moved = |ips: &Vec<IpAddr>| ips.first().is_some_and(|first| *first != known);
    // Whoever tells is held here and does not go away.
    let Ok(found) = told.wait_for(moved).await else { return };
    let now = found.first().map(IpAddr::to_string).unwrap_or_default();
    info!(before = %known, now, "this server has another address and starts anew with it");
    again.send_replace(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_another_first_address_is_a_reason() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let ips = Live::new(vec![ip(1)]);
        let again = watch::Sender::new(false);
        let run = tokio::spawn(run_anew_elsewhere(ips.clone(), ip(1), again.clone()));
        for same in [vec![ip(1), ip(9)], vec![], vec![ip(1)]] {
            ips.set(same);
            tokio::task::yield_now().await;
            assert!(!*again.borrow());
        }
        ips.set(vec![ip(2), ip(1)]);
        run.await.expect("it ends by itself");
        assert!(*again.borrow());
    }
}

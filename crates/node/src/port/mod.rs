//! The node's own port, 10250: what a kubelet answers there to metrics-server, to
//! Prometheus, and to who may read logs.
//!
//! Who asks is known by a certificate of the cluster's client CA or by a token that the
//! API reviews ([`authenticate`]), and may what the API says ([`authorize`]); both are
//! remembered for a while ([`remembered`]). [`certificate`] gets what connections are
//! shown, [`listen`] takes them, [`answer`] is the table of what there is. While nobody
//! asks nothing runs here but a watch of one object, the client CA.
//!
//! Sessions ([`session`]: exec, attach, port-forward) are a `create` by whatever method
//! they are asked for: who may `get` what a page needs must not get a shell by a WebSocket.

mod answer;
mod authenticate;
mod authorize;
mod certificate;
mod listen;
mod log;
mod query;
mod remembered;
mod session;

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc};

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tunnel::BoxFuture;

use self::{authenticate::User, remembered::Remembered};
use crate::{config::Live, node::Deps};

/// Gets a certificate (PEM) for a request (PEM) of signer `kubernetes.io/kubelet-serving`.
pub type Sign = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync,
>;

/// Where the node answers, and how it gets the certificate that it shows there.
#[derive(Clone)]
pub struct Port {
    /// 10250, as a kubelet's.
    pub number: u16,
    /// Gets the certificate.
    pub sign: Sign,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.number)
    }
}

/// What the port hears from the rest of the node.
pub(crate) struct News {
    /// The node's addresses, as the API has them by now.
    pub(crate) addresses: Live<Vec<IpAddr>>,
    /// The node's clock has ticked: what failed may be tried again.
    pub(crate) tick: Notify,
}

impl Default for News {
    fn default() -> Self {
        Self { addresses: Live::new(Vec::new()), tick: Notify::new() }
    }
}

/// Reviews that wait for the API at once; more wait for them.
const REVIEWS_MAX: usize = 16;

/// The node, as who asks over the port sees it.
struct Served {
    deps: Arc<Deps>,
    /// By the hash of a token: whose it is, if anybody's.
    users: Remembered<Option<User>>,
    /// By the hash of a question: whether it was allowed.
    decisions: Remembered<bool>,
    reviews: Semaphore,
    /// Takes the sessions that connections have become.
    sessions: mpsc::UnboundedSender<BoxFuture<()>>,
}

/// Serves the port, where there is to be one. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let Some(port) = deps.config.port.clone() else { return std::future::pending().await };
    let tls = watch::Sender::new(None);
    let of = certificate::Of {
        name: &deps.config.name,
        addresses: &deps.port.addresses,
        objects: &deps.objects,
        ambient: &deps.ambient,
        counts: &deps.counts,
    };
    let (sessions, began) = mpsc::unbounded_channel();
    let served = Arc::new(Served {
        deps: deps.clone(),
        users: Remembered::default(),
        decisions: Remembered::default(),
        reviews: Semaphore::new(REVIEWS_MAX),
        sessions,
    });
    tokio::select! {
        () = certificate::keep(of, &port, &tls) => {}
        () = listen::run(served, port.number, tls.subscribe(), began) => {}
    }
}

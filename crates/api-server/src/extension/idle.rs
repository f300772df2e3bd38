//! Connections to other API servers that are kept for the next read: the handshake
//! costs both sides more than what most reads ask for.
//!
//! A kept connection may be dead without anybody having said so. A read is asked again
//! then; whether a change that got no answer was made is not known, so that each gets a
//! connection of its own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_registry::Extension;
use http::{Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::{Either, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    ApiServer,
    stream::proxy::relay::{self, Outgoing},
};

/// How long a connection waits for its next request.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30);
/// To one server; one more takes the place of the oldest.
pub(crate) const OF_ONE_MAX: usize = 8;
/// To all of them.
const ALL_MAX: usize = 64;

/// Connections that nobody uses.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    waiting: Vec<Waiting>,
    /// Of the last one.
    number: u64,
}

struct Waiting {
    to: Arc<Extension>,
    sender: SendRequest<Outgoing>,
    number: u64,
    /// Goes with this, which ends the wait for its time to be over.
    _kept: oneshot::Sender<()>,
}

impl ApiServer {
    /// Asks another server; a read over a connection that was kept, where there is one.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn exchange(
        &self,
        to: &Arc<Extension>,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, String> {
        if !is_read(&request) {
            let connection = self.parts.extensions.connect(to).await?;
            let answer = relay::exchange(connection, request).await;
            return answer.map_err(|error| error.to_string());
        }
        let (head, _empty) = request.into_parts();
        let request = || Request::from_parts(head.clone(), Either::Left(Full::default()));
        if let Some(mut sender) = self.idle.take(to) {
            match sender.send_request(request()).await {
                Ok(response) => {
                    self.idle.keep(to, sender);
                    return Ok(response);
                }
                Err(error) => {
                    tracing::debug!("a connection to {} was dead: {error}", to.server_name());
                    // What ended this one has most likely ended the others.
                    self.idle.forget(to);
                }
            }
        }
        let connection = self.parts.extensions.connect(to).await?;
        let asking = async {
            let mut sender = relay::open(connection).await?;
            let response = sender.send_request(request()).await?;
            self.idle.keep(to, sender);
            Ok(response)
        };
        asking.await.map_err(|error: hyper::Error| error.to_string())
    }
}

/// What may be asked twice, and leaves the connection as it was.
fn is_read(request: &Request<Outgoing>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(header::UPGRADE)
        && request.body().is_end_stream()
}

/// Whether a connection to one may be used for the other: it is the same Service, known
/// by the same certificates. Versions of a group share it.
fn is_same_server(a: &Extension, b: &Extension) -> bool {
    a.name == b.name
        && a.namespace == b.namespace
        && a.port == b.port
        && a.insecure == b.insecure
        && a.ca_bundle == b.ca_bundle
}

impl Idle {
    /// The one that was used last: the others may become old.
    fn take(&self, to: &Extension) -> Option<SendRequest<Outgoing>> {
        let mut kept = self.lock();
        kept.waiting.retain(|waiting| !waiting.sender.is_closed());
        let at = kept.waiting.iter().rposition(|waiting| is_same_server(&waiting.to, to))?;
        Some(kept.waiting.remove(at).sender)
    }

    /// Keeps a connection, once the answer to its request has been read to the end, for a
    /// while or until it is taken.
    fn keep(self: &Arc<Self>, to: &Arc<Extension>, mut sender: SendRequest<Outgoing>) {
        let (to, idle) = (to.clone(), Arc::downgrade(self));
        tokio::spawn(async move {
            // An answer that is not read to the end, or that says so, ends it.
            if sender.ready().await.is_err() {
                return;
            }
            let Some((number, taken)) = idle.upgrade().map(|idle| idle.put(to, sender)) else {
                return;
            };
            if timeout(IDLE_MAX, taken).await.is_err()
                && let Some(idle) = idle.upgrade()
            {
                idle.lock().waiting.retain(|waiting| waiting.number != number);
            }
        });
    }

    /// Its number, and what completes when it is no longer here.
    fn put(
        &self,
        to: Arc<Extension>,
        sender: SendRequest<Outgoing>,
    ) -> (u64, oneshot::Receiver<()>) {
        let (here, taken) = oneshot::channel();
        let mut kept = self.lock();
        kept.number += 1;
        let number = kept.number;
        let same = |waiting: &Waiting| is_same_server(&waiting.to, &to);
        let of_one = kept.waiting.iter().filter(|waiting| same(waiting)).count();
        let oldest = match of_one < OF_ONE_MAX {
            true => (kept.waiting.len() >= ALL_MAX).then_some(0),
            false => kept.waiting.iter().position(same),
        };
        if let Some(oldest) = oldest {
            kept.waiting.remove(oldest);
        }
        kept.waiting.push(Waiting { to, sender, number, _kept: here });
        (number, taken)
    }

    fn forget(&self, to: &Extension) {
        self.lock().waiting.retain(|waiting| !is_same_server(&waiting.to, to));
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole, so a poisoned lock holds good ones.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

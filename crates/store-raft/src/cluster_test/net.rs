//! A network in memory: who listens at which address, and which links are cut.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use grpc::{BoxFuture, Call, CallError, Code, Messages, Service, Status};

use crate::peers::{Method, Peers};

#[derive(Default)]
pub(super) struct Net(Mutex<Wires>);

#[derive(Default)]
struct Wires {
    listening: HashMap<String, Arc<dyn Service>>,
    cut: HashSet<String>,
}

impl Net {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network as seen from an address.
    pub(super) fn from(self: &Arc<Self>, address: &str) -> Arc<dyn Peers> {
        Arc::new(Seen { net: self.clone(), from: address.to_owned() })
    }

    pub(super) fn listen(&self, address: &str, service: Arc<dyn Service>) {
        self.lock().listening.insert(address.to_owned(), service);
    }

    pub(super) fn leave(&self, address: &str) {
        self.lock().listening.remove(address);
    }

    /// Cuts an address off, or mends it.
    pub(super) fn cut(&self, address: &str, off: bool) {
        let mut wires = self.lock();
        match off {
            true => wires.cut.insert(address.to_owned()),
            false => wires.cut.remove(address),
        };
    }

    fn reaches(&self, from: &str, to: &str) -> Option<Arc<dyn Service>> {
        let wires = self.lock();
        let cut = wires.cut.contains(from) || wires.cut.contains(to);
        wires.listening.get(to).filter(|_| !cut).cloned()
    }
}

struct Seen {
    net: Arc<Net>,
    from: String,
}

/// One way.
const DELAY: Duration = Duration::from_millis(1);

impl Peers for Seen {
    fn call(
        &self,
        address: &str,
        method: Method,
        messages: Messages,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let (net, from, to) = (self.net.clone(), self.from.clone(), address.to_owned());
        Box::pin(async move {
            tokio::time::sleep(DELAY).await;
            let Some(service) = net.reaches(&from, &to) else {
                return Err(CallError::NotSent(format!("{to}: nobody is there")));
            };
            let call = Call { path: method.path().into(), messages };
            let mut answers = service.call(call).await?;
            let answer = answers.next().await.expect("one answer")?;
            tokio::time::sleep(DELAY).await;
            match net.reaches(&from, &to) {
                Some(_) => Ok(answer),
                None => Err(Status::new(Code::Unavailable, "the link broke").into()),
            }
        })
    }
}

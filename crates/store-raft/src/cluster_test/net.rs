//! A network in memory: who listens at which address, which links are cut, and
//! what the weather does to messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use grpc::{BoxFuture, Call, CallError, Code, Messages, Service, Status};
use prost::Message as _;

use crate::{
    peers::{Method, Peers},
    proto::raft_v1 as pb,
    simulation::random::Random,
};

#[derive(Default)]
pub(crate) struct Net(Mutex<Wires>);

/// What may happen to a message.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) random: Random,
    /// So many of a thousand messages are lost, each way, or come twice.
    pub(crate) lost_per_mille: u64,
    pub(crate) twice_per_mille: u64,
    /// Messages take up to so long one way, so they overtake each other.
    pub(crate) delay_max: Duration,
}

#[derive(Default)]
struct Wires {
    listening: BTreeMap<String, Arc<dyn Service>>,
    cut: BTreeSet<String>,
    /// Ways that nothing goes: from, to.
    blocked: BTreeSet<(String, String)>,
    weather: Option<Weather>,
    /// How long whoever has something to write down takes to answer.
    slow: Duration,
}

impl Wires {
    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.cut.contains(from) || self.cut.contains(to)
    }
}

impl Net {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network as seen from an address.
    pub(crate) fn from(self: &Arc<Self>, address: &str) -> Arc<dyn Peers> {
        Arc::new(Seen { net: self.clone(), from: address.to_owned() })
    }

    pub(crate) fn listen(&self, address: &str, service: Arc<dyn Service>) {
        self.lock().listening.insert(address.to_owned(), service);
    }

    pub(crate) fn leave(&self, address: &str) {
        self.lock().listening.remove(address);
    }

    /// Cuts an address off, or mends it.
    pub(crate) fn cut(&self, address: &str, off: bool) {
        let mut wires = self.lock();
        match off {
            true => wires.cut.insert(address.to_owned()),
            false => wires.cut.remove(address),
        };
    }

    /// Loses what is sent from one address to another, but no answers; or no more.
    pub(crate) fn block(&self, from: &str, to: &str, off: bool) {
        let way = (from.to_owned(), to.to_owned());
        let mut wires = self.lock();
        match off {
            true => wires.blocked.insert(way),
            false => wires.blocked.remove(&way),
        };
    }

    /// From now on; fair where there is none.
    pub(crate) fn weather(&self, weather: Option<Weather>) {
        self.lock().weather = weather;
    }

    /// From now on votes and entries take so long to be written down.
    pub(crate) fn slow(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    fn reaches(&self, from: &str, to: &str) -> Option<Arc<dyn Service>> {
        let wires = self.lock();
        let blocked = wires.blocked.contains(&(from.to_owned(), to.to_owned()));
        let cut = blocked || wires.is_cut(from, to);
        wires.listening.get(to).filter(|_| !cut).cloned()
    }

    /// One way of a message; false where it is lost.
    async fn travel(&self) -> bool {
        let weather = self.lock().weather.clone();
        let (lost, delay) = match &weather {
            None => (false, Duration::from_millis(1)),
            Some(weather) => (
                weather.random.chance(weather.lost_per_mille),
                weather.random.below_duration(weather.delay_max),
            ),
        };
        tokio::time::sleep(delay).await;
        !lost
    }

    fn comes_twice(&self) -> bool {
        let wires = self.lock();
        wires.weather.as_ref().is_some_and(|weather| weather.random.chance(weather.twice_per_mille))
    }
}

/// Whether a message has its reader write to the disk before it answers.
fn writes(method: Method, message: &Bytes) -> bool {
    let body = || pb::Envelope::decode(message.clone()).expect("an envelope").body;
    match method {
        Method::Vote => !pb::VoteRequest::decode(body()).expect("a vote").pre_vote,
        Method::Append => !pb::AppendRequest::decode(body()).expect("an append").entries.is_empty(),
        _ => false,
    }
}

struct Seen {
    net: Arc<Net>,
    from: String,
}

/// As long a connection is silent before it is given up.
const SILENCE: Duration = Duration::from_secs(2);

impl Peers for Seen {
    fn call(
        &self,
        address: &str,
        method: Method,
        mut messages: Messages,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let (net, from, to) = (self.net.clone(), self.from.clone(), address.to_owned());
        Box::pin(async move {
            if !net.travel().await {
                tokio::time::sleep(SILENCE).await;
                return Err(Status::new(Code::Unavailable, "lost on the way there").into());
            }
            let Some(service) = net.reaches(&from, &to) else {
                return Err(CallError::NotSent(format!("{to}: nobody is there")));
            };
            if method != Method::Snapshot && net.comes_twice() {
                let message = messages.next().await.expect("one message")?;
                let again =
                    Call { path: method.path().into(), messages: grpc::once(message.clone()) };
                let answering = service.call(again);
                // Whatever it does, nobody hears its answer.
                tokio::spawn(async move { drop(answering.await) });
                messages = grpc::once(message);
            }
            let slow = net.lock().slow;
            let writes = match slow {
                Duration::ZERO => Duration::ZERO,
                _ => {
                    let message = messages.next().await.expect("one message")?;
                    let writes = writes(method, &message);
                    messages = grpc::once(message);
                    if writes { slow } else { Duration::ZERO }
                }
            };
            let call = Call { path: method.path().into(), messages };
            let answered = service.call(call).await;
            tokio::time::sleep(writes).await;
            let broke = || Status::new(Code::Unavailable, "the link broke");
            // Who was killed meanwhile answers no more, whoever is there now. What it had
            // answered before is on its way all the same.
            let lives = net.reaches(&from, &to).is_some_and(|now| Arc::ptr_eq(&now, &service));
            if !lives {
                return Err(broke().into());
            }
            if !net.travel().await {
                tokio::time::sleep(SILENCE).await;
                return Err(Status::new(Code::Unavailable, "lost on the way back").into());
            }
            let cut = net.lock().is_cut(&from, &to);
            match cut {
                false => Ok(answered?.next().await.expect("one answer")?),
                true => Err(broke().into()),
            }
        })
    }
}

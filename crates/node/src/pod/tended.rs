//! The workers of a node's pods, kept at work: one that breaks off is started again. A pod
//! whose worker is no more would else be left alone until the API has news of it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use api_types::core::Pod;
use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{sync::mpsc, time::Instant};

use super::{
    manager::Manager,
    worker::{Message, Worker},
};
use crate::{node::Deps, resources::PODS, supervised::RESTART};

/// So long the API is waited for to say what status it has.
const ASK_MAX: Duration = Duration::from_secs(10);

/// A pod that has a worker, or is about to have one again.
pub(super) struct Tended {
    pub(super) inbox: mpsc::UnboundedSender<Message>,
    /// As it was heard of last.
    pod: Arc<Pod>,
    is_static: bool,
    /// The API has no such object any more.
    is_gone: bool,
    /// Since when this worker is at work, and how many before it broke off in a row.
    since: Instant,
    broken: u32,
}

/// What became of a worker, by the pod's uid.
pub(super) enum Ended {
    /// Nothing is left of the pod.
    Done(String),
    /// It broke off.
    Broke(String),
    /// The next may start: with what has come meanwhile, and the status that the API has.
    Rested { uid: String, inbox: mpsc::UnboundedReceiver<Message>, told: Map<String, Value> },
}

impl Tended {
    /// Notes what a new worker would have to know.
    fn note(&mut self, message: &Message) {
        match message {
            Message::Pod(pod) => self.pod = pod.clone(),
            Message::Gone(last) => {
                self.is_gone = true;
                self.pod = last.clone().unwrap_or_else(|| self.pod.clone());
            }
            _ => {}
        }
    }
}

impl Manager {
    pub(super) fn start(&mut self, pod: Arc<Pod>, told: Map<String, Value>, is_static: bool) {
        self.hold(&pod);
        let (sender, inbox) = mpsc::unbounded_channel();
        let tended = Tended {
            inbox: sender,
            pod: pod.clone(),
            is_static,
            is_gone: false,
            since: Instant::now(),
            broken: 0,
        };
        let uid = pod.metadata.uid.clone();
        let worker = self.worker(&tended, told, inbox);
        self.tended.insert(uid.clone(), tended);
        self.work(uid, worker);
    }

    /// What runs keeps what it was granted.
    fn hold(&self, pod: &Pod) {
        let has_ended = ["Succeeded", "Failed"].contains(&&*pod.status.phase);
        if !has_ended && self.uids.values().any(|known| *known == pod.metadata.uid) {
            self.deps.granted.hold(pod);
        }
    }

    fn worker(
        &self,
        tended: &Tended,
        told: Map<String, Value>,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Worker {
        let (pod, own) = (tended.pod.clone(), tended.inbox.clone());
        Worker::new(self.deps.clone(), pod, told, tended.is_static, own, inbox)
    }

    fn work(&mut self, uid: String, worker: Worker) {
        self.workers.spawn(async move {
            // The panic itself has been told where it happened.
            match AssertUnwindSafe(worker.run()).catch_unwind().await {
                Ok(()) => Ended::Done(uid),
                Err(_) => Ended::Broke(uid),
            }
        });
    }

    /// Whether there was somebody to tell.
    pub(super) fn tell(&mut self, uid: &str, message: Message) -> bool {
        self.tended.get_mut(uid).is_some_and(|tended| {
            tended.note(&message);
            tended.inbox.send(message).is_ok()
        })
    }

    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Done(uid) => {
                self.tended.remove(&uid);
                self.settle_statics();
            }
            Ended::Broke(uid) => self.rest(uid),
            Ended::Rested { uid, inbox, told } => self.resume(uid, inbox, told),
        }
    }

    /// Starts a worker anew after a while, with all that comes till then.
    fn rest(&mut self, uid: String) {
        let Some(tended) = self.tended.get_mut(&uid) else { return };
        tended.broken = RESTART.broken(tended.broken, tended.since.elapsed());
        let pause = RESTART.delay(tended.broken);
        let (sender, inbox) = mpsc::unbounded_channel();
        tended.inbox = sender;
        let (pod, is_static) = (tended.pod.clone(), tended.is_static);
        let key = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        let seconds = pause.as_secs();
        tracing::error!(
            pod = key,
            seconds,
            "a pod's worker broke off: it starts again after a pause"
        );
        self.hold(&pod);
        let deps = self.deps.clone();
        self.workers.spawn(async move {
            tokio::time::sleep(pause).await;
            // A static pod's is its mirror's, which is told to the worker.
            let told = if is_static { Map::new() } else { told(&deps, &pod).await };
            Ended::Rested { uid, inbox, told }
        });
    }

    fn resume(
        &mut self,
        uid: String,
        inbox: mpsc::UnboundedReceiver<Message>,
        told: Map<String, Value>,
    ) {
        let Some(tended) = self.tended.get_mut(&uid) else { return };
        tended.since = Instant::now();
        if tended.is_gone {
            // The worker before may have been told. There is somebody to hear it: the
            // inbox is here.
            let _ = tended.inbox.send(Message::Gone(None));
        }
        let tended = &self.tended[&uid];
        let worker = self.worker(tended, told, inbox);
        self.work(uid.clone(), worker);
        self.remind(&uid);
    }
}

/// A pod's status as the API has it; where that is not in reach it is told as a whole.
async fn told(deps: &Deps, pod: &Pod) -> Map<String, Value> {
    let meta = &pod.metadata;
    let asked = deps.api.get(PODS, &meta.namespace, &meta.name);
    match tokio::time::timeout(ASK_MAX, asked).await {
        Ok(Ok(found)) if found.meta.uid == meta.uid => status_of(&found.bytes),
        _ => Map::new(),
    }
}

/// The status of an object of the API; one that is not understood is told again as a whole.
pub(super) fn status_of(object: &[u8]) -> Map<String, Value> {
    #[derive(Default, Deserialize)]
    struct Told {
        #[serde(default)]
        status: Map<String, Value>,
    }
    let told: Told = serde_json::from_slice(object).unwrap_or_default();
    told.status
}

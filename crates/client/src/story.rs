//! Informers against a scripted server.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use api_object::{Reason, Status};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use tokio::time::Instant;

use crate::{
    Ambient, Api, Body, BoxFuture, Informer, MetaOnly, Resource, Selection, SharedInformers,
    Transport, TransportError,
};

const PODS: Resource = Resource::namespaced("", "v1", "pods");

/// What the server answers next.
enum Answer {
    /// Lines of a watch, and then its end.
    Events(Vec<String>),
    /// Lines of a watch that goes on in silence.
    EventsAndOn(Vec<String>),
    /// A body.
    Full(&'static str),
    Refuse(Reason),
    Unreachable,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(String, Instant)>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").iter().map(|(path, _)| path.clone()).collect()
    }
}

impl Transport for Script {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let path = request.uri().to_string();
        self.asked.lock().expect("no panic").push((path, Instant::now()));
        let answer = self.answers.lock().expect("no panic").pop_front();
        let lines =
            |lines: Vec<String>| stream::iter(lines.into_iter().map(|l| Ok(Bytes::from(l))));
        let respond =
            |code: u16, body| Ok(Response::builder().status(code).body(body).expect("a response"));
        let response = match answer {
            None => return Box::pin(std::future::pending()),
            Some(Answer::Unreachable) => Err(TransportError("no route".into())),
            Some(Answer::Full(text)) => {
                respond(200, Body::Full(Bytes::from_static(text.as_bytes())))
            }
            Some(Answer::Refuse(reason)) => {
                let status = Status::failure(reason, "no");
                let text = serde_json::to_vec(&status).expect("plain data");
                respond(status.code, Body::Full(text.into()))
            }
            Some(Answer::Events(events)) => respond(200, Body::Stream(Box::pin(lines(events)))),
            Some(Answer::EventsAndOn(events)) => {
                respond(200, Body::Stream(Box::pin(lines(events).chain(stream::pending()))))
            }
        };
        Box::pin(async move { response })
    }
}

fn pod(r#type: &str, name: &str, revision: u64) -> String {
    format!(
        r#"{{"type":"{type}","object":{{"metadata":{{"name":"{name}","namespace":"ns","uid":"{name}","resourceVersion":"{revision}"}}}}}}"#
    ) + "\n"
}

fn bookmark(revision: u64, initial_end: bool) -> String {
    let annotation =
        if initial_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    format!(
        r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{revision}"{annotation}}}}}}}"#
    ) + "\n"
}

/// No jitter, and a clock that nobody looks at.
fn ambient() -> Ambient {
    Ambient::new(|| jiff::Timestamp::UNIX_EPOCH, || 0)
}

/// An informer that ran until everybody was idle, and what it told.
async fn follow(script: &Arc<Script>) -> (Informer<MetaOnly>, Vec<String>) {
    let informer = Informer::<MetaOnly>::new(Selection::all(PODS));
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    informer.on_change(move |change| {
        let at = |side: &Option<Arc<crate::Cached<MetaOnly>>>| {
            side.as_ref().map_or("-".into(), |o| o.meta.resource_version.clone())
        };
        let line = format!("{} {}>{}", change.object().key(), at(&change.old), at(&change.new));
        log.lock().expect("no panic").push(line);
    });
    let api = Api::new(script.clone(), "test");
    let (ambient, running) = (ambient(), informer.clone());
    let task = tokio::spawn(async move { running.run(&api, &ambient).await });
    tokio::time::sleep(Duration::from_secs(600)).await;
    task.abort();
    let told = told.lock().expect("no panic").clone();
    (informer, told)
}

#[tokio::test(start_paused = true)]
async fn an_informer_resumes_and_relists() {
    let script = Script::new([
        Answer::Events(vec![
            pod("ADDED", "b", 3),
            pod("ADDED", "a", 5),
            bookmark(7, true),
            pod("MODIFIED", "a", 8),
            pod("ADDED", "c", 9),
            bookmark(12, false),
        ]),
        // Resumed, it says that 12 is too old by now.
        Answer::Refuse(Reason::Expired),
        // A second life: b is gone, a as it was, d is new.
        Answer::EventsAndOn(vec![
            pod("ADDED", "a", 8),
            pod("ADDED", "d", 20),
            pod("ADDED", "c", 9),
            bookmark(21, true),
            pod("DELETED", "c", 22),
        ]),
    ]);
    let (informer, told) = follow(&script).await;
    assert_eq!(
        told,
        ["ns/b ->3", "ns/a ->5", "ns/a 5>8", "ns/c ->9", "ns/d ->20", "ns/b 3>-", "ns/c 9>-",]
    );
    let keys: Vec<String> = informer.list().iter().map(|pod| pod.key()).collect();
    assert_eq!(keys, ["ns/a", "ns/d"]);
    assert_eq!(informer.revision(), 22);
    informer.wait_revision(22).await;
    let asked = script.asked();
    assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
    assert!(asked[1].contains("resourceVersion=12"), "{asked:?}");
    assert!(asked[2].contains("sendInitialEvents=true"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_initial_state_is_not_taken_for_all() {
    let script = Script::new([
        Answer::Events(vec![pod("ADDED", "a", 3)]),
        Answer::EventsAndOn(vec![pod("ADDED", "b", 4), bookmark(5, true)]),
    ]);
    let (informer, told) = follow(&script).await;
    assert!(informer.is_synced());
    assert_eq!(told, ["ns/a ->3", "ns/b ->4", "ns/a 3>-"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_watch_lists_is_listed() {
    let script = Script::new([
        Answer::Refuse(Reason::Invalid),
        Answer::Full(
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a","namespace":"ns","resourceVersion":"5"}}]}"#,
        ),
        Answer::EventsAndOn(vec![pod("ADDED", "b", 8)]),
    ]);
    let (informer, told) = follow(&script).await;
    assert!(informer.is_synced());
    assert_eq!(told, ["ns/a ->5", "ns/b ->8"]);
    let asked = script.asked();
    assert_eq!(asked[1], "/api/v1/pods");
    assert!(asked[2].contains("resourceVersion=7"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_watch_list_for_a_watch_is_listed() {
    let script = Script::new([
        Answer::EventsAndOn(vec![pod("ADDED", "a", 5)]),
        Answer::Full(
            r#"{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a","namespace":"ns","uid":"a","resourceVersion":"5"}}]}"#,
        ),
        Answer::EventsAndOn(vec![pod("ADDED", "b", 8)]),
    ]);
    let (informer, told) = follow(&script).await;
    assert!(informer.is_synced());
    assert_eq!(told, ["ns/a ->5", "ns/b ->8"]);
    assert!(script.asked()[2].contains("resourceVersion=7"), "{:?}", script.asked());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_asked_ever_more_rarely() {
    let script = Script::new((0..12).map(|_| Answer::Unreachable));
    let (informer, _) = follow(&script).await;
    assert!(!informer.is_synced());
    let asked: Vec<Instant> =
        script.asked.lock().expect("no panic").iter().map(|(_, at)| *at).collect();
    let pauses: Vec<u128> = asked.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    assert_eq!(
        pauses,
        [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000, 10_000]
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_has_one_informer_for_a_selection() {
    let script = Script::new([Answer::EventsAndOn(vec![pod("ADDED", "a", 3), bookmark(5, true)])]);
    let informers = SharedInformers::new(Api::new(script.clone(), "test"), ambient());
    let one = informers.get::<MetaOnly>(Selection::all(PODS));
    let two = informers.get::<MetaOnly>(Selection::all(PODS));
    two.wait_synced().await;
    assert_eq!((one.len(), script.asked().len()), (1, 1));
    // Late handlers hear of what is there.
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    one.on_change(move |change| {
        if let Some(told) = told.lock().expect("no panic").take() {
            drop(told.send(change.object().key()));
        }
    });
    assert_eq!(heard.await.as_deref(), Ok("ns/a"));
}

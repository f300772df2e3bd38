//! Both ends over HTTP/2 in memory: what a client sends arrives, what a node
//! answers comes back, and ends are noticed on either side.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    BoxFuture, End, Input, NodeEnd, NodeStreams, Nodes, Open, OpenError, Output, ServerEnd, Target,
    agent::{self, Io},
    pair, service,
};

/// Echoes data, and tells how streams end.
struct Echo(mpsc::UnboundedSender<&'static str>);

impl NodeStreams for Echo {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let told = self.0.clone();
        Box::pin(async move {
            if matches!(open, Open::Logs(..)) {
                return Err(OpenError::NotFound("no such pod".into()));
            }
            let (server, NodeEnd { mut input, output }) = pair();
            if matches!(open, Open::PortForward(..)) {
                // Says one thing and listens on.
                tokio::spawn(async move {
                    let _ = output.send(Output::Stdout("all".into())).await;
                    drop(output);
                    while let Some(frame) = input.recv().await {
                        if frame == Input::Data("still".into()) {
                            let _ = told.send("heard");
                        }
                    }
                });
                return Ok(server);
            }
            tokio::spawn(async move {
                loop {
                    match input.recv().await {
                        Some(Input::Data(bytes)) => {
                            if output.send(Output::Stdout(bytes)).await.is_err() {
                                let _ = told.send("nobody reads");
                                return;
                            }
                        }
                        Some(Input::Close) => {
                            let _ = output.send(Output::End(End::Exited(7))).await;
                        }
                        Some(Input::Resize { .. }) => {}
                        None => {
                            let _ = told.send("the client is gone");
                            return;
                        }
                    }
                }
            });
            Ok(server)
        })
    }
}

fn target() -> Target {
    Target { namespace: "a".into(), pod: "b".into(), uid: "c".into(), container: "d".into() }
}

struct World {
    nodes: Arc<Nodes>,
    heard: mpsc::UnboundedReceiver<&'static str>,
    closing: watch::Sender<bool>,
    node: Caller,
}

/// Calls the server, again and again where asked to.
struct Caller {
    dial: agent::Dial,
    echo: mpsc::UnboundedSender<&'static str>,
    /// Connections that have not ended.
    connections: watch::Sender<usize>,
}

/// A call that is up, and how it is told to end.
struct Called {
    leave: oneshot::Sender<()>,
    listening: JoinHandle<Result<(), String>>,
}

impl Caller {
    async fn call(&self) -> Called {
        let (up, is_up) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let (dial, echo) = (self.dial.clone(), Arc::new(Echo(self.echo.clone())));
        let listening = tokio::spawn(async move {
            let up = || up.send(()).expect("somebody waits");
            let left = async move {
                if left.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            agent::serve(dial, echo, up, left).await
        });
        is_up.await.expect("it connects");
        Called { leave, listening }
    }
}

/// A server and a node that has called it.
async fn connected() -> World {
    let world = server();
    world.node.call().await;
    world
}

fn server() -> World {
    let nodes = Arc::new(Nodes::default());
    let closing = watch::Sender::new(false);
    let connections = watch::Sender::new(0);
    let (for_server, closed) = (nodes.clone(), closing.clone());
    let counted = connections.clone();
    let dial: agent::Dial = Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = service(for_server.clone(), "n1".into(), closed.subscribe());
        let mut stop = closed.subscribe();
        let connections = counted.clone();
        connections.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
            grpc::serve_with(far, service, crate::SETTINGS, stopped).await;
            connections.send_modify(|count| *count -= 1);
        });
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
    });
    let (echo, heard) = mpsc::unbounded_channel();
    World { nodes, heard, closing, node: Caller { dial, echo, connections } }
}

async fn open(nodes: &Nodes) -> ServerEnd {
    nodes.open("n1", Open::Connect(target(), 80)).await.expect("opened")
}

#[tokio::test]
async fn bytes_come_through_and_the_end_is_told() {
    let World { nodes, mut heard, closing: _closing, .. } = connected().await;
    let ServerEnd { input, mut output } = open(&nodes).await;
    for n in 0..200u8 {
        let bytes = Bytes::from(vec![n; 16 * 1024]);
        input.send(Input::Data(bytes.clone())).await.expect("open");
        assert_eq!(output.recv().await, Some(Output::Stdout(bytes)));
    }
    input.send(Input::Close).await.expect("open");
    assert_eq!(output.recv().await, Some(Output::End(End::Exited(7))));
    drop(input);
    assert_eq!(heard.recv().await, Some("the client is gone"));
    let refused = nodes.open("n1", Open::Logs(target(), Default::default())).await;
    assert_eq!(refused.err(), Some(OpenError::NotFound("no such pod".into())));
}

#[tokio::test]
async fn a_side_that_has_finished_still_hears() {
    let World { nodes, mut heard, closing: _closing, .. } = connected().await;
    let end = nodes.open("n1", Open::PortForward(target(), 80)).await;
    let ServerEnd { input, mut output } = end.expect("opened");
    assert_eq!(output.recv().await, Some(Output::Stdout("all".into())));
    assert_eq!(output.recv().await, None);
    input.send(Input::Data("still".into())).await.expect("it listens");
    assert_eq!(heard.recv().await, Some("heard"));
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_no_other() {
    let World { nodes, mut heard, closing: _closing, .. } = connected().await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let end = open(&nodes).await;
        let input = end.input.clone();
        let flood = tokio::spawn(async move {
            let bytes = Bytes::from(vec![0; 16 * 1024]);
            while input.send(Input::Data(bytes.clone())).await.is_ok() {}
        });
        stuck.push((end, flood));
    }
    let ServerEnd { input, mut output } = open(&nodes).await;
    input.send(Input::Data("hello".into())).await.expect("open");
    assert_eq!(output.recv().await, Some(Output::Stdout("hello".into())));
    // A client that goes away is heard of, although its stream is full.
    let (end, flood) = stuck.pop().expect("one of them");
    drop(end);
    flood.abort();
    assert!(heard.recv().await.is_some());
}

#[tokio::test]
async fn a_server_that_stops_lets_its_nodes_go() {
    let World { nodes, heard: _heard, closing, .. } = connected().await;
    assert!(nodes.is_connected("n1"));
    closing.send_replace(true);
    let gone = async {
        while nodes.is_connected("n1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is let go");
    // It may call again, and is waited for.
    tokio::time::pause();
    let opened = nodes.open("n1", Open::Connect(target(), 80)).await;
    assert!(matches!(opened, Err(OpenError::NodeUnreachable(_))));
}

async fn echoes(end: &mut ServerEnd, word: &'static str) {
    end.input.send(Input::Data(word.into())).await.expect("open");
    assert_eq!(end.output.recv().await, Some(Output::Stdout(word.into())));
}

#[tokio::test]
async fn streams_outlive_the_call_that_another_has_followed() {
    let World { nodes, mut heard, closing: _closing, node } = server();
    let mut connections = node.connections.subscribe();
    let first = node.call().await;
    let mut old = open(&nodes).await;
    echoes(&mut old, "before").await;
    let second = node.call().await;
    first.leave.send(()).expect("it listens");
    assert_eq!(first.listening.await.expect("not cancelled"), Ok(()));
    assert!(nodes.is_connected("n1"));
    echoes(&mut old, "after").await;
    let mut new = open(&nodes).await;
    echoes(&mut new, "new").await;
    assert_eq!(*connections.borrow(), 2);
    // The old connection ends with its last stream, and the new one does not.
    drop(old);
    assert_eq!(heard.recv().await, Some("the client is gone"));
    connections.wait_for(|count| *count == 1).await.expect("we hold the other end");
    echoes(&mut new, "still").await;
    drop(second.leave);
}

/// Waits to be told before it answers.
struct Slow(watch::Receiver<bool>, mpsc::UnboundedSender<()>);

impl NodeStreams for Slow {
    fn open(&self, _: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let (mut may, asked) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            asked.send(()).expect("somebody counts");
            may.wait_for(|may| *may).await.expect("it is told");
            Err(OpenError::NotFound("slowly".into()))
        })
    }
}

#[tokio::test]
async fn what_was_asked_before_a_call_is_left_is_answered() {
    let World { nodes, closing: _closing, node, heard: _heard } = server();
    let (may, told) = watch::channel(false);
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (dial, slow) = (node.dial.clone(), Arc::new(Slow(told, asked)));
    let (up, is_up) = oneshot::channel();
    let (leave, left) = oneshot::channel::<()>();
    let listening = tokio::spawn(async move {
        let up = || up.send(()).expect("somebody waits");
        agent::serve(dial, slow, up, async move { drop(left.await) }).await
    });
    is_up.await.expect("it connects");
    let asking = nodes.clone();
    let opened = tokio::spawn(async move { asking.open("n1", Open::Connect(target(), 80)).await });
    was_asked.recv().await.expect("it is asked");
    let _second = node.call().await;
    leave.send(()).expect("it listens");
    may.send_replace(true);
    let answer = opened.await.expect("not cancelled").err();
    assert_eq!(answer, Some(OpenError::NotFound("slowly".into())));
    assert_eq!(listening.await.expect("not cancelled"), Ok(()));
}

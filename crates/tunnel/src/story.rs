//! Both ends over HTTP/2 in memory: what a client sends arrives, what a node
//! answers comes back, and ends are noticed on either side.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

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
}

/// A server and a node that has called it.
async fn connected() -> World {
    let nodes = Arc::new(Nodes::default());
    let closing = watch::Sender::new(false);
    let (for_server, closed) = (nodes.clone(), closing.clone());
    let dial: agent::Dial = Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = service(for_server.clone(), "n1".into(), closed.subscribe());
        let mut stop = closed.subscribe();
        tokio::spawn(async move {
            let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
            grpc::serve_with(far, service, crate::SETTINGS, stopped).await;
        });
        Box::pin(async move { Ok(Box::new(near) as Box<dyn Io>) })
    });
    let (told, heard) = mpsc::unbounded_channel();
    let (up, is_up) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        agent::serve(dial, Arc::new(Echo(told)), || up.send(()).expect("somebody waits")).await
    });
    is_up.await.expect("it connects");
    World { nodes, heard, closing }
}

async fn open(nodes: &Nodes) -> ServerEnd {
    nodes.open("n1", Open::Connect(target(), 80)).await.expect("opened")
}

#[tokio::test]
async fn bytes_come_through_and_the_end_is_told() {
    let World { nodes, mut heard, closing: _closing } = connected().await;
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
    let World { nodes, mut heard, closing: _closing } = connected().await;
    let end = nodes.open("n1", Open::PortForward(target(), 80)).await;
    let ServerEnd { input, mut output } = end.expect("opened");
    assert_eq!(output.recv().await, Some(Output::Stdout("all".into())));
    assert_eq!(output.recv().await, None);
    input.send(Input::Data("still".into())).await.expect("it listens");
    assert_eq!(heard.recv().await, Some("heard"));
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_no_other() {
    let World { nodes, mut heard, closing: _closing } = connected().await;
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
    let World { nodes, heard: _heard, closing } = connected().await;
    assert!(nodes.is_connected("n1"));
    closing.send_replace(true);
    let gone = async {
        while nodes.is_connected("n1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is let go");
    let opened = nodes.open("n1", Open::Connect(target(), 80)).await;
    assert!(matches!(opened, Err(OpenError::NodeUnreachable(_))));
}

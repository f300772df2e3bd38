//! Exec and attach over SPDY: the client opens a stream for each of stdin,
//! stdout, stderr, the outcome and the terminal's size.

use std::sync::Arc;

use api_object::Status;
use serde_json::Value;
use spdy::{Limits, Side, Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tunnel::{Input, Open, Output, ServerEnd, Stdio};

use super::{ended, failed, resized, told};
use crate::{
    Asked, Host, Reply, refused,
    upgrade::{self, IDLE_MAX, PING_EVERY, STREAMS_MAX},
    websocket::Outcome,
};

/// Best first. Only version 4 tells the outcome as a Status; version 2 does not
/// know terminals' sizes.
const PROTOCOLS: [&str; 3] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io"];

/// A frame's worth.
const CHUNK: usize = 16 * 1024;
/// Bytes of a size that is not yet whole.
const SIZE_BYTES_MAX: usize = 1024;

/// The five streams, and no more.
const LIMITS: Limits = Limits {
    streams_max: 8,
    backlog_max: 8,
    header_bytes_max: 16 * 1024,
    stream_bytes_max: 64 * 1024,
    unread_bytes_max: 128 * 1024,
};

pub(super) async fn serve(
    host: Arc<dyn Host>,
    open: Open,
    stdio: Stdio,
    asked: Asked,
) -> Result<Reply, Status> {
    let (reply, protocol) = match upgrade::spdy(&asked.headers, &PROTOCOLS) {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(*refusal),
    };
    let call = Call {
        stdio,
        exec: matches!(open, Open::Exec(..)),
        resize: stdio.tty && protocol != PROTOCOLS[2],
        outcome: if protocol == PROTOCOLS[0] { Outcome::Status } else { Outcome::Text },
    };
    // What the node refuses is an HTTP error, as long as there is HTTP.
    let stream = host.open(open).await.map_err(|error| refused(&error))?;
    host.run(Box::pin(async move {
        let Some(io) = upgrade::connection(asked.upgrade).await else { return };
        relay(io, stream, call).await;
    }));
    Ok(reply)
}

/// What was asked for.
#[derive(Clone, Copy)]
struct Call {
    stdio: Stdio,
    exec: bool,
    resize: bool,
    outcome: Outcome,
}

#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

async fn relay(io: impl AsyncRead + AsyncWrite + Unpin, stream: ServerEnd, call: Call) {
    let (mut session, driver) = spdy::session(io, Side::Server, LIMITS);
    let driving = driver.run(PING_EVERY, IDLE_MAX);
    tokio::pin!(driving);
    let carrying = async {
        let collected = timeout(STREAMS_MAX, collect(&mut session, call)).await;
        let Ok(Some(mut streams)) = collected else {
            tracing::debug!("a client did not open its streams in time");
            session.close();
            return None;
        };
        carry(&mut streams, stream, call).await;
        session.close();
        // They must not be reset while their last bytes are on the way.
        Some(streams)
    };
    tokio::select! {
        // The client has gone; the node hears of it by the end of its stream.
        ended = &mut driving => tracing::debug!(?ended, "a SPDY connection ended"),
        streams = carrying => {
            let ended = driving.await;
            tracing::debug!(?ended, "a SPDY connection is over");
            drop(streams);
        }
    }
}

/// Waits for all the streams that belong to the call. `None` where the client
/// goes before.
async fn collect(session: &mut spdy::Session, call: Call) -> Option<Streams> {
    let Stdio { stdin, stdout, stderr, .. } = call.stdio;
    let wanted = [true, stdin, stdout, stderr, call.resize];
    let mut missing = wanted.iter().filter(|wanted| **wanted).count();
    let mut streams = Streams::default();
    while missing > 0 {
        let (stream, headers) = session.accept().await?;
        let (slot, wanted) = match headers.get("streamtype").unwrap_or_default() {
            "error" => (&mut streams.error, true),
            "stdin" => (&mut streams.stdin, stdin),
            "stdout" => (&mut streams.stdout, stdout),
            "stderr" => (&mut streams.stderr, stderr),
            "resize" => (&mut streams.resize, call.resize),
            _ => {
                stream.refuse();
                continue;
            }
        };
        if !wanted || slot.is_some() {
            stream.refuse();
            continue;
        }
        stream.accept();
        *slot = Some(stream);
        missing -= 1;
    }
    Some(streams)
}

/// Carries bytes both ways until the process ends, and tells how it ended.
async fn carry(streams: &mut Streams, stream: ServerEnd, call: Call) {
    let ServerEnd { input, mut output } = stream;
    let Streams { error, stdin, stdout, stderr, resize } = streams;
    let inputs = async {
        tokio::join!(typed(stdin.as_mut(), &input), sizes(resize.as_mut(), &input));
        std::future::pending::<()>().await
    };
    let outputs = async {
        while let Some(frame) = output.recv().await {
            let (stream, bytes) = match frame {
                Output::Stdout(bytes) => (&mut *stdout, bytes),
                Output::Stderr(bytes) => (&mut *stderr, bytes),
                Output::End(end) => return ended(&end, call.exec),
            };
            let Some(open) = stream else { continue };
            if open.write_all(&bytes).await.is_err() {
                // The client does not want this one any more; the process runs on.
                *stream = None;
            }
        }
        failed("the node ended the stream without an outcome")
    };
    let status: Value = tokio::select! {
        () = inputs => return,
        status = outputs => status,
    };
    if let Some(error) = error {
        // A client that is gone needs no outcome.
        let _ = error.write_all(&told(&status, call.outcome)).await;
    }
    for stream in [stdout, stderr, error, stdin, resize].into_iter().flatten() {
        let _ = stream.shutdown().await;
    }
}

/// Stdin until its end.
async fn typed(stdin: Option<&mut Stream>, input: &mpsc::Sender<Input>) {
    let Some(stdin) = stdin else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let frame = match stdin.read(&mut buffer).await {
            Ok(count @ 1..) => Input::Data(bytes::Bytes::copy_from_slice(&buffer[..count])),
            // A stream that is reset ends as well.
            Ok(0) | Err(_) => Input::Close,
        };
        let over = frame == Input::Close;
        // A node that no longer listens has already sent its outcome.
        if input.send(frame).await.is_err() || over {
            return;
        }
    }
}

/// The terminal's sizes: JSON texts one after the other.
async fn sizes(resize: Option<&mut Stream>, input: &mpsc::Sender<Input>) {
    let Some(resize) = resize else { return };
    let mut text = Vec::new();
    while let Ok(1..) = resize.read_buf(&mut text).await {
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        let mut whole = Vec::new();
        let broken = loop {
            match values.next() {
                Some(Ok(size)) => whole.extend(resized(&size)),
                Some(Err(error)) => break !error.is_eof(),
                None => break false,
            }
        };
        let used = values.byte_offset();
        text.drain(..used);
        if broken || text.len() > SIZE_BYTES_MAX {
            return;
        }
        for size in whole {
            let _ = input.send(size).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tunnel::{End, NodeEnd};

    use super::*;

    const CALL: Call = Call {
        stdio: Stdio { stdin: true, stdout: true, stderr: false, tty: false },
        exec: true,
        resize: false,
        outcome: Outcome::Status,
    };

    /// A client with its streams for stdin, stdout and the outcome; the node's
    /// end; and the task between them. The connection holds few bytes.
    async fn call() -> ([Stream; 3], NodeEnd, JoinHandle<()>) {
        let (streams, node, relaying, _client) = call_of().await;
        (streams, node, relaying)
    }

    /// The same, and what moves the client's bytes.
    async fn call_of() -> ([Stream; 3], NodeEnd, JoinHandle<()>, JoinHandle<std::io::Result<()>>) {
        let (near, far) = tokio::io::duplex(1000);
        let (client, driver) = spdy::session(near, Side::Client, Limits::default());
        let driving = tokio::spawn(driver.run(PING_EVERY, IDLE_MAX));
        let (server, node) = tunnel::pair();
        let relaying = tokio::spawn(relay(far, server, CALL));
        let streams = ["stdin", "stdout", "error"]
            .map(|name| client.open([("streamtype", name)].into_iter().collect()).expect("room"));
        (streams, node, relaying, driving)
    }

    /// Passes once nothing can move any more: the clock is paused.
    async fn all_is_blocked() {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_makes_the_process_wait() {
        let ([_stdin, mut stdout, mut error], node, relaying) = call().await;
        const FRAMES: usize = 1000;
        let (sent, mut seen) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            for _ in 0..FRAMES {
                let frame = Output::Stdout(vec![1; CHUNK].into());
                node.output.send(frame).await.expect("the client is there");
                sent.send_modify(|count| *count += 1);
            }
            node.output.send(Output::End(End::Exited(0))).await.expect("the client is there");
        });
        all_is_blocked().await;
        // The client's side holds 128 KiB unread, ours 64 KiB unsent.
        let held = *seen.borrow_and_update();
        assert!(held <= tunnel::FRAMES_IN_FLIGHT_MAX + 14, "{held} frames are held");
        let mut all = Vec::new();
        stdout.read_to_end(&mut all).await.expect("whole");
        assert_eq!(all.len(), FRAMES * CHUNK);
        let mut outcome = String::new();
        error.read_to_string(&mut outcome).await.expect("whole");
        assert!(outcome.contains("Success"), "{outcome}");
        relaying.await.expect("over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_read_makes_the_client_wait() {
        let ([mut stdin, _stdout, _error], mut node, relaying) = call().await;
        let (sent, mut seen) = tokio::sync::watch::channel(0);
        let writing = tokio::spawn(async move {
            while stdin.write_all(&[1; CHUNK]).await.is_ok() {
                sent.send_modify(|count| *count += 1);
            }
        });
        all_is_blocked().await;
        let held = *seen.borrow_and_update();
        assert!(held <= tunnel::FRAMES_IN_FLIGHT_MAX + 14, "{held} chunks are held");
        assert!(matches!(node.input.recv().await, Some(Input::Data(_))));
        drop(node);
        relaying.await.expect("over");
        writing.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_vanishes_is_told_to_the_node() {
        let ([mut stdin, _stdout, _error], mut node, relaying, client) = call_of().await;
        stdin.write_all(b"x").await.expect("open");
        assert_eq!(node.input.recv().await, Some(Input::Data("x".into())));
        client.abort();
        relaying.await.expect("over");
        // The end of stdin may come first.
        while let Some(frame) = node.input.recv().await {
            assert_eq!(frame, Input::Close);
        }
        assert!(node.output.send(Output::Stdout("y".into())).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_opens_too_few_streams_is_left() {
        let (near, far) = tokio::io::duplex(1000);
        let (client, driver) = spdy::session(near, Side::Client, Limits::default());
        tokio::spawn(driver.run(PING_EVERY, IDLE_MAX));
        let (server, mut node) = tunnel::pair();
        let _stream = client.open([("streamtype", "error")].into_iter().collect());
        relay(far, server, CALL).await;
        assert!(node.input.recv().await.is_none(), "the node is told");
    }
}

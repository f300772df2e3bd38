//! Port-forward over SPDY: a stream for bytes and one for errors make a
//! connection; they belong together by their request's number.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use spdy::{Headers, Limits, Side, Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tunnel::{End, Input, Open, Output, ServerEnd, Target};

use crate::{
    Host,
    upgrade::{IDLE_MAX, PING_EVERY, STREAMS_MAX},
};

/// A frame's worth.
const CHUNK: usize = 16 * 1024;

/// Where connections go.
#[derive(Clone)]
pub(super) struct To {
    pub(super) host: Arc<dyn Host>,
    pub(super) target: Target,
}

impl To {
    /// A connection to a port; why not, in upstream's words.
    pub(super) async fn open(&self, port: u16) -> Result<ServerEnd, String> {
        let open = Open::PortForward(self.target.clone(), port);
        let opened = self.host.open(open).await;
        opened.map_err(|error| self.failed(port, &error.to_string()))
    }

    /// What the error stream says of a connection that could not be made.
    pub(super) fn failed(&self, port: u16, why: &str) -> String {
        let Target { pod, uid, .. } = &self.target;
        format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
    }
}

/// One of the two streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Error,
    Data,
}

/// What a stream says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Label {
    request: String,
    part: Part,
    port: u16,
}

/// Reads a stream's headers.
fn label(id: spdy::StreamId, headers: &Headers) -> Result<Label, String> {
    let required = |name: &str| {
        let value = headers.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("\"{name}\" header is required"))
    };
    let text = required("port")?;
    let port = text.parse().map_err(|_| format!("unable to parse \"{text}\" as a port"))?;
    if port == 0 {
        return Err(format!("port \"{text}\" must be > 0"));
    }
    let part = match required("streamtype")? {
        "error" => Part::Error,
        "data" => Part::Data,
        other => return Err(format!("invalid stream type \"{other}\"")),
    };
    let request = match (headers.get("requestid").unwrap_or_default(), part) {
        // Clients of old open both streams one after the other.
        ("", Part::Error) => id.to_string(),
        ("", Part::Data) => id.saturating_sub(2).to_string(),
        (request, _) => request.to_owned(),
    };
    Ok(Label { request, part, port })
}

/// The streams of a connection that have come so far.
struct Pair {
    error: Option<Stream>,
    data: Option<Stream>,
    due: Instant,
}

/// Serves a client until it goes.
pub(super) async fn relay(io: impl AsyncRead + AsyncWrite + Unpin, to: To) {
    let (session, driver) = spdy::session(io, Side::Server, Limits::default());
    tokio::select! {
        ended = driver.run(PING_EVERY, IDLE_MAX) => {
            tracing::debug!(?ended, "a port-forward's connection ended");
        }
        () = connections(session, to) => {}
    }
}

async fn connections(mut session: spdy::Session, to: To) {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let mut running = JoinSet::new();
    loop {
        let due = pairs.values().map(|pair| pair.due).min();
        let (stream, headers) = tokio::select! {
            opened = session.accept() => match opened {
                Some(opened) => opened,
                // The driver tells the end.
                None => return std::future::pending().await,
            },
            Some(_) = running.join_next() => continue,
            () = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            } => {
                let now = Instant::now();
                for (_, pair) in pairs.extract_if(.., |_, pair| pair.due <= now) {
                    if let Some(error) = pair.error {
                        running.spawn(say(error, "timed out waiting for streams".into()));
                    }
                }
                continue;
            }
        };
        let label = match label(stream.id(), &headers) {
            Ok(label) => label,
            Err(why) => {
                tracing::debug!("a stream is refused: {why}");
                stream.refuse();
                continue;
            }
        };
        stream.accept();
        let pair = pairs.entry(label.request.clone()).or_insert_with(|| Pair {
            error: None,
            data: None,
            due: Instant::now() + STREAMS_MAX,
        });
        let (slot, name) = match label.part {
            Part::Error => (&mut pair.error, "error"),
            Part::Data => (&mut pair.data, "data"),
        };
        if slot.is_some() {
            let pair = pairs.remove(&label.request).and_then(|pair| pair.error);
            if let Some(error) = pair {
                running.spawn(say(error, format!("{name} stream already assigned")));
            }
            continue;
        }
        *slot = Some(stream);
        if let Some(Pair { error: Some(_), data: Some(_), .. }) = pairs.get(&label.request)
            && let Some(Pair { error: Some(error), data: Some(data), .. }) =
                pairs.remove(&label.request)
        {
            let to = to.clone();
            running.spawn(async move { forward(&to, label.port, data, error).await });
        }
    }
}

/// An error stream's last words.
async fn say(mut error: Stream, text: String) {
    // A client that is gone needs no word.
    let _ = error.write_all(text.as_bytes()).await;
    let _ = error.shutdown().await;
    until_finished(&mut error).await;
}

/// A stream that is dropped before the client has finished its half is reset,
/// which may overtake what was said.
async fn until_finished(stream: &mut Stream) {
    let rest = async { while let Ok(1..) = stream.read(&mut [0; 64]).await {} };
    let _ = tokio::time::timeout(STREAMS_MAX, rest).await;
}

/// One connection, until both sides have finished or the client has gone.
async fn forward(to: &To, port: u16, mut data: Stream, error: Stream) {
    let ServerEnd { input, mut output } = match to.open(port).await {
        Ok(opened) => opened,
        Err(why) => {
            let _ = data.shutdown().await;
            return say(error, why).await;
        }
    };
    let mut error = Some(error);
    let (mut read, mut write) = tokio::io::split(data);
    let inward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => {
                    let _ = input.send(Input::Close).await;
                    return true;
                }
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    if input.send(Input::Data(bytes)).await.is_err() {
                        // The pod no longer listens; it may still speak.
                        return true;
                    }
                }
                Err(_reset) => return false,
            }
        }
    };
    let outward = async {
        while let Some(frame) = output.recv().await {
            match frame {
                Output::Stdout(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return false;
                    }
                }
                Output::End(End::Failed(why)) => {
                    let _ = write.shutdown().await;
                    if let Some(error) = error.take() {
                        say(error, to.failed(port, &why)).await;
                    }
                    return false;
                }
                Output::Stderr(_) | Output::End(End::Exited(_)) => {}
            }
        }
        let _ = write.shutdown().await;
        // kubectl closes its side once it hears that there was no error.
        if let Some(mut error) = error.take() {
            let _ = error.shutdown().await;
            until_finished(&mut error).await;
        }
        true
    };
    tokio::pin!(inward, outward);
    tokio::select! {
        more = &mut inward => if more { outward.await; },
        more = &mut outward => if more { inward.await; },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_say_what_they_are_for() {
        let read = |pairs: &[(&str, &str)]| label(5, &pairs.iter().copied().collect());
        let port = ("port", "80");
        assert_eq!(
            read(&[port, ("streamtype", "data"), ("requestid", "7")]),
            Ok(Label { request: "7".into(), part: Part::Data, port: 80 })
        );
        for (part, request) in [("error", "5"), ("data", "3")] {
            assert_eq!(read(&[port, ("streamtype", part)]).expect("whole").request, request);
        }
        for (pairs, why) in [
            (&[][..], "\"port\" header is required"),
            (&[("port", "x")], "unable to parse \"x\" as a port"),
            (&[("port", "0")], "port \"0\" must be > 0"),
            (&[port], "\"streamtype\" header is required"),
            (&[port, ("streamtype", "x")], "invalid stream type \"x\""),
        ] {
            assert_eq!(read(pairs), Err(why.into()));
        }
    }
}

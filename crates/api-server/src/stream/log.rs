//! `pods/log`: text as the node sends it, also over a WebSocket.

use std::sync::Arc;

use api_object::{Status, time};
use api_schema::{Faults, Path};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use streaming::{
    upgrade::{self, Wish},
    websocket::{self, BYTES, Protocol},
};
use tokio_tungstenite::tungstenite::Message;
use tunnel::{LogOptions, LogStream, Open, Output, ServerEnd};

use super::pod;
use crate::{
    ApiServer,
    body::Body,
    chain::Asked,
    counts::Label,
    path::{flag, parameter},
    respond::{self, Reply},
};

const TEXT: &str = "text/plain";

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let options = options(&asked.query, server.now().as_microsecond())?;
    let container = pod::container(object, asked.parameter("container"))?;
    let handshake = match upgrade::wish(&asked.head.headers) {
        Wish::WebSocket => Some(websocket::handshake(&asked.head.headers, &BYTES)?),
        Wish::Spdy | Wish::Nothing => None,
    };
    let stream = match api_schema::tree::text(object, "spec.nodeName") {
        // Nothing has been logged by a pod that is nowhere.
        "" => None,
        _ => {
            let (node, target) = pod::target(object, container)?;
            let opened = server.parts.nodes.open(&node, Open::Logs(target, options)).await;
            Some(opened.map_err(|error| streaming::refused(&error))?)
        }
    };
    let counted = server.counts.longrunning(label);
    if let Some((reply, protocol)) = handshake {
        let server = server.clone();
        tokio::spawn(async move {
            let _counted = counted;
            let Some(socket) = websocket::socket(asked.upgrade).await else { return };
            tokio::select! {
                () = relay(socket, protocol, stream) => {}
                () = server.closing() => {}
            }
        });
        return Ok(reply.map(Body::Full));
    }
    let mut reply = respond::reply(200, TEXT, "");
    let Some(stream) = stream else { return Ok(reply) };
    // The stream is dropped with the response's body, so the node stops
    // following when the client goes away.
    let chunks = futures_util::stream::unfold((stream, counted), |(mut stream, counted)| async {
        let chunk = next(&mut stream).await?;
        Some((chunk, (stream, counted)))
    });
    *reply.body_mut() = Body::Chunks(Box::pin(chunks.take_until(Box::pin(server.closing()))));
    Ok(reply)
}

/// The next piece of text; `None` at the end.
async fn next(stream: &mut ServerEnd) -> Option<Bytes> {
    loop {
        match stream.output.recv().await? {
            Output::Stdout(bytes) | Output::Stderr(bytes) if !bytes.is_empty() => {
                return Some(bytes);
            }
            Output::Stdout(_) | Output::Stderr(_) => {}
            Output::End(_) => return None,
        }
    }
}

/// Sends the text until its end, or until the client goes.
async fn relay(socket: websocket::Socket, protocol: Protocol, mut stream: Option<ServerEnd>) {
    let (mut sink, mut source) = socket.split();
    let writing = async {
        // Tells clients that the connection is there.
        sink.send(protocol.plain(Bytes::new())).await?;
        if let Some(stream) = &mut stream {
            while let Some(bytes) = next(stream).await {
                sink.send(protocol.plain(bytes)).await?;
            }
        }
        let end = Message::Close(Some(websocket::normal_end()));
        sink.send(end).await
    };
    // What the client says is nothing but its end.
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        written = writing => if let Err(error) = written {
            tracing::debug!("a client left its log: {error}");
        },
    }
}

/// Reads `PodLogOptions`.
fn options(query: &[(String, String)], now_us: i64) -> Result<LogOptions, Status> {
    let mut faults = Faults::default();
    let number = |key: &str| -> Result<Option<i64>, Status> {
        match parameter(query, key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
            }),
        }
    };
    let (tail, limit) = (number("tailLines")?, number("limitBytes")?);
    let since = number("sinceSeconds")?;
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        faults.invalid(&Path::new("tailLines"), tail, "must be greater than or equal to 0");
    }
    for (name, value) in [("limitBytes", limit), ("sinceSeconds", since)] {
        if let Some(value) = value.filter(|value| *value < 1) {
            faults.invalid(&Path::new(name), value, "must be greater than 0");
        }
    }
    let since_time = match parameter(query, "sinceTime") {
        "" => None,
        text => Some(time::parse(text).ok_or_else(|| {
            Status::bad_request(format!("sinceTime: \"{text}\" is no RFC 3339 time"))
        })?),
    };
    if since.is_some() && since_time.is_some() {
        let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        faults.forbidden(&Path::new(""), message);
    }
    let stream = match parameter(query, "stream") {
        "" | "All" => None,
        "Stdout" => Some(LogStream::Stdout),
        "Stderr" => Some(LogStream::Stderr),
        other => {
            faults.unsupported(&Path::new("stream"), other, ["All", "Stderr", "Stdout"]);
            None
        }
    };
    if stream.is_some() && tail.is_some() {
        let message = "`tailLines` and specific `stream` are mutually exclusive for now";
        faults.forbidden(&Path::new("tailLines"), message);
    }
    if !faults.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", "", faults.into_causes()));
    }
    let since = since.map(|seconds| now_us.saturating_sub(seconds.saturating_mul(1_000_000)));
    Ok(LogOptions {
        follow: flag(query, "follow"),
        previous: flag(query, "previous"),
        timestamps: flag(query, "timestamps"),
        tail_lines: tail.and_then(|lines| u64::try_from(lines).ok()),
        limit_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
        since_us: since.or_else(|| since_time.map(|time| time.as_microsecond())),
        stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::parse_query;

    #[test]
    fn options_are_read_or_refused() {
        let read = |query: &str| options(&parse_query(query), 10_000_000);
        let all =
            read("follow=true&tailLines=5&sinceSeconds=3&timestamps=true&limitBytes=9&previous=1")
                .expect("valid");
        assert!(all.follow && all.timestamps && all.previous);
        assert_eq!(
            (all.tail_lines, all.limit_bytes, all.since_us),
            (Some(5), Some(9), Some(7_000_000))
        );
        assert_eq!(
            read("tailLines=-1").expect_err("negative").message,
            "PodLogOptions \"\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(read("limitBytes=0").expect_err("zero").code, 422);
        assert_eq!(read("sinceTime=yesterday").expect_err("no time").code, 400);
        let since = read("sinceTime=1970-01-01T00:00:01Z").expect("valid").since_us;
        assert_eq!(since, Some(1_000_000));
    }
}

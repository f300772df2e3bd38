//! `pods/log`: text as the node sends it.

use std::sync::Arc;

use api_object::{Status, time};
use api_schema::{Faults, Path};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tunnel::{LogOptions, LogStream, Open, Output};

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
    if api_schema::tree::text(object, "spec.nodeName").is_empty() {
        // Nothing has been logged by a pod that is nowhere.
        return Ok(respond::reply(200, TEXT, ""));
    }
    let (node, target) = pod::target(object, container)?;
    let opened = server.parts.nodes.open(&node, Open::Logs(target, options)).await;
    let stream = opened.map_err(|error| pod::refused(&error))?;
    // The stream is dropped with the response's body, so the node stops
    // following when the client goes away.
    let counted = server.counts.longrunning(label);
    let chunks = futures_util::stream::unfold((stream, counted), |(mut stream, counted)| async {
        let chunk: Bytes = loop {
            match stream.output.recv().await? {
                Output::Stdout(bytes) | Output::Stderr(bytes) if !bytes.is_empty() => break bytes,
                Output::Stdout(_) | Output::Stderr(_) => {}
                Output::End(_) => return None,
            }
        };
        Some((chunk, (stream, counted)))
    });
    let mut reply = respond::reply(200, TEXT, "");
    *reply.body_mut() = Body::Chunks(Box::pin(chunks.take_until(Box::pin(server.closing()))));
    Ok(reply)
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

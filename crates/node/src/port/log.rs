//! `/containerLogs`: a container's log, as text.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tunnel::{LogOptions, LogStream, Open, Output, ServerEnd, Target};

use super::{
    answer::{Body, refused, streamed, text},
    query::{is_set, pairs},
};
use crate::{node::Deps, streams};

const PLAIN: &str = "text/plain";

pub(super) async fn serve(
    deps: &Arc<Deps>,
    [namespace, pod, container]: [&str; 3],
    query: &str,
) -> Response<Body> {
    let options = match options(query, deps.ambient.now().as_microsecond()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(found) = deps.lookup.named(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist\n"));
    };
    if !found.containers.iter().any(|known| known.name == container) {
        let why = format!("container \"{container}\" not found in pod \"{pod}\"\n");
        return text(StatusCode::NOT_FOUND, why);
    }
    let target = Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: found.uid.clone(),
        container: container.to_owned(),
    };
    match streams::open(deps.clone(), Open::Logs(target, options)).await {
        Ok(log) => streamed(StatusCode::OK, PLAIN, chunks(log)),
        Err(error) => refused(&error),
    }
}

/// The log is followed for as long as somebody reads the body.
fn chunks(log: ServerEnd) -> Body {
    let frames = futures_util::stream::unfold(log, |mut log| async {
        let bytes = next(&mut log).await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), log))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The next piece of text; `None` at the end.
async fn next(log: &mut ServerEnd) -> Option<Bytes> {
    loop {
        match log.output.recv().await? {
            Output::Stdout(bytes) | Output::Stderr(bytes) if !bytes.is_empty() => {
                return Some(bytes);
            }
            Output::Stdout(_) | Output::Stderr(_) => {}
            Output::End(_) => return None,
        }
    }
}

/// Reads `PodLogOptions`.
fn options(query: &str, now_us: i64) -> Result<LogOptions, String> {
    let mut options = LogOptions::default();
    let mut since = (None, None);
    for (key, value) in pairs(query) {
        let wrong = || format!("{key}={value} is not understood\n");
        let number = |least: u64| match value.parse::<u64>() {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(wrong()),
        };
        match &*key {
            "follow" => options.follow = is_set(&value),
            "previous" => options.previous = is_set(&value),
            "timestamps" => options.timestamps = is_set(&value),
            "tailLines" => options.tail_lines = number(0)?,
            "limitBytes" => options.limit_bytes = number(1)?,
            "sinceSeconds" => {
                let us = number(1)?.and_then(|seconds| i64::try_from(seconds).ok());
                since.0 = us.map(|s| now_us.saturating_sub(s.saturating_mul(1_000_000)));
            }
            "sinceTime" => {
                let time = api_object::time::parse(&value).ok_or_else(wrong)?;
                since.1 = Some(time.as_microsecond());
            }
            "stream" => {
                options.stream = match &*value {
                    "All" => None,
                    "Stdout" => Some(LogStream::Stdout),
                    "Stderr" => Some(LogStream::Stderr),
                    _ => return Err(wrong()),
                };
            }
            // As upstream's, what is not known does nothing.
            _ => {}
        }
    }
    if since.0.is_some() && since.1.is_some() {
        return Err("at most one of sinceTime or sinceSeconds may be specified\n".into());
    }
    options.since_us = since.0.or(since.1);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let read = |query: &str| options(query, 10_000_000);
        let all =
            "follow=true&tailLines=5&sinceSeconds=3&timestamps=true&limitBytes=9&previous&x=y";
        let all = read(all).expect("valid");
        assert!(all.follow && all.timestamps && all.previous);
        assert_eq!(
            (all.tail_lines, all.limit_bytes, all.since_us),
            (Some(5), Some(9), Some(7_000_000))
        );
        let since = read("sinceTime=1970-01-01T00%3A00%3A01Z&stream=Stderr").expect("valid");
        assert_eq!((since.since_us, since.stream), (Some(1_000_000), Some(LogStream::Stderr)));
        assert_eq!(read("follow=false").expect("valid"), LogOptions::default());
        for bad in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=x",
            "sinceTime=yesterday",
            "stream=both",
            "sinceSeconds=1&sinceTime=1970-01-01T00:00:01Z",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

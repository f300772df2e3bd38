//! `kubectl logs`

use http::Method;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    connection::Chunks,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    targets::{self, Reading, Target},
};

use super::pods;

pub(super) static FLAGS: &[Flag] = &[
    switch("follow", "Specify if the logs should be streamed").short('f'),
    switch("previous", "If true, print the logs for the previous instance of the container in a pod").short('p'),
    value("container", "NAME", "Print the logs of this container").short('c'),
    switch("all-containers", "Get all containers' logs in the pod(s)"),
    switch("all-pods", "Get logs from all pod(s)"),
    switch("timestamps", "Include timestamps on each line in the log output"),
    switch("prefix", "Prefix each log line with the log source (pod name and container name)"),
    switch("ignore-errors", "If watching / following pod logs, allow for any errors that occur to be non-fatal"),
    value("since", "TIME", "Only return logs newer than a relative duration like 5s, 2m, or 3h").or("0s"),
    value("since-time", "TIMESTAMP", "Only return logs after a specific date (RFC3339)"),
    value("tail", "N", "Lines of recent log file to display. Defaults to -1 with no selector, showing all log lines, otherwise 10").or("-1"),
    value("limit-bytes", "N", "Maximum bytes of logs to return").or("0"),
    value("max-log-requests", "N", "Specify maximum number of concurrent logs to follow when using by a selector").or("5"),
    value("pod-running-timeout", "TIME", "The length of time to wait until at least one pod is running").or("20s"),
    value("selector", "LABELS", "Selector (label query) to filter on").short('l'),
    switch("insecure-skip-tls-verify-backend", "Skip verifying the identity of the kubelet that logs are requested from"),
];

/// One log to be read.
struct Source {
    path: String,
    prefix: String,
}

/// The query of a request for a log.
fn query(session: &Session, container: &str) -> Vec<(String, String)> {
    let flags = &session.flags;
    let mut query = vec![("container".to_owned(), container.to_owned())];
    for (flag, key) in
        [("follow", "follow"), ("previous", "previous"), ("timestamps", "timestamps")]
    {
        if flags.on(flag) {
            query.push((key.to_owned(), "true".to_owned()));
        }
    }
    if let Some(since) = crate::duration::parse(flags.one("since")).filter(|since| !since.is_zero())
    {
        let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        query.push(("sinceSeconds".into(), seconds.to_string()));
    }
    if flags.is_set("since-time") {
        query.push(("sinceTime".into(), flags.one("since-time").into()));
    }
    let tail = match (flags.is_set("tail"), flags.is_set("selector")) {
        (false, true) => 10,
        _ => flags.one("tail").parse().unwrap_or(-1),
    };
    if tail >= 0 {
        query.push(("tailLines".into(), tail.to_string()));
    }
    if flags.one("limit-bytes") != "0" {
        query.push(("limitBytes".into(), flags.one("limit-bytes").into()));
    }
    query
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.is_set("since") && flags.is_set("since-time") {
        return failed("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if flags.one("tail").parse::<i64>().is_ok_and(|lines| lines < -1) {
        return failed("--tail must be greater than or equal to -1");
    }
    if flags.on("all-containers") && flags.is_set("container") {
        return failed(format!(
            "--all-containers=true should not be specified with container name {}",
            flags.one("container")
        ));
    }
    let mut words = flags.words.clone();
    // `logs POD CONTAINER`
    let positional = (words.len() == 2 && !words[0].contains('/')).then(|| words.remove(1));
    let pods = match (words.is_empty(), flags.is_set("selector")) {
        (true, true) => selected(session).await?,
        (false, true) => return failed("only a selector (-l) or a POD name is allowed"),
        (true, false) => {
            return Err(Failure::Arguments(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command".into(),
            ));
        }
        (false, false) => named(session, &words).await?,
    };
    let mut sources = Vec::new();
    for pod in &pods {
        let containers = match (&positional, flags.on("all-containers")) {
            (Some(name), _) => vec![name.clone()],
            (None, true) => pods::all_containers(pod),
            (None, false) => vec![pods::container(session, pod, false)?],
        };
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        for container in containers {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log");
            let prefix = match flags.on("prefix") {
                true => format!("[pod/{name}/{container}] "),
                false => String::new(),
            };
            sources.push(Source { path: targets::path(path, &query(session, &container)), prefix });
        }
    }
    let max: usize = flags.one("max-log-requests").parse().unwrap_or(5);
    if flags.on("follow") && sources.len() > 1 {
        if sources.len() > max {
            return failed(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {max}, use --max-log-requests to increase the limit",
                sources.len()
            ));
        }
        return together(session, sources).await;
    }
    for source in sources {
        let done = one_after_the_other(session, &source).await;
        match done {
            Err(error) if flags.on("ignore-errors") => {
                session.say(&format!("error: {}", error.message()))
            }
            done => done?,
        }
    }
    Ok(())
}

async fn selected(session: &Session) -> Outcome<Vec<Value>> {
    let Some(resource) = session.discovery().await?.find("pods") else {
        return failed("the server doesn't have a resource type \"pods\"");
    };
    let target = Target {
        resource,
        namespace: session.namespace().await?,
        name: String::new(),
        manifest: None,
    };
    let pods = target.objects(session).await?;
    if pods.is_empty() {
        session.say(&format!("No resources found in {} namespace.", target.namespace));
    }
    Ok(pods)
}

async fn named(session: &Session, words: &[String]) -> Outcome<Vec<Value>> {
    let reading = Reading { default_type: Some("pods"), ..Reading::default() };
    let mut all = Vec::new();
    for target in targets::find(session, words, reading).await? {
        let object = target.object(session).await.map_err(|error| match error.is_not_found() {
            true => Failure::Message(format!(
                "error from server (NotFound): {} in namespace {:?}",
                error.message(),
                target.namespace
            )),
            false => error,
        })?;
        let mut pods = pods::behind(session, &target, &object).await?;
        if pods.is_empty() {
            return failed("timed out waiting for the condition");
        }
        if pods.len() > 1 && !session.flags.on("all-pods") {
            let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default();
            session.say(&format!("Found {} pods, using pod/{name}", pods.len()));
            pods.truncate(1);
        }
        all.extend(pods);
    }
    Ok(all)
}

/// All of a container's log.
///
/// # Errors
/// The server's Status.
pub(super) async fn whole(session: &Session, target: &Target, container: &str) -> Outcome {
    let query = [("container".to_owned(), container.to_owned())];
    let path = targets::path(format!("{}/log", target.path()), &query);
    one_after_the_other(session, &Source { path, prefix: String::new() }).await
}

async fn open(session: &Session, source: &Source) -> Outcome<Chunks> {
    session
        .connection()
        .await?
        .stream(Method::GET, &source.path, "application/json, */*", None)
        .await
}

async fn one_after_the_other(session: &Session, source: &Source) -> Outcome {
    let mut chunks = open(session, source).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        match source.prefix.as_str() {
            "" => session.bytes(&chunk)?,
            prefix => session.bytes(&lines.add(&chunk, prefix))?,
        }
    }
    session.bytes(&lines.end(&source.prefix))
}

/// Several at once, each line whole.
async fn together(session: &Session, sources: Vec<Source>) -> Outcome {
    let (tell, mut told) = mpsc::channel::<Outcome<Vec<u8>>>(16);
    let connection = session.shared().await?;
    for source in sources {
        let (tell, connection) = (tell.clone(), connection.clone());
        tokio::spawn(async move {
            let opened =
                connection.stream(Method::GET, &source.path, "application/json, */*", None).await;
            let mut chunks = match opened {
                Ok(chunks) => chunks,
                Err(error) => {
                    // The receiver is gone only when the command is over.
                    let _ = tell.send(Err(error)).await;
                    return;
                }
            };
            let mut lines = Lines::default();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map(|chunk| lines.add(&chunk, &source.prefix));
                let failed = chunk.is_err();
                if tell.send(chunk).await.is_err() || failed {
                    return;
                }
            }
            let _ = tell.send(Ok(lines.end(&source.prefix))).await;
        });
    }
    drop(tell);
    while let Some(bytes) = told.recv().await {
        match bytes {
            Ok(bytes) => session.bytes(&bytes)?,
            Err(error) if session.flags.on("ignore-errors") => {
                session.say(&format!("error: {}", error.message()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whole lines of a stream.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Those that are whole now, each with the prefix.
    fn add(&mut self, chunk: &[u8], prefix: &str) -> Vec<u8> {
        self.0.extend_from_slice(chunk);
        let end = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.0.drain(..end).collect();
        let mut out = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(line);
        }
        out
    }

    /// What is left without an end.
    fn end(&mut self, prefix: &str) -> Vec<u8> {
        match self.0.is_empty() {
            true => Vec::new(),
            false => [prefix.as_bytes(), &std::mem::take(&mut self.0)].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prefixed_wherever_chunks_end() {
        let mut lines = Lines::default();
        let mut out = lines.add(b"on", "> ");
        out.extend(lines.add(b"e\ntwo\nthr", "> "));
        out.extend(lines.end("> "));
        assert_eq!(out, b"> one\n> two\n> thr");
    }
}

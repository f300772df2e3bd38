//! `/exec`, `/attach`, `/portForward` and `/run`, by the kubelet's paths and parameters.
//! How clients speak over the connection is `streaming`; what runs is what servers reach
//! through the tunnel.

use std::sync::{Arc, Weak};

use api_object::Status;
use bytes::BytesMut;
use http::{Method, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::upgrade::OnUpgrade;
use streaming::{Host, remote};
use tunnel::{BoxFuture, End, Open, OpenError, Output, ServerEnd, Stdio, Target};

use super::{
    Served,
    answer::{Body, JSON, refused, text, whole},
    query::{is_set, pairs},
};
use crate::{node::Deps, streams};

/// What `/run` keeps of what a command prints; upstream's limit.
const RUN_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Exec,
    Attach,
    Run,
    Forward,
}

/// What a path asks to be let into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Session<'a> {
    kind: Kind,
    namespace: &'a str,
    pod: &'a str,
    /// Only this one of the name will do.
    uid: Option<&'a str>,
    /// Empty for ports.
    container: &'a str,
}

impl<'a> Session<'a> {
    /// `None` where a path is of something else.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let ["", kind, rest @ ..] = parts.as_slice() else { return None };
        let kind = match *kind {
            "exec" => Kind::Exec,
            "attach" => Kind::Attach,
            "run" => Kind::Run,
            "portForward" => Kind::Forward,
            _ => return None,
        };
        let (namespace, pod, uid, container) = match (kind, rest) {
            (Kind::Forward, [namespace, pod]) => (namespace, pod, None, ""),
            (Kind::Forward, [namespace, pod, uid]) => (namespace, pod, Some(*uid), ""),
            (Kind::Forward, _) => return None,
            (_, [namespace, pod, container]) => (namespace, pod, None, *container),
            (_, [namespace, pod, uid, container]) => (namespace, pod, Some(*uid), *container),
            _ => return None,
        };
        Some(Self { kind, namespace, pod, uid, container })
    }

    /// A command that is run without a session has no handshake, and so no GET.
    pub(super) fn is_served_by(&self, method: &Method) -> bool {
        *method == Method::POST || *method == Method::GET && self.kind != Kind::Run
    }

    /// Which pod is meant, as it is here now.
    fn target(&self, deps: &Deps) -> Option<Target> {
        let found = deps.lookup.named(self.namespace, self.pod)?;
        self.uid.is_none_or(|uid| uid == found.uid).then(|| Target {
            namespace: self.namespace.to_owned(),
            pod: self.pod.to_owned(),
            uid: found.uid.clone(),
            container: self.container.to_owned(),
        })
    }
}

/// Sessions end with the port.
struct Behind {
    deps: Arc<Deps>,
    served: Weak<Served>,
}

impl Host for Behind {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let deps = self.deps.clone();
        Box::pin(async move { streams::open(deps, open).await })
    }

    fn run(&self, session: BoxFuture<()>) {
        if let Some(served) = self.served.upgrade() {
            // A port that is over takes no more.
            let _ = served.sessions.send(session);
        }
    }
}

impl Served {
    pub(super) async fn session(
        self: &Arc<Self>,
        session: &Session<'_>,
        head: &Parts,
        upgrade: OnUpgrade,
    ) -> Response<Body> {
        let query = pairs(head.uri.query().unwrap_or_default());
        let values = |key: &str| {
            let of_key = query.iter().filter(|(name, _)| name == key);
            of_key.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let flag = |key: &str| values(key).first().is_some_and(|value| is_set(value));
        let stdio = || remote::stdio(flag("input"), flag("output"), flag("error"), flag("tty"));
        let Some(target) = session.target(&self.deps) else {
            return text(
                StatusCode::NOT_FOUND,
                format!("pod \"{}\" does not exist\n", session.pod),
            );
        };
        let behind = Arc::new(Behind { deps: self.deps.clone(), served: Arc::downgrade(self) });
        let asked = streaming::Asked { headers: head.headers.clone(), upgrade };
        let answered = match session.kind {
            Kind::Run => return self.command(target, values("cmd").first().unwrap_or(&"")).await,
            Kind::Forward => {
                streaming::forward::serve(behind, target, "port", &values("port"), asked)
            }
            Kind::Attach => match stdio() {
                Ok(stdio) => remote::serve(behind, Open::Attach(target, stdio), asked).await,
                Err(status) => Err(status),
            },
            Kind::Exec => match stdio() {
                Ok(_) if values("command").is_empty() => {
                    Err(Status::bad_request("you must specify a command to run"))
                }
                Ok(stdio) => {
                    let command = values("command").into_iter().map(str::to_owned).collect();
                    remote::serve(behind, Open::Exec(target, command, stdio), asked).await
                }
                Err(status) => Err(status),
            },
        };
        match answered {
            Ok(reply) => reply.map(|bytes| Full::new(bytes).boxed_unsync()),
            Err(status) => failure(&status),
        }
    }

    /// Runs a command to its end and answers what it printed.
    async fn command(&self, target: Target, line: &str) -> Response<Body> {
        let command: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let stdio = Stdio { stdin: false, stdout: true, stderr: true, tty: false };
        let opened = streams::open(self.deps.clone(), Open::Exec(target, command, stdio)).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => return refused(&error),
        };
        let (mut out, mut err) = (BytesMut::new(), BytesMut::new());
        let end = loop {
            match session.output.recv().await {
                Some(Output::Stdout(bytes)) => keep(&mut out, &bytes),
                Some(Output::Stderr(bytes)) => keep(&mut err, &bytes),
                Some(Output::End(end)) => break end,
                None => break End::Failed("the command ended without an outcome".into()),
            }
        };
        match end {
            End::Exited(0) => {
                out.unsplit(err);
                whole(StatusCode::OK, JSON, out.freeze())
            }
            End::Exited(code) => {
                let said = String::from_utf8_lossy(&err);
                let why = format!("command '{line}' exited with {code}: {said}");
                text(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
            End::Failed(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}

/// What is too much is read all the same, so that the command comes to its end.
fn keep(kept: &mut BytesMut, bytes: &[u8]) {
    let room = RUN_BYTES_MAX.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// A kubelet's errors are text.
fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(code, format!("{}\n", status.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_kubelets() {
        let found = |path| Session::of(path).map(|s| (s.kind, s.pod, s.uid, s.container));
        for (path, expected) in [
            ("/exec/default/web/c", Some((Kind::Exec, "web", None, "c"))),
            ("/exec/default/web/c/", Some((Kind::Exec, "web", None, "c"))),
            ("/exec/default/web/u-1/c", Some((Kind::Exec, "web", Some("u-1"), "c"))),
            ("/attach/default/web/c", Some((Kind::Attach, "web", None, "c"))),
            ("/run/default/web/u-1/c", Some((Kind::Run, "web", Some("u-1"), "c"))),
            ("/portForward/default/web", Some((Kind::Forward, "web", None, ""))),
            ("/portForward/default/web/u-1", Some((Kind::Forward, "web", Some("u-1"), ""))),
            ("/portForward/default/web/u-1/c", None),
            ("/exec/default/web", None),
            ("/exec", None),
            ("//exec/default/web/c", None),
            ("/containerLogs/default/web/c", None),
            ("", None),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_run_at_once_is_posted() {
        for (path, method, is_served) in [
            ("/exec/default/web/c", Method::GET, true),
            ("/exec/default/web/c", Method::POST, true),
            ("/exec/default/web/c", Method::PUT, false),
            ("/run/default/web/c", Method::GET, false),
            ("/run/default/web/c", Method::POST, true),
        ] {
            let session = Session::of(path).expect("a session");
            assert_eq!(session.is_served_by(&method), is_served, "{method} {path}");
        }
    }

    #[test]
    fn what_a_command_prints_is_kept_as_far_as_there_is_room() {
        let mut kept = BytesMut::new();
        for _ in 0..3 {
            keep(&mut kept, &vec![1; RUN_BYTES_MAX / 2]);
        }
        assert_eq!(kept.len(), RUN_BYTES_MAX);
    }
}

//! What the port answers, and to whom.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use client::ListOptions;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::upgrade::OnUpgrade;
use tokio::sync::Notify;
use tunnel::{OpenError, PAGES};

use super::{Served, authorize::Asked, log, session::Session};
use crate::{resources::PODS, usage::pages};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// A whole answer.
pub(super) fn whole(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    streamed(status, media_type, Full::new(body.into()).boxed_unsync())
}

pub(super) fn streamed(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    whole(status, TEXT, text)
}

/// What the rest of the node says no with.
pub(super) fn refused(error: &OpenError) -> Response<Body> {
    let status = match error {
        OpenError::NotFound(_) => StatusCode::NOT_FOUND,
        OpenError::BadRequest(_) => StatusCode::BAD_REQUEST,
        OpenError::NodeUnreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
        OpenError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, error.to_string())
}

/// The kubelet's checks: those that are there to be asked, and whether pods are looked
/// after.
fn health(checks: &[&str], has_pods: bool) -> Option<(StatusCode, String)> {
    match (checks, has_pods) {
        ([] | ["syncloop"], true) | (["ping" | "log"], _) => Some((StatusCode::OK, "ok".into())),
        ([], false) => {
            let all = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\n";
            let told = format!("{all}healthz check failed\n");
            Some((StatusCode::INTERNAL_SERVER_ERROR, told))
        }
        (["syncloop"], false) => {
            let told = "internal server error: what looks after pods broke off\n";
            Some((StatusCode::INTERNAL_SERVER_ERROR, told.into()))
        }
        _ => None,
    }
}

impl Served {
    /// In this order: who asks, whether he may, and only then what. `known` is told
    /// that somebody is.
    pub(super) async fn answer(
        self: &Arc<Self>,
        certificate: Option<&[u8]>,
        head: Parts,
        upgrade: OnUpgrade,
        known: &Notify,
    ) -> Response<Body> {
        let Some(user) = self.who(certificate, &head.headers).await else {
            return text(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        known.notify_one();
        let session = Session::of(head.uri.path());
        let mut questions = vec![Asked::of(&head.method, head.uri.path())];
        if session.is_some() && head.method != Method::POST {
            questions.push(Asked::of(&Method::POST, head.uri.path()));
        }
        for asked in questions {
            match self.may(&user, &asked).await {
                Ok(true) => {}
                Ok(false) => return text(StatusCode::FORBIDDEN, asked.forbidden(&user)),
                Err(error) => {
                    tracing::warn!(
                        error,
                        user = user.name,
                        "whether a request is allowed cannot be found out"
                    );
                    return text(StatusCode::INTERNAL_SERVER_ERROR, asked.undecided(&user));
                }
            }
        }
        match (session, &head.method) {
            (Some(session), method) if session.is_served_by(method) => {
                self.session(&session, &head, upgrade).await
            }
            (None, &Method::GET) => self.page(&head).await,
            (None, &Method::HEAD) => {
                let (parts, _) = self.page(&head).await.into_parts();
                Response::from_parts(parts, Full::default().boxed_unsync())
            }
            (Some(_), _) => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
            (None, _) => self.missing(&head),
        }
    }

    async fn page(&self, head: &Parts) -> Response<Body> {
        let path = head.uri.path().trim_end_matches('/');
        let query = head.uri.query().unwrap_or_default();
        if let Some((path, media_type)) = PAGES.iter().find(|(served, _)| *served == path) {
            return match pages::answer(&self.deps, &format!("{path}?{query}")).await {
                Ok(bytes) => whole(StatusCode::OK, media_type, bytes),
                Err(error) => refused(&error),
            };
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["", "healthz", checks @ ..] => match health(checks, !self.deps.rests("pods")) {
                Some((status, told)) => text(status, told),
                None => self.missing(head),
            },
            ["", "pods"] => self.pods().await,
            ["", "containerLogs", namespace, pod, container] => {
                log::serve(&self.deps, [*namespace, *pod, *container], query).await
            }
            _ => self.missing(head),
        }
    }

    fn missing(&self, head: &Parts) -> Response<Body> {
        let pages: Vec<&str> = PAGES.iter().map(|(path, _)| *path).collect();
        let why = format!(
            "{} {} is not served on the port of a node: only GET of /healthz, /pods, \
             /containerLogs/NAMESPACE/POD/CONTAINER, {}; exec, attach, run and portForward as a \
             kubelet has them\n",
            head.method,
            head.uri.path(),
            pages.join(", ")
        );
        text(StatusCode::NOT_FOUND, why)
    }

    /// The pods that are bound to the node, as the API has them.
    async fn pods(&self) -> Response<Body> {
        let own = format!("spec.nodeName={}", self.deps.config.name);
        let options = ListOptions { field_selector: own, ..ListOptions::default() };
        let list = match self.deps.api.list(PODS, "", &options).await {
            Ok(list) => list,
            Err(error) => {
                let why = format!("the pods of the node cannot be listed: {error}\n");
                return text(StatusCode::SERVICE_UNAVAILABLE, why);
            }
        };
        let mut out = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
        for (index, item) in list.items.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b"," });
            out.extend_from_slice(item);
        }
        out.extend_from_slice(b"]}");
        whole(StatusCode::OK, JSON, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_looks_after_no_pods_is_not_well() {
        for (checks, has_pods, status, told) in [
            (&[][..], true, 200, "ok"),
            (&["ping"], false, 200, "ok"),
            (&["syncloop"], true, 200, "ok"),
            (&[], false, 500, "[-]syncloop failed: reason withheld\nhealthz check failed\n"),
            (&["syncloop"], false, 500, "internal server error: "),
        ] {
            let (code, text) = health(checks, has_pods).expect("a check");
            assert!(code == status && text.contains(told), "{checks:?}: {code} {text}");
        }
        assert_eq!(health(&["etcd"], true), None);
        assert_eq!(health(&["ping", "x"], true), None);
    }
}

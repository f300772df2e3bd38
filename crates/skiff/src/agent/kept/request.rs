//! Which requests are kept, and under what key.

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

/// What a node needs to know to run its pods. Leases, Events and requests for
/// certificates are of use to servers only.
const RESOURCES: &[&str] = &[
    "clustertrustbundles",
    "configmaps",
    "csidrivers",
    "endpointslices",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "runtimeclasses",
    "secrets",
    "servicecidrs",
    "services",
    "storageclasses",
    "volumeattachments",
];

/// What a request is to the keeper. Keys have no part that says from when on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole state of a selection, and then its changes.
    Watch(String),
    /// Its changes from some revision on.
    Resume(String),
    /// An object or a list.
    Read(String),
    /// A token for a pod.
    Token { pod: String, key: String },
    /// Passed on.
    Other,
}

pub(super) fn kind(request: &Request<Bytes>) -> Kind {
    let path = request.uri().path();
    if request.method() == Method::POST {
        return token(path, request.body());
    }
    if request.method() != Method::GET || !resource(path).is_some_and(|r| RESOURCES.contains(&r)) {
        return Kind::Other;
    }
    let query: Vec<&str> = request.uri().query().unwrap_or_default().split('&').collect();
    let selects = |part: &&&str| part.contains("Selector=");
    let selectors = query.iter().filter(selects).copied().collect::<Vec<_>>().join("&");
    let key = format!("{path}?{selectors}");
    match (query.contains(&"watch=true"), query.contains(&"sendInitialEvents=true")) {
        (true, true) => Kind::Watch(key),
        (true, false) => Kind::Resume(key),
        (false, _) => Kind::Read(key),
    }
}

/// The plural in a path of the API.
fn resource(path: &str) -> Option<&str> {
    let mut parts = path.trim_start_matches('/').split('/');
    match parts.next()? {
        "api" => parts.next()?,
        "apis" => {
            parts.next()?;
            parts.next()?
        }
        _ => return None,
    };
    match (parts.next()?, parts.next(), parts.next()) {
        ("namespaces", Some(_), Some(resource)) => Some(resource),
        (resource, _, _) => Some(resource),
    }
}

fn token(path: &str, body: &Bytes) -> Kind {
    if !(path.ends_with("/token") && resource(path) == Some("serviceaccounts")) {
        return Kind::Other;
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    match asked["spec"]["boundObjectRef"]["uid"].as_str() {
        // The uid is part of a file's name.
        Some(uid)
            if !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
        {
            Kind::Token { pod: uid.to_owned(), key: format!("{path}#{}", asked["spec"]) }
        }
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, uri: &str, body: &str) -> Kind {
        let request = Request::builder().method(method).uri(uri);
        kind(&request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request"))
    }

    #[test]
    fn what_a_node_reads_is_kept() {
        let get = |uri: &str| of(Method::GET, uri, "");
        let pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dpi".to_owned();
        assert_eq!(
            get(&format!("{pods}&watch=true&allowWatchBookmarks=true&sendInitialEvents=true")),
            Kind::Watch(pods.clone())
        );
        assert_eq!(
            get(&format!("{pods}&resourceVersion=7&watch=true")),
            Kind::Resume(pods.clone())
        );
        let secret = "/api/v1/namespaces/default/secrets/s";
        assert_eq!(get(secret), Kind::Read(format!("{secret}?")));
        let services = "/api/v1/namespaces/default/services?resourceVersion=0";
        assert_eq!(get(services), Kind::Read("/api/v1/namespaces/default/services?".into()));
        assert!(matches!(
            get("/apis/discovery.k8s.io/v1/endpointslices?watch=true"),
            Kind::Resume(_)
        ));
        for other in [
            "/api/v1/namespaces/x",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/pi",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests?watch=true",
            "/readyz",
            "/",
        ] {
            assert_eq!(get(other), Kind::Other, "{other}");
        }
        assert_eq!(of(Method::PATCH, secret, ""), Kind::Other);
    }

    #[test]
    fn tokens_are_kept_by_pod() {
        let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
        let body = r#"{"spec":{"audiences":[],"boundObjectRef":{"uid":"a-1"}}}"#;
        assert!(
            matches!(of(Method::POST, path, body), Kind::Token { pod, key } if pod == "a-1" && key.starts_with(path))
        );
        let foreign = body.replace("a-1", "../x");
        assert_eq!(of(Method::POST, path, &foreign), Kind::Other);
        assert_eq!(of(Method::POST, path, "junk"), Kind::Other);
        assert_eq!(of(Method::POST, "/api/v1/nodes", body), Kind::Other);
    }
}

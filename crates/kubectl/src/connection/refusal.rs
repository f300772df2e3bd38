//! What a server's refusal says, in kubectl's words.

use api_object::Status;
use http::Method;

use crate::failure::Failure;

/// What is made of an answer that is no Status.
const NO_SUCH: &str = "the server could not find the requested resource";

/// Names what was asked for where the server knows of no such place.
pub(super) fn named(error: Failure, method: &Method, path: &str) -> Failure {
    match (error, subject(path)) {
        (Failure::Status(mut status), Some(subject)) if status.message == NO_SUCH => {
            let verb = method.as_str().to_lowercase();
            status.message = format!("{NO_SUCH} ({verb} {subject})");
            Failure::Status(status)
        }
        (error, _) => error,
    }
}

/// `deployments.apps web` of the path of a resource.
fn subject(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, name) = match rest {
        ["namespaces", _, resource, rest @ ..] => (resource, rest.first()),
        [resource, rest @ ..] => (resource, rest.first()),
        [] => return None,
    };
    let resource = match group {
        "" => (*resource).to_owned(),
        group => format!("{resource}.{group}"),
    };
    Some(name.map_or(resource.clone(), |name| format!("{resource} {name}")))
}

/// A failed answer as a Status.
pub(crate) fn refusal(code: u16, bytes: &[u8]) -> Status {
    let parsed = serde_json::from_slice::<Status>(bytes).ok();
    let mut status = parsed.filter(|status| !status.kind.is_empty()).unwrap_or_else(|| Status {
        message: match code {
            404 => NO_SUCH.to_owned(),
            _ => String::from_utf8_lossy(bytes).trim().to_owned(),
        },
        reason: if code == 404 {
            api_object::Reason::NotFound
        } else {
            api_object::Reason::default()
        },
        ..Status::internal("")
    });
    status.code = code;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_no_status_become_one() {
        for (path, subject) in [
            ("/api/v1/namespaces/a/configmaps/b/scale?x=y", Some("configmaps b")),
            ("/apis/apps/v1/namespaces/a/deployments", Some("deployments.apps")),
            ("/api/v1/namespaces/a", Some("namespaces a")),
            ("/healthz", None),
        ] {
            assert_eq!(super::subject(path).as_deref(), subject, "{path}");
        }
        let status = refusal(404, b"404 page not found");
        assert_eq!(status.message, "the server could not find the requested resource");
        assert_eq!(refusal(502, b"bad gateway\n").message, "bad gateway");
    }
}

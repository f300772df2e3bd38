//! Whether who asks may: the API decides, of what the kubelet's documentation names.

use std::time::Duration;

use client::Resource;
use http::Method;
use serde_json::{Value, json};

use super::{Served, authenticate::User};

/// How long an answer is believed: the kubelet's `authorization.webhook.cacheAuthorizedTTL`
/// and `cacheUnauthorizedTTL`.
const ALLOWED_LIFE: Duration = Duration::from_secs(300);
const DENIED_LIFE: Duration = Duration::from_secs(30);

const ACCESS_REVIEWS: Resource =
    Resource::cluster("authorization.k8s.io", "v1", "subjectaccessreviews");

/// Of which subresources of `nodes` one will do, by path; for what is not here, `proxy`.
const SUBRESOURCES: &[(&str, &[&str])] = &[
    ("/checkpoint", &["checkpoint"]),
    ("/configz", &["configz", "proxy"]),
    ("/healthz", &["healthz", "proxy"]),
    ("/logs", &["log"]),
    ("/metrics", &["metrics"]),
    ("/pods", &["pods", "proxy"]),
    ("/runningpods", &["pods", "proxy"]),
    ("/spec", &["spec"]),
    ("/stats", &["stats"]),
];

/// What is asked, as an authorizer sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    verb: &'static str,
    /// The narrowest first.
    subresources: &'static [&'static str],
}

impl Asked {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let is_below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = SUBRESOURCES.iter().find(|(root, _)| is_below(root));
        Self { verb, subresources: found.map_or(&["proxy"], |(_, subresources)| subresources) }
    }

    /// Upstream's sentence.
    pub(super) fn forbidden(&self, user: &User) -> String {
        format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            self.verb,
            self.subresources.join(" ")
        )
    }

    /// The same where nobody could be asked.
    pub(super) fn undecided(&self, user: &User) -> String {
        format!(
            "Authorization error (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            self.verb,
            self.subresources.join(" ")
        )
    }
}

impl Served {
    /// Whether the API allows one of what would do.
    pub(super) async fn may(&self, user: &User, asked: &Asked) -> Result<bool, String> {
        for subresource in asked.subresources {
            if self.may_one(user, asked.verb, subresource).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn may_one(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let spec = question(user, verb, subresource, &self.deps.config.name);
        let text = spec.to_string();
        if let Some(known) = self.decisions.get(text.as_bytes()) {
            return Ok(known);
        }
        let _turn = self.reviews.acquire().await.map_err(|error| error.to_string())?;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        });
        let answer = self.deps.api.create(ACCESS_REVIEWS, "", &review).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: Value =
            serde_json::from_slice(&answer.bytes).map_err(|error| error.to_string())?;
        let allowed = answer["status"]["allowed"] == true && answer["status"]["denied"] != true;
        let life = if allowed { ALLOWED_LIFE } else { DENIED_LIFE };
        self.decisions.put(text.as_bytes(), allowed, life);
        Ok(allowed)
    }
}

fn question(user: &User, verb: &str, subresource: &str, node: &str) -> Value {
    let mut spec = json!(user);
    spec["resourceAttributes"] = json!({
        "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
        "name": node,
    });
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_are_what_the_documentation_says() {
        for (line, expected) in [
            ("GET /metrics", "get metrics"),
            ("GET /metrics/resource", "get metrics"),
            ("GET /metricsx", "get proxy"),
            ("HEAD /stats/summary", "get stats"),
            ("GET /pods", "get pods proxy"),
            ("GET /pods/", "get pods proxy"),
            ("GET /runningpods/", "get pods proxy"),
            ("GET /healthz", "get healthz proxy"),
            ("GET /healthz/ping", "get healthz proxy"),
            ("GET /configz", "get configz proxy"),
            ("GET /logs/kern.log", "get log"),
            ("GET /spec/", "get spec"),
            ("POST /checkpoint/default/web/c", "create checkpoint"),
            ("GET /containerLogs/default/web/c", "get proxy"),
            ("POST /exec/default/web/c", "create proxy"),
            ("GET /exec/default/web/c", "get proxy"),
            ("GET //metrics", "get proxy"),
            ("GET /", "get proxy"),
            ("PUT /x", "update proxy"),
            ("PATCH /x", "patch proxy"),
            ("DELETE /x", "delete proxy"),
            ("OPTIONS /x", " proxy"),
        ] {
            let (method, path) = line.split_once(' ').expect("two words");
            let asked = Asked::of(&method.parse().expect("a method"), path);
            let found = format!("{} {}", asked.verb, asked.subresources.join(" "));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn what_is_asked_of_the_api_and_told_to_who_may_not() {
        let user: User = serde_json::from_value(json!({"username": "jane", "groups": ["devs"]}))
            .expect("a user");
        assert_eq!(
            question(&user, "get", "pods", "pi"),
            json!({"user": "jane", "groups": ["devs"], "extra": {}, "resourceAttributes": {
                "verb": "get", "version": "v1", "resource": "nodes", "subresource": "pods",
                "name": "pi"}})
        );
        assert_eq!(
            Asked::of(&Method::GET, "/pods").forbidden(&user),
            "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        );
    }
}

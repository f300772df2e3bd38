//! Whom a request acts as, and whether its path can lie about what it is.

use std::sync::Arc;

use api_registry::{Authorizer, BoxFuture, Decision, RequestAttributes, UserInfo};
use http::Request;
use serde_json::{Value, json};
use store::MemoryStore;
use tokio::io::AsyncWriteExt as _;

use super::harness::{CONFIG_MAPS, Cluster, cluster, config_map, named, parts};
use crate::{ApiServer, body::RequestBody, server::Caller};

/// Allows what is written down, and what the user `admin` asks.
struct Written(&'static [&'static str]);

/// `VERB RESOURCE[/SUBRESOURCE][.GROUP] [NAME]`, or `VERB PATH`.
fn spelled(asked: &RequestAttributes) -> String {
    if !asked.resource_request {
        return format!("{} {}", asked.verb, asked.path);
    }
    let mut what = format!("{} {}", asked.verb, asked.resource);
    for (sign, part) in [('/', &asked.subresource), ('.', &asked.group), (' ', &asked.name)] {
        if !part.is_empty() {
            what.push(sign);
            what.push_str(part);
        }
    }
    what
}

impl Authorizer for Written {
    fn authorize<'a>(&'a self, asked: &'a RequestAttributes) -> BoxFuture<'a, Decision> {
        let allowed = asked.user.name == "admin" || self.0.contains(&spelled(asked).as_str());
        let decision = match allowed {
            true => Decision::Allow,
            false => Decision::NoOpinion { reason: String::new() },
        };
        Box::pin(std::future::ready(decision))
    }
}

fn cluster_of(caller: UserInfo, grants: &'static [&'static str]) -> Cluster {
    let parts = api_server_parts(grants);
    let server = ApiServer::new(parts);
    Cluster { transport: server.transport(caller), server }
}

fn api_server_parts(grants: &'static [&'static str]) -> crate::Parts {
    crate::Parts { authorizer: Arc::new(Written(grants)), ..parts(MemoryStore::default()) }
}

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Each line: what is granted, the headers, and 201 or the refusal.
#[tokio::test]
async fn impersonation_is_asked_for_piece_by_piece() {
    const MAY_POST: &str = "create selfsubjectreviews.authentication.k8s.io";
    let agent = UserInfo {
        extra: [("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])]
            .into(),
        ..named("system:serviceaccount:ns:agent")
    };
    type Line = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let lines: &[Line] = &[
        (&[MAY_POST, "impersonate users eve"], &[("impersonate-user", "eve")], ""),
        (
            &[MAY_POST, "impersonate users eve"],
            &[("impersonate-user", "eve"), ("impersonate-group", "system:masters")],
            "cannot impersonate-on:user-info:create resource",
        ),
        (
            &[MAY_POST, "impersonate users eve", "impersonate groups a", "impersonate groups b"],
            &[("impersonate-user", "eve"), ("impersonate-group", "a"), ("impersonate-group", "b")],
            "",
        ),
        (
            &[MAY_POST, "impersonate users eve", "impersonate groups a"],
            &[("impersonate-user", "eve"), ("impersonate-group", "a"), ("impersonate-group", "b")],
            "cannot impersonate-on",
        ),
        (
            &[MAY_POST, "impersonate users eve", "impersonate uids.authentication.k8s.io 7"],
            &[("impersonate-user", "eve"), ("impersonate-uid", "7")],
            "",
        ),
        (
            &[MAY_POST, "impersonate users eve"],
            &[("impersonate-user", "eve"), ("impersonate-uid", "7")],
            "cannot impersonate-on",
        ),
        (
            &[
                MAY_POST,
                "impersonate users eve",
                "impersonate userextras/acme.io/foo.authentication.k8s.io x",
            ],
            &[("impersonate-user", "eve"), ("impersonate-extra-acme.io%2ffoo", "x")],
            "",
        ),
        (
            &[
                MAY_POST,
                "impersonate users eve",
                "impersonate userextras/foo.authentication.k8s.io x",
            ],
            &[
                ("impersonate-user", "eve"),
                ("impersonate-extra-foo", "x"),
                ("impersonate-extra-foo", "y"),
            ],
            "cannot impersonate-on",
        ),
        (
            &[MAY_POST, "impersonate serviceaccounts a"],
            &[("impersonate-user", "system:serviceaccount:ns:a")],
            "",
        ),
        // The right to become a user is not the right to become an account.
        (
            &[MAY_POST, "impersonate users system:serviceaccount:ns:a"],
            &[("impersonate-user", "system:serviceaccount:ns:a")],
            "cannot impersonate-on:serviceaccount:create",
        ),
        // The narrow modes ask about the request too.
        (
            &[
                MAY_POST,
                "impersonate:user-info users.authentication.k8s.io eve",
                "impersonate-on:user-info:create selfsubjectreviews.authentication.k8s.io",
            ],
            &[("impersonate-user", "eve")],
            "",
        ),
        (
            &[
                MAY_POST,
                "impersonate:user-info users.authentication.k8s.io eve",
                "impersonate-on:user-info:list pods",
            ],
            &[("impersonate-user", "eve")],
            "cannot impersonate-on:user-info:create",
        ),
        (
            &[
                MAY_POST,
                "impersonate:user-info users.authentication.k8s.io eve",
                "impersonate:user-info groups.authentication.k8s.io system:masters",
                "impersonate-on:user-info:create selfsubjectreviews.authentication.k8s.io",
            ],
            &[("impersonate-user", "eve"), ("impersonate-group", "system:masters")],
            "impersonating the system:masters group is not allowed",
        ),
        (
            &[
                MAY_POST,
                "impersonate:associated-node nodes.authentication.k8s.io *",
                "impersonate-on:associated-node:create selfsubjectreviews.authentication.k8s.io",
            ],
            &[("impersonate-user", "system:node:n1")],
            "",
        ),
        (
            &[
                MAY_POST,
                "impersonate:associated-node nodes.authentication.k8s.io *",
                "impersonate-on:associated-node:create selfsubjectreviews.authentication.k8s.io",
            ],
            &[("impersonate-user", "system:node:n2")],
            "cannot impersonate-on:arbitrary-node:create",
        ),
        (
            &[
                MAY_POST,
                "impersonate:arbitrary-node nodes.authentication.k8s.io n2",
                "impersonate-on:arbitrary-node:create selfsubjectreviews.authentication.k8s.io",
            ],
            &[("impersonate-user", "system:node:n2")],
            "",
        ),
        // What proxies say of their users is nothing to us.
        (&[MAY_POST], &[("x-remote-user", "admin"), ("x-remote-group", "system:masters")], ""),
    ];
    for (grants, headers, refusal) in lines {
        let cluster = cluster_of(agent.clone(), grants);
        let answer = cluster.send_as("POST", WHO, headers, json!({})).await;
        match refusal.is_empty() {
            // Nothing answers reviews in this server: it got through.
            true => {
                assert!(answer.message().contains("nothing answers"), "{headers:?} {}", answer.body)
            }
            false => {
                assert_eq!(answer.code, 403, "{headers:?} {}", answer.body);
                assert!(answer.message().contains(refusal), "{headers:?} {}", answer.message());
            }
        }
    }
}

#[tokio::test]
async fn headers_without_a_user_and_without_text_are_refused() {
    let cluster = cluster();
    let answer =
        cluster.send_as("GET", CONFIG_MAPS, &[("impersonate-group", "a")], Value::Null).await;
    assert_eq!(answer.code, 400);
    // Not text: dropping it would answer as the caller.
    let request = Request::get(CONFIG_MAPS)
        .header("impersonate-user", http::HeaderValue::from_bytes(b"e\xffve").expect("a value"))
        .body(RequestBody::Full(bytes::Bytes::new()))
        .expect("a request");
    let reply = cluster.server.handle(request, Caller::Known(Arc::new(named("admin")))).await;
    assert_eq!(reply.status(), 400);
}

/// What is judged is what is done, whatever the path looks like.
#[tokio::test]
async fn paths_cannot_lie() {
    const GRANTS: &[&str] = &["get configmaps a", "list configmaps a", "get pods b"];
    let cluster = cluster_of(named("bob"), GRANTS);
    let admin = Cluster {
        transport: cluster.server.transport(named("admin")),
        server: cluster.server.clone(),
    };
    for name in ["a", "secret"] {
        admin.create(CONFIG_MAPS, config_map(name, json!({"of": name}))).await;
    }
    let ns = "/api/v1/namespaces/default";
    for (method, path, code) in [
        ("GET", format!("{ns}/configmaps/a"), 200),
        ("GET", format!("{ns}/configmaps%2fa"), 200),
        ("GET", format!("/{ns}/configmaps/a/"), 200),
        ("GET", format!("{ns}/configmaps/secret"), 403),
        ("GET", format!("{ns}/configmaps%2fsecret"), 403),
        ("GET", format!("{ns}/configmaps/a/../secret"), 403),
        ("GET", format!("{ns}/configmaps/a/..%2fsecret"), 403),
        ("GET", format!("{ns}/configmaps/a;/secret"), 403),
        ("GET", format!("{ns}/configmaps//secret"), 403),
        ("GET", format!("{ns}/configmaps/a%00"), 403),
        ("GET", format!("{ns}/configmaps/%61"), 200),
        ("GET", format!("{ns}/pods/b/../../../secrets"), 403),
        ("GET", format!("{ns}/./configmaps/a"), 403),
        ("GET", "/api/v1/namespaces//configmaps".to_owned(), 403),
        ("GET", format!("{ns}/configmaps?fieldSelector=metadata.name%3Da"), 200),
        ("GET", format!("{ns}/configmaps?fieldSelector=metadata.name!%3Da"), 403),
        ("GET", format!("{ns}/configmaps?fieldSelector=metadata.name%3Da&fieldSelector="), 200),
        ("GET", format!("{ns}/configmaps?fieldSelector=&fieldSelector=metadata.name%3Da"), 403),
        ("GET", format!("{ns}/configmaps?fieldSelector=metadata.name%3Da;x"), 403),
        ("DELETE", format!("{ns}/configmaps?fieldSelector=metadata.name%3Da"), 403),
        ("OPTIONS", format!("{ns}/configmaps/a"), 403),
        ("POST", format!("{ns}/configmaps/a"), 403),
    ] {
        let answer = cluster.send(method, &path, Value::Null).await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
        assert!(!answer.body.to_string().contains("\"of\":\"secret\""), "{path}: {}", answer.body);
    }
    for (header, value) in [
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-original-url", "/api/v1/secrets"),
        ("x-forwarded-host", "localhost"),
        ("host", "localhost:1"),
        ("x-remote-user", "admin"),
        ("x-remote-extra-scopes", "all"),
    ] {
        let path = format!("{ns}/configmaps/secret");
        let answer = cluster.send_as("GET", &path, &[(header, value)], Value::Null).await;
        assert_eq!(answer.code, 403, "{header}");
        let path = format!("{ns}/configmaps/a");
        let answer = cluster.send_as("GET", &path, &[(header, value)], Value::Null).await;
        assert_eq!(answer.body["data"]["of"], "a", "{header}");
    }
    assert_eq!(admin.get(&format!("{ns}/configmaps/a")).await.code, 200, "nothing was deleted");
}

#[tokio::test]
async fn keys_are_published_with_a_time_to_keep_them() {
    let admin = cluster();
    let answer = admin.get("/openid/v1/jwks").await;
    assert_eq!(answer.body, json!({"keys": []}));
    assert_eq!(answer.headers["content-type"], "application/jwk-set+json");
    assert_eq!(answer.headers["cache-control"], "public, max-age=3600");
    assert_eq!(admin.send("POST", "/openid/v1/jwks", json!({})).await.code, 405);
    let nobody = cluster_of(named("bob"), &[]);
    assert_eq!(nobody.get("/openid/v1/jwks").await.code, 403);
}

/// Every answer to somebody outside names the request, as the client does or anew.
#[tokio::test]
async fn requests_have_an_audit_id() {
    let listening = super::wire::Listening::start().await;
    let mut seen = Vec::new();
    for id in ["", "audit-id: mine\r\n", ""] {
        let mut stream = listening.plain().await;
        let request = format!("GET /version HTTP/1.1\r\nhost: a\r\n{id}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let answer = super::wire::rest(&mut stream).await;
        let line = answer.lines().find_map(|line| line.strip_prefix("audit-id: "));
        seen.push(line.expect("a header").to_owned());
    }
    assert_eq!((seen[0].len(), seen[1].as_str(), seen[2].len()), (36, "mine", 36));
    listening.end().await;
}

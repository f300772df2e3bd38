use api_registry::{Authenticator, Credentials};

use super::*;
use crate::{
    state::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS},
    testing::{ISSUER, World, admin, node_user, user},
};

fn object(name: &str, uid: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": uid } })
}

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    world.add(SERVICE_ACCOUNTS, object("web", "sa-1"));
    let mut pod = object("web-0", "pod-1");
    pod["spec"] = json!({ "serviceAccountName": "web", "nodeName": "pi" });
    world.add(PODS, pod);
    world.add(NODES, json!({ "metadata": { "name": "pi", "uid": "node-1" } }));
    world.add_unseen(SECRETS, object("s", "secret-1"));
    world
}

async fn token(world: &World, spec: Value) -> Result<Value, Status> {
    let mut request = json!({ "spec": spec });
    world.access.issue_token("default", "web", &mut request, false).await?;
    Ok(request)
}

async fn login(world: &World, token: &str) -> Result<Arc<UserInfo>, Status> {
    let credentials = Credentials { bearer: Some(token), certificate: None };
    Ok(world.access.authenticate(credentials).await?.expect("credentials"))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    tree::text(value, path)
}

#[tokio::test]
async fn a_bound_token_logs_its_account_in() {
    let world = world();
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "pod-1" });
    let made = token(&world, json!({ "boundObjectRef": bound, "expirationSeconds": 600 }))
        .await
        .expect("valid");
    assert_eq!(text(&made, "status.expirationTimestamp"), "2027-01-15T08:10:00Z");
    assert_eq!(tree::get(&made, "spec.audiences"), &json!([ISSUER]));
    for _ in 0..2 {
        // The second time from the cache.
        let who = login(&world, text(&made, "status.token")).await.expect("valid");
        assert_eq!(who.name, "system:serviceaccount:default:web");
        assert_eq!(who.uid, "sa-1");
        assert_eq!(
            who.groups,
            ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
        );
        assert_eq!(who.extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
        assert_eq!(who.extra["authentication.kubernetes.io/node-uid"], ["node-1"]);
        assert!(who.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
    }
}

#[tokio::test]
async fn what_a_token_is_bound_to_must_exist() {
    for (kind, resource, namespace, name) in [
        ("Pod", PODS, "default", "web-0"),
        ("Secret", SECRETS, "default", "s"),
        ("Node", NODES, "", "pi"),
        ("Pod", SERVICE_ACCOUNTS, "default", "web"),
    ] {
        let world = world();
        let bound = match kind {
            "Pod" => "web-0",
            "Secret" => "s",
            _ => "pi",
        };
        let bound = json!({ "kind": kind, "apiVersion": "v1", "name": bound });
        let made = token(&world, json!({ "boundObjectRef": bound })).await.expect("valid");
        let token = text(&made, "status.token");
        login(&world, token).await.expect("all exist");
        // Gone from the cluster, and its name taken by another object.
        world.delete_unseen(resource, namespace, name);
        let mut other = object(name, "another");
        other["metadata"]["namespace"] = namespace.into();
        other["spec"] = json!({ "serviceAccountName": "web", "nodeName": "pi" });
        match resource {
            SECRETS => world.add_unseen(resource, other),
            _ => world.add(resource, other),
        }
        let status = login(&world, token).await.expect_err(kind);
        assert_eq!((status.code, status.message.as_str()), (401, "Unauthorized"), "{resource:?}");
    }
}

#[tokio::test]
async fn a_pod_that_is_not_seen_yet_is_asked_for() {
    let world = world();
    let mut pod = object("late", "late-1");
    pod["spec"] = json!({ "serviceAccountName": "web" });
    world.add_unseen(PODS, pod);
    let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": "late" });
    let made = token(&world, json!({ "boundObjectRef": bound })).await.expect("valid");
    login(&world, text(&made, "status.token")).await.expect("asked");
}

#[tokio::test]
async fn bad_requests_for_tokens() {
    let world = world();
    let pod = |name: &str, uid: &str| json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid } });
    let mut other = object("other", "o");
    other["spec"] = json!({ "serviceAccountName": "else" });
    world.add(PODS, other);
    for (spec, code, words) in [
        (
            json!({ "expirationSeconds": 599 }),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (json!({ "expirationSeconds": 1i64 << 33 }), 422, "larger than 2^32 seconds"),
        (pod("none", ""), 404, "pods \"none\" not found"),
        (
            pod("web-0", "x"),
            409,
            "Operation cannot be fulfilled on Pod \"web-0\": the UID in the bound object reference (x) does not match the UID in record.",
        ),
        (
            pod("other", ""),
            400,
            "cannot bind token for serviceaccount \"web\" to pod running with different serviceaccount name.",
        ),
        (
            json!({ "boundObjectRef": { "kind": "Job", "apiVersion": "batch/v1", "name": "x" } }),
            400,
            "cannot bind token to object of type batch/v1, Kind=Job",
        ),
    ] {
        let status = token(&world, spec).await.expect_err(words);
        assert!(status.code == code && status.message.contains(words), "{status:?}");
    }
}

#[tokio::test]
async fn tokens_of_another_audience_or_nobody() {
    let world = world();
    let made = token(&world, json!({ "audiences": ["vault"] })).await.expect("valid");
    let vault = text(&made, "status.token");
    assert_eq!(login(&world, vault).await.expect_err("another audience").code, 401);
    let review = json!({ "spec": { "token": vault, "audiences": ["vault", "more"] } });
    let status = world.access.review_token(&review).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["vault"]));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:web");
    for junk in ["x", "a.b.c", &vault[..vault.len() - 2]] {
        assert_eq!(login(&world, junk).await.expect_err("junk").code, 401);
    }
    let status = world.access.review_token(&json!({ "spec": { "token": "x" } })).await;
    assert!(status["authenticated"].is_null() && status["error"].is_string());
    let nobody =
        world.access.authenticate(Credentials::default()).await.expect("anonymous is no error");
    assert_eq!(nobody, None);
}

#[test]
fn access_reviews() {
    let world = world();
    let state = world.access.state();
    let ask = |verb: &str, resource: &str| json!({ "spec": { "user": "x", "resourceAttributes": { "verb": verb, "resource": resource, "namespace": "default" } } });
    let may = |who: Arc<UserInfo>, review: &Value| {
        access_review::may(&state, who, review)["allowed"] == true
    };
    assert!(may(admin(), &ask("delete", "pods")));
    assert!(!may(user("eve", &[]), &ask("delete", "pods")));
    let path =
        json!({ "spec": { "nonResourceAttributes": { "verb": "get", "path": "/version" } } });
    assert!(may(user("eve", &["system:authenticated"]), &path));
    let mut own = ask("list", "pods");
    own["spec"]["resourceAttributes"]["namespace"] = "".into();
    assert!(!may(node_user("pi"), &own));
    own["spec"]["resourceAttributes"]["fieldSelector"] =
        json!({ "requirements": [{ "key": "spec.nodeName", "operator": "In", "values": ["pi"] }] });
    assert!(may(node_user("pi"), &own));

    let status = access_review::rules(&state, &admin(), "default");
    assert!(
        status["resourceRules"]
            .as_array()
            .expect("a list")
            .contains(&json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }))
    );
    assert_eq!(status["incomplete"], false);
    assert_eq!(access_review::rules(&state, &node_user("pi"), "default")["incomplete"], true);
}

#[tokio::test]
async fn certificates_are_users_until_they_expire() {
    let world = world();
    let dir = tempfile::tempdir().expect("directory");
    let names = pki::Names {
        node_name: "pi".into(),
        cluster_domain: "cluster.local".into(),
        ..pki::Names::default()
    };
    let login = async |made: jiff::Timestamp, name| {
        let keys = dir.path().join(made.to_string());
        let (keys, _) = pki::Pki::open(&keys, &names, made).expect("keys");
        let certificate = keys.leaf(name).current().certified.cert[0].to_vec();
        let credentials = Credentials { bearer: None, certificate: Some(&certificate) };
        for _ in 0..2 {
            world.access.authenticate(credentials.clone()).await?;
        }
        world.access.authenticate(credentials).await
    };
    let now = crate::testing::now();
    let admin = login(now, pki::CertificateName::Admin).await.expect("valid").expect("somebody");
    assert_eq!(admin.name, "system:admin");
    assert_eq!(admin.groups, ["system:masters", "system:authenticated"]);
    assert!(
        admin.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256=")
    );
    let node = login(now, pki::CertificateName::Node).await.expect("valid").expect("somebody");
    assert_eq!(
        (node.name.as_str(), &node.groups[..1]),
        ("system:node:pi", &["system:nodes".to_owned()][..])
    );
    let old = now - std::time::Duration::from_secs(366 * 24 * 60 * 60);
    assert_eq!(login(old, pki::CertificateName::Admin).await.expect_err("expired").code, 401);
    let junk = Credentials { bearer: None, certificate: Some(b"junk") };
    assert_eq!(world.access.authenticate(junk).await.expect_err("junk").code, 401);
}

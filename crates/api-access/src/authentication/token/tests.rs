use api_registry::{Authenticator, Credentials};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::service_account::{KeySet, KubernetesClaims};
use serde_json::json;

use super::*;
use crate::testing::{ISSUER, World, now};

fn object(name: &str, uid: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": uid } })
}

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    world.add(SERVICE_ACCOUNTS, object("web", "sa-1"));
    let mut pod = object("web-0", "pod-1");
    pod["spec"] = json!({ "serviceAccountName": "web", "nodeName": "pi" });
    world.add(PODS, pod);
    world
}

fn claims() -> Claims {
    let reference = |name: &str, uid: &str| ObjectRef { name: name.into(), uid: uid.into() };
    let kubernetes = KubernetesClaims {
        namespace: "default".into(),
        serviceaccount: reference("web", "sa-1"),
        pod: Some(reference("web-0", "pod-1")),
        ..KubernetesClaims::default()
    };
    Claims::new(ISSUER, vec![ISSUER.into()], now(), 600, "id".into(), kubernetes)
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn login(world: &World, token: &str) -> Result<String, String> {
    let audience = [ISSUER.to_owned()];
    let why = world.access.token_user(token, &audience).await.map(|(user, _)| user.name);
    let credentials = Credentials { bearer: Some(token), certificate: None };
    let authenticated = world.access.authenticate(credentials).await;
    match &why {
        Ok(_) => assert!(authenticated.is_ok()),
        // Why is not the caller's to know.
        Err(_) => {
            let status = authenticated.expect_err("both or none");
            assert_eq!((status.code, status.message.as_str()), (401, "Unauthorized"));
        }
    }
    why
}

#[tokio::test]
async fn forged_stale_and_broken_tokens() {
    let world = world();
    let keys = &world.access.settings.keys;
    let sign = |claims: &Claims| keys.sign(claims).expect("random");
    let good = sign(&claims());
    assert_eq!(login(&world, &good).await.as_deref(), Ok("system:serviceaccount:default:web"));
    let parts: Vec<&str> = good.split('.').collect();
    let thief = KeySet::from_pem(
        "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
",
    )
    .expect("another key");
    let change = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        claims
    };
    let none = |alg: &str, signature: &str| {
        format!("{}.{}.{signature}", encode(&json!({ "alg": alg })), parts[1])
    };
    for (what, token, why) in [
        ("expired", sign(&change(|c| c.exp = c.iat)), "service account token has expired"),
        ("not begun", sign(&change(|c| c.nbf += 3600)), "service account token is not valid yet"),
        ("another audience", sign(&change(|c| c.aud = vec!["vault".into()])), "audiences"),
        ("no audience", sign(&change(|c| c.aud.clear())), "audiences"),
        ("another issuer", sign(&change(|c| c.iss = "https://evil".into())), "of another issuer"),
        (
            "another subject",
            sign(&change(|c| c.sub = "system:serviceaccount:kube-system:root".into())),
            "subject and service account differ",
        ),
        (
            "an older account of the name",
            sign(&change(|c| c.kubernetes.serviceaccount.uid = "sa-0".into())),
            "serviceaccount UID (sa-1) does not match service account serviceaccount ref claim (sa-0)",
        ),
        (
            "a deleted pod",
            sign(&change(|c| {
                c.kubernetes.pod = Some(ObjectRef { name: "gone".into(), uid: "g".into() })
            })),
            "service account token has been invalidated",
        ),
        (
            "a deleted account",
            sign(&change(|c| {
                c.kubernetes.serviceaccount.name = "gone".into();
                c.sub = "system:serviceaccount:default:gone".into();
            })),
            "serviceaccounts \"gone\" not found",
        ),
        ("another key", thief.sign(&claims()).expect("random"), "invalid signature"),
        ("no algorithm", none("none", ""), "not signed with ES256"),
        ("no algorithm, a signature", none("none", parts[2]), "not signed with ES256"),
        ("no algorithm in capitals", none("NONE", ""), "not signed with ES256"),
        ("the public key as a secret", none("HS256", parts[2]), "not signed with ES256"),
        ("truncated", good[..good.len() - 2].to_owned(), "invalid signature"),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "invalid signature"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "not three parts"),
        ("four parts", format!("{good}.x"), "not base64url"),
        (
            "other claims",
            format!("{}.{}.{}", parts[0], encode(&json!({ "iss": ISSUER, "sub": "x" })), parts[2]),
            "invalid signature",
        ),
        ("huge", "a.".repeat(40_000), "too long"),
    ] {
        let found = login(&world, &token).await.expect_err(what);
        assert!(found.contains(why), "{what}: {found}");
    }
    // It was in the cache all the time: its end is seen there too.
    let mut pod = object("web-0", "pod-1");
    pod["spec"] = json!({ "serviceAccountName": "web", "nodeName": "pi" });
    pod["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    world.add(PODS, pod);
    assert_eq!(
        login(&world, &good).await.expect_err("deleted"),
        "service account token has been invalidated"
    );
}

#[tokio::test]
async fn tokens_in_secrets() {
    let world = world();
    let sign = |claims: &LegacyClaims| world.access.settings.keys.sign(claims).expect("random");
    let token = sign(&LegacyClaims::new("default", "web-token", "web", "sa-1"));
    let secret = |token: &str, labels: Value| {
        let mut secret = object("web-token", "s");
        secret["metadata"]["labels"] = labels;
        secret["data"] = json!({ "token": STANDARD.encode(token) });
        world.add_unseen(SECRETS, secret);
    };
    assert_eq!(
        login(&world, &token).await.expect_err("no secret"),
        "service account token has been invalidated"
    );
    secret(&token, json!({}));
    for _ in 0..2 {
        assert_eq!(login(&world, &token).await.as_deref(), Ok("system:serviceaccount:default:web"));
    }
    let vault = world.access.token_user(&token, &["vault".to_owned()]).await;
    assert!(vault.expect_err("for the API server only").contains("audiences"));
    secret(&token, json!({ INVALID_SINCE: "2026-01-01" }));
    assert!(login(&world, &token).await.expect_err("marked").contains("marked as invalid"));
    secret("another", json!({}));
    assert_eq!(
        login(&world, &token).await.expect_err("replaced"),
        "service account token does not match server's copy"
    );
    let root = sign(&LegacyClaims::new("default", "", "web", "sa-1"));
    assert_eq!(login(&world, &root).await.expect_err("no secret"), "the token names no secret");
    let older = sign(&LegacyClaims::new("default", "web-token", "web", "sa-0"));
    assert!(login(&world, &older).await.expect_err("older").contains("UID (sa-1)"));
}

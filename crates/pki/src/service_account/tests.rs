use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn keys() -> KeySet {
    let pem = rcgen::KeyPair::generate().expect("random").serialize_pem();
    KeySet::from_pem(&pem).expect("our own form")
}

fn claims() -> Claims {
    let object = |name: &str| ObjectRef { name: name.into(), uid: format!("uid-of-{name}") };
    let kubernetes = KubernetesClaims {
        namespace: "default".into(),
        serviceaccount: object("builder"),
        pod: Some(object("builder-0")),
        node: Some(object("pi")),
        secret: None,
        warnafter: Some(3_607),
    };
    Claims::new(ISSUER, vec![ISSUER.into()], at(1_000), 3_600, "id".into(), kubernetes)
}

fn refused(result: Result<(Claims, Vec<String>), VerifyError>) -> String {
    match result {
        Err(VerifyError::Refused(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_token_reads_back() {
    let keys = keys();
    let token = keys.sign(&claims()).expect("random");
    let (read, audiences) =
        keys.verify(&token, ISSUER, &["other".into(), ISSUER.into()], at(1_001)).expect("valid");
    assert_eq!(read, claims());
    assert_eq!(audiences, [ISSUER]);
    assert_eq!(read.sub, "system:serviceaccount:default:builder");
}

#[test]
fn the_payload_is_upstreams() {
    let token = keys().sign(&claims()).expect("random");
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    assert_eq!(
        String::from_utf8(payload).expect("JSON"),
        r#"{"aud":["https://kubernetes.default.svc.cluster.local"],"exp":4600,"iat":1000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"id","kubernetes.io":{"namespace":"default","node":{"name":"pi","uid":"uid-of-pi"},"pod":{"name":"builder-0","uid":"uid-of-builder-0"},"serviceaccount":{"name":"builder","uid":"uid-of-builder"},"warnafter":3607},"nbf":1000,"sub":"system:serviceaccount:default:builder"}"#
    );
}

#[test]
fn what_must_be_refused() {
    let keys = keys();
    let ours: &[String] = &[ISSUER.into()];
    let token = keys.sign(&claims()).expect("random");
    let verify = |token: &str, audiences: &[String], second| {
        keys.verify(token, ISSUER, audiences, at(second))
    };
    assert_eq!(refused(verify(&token, ours, 4_600)), "service account token has expired");
    assert_eq!(refused(verify(&token, ours, 900)), "service account token is not valid yet");
    assert!(verify(&token, ours, 950).is_ok(), "within the leeway");
    assert!(
        refused(verify(&token, &["vault".into()], 1_001)).contains("is invalid for the target")
    );
    assert_eq!(
        keys.verify(&token, "https://elsewhere", ours, at(1_001)),
        Err(VerifyError::Foreign("of another issuer"))
    );

    // Signed by somebody else, with and without naming our key.
    let other = super::tests::keys();
    let forged = other.sign(&claims()).expect("random");
    assert_eq!(refused(verify(&forged, ours, 1_001)), "invalid signature");

    // Another payload under a signature that was valid.
    let parts: Vec<&str> = token.split('.').collect();
    let root = Claims { sub: "system:serviceaccount:kube-system:root".into(), ..claims() };
    let root = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&root).expect("plain data"));
    let swapped = format!("{}.{root}.{}", parts[0], parts[2]);
    assert_eq!(refused(verify(&swapped, ours, 1_001)), "invalid signature");

    // The classic: no algorithm, no signature.
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let unsigned = format!("{none}.{}.", parts[1]);
    assert_eq!(verify(&unsigned, ours, 1_001), Err(VerifyError::Foreign("not signed with ES256")));

    // Signed by us, subject and account differ.
    let odd = Claims { sub: "system:admin".into(), ..claims() };
    let odd = keys.sign(&odd).expect("random");
    assert_eq!(refused(verify(&odd, ours, 1_001)), "subject and service account differ");
}

#[test]
fn the_old_key_verifies_after_a_rotation() {
    let (old, new) =
        [(); 2].map(|()| rcgen::KeyPair::generate().expect("random").serialize_pem()).into();
    let token = KeySet::from_pem(&old).expect("PEM").sign(&claims()).expect("random");
    let both = KeySet::from_pem(&format!("{new}{old}")).expect("PEM");
    assert!(both.verify(&token, ISSUER, &[ISSUER.into()], at(1_001)).is_ok());
    let only_new = KeySet::from_pem(&new).expect("PEM");
    assert!(only_new.verify(&token, ISSUER, &[ISSUER.into()], at(1_001)).is_err());
    assert_eq!(both.jwks()["keys"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_documents_name_each_other() {
    let keys = keys();
    let document = discovery_document(&issuer("cluster.local"), "https://10.0.0.1:6443");
    assert_eq!(document["issuer"], ISSUER);
    assert_eq!(document["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
    let jwks = keys.jwks();
    let key = &jwks["keys"][0];
    for field in ["x", "y"] {
        let bytes = URL_SAFE_NO_PAD.decode(key[field].as_str().expect("text")).expect("base64url");
        assert_eq!(bytes.len(), 32);
    }
    let token = keys.sign(&claims()).expect("random");
    let header =
        URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a part")).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    assert_eq!(header["kid"], key["kid"]);
}

proptest::proptest! {
    #[test]
    fn junk_is_refused(text in "\\PC*") {
        let keys = shared();
        proptest::prop_assert!(keys.verify(&text, ISSUER, &[ISSUER.into()], at(1)).is_err());
    }

    #[test]
    fn a_token_with_any_character_changed_is_refused(index: proptest::sample::Index, to in "[A-Za-z0-9_.-]") {
        let keys = shared();
        let token = keys.sign(&claims()).expect("random");
        let mut changed = token.clone();
        let at_index = index.index(token.len());
        changed.replace_range(at_index..=at_index, &to);
        // The last character carries unused bits only if the decoder accepts
        // them, and ours does not.
        let accepted = keys.verify(&changed, ISSUER, &[ISSUER.into()], at(1_001)).is_ok();
        proptest::prop_assert_eq!(accepted, changed == token);
    }
}

fn shared() -> &'static KeySet {
    static KEYS: std::sync::OnceLock<KeySet> = std::sync::OnceLock::new();
    KEYS.get_or_init(keys)
}

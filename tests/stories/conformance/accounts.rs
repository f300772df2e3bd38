//! Who pods are, what they show for it, and what anybody may ask about rights.

use serde_json::{Value, json};

use super::{Place, registries::holds, wire::curl};
use crate::cluster::run;

fn accounts(place: &Place) -> String {
    place.path("api/v1", "serviceaccounts")
}

fn account(place: &Place, name: &str, more: &Value) -> Value {
    let mut object = more.clone();
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("ServiceAccount");
    object["metadata"] = json!({"name": name, "labels": {"suite": place.namespace}});
    place.post(&accounts(place), &object)
}

/// A pod of the toolbox that goes on.
pub(super) fn pod(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]}]});
    for (field, value) in spec.as_object().expect("fields") {
        match field.as_str() {
            "mounts" => whole["containers"][0]["volumeMounts"] = value.clone(),
            field => whole[field] = value.clone(),
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole})
}

pub(super) fn runs(place: &Place, pod: &Value) {
    place.post(&place.path("api/v1", "pods"), pod);
    let name = pod["metadata"]["name"].as_str().expect("a name");
    place.wait("condition=Ready", &format!("pod/{name}"));
}

/// What a file of a pod holds.
pub(super) fn file(place: &Place, pod: &str, path: &str) -> String {
    place.kubectl(&format!("exec {pod} -- toolbox cat {path}")).ok().stdout
}

/// Who the server says that a token's holder is.
fn reviewed(place: &Place, token: &str, audiences: &Value) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    place.post("/apis/authentication.k8s.io/v1/tokenreviews", &review)["status"].clone()
}

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn mounted(place: &Place) {
    account(place, "mount-test", &json!({}));
    runs(place, &pod("mounted", &json!({"serviceAccountName": "mount-test"})));
    let status =
        reviewed(place, file(place, "mounted", &format!("{TOKEN}/token")).trim(), &json!([]));
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(
        status["user"]["username"],
        format!("system:serviceaccount:{}:mount-test", place.namespace)
    );
    for group in
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", place.namespace)]
    {
        let groups = status["user"]["groups"].as_array().expect("groups");
        assert!(groups.contains(&json!(group)), "{status}");
    }
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["mounted"])
    );
    let ca =
        place.read(&place.path("api/v1", "configmaps/kube-root-ca.crt"))["data"]["ca.crt"].clone();
    assert_eq!(json!(file(place, "mounted", &format!("{TOKEN}/ca.crt"))), ca);
    assert_eq!(file(place, "mounted", &format!("{TOKEN}/namespace")), place.namespace);
}

pub(super) fn not_mounted(place: &Place) {
    account(place, "mount", &json!({}));
    account(place, "nomount", &json!({"automountServiceAccountToken": false}));
    for (account, of_pod, mounted) in [
        ("mount", Value::Null, true),
        ("mount", json!(true), true),
        ("mount", json!(false), false),
        ("nomount", Value::Null, false),
        ("nomount", json!(true), true),
        ("nomount", json!(false), false),
    ] {
        let mut spec = json!({"serviceAccountName": account, "nodeSelector": {"nowhere": "yes"}});
        if !of_pod.is_null() {
            spec["automountServiceAccountToken"] = of_pod.clone();
        }
        let path = place.path("api/v1", "pods");
        let made = place.post(&path, &pod("asked", &spec));
        let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned();
        let has = mounts.unwrap_or_default().iter().any(|mount| mount["mountPath"] == TOKEN);
        assert_eq!(has, mounted, "{account} {of_pod}");
        place.send("DELETE", &format!("{path}/asked"), &json!({"gracePeriodSeconds": 0})).ok();
    }
}

pub(super) fn projected(place: &Place) {
    let volume = json!([{"name": "token", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 43200}}]}}]);
    let mounts = json!([{"name": "token", "mountPath": "/tokens"}]);
    runs(place, &pod("projected", &json!({"volumes": volume, "mounts": mounts})));
    let token = file(place, "projected", "/tokens/token");
    let status = reviewed(place, token.trim(), &json!(["vault"]));
    assert_eq!(
        (&status["authenticated"], &status["audiences"]),
        (&json!(true), &json!(["vault"])),
        "{status}"
    );
    assert_eq!(
        status["user"]["username"],
        format!("system:serviceaccount:{}:default", place.namespace)
    );
    // Nobody else takes it.
    assert_ne!(reviewed(place, token.trim(), &json!([]))["authenticated"], true);
}

pub(super) fn created_and_reviewed(place: &Place) {
    account(place, "reviewed", &json!({}));
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = place.post(&format!("{}/reviewed/token", accounts(place)), &request);
    assert!(made["status"]["expirationTimestamp"].is_string(), "{made}");
    let token = made["status"]["token"].as_str().expect("a token");
    let status = reviewed(place, token, &json!([]));
    assert_eq!(
        (&status["authenticated"], &status["error"]),
        (&json!(true), &Value::Null),
        "{status}"
    );
}

pub(super) fn discovered(place: &Place) {
    // Who has a token of the cluster may read where its keys are, and the keys.
    account(place, "discoverer", &json!({}));
    let token = place.kubectl("create token discoverer").ok().stdout;
    let read = |path: &str| -> Value {
        let mut command = curl(place.cluster, path);
        command.args(["--cert", "", "--key", ""]);
        command.args(["-H", &format!("Authorization: Bearer {}", token.trim())]);
        let told = run(&mut command, None).ok().stdout;
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{path}: {error}: {told}"))
    };
    let configuration = read("/.well-known/openid-configuration");
    let issuer = configuration["issuer"].as_str().expect("an issuer");
    assert_eq!(configuration["response_types_supported"], json!(["id_token"]));
    assert_eq!(configuration["subject_types_supported"], json!(["public"]));
    let keys = configuration["jwks_uri"].as_str().expect("where the keys are");
    assert!(keys.ends_with("/openid/v1/jwks"), "{keys}");
    let keys = read("/openid/v1/jwks");
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |number: usize| -> Value {
        let text = token.trim().split('.').nth(number).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
    };
    assert_eq!(part(1)["iss"], issuer);
    let keys = keys["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"] == part(0)["kid"]).expect("the key that signed");
    assert_eq!(key["alg"], part(0)["alg"]);
}

pub(super) fn root_certificates(place: &Place) {
    let path = place.path("api/v1", "configmaps/kube-root-ca.crt");
    place.until("the map is there", || place.send_with("GET", &path, &[], "").code == 200);
    let ca = place.read(&path)["data"]["ca.crt"].clone();
    assert!(ca.as_str().is_some_and(|ca| ca.contains("BEGIN CERTIFICATE")));
    let uid = place.read(&path)["metadata"]["uid"].clone();
    place.remove(&path);
    place.until("it comes again", || {
        let answer = place.send_with("GET", &path, &[], "");
        answer.code == 200 && answer.json()["metadata"]["uid"] != uid
    });
    assert_eq!(place.read(&path)["data"]["ca.crt"], ca);
    place.send("PATCH", &path, &json!({"data": {"ca.crt": ""}})).ok();
    place.until("it is put right", || place.read(&path)["data"]["ca.crt"] == ca);
}

pub(super) fn lifecycle(place: &Place) {
    let selected = format!("{}?labelSelector=suite={}", accounts(place), place.namespace);
    let mut watch = place.watch(&selected);
    account(place, "living", &json!({}));
    watch.sees("ADDED", "living");
    let one = format!("{}/living", accounts(place));
    let patch = json!({"automountServiceAccountToken": false}).to_string();
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    place.send_with("PATCH", &one, &strategic, &patch).ok();
    assert_eq!(watch.sees("MODIFIED", "living")["automountServiceAccountToken"], false);
    let everywhere = format!("/api/v1/serviceaccounts?labelSelector=suite={}", place.namespace);
    let list = place.read(&everywhere);
    assert_eq!(list["items"][0]["metadata"]["name"], "living");
    place.remove(&selected);
    watch.sees("DELETED", "living");
    assert_eq!(place.read(&everywhere)["items"], json!([]));
}

pub(super) fn updated(place: &Place) {
    account(place, "updated", &json!({"automountServiceAccountToken": false}));
    let one = format!("{}/updated", accounts(place));
    let mut object = place.read(&one);
    assert_eq!(object["automountServiceAccountToken"], false);
    object["automountServiceAccountToken"] = json!(true);
    place.send("PUT", &one, &object).ok();
    assert_eq!(place.read(&one)["automountServiceAccountToken"], true);
}

pub(super) fn reviews(place: &Place) {
    account(place, "asked", &json!({}));
    let user = format!("system:serviceaccount:{}:asked", place.namespace);
    let attributes = json!({"verb": "list", "version": "v1", "resource": "configmaps", "namespace": place.namespace});
    let spec = json!({"user": user, "resourceAttributes": attributes});
    let subject = |kind: &str| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind,
            "metadata": {"namespace": if kind.starts_with("Local") { json!(place.namespace) } else { Value::Null }},
            "spec": spec})
    };
    let whole = || {
        let mut object = subject("SubjectAccessReview");
        object.as_object_mut().expect("an object").remove("metadata");
        let answer = place.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &object);
        assert_eq!(answer["kind"], "SubjectAccessReview");
        answer["status"]["allowed"].clone()
    };
    let local = || {
        let path = place.path("apis/authorization.k8s.io/v1", "localsubjectaccessreviews");
        let answer = place.post(&path, &subject("LocalSubjectAccessReview"));
        assert_eq!(answer["kind"], "LocalSubjectAccessReview");
        answer["status"]["allowed"].clone()
    };
    assert_eq!((whole(), local()), (json!(false), json!(false)));
    place.kubectl("create role lister --verb=list --resource=configmaps").ok();
    place
        .kubectl(&format!(
            "create rolebinding lister --role=lister --serviceaccount={}:asked",
            place.namespace
        ))
        .ok();
    place.until("the binding is known", || whole() == json!(true));
    assert_eq!(local(), json!(true));
    // Kept as it was asked.
    let mut object = subject("SubjectAccessReview");
    object.as_object_mut().expect("an object").remove("metadata");
    let answer = place.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &object);
    assert!(holds(&answer["spec"], &spec), "{answer}");
}

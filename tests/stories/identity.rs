//! Who is calling and what they may, as people ask kubectl: accounts and their
//! tokens, roles, acting as somebody else.

use serde_json::Value;

use crate::cluster::{Cluster, Run};

const TEAM: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: team}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: author, namespace: team}
rules:
- {apiGroups: [""], resources: [pods, configmaps], verbs: [get, list, create]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: author, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: author}
subjects:
- {kind: User, name: ann, apiGroup: rbac.authorization.k8s.io}
- {kind: ServiceAccount, name: deployer}
"#;

const FOREVER: &str = r#"
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: forever
  namespace: team
  annotations: {kubernetes.io/service-account.name: deployer}
"#;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: team}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}
"#;

fn team() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.apply(TEAM).ok();
    Some(cluster)
}

/// kubectl with a token instead of the operator's certificate.
fn with_token(cluster: &Cluster, token: &str, line: &str) -> Run {
    let server = cluster.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let server = server.ok().stdout;
    cluster.kubectl(&format!(
        "--kubeconfig=/dev/null --insecure-skip-tls-verify --server={server} --token={token} {line}"
    ))
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}

#[test]
fn who_am_i_and_what_may_i() {
    let Some(cluster) = team() else { return };
    cluster.kubectl("auth whoami").prints("system:masters");
    let ann = cluster.kubectl("auth whoami --as=ann --as-group=devs --as-uid=7 -o json").ok();
    let ann: Value = serde_json::from_str(&ann.stdout).expect("JSON");
    let info = &ann["status"]["userInfo"];
    assert_eq!((&info["username"], &info["uid"]), (&"ann".into(), &"7".into()));
    assert_eq!(info["groups"], serde_json::json!(["devs", "system:authenticated"]));
    cluster.kubectl("auth can-i create pods -n team --as=ann").prints("yes");
    cluster.kubectl("auth can-i create pods --as=ann").fails_with("no");
    cluster.kubectl("auth can-i get pods --subresource=log -n team --as=ann").fails_with("no");
    cluster.kubectl("auth can-i get /version --as=ann").prints("yes");
    cluster.kubectl("auth can-i get /metrics --as=ann").fails_with("no");
    cluster
        .kubectl("auth can-i list pods -n team --as=system:serviceaccount:team:deployer")
        .prints("yes");
    let list = cluster.kubectl("auth can-i --list -n team --as=ann").ok().stdout;
    for (resource, verbs) in [
        ("configmaps", "[get list create]"),
        ("roles.rbac.authorization.k8s.io", "[create]"),
        ("selfsubjectreviews.authentication.k8s.io", "[create]"),
        ("[/version]", "[get]"),
    ] {
        let line = list.lines().find(|line| line.contains(resource)).unwrap_or_default();
        assert!(line.contains(verbs), "{resource}: {line:?}\n{list}");
    }
    cluster
        .kubectl("get pods -n team --as=eve")
        .fails_with("pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"team\"");
    cluster.kubectl("get secrets -A --as=system:anonymous").fails_with("User \"system:anonymous\"");
}

#[test]
fn nobody_grants_more_than_they_hold() {
    let Some(cluster) = team() else { return };
    cluster.kubectl("create role reader -n team --verb=get --resource=pods --as=ann").ok();
    cluster
        .kubectl("create role thief -n team --verb=get --resource=secrets --as=ann")
        .fails_with("is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}");
    cluster
        .kubectl("create rolebinding own -n team --clusterrole=cluster-admin --user=ann --as=ann")
        .fails_with("is attempting to grant RBAC permissions not currently held");
    cluster.kubectl("create rolebinding pass -n team --role=reader --user=bob --as=ann").ok();
    cluster.kubectl("auth can-i get pods -n team --as=bob").prints("yes");
    // Acting as somebody else is a right too.
    let token = cluster.kubectl("create token deployer -n team").ok().stdout;
    with_token(&cluster, &token, "get pods -n team --as=system:admin --as-group=system:masters")
        .fails_with("cannot impersonate-on:user-info:list");
    with_token(&cluster, &token, "get pods -n team --as=system:serviceaccount:kube-system:default")
        .fails_with("cannot impersonate-on:serviceaccount:list");
}

#[test]
fn a_restart_mends_the_policy_but_not_what_is_marked() {
    let Some(mut cluster) = team() else { return };
    cluster.kubectl("delete clusterrole system:kube-dns system:heapster").ok();
    cluster
        .kubectl("annotate clusterrole view rbac.authorization.kubernetes.io/autoupdate=false --overwrite")
        .ok();
    cluster.kubectl("label clusterrole view rbac.authorization.k8s.io/aggregate-to-edit-").ok();
    cluster.stop_server();
    cluster.start_server();
    cluster.kubectl("get clusterrole system:kube-dns system:heapster").ok();
    let labels = cluster.get("clusterrole view")["metadata"]["labels"].clone();
    assert_eq!(labels, serde_json::json!({"kubernetes.io/bootstrapping": "rbac-defaults"}));
    // Its rules are put together a moment later.
    cluster
        .comes_to_print("get clusterrole admin -o jsonpath={.rules[*].resources}", "deployments");
}

#[test]
fn tokens_of_accounts() {
    let Some(cluster) = team() else { return };
    let token = |flags: &str| {
        let run = cluster.kubectl(&format!("create token deployer -n team {flags}")).ok();
        run.stdout.trim().to_owned()
    };
    let plain = token("");
    let said = claims(&plain);
    assert_eq!(said["sub"], "system:serviceaccount:team:deployer");
    assert_eq!(said["iss"], said["aud"][0]);
    assert_eq!(said["exp"].as_i64(), said["iat"].as_i64().map(|at| at + 3600));
    assert_eq!(said["kubernetes.io"]["serviceaccount"]["name"], "deployer");
    with_token(&cluster, &plain, "auth whoami").prints("system:serviceaccount:team:deployer");
    with_token(&cluster, &plain, "get pods -n team").ok();
    with_token(&cluster, &plain, "get pods").fails_with("cannot list resource \"pods\"");

    let long = token("--duration=2h");
    assert_eq!(claims(&long)["exp"].as_i64(), claims(&long)["iat"].as_i64().map(|at| at + 7200));
    cluster
        .kubectl("create token deployer -n team --duration=1m")
        .fails_with("may not specify a duration less than 10 minutes");
    cluster
        .kubectl("create token nobody -n team")
        .fails_with("serviceaccounts \"nobody\" not found");

    let vault = token("--audience=vault");
    with_token(&cluster, &vault, "get pods -n team").fails_with("Unauthorized");
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{vault}","audiences":["vault"]}}}}"#
    );
    let review = cluster.kubectl_with_input("create -o json -f -", &review).ok();
    let review: Value = serde_json::from_str(&review.stdout).expect("JSON");
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    assert_eq!(review["status"]["audiences"], serde_json::json!(["vault"]));

    // A token ends with what it is bound to.
    cluster.kubectl("create secret generic seal -n team").ok();
    let sealed = token("--bound-object-kind=Secret --bound-object-name=seal");
    with_token(&cluster, &sealed, "auth whoami").ok();
    cluster.kubectl("delete secret seal -n team").ok();
    with_token(&cluster, &sealed, "auth whoami").fails_with("Unauthorized");
    cluster
        .kubectl(
            "create token deployer -n team --bound-object-kind=Secret --bound-object-name=seal",
        )
        .fails_with("secrets \"seal\" not found");

    // The older kind lives in a Secret.
    cluster.apply(FOREVER).ok();
    cluster.kubectl("wait secret/forever -n team --for=jsonpath={.data.token} --timeout=180s").ok();
    let encoded =
        cluster.kubectl("get secret forever -n team -o jsonpath={.data.token}").ok().stdout;
    use base64::Engine;
    let forever = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
    let forever = String::from_utf8(forever).expect("text");
    with_token(&cluster, &forever, "auth whoami").prints("system:serviceaccount:team:deployer");
    // The day of its use is noted, and since when such days are.
    let label = r"jsonpath={.metadata.labels.kubernetes\.io/legacy-token-last-used}";
    cluster.kubectl(&format!("get secret forever -n team -o {label}")).prints("20");
    let tracking = "kube-apiserver-legacy-service-account-token-tracking";
    let tracking = format!("get configmap {tracking} -n kube-system -o yaml");
    cluster.comes_to_print(&tracking, "since: \"20");
    cluster.kubectl("get secret forever -n team -o jsonpath={.data.namespace}").prints("dGVhbQ==");

    // Whoever wants to verify tokens finds the keys; not everybody may ask.
    cluster.kubectl("get --raw /.well-known/openid-configuration").prints("/openid/v1/jwks");
    cluster.kubectl("get --raw /openid/v1/jwks").prints("\"alg\":\"ES256\"");
    with_token(&cluster, &plain, "get --raw /openid/v1/jwks").prints("\"kty\":\"EC\"");
    cluster.kubectl("get --raw /openid/v1/jwks --as=ann").fails_with("forbidden");

    // What extension API servers need to know, and who may read it.
    cluster
        .kubectl("get configmap extension-apiserver-authentication -n kube-system -o jsonpath={.data.requestheader-allowed-names}")
        .prints("system:auth-proxy");
    cluster.comes_to_print("get clustertrustbundles", "kubernetes.io/kube-apiserver-serving");
    with_token(&cluster, &plain, "get clustertrustbundles").prints("kube-apiserver-serving");

    cluster.kubectl("delete serviceaccount deployer -n team").ok();
    with_token(&cluster, &plain, "auth whoami").fails_with("Unauthorized");
    with_token(&cluster, &forever, "auth whoami").fails_with("Unauthorized");
    cluster.kubectl("wait secret/forever -n team --for=delete --timeout=180s").ok();
}

/// Every part of the server works with no more than its own rights.
#[test]
fn nothing_inside_is_refused() {
    let Some(cluster) = team() else { return };
    cluster.wait_node_ready();
    cluster.apply(WEB).ok();
    cluster.kubectl("expose deployment web -n team --port=80").ok();
    cluster.kubectl("rollout status deployment/web -n team --timeout=180s").ok();
    cluster.kubectl("delete namespace team --timeout=180s").ok();
    let log = cluster.log();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("forbidden")).collect();
    assert_eq!(refused, [""; 0]);
}

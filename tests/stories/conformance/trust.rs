//! Certificates: asked for by anybody and by pods, and those that are trusted.

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Place,
    accounts::{file, pod},
    registries::{Kind, holds, operations},
};

/// What openssl prints, working in a folder of the place's.
fn openssl(place: &Place, line: &str) -> String {
    let dir = place.cluster.path(&place.namespace);
    std::fs::create_dir_all(&dir).expect("our own folder");
    let done = Command::new("openssl").args(line.split(' ')).current_dir(dir).output();
    let done = done.expect("openssl runs");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

fn written(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.cluster.path(&place.namespace).join(name)).expect("openssl wrote it")
}

/// A certificate that can be a root, as PEM.
fn root(place: &Place, name: &str) -> String {
    openssl(
        place,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2"
        ),
    );
    String::from_utf8(written(place, &format!("{name}.pem"))).expect("PEM")
}

pub(super) fn signing_requests(place: &Place) {
    openssl(
        place,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout c.key -out c.csr -subj /CN=e2e-conformance-test-user/O=e2e-conformance-test-group",
    );
    let request = STANDARD.encode(written(place, "c.csr"));
    // The collector of requests takes what failed long ago.
    let now = jiff::Timestamp::now().as_second();
    let now = jiff::Timestamp::from_second(now).expect("a time").to_string();
    let api = "apis/certificates.k8s.io/v1";
    let object = json!({"spec": {"request": request, "signerName": "example.com/e2e-conformance",
        "expirationSeconds": 3600, "usages": ["digital signature", "key encipherment", "server auth"]}});
    operations(
        place,
        &Kind {
            api,
            plural: "certificatesigningrequests",
            kind: "CertificateSigningRequest",
            namespaced: false,
            prefix: "",
            ends: "",
            object: object.clone(),
            // Its spec cannot change.
            change: json!({"metadata": {}}),
            status: json!({"conditions": [{"type": "Failed", "status": "True", "reason": "E2E",
                "message": "by a story", "lastTransitionTime": now, "lastUpdateTime": now}]}),
        },
    );
    // Approval is a part of its own.
    let mut object = object;
    object["apiVersion"] = json!("certificates.k8s.io/v1");
    object["kind"] = json!("CertificateSigningRequest");
    let name = format!("{}-approved", place.namespace);
    object["metadata"] = json!({"name": name});
    place.post(&format!("/{api}/certificatesigningrequests"), &object);
    let one = format!("/{api}/certificatesigningrequests/{name}");
    let approval = format!("{one}/approval");
    let mut whole = place.read(&approval);
    whole["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "E2E",
        "message": "Set from an e2e test"}]);
    let approved = place.send("PUT", &approval, &whole).ok();
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}}});
    place.send("PATCH", &approval, &patch).ok();
    let issued = json!({"status": {"certificate": STANDARD.encode(root(place, "issued"))}});
    let patched = place.send("PATCH", &format!("{one}/status"), &issued).ok();
    assert!(holds(&patched, &issued), "{patched}");
    assert_eq!(patched["status"]["conditions"][0]["type"], "Approved");
    place.remove(&one);
}

pub(super) fn pod_requests(place: &Place) {
    openssl(
        place,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout p.key -out p.der -outform DER -subj /",
    );
    openssl(place, "x509 -req -inform DER -in p.der -signkey p.key -days 1 -out p.pem");
    let date = |which: &str| {
        let told = openssl(place, &format!("x509 -in p.pem -noout {which} -dateopt iso_8601"));
        let (_, date) = told.trim().split_once('=').expect("a date");
        date.replace(' ', "T").parse::<jiff::Timestamp>().expect("a time")
    };
    let (from, until) = (date("-startdate"), date("-enddate"));
    let uid = |number: u8| format!("12345678-1234-1234-1234-1234567890{number}");
    operations(
        place,
        &Kind {
            api: "apis/certificates.k8s.io/v1",
            plural: "podcertificaterequests",
            kind: "PodCertificateRequest",
            namespaced: true,
            prefix: "",
            ends: "",
            object: json!({"spec": {
                "signerName": "example.com/e2e", "podName": "test-pod", "podUID": uid(12),
                "serviceAccountName": "default", "serviceAccountUID": uid(13),
                "nodeName": "test-node", "nodeUID": uid(14), "maxExpirationSeconds": 86400,
                "stubPKCS10Request": STANDARD.encode(written(place, "p.der")),
            }}),
            change: json!({"metadata": {}}),
            status: json!({
                "certificateChain": String::from_utf8(written(place, "p.pem")).expect("PEM"),
                "notBefore": from, "notAfter": until,
                "beginRefreshAt": from + jiff::SignedDuration::from_mins(15),
                "conditions": [{"type": "Issued", "status": "True", "reason": "E2E",
                    "message": "Issued by E2E test patch", "lastTransitionTime": from}],
            }),
        },
    );
}

const BUNDLES: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";

pub(super) fn bundles(place: &Place) {
    let (first, second) = (root(place, "first"), root(place, "second"));
    operations(
        place,
        &Kind {
            api: "apis/certificates.k8s.io/v1",
            plural: "clustertrustbundles",
            kind: "ClusterTrustBundle",
            namespaced: false,
            prefix: "example.com:e2e:",
            ends: "",
            object: json!({"spec": {"signerName": "example.com/e2e", "trustBundle": first}}),
            change: json!({"spec": {"trustBundle": second}}),
            status: Value::Null,
        },
    );
}

fn bundle(place: &Place, name: &str, signer: &str, labels: &Value, pem: &str) {
    let mut object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": {"name": name, "labels": labels}, "spec": {"trustBundle": pem}});
    if !signer.is_empty() {
        object["spec"]["signerName"] = json!(signer);
    }
    place.post(BUNDLES, &object);
}

/// A pod with a volume of these bundles at `/ctb`.
fn with_volume(name: &str, sources: &Value) -> Value {
    let mut pod = pod(
        name,
        &json!({
            "volumes": [{"name": "ctb", "projected": {"sources": sources}}],
            "mounts": [{"name": "ctb", "mountPath": "/ctb"}],
        }),
    );
    pod["spec"]["containers"][0]["name"] = json!("projected-ctb-volume-test-0");
    pod
}

/// What its file `name` holds, once it runs.
fn mounted(place: &Place, pod_name: &str, source: &Value) -> String {
    let mut source = source.clone();
    source["path"] = json!("trust.pem");
    let pod = with_volume(pod_name, &json!([{"clusterTrustBundle": source}]));
    super::accounts::runs(place, &pod);
    place
        .kubectl(&format!("exec {pod_name} -- toolbox ls -l /ctb/..data/trust.pem"))
        .prints("-0644");
    file(place, pod_name, "/ctb/trust.pem")
}

/// The certificates of a bundle, whatever their order.
fn certificates(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let mut all: Vec<String> =
        text.split(BEGIN).skip(1).map(|rest| format!("{BEGIN}{rest}").trim().to_owned()).collect();
    all.sort();
    all
}

/// Mounts of bundles by name and by signer, and what keeps a pod from starting.
pub(super) fn mounts(place: &Place) {
    let signer = format!("test.test/signer-one-{}", place.namespace);
    let prefix = format!("test.test:signer-one-{}:", place.namespace);
    let (alive, dead, nobody) = (root(place, "alive"), root(place, "dead"), root(place, "nobody"));
    bundle(place, &format!("{prefix}1"), &signer, &json!({"signer.alive": "true"}), &alive);
    bundle(place, &format!("{prefix}2"), &signer, &json!({"signer.alive": "false"}), &dead);
    let unsigned = format!("test.test.signer-one.4.{}", place.namespace);
    bundle(place, &unsigned, "", &json!({}), &nobody);

    // By name.
    let by_name = mounted(place, "by-name", &json!({"name": unsigned}));
    assert_eq!(certificates(&by_name), certificates(&nobody));
    let none =
        mounted(place, "optional", &json!({"name": "does-not-exist.at.all", "optional": true}));
    assert_eq!(none, "");
    // By signer and labels.
    let by = |name: &str, selector: Value, optional: bool| {
        let mut source = json!({"signerName": signer, "optional": optional});
        if !selector.is_null() {
            source["labelSelector"] = selector;
        }
        certificates(&mounted(place, name, &source))
    };
    let selector = json!({"matchLabels": {"signer.alive": "true"}});
    assert_eq!(by("labelled", selector, false), certificates(&alive));
    assert_eq!(by("all", json!({}), false), certificates(&format!("{alive}{dead}")));
    assert_eq!(by("no-selector", Value::Null, true), Vec::<String>::new());
    let nothing = json!({"matchLabels": {"thismatches": "nothing"}});
    assert_eq!(by("nothing", nothing, true), Vec::<String>::new());
    // Several volumes in one pod.
    let sources = json!([
        {"clusterTrustBundle": {"name": unsigned, "path": "anchors.pem"}},
        {"clusterTrustBundle": {"signerName": signer, "path": "bundle.crt",
            "labelSelector": {"matchLabels": {"signer.alive": "false"}}}},
    ]);
    let mut pod = with_volume("several", &json!([sources[0]]));
    pod["spec"]["volumes"]
        .as_array_mut()
        .expect("volumes")
        .push(json!({"name": "second", "projected": {"sources": [sources[1]]}}));
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("mounts");
    mounts.push(json!({"name": "second", "mountPath": "/second"}));
    super::accounts::runs(place, &pod);
    assert_eq!(certificates(&file(place, "several", "/ctb/anchors.pem")), certificates(&nobody));
    assert_eq!(certificates(&file(place, "several", "/second/bundle.crt")), certificates(&dead));

    // What is not optional and not there keeps the pod from starting, until it is.
    let missing = format!("test.test.missing.{}", place.namespace);
    for (name, source, then) in [
        (
            "no-match",
            json!({"signerName": signer, "optional": false,
            "labelSelector": {"matchLabels": {"signer.alive": "unknown"}}}),
            format!("{prefix}3"),
        ),
        ("no-such", json!({"name": missing, "optional": false}), missing.clone()),
    ] {
        let mut source = source;
        source["path"] = json!("trust.pem");
        let pod = with_volume(name, &json!([{"clusterTrustBundle": source}]));
        place.post(&place.path("api/v1", "pods"), &pod);
        let read = || place.read(&place.path("api/v1", &format!("pods/{name}")));
        let events = || place.kubectl(&format!("events --for=pod/{name}")).ok().stdout;
        place.until("it says what is missing", || events().contains("FailedMount"));
        let pod = read();
        assert_eq!(pod["status"]["phase"], "Pending");
        let conditions = pod["status"]["conditions"].as_array().expect("conditions");
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("told");
        assert_eq!(ready["reason"], "ContainersNotReady");
        assert_eq!(
            ready["message"],
            "containers with unready status: [projected-ctb-volume-test-0]"
        );
        let (of, labels) = match then == missing {
            true => ("", json!({})),
            false => (signer.as_str(), json!({"signer.alive": "unknown"})),
        };
        bundle(place, &then, of, &labels, &alive);
        place.wait("condition=Ready", &format!("pod/{name}"));
    }
    for name in
        [format!("{prefix}1"), format!("{prefix}2"), format!("{prefix}3"), unsigned, missing]
    {
        place.remove(&format!("{BUNDLES}/{}", name.replace(':', "%3A")));
    }
}

/// More than a hundred, in one volume, in one each, and in one file.
pub(super) fn many_mounts(place: &Place) {
    const MANY: usize = 110;
    let signer = format!("test.test/hundreds-{}", place.namespace);
    let name = |number: usize| format!("test.test:hundreds-{}:{number}", place.namespace);
    let first = root(place, "many");
    // Making keys takes its time, and what they are does not matter: a few, in turn.
    let mut roots = vec![first];
    for number in 1..5 {
        roots.push(root(place, &format!("many{number}")));
    }
    for number in 0..MANY {
        bundle(place, &name(number), &signer, &json!({}), &roots[number % roots.len()]);
    }
    let source = |number: usize| json!({"clusterTrustBundle": {"name": name(number), "path": format!("anchors-{number}.pem")}});
    let all: Vec<Value> = (0..MANY).map(source).collect();
    super::accounts::runs(place, &with_volume("one-volume", &json!(all)));
    for number in [0, 57, MANY - 1] {
        let told = file(place, "one-volume", &format!("/ctb/anchors-{number}.pem"));
        assert_eq!(certificates(&told), certificates(&roots[number % roots.len()]));
    }
    let mut pod = with_volume("many-volumes", &json!([source(0)]));
    for number in 1..MANY {
        let volume =
            json!({"name": format!("v{number}"), "projected": {"sources": [source(number)]}});
        pod["spec"]["volumes"].as_array_mut().expect("volumes").push(volume);
        let mount = json!({"name": format!("v{number}"), "mountPath": format!("/ctb-{number}")});
        pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("mounts").push(mount);
    }
    super::accounts::runs(place, &pod);
    for number in [1, 63, MANY - 1] {
        let told = file(place, "many-volumes", &format!("/ctb-{number}/anchors-{number}.pem"));
        assert_eq!(certificates(&told), certificates(&roots[number % roots.len()]));
    }
    let joined = mounted(place, "one-file", &json!({"signerName": signer, "labelSelector": {}}));
    // What is there twice is there once.
    assert_eq!(certificates(&joined), certificates(&roots.concat()));
    for number in 0..MANY {
        place.remove(&format!("{BUNDLES}/{}", name(number).replace(':', "%3A")));
    }
}

//! Certificates by request: asked for, approved, signed, used.

use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A key and a request, made by openssl; the request in base64.
fn request(cluster: &Cluster, name: &str, subject: &str) -> Option<String> {
    request_of(cluster, name, subject, P256)
}

/// How openssl calls kinds of keys.
type Kind = [&'static str; 2];
const P256: Kind = ["ec", "ec_paramgen_curve:P-256"];
const P521: Kind = ["ec", "ec_paramgen_curve:P-521"];
const RSA: Kind = ["rsa", "rsa_keygen_bits:3072"];

fn request_of(
    cluster: &Cluster,
    name: &str,
    subject: &str,
    [algorithm, option]: Kind,
) -> Option<String> {
    let (key, csr) = (cluster.path(&format!("{name}.key")), cluster.path(&format!("{name}.csr")));
    let done = Command::new("openssl")
        .args(["req", "-new", "-newkey", algorithm, "-pkeyopt", option, "-nodes"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(&csr)
        .args(["-subj", subject])
        .output();
    let Ok(done) = done else {
        eprintln!("skipped: needs `openssl`");
        return None;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let pem = std::fs::read(csr).expect("openssl wrote it");
    Some(STANDARD.encode(pem))
}

fn object(name: &str, signer: &str, request: &str) -> String {
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  signerName: {signer}\n  request: {request}\n  expirationSeconds: 86400\n  usages: [digital signature, client auth]\n"
    )
}

#[test]
fn a_user_gets_a_certificate() {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
    let Some(cluster) = Cluster::start() else { return };
    let Some(jane) = request(&cluster, "jane", "/O=devs/CN=jane") else { return };
    cluster.apply(&object("jane", SIGNER, &jane)).ok();
    cluster.kubectl("get csr jane").prints("Pending").prints("system:admin");
    let issued = |name: &str| {
        cluster
            .kubectl(&format!("certificate approve {name} --as=eve --as-group=system:masters"))
            .prints("approved");
        let issued =
            format!("wait csr/{name} --for=jsonpath={{.status.certificate}} --timeout=180s");
        cluster.kubectl(&issued).ok();
        cluster.kubectl(&format!("get csr {name}")).prints("Approved,Issued");
        let signed = format!("get csr {name} -o jsonpath={{.status.certificate}}");
        let signed = STANDARD.decode(cluster.kubectl(&signed).ok().stdout).expect("base64");
        std::fs::write(cluster.path(&format!("{name}.crt")), signed).expect("our own folder");
    };
    issued("jane");
    let server = cluster.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let as_user = |name: &str, line: &str| {
        cluster.kubectl(&format!(
            "--kubeconfig=/dev/null --insecure-skip-tls-verify --server={} --client-certificate={} --client-key={} {line}",
            server.stdout,
            cluster.path(&format!("{name}.crt")).display(),
            cluster.path(&format!("{name}.key")).display(),
        ))
    };
    let as_jane = |line: &str| as_user("jane", line);
    as_jane("auth whoami").prints("jane").prints("devs");
    for (name, kind) in [("rita", RSA), ("curt", P521)] {
        let subject = format!("/O=devs/CN={name}");
        let Some(request) = request_of(&cluster, name, &subject, kind) else { return };
        cluster.apply(&object(name, SIGNER, &request)).ok();
        issued(name);
        as_user(name, "auth whoami").prints(name).prints("devs");
    }
    as_jane("get pods").fails_with("User \"jane\" cannot list resource \"pods\"");
    cluster.kubectl("create rolebinding jane --clusterrole=view --group=devs").ok();
    as_jane("get pods").ok();
    // Asking is a right, and so is deciding.
    as_jane("certificate approve jane").fails_with("forbidden");

    let Some(root) = request(&cluster, "root", "/O=system:masters/CN=root") else { return };
    cluster
        .apply(&object("root", SIGNER, &root))
        .fails_with("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed");
    cluster.apply(&object("denied", SIGNER, &jane)).ok();
    cluster.kubectl("certificate deny denied").prints("denied");
    cluster.kubectl("get csr denied").prints("Denied");
    assert_eq!(cluster.kubectl("get csr denied -o jsonpath={.status.certificate}").ok().stdout, "");
}

#[test]
fn a_node_renews_its_own_certificate() {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    let Some(cluster) = Cluster::start() else { return };
    let subject = "/O=system:nodes/CN=system:node:pi";
    let Some(pi) = request(&cluster, "pi", subject) else { return };
    cluster
        .kubectl("create clusterrolebinding renew --clusterrole=system:certificates.k8s.io:certificatesigningrequests:selfnodeclient --group=system:nodes")
        .ok();
    let node = "--as=system:node:pi --as-group=system:nodes --as-group=system:authenticated";
    cluster.kubectl_with_input(&format!("create -f - {node}"), &object("pi", SIGNER, &pi)).ok();
    cluster.kubectl("wait csr/pi --for=jsonpath={.status.certificate} --timeout=180s").ok();
    cluster.kubectl("get csr pi -o jsonpath={.status.conditions[0].reason}").prints("AutoApproved");
    // For another node nobody approves by itself.
    let other = "--as=system:node:other --as-group=system:nodes --as-group=system:authenticated";
    cluster.kubectl_with_input(&format!("create -f - {other}"), &object("po", SIGNER, &pi)).ok();
    cluster.kubectl("certificate deny po").prints("denied");
    assert_eq!(cluster.kubectl("get csr po -o jsonpath={.status.certificate}").ok().stdout, "");
}

/// A request for a pod's certificate, once the node has made it.
fn asked_for(cluster: &Cluster, pod: &str) -> Value {
    let fields = format!("--field-selector=spec.podName={pod}");
    let mut watch = cluster
        .kubectl_command(&["get", "podcertificaterequests", &fields, "-w", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let out = watch.stdout.take().expect("piped");
    let first = serde_json::Deserializer::from_reader(out).into_iter::<Value>().next();
    watch.kill().expect("ended");
    watch.wait().expect("ended");
    first.expect("a request").expect("JSON")
}

fn openssl(args: &[&str]) -> String {
    let done = Command::new("openssl").args(args).output().expect("openssl runs");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

#[test]
pub(super) fn a_pod_gets_a_certificate_of_a_signer() {
    let Some(cluster) = Cluster::start() else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: needs `openssl`");
        return;
    }
    let path = |name: &str| cluster.path(name).to_string_lossy().into_owned();
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a signer",
        "-days",
        "2",
        "-keyout",
        &ca_key,
        "-out",
        &ca,
    ]);
    let pod_with = |name: &str, kind: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: skiff.local/toolbox, args: [sleep, infinity], volumeMounts: [{{name: v, mountPath: /v}}]}}\n  volumes:\n  - name: v\n    projected:\n      sources:\n      - podCertificate: {{signerName: example.com/signer, keyType: {kind}, credentialBundlePath: bundle.pem, userAnnotations: {{example.com/path: /custom}}{more}}}\n"
        )
    };
    let pod = |name: &str, more: &str| pod_with(name, "ECDSAP256", more);
    cluster
        .apply(&pod("long", ", maxExpirationSeconds: 7862401"))
        .fails_with("if provided, maxExpirationSeconds must be <= 7862400");
    cluster
        .apply(&pod("short", ", maxExpirationSeconds: 3599"))
        .fails_with("if provided, maxExpirationSeconds must be >= 3600");
    cluster.apply(&pod("hour", ", maxExpirationSeconds: 3600")).ok();
    assert_eq!(asked_for(&cluster, "hour")["spec"]["maxExpirationSeconds"], 3600);
    cluster.kubectl("delete pod hour --timeout=180s").ok();

    let patch = |request: &Value, status: &Value| {
        let name = request["metadata"]["name"].as_str().expect("a name");
        let patch = format!("--patch={status}");
        let patch = [
            "patch",
            "podcertificaterequests",
            name,
            "--subresource=status",
            "--type=merge",
            &patch,
        ];
        cluster.kubectl_args(&patch).ok();
    };
    // The signer's part, by hand.
    let mut from = jiff::Timestamp::UNIX_EPOCH;
    for (name, kind) in [("good", "ECDSAP256"), ("curve", "ECDSAP521"), ("primes", "RSA3072")] {
        cluster.apply(&pod_with(name, kind, "")).ok();
        let request = asked_for(&cluster, name);
        let spec = &request["spec"];
        assert_eq!(spec["maxExpirationSeconds"], 86400, "{request:#}");
        assert_eq!(spec["unverifiedUserAnnotations"]["example.com/path"], "/custom");
        assert_eq!(spec["serviceAccountName"], "default");
        let der =
            STANDARD.decode(spec["stubPKCS10Request"].as_str().expect("text")).expect("base64");
        std::fs::write(cluster.path("request.der"), der).expect("our own folder");
        std::fs::write(cluster.path("leaf.conf"), "basicConstraints=CA:FALSE\n")
            .expect("our own folder");
        openssl(&[
            "x509",
            "-req",
            "-inform",
            "DER",
            "-in",
            &path("request.der"),
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &path("leaf.conf"),
            "-days",
            "1",
            "-out",
            &path("leaf.pem"),
        ]);
        let date = |which: &str| {
            let told = openssl(&[
                "x509",
                "-in",
                &path("leaf.pem"),
                "-noout",
                which,
                "-dateopt",
                "iso_8601",
            ]);
            let (_, date) = told.trim().split_once('=').expect("a date");
            date.replace(' ', "T").parse::<jiff::Timestamp>().expect("a time")
        };
        let until = date("-enddate");
        from = date("-startdate");
        let status = json!({"status": {
            "conditions": [{"type": "Issued", "status": "True", "reason": "Signed", "message": "by hand",
                "lastTransitionTime": from}],
            "certificateChain": std::fs::read_to_string(cluster.path("leaf.pem")).expect("written"),
            "notBefore": from, "notAfter": until,
            "beginRefreshAt": from + jiff::SignedDuration::from_hours(12),
        }});
        patch(&request, &status);
        cluster.kubectl(&format!("wait pod/{name} --for=condition=Ready --timeout=180s")).ok();
        let bundle = format!("exec {name} -- toolbox cat /v/bundle.pem");
        let bundle = cluster.kubectl(&bundle).ok().stdout;
        std::fs::write(cluster.path("bundle.pem"), &bundle).expect("our own folder");
        openssl(&["verify", "-CAfile", &ca, &path("bundle.pem")]);
        let of_key = openssl(&["pkey", "-in", &path("bundle.pem"), "-pubout"]);
        let of_certificate = openssl(&["x509", "-in", &path("leaf.pem"), "-noout", "-pubkey"]);
        assert_eq!(of_key, of_certificate, "the bundle's key is the certificate's");
    }

    // A signer that says no.
    cluster.apply(&pod("bad", "")).ok();
    let request = asked_for(&cluster, "bad");
    let no = json!({"status": {"conditions": [{"type": "Denied", "status": "True",
        "reason": "Policy", "message": "not you", "lastTransitionTime": from}]}});
    patch(&request, &no);
    let events = "events --for=pod/bad --watch=false -o jsonpath={.items[*].message}";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(180);
    let text = "permanently denied: reason=\"Policy\" message=\"not you\"";
    while !cluster.kubectl(events).ok().stdout.contains(text) {
        assert!(std::time::Instant::now() < until, "no event tells that the signer said no");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

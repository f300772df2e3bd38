//! Certificates by request: asked for, approved, signed, used.

use std::process::Command;

use crate::cluster::Cluster;

/// A key and a request, made by openssl; the request in base64.
fn request(cluster: &Cluster, name: &str, subject: &str) -> Option<String> {
    let (key, csr) = (cluster.path(&format!("{name}.key")), cluster.path(&format!("{name}.csr")));
    let done = Command::new("openssl")
        .args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
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
    use base64::Engine;
    let pem = std::fs::read(csr).expect("openssl wrote it");
    Some(base64::engine::general_purpose::STANDARD.encode(pem))
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
    cluster
        .kubectl("certificate approve jane --as=eve --as-group=system:masters")
        .prints("approved");
    cluster.kubectl("wait csr/jane --for=jsonpath={.status.certificate} --timeout=30s").ok();
    cluster.kubectl("get csr jane").prints("Approved,Issued");
    let signed = cluster.kubectl("get csr jane -o jsonpath={.status.certificate}").ok().stdout;
    use base64::Engine;
    let signed = base64::engine::general_purpose::STANDARD.decode(signed).expect("base64");
    let path = cluster.path("jane.crt");
    std::fs::write(&path, signed).expect("our own folder");
    let server = cluster.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let as_jane = |line: &str| {
        cluster.kubectl(&format!(
            "--kubeconfig=/dev/null --insecure-skip-tls-verify --server={} --client-certificate={} --client-key={} {line}",
            server.stdout,
            path.display(),
            cluster.path("jane.key").display(),
        ))
    };
    as_jane("auth whoami").prints("jane").prints("devs");
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
    cluster.kubectl("wait csr/pi --for=jsonpath={.status.certificate} --timeout=30s").ok();
    cluster.kubectl("get csr pi -o jsonpath={.status.conditions[0].reason}").prints("AutoApproved");
    // For another node nobody approves by itself.
    let other = "--as=system:node:other --as-group=system:nodes --as-group=system:authenticated";
    cluster.kubectl_with_input(&format!("create -f - {other}"), &object("po", SIGNER, &pi)).ok();
    cluster.kubectl("certificate deny po").prints("denied");
    assert_eq!(cluster.kubectl("get csr po -o jsonpath={.status.certificate}").ok().stdout, "");
}

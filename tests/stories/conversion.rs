//! A custom kind whose versions differ, converted by a webhook behind a Service:
//! a program outside of the cluster that an EndpointSlice names.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::Engine as _;

use crate::cluster::Cluster;

/// How long a node may take to learn of a Service.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(30);
/// The node's address, where the webhook listens.
const ADDRESS: &str = "192.168.77.1";

/// A CA and a certificate for the name of a Service, made by openssl.
pub(super) fn certificates(dir: &Path, name: &str) -> Option<()> {
    const CA: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 30";
    const REQUEST: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=converter";
    const SIGN: &str = "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt -days 30 -extfile names";
    std::fs::write(dir.join("names"), format!("subjectAltName=DNS:{name}\n")).expect("ours");
    for line in [CA, REQUEST, SIGN] {
        let Ok(done) = Command::new("openssl").args(line.split(' ')).current_dir(dir).output()
        else {
            eprintln!("skipped: needs `openssl`");
            return None;
        };
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Some(())
}

/// A webhook of `tests/clients` with these certificates, once it listens on the node.
pub(super) fn webhook(cluster: &Cluster, script: &str) -> Option<Child> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let mut command = cluster.command("python3");
    command.arg(scripts.join(script)).args([ADDRESS, "9443"]);
    command.args([cluster.path("tls.crt"), cluster.path("tls.key")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    if line.trim() == "listening" {
        return Some(child);
    }
    eprintln!("skipped: needs `python3`");
    child.wait().expect("our own child");
    None
}

const SERVICE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: hooks}
---
apiVersion: v1
kind: Service
metadata: {name: converter, namespace: hooks}
spec: {ports: [{port: 443, targetPort: 9443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: converter-1, namespace: hooks, labels: {kubernetes.io/service-name: converter}}
addressType: IPv4
ports: [{port: 9443, protocol: TCP, name: ""}]
endpoints: [{addresses: [192.168.77.1], conditions: {ready: true}}]
"#;

const SITES: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sites.conv.example.com}
spec:
  group: conv.example.com
  names: {plural: sites, singular: site, kind: Site}
  scope: Namespaced
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig:
        caBundle: CA
        service: {name: converter, namespace: hooks, path: /convert}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {hostPort: {type: string}}}}}}
  - name: v2
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {host: {type: string}, port: {type: string}}}}}}
"#;

const OLD: &str = "apiVersion: conv.example.com/v1\nkind: Site\nmetadata: {name: old}\nspec: {hostPort: 'a.example:80'}\n";
const NEW: &str = "apiVersion: conv.example.com/v2\nkind: Site\nmetadata: {name: new}\nspec: {host: b.example, port: '81'}\n";

#[test]
pub(super) fn a_webhook_behind_a_service_converts() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(()) = certificates(&cluster.path("."), "converter.hooks.svc") else { return };
    let ca = std::fs::read(cluster.path("ca.crt")).expect("openssl wrote it");
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    let Some(mut webhook) = webhook(&cluster, "converter.py") else { return };
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cluster.wait_node_ready();
        cluster.apply(SERVICE).ok();
        cluster.apply(&SITES.replace("CA", &ca)).ok();
        cluster
            .kubectl("wait --for=condition=Established crd/sites.conv.example.com --timeout=180s")
            .ok();
        cluster.apply(OLD).prints("created");
        // The node has the Service's address a moment later.
        let began = Instant::now();
        let get = "get sites.v2.conv.example.com old -o jsonpath={.spec.host}";
        while !cluster.kubectl(get).success && began.elapsed() < SERVICE_TIMEOUT {}
        cluster.kubectl(get).prints("a.example");
        cluster.apply(NEW).prints("created");
        cluster
            .kubectl("get sites.v1.conv.example.com new -o jsonpath={.spec.hostPort}")
            .prints("b.example:81");
        cluster
            .kubectl("get sites.v2.conv.example.com -o jsonpath={.items[*].spec.port}")
            .prints("81 80");
        cluster
            .kubectl_args(&[
                "patch",
                "sites.v2.conv.example.com",
                "old",
                "--type=merge",
                "-p",
                r#"{"spec":{"port":"8080"}}"#,
            ])
            .ok();
        cluster
            .kubectl("get sites.v1.conv.example.com old -o jsonpath={.spec.hostPort}")
            .prints("a.example:8080");
        // Another version is stored from now on, so that a list holds both.
        let flipped = SITES
            .replace("storage: true", "storage: neither")
            .replace("storage: false", "storage: true")
            .replace("storage: neither", "storage: false");
        cluster.apply(&flipped.replace("CA", &ca)).ok();
        cluster.apply(&NEW.replace("name: new", "name: newer")).prints("created");
        cluster
            .kubectl("get sites.v1.conv.example.com -o jsonpath={.items[*].spec.hostPort}")
            .prints("b.example:81 b.example:81 a.example:8080");
        cluster
            .kubectl("get sites.v2.conv.example.com -o jsonpath={.items[*].spec.host}")
            .prints("b.example b.example a.example");
        cluster.apply(&SITES.replace("CA", &ca)).ok();
    }));
    webhook.kill().expect("our own child");
    webhook.wait().expect("our own child");
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
    // Without it, what is stored can still be read as it is stored.
    cluster.kubectl("get sites.v1.conv.example.com old").prints("old");
    cluster
        .kubectl("get sites.v2.conv.example.com old")
        .fails_with("conversion webhook for conv.example.com/v1, Kind=Site failed");
}

const BOATS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.conv.example.com}
spec:
  group: conv.example.com
  names: {plural: boats, singular: boat, kind: Boat}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {oars: {type: integer}}}}}}
  - name: v2
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {oars: {type: integer}}}}}}
"#;

const BOAT: &str =
    "apiVersion: conv.example.com/v1\nkind: Boat\nmetadata: {name: a}\nspec: {oars: 2}\n";

const MIGRATION: &str = r#"
apiVersion: storagemigration.k8s.io/v1
kind: StorageVersionMigration
metadata: {name: NAME}
spec: {resource: {group: conv.example.com, resource: RESOURCE}}
"#;

/// An old version can be taken away once nothing is stored in it.
#[test]
fn a_migration_stores_everything_in_the_version_of_now() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(BOATS).ok();
    cluster
        .kubectl("wait --for=condition=Established crd/boats.conv.example.com --timeout=180s")
        .ok();
    cluster.apply(BOAT).prints("created");
    let revision = |cluster: &Cluster| {
        let boat = cluster.get("boats.v2.conv.example.com a");
        boat["metadata"]["resourceVersion"].as_str().expect("text").to_owned()
    };
    let migrate = |name: &str, resource: &str, ends: &str| {
        let migration = MIGRATION.replace("NAME", name).replace("RESOURCE", resource);
        cluster.apply(&migration).prints("created");
        let wait = "wait --timeout=180s --for=condition";
        cluster.kubectl(&format!("{wait}={ends} storageversionmigration/{name}")).ok();
    };
    let before = revision(&cluster);
    migrate("nothing", "boats", "Succeeded");
    assert_eq!(revision(&cluster), before, "it is stored so already");
    let flipped = BOATS
        .replace("storage: true", "storage: neither")
        .replace("storage: false", "storage: true")
        .replace("storage: neither", "storage: false");
    cluster.apply(&flipped).ok();
    assert_eq!(revision(&cluster), before);
    migrate("boats", "boats", "Succeeded");
    let after = revision(&cluster);
    assert_ne!(after, before);
    migrate("again", "boats", "Succeeded");
    assert_eq!(revision(&cluster), after);
    migrate("ships", "ships", "Failed");
    let forget = r#"{"status":{"storedVersions":["v2"]}}"#;
    let patch = "patch crd boats.conv.example.com --subresource=status --type=merge -p";
    cluster.kubectl(&format!("{patch} {forget}")).ok();
    let (head, versions) = flipped.split_once("  - name: v1").expect("two versions");
    let (_, second) = versions.split_once("  - name: v2").expect("two versions");
    cluster.apply(&format!("{head}  - name: v2{second}")).ok();
    cluster.kubectl("get boats a -o jsonpath={.apiVersion}:{.spec.oars}").prints("v2:2");
}

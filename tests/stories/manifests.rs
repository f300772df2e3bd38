//! The folder of manifests: files become objects, and what leaves a file goes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::cluster::Cluster;

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{key: \"{value}\"}}\n---\n"
    )
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, listKind: LampList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

#[test]
fn files_become_objects_and_what_leaves_a_file_goes() {
    let Some(mut cluster) = Cluster::start() else { return };
    let dir = cluster.data_dir().join("server/manifests");
    let put = |name: &str, text: &str| {
        // Written elsewhere and moved, so that it is there at once.
        fs::write(dir.join(".new"), text).expect("the server made the folder");
        fs::rename(dir.join(".new"), dir.join(name)).expect("our own folder");
    };
    let wait = |cluster: &Cluster, what: &str| {
        cluster.kubectl(&format!("wait --timeout=180s -n shop {what}")).ok();
    };
    let all = |text: &[String]| NAMESPACE.to_owned() + &text.concat();

    // The namespace is last, and made first.
    let text = config_map("one", "1") + &config_map("two", "1") + NAMESPACE;
    put("shop.yaml", &text);
    wait(&cluster, "--for=create configmap/two");
    // A change, an object that leaves, and one that somebody else changed too.
    cluster.kubectl("annotate -n shop configmap/one mine=yes").ok();
    put("shop.yaml", &all(&[config_map("one", "2")]));
    wait(&cluster, "--for=delete configmap/two");
    wait(&cluster, "--for=jsonpath={.data.key}=2 configmap/one");
    assert_eq!(cluster.get("-n shop configmap/one")["metadata"]["annotations"]["mine"], "yes");

    // A file that cannot be applied is told, keeps no other, and deletes nothing.
    put(
        "a-bad.yaml",
        &(config_map("three", "1") + "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}\n"),
    );
    wait(&cluster, "--for=create configmap/three");
    let mut events = cluster
        .kubectl_command(&[
            "get",
            "events",
            "-w",
            "--no-headers",
            "-o",
            "custom-columns=M:.message",
        ])
        .args(["--field-selector", "reason=ApplyManifestFailed"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut said = String::new();
    let out = events.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut said).expect("an event");
    events.kill().expect("our own child");
    events.wait().expect("our own child");
    assert!(said.contains("a-bad.yaml: Pod x") && said.contains("spec.containers"), "{said}");
    put("a-bad.yaml", "no: [");
    wait(&cluster, "--for=jsonpath={.data.key}=1 configmap/three");

    // A kind that another file brings, in a folder below.
    fs::create_dir(dir.join("lamps")).expect("our own folder");
    put(
        "lamps/a-lamp.yaml",
        "apiVersion: example.com/v1\nkind: Lamp\nmetadata: {name: desk, namespace: shop}\n",
    );
    put("lamps/kind.yaml", CRD);
    // Of a kind that the server does not have yet nothing can be waited for.
    cluster.kubectl("wait --timeout=180s --for=create crd/lamps.example.com").ok();
    cluster.kubectl("wait --timeout=180s --for=condition=Established crd/lamps.example.com").ok();
    wait(&cluster, "--for=create lamp/desk");

    // Left alone while it is skipped, although it says otherwise now.
    fs::write(dir.join("shop.yaml.skip"), "").expect("our own folder");
    put("shop.yaml", &all(&[config_map("one", "3")]));
    put("after.yaml", &config_map("after", "1"));
    wait(&cluster, "--for=create configmap/after");
    assert_eq!(cluster.get("-n shop configmap/one")["data"]["key"], "2");

    // What happens to files while the server is away.
    cluster.stop_server();
    fs::remove_file(dir.join("shop.yaml.skip")).expect("our own folder");
    put("after.yaml", &(config_map("later", "1")));
    fs::remove_file(dir.join("lamps/a-lamp.yaml")).expect("our own folder");
    cluster.start_server();
    wait(&cluster, "--for=jsonpath={.data.key}=3 configmap/one");
    wait(&cluster, "--for=create configmap/later");
    wait(&cluster, "--for=delete configmap/after");
    // Its file is gone; the object is not.
    cluster.kubectl("get -n shop lamp/desk").ok();
}

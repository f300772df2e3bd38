//! What goes wrong by hand: each mistake gets a clear error and loses nothing.

use crate::cluster::Cluster;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: x}]}\n";

#[test]
fn every_mistake_is_named() {
    let Some(cluster) = Cluster::start() else { return };
    for (yaml, said) in [
        ("a: [", "error"),
        ("apiVersion: v1\nkind: Nope\nmetadata: {name: a}", "no matches for kind \"Nope\""),
        (
            "apiVersion: apps/v1beta1\nkind: StatefulSet\nmetadata: {name: a}",
            "no matches for kind \"StatefulSet\" in version \"apps/v1beta1\"",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}",
            "a lowercase RFC 1123 subdomain",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, nmae: b}",
            "unknown field \"metadata.nmae\"",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}",
            "spec.containers: Required value",
        ),
        (
            &POD.replace("image: x", "image: x, imagee: y"),
            "unknown field \"spec.containers[0].imagee\"",
        ),
        (
            &POD.replace("image: x", "image: x, resources: {limits: {memory: 1Gx}}"),
            "quantities must match the regular expression",
        ),
        (
            &POD.replace("image: x", "image: x, resources: {requests: {cpu: 2}, limits: {cpu: 1}}"),
            "must be less than or equal to cpu limit",
        ),
        (
            &POD.replace("image: x", "image: x, ports: [{containerPort: 70000}]"),
            "must be between 1 and 65535",
        ),
        (
            &POD.replace("image: x", "image: x, imagePullPolicy: Sometimes"),
            "Unsupported value: \"Sometimes\"",
        ),
        (
            &POD.replace("image: x", "image: x, volumeMounts: [{name: v, mountPath: /v}]"),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: []}",
            "spec.ports: Required value",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 1.2.3.4, ports: [{port: 80}]}",
            "failed to allocate IP 1.2.3.4",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: x}]}}}",
            "`selector` does not match template `labels`",
        ),
    ] {
        cluster.apply(yaml).fails_with(said);
    }
    // Two values for one field: kubectl refuses the YAML itself, so as JSON.
    let duplicate = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{},"data":{"x":"y"}}"#;
    cluster
        .kubectl_with_input(
            "create --raw /api/v1/namespaces/default/configmaps?fieldValidation=Strict -f -",
            duplicate,
        )
        .fails_with("duplicate field \"data\"");
    cluster.kubectl("get pods -l a=b=c").fails_with("found '=c', expected: ',' or 'end of string'");
    cluster.kubectl("get pods --field-selector nope=1").fails_with("field label not supported");
    assert_eq!(
        cluster.get("pods")["items"].as_array().map(Vec::len),
        Some(0),
        "nothing was stored"
    );
}

#[test]
fn the_second_of_two_writers_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl("create configmap c --from-literal=a=1").ok();
    let mine = cluster.kubectl("get configmap c -o json").ok().stdout;
    cluster.kubectl("label configmap c other=writer").ok();
    cluster.kubectl_with_input("replace -f -", &mine).fails_with("the object has been modified");
    cluster.kubectl("get configmap c -o jsonpath={.metadata.labels.other}").prints("writer");
    cluster
        .kubectl("create configmap c --from-literal=a=1")
        .fails_with(r#"configmaps "c" already exists"#);
}

//! Custom kinds, from their definition to their end, as operators and people
//! use them.

use crate::cluster::Cluster;

const CRON_TABS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'}
              image: {type: string, default: nginx}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              mode: {type: string, enum: [Fast, Slow]}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [port]
                items:
                  type: object
                  required: [port]
                  properties: {port: {type: integer}, name: {type: string}}
              extra: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}, phase: {type: string}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    selectableFields: [{jsonPath: .spec.image}]
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Image, type: string, jsonPath: .spec.image, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
"#;

const CRON_TAB: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec:
  cronSpec: "* * * * */5"
  extra: {anything: [{goes: true}]}
"#;

fn defined(cluster: &Cluster) {
    cluster.apply(CRON_TABS).prints(
        "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created",
    );
    cluster
        .kubectl("wait --for=condition=Established crd/crontabs.stable.example.com --timeout=180s")
        .prints("condition met");
}

#[test]
fn a_custom_kind_is_a_kind_like_any_other() {
    let Some(cluster) = Cluster::start() else { return };
    defined(&cluster);
    // In one server, nobody is told of a kind before it is there.
    cluster.apply(CRON_TAB).prints("crontab.stable.example.com/mine created");
    cluster.apply(CRON_TAB).prints("crontab.stable.example.com/mine unchanged");
    let mine = cluster.get("crontab mine");
    assert_eq!(mine["spec"]["image"], "nginx", "a default");
    assert_eq!(mine["spec"]["extra"]["anything"][0]["goes"], true);
    assert_eq!(mine["metadata"]["generation"], 1);
    let table = cluster.kubectl("get ct").ok().stdout;
    assert!(
        table.starts_with("NAME   SPEC          REPLICAS   AGE\nmine   * * * * */5   1"),
        "{table}"
    );
    cluster.kubectl("get crontabs -o wide").prints("IMAGE");
    cluster.kubectl("get all").prints("crontab.stable.example.com/mine");
    cluster.kubectl("get ct --field-selector spec.image=nginx -o name").prints("mine");
    assert_eq!(cluster.kubectl("get ct --field-selector spec.image=x -o name").ok().stdout, "");
    cluster
        .kubectl("get ct --field-selector spec.mode=x")
        .fails_with("field label not supported: spec.mode");
    cluster.kubectl("describe ct mine").prints("Cron Spec:");
    cluster.kubectl("label ct mine a=b").prints("labeled");
    cluster.apply(&CRON_TAB.replace("*/5", "*/4")).prints("configured");
    cluster.apply(CRON_TAB).prints("configured");
    cluster
        .kubectl_args(&["patch", "ct", "mine", "--type=merge", "-p", r#"{"spec":{"replicas":3}}"#])
        .prints("patched");
    assert_eq!(cluster.get("ct mine")["metadata"]["generation"], 4);
    cluster
        .kubectl_args(&["patch", "ct", "mine", "-p", r#"{"spec":{"replicas":3}}"#])
        .fails_with("application/strategic-merge-patch+json");
    // Writes of the status change nothing else, and others not the status.
    cluster
        .kubectl_args(&[
            "patch",
            "ct",
            "mine",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"spec":{"replicas":9},"status":{"phase":"Up","replicas":2,"selector":"a=b"}}"#,
        ])
        .ok();
    let mine = cluster.get("ct mine");
    assert_eq!(
        (mine["spec"]["replicas"].as_i64(), mine["status"]["phase"].as_str()),
        (Some(3), Some("Up"))
    );
    assert_eq!(mine["metadata"]["generation"], 4);
    cluster.kubectl("scale ct mine --replicas=5").prints("scaled");
    assert_eq!(cluster.get("ct mine")["spec"]["replicas"], 5);
    cluster
        .kubectl("get --raw /apis/stable.example.com/v1/namespaces/default/crontabs/mine/scale")
        .prints(r#""selector":"a=b""#);
    cluster
        .kubectl("scale ct mine --replicas=50")
        .fails_with("spec.replicas in body should be less than or equal to 10");
    cluster
        .kubectl("api-resources --api-group=stable.example.com")
        .prints("crontabs   ct           stable.example.com/v1   true         CronTab");
    cluster.kubectl("delete ct mine").prints("deleted");
    cluster.kubectl("get ct mine").fails_with(r#"crontabs.stable.example.com "mine" not found"#);
}

#[test]
fn what_the_schema_does_not_allow_is_told_in_upstreams_words() {
    let Some(cluster) = Cluster::start() else { return };
    defined(&cluster);
    let with = |line: &str| CRON_TAB.replace("  cronSpec:", &format!("  {line}\n  cronSpec:"));
    for (object, words) in [
        (
            with("replicas: 0"),
            r#"spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"#,
        ),
        (
            with("replicas: a"),
            r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#,
        ),
        (with("mode: x"), r#"spec.mode: Unsupported value: "x": supported values: "Fast", "Slow""#),
        (with("ports: [{port: 1}, {port: 1}]"), r#"spec.ports[1]: Duplicate value: {"port":1}"#),
        (CRON_TAB.replace("cronSpec", "cronSpecs"), "spec.cronSpec: Required value"),
        (CRON_TAB.replace("* * * * */5", "x"), "spec.cronSpec in body should match"),
    ] {
        cluster.kubectl_with_input("create --validate=false -f -", &object).fails_with(words);
    }
    cluster
        .kubectl_with_input("create --validate=strict -f -", &with("more: 1"))
        .fails_with(r#"unknown field "spec.more""#);
    let run = cluster.kubectl_with_input("create --validate=warn -f -", &with("more: 1")).ok();
    assert!(run.stderr.contains(r#"Warning: unknown field "spec.more""#), "{}", run.stderr);
    assert!(cluster.get("ct mine")["spec"].get("more").is_none(), "what nobody knows is pruned");
}

#[test]
fn a_deleted_definition_takes_its_objects_with_it() {
    let Some(cluster) = Cluster::start() else { return };
    defined(&cluster);
    cluster.kubectl("create namespace other").ok();
    cluster.apply(CRON_TAB).ok();
    let held = CRON_TAB
        .replace("{name: mine}", "{name: held, namespace: other, finalizers: [example.com/f]}");
    cluster.apply(&held).ok();
    cluster.kubectl("delete crd crontabs.stable.example.com --wait=false").prints("deleted");
    cluster.kubectl("wait --for=delete ct/mine --timeout=180s").ok();
    // One object is not let go yet, so the kind is there and takes no more.
    cluster.kubectl("get ct held -n other").prints("held");
    cluster
        .kubectl_with_input("create -f -", &CRON_TAB.replace("mine", "late"))
        .fails_with("create not allowed while custom resource definition is terminating");
    cluster
        .kubectl_args(&[
            "patch",
            "ct",
            "held",
            "-n",
            "other",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ])
        .ok();
    cluster.kubectl("wait --for=delete crd/crontabs.stable.example.com --timeout=180s").ok();
    cluster.kubectl("get ct").fails_with("could not find the requested resource");
    // Defined again, it begins empty.
    defined(&cluster);
    assert_eq!(cluster.kubectl("get ct -A -o name").ok().stdout, "");
}

#[test]
fn versions_are_one_object_under_two_names() {
    let Some(mut cluster) = Cluster::start() else { return };
    defined(&cluster);
    cluster.apply(CRON_TAB).ok();
    let second = CRON_TABS.replace(
        "  - name: v1\n    served: true\n    storage: true",
        "  - name: v2\n    served: true\n    storage: true",
    );
    let (head, versions) = second.split_once("  versions:\n").expect("versions");
    let first = CRON_TABS.split_once("  versions:\n").expect("versions").1;
    let first = first
        .replace("storage: true", "storage: false\n    deprecated: true")
        .replace("default: nginx", "default: old");
    cluster.apply(&format!("{head}  versions:\n{versions}{first}")).prints("configured");
    cluster
        .kubectl("get crontabs.v2.stable.example.com mine -o jsonpath={.apiVersion}")
        .prints("stable.example.com/v2");
    let old = cluster
        .kubectl("get crontabs.v1.stable.example.com mine -o jsonpath={.apiVersion}")
        .prints("stable.example.com/v1");
    assert!(old.stderr.contains("Warning: stable.example.com/v1 CronTab is deprecated; use stable.example.com/v2 CronTab"), "{}", old.stderr);
    let stored = cluster.get("crd crontabs.stable.example.com");
    assert_eq!(stored["status"]["storedVersions"], serde_json::json!(["v1", "v2"]));
    cluster
        .apply(&CRON_TAB.replace("example.com/v1", "example.com/v2").replace("*/5", "*/6"))
        .prints("configured");
    cluster
        .kubectl("get crontabs.v1.stable.example.com mine -o jsonpath={.spec.cronSpec}")
        .prints("*/6");
    // Objects and kinds are there again after a restart, from the first answer on.
    cluster.kill_server();
    cluster.start_server();
    cluster.kubectl("get ct mine").prints("* * * * */6");
}

#[test]
fn a_definition_that_cannot_be_is_refused_and_names_belong_to_the_first() {
    let Some(cluster) = Cluster::start() else { return };
    cluster
        .apply(&CRON_TABS.replace("{type: string, default: nginx}", "{default: nginx}"))
        .fails_with("properties[spec].properties[image].type: Required value: must not be empty for specified object fields");
    defined(&cluster);
    let rival = CRON_TABS
        .replace("crontabs", "tables")
        .replace("singular: crontab", "singular: table")
        .replace("kind: CronTab", "kind: Table");
    cluster.apply(&rival).ok();
    cluster
        .kubectl(
            "wait --for=condition=NamesAccepted=false crd/tables.stable.example.com --timeout=180s",
        )
        .ok();
    let rival = cluster.get("crd tables.stable.example.com");
    let conditions = rival["status"]["conditions"].as_array().expect("conditions");
    assert_eq!(conditions[0]["reason"], "ShortNamesConflict");
    assert_eq!(conditions[0]["message"], r#""ct" is already in use"#);
    // The name is free once its owner is gone.
    cluster.kubectl("delete crd crontabs.stable.example.com").ok();
    cluster
        .kubectl("wait --for=condition=Established crd/tables.stable.example.com --timeout=180s")
        .ok();
    cluster.kubectl("get ct").ok();
}

/// A definition of `KINDs` with these versions: name, whether it is served, schema.
fn kind_of(group: &str, kind: &str, versions: &[(&str, bool, serde_json::Value)]) -> String {
    let (one, storage) = (kind.to_lowercase(), versions[0].0);
    let version = |(name, served, schema): &(&str, bool, serde_json::Value)| {
        serde_json::json!({
            "name": name, "served": served, "storage": *name == storage,
            "schema": {"openAPIV3Schema": schema},
        })
    };
    let versions: Vec<_> = versions.iter().map(version).collect();
    serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{one}s.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": format!("{one}s"), "kind": kind},
        },
    })
    .to_string()
}

#[test]
fn schemas_are_published_as_long_as_they_are_served() {
    let Some(cluster) = Cluster::start() else { return };
    let published = |name: &str| {
        let document = cluster.kubectl("get --raw /openapi/v2").ok().stdout;
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        let version = name.split('.').nth_back(1).expect("a version");
        let path = format!("get --raw /openapi/v3/apis/shop.example.com/{version}");
        let third = cluster.kubectl(&path).stdout;
        let found = document["definitions"].get(name).cloned();
        assert_eq!(third.contains(&format!("{name:?}:")), found.is_some(), "{name}: {third}");
        found
    };
    let colour = serde_json::json!({"type": "object", "properties": {"spec": {
        "type": "object", "required": ["colour"],
        "properties": {"colour": {"type": "string", "description": "How it looks."}},
    }}});
    let open = serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let inside = serde_json::json!({"type": "object", "properties": {
        "template": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        },
    }});
    const HATS: &str = "com.example.shop.v1.Hat";
    let hats = |second: &str, served| {
        let versions = [("v1", true, colour.clone()), (second, served, colour.clone())];
        cluster.apply(&kind_of("shop.example.com", "Hat", &versions)).ok();
    };
    hats("v2", true);
    // Kinds of the same group and version, and of another group.
    cluster.apply(&kind_of("shop.example.com", "Bag", &[("v1", true, open)])).ok();
    cluster.apply(&kind_of("shop.example.com", "Box", &[("v1", true, inside)])).ok();
    cluster.apply(&kind_of("lab.example.com", "Hat", &[("v1", true, colour.clone())])).ok();
    cluster
        .kubectl(
            "wait --for=condition=Established --timeout=180s crd/hats.shop.example.com \
             crd/bags.shop.example.com crd/boxs.shop.example.com crd/hats.lab.example.com",
        )
        .ok();
    let hat = published(HATS).expect("served");
    assert_eq!(hat["x-kubernetes-group-version-kind"][0]["kind"], "Hat");
    assert_eq!(hat["properties"]["spec"]["properties"]["colour"]["description"], "How it looks.");
    assert!(
        hat["properties"]["metadata"]["$ref"].as_str().is_some_and(|r| r.ends_with("ObjectMeta"))
    );
    for name in ["v2.Hat", "v1.Bag", "v1.Box"] {
        assert!(published(&format!("com.example.shop.{name}")).is_some(), "{name}");
    }
    let document = cluster.kubectl("get --raw /openapi/v2").ok().stdout;
    assert!(document.contains("\"com.example.lab.v1.Hat\":"));
    cluster.kubectl("explain hats.shop.example.com.spec.colour").prints("How it looks.");
    cluster
        .kubectl("explain hats.shop.example.com.spec.size")
        .fails_with(r#"field "size" does not exist"#);
    cluster.kubectl("explain bags").prints("KIND:       Bag");
    cluster.kubectl("explain boxs.template.metadata").prints("ObjectMeta");
    // What a schema leaves open is taken, what it does not know is not.
    let object = |kind: &str, rest: &str| {
        format!("apiVersion: shop.example.com/v1\nkind: {kind}\nmetadata: {{name: a}}\n{rest}\n")
    };
    for (kind, rest) in [
        ("Bag", "a: {b: [1]}"),
        ("Box", "template: {apiVersion: v1, kind: Pod, metadata: {name: x}, any: {thing: 1}}"),
        ("Hat", "spec: {colour: red}"),
    ] {
        cluster.kubectl_with_input("create --validate=strict -f -", &object(kind, rest)).ok();
    }
    for (rest, wrong) in [
        ("spec: {colour: red, size: 1}", r#"unknown field "spec.size""#),
        ("spec: {}", "spec.colour: Required value"),
    ] {
        let hat = object("Hat", rest).replace("name: a", "name: b");
        cluster.kubectl_with_input("create --validate=strict -f -", &hat).fails_with(wrong);
    }
    let mistaken = object("Hat", "spec: {colour: red}").replace("name: a", "name: b, nome: c");
    cluster
        .kubectl_with_input("create --validate=strict -f -", &mistaken)
        .fails_with(r#"unknown field "metadata.nome""#);
    let mistaken = "template: {apiVersion: v1, kind: Pod, metadata: {name: x, nome: y}}";
    let mistaken = object("Box", mistaken).replace("metadata: {name: a}", "metadata: {name: b}");
    cluster
        .kubectl_with_input("create --validate=strict -f -", &mistaken)
        .fails_with(r#"unknown field "template.metadata.nome""#);
    // A version that is renamed, and one that is served no more.
    hats("v3", true);
    assert!(published("com.example.shop.v2.Hat").is_none());
    assert!(published("com.example.shop.v3.Hat").is_some());
    hats("v3", false);
    assert!(published("com.example.shop.v3.Hat").is_none());
    assert!(published(HATS).is_some());
    cluster.kubectl("delete crd hats.shop.example.com").ok();
    cluster.kubectl("wait --for=delete crd/hats.shop.example.com --timeout=180s").ok();
    assert!(published(HATS).is_none());
}

//! Webhooks that admit: configured, asked, believed, and passed over when they may
//! be. The one that is asked is a program beside the cluster, behind a Service.

use std::{process::Child, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{COME_TRUE_MAX, Place, Shown, definitions, show, story};
use crate::{
    cluster::Cluster,
    stories::{conformance::accounts, conversion},
};

const SERVICE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: hooks}
---
apiVersion: v1
kind: Service
metadata: {name: e2e-test-webhook, namespace: hooks}
spec: {ports: [{port: 8443, targetPort: 9443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e2e-test-webhook-1, namespace: hooks, labels: {kubernetes.io/service-name: e2e-test-webhook}}
addressType: IPv4
ports: [{port: 9443, protocol: TCP, name: ""}]
endpoints: [{addresses: [192.168.77.1], conditions: {ready: true}}]
"#;

const API: &str = "/apis/admissionregistration.k8s.io/v1";

pub(super) const HOOKS: &[Shown] = &[
    story(
        listed,
        &[
            "AdmissionWebhook listing mutating webhooks should work",
            "AdmissionWebhook listing validating webhooks should work",
        ],
    ),
    story(
        changed,
        &[
            "AdmissionWebhook patching/updating a mutating webhook should work",
            "AdmissionWebhook patching/updating a validating webhook should work",
        ],
    ),
    story(
        with_conditions,
        &[
            "AdmissionWebhook should be able to create and update mutating webhook configurations with match conditions",
            "AdmissionWebhook should be able to create and update validating webhook configurations with match conditions",
            "AdmissionWebhook should reject mutating webhook configurations with invalid match conditions",
            "AdmissionWebhook should reject validating webhook configurations with invalid match conditions",
        ],
    ),
    story(all_but_one, &["AdmissionWebhook should mutate everything except 'skip-me' configmaps"]),
    story(attaching, &["AdmissionWebhook should be able to deny attaching pod"]),
    story(pods_and_maps, &["AdmissionWebhook should be able to deny pod and configmap creation"]),
    story(
        custom_objects,
        &["AdmissionWebhook should be able to deny custom resource creation, update and deletion"],
    ),
    story(definition, &["AdmissionWebhook should deny crd creation"]),
    story(in_time, &["AdmissionWebhook should honor timeout"]),
    story(one_after_the_other, &["AdmissionWebhook should mutate configmap"]),
    story(defaulted, &["AdmissionWebhook should mutate pod and apply defaults after mutation"]),
    story(custom_changed, &["AdmissionWebhook should mutate custom resource"]),
    story(
        custom_of_another_version,
        &["AdmissionWebhook should mutate custom resource with different stored version"],
    ),
    story(custom_pruned, &["AdmissionWebhook should mutate custom resource with pruning"]),
    story(
        not_of_themselves,
        &[
            "AdmissionWebhook should not be able to mutate or prevent deletion of webhook configuration objects",
        ],
    ),
    story(
        fail_closed,
        &["AdmissionWebhook should unconditionally reject operations on fail closed webhook"],
    ),
];

/// The two kinds of configurations.
const VALIDATING: &str = "validatingwebhookconfigurations";
const MUTATING: &str = "mutatingwebhookconfigurations";

fn rule(operations: &[&str], group: &str, versions: &[&str], resource: &str) -> Value {
    json!([{"operations": operations, "apiGroups": [group], "apiVersions": versions, "resources": [resource]}])
}

fn of_maps(operations: &[&str]) -> Value {
    rule(operations, "", &["v1"], "configmaps")
}

/// A webhook that is asked about what happens in the story's namespace.
fn webhook(place: &Place, name: &str, path: &str, rules: Value) -> Value {
    let ca = std::fs::read(place.cluster.path("ca.crt")).expect("openssl wrote it");
    json!({
        "name": format!("{name}.k8s.io"), "rules": rules, "sideEffects": "None",
        "admissionReviewVersions": ["v1", "v1beta1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "clientConfig": {"caBundle": STANDARD.encode(ca), "service": {
            "namespace": "hooks", "name": "e2e-test-webhook", "path": path, "port": 8443}},
    })
}

fn configuration(place: &Place, plural: &str, name: &str, webhooks: &[Value]) -> Value {
    let kind = match plural {
        VALIDATING => "ValidatingWebhookConfiguration",
        _ => "MutatingWebhookConfiguration",
    };
    let name = format!("{}-{name}", place.namespace);
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": {"suite": place.namespace}}, "webhooks": webhooks})
}

/// Makes a configuration, and gives its path.
fn configured(place: &Place, plural: &str, name: &str, webhooks: &[Value]) -> String {
    let object = configuration(place, plural, name, webhooks);
    let made = place.send("POST", &format!("{API}/{plural}"), &object);
    assert_eq!(made.warnings(), Vec::<String>::new());
    let name = made.ok()["metadata"]["name"].clone();
    format!("{API}/{plural}/{}", name.as_str().expect("a name"))
}

fn maps(place: &Place) -> String {
    place.path("api/v1", "configmaps")
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn unwanted() -> Value {
    json!({"webhook-e2e-test": "webhook-disallow"})
}

const REFUSED: &str = "denied the request: the configmap contains unwanted key and value";

/// Whether a ConfigMap that nobody wants is refused; it is not kept.
fn refuses_maps(place: &Place) -> bool {
    let made = place.send("POST", &maps(place), &map("asked", unwanted()));
    if made.code == 201 {
        let patch = json!({"data": {"webhook-e2e-test": null}});
        place.send("PATCH", &format!("{}/asked", maps(place)), &patch);
        place.send_with("DELETE", &format!("{}/asked", maps(place)), &[], "");
        return false;
    }
    assert!(made.body.contains(REFUSED), "{made:?}");
    true
}

/// What becomes of a ConfigMap that says `mutation-start`; it is not kept.
fn stages(place: &Place) -> Value {
    let made = place.post(&maps(place), &map("stages", json!({"mutation-start": "yes"})));
    place.remove(&format!("{}/stages", maps(place)));
    made["data"].clone()
}

fn both_stages() -> Value {
    json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"})
}

fn pods_and_maps(place: &Place) {
    let path = configured(
        place,
        VALIDATING,
        "deny",
        &[
            webhook(place, "deny-unwanted-pod", "/pods", rule(&["CREATE"], "", &["v1"], "pods")),
            webhook(
                place,
                "deny-unwanted-configmap-data",
                "/configmaps",
                of_maps(&["CREATE", "UPDATE", "DELETE"]),
            ),
        ],
    );
    place.until("the webhook is asked", || refuses_maps(place));
    let mut pod = accounts::pod("disallowed-pod", &json!({"nodeSelector": {"nowhere": "yes"}}));
    pod["metadata"]["labels"] = json!({"webhook-e2e-test": "webhook-disallow"});
    pod["spec"]["containers"][0]["name"] = json!("webhook-disallow");
    let status = place.send("POST", &place.path("api/v1", "pods"), &pod).refuses(
        400,
        r#"admission webhook "deny-unwanted-pod.k8s.io" denied the request: the pod contains unwanted container name; the pod contains unwanted label"#,
    );
    assert_eq!(status["status"], "Failure");
    // And as kubectl tells it.
    let line = format!("create -n {} -f -", place.namespace);
    place
        .cluster
        .kubectl_with_input(&line, &pod.to_string())
        .fails_with("the pod contains unwanted");
    let good = accounts::pod("allowed-pod", &json!({"nodeSelector": {"nowhere": "yes"}}));
    place.post(&place.path("api/v1", "pods"), &good);

    place.post(&maps(place), &map("allowed", json!({"admit": "this"})));
    let one = format!("{}/allowed", maps(place));
    place.send("PUT", &one, &map("allowed", unwanted())).refuses(400, REFUSED);
    place.send("PATCH", &one, &json!({"data": unwanted()})).refuses(400, REFUSED);
    assert_eq!(place.read(&one)["data"], json!({"admit": "this"}));
    // A dry run asks as well.
    let dry = format!("{}?dryRun=All", maps(place));
    place.send("POST", &dry, &map("dry", unwanted())).refuses(400, REFUSED);
    // Elsewhere nobody is asked.
    let elsewhere = format!("{}-elsewhere", place.namespace);
    place.kubectl(&format!("create namespace {elsewhere}")).ok();
    let there = format!("/api/v1/namespaces/{elsewhere}/configmaps");
    place.post(&there, &map("free", unwanted()));
    place.kubectl(&format!("delete namespace {elsewhere} --wait=false")).ok();
    place.remove(&path);
    place.until("the webhook is forgotten", || !refuses_maps(place));
}

fn attaching(place: &Place) {
    accounts::runs(place, &accounts::pod("to-be-attached-pod", &json!({})));
    let attach = || place.kubectl("attach to-be-attached-pod -c c --quiet");
    let rules = rule(&["CONNECT"], "", &["v1"], "pods/attach");
    let path = configured(
        place,
        VALIDATING,
        "attach",
        &[webhook(place, "deny-attaching-pod", "/pods/attach", rules)],
    );
    let query = "attach?container=c&stdin=false&stdout=true";
    let asked = place.path("api/v1", &format!("pods/to-be-attached-pod/{query}"));
    place.until("the webhook is asked", || {
        place.send_with("POST", &asked, &[], "").body.contains("is not allowed")
    });
    attach().fails_with("attaching to pod 'to-be-attached-pod' is not allowed");
    // What is not attaching goes on.
    place.kubectl("exec to-be-attached-pod -- toolbox echo fine").prints("fine");
    place.remove(&path);
}

/// A kind whose objects have `data`.
fn kind(place: &Place, singular: &str, fields: &[&str]) -> Value {
    let mut definition = definitions::simple(place, singular);
    let fields: serde_json::Map<_, _> =
        fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
    let schema = match fields.is_empty() {
        true => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        false => {
            json!({"type": "object", "properties": {"data": {"type": "object", "properties": fields}}})
        }
    };
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
        {"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}},
    ]);
    definitions::establish(place, &definition);
    definition
}

fn of_kind(definition: &Value, operations: &[&str], versions: &[&str]) -> Value {
    let spec = &definition["spec"];
    let (group, plural) = (&spec["group"], &spec["names"]["plural"]);
    rule(operations, group.as_str().expect("a group"), versions, plural.as_str().expect("a plural"))
}

fn custom_objects(place: &Place) {
    let definition = kind(place, "denied", &[]);
    let rules = of_kind(&definition, &["CREATE", "UPDATE", "DELETE"], &["*"]);
    let path = configured(
        place,
        VALIDATING,
        "custom",
        &[webhook(place, "deny-unwanted-custom-resource-data", "/custom-resource", rules)],
    );
    let collection = definitions::objects(place, &definition, "v1");
    let object = |name: &str, data: &Value| {
        definitions::object(&definition, "v1", name, &json!({"data": data}))
    };
    const SAID: &str = "the custom resource contains unwanted data";
    place.until("the webhook is asked", || {
        let made = place.send("POST", &collection, &object("refused", &unwanted()));
        made.code == 400 && made.body.contains(SAID)
    });
    place.send_with("GET", &format!("{collection}/refused"), &[], "").is(404);
    place.post(&collection, &object("held", &json!({"webhook-e2e-test": "webhook-nondeletable"})));
    let one = format!("{collection}/held");
    place.send("PATCH", &one, &json!({"data": unwanted()})).refuses(400, SAID);
    // What is there without having been asked about cannot be deleted.
    place.remove(&path);
    place.until("the webhook is forgotten", || {
        place.send("PATCH", &one, &json!({"data": unwanted()})).code == 200
    });
    let rules = of_kind(&definition, &["CREATE", "UPDATE", "DELETE"], &["*"]);
    let path = configured(
        place,
        VALIDATING,
        "again",
        &[webhook(place, "deny-unwanted-custom-resource-data", "/custom-resource", rules)],
    );
    place.until("the webhook is asked", || {
        place.send("PATCH", &one, &json!({"metadata": {"labels": {"a": "b"}}})).code == 400
    });
    place.send_with("DELETE", &one, &[], "").refuses(400, SAID);
    place.send("PATCH", &one, &json!({"data": {"webhook-e2e-test": "fine"}})).ok();
    place.remove(&one);
    place.remove(&path);
    definitions::remove(place, &definition);
}

fn fail_closed(place: &Place) {
    let mut nobody = webhook(place, "fail-closed", "/configmaps", of_maps(&["CREATE"]));
    nobody["clientConfig"]["service"]["name"] = json!("webhook-nobody");
    nobody["failurePolicy"] = json!("Fail");
    let path = configured(place, VALIDATING, "closed", &[nobody]);
    let create = || place.send("POST", &maps(place), &map("closed", json!({})));
    place.until("the webhook is asked", || {
        let made = create();
        if made.code == 201 {
            place.remove(&format!("{}/closed", maps(place)));
        }
        made.code == 500
    });
    let status = create().refuses(500, r#"failed calling webhook "fail-closed.k8s.io": failed to call webhook: Post "https://webhook-nobody.hooks.svc:8443/configmaps?timeout=10s": service "webhook-nobody" not found"#);
    assert_eq!(status["reason"], "InternalError");
    place.remove(&path);
}

fn one_after_the_other(place: &Place) {
    let stage = |number: u8| {
        let name = format!("adding-configmap-data-stage-{number}");
        webhook(place, &name, "/mutating-configmaps", of_maps(&["CREATE"]))
    };
    let path = configured(place, MUTATING, "stages", &[stage(1), stage(2)]);
    place.until("both webhooks are asked", || stages(place) == both_stages());
    place.remove(&path);
}

fn defaulted(place: &Place) {
    let rules = rule(&["CREATE"], "", &["v1"], "pods");
    let path = configured(
        place,
        MUTATING,
        "pods",
        &[webhook(place, "adding-init-container", "/mutating-pods", rules)],
    );
    let pods = place.path("api/v1", "pods");
    let pod = accounts::pod("webhook-to-be-mutated", &json!({"nodeSelector": {"nowhere": "yes"}}));
    let mut made = Value::Null;
    place.until("the webhook is asked", || {
        made = place.post(&pods, &pod);
        place
            .send(
                "DELETE",
                &format!("{pods}/webhook-to-be-mutated"),
                &json!({"gracePeriodSeconds": 0}),
            )
            .ok();
        made["spec"]["initContainers"].is_array()
    });
    let added = &made["spec"]["initContainers"][0];
    assert_eq!(added["name"], "webhook-added-init-container");
    assert_eq!(added["terminationMessagePolicy"], "File");
    // What the server adds to every container it adds to this one as well.
    assert_eq!(
        added["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    place.remove(&path);
}

fn not_of_themselves(place: &Place) {
    let rules = rule(&["*"], "admissionregistration.k8s.io", &["*"], "*");
    let everywhere = |name: &str, path: &str| {
        let mut hook = webhook(place, name, path, rules.clone());
        hook["objectSelector"] = json!({"matchLabels": {"suite": place.namespace}});
        hook.as_object_mut().expect("an object").remove("namespaceSelector");
        hook
    };
    let marks = of_maps(&["CREATE"]);
    let mark = webhook(place, "mark", "/configmaps", marks);
    let denying = configured(
        place,
        VALIDATING,
        "deny-all",
        &[everywhere("deny-webhook-configuration-deletions", "/always-deny"), mark],
    );
    let changing = configured(
        place,
        MUTATING,
        "label-all",
        &[everywhere("add-label-to-webhook-configurations", "/add-label")],
    );
    place.until("the configuration is known", || refuses_maps(place));
    for plural in [VALIDATING, MUTATING] {
        let mut dummy = webhook(place, "dummy", "/always-allow", of_maps(&["CREATE"]));
        dummy["namespaceSelector"] = json!({"matchLabels": {"nobody": "has-this"}});
        let object = configuration(place, plural, "dummy", &[dummy]);
        let made = place.post(&format!("{API}/{plural}"), &object);
        assert!(made["metadata"]["labels"]["added-label"].is_null(), "{made}");
        let name = made["metadata"]["name"].as_str().expect("a name");
        place.remove(&format!("{API}/{plural}/{name}"));
    }
    place.remove(&denying);
    place.remove(&changing);
}

fn custom_changed(place: &Place) {
    let definition = kind(place, "changed", &[]);
    let made = staged(place, &definition, "v1");
    assert_eq!(made["data"], both_stages());
    definitions::remove(place, &definition);
}

/// A custom object that two webhooks changed, which ask for `v1`.
fn staged(place: &Place, definition: &Value, version: &str) -> Value {
    let stage = |number: u8| {
        let rules = of_kind(definition, &["CREATE", "UPDATE"], &["v1"]);
        webhook(
            place,
            &format!("mutate-custom-resource-data-stage-{number}"),
            "/mutating-custom-resource",
            rules,
        )
    };
    let path = configured(place, MUTATING, "custom", &[stage(1), stage(2)]);
    let collection = definitions::objects(place, definition, version);
    let rest = json!({"data": {"mutation-start": "yes"}});
    let object = definitions::object(definition, version, "cr-instance-1", &rest);
    let mut made = Value::Null;
    place.until("both webhooks are asked", || {
        made = place.post(&collection, &object);
        place.remove(&format!("{collection}/cr-instance-1"));
        !made["data"]["mutation-stage-1"].is_null()
    });
    place.remove(&path);
    made
}

fn custom_of_another_version(place: &Place) {
    let definition = kind(place, "stored", &[]);
    // Whoever asks for v1 hears of requests in v2 as well, in v1.
    let made = staged(place, &definition, "v2");
    assert_eq!(
        (&made["data"], &made["apiVersion"]),
        (
            &both_stages(),
            &json!(format!("{}/v2", definition["spec"]["group"].as_str().expect("a group")))
        )
    );
    let stage = webhook(
        place,
        "mutate-custom-resource-data",
        "/mutating-custom-resource",
        of_kind(&definition, &["CREATE", "UPDATE"], &["v1"]),
    );
    let path = configured(place, MUTATING, "stored", &[stage]);
    let first = definitions::objects(place, &definition, "v1");
    let object =
        definitions::object(&definition, "v1", "kept", &json!({"data": {"mutation-start": "yes"}}));
    place.post(&first, &object);
    // From now on v2 is stored.
    let name = definition["metadata"]["name"].as_str().expect("a name");
    let flip = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    let one = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    place
        .send_with("PATCH", &one, &["Content-Type: application/json-patch+json"], &flip.to_string())
        .ok();
    let second = definitions::objects(place, &definition, "v2");
    place.until("the change is seen", || {
        let patch = json!({"data": {"dummy": "test"}});
        let patched = place.send("PATCH", &format!("{second}/kept"), &patch).ok();
        patched["data"]["mutation-stage-1"] == "yes" && patched["data"]["dummy"] == "test"
    });
    place.remove(&path);
    definitions::remove(place, &definition);
}

fn custom_pruned(place: &Place) {
    let definition = kind(place, "pruned", &["mutation-start", "mutation-stage-1"]);
    let made = staged(place, &definition, "v1");
    assert_eq!(made["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes"}));
    definitions::remove(place, &definition);
}

fn definition(place: &Place) {
    let rules = rule(&["CREATE"], "apiextensions.k8s.io", &["*"], "customresourcedefinitions");
    let mut hook = webhook(place, "deny-crd-with-unwanted-label", "/crd", rules);
    hook["objectSelector"] = json!({"matchLabels": {"webhook-e2e-test": "webhook-disallow"}});
    let path = configured(place, VALIDATING, "crd", &[hook]);
    let mut definition = definitions::simple(place, "unwanted");
    definition["metadata"]["labels"] = json!({"webhook-e2e-test": "webhook-disallow"});
    let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
    place.until("the webhook is asked", || place.send("POST", all, &definition).code == 400);
    place.send("POST", all, &definition).refuses(400, "the crd contains unwanted label");
    place.remove(&path);
}

fn in_time(place: &Place) {
    // seconds, policy, and what is said where it is refused
    for (seconds, policy, said) in [
        (Some(1), "Fail", Some("/always-allow-delay-5s?timeout=1s\": context deadline exceeded")),
        (Some(1), "Ignore", None),
        (Some(10), "Fail", None),
        (None, "Fail", None),
    ] {
        let mut slow = webhook(
            place,
            "allow-configmap-with-delay",
            "/always-allow-delay-5s",
            of_maps(&["CREATE"]),
        );
        slow["failurePolicy"] = json!(policy);
        if let Some(seconds) = seconds {
            slow["timeoutSeconds"] = json!(seconds);
        }
        let mark = webhook(place, "mark", "/configmaps", of_maps(&["UPDATE"]));
        let path = configured(place, VALIDATING, "slow", &[slow, mark]);
        let hooks = place.read(&path)["webhooks"].clone();
        assert_eq!(hooks[0]["timeoutSeconds"], seconds.unwrap_or(10));
        // The configuration is known once its other webhook is asked.
        let marked = format!("{}/kube-root-ca.crt", maps(place));
        place.until("the configuration is known", || {
            place.send("PATCH", &format!("{marked}?dryRun=All"), &json!({"data": unwanted()})).code
                == 400
        });
        let began = Instant::now();
        let made = place.send("POST", &maps(place), &map("slow", json!({})));
        match said {
            Some(said) => {
                made.refuses(500, said);
                assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
            }
            None => {
                made.is(201);
                place.remove(&format!("{}/slow", maps(place)));
            }
        }
        place.remove(&path);
    }
}

fn changed(place: &Place) {
    // Whom nobody wants is refused while creations are asked about.
    let refusing =
        |operations: &[&str]| webhook(place, "changes", "/configmaps", of_maps(operations));
    let path = configured(place, VALIDATING, "changes", &[refusing(&["CREATE"])]);
    place.until("the webhook is asked", || refuses_maps(place));
    let mut whole = place.read(&path);
    whole["webhooks"][0]["rules"] = of_maps(&["UPDATE"]);
    place.send("PUT", &path, &whole).ok();
    place.until("it is asked no more", || !refuses_maps(place));
    let patch = json!({"webhooks": [refusing(&["CREATE"])]});
    place.send("PATCH", &path, &patch).ok();
    place.until("it is asked again", || refuses_maps(place));
    place.remove(&path);

    let staging =
        |operations: &[&str]| webhook(place, "stages", "/mutating-configmaps", of_maps(operations));
    let path = configured(place, MUTATING, "changes", &[staging(&["CREATE"])]);
    let is_changed = || stages(place)["mutation-stage-1"] == "yes";
    place.until("the webhook is asked", is_changed);
    let mut whole = place.read(&path);
    whole["webhooks"][0]["rules"] = of_maps(&["UPDATE"]);
    place.send("PUT", &path, &whole).ok();
    place.until("it is asked no more", || !is_changed());
    place.send("PATCH", &path, &json!({"webhooks": [staging(&["CREATE"])]})).ok();
    place.until("it is asked again", is_changed);
    place.remove(&path);
}

fn listed(place: &Place) {
    for plural in [VALIDATING, MUTATING] {
        let (path, done): (_, &dyn Fn() -> bool) = match plural {
            VALIDATING => ("/configmaps", &|| refuses_maps(place)),
            _ => ("/mutating-configmaps", &|| stages(place)["mutation-stage-1"] == "yes"),
        };
        for number in 0..3 {
            let hook = webhook(place, &format!("listed-{number}"), path, of_maps(&["CREATE"]));
            configured(place, plural, &format!("listed-{number}"), &[hook]);
        }
        let selected = format!("{API}/{plural}?labelSelector=suite={}", place.namespace);
        assert_eq!(place.read(&selected)["items"].as_array().map(Vec::len), Some(3));
        place.until("they are asked", done);
        place.remove(&selected);
        assert_eq!(place.read(&selected)["items"], json!([]));
        place.until("they are forgotten", || !done());
    }
}

fn with_conditions(place: &Place) {
    for plural in [VALIDATING, MUTATING] {
        let collection = format!("{API}/{plural}");
        let mut hook = webhook(place, "conditions", "/always-allow", of_maps(&["CREATE"]));
        hook["matchConditions"] = json!([{"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}]);
        let path = configured(place, plural, "conditions", &[hook.clone()]);
        let mut whole = place.read(&path);
        assert_eq!(whole["webhooks"][0]["matchConditions"], hook["matchConditions"]);
        let more = json!([
            {"name": "expression-1", "expression": "object.metadata.namespace == 'production'"},
            {"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"},
        ]);
        whole["webhooks"][0]["matchConditions"] = more.clone();
        place.send("PUT", &path, &whole).ok();
        assert_eq!(place.read(&path)["webhooks"][0]["matchConditions"], more);
        place.remove(&path);
        hook["matchConditions"] =
            json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}]);
        let object = configuration(place, plural, "invalid", &[hook]);
        let status = place.send("POST", &collection, &object).refuses(422, "compilation failed");
        assert_eq!(status["reason"], "Invalid");
    }
}

fn all_but_one(place: &Place) {
    let mut hook = webhook(place, "skips", "/mutating-configmaps", of_maps(&["CREATE"]));
    hook["matchConditions"] =
        json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
    let path = configured(place, MUTATING, "skips", &[hook]);
    place.until("the webhook is asked", || stages(place)["mutation-stage-1"] == "yes");
    let start = json!({"mutation-start": "yes"});
    let skipped = place.post(&maps(place), &map("skip-me", start.clone()));
    assert_eq!(skipped["data"], start);
    place.remove(&path);
}

/// The webhooks, as long as it lives.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn webhooks_are_asked_as_conformance_wants() {
    let Some(cluster) = Cluster::start() else { return };
    let name = "e2e-test-webhook.hooks.svc";
    let Some(()) = conversion::certificates(&cluster.path("."), name) else { return };
    let Some(serving) = conversion::webhook(&cluster, "hooks.py").map(Serving) else { return };
    cluster.wait_node_ready();
    cluster.apply(SERVICE).ok();
    let address = cluster.get("service e2e-test-webhook -n hooks")["spec"]["clusterIP"].clone();
    let url = format!("https://{}:8443/", address.as_str().expect("an address"));
    // The node has the Service's address a moment later.
    let began = Instant::now();
    let mut reached = false;
    while !reached && began.elapsed() < COME_TRUE_MAX {
        let told = cluster.command("curl").args(["-sk", "--max-time", "1", &url]).output();
        reached = told.expect("curl").status.success();
    }
    assert!(reached, "nobody answers at {url}");
    show(&cluster, &[HOOKS]);
    drop(serving);
}

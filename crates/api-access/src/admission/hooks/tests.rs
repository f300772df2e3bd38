//! Requests against webhooks that answer from a table, and against policies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use api_registry::{Admission, Attributes, BoxFuture, Caller, Operation};
use api_schema::{Webhook as Place, tree};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    state::{
        MUTATING_BINDINGS, MUTATING_POLICIES, MUTATING_WEBHOOKS, NAMESPACES, VALIDATING_BINDINGS,
        VALIDATING_POLICIES, VALIDATING_WEBHOOKS,
    },
    testing::{World, settings, user, write},
};

/// Webhooks by the path of their URL: what each answers to a request.
type Answers = BTreeMap<&'static str, Answer>;
type Answer = fn(&Value) -> Result<Value, String>;

struct Hooks {
    answers: Answers,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Caller for Hooks {
    fn call<'a>(
        &'a self,
        webhook: &'a Place,
        review: &'a Value,
        _: u32,
    ) -> BoxFuture<'a, Result<Value, String>> {
        let path = webhook.url.rsplit('/').next().unwrap_or_default();
        let request = &review["request"];
        self.asked.lock().expect("no panic").push((path.to_owned(), request.clone()));
        let answer = self.answers[path](request).map(|mut response| {
            response["uid"] = request["uid"].clone();
            json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response})
        });
        Box::pin(std::future::ready(answer))
    }
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

fn world() -> (World, Arc<Hooks>) {
    let answers: [(&'static str, Answer); 8] = [
        ("yes", |_| Ok(json!({"allowed": true, "warnings": ["mind"]}))),
        ("no", |_| Ok(json!({"allowed": false, "status": {"message": "not today", "code": 402}}))),
        ("silent", |_| Ok(json!({"allowed": false}))),
        ("down", |_| Err("Post \"https://hook/down\": nobody there".into())),
        ("wrong", |_| Ok(json!({"allowed": true, "patch": "e30="}))),
        ("count", |request| {
            let old = tree::text(&request["object"], "data.count").len();
            let count = "x".repeat(old + 1);
            Ok(patch(&json!([{"op": "add", "path": "/data/count", "value": count}])))
        }),
        ("label", |_| {
            Ok(patch(&json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}])))
        }),
        ("spoil", |_| Ok(patch(&json!([{"op": "add", "path": "/data", "value": 7}])))),
    ];
    let hooks = Arc::new(Hooks { answers: BTreeMap::from(answers), asked: Mutex::default() });
    let mut settings = settings(&["10.43.0.0/16"]);
    settings.webhooks = Some(hooks.clone());
    let world = World::with(settings);
    world.add(
        NAMESPACES,
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "default", "labels": {"team": "a"}}, "status": {"phase": "Active"}}),
    );
    (world, hooks)
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": data})
}

fn create(object: Value) -> Attributes {
    let mut attributes = write(
        user("ann", &["devs"]),
        Operation::Create,
        "configmaps",
        "default",
        Some(object),
        None,
    );
    attributes.kind.version = "v1".into();
    attributes.kind.kind = "ConfigMap".into();
    attributes
}

fn webhook(path: &str, more: Value) -> Value {
    let mut hook = json!({
        "name": format!("{path}.example.com"), "failurePolicy": "Fail", "sideEffects": "None",
        "matchPolicy": "Equivalent", "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
        "clientConfig": {"url": format!("https://hook/{path}")},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "scope": "*"}],
    });
    for (field, value) in more.as_object().expect("fields") {
        hook[field] = value.clone();
    }
    hook
}

fn configuration(name: &str, webhooks: Vec<Value>) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "X", "metadata": {"name": name}, "webhooks": webhooks})
}

async fn admit(world: &World, attributes: &mut Attributes) -> Result<(), String> {
    world.admit(attributes).await.map_err(|status| format!("{} {}", status.code, status.message))
}

#[tokio::test]
async fn answers_are_believed_or_passed_over() {
    const CALL: &str = "500 Internal error occurred: failed calling webhook";
    for (hook, said) in [
        (webhook("yes", json!({})), None),
        (
            webhook("no", json!({})),
            Some("402 admission webhook \"no.example.com\" denied the request: not today"),
        ),
        (
            webhook("silent", json!({})),
            Some(
                "400 admission webhook \"silent.example.com\" denied the request without explanation",
            ),
        ),
        // A no is a no.
        (webhook("no", json!({"failurePolicy": "Ignore"})), Some("402 ")),
        (
            webhook("down", json!({})),
            Some(&*format!(
                "{CALL} \"down.example.com\": failed to call webhook: Post \"https://hook/down\": nobody there"
            )),
        ),
        (webhook("down", json!({"failurePolicy": "Ignore"})), None),
        (
            webhook("wrong", json!({})),
            Some(&*format!(
                "{CALL} \"wrong.example.com\": received invalid webhook response: validating webhook may not return response.patch"
            )),
        ),
        (
            webhook("yes", json!({"admissionReviewVersions": ["v2"]})),
            Some(&*format!("{CALL} \"yes.example.com\": could not create admission objects")),
        ),
        // Who is not meant is not asked.
        (webhook("no", json!({"namespaceSelector": {"matchLabels": {"team": "b"}}})), None),
        (webhook("no", json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})), Some("402 ")),
        (webhook("no", json!({"objectSelector": {"matchLabels": {"x": "y"}}})), None),
        (
            webhook(
                "no",
                json!({"matchConditions": [{"name": "a", "expression": "request.userInfo.username != 'ann'"}]}),
            ),
            None,
        ),
        (
            webhook(
                "no",
                json!({"matchConditions": [{"name": "a", "expression": "object.data.none == 'x'"}]}),
            ),
            Some(
                "403 configmaps \"a\" is forbidden: expression 'object.data.none == 'x'' resulted in error: no such key: none",
            ),
        ),
        (
            webhook(
                "no",
                json!({"failurePolicy": "Ignore", "matchConditions": [{"name": "a", "expression": "object.data.none == 'x'"}]}),
            ),
            None,
        ),
        (
            webhook(
                "no",
                json!({"rules": [{"operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "*"}]}),
            ),
            None,
        ),
        (
            webhook(
                "no",
                json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "scope": "Cluster"}]}),
            ),
            None,
        ),
        (
            webhook(
                "no",
                json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "scope": "Namespaced"}]}),
            ),
            Some("402 "),
        ),
    ] {
        let (world, _) = world();
        world.add(VALIDATING_WEBHOOKS, configuration("a", vec![hook.clone()]));
        let result = admit(&world, &mut create(map(json!({})))).await;
        match (said, result) {
            (None, Ok(())) => {}
            (Some(said), Err(error)) => assert!(error.starts_with(said), "{hook}: {error}"),
            (said, result) => panic!("{hook}: {result:?}, not {said:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_webhook_is_shown() {
    let (world, hooks) = world();
    world.add(VALIDATING_WEBHOOKS, configuration("a", vec![webhook("yes", json!({}))]));
    let mut attributes = create(map(json!({"a": "b"})));
    attributes.options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"});
    admit(&world, &mut attributes).await.expect("admitted");
    assert_eq!(attributes.warnings, ["mind"]);
    let (_, request) = hooks.asked.lock().expect("no panic").remove(0);
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["userInfo"], json!({"username": "ann", "groups": ["devs"]}));
    assert_eq!(
        (&request["object"], &request["oldObject"]),
        (&map(json!({"a": "b"})), &Value::Null)
    );
    assert_eq!(
        (&request["options"]["kind"], &request["dryRun"]),
        (&json!("CreateOptions"), &json!(false))
    );
    // A dry run is no business of a webhook that does something.
    world.add(
        VALIDATING_WEBHOOKS,
        configuration("a", vec![webhook("yes", json!({"sideEffects": "Some"}))]),
    );
    attributes.dry_run = true;
    let refused = admit(&world, &mut attributes).await.expect_err("refused");
    assert_eq!(refused, "400 admission webhook \"yes.example.com\" does not support dry run");
}

#[tokio::test]
async fn changes_follow_each_other_and_who_wants_is_asked_again() {
    let (world, hooks) = world();
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    // By the names of their configurations.
    world.add(MUTATING_WEBHOOKS, configuration("b", vec![webhook("label", json!({}))]));
    world.add(
        MUTATING_WEBHOOKS,
        configuration("a", vec![webhook("count", again), webhook("yes", json!({}))]),
    );
    let mut attributes = create(map(json!({})));
    admit(&world, &mut attributes).await.expect("admitted");
    let asked: Vec<String> =
        hooks.asked.lock().expect("no panic").iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(asked, ["count", "yes", "label", "count"]);
    let object = attributes.object.expect("an object");
    assert_eq!(
        (&object["data"]["count"], &object["metadata"]["labels"]["seen"]),
        (&json!("xx"), &json!("yes"))
    );
    // What is no object any more is nobody's object.
    world.add(MUTATING_WEBHOOKS, configuration("b", vec![webhook("spoil", json!({}))]));
    let refused = admit(&world, &mut create(map(json!({})))).await.expect_err("refused");
    assert!(refused.starts_with("500 Internal error occurred"), "{refused}");
}

#[tokio::test]
async fn configurations_are_not_asked_about() {
    let (world, hooks) = world();
    let everything = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "scope": "*"}]});
    world.add(VALIDATING_WEBHOOKS, configuration("a", vec![webhook("no", everything)]));
    for (resource, asked) in [
        ("validatingwebhookconfigurations.admissionregistration.k8s.io", false),
        ("mutatingadmissionpolicies.admissionregistration.k8s.io", false),
        ("subjectaccessreviews.authorization.k8s.io", false),
        ("clusterroles.rbac.authorization.k8s.io", true),
    ] {
        let object = json!({"metadata": {"name": "a"}, "rules": []});
        let by = crate::testing::admin();
        let mut attributes = write(by, Operation::Create, resource, "", Some(object), None);
        let refused = world.access.validate(&mut attributes).await.is_err();
        assert_eq!(refused, asked, "{resource}");
    }
    assert_eq!(hooks.asked.lock().expect("no panic").len(), 1);
}

fn policy(name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "X", "metadata": {"name": name}, "spec": spec});
    tree::set_if_unset(&mut object, "spec.failurePolicy", "Fail");
    tree::set_if_unset(
        &mut object,
        "spec.matchConstraints",
        json!({"matchPolicy": "Equivalent", "resourceRules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"], "scope": "*"}]}),
    );
    object
}

fn binding(policy: &str, more: Value) -> Value {
    let mut spec = more;
    spec["policyName"] = json!(policy);
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "X", "metadata": {"name": "bound"}, "spec": spec})
}

#[tokio::test]
async fn policies_say_yes_and_no() {
    const BY: &str = "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'bound' denied request: ";
    let validation = |expression: &str| json!({"validations": [{"expression": expression}]});
    for (spec, said) in [
        (validation("has(object.data.a)"), None),
        (validation("!has(object.data.a)"), Some("422 failed expression: !has(object.data.a)")),
        (
            json!({"validations": [{"expression": "false", "message": " not so ", "reason": "Forbidden"}]}),
            Some("403 not so"),
        ),
        (
            json!({"validations": [{"expression": "false", "message": "plain", "messageExpression": "'got ' + object.data.a"}]}),
            Some("422 got b"),
        ),
        // A message that cannot be had is the plain one.
        (
            json!({"validations": [{"expression": "false", "message": "plain", "messageExpression": "object.data.none"}]}),
            Some("422 plain"),
        ),
        (
            validation("object.data.none == 'x'"),
            Some("422 expression 'object.data.none == 'x'' resulted in error: no such key: none"),
        ),
        (
            json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.none == 'x'"}]}),
            None,
        ),
        (
            json!({"variables": [{"name": "x", "expression": "object.data.none"}, {"name": "y", "expression": "object.data.a"}],
            "validations": [{"expression": "variables.y == 'b'"}]}),
            None,
        ),
        (
            json!({"variables": [{"name": "x", "expression": "object.data.none"}],
            "validations": [{"expression": "variables.x == 'b'"}]}),
            Some(
                "422 expression 'variables.x == 'b'' resulted in error: composited variable \"x\" fails to evaluate: expression 'object.data.none' resulted in error: no such key: none",
            ),
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "object.data.a != 'b'"}], "validations": [{"expression": "false"}]}),
            None,
        ),
        (
            validation(
                "oldObject == null && request.operation == 'CREATE' && request.namespace == 'default'",
            ),
            None,
        ),
        (validation("namespaceObject.metadata.labels.team == 'a'"), None),
        (
            validation(
                "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
            ),
            Some("422 failed expression"),
        ),
        (validation("!authorizer.requestResource.check('create').allowed()"), None),
        (
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "params == null"}]}),
            None,
        ),
    ] {
        let (world, _) = world();
        world.add(VALIDATING_POLICIES, policy("p", spec.clone()));
        // Nothing is bound, so nothing is asked.
        admit(&world, &mut create(map(json!({"a": "b"})))).await.expect("admitted");
        world.add(VALIDATING_BINDINGS, binding("p", json!({"validationActions": ["Deny"]})));
        let result = admit(&world, &mut create(map(json!({"a": "b"})))).await;
        match (said, result) {
            (None, Ok(())) => {}
            (Some(said), Err(error)) => {
                let (code, text) = said.split_once(' ').expect("a code and a text");
                assert!(error.starts_with(&format!("{code} {BY}{text}")), "{spec}: {error}");
            }
            (said, result) => panic!("{spec}: {result:?}, not {said:?}"),
        }
    }
}

#[tokio::test]
async fn policies_change_objects() {
    let apply = |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let json_patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    for (mutations, result) in [
        (json!([apply("Object{data: {'c': 'd'}}")]), Ok(json!({"a": "b", "c": "d"}))),
        (
            json!([json_patch("[JSONPatch{op: 'replace', path: '/data/a', value: 'z'}]")]),
            Ok(json!({"a": "z"})),
        ),
        (
            json!([json_patch(
                "object.data.a == 'b' ? [JSONPatch{op: 'remove', path: '/data/a'}] : []"
            )]),
            Ok(json!({})),
        ),
        // Each sees what the one before it made.
        (
            json!([apply("Object{data: {'c': 'd'}}"), apply("Object{data: {'e': object.data.c}}")]),
            Ok(json!({"a": "b", "c": "d", "e": "d"})),
        ),
        (
            json!([apply("Object{nothing: 'x'}")]),
            Err(
                "403 policy 'p' with binding 'bound' denied request: error applying patch: failed to convert patch object to typed object: .nothing: field not declared in schema",
            ),
        ),
        (
            json!([json_patch("[JSONPatch{op: 'remove', path: '/none'}]")]),
            Err("403 policy 'p' with binding 'bound' denied request: JSON Patch: "),
        ),
    ] {
        let (world, _) = world();
        world.add(
            MUTATING_POLICIES,
            policy("p", json!({"mutations": mutations, "reinvocationPolicy": "Never"})),
        );
        world.add(MUTATING_BINDINGS, binding("p", json!({})));
        let mut attributes = create(map(json!({"a": "b"})));
        let told = admit(&world, &mut attributes).await;
        match (result, told) {
            (Ok(data), Ok(())) => {
                let object = attributes.object.expect("an object");
                assert_eq!(
                    object.get("data").cloned().unwrap_or_else(|| json!({})),
                    data,
                    "{mutations}"
                );
            }
            (Err(said), Err(error)) => assert!(error.starts_with(said), "{mutations}: {error}"),
            (result, told) => panic!("{mutations}: {told:?}, not {result:?}"),
        }
    }
}

//! admissionregistration.k8s.io.

use serde_json::json;

use super::*;

const fn admission(plural: &'static str) -> [&'static str; 3] {
    ["admissionregistration.k8s.io", "v1", plural]
}

const VALIDATING_HOOK: [&str; 3] = admission("validatingwebhookconfigurations");
const MUTATING_HOOK: [&str; 3] = admission("mutatingwebhookconfigurations");
const VALIDATING: [&str; 3] = admission("validatingadmissionpolicies");
const VALIDATING_BINDING: [&str; 3] = admission("validatingadmissionpolicybindings");
const MUTATING: [&str; 3] = admission("mutatingadmissionpolicies");
const MUTATING_BINDING: [&str; 3] = admission("mutatingadmissionpolicybindings");

#[test]
fn webhooks() {
    let table: &[(&str, Value, &[&str])] = &[
        (
            "name",
            json!("a.b"),
            &[
                "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ],
        ),
        (
            "sideEffects",
            json!("Some"),
            &[
                "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ],
        ),
        (
            "sideEffects",
            json!(null),
            &["sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        ),
        (
            "timeoutSeconds",
            json!(31),
            &[
                "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        ),
        (
            "admissionReviewVersions",
            json!(["v2", "v2"]),
            &[
                "admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            "clientConfig",
            json!({}),
            &["clientConfig: Required value: exactly one of url or service is required"],
        ),
        (
            "clientConfig",
            json!({ "url": "http://u@example.com/a?b#c" }),
            &[
                "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ],
        ),
        (
            "clientConfig",
            json!({ "url": "https://u@example.com/a?b#c" }),
            &[
                "clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                "clientConfig.url: Invalid value: \"c\": fragments are not permitted in the URL",
                "clientConfig.url: Invalid value: \"b\": query parameters are not permitted in the URL",
            ],
        ),
        (
            "clientConfig",
            json!({ "service": { "name": "", "namespace": "n", "path": "a//b", "port": 0 } }),
            &[
                "clientConfig.service.name: Required value",
                "clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
                "clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not be empty",
            ],
        ),
        (
            "rules",
            json!([{
                "operations": ["*", "CREATE"], "apiGroups": [], "apiVersions": [""],
                "resources": ["pods/*", "pods/log", "*", "nodes", ""],
            }]),
            &[
                "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
                "rules[0].apiGroups: Required value",
                "rules[0].apiVersions[0]: Required value",
                "rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                "rules[0].resources[4]: Required value",
                "rules[0].resources: Invalid value: [\"pods/*\",\"pods/log\",\"*\",\"nodes\",\"\"]: if '*' is present, must not specify other resources without subresources",
            ],
        ),
        (
            "matchConditions",
            json!([{ "name": "a b", "expression": " " }]),
            &[
                "matchConditions[0].expression: Required value",
                "matchConditions[0].name: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
    ];
    for resource in [VALIDATING_HOOK, MUTATING_HOOK] {
        for (path, value, faults) in table {
            let faults: Vec<String> =
                faults.iter().map(|fault| format!("webhooks[0].{fault}")).collect();
            let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
            refused(resource, &format!("webhooks.0.{path}"), value.clone(), &faults);
        }
    }
}

#[test]
fn hooks_have_their_defaults() {
    let object = created(&row(MUTATING_HOOK), &sample(&row(MUTATING_HOOK)));
    let hook = &object["webhooks"][0];
    for (path, value) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("timeoutSeconds", json!(10)),
        ("reinvocationPolicy", json!("Never")),
    ] {
        assert_eq!(hook[path], value, "{path}");
    }
    assert_eq!(hook["rules"][0]["scope"], "*");
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn validating_policies() {
    const ONE: &str = "validations or auditAnnotations must contain at least one item";
    refused(
        VALIDATING,
        "spec.validations",
        json!([]),
        &[
            &format!("spec.validations: Required value: {ONE}"),
            &format!("spec.auditAnnotations: Required value: {ONE}"),
        ],
    );
    refused(
        VALIDATING,
        "spec.validations",
        json!([{
            "expression": " ", "messageExpression": " ", "message": "a\nb", "reason": "Because",
        }]),
        &[
            "spec.validations[0].expression: Required value: expression is not specified",
            "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
            "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
            "spec.validations[0].reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ],
    );
    refused(
        VALIDATING,
        "spec.matchConstraints",
        json!({}),
        &["spec.matchConstraints.resourceRules: Required value"],
    );
    refused(
        VALIDATING,
        "spec.paramKind",
        json!({ "apiVersion": "a/b/c", "kind": "" }),
        &[
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "spec.paramKind.kind: Required value",
        ],
    );
    refused(
        VALIDATING,
        "spec.variables",
        json!([{ "name": "for", "expression": "1" }, { "name": "a", "expression": "" }]),
        &[
            "spec.variables[0].name: Invalid value: \"for\": name is not a valid CEL identifier",
            "spec.variables[1].expression: Required value: expression is not specified",
        ],
    );
    refused(
        VALIDATING,
        "spec.auditAnnotations",
        json!([{ "key": "k", "valueExpression": "" }, { "key": "k", "valueExpression": "'a'" }]),
        &[
            "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
        ],
    );
    status(
        VALIDATING,
        json!({}),
        json!({ "typeChecking": { "expressionWarnings": [{ "fieldRef": "", "warning": "w" }] } }),
        &["status.typeChecking.expressionWarnings[0].fieldRef: Required value"],
    );
}

#[test]
fn mutating_policies() {
    refused(
        MUTATING,
        "spec.mutations",
        json!([]),
        &["spec.mutations: Required value: mutations must contain at least one item"],
    );
    refused(
        MUTATING,
        "spec.mutations",
        json!([{ "patchType": "JSONPatch", "applyConfiguration": { "expression": "x" } }]),
        &[
            "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ],
    );
    refused(
        MUTATING,
        "spec.reinvocationPolicy",
        json!(""),
        &["spec.reinvocationPolicy: Required value"],
    );
    refused(
        MUTATING,
        "spec.matchConstraints.resourceRules.0.operations",
        json!(["DELETE"]),
        &[
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ],
    );
}

#[test]
fn bindings() {
    for resource in [VALIDATING_BINDING, MUTATING_BINDING] {
        refused(resource, "spec.policyName", json!(""), &["spec.policyName: Required value"]);
        refused(
            resource,
            "spec.paramRef",
            json!({ "name": "a", "selector": {} }),
            &[
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Required value",
            ],
        );
    }
    refused(
        VALIDATING_BINDING,
        "spec.validationActions",
        json!(["Deny", "Warn", "Deny"]),
        &[
            "spec.validationActions[2]: Duplicate value: \"Deny\"",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        ],
    );
}

/// Expressions are compiled with the names that they may use.
#[test]
fn expressions_are_compiled() {
    let condition = |expression: &str| json!([{ "name": "a", "expression": expression }]);
    const NAMES: &str = "object.metadata.name == request.name && oldObject == null && namespaceObject.metadata.UID != '' && authorizer.requestResource.check('get').allowed()";
    refused(VALIDATING_HOOK, "webhooks.0.matchConditions", condition(NAMES), &[]);
    refused(
        VALIDATING_HOOK,
        "webhooks.0.matchConditions",
        condition("params.x == 1"),
        &[
            "webhooks[0].matchConditions[0].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
        ],
    );
    refused(VALIDATING, "spec.matchConditions", condition("params.x == 1"), &[]);
    refused(
        VALIDATING,
        "spec.matchConditions",
        condition("object.x"),
        &["spec.matchConditions[0].expression: Invalid value: \"object.x\": must evaluate to bool"],
    );
    refused(
        VALIDATING,
        "spec.validations",
        json!([
            { "expression": "object.spec.replicas <= 5", "messageExpression": "'too many: ' + string(object.spec.replicas)" },
            { "expression": "request.nope == ''", "messageExpression": "1" },
            { "expression": "authorizer.path('/x').check('get').allowed()", "messageExpression": "authorizer.path('/x').check('get').reason()" },
        ]),
        &[
            "spec.validations[1].expression: Invalid value: \"request.nope == ''\": compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope == ''\n | .......^",
            "spec.validations[1].messageExpression: Invalid value: \"1\": must evaluate to string",
            "spec.validations[2].messageExpression: Invalid value: \"authorizer.path('/x').check('get').reason()\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')\n | authorizer.path('/x').check('get').reason()\n | ^",
        ],
    );
    refused(
        VALIDATING,
        "spec.auditAnnotations",
        json!([{ "key": "a", "valueExpression": "1" }, { "key": "b", "valueExpression": "null" }]),
        &[
            "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type]",
        ],
    );
    refused(
        VALIDATING,
        "spec.variables",
        json!([
            { "name": "names", "expression": "['a', request.name]" },
            { "name": "first", "expression": "variables.names[0]" },
            { "name": "wrong", "expression": "variables.first + 1" },
            { "name": "later", "expression": "variables.after" },
        ]),
        &[
            "spec.variables[2].expression: Invalid value: \"variables.first + 1\": compilation failed: ERROR: <input>:1:17: found no matching overload for '_+_' applied to '(string, int)'\n | variables.first + 1\n | ................^",
            "spec.variables[3].expression: Invalid value: \"variables.after\": compilation failed: ERROR: <input>:1:10: undefined field 'after'\n | variables.after\n | .........^",
        ],
    );
    let mutation = |kind: &str, field: &str, expression: &str| json!([{ "patchType": kind, field: { "expression": expression } }]);
    for (kind, field, expression, fault) in [
        ("ApplyConfiguration", "applyConfiguration", "Object{spec: Object.spec{replicas: 1}}", ""),
        ("JSONPatch", "jsonPatch", "[JSONPatch{op: 'remove', path: '/spec/replicas'}]", ""),
        ("ApplyConfiguration", "applyConfiguration", "object", "must evaluate to Object"),
        ("JSONPatch", "jsonPatch", "['a']", "must evaluate to list(JSONPatch)"),
    ] {
        let fault = format!(
            "spec.mutations[0].{field}.expression: Invalid value: \"{expression}\": {fault}"
        );
        let faults: &[&str] = if fault.ends_with(": ") { &[] } else { &[&fault] };
        refused(MUTATING, "spec.mutations", mutation(kind, field, expression), faults);
    }
}

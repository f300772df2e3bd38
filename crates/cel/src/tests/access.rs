//! Questions to an authorizer, and what mutations make.

use std::sync::Arc;

use serde_json::json;

use crate::{
    Access, Authorizer, Decision, Environment, Library, Question, Resource, Target, Type, Value,
    Variable,
};

/// Allows `get` of pods and of `/healthz`, and everything to one account.
#[derive(Debug)]
struct Rules;

impl Authorizer for Rules {
    fn decide(&self, question: &Question) -> Decision {
        if question.account == Some(("default".into(), "robot".into())) {
            return Decision { allowed: true, ..Decision::default() };
        }
        let known = match &question.target {
            Target::Path(path) => path == "/healthz",
            Target::Resource(resource) => resource.resource == "pods",
        };
        match (known, question.verb.as_str()) {
            (true, "get") => {
                Decision { allowed: true, reason: format!("{:?}", question.target), error: None }
            }
            (true, _) => Decision::default(),
            (false, _) => Decision { error: Some("not known".into()), ..Decision::default() },
        }
    }
}

fn environment() -> Environment {
    let mut environment = Environment::kubernetes(vec![
        Variable::new("authorizer", Type::authorizer()),
        Variable::new("authorizer.requestResource", Type::resource_check()),
    ]);
    environment.libraries.extend([Library::Bindings, Library::Patch]);
    environment
}

/// The value of an expression, and what it cost.
fn run(source: &str) -> (Result<String, String>, u64) {
    let program = match environment().compile(source) {
        Ok(program) => program,
        Err(error) => return (Err(error.to_string()), 0),
    };
    let rules: Arc<dyn Authorizer> = Arc::new(Rules);
    let pod = Resource { resource: "pods".into(), name: "a".into(), ..Resource::default() };
    let variables = [Access::authorizer(rules.clone()), Access::resource(rules, pod)]
        .map(|access| Some(Value::Access(Arc::new(access))));
    let (value, cost) = program.evaluate(&variables, 10_000_000);
    let value = match value {
        Ok(Value::Bool(value)) => Ok(value.to_string()),
        Ok(Value::String(text)) => Ok(text.to_string()),
        Ok(other) => Ok(format!("{other:?}")),
        Err(fault) => Err(fault.to_string()),
    };
    (value, cost)
}

#[test]
fn authorizers_are_asked() {
    for (source, value) in [
        ("authorizer.path('/healthz').check('get').allowed()", Ok("true")),
        ("authorizer.path('/other').check('get').error()", Ok("not known")),
        ("authorizer.path('/other').check('get').errored()", Ok("true")),
        (
            "authorizer.group('').resource('pods').namespace('x').check('list').allowed()",
            Ok("false"),
        ),
        (
            "authorizer.serviceAccount('default', 'robot').group('a').resource('b').check('c').allowed()",
            Ok("true"),
        ),
        (
            "authorizer.requestResource.subresource('log').check('get').reason().contains('subresource: \"log\"')",
            Ok("true"),
        ),
        (
            "authorizer.requestResource.fieldSelector('a=b').labelSelector('c').check('get').reason().contains('a=b')",
            Ok("true"),
        ),
        (
            "authorizer.serviceAccount('a.b', 'robot').path('/x').check('get').allowed()",
            Err("Invalid service account namespace"),
        ),
        ("authorizer.path('').check('get').allowed()", Err("path must not be empty")),
        (
            "authorizer.check('get').allowed()",
            Err(
                "compilation failed: ERROR: <input>:1:17: found no matching overload for 'check' applied to 'kubernetes.authorization.Authorizer.(string)'\n | authorizer.check('get').allowed()\n | ................^",
            ),
        ),
    ] {
        let (found, _) = run(source);
        assert_eq!(found.as_deref().map_err(String::as_str), value, "{source}");
    }
}

#[test]
fn a_decision_costs_as_upstream_says() {
    let source = "authorizer.path('/healthz').check('get').allowed()";
    // The name, two calls and the decision.
    assert_eq!(run(source).1, 350_003);
    let program = environment().compile(source).unwrap();
    assert_eq!(program.cost_max(), 350_003);
}

#[test]
fn bindings_and_patches() {
    for (source, value) in [
        ("cel.bind(x, 2, x + x == 4)", Ok("true")),
        ("Object{metadata: Object.metadata{labels: {'a': 'b'}}}.metadata.labels.a", Ok("b")),
        (
            "JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~d'), value: 1}.path",
            Ok("/a/b~1c~0d"),
        ),
        (
            "JSONPatch{op: 1}",
            Err(
                "compilation failed: ERROR: <input>:1:13: expected type of field 'op' is 'string' but provided type is 'int'\n | JSONPatch{op: 1}\n | ............^",
            ),
        ),
        (
            "JSONPatch{nope: 1}",
            Err(
                "compilation failed: ERROR: <input>:1:15: undefined field 'nope'\n | JSONPatch{nope: 1}\n | ..............^",
            ),
        ),
        (
            "Other{a: 1}",
            Err(
                "compilation failed: ERROR: <input>:1:6: undeclared reference to 'Other' (in container '')\n | Other{a: 1}\n | .....^",
            ),
        ),
    ] {
        let (found, _) = run(source);
        assert_eq!(found.as_deref().map_err(String::as_str), value, "{source}");
    }
    let plain = super::compile("cel.bind(x, 2, x + x == 4)", &json!("int"));
    assert!(plain.is_err(), "only where the environment says so");
    assert!(super::compile("Object{}", &json!("int")).is_err());
    let patches = environment().compile("[JSONPatch{op: 'remove', path: '/a'}]").unwrap();
    assert_eq!(patches.ty().to_string(), "list(JSONPatch)");
}

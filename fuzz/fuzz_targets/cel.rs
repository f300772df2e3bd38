//! Any expression: it compiles or is refused, and what compiles is evaluated
//! within its budget and for no more than its estimate. Of what has no type
//! until it is there, the estimate knows no size, and comparing numbers is free
//! in it.

#![no_main]

use std::sync::{Arc, LazyLock};

use cel::{Declaration, Environment, Kind, Library, Merge, Object, ObjectField, Value, Variable};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const COST_MAX: u64 = 1_000_000;

static SELF: LazyLock<Arc<Declaration>> = LazyLock::new(|| {
    let of = |kind, elements_max| Arc::new(Declaration { kind, elements_max, nullable: false });
    let list = Kind::List { items: of(Kind::Int, 1), merge: Merge::Set };
    let fields = [
        ("a", of(Kind::Int, 1)),
        ("s", of(Kind::String, 16)),
        ("list", of(list, 8)),
        ("map", of(Kind::Map(of(Kind::String, 16)), 8)),
        ("any", of(Kind::Any, u64::MAX)),
        ("time", of(Kind::DateTime, 32)),
        ("span", of(Kind::Duration, 32)),
        ("number", of(Kind::IntOrString, 16)),
    ];
    let fields = fields
        .map(|(name, declaration)| (name.into(), ObjectField { json: name.into(), declaration }));
    let object = Object { name: "object".into(), fields: fields.into_iter().collect() };
    of(Kind::Object(object.into()), 1)
});

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let mut environment = Environment::kubernetes(vec![Variable::declared("self", SELF.clone())]);
    environment.libraries.extend([Library::Bindings, Library::Patch]);
    environment
});

fuzz_target!(|source: &str| {
    let Ok(program) = ENVIRONMENT.compile(source) else { return };
    let object = json!({
        "a": 1, "s": "é", "list": [1, 2, 3], "map": {"a": "b", "c": "d"},
        "any": [{"x": null}, 1.5, "y"], "time": "2026-01-01T00:00:00Z", "span": "1h", "number": "5",
    });
    let value = Value::json(&object, &SELF).expect("as declared");
    let (value, cost) = program.evaluate(&[Some(value)], COST_MAX);
    assert!(value.is_err() || cost <= COST_MAX, "{cost}: {source}");
    let open = ["dyn", "any", "==", "!="].iter().any(|part| source.contains(part));
    let most = program.cost_max();
    assert!(value.is_err() || open || cost <= most, "{cost} of {most}: {source}");
});

//! How many typical rules are evaluated, and compiled, in a second:
//! `cargo bench -p cel`.

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use cel::{Declaration, Environment, Kind, Merge, Object, ObjectField, Value, Variable};
use serde_json::json;

const RULES: &[&str] = &[
    "self.replicas <= self.max",
    "self.name.startsWith('web-') && self.name.size() < 64",
    "self.items.all(x, x.size() > 0 && x in ['alpha', 'beta', 'gamma'])",
    "has(self.name) ? self.name.matches('^[a-z][a-z0-9-]*$') : self.replicas == 0",
    "self.items.map(x, x.upperAscii()).filter(x, x != 'ALPHA').size() == 9",
];
/// Each measurement takes about this long.
const SECONDS: f64 = 0.5;

fn main() {
    let text = Arc::new(Declaration { kind: Kind::String, elements_max: 100, nullable: false });
    let int = Arc::new(Declaration { kind: Kind::Int, elements_max: 0, nullable: false });
    let items = Kind::List { items: text.clone(), merge: Merge::Atomic };
    let items = Arc::new(Declaration { kind: items, elements_max: 100, nullable: false });
    let fields: BTreeMap<Box<str>, ObjectField> =
        [("replicas", int.clone()), ("max", int), ("name", text), ("items", items)]
            .into_iter()
            .map(|(name, declaration)| {
                (name.into(), ObjectField { json: name.into(), declaration })
            })
            .collect();
    let object = Kind::Object(Arc::new(Object { name: "object".into(), fields }));
    let declaration = Arc::new(Declaration { kind: object, elements_max: 0, nullable: false });
    let variable = Variable {
        name: "self".into(),
        ty: declaration.ty(),
        declaration: Some(declaration.clone()),
    };
    let environment = Environment::kubernetes(vec![variable]);
    let mut items = vec!["alpha"];
    items.extend(["beta"; 9]);
    let data = json!({"replicas": 3, "max": 5, "name": "web-frontend", "items": items});

    for rule in RULES {
        let program = environment.compile(rule).expect("the rules are right");
        let evaluated = rate(|| {
            let value = Value::json(&data, &declaration).expect("the data is as declared");
            let (value, _) = black_box(&program).evaluate(&[Some(value)], u64::MAX);
            assert!(matches!(value, Ok(Value::Bool(true))), "{rule}: {value:?}");
        });
        let compiled = rate(|| {
            black_box(environment.compile(black_box(rule)).expect("the rules are right"));
        });
        println!("{evaluated:>10.0} evaluations/s {compiled:>8.0} compilations/s  {rule}");
    }
}

fn rate(mut one: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut count = 0.0;
    while start.elapsed().as_secs_f64() < SECONDS {
        for _ in 0..100 {
            one();
        }
        count += 100.0;
    }
    count / start.elapsed().as_secs_f64()
}

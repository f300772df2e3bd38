//! Stories of expressions: what they are worth, what is wrong with them, what
//! they cost.

mod access;
mod costs;
mod errors;
mod properties;
mod truths;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value as Json, json};

use crate::{
    CompileError, Declaration, Environment, Fault, Kind, Merge, Object, ObjectField, Program,
    Value, Variable,
};

/// A declaration from an example: `"int"` is one, `["int"]` a list of them,
/// `{"*": "int"}` a map, `{"set": …}` and `{"by": "k", "of": …}` lists that
/// merge, anything else an object with fields. A number after a colon bounds it.
fn declare(like: &Json) -> Declaration {
    let (kind, elements_max) = match like {
        Json::String(word) => {
            let (word, max) = match word.split_once(':') {
                Some((word, max)) => (word, max.parse().unwrap()),
                None => (word.as_str(), 3 << 20),
            };
            match word {
                "any" => (Kind::Any, u64::MAX),
                "int-or-string" => (Kind::IntOrString, max),
                "bool" => (Kind::Bool, 0),
                "int" => (Kind::Int, 0),
                "double" => (Kind::Double, 0),
                "string" => (Kind::String, max),
                "bytes" => (Kind::Bytes, max),
                "duration" => (Kind::Duration, 32),
                "date" => (Kind::Date, 12),
                "date-time" => (Kind::DateTime, 32),
                other => panic!("no kind {other}"),
            }
        }
        Json::Array(of) => list(&of[0], Merge::Atomic, of.get(1)),
        Json::Object(fields) => match (fields.get("*"), fields.get("set"), fields.get("by")) {
            (Some(values), ..) => (Kind::Map(declare(values).into()), bound(fields.get("max"))),
            (_, Some(of), _) => list(of, Merge::Set, None),
            (_, _, Some(key)) => {
                let keys: Vec<Box<str>> = vec![key.as_str().unwrap().into()];
                list(&fields["of"], Merge::Map(keys.into()), None)
            }
            _ => {
                let fields: BTreeMap<Box<str>, ObjectField> = fields
                    .iter()
                    .map(|(name, of)| {
                        let declaration = declare(of).into();
                        let field = ObjectField { json: name.as_str().into(), declaration };
                        (name.replace('-', "__dash__").into(), field)
                    })
                    .collect();
                (Kind::Object(Arc::new(Object { name: "object".into(), fields })), 0)
            }
        },
        other => panic!("no declaration {other}"),
    };
    Declaration { kind, elements_max, nullable: false }
}

fn bound(max: Option<&Json>) -> u64 {
    max.map_or(1 << 20, |max| max.as_u64().unwrap())
}

fn list(of: &Json, merge: Merge, max: Option<&Json>) -> (Kind, u64) {
    (Kind::List { items: declare(of).into(), merge }, bound(max))
}

/// An environment with `self`.
fn environment(declaration: &Arc<Declaration>) -> Environment {
    let variable = Variable {
        name: "self".into(),
        ty: declaration.ty(),
        declaration: Some(declaration.clone()),
    };
    Environment::kubernetes(vec![variable])
}

fn compile(source: &str, like: &Json) -> Result<Program, CompileError> {
    environment(&declare(like).into()).compile(source)
}

/// The value of an expression as text, and what it cost.
fn run(source: &str, like: &Json, object: &Json) -> (Result<String, Fault>, u64) {
    let declaration = Arc::new(declare(like));
    let program =
        environment(&declaration).compile(source).unwrap_or_else(|e| panic!("{source}: {e}"));
    let value = Value::json(object, &declaration).unwrap();
    let (value, cost) = program.evaluate(&[Some(value)], 1_000_000);
    let shown = value.map(|value| match value {
        Value::Bool(value) => value.to_string(),
        other => format!("{other:?}"),
    });
    (shown, cost)
}

/// Written anew with `CEL_WRITE_DOCS=1 cargo test -p cel documents`.
#[test]
fn the_table_documents_itself() {
    let table = crate::documentation(crate::Library::KUBERNETES);
    assert!(table.contains("| Strings | `string.charAt(int) -> string` | 1 |"), "{table}");
    let mut lines: Vec<&str> = table.lines().collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "a function is there twice");

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/expressions.md");
    let text = format!("{}\n{table}", include_str!("tests/expressions.md"));
    if std::env::var_os("CEL_WRITE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == text, "docs/expressions.md is not what the table says");
}

#[test]
fn an_evaluation_ends_at_its_budget() {
    let like = json!({"list": ["int"]});
    let object = json!({"list": vec![1; 1000]});
    let declaration = Arc::new(declare(&like));
    let program = environment(&declaration).compile("self.list.all(x, x > 0)").unwrap();
    let value = Value::json(&object, &declaration).unwrap();
    let (value, cost) = program.evaluate(&[Some(value)], 100);
    assert_eq!(value.err(), Some(Fault::CostLimit));
    assert!((101..110).contains(&cost), "{cost}");
}

#[test]
fn what_was_accumulated_is_not_copied() {
    // Quadratic copying would take minutes here.
    let like = json!({"list": ["int"]});
    let object = json!({"list": vec![1; 60_000]});
    let (value, _) = run("self.list.map(x, x + 1).size() == 60000", &like, &object);
    assert_eq!(value.as_deref(), Ok("true"));
    let source = "self.list.transformMap(i, x, i).size() == 60000";
    assert_eq!(run(source, &like, &object).0.as_deref(), Ok("true"));
}

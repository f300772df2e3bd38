//! What is wrong with the rules of a schema, told when its definition is
//! written: in upstream's words, with what the rules may cost.

use std::sync::Arc;

use cel::Declaration;
use serde_json::Value;

use super::{
    super::{Additional, Checks, Kind, ListType, Node, Rule, Step, declare::declare},
    OLD_SELF, below, environment, field_path, message,
};
use crate::{Faults, Path};

/// A rule may cost this much for one object, by estimate.
const RULE_COST_MAX: u64 = 10_000_000;
/// All rules of a schema.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// What one request can carry.
const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// So many of the most expensive rules are told of.
const EXPENSIVE_MAX: usize = 4;
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Faults of the rules of `openAPIV3Schema`, which is at `path`. Where the
/// schema is `unchanged`, each expression may be as costly as it was.
pub fn check(schema: &Node, unchanged: bool, path: &Path<'_>, faults: &mut Faults) {
    if !schema.has_rules() {
        return;
    }
    let mut wrong = Faults::default();
    words(schema, path, &mut wrong);
    if !wrong.is_empty() {
        faults.append(wrong);
        return;
    }
    let mut costs = Costs { total: 0, rules: Vec::new(), unchanged };
    let Some(declared) = declare(schema, true) else { return };
    let place = Place { times: Some(1), loose: None };
    expressions(schema, &Arc::new(declared.declaration), place, path, &mut costs, faults);
    costs.rules.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    if costs.total > SCHEMA_COST_MAX {
        for (path, _) in costs.rules.iter().take(EXPENSIVE_MAX) {
            faults.forbidden(
                &Path::new(path),
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            );
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.forbidden(path, &too_costly(what, costs.total, SCHEMA_COST_MAX));
    }
}

/// Calls `with` for a node and all below, with their paths.
fn words(node: &Node, path: &Path<'_>, faults: &mut Faults) {
    for (index, rule) in node.rules.iter().enumerate() {
        let rules = path.child("x-kubernetes-validations");
        words_of(rule, node, &rules.index(index), faults);
    }
    for (step, child) in node.children() {
        at(path, step, |path| words(child, path, faults));
    }
}

fn at(path: &Path<'_>, step: Step<'_>, with: impl FnOnce(&Path<'_>)) {
    match step {
        Step::Property(name) => with(&path.child("properties").key(name)),
        Step::Additional => with(&path.child("additionalProperties")),
        Step::Items => with(&path.child("items")),
    }
}

fn words_of(rule: &Rule, node: &Node, path: &Path<'_>, faults: &mut Faults) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    let (text, message) = (rule.rule.trim(), rule.message.trim());
    if text.is_empty() {
        faults.required(&path.child("rule"), "rule is not specified");
    } else if !rule.message.is_empty() && message.is_empty() {
        let path = path.child("message");
        faults.invalid(&path, rule.message.as_str(), "must be non-empty if specified");
    } else if broken(message) {
        let path = path.child("message");
        faults.invalid(&path, rule.message.as_str(), "must not contain line breaks");
    } else if broken(text) && message.is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        faults.required(&path.child("message"), detail);
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        faults.required(&path.child("messageExpression"), detail);
    }
    if !rule.reason.is_empty() && !REASONS.contains(&rule.reason.as_str()) {
        faults.unsupported(&path.child("reason"), rule.reason.as_str(), REASONS);
    }
    if !rule.field_path.is_empty() {
        let path = path.child("fieldPath");
        let value = rule.field_path.as_str();
        if value.trim().is_empty() {
            faults.invalid(&path, value, "must be non-empty if specified");
        }
        if broken(value) {
            faults.invalid(&path, value, "must not contain line breaks");
        }
        if field_path::normalize(value, node).is_err() {
            faults.invalid(&path, value, "must be a valid path");
        }
    }
}

/// What the rules of a schema may cost together.
struct Costs {
    total: u64,
    /// Those that make up a hundredth of the limit or more.
    rules: Vec<(String, u64)>,
    /// The schema is as it was: what was borne is borne.
    unchanged: bool,
}

impl Costs {
    fn add(&mut self, path: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_COST_MAX / 100 {
            self.rules.push((path.to_string(), cost));
        }
    }
}

/// Where a node is.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// How often its value can be there; `None` where nothing bounds it.
    times: Option<u64>,
    /// The list around it whose elements cannot be told to be the same ones after
    /// an update.
    loose: Option<&'p Path<'p>>,
}

fn expressions(
    node: &Node,
    declaration: &Arc<Declaration>,
    place: Place<'_>,
    path: &Path<'_>,
    costs: &mut Costs,
    faults: &mut Faults,
) {
    let times = place.times.and_then(|times| Some(times.saturating_mul(holds(node)?)));
    for (step, child) in node.children().filter(|(_, child)| child.has_rules()) {
        let loose = match step {
            Step::Items => node.list_type != ListType::Map,
            // By its name, an entry is the same one in an atomic object too.
            Step::Property(_) | Step::Additional => false,
        };
        let within = Place { times, loose: place.loose.or(loose.then_some(path)) };
        at(path, step, |path| match below(declaration, step, child) {
            Some(declaration) => {
                expressions(child, &declaration, within, path, costs, faults);
            }
            None => {
                let detail = "internal error: failed to retrieve type information for x-kubernetes-validations";
                faults.internal(&path.child("x-kubernetes-validations"), detail);
            }
        });
    }
    if node.rules.is_empty() {
        return;
    }
    let bytes_min = declare(node, node.embedded).map_or(2, |sized| sized.bytes_min);
    let times = place.times.unwrap_or(REQUEST_BYTES_MAX / (bytes_min + 1));
    for (index, rule) in node.rules.iter().enumerate() {
        let rules = path.child("x-kubernetes-validations");
        let path = rules.index(index);
        one(rule, declaration, Place { times: Some(times), ..place }, &path, costs, faults);
    }
}

/// How many values an object or list can have of each kind below it.
fn holds(node: &Node) -> Option<u64> {
    let checks = |max: fn(&Checks) -> Option<u64>| node.checks.as_deref().and_then(max);
    match (node.kind, &node.additional) {
        (Kind::Array, _) => checks(|checks| checks.max_items),
        (Kind::Object, Additional::Node(_) | Additional::Any) => {
            checks(|checks| checks.max_properties)
        }
        _ => Some(1),
    }
}

fn one(
    rule: &Rule,
    declaration: &Arc<Declaration>,
    place: Place<'_>,
    path: &Path<'_>,
    costs: &mut Costs,
    faults: &mut Faults,
) {
    let environment = environment(declaration, rule.optional_old_self);
    let rule_path = path.child("rule");
    match environment.compile(&rule.rule) {
        Err(error) => return faults.invalid_shown(&rule_path, &shown(rule), &error.to_string()),
        Ok(program) if *program.ty() != cel::Type::Bool => {
            let detail = "cel expression must evaluate to a bool";
            return faults.invalid_shown(&rule_path, &shown(rule), detail);
        }
        Ok(program) => {
            let cost = program.cost_max().saturating_mul(place.times.unwrap_or(1));
            if cost > RULE_COST_MAX && !costs.unchanged {
                let detail = too_costly("estimated rule cost", cost, RULE_COST_MAX);
                faults.forbidden(&rule_path, &detail);
            }
            costs.add(&rule_path, cost);
            match (program.uses(OLD_SELF), place.loose) {
                (true, Some(list)) => faults.invalid(
                    &rule_path,
                    rule.rule.as_str(),
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"),
                ),
                (false, _) if rule.optional_old_self => faults.invalid(
                    &path.child("optionalOldSelf"),
                    true,
                    "may not be set if oldSelf is not used in rule",
                ),
                _ => {}
            }
        }
    }
    let message_path = path.child("messageExpression");
    match message(rule, &environment) {
        None => {}
        Some(Err(detail)) => faults.invalid_shown(&message_path, &shown(rule), &detail),
        Some(Ok(program)) => {
            let cost = program.cost_max();
            if cost > RULE_COST_MAX && !costs.unchanged {
                let detail = too_costly("estimated messageExpression cost", cost, RULE_COST_MAX);
                faults.forbidden(&message_path, &detail);
            }
            costs.add(&message_path, cost);
        }
    }
}

/// A rule as upstream shows it in faults: what Go makes of it as JSON, which is
/// safe inside of HTML.
fn shown(rule: &Rule) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let reason = match rule.reason.as_str() {
        "" => Value::Null.to_string(),
        reason => text(reason),
    };
    let old = match rule.optional_old_self {
        false => Value::Null,
        true => Value::Bool(true),
    };
    let json = format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{reason},"FieldPath":{},"OptionalOldSelf":{old}}}"#,
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path)
    );
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                shown.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => shown.push(c),
        }
    }
    shown
}

fn too_costly(what: &str, cost: u64, cost_max: u64) -> String {
    let factor = cost as f64 / cost_max as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

//! What can be seen to be wrong with literals: durations, times and regular
//! expressions that are none, and lists and maps of mixed types.

use std::collections::BTreeSet;

use crate::{
    ast::{Expr, ExprId, Literal},
    check::Checked,
    functions::regex::Pattern,
    issues::Issues,
    time::{Timestamp, duration},
    types::Type,
};

/// Adds what is wrong with the literals of an expression.
pub(crate) fn check(checked: &Checked, issues: &mut Issues) {
    let exempt = within_format(checked);
    for id in checked.ast.ids() {
        match checked.ast.expr(id) {
            Expr::Call { function, args, .. } => call(checked, function, args, issues),
            Expr::List(elements) if !exempt.contains(&id) => {
                let elements = elements.iter().map(|element| (element.value, element.optional));
                same(checked, elements, issues);
            }
            Expr::Map(entries) if !exempt.contains(&id) => {
                same(checked, entries.iter().map(|entry| (entry.key, false)), issues);
                let values = entries.iter().map(|entry| (entry.value, entry.optional));
                same(checked, values, issues);
            }
            _ => {}
        }
    }
}

fn call(checked: &Checked, function: &str, args: &[ExprId], issues: &mut Issues) {
    let Some(&first) = args.first() else { return };
    let text = |id: ExprId| match checked.ast.expr(id) {
        Expr::Literal(Literal::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (name, wrong) = match function {
        "duration" => ("duration", text(first).is_some_and(|text| duration(text).is_err())),
        "timestamp" => {
            ("timestamp", text(first).is_some_and(|text| Timestamp::parse(text).is_err()))
        }
        "matches" => ("matches", text(first).is_some_and(|text| Pattern::new(text).is_err())),
        _ => return,
    };
    if wrong {
        issues.add(checked.ast.offset(first), format!("invalid {name} argument"));
    }
}

/// The literals below arguments of `format`, which may be mixed.
fn within_format(checked: &Checked) -> BTreeSet<ExprId> {
    let mut exempt = BTreeSet::new();
    // Nodes come after the nodes they contain.
    let mut ids: Vec<ExprId> = checked.ast.ids().collect();
    ids.reverse();
    for id in ids {
        let is_format =
            matches!(checked.ast.expr(id), Expr::Call { function, .. } if **function == *"format");
        if is_format || exempt.contains(&id) {
            checked.ast.each_child(id, |child| {
                exempt.insert(child);
            });
        }
    }
    exempt
}

/// All are of one type; the first that is not is told.
fn same(checked: &Checked, values: impl Iterator<Item = (ExprId, bool)>, issues: &mut Issues) {
    let mut expected: Option<Type> = None;
    for (id, optional) in values {
        let ty = match checked.ty(id) {
            Type::Optional(of) if optional => (**of).clone(),
            ty => ty.clone(),
        };
        match &expected {
            None => expected = Some(ty),
            Some(expected) if *expected != ty => {
                let message = format!("expected type '{expected}' but found '{ty}'");
                issues.add(checked.ast.offset(id), message);
                return;
            }
            Some(_) => {}
        }
    }
}

//! What holds for any expression.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::{declare, environment};
use crate::{Library, Value, parse::parse, print::print};

/// Pieces that make likely expressions.
const PIECES: &[&str] = &[
    "self",
    "self.i",
    "self.s",
    "self.list",
    "self.map",
    "self.any",
    "x",
    "1",
    "-1",
    "2u",
    "1.5",
    "'a'",
    "b'a'",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[1, 2]",
    "{'a': 1}",
    "duration('1s')",
    "quantity('1')",
    "optional.of(1)",
    "ip('::1')",
    "int",
    "9223372036854775807",
];
const INFIX: &[&str] =
    &[" + ", " - ", " * ", " / ", " % ", " == ", " != ", " < ", " >= ", " && ", " || ", " in "];
const CALLS: &[&str] = &[
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".exists_one(x, ",
    ".all(i, x, ",
    ".transformMap(i, x, ",
    ".optMap(x, ",
    ".contains(",
    ".startsWith(",
    ".matches(",
    ".find(",
    ".split(",
    ".indexOf(",
    ".orValue(",
    ".or(",
    ".format([",
    ".sortBy(x, ",
    ".add(",
    ".flatten(",
    ".charAt(",
    ".join(",
    "[",
    "[?",
];
const SUFFIX: &[&str] = &[
    ".size()",
    ".sum()",
    ".sort()",
    ".a",
    ".?a",
    ".hasValue()",
    ".value()",
    ".reverse()",
    ".distinct()",
    ".isSorted()",
    ".first()",
];

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(PIECES).prop_map(str::to_owned);
    leaf.prop_recursive(6, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(INFIX), inner.clone())
                .prop_map(|(a, op, b)| format!("({a}{op}{b})")),
            (inner.clone(), prop::sample::select(CALLS), inner.clone()).prop_map(|(a, call, b)| {
                let close = match call {
                    "[" | "[?" => "]",
                    ".format([" => "])",
                    _ => ")",
                };
                format!("{a}{call}{b}{close}")
            }),
            (inner.clone(), prop::sample::select(SUFFIX)).prop_map(|(a, b)| format!("{a}{b}")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|a| format!("dyn({a})")),
            inner.prop_map(|a| format!("has({a}.a)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_parsed_or_refused(source in ".{0,60}") {
        let _ = parse(&source, Library::KUBERNETES);
    }

    #[test]
    fn any_tokens_are_parsed_or_refused(
        tokens in prop::collection::vec(
            prop::sample::select(&["a", "(", ")", "[", "]", "{", "}", ".", "?", ":", ",", "-", "!",
                "'", "\"", "\\", "1", "0x", "u", "&&", "in", "has", "all", "b'", "`"][..]),
            0..40,
        )
    ) {
        let _ = parse(&tokens.concat(), Library::KUBERNETES);
    }

    #[test]
    fn what_is_printed_is_parsed_to_the_same(source in expression()) {
        // Macros refuse some arguments.
        let Ok((ast, root)) = parse(&source, Library::KUBERNETES) else { return Ok(()) };
        if let Some(printed) = print(&ast, root) {
            let (again, root) = parse(&printed, Library::KUBERNETES).unwrap();
            prop_assert_eq!(print(&again, root), Some(printed));
        }
    }

    #[test]
    fn evaluations_stay_within_their_budget(source in expression(), budget in 0u64..5000) {
        let like = json!({
            "i": "int", "s": "string:10", "list": ["int", 5], "map": {"*": "string:5", "max": 5},
            "any": "any",
        });
        let object = json!({
            "i": 3, "s": "abc", "list": [3, 1, 2], "map": {"a": "b"}, "any": {"a": [1, "x", null]},
        });
        let declaration = Arc::new(declare(&like));
        if let Ok(program) = environment(&declaration).compile(&source) {
            let value = Value::json(&object, &declaration).unwrap();
            let most = program.cost_max();
            let (result, cost) = program.evaluate(&[Some(value.clone())], budget);
            prop_assert!(result.is_err() || cost <= budget, "{} cost {}", source, cost);
            let (result, cost) = program.evaluate(&[Some(value)], u64::MAX);
            // Of what has no type until it is there, the estimate knows no size, and
            // comparing numbers is free in it.
            let open = ["dyn(", "self.any", "==", "!="].iter().any(|part| source.contains(part));
            prop_assert!(result.is_err() || open || cost <= most, "{} cost {} of {}", source, cost, most);
        }
    }
}

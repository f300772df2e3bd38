//! Kubernetes' JSONPath templates: `{.items[*].metadata.name}{"\n"}`, with
//! `range`, filters, slices, unions and recursive descent.

mod reader;

use std::cmp::Ordering;

use serde_json::Value;

use super::{json, template::go_text};

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Action(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

/// What makes other values of those found so far.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// One text, whatever was found.
    Text(Value),
    /// A number or truth for each value.
    Each(Value),
    Field(String),
    All,
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>, Option<i64>),
    Union(Vec<Vec<Step>>),
    Exists(Vec<Step>),
    Filter(Vec<Step>, String, Vec<Step>),
    /// What is refused only when it is run.
    Fail(String),
}

type Found<'v> = Vec<&'v Value>;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        reader::template(text)
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// Where an index is out of bounds or a filter does not fit.
    pub(crate) fn run(&self, object: &Value) -> Result<String, String> {
        let lists = self.lists(object).map_err(|why| {
            format!(
                "error executing jsonpath {}: Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{}\n\tobject given to jsonpath engine was:\n\t\t{}\n\n",
                go_text::quoted(&self.text, '"'),
                self.text,
                go_text::syntax(object),
            )
        })?;
        let texts = lists
            .into_iter()
            .map(|found| found.into_iter().map(text_of).collect::<Vec<_>>().join(" "));
        Ok(texts.collect())
    }

    /// All values that the template's paths find.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub(crate) fn values(&self, object: &Value) -> Result<Vec<Value>, String> {
        Ok(self.lists(object)?.into_iter().flatten().cloned().collect())
    }

    /// What each action of the template finds.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub(crate) fn lists<'v>(&'v self, object: &'v Value) -> Result<Vec<Found<'v>>, String> {
        let mut lists = Vec::new();
        run(&self.nodes, object, &mut lists)?;
        Ok(lists)
    }
}

fn run<'v>(nodes: &'v [Node], here: &'v Value, lists: &mut Vec<Found<'v>>) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Action(steps) => lists.push(walk(steps, vec![here])?),
            Node::Range(steps, body) => {
                let found = walk(steps, vec![here])?;
                if found.is_empty() {
                    // What is wrong with the body is told also where nothing is found.
                    run(body, &Value::Null, &mut Vec::new())?;
                }
                for value in found {
                    run(body, value, lists)?;
                }
            }
        }
    }
    Ok(())
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) | Value::Object(_) => json::compact(value),
        scalar => go_text::shown(scalar),
    }
}

fn walk<'v>(steps: &'v [Step], from: Found<'v>) -> Result<Found<'v>, String> {
    steps.iter().try_fold(from, |values, step| take(step, values))
}

fn take<'v>(step: &'v Step, values: Found<'v>) -> Result<Found<'v>, String> {
    let there = || values.iter().copied().filter(|value| !value.is_null());
    Ok(match step {
        Step::Text(text) => vec![text],
        Step::Each(value) => values.iter().map(|_| value).collect(),
        Step::Fail(why) => return Err(why.clone()),
        Step::Field(name) => there().filter_map(|value| value.get(name)).collect(),
        Step::All => there().flat_map(children).collect(),
        Step::Descend => {
            let mut found = Vec::new();
            there().for_each(|value| descend(value, &mut found));
            found
        }
        Step::Index(at) => {
            let end = at.saturating_add(1);
            sliced(
                there(),
                &|len| (wrapped(*at, len), if *at < 0 { end.saturating_add(len) } else { end }),
                1,
            )?
        }
        Step::Slice(from, to, by) => {
            let bounds = |len| {
                let to = to.map_or(len, |to| wrapped(to, len));
                (wrapped(from.unwrap_or(0), len), to)
            };
            sliced(there(), &bounds, by.unwrap_or(1))?
        }
        Step::Union(choices) => {
            let found = choices.iter().map(|steps| walk(steps, values.clone()));
            found.collect::<Result<Vec<_>, _>>()?.concat()
        }
        // A test that fails passes, as it does with upstream.
        Step::Exists(test) => filtered(&values, &|item| {
            Ok(walk(test, vec![item]).map_or(true, |found| !found.is_empty()))
        })?,
        Step::Filter(left, operator, right) => filtered(&values, &|item| {
            let (Some(left), Some(right)) =
                (single(walk(left, vec![item])?)?, single(walk(right, vec![item])?)?)
            else {
                return Ok(false);
            };
            passes(left, operator, right)
        })?,
    })
}

/// A bound, counted from the end where it is negative.
fn wrapped(at: i64, len: i64) -> i64 {
    if at < 0 { at.saturating_add(len) } else { at }
}

fn children(value: &Value) -> Found<'_> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// The value and all below, but for scalars that are no text.
fn descend<'v>(value: &'v Value, found: &mut Found<'v>) {
    let below = children(value);
    // Upstream takes text for a list of bytes.
    if !below.is_empty() || value.as_str().is_some_and(|text| !text.is_empty()) {
        found.push(value);
    }
    below.into_iter().for_each(|item| descend(item, found));
}

fn sliced<'v>(
    values: impl Iterator<Item = &'v Value>,
    bounds: &dyn Fn(i64) -> (i64, i64),
    by: i64,
) -> Result<Found<'v>, String> {
    let mut found = Vec::new();
    for value in values {
        let Some(items) = value.as_array() else {
            return Err(format!("{} is not array or slice", type_name(value)));
        };
        let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let (from, to) = bounds(len);
        if from == to {
            // Upstream looks at no further value either.
            return Ok(found);
        }
        let outside = |at| Err(format!("array index out of bounds: index {at}, length {len}"));
        let Some(start) = usize::try_from(from).ok().filter(|start| *start < items.len()) else {
            return outside(from);
        };
        let Some(end) = usize::try_from(to).ok().filter(|end| *end <= items.len()) else {
            return outside(to.saturating_sub(1));
        };
        let Some(part) = items.get(start..end) else {
            return Err(format!("starting index {from} is greater than ending index {to}"));
        };
        let by = usize::try_from(by).ok().filter(|by| *by > 0).ok_or("step must be > 0")?;
        found.extend(part.iter().step_by(by));
    }
    Ok(found)
}

fn filtered<'v>(
    values: &[&'v Value],
    test: &dyn Fn(&'v Value) -> Result<bool, String>,
) -> Result<Found<'v>, String> {
    let mut found = Vec::new();
    for value in values {
        let Some(items) = value.as_array() else {
            let shown = go_text::shown(value);
            return Err(format!("{shown} is not array or slice and cannot be filtered"));
        };
        for item in items {
            if test(item)? {
                found.push(item);
            }
        }
    }
    Ok(found)
}

fn single(found: Found<'_>) -> Result<Option<&Value>, String> {
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err("can only compare one element at a time".to_owned()),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn passes(left: &Value, operator: &str, right: &Value) -> Result<bool, String> {
    let orders = match operator {
        "==" | "!=" => false,
        "<" | "<=" | ">" | ">=" => true,
        other => return Err(format!("unrecognized filter operator {other}")),
    };
    let comparable = |value: &Value| !(value.is_null() || value.is_array() || value.is_object());
    if !comparable(left) || !comparable(right) {
        return Err("invalid type for comparison".to_owned());
    }
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(_), Value::Bool(_)) if orders => {
            return Err("invalid type for comparison".to_owned());
        }
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
            match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
            }
        }
        _ => return Err("incompatible types for comparison".to_owned()),
    };
    Ok(match operator {
        "==" => order == Some(Ordering::Equal),
        "!=" => order != Some(Ordering::Equal),
        "<" => order.is_some_and(Ordering::is_lt),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        _ => order.is_some_and(Ordering::is_ge),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "kind": "List",
            "items": [
                {"name": "a", "n": 1, "labels": {"x.io/y": "z"}, "ports": [80, 443]},
                {"name": "b", "n": 2, "ready": true, "f": 1.5, "none": null, "tiny": 1e-6},
            ],
        })
    }

    #[test]
    fn templates_find_what_kubectl_finds() {
        let object = object();
        for (template, text) in [
            ("{.kind}", "List"),
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].name}", "a b"),
            ("{.items[0].name}{\"\\n\"}", "a\n"),
            ("{.items[-1].name}", "b"),
            ("{.items[-2].name}", "a"),
            ("{.items[].name}", "a"),
            ("{.items[0:1].name}", "a"),
            ("{.items[::2].name}", "a"),
            ("{.items[0,1].name}", "a b"),
            ("{.items[0, 1].name}", "a b"),
            ("{.items[?(@.name==\"b\")].n}", "2"),
            ("{.items[?(@.name=='b')].n}", "2"),
            ("{.items[?(@.n>1)].name}", "b"),
            ("{.items[?(@.f>1.2)].name}", "b"),
            ("{.items[?(@.ready)].name}", "b"),
            ("{.items[?(@.none)].name}", "b"),
            ("{.items[?(@.ready==true)].name}", "b"),
            ("{range .items[*]}{.name}={.n};{end}", "a=1;b=2;"),
            ("{ range .items[*] }{.name},{ end }", "a,b,"),
            // A list is one value.
            ("{range .items}{.name},{end}", ","),
            ("{range .nope}x{end}y", "y"),
            ("{range .items[*]}{.name}", "ab"),
            ("{.items[0].labels.x\\.io/y}", "z"),
            ("{.items[0].labels['x\\.io/y']}", "z"),
            ("{.items[0]['labels.x\\.io/y', 'name']}", "z a"),
            ("{.items[0].labels}", r#"{"x.io/y":"z"}"#),
            ("{..name}", "a b"),
            ("{...name}", "a b"),
            ("{.items[0].ports}", "[80,443]"),
            ("{.nope}", ""),
            ("{.items[0].nope.x}", ""),
            ("{.nope[0]}{.nope.*}", ""),
            ("{.kind.x}", ""),
            ("{$.kind}", "List"),
            ("{.items[*]['name', 'n']}", "a b 1 2"),
            // `$` is the object at hand, as `@` is.
            ("{range .items[*]}{.name}{\"\\t\"}{$.kind}{end}", "a\tb\t"),
            ("{.items[1].none} {.items[1].tiny} {.items[1].f}", "null 1e-06 1.5"),
            ("{true} {1.50} {-3} {'it\\'s'}", "true 1.5 -3 it's"),
            ("{.kind \"x\"}", "x"),
            ("{.kind!}{.kind)}{.kind=}", ""),
            ("}", "}"),
        ] {
            let parsed = Template::parse(template).expect(template);
            assert_eq!(parsed.run(&object).expect(template), text, "{template}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for (template, why) in [
            ("{.items[0}", "unterminated array"),
            ("{.a", "unclosed action"),
            ("{.a\n}", "unclosed action"),
            ("x{", "unclosed action"),
            ("{.a,.b}", "unrecognized character in action: U+002C ','"),
            ("{]}", "unrecognized character in action: U+005D ']'"),
            ("{\t}", "unrecognized character in action: U+0009"),
            ("{..*}", "unrecognized character in action: U+002A '*'"),
            ("{.a[\"x\"]}", "invalid array index \"x\""),
            ("{.a[1:2:3:4]}", "invalid array index 1:2:3:4"),
            ("{.a[-]}", "array index - is not a number"),
            ("{['a[*].b']}", "invalid array index 'a[*"),
            ("{+}", "cannot parse number +"),
            ("{\"a", "unterminated quoted string"),
            ("{\"\\q\"}", "unquote string \"\\q\" error invalid syntax"),
            ("{.a[?(@.b==\"c\"]}", "unterminated filter"),
            ("{.a[?(@.b==\"c\")}", "unclosed array expect ]"),
            ("{.a[?(@.b==)]}", "unrecognized character in action: U+003D '='"),
            ("{.a[?(@.b=~\"c\")]}", "unrecognized character in action: U+007E '~'"),
        ] {
            assert_eq!(Template::parse(template), Err(why.to_owned()), "{template}");
        }
        let deep = "{range .a}".repeat(100_000);
        assert!(Template::parse(&deep).is_err());
        let deep = format!("{{{}", "[?(\\'".repeat(100_000));
        assert!(Template::parse(&deep).is_err());
    }

    #[test]
    fn what_does_not_fit_an_object_is_said() {
        let object = object();
        for (template, why) in [
            ("{foo}", "unrecognized identifier foo"),
            ("{end}", "not in range, nothing to end"),
            ("{range .nope}{foo}{end}", "unrecognized identifier foo"),
            ("{.items[3]}", "array index out of bounds: index 3, length 2"),
            ("{.items[-5]}", "array index out of bounds: index -3, length 2"),
            ("{.items[0:5]}", "array index out of bounds: index 4, length 2"),
            ("{.items[1:0]}", "starting index 1 is greater than ending index 0"),
            ("{.items[::0]}", "step must be > 0"),
            ("{.kind[0]}", "string is not array or slice"),
            ("{.kind[?(@.a)]}", "List is not array or slice and cannot be filtered"),
            ("{.items[?(@.name==1)]}", "incompatible types for comparison"),
            ("{.items[?(@.n>1.0)]}", "incompatible types for comparison"),
            ("{.items[?(@.labels==1)]}", "invalid type for comparison"),
            ("{.items[?(@.name!\"b\")]}", "unrecognized filter operator !"),
        ] {
            let parsed = Template::parse(template).expect(template);
            assert_eq!(parsed.lists(&object), Err(why.to_owned()), "{template}");
        }
        let told = Template::parse("{foo}").expect("valid").run(&json!({"a": [1]}));
        assert_eq!(
            told.expect_err("fails"),
            "error executing jsonpath \"{foo}\": Error executing template: unrecognized identifier foo. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{foo}\n\tobject given to jsonpath engine was:\n\t\tmap[string]interface {}{\"a\":[]interface {}{1}}\n\n"
        );
    }

    #[test]
    fn any_text_is_read_or_refused() {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "?",
            "[?(",
            ")]",
            ".",
            "..",
            "*",
            ",",
            ":",
            "-",
            "+",
            "1",
            "99",
            "a",
            "range ",
            "end",
            "true",
            "'",
            "\"",
            "\\",
            "$",
            "@",
            "=",
            "==",
            "!",
            "<",
            ">",
            "~",
            " ",
            "\n",
            "\t",
            "\u{e9}",
            "\u{1f642}",
            "#",
            "%",
            "/",
            "|",
            "&",
            "_",
        ];
        let object = object();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or_default() % below
        };
        for round in 0..50_000 {
            let length = 1 + next(14);
            let mut text: String = (0..length).map(|_| pieces[next(pieces.len())]).collect();
            if round % 2 == 0 {
                text = format!("{{{text}}}");
            }
            if let Ok(template) = Template::parse(&text) {
                let _told = template.run(&object);
            }
        }
    }
}

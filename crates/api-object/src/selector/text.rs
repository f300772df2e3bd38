//! A label selector as text: its tokens, and what is said of one that does not parse.
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api>)

use std::collections::BTreeSet;

use super::{Operator, Requirement};
use crate::name;

/// What means something by itself; of those that begin alike the longer one first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<"];

/// What is left to read.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    /// The next one, which stays; empty at the end.
    fn peek(&self) -> &'a str {
        let text = self.0.trim_start();
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol)) {
            return &text[..symbol.len()];
        }
        let ends = |c: char| c.is_whitespace() || "=!,()<>".contains(c);
        &text[..text.find(ends).unwrap_or(text.len())]
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.0 = &self.0.trim_start()[token.len()..];
        token
    }
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !SYMBOLS.contains(&token)
}

fn found(token: &str, expected: &str) -> String {
    format!("found '{token}', expected: {expected}")
}

/// All requirements of a text, or why there are none, in upstream's words.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut tokens = Tokens(text);
    let mut all = Vec::new();
    match tokens.peek() {
        "" => return Ok(all),
        token if is_word(token) || token == "!" => {}
        token => return Err(found(token, "!, identifier, or 'end of string'")),
    }
    loop {
        let requirement = requirement(&mut tokens);
        all.push(requirement.map_err(|why| format!("unable to parse requirement: {why}"))?);
        match tokens.next() {
            "" => return Ok(all),
            "," => {}
            token => return Err(found(token, "',' or 'end of string'")),
        }
        let next = tokens.peek();
        if !is_word(next) && next != "!" {
            return Err(found(next, "identifier after ','"));
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let is_negated = tokens.peek() == "!";
    if is_negated {
        tokens.next();
    }
    let key = tokens.next();
    if !is_word(key) {
        return Err(found(key, "identifier"));
    }
    let faults = name::qualified_name(key);
    if !faults.is_empty() {
        return Err(format!("<nil>: Invalid value: \"{key}\": {}", faults.join("; ")));
    }
    let operator = if is_negated {
        Operator::DoesNotExist
    } else if matches!(tokens.peek(), "" | ",") {
        Operator::Exists
    } else {
        operator(tokens, key)?
    };
    Ok(Requirement { key: key.to_owned(), operator })
}

fn operator(tokens: &mut Tokens<'_>, key: &str) -> Result<Operator, String> {
    match tokens.next() {
        "in" => Ok(Operator::In(checked(key, set(tokens)?)?)),
        "notin" => Ok(Operator::NotIn(checked(key, set(tokens)?)?)),
        "=" | "==" => Ok(Operator::In(checked(key, BTreeSet::from([value(tokens)?]))?)),
        "!=" => Ok(Operator::NotIn(checked(key, BTreeSet::from([value(tokens)?]))?)),
        ">" => Ok(Operator::GreaterThan(integer(value(tokens)?)?)),
        "<" => Ok(Operator::LessThan(integer(value(tokens)?)?)),
        token => Err(found(token, "in, notin, =, ==, !=, gt, lt")),
    }
}

/// One value, which may be empty.
fn value<'a>(tokens: &mut Tokens<'a>) -> Result<&'a str, String> {
    match tokens.peek() {
        "" | "," => Ok(""),
        token if is_word(token) => Ok(tokens.next()),
        token => Err(found(token, "identifier")),
    }
}

/// Values in parentheses; `()` and `(a,,b)` have an empty one.
fn set<'a>(tokens: &mut Tokens<'a>) -> Result<BTreeSet<&'a str>, String> {
    let open = tokens.next();
    if open != "(" {
        return Err(format!("found '{open}' expected: '('"));
    }
    let mut values = BTreeSet::new();
    match tokens.peek() {
        ")" => {
            tokens.next();
            return Ok(BTreeSet::from([""]));
        }
        token if is_word(token) || token == "," => {}
        token => return Err(found(token, "',', ')' or identifier")),
    }
    loop {
        match tokens.peek() {
            token if is_word(token) => {
                values.insert(tokens.next());
                match tokens.next() {
                    "," if tokens.peek() == ")" => values.insert(""),
                    "," => continue,
                    ")" => return Ok(values),
                    token => return Err(found(token, "',' or ')'")),
                };
            }
            "," => {
                tokens.next();
                values.insert("");
            }
            ")" => {
                tokens.next();
                return Ok(values);
            }
            token => return Err(found(token, "',', or identifier")),
        }
    }
}

/// Values that a label may have; faults of several are a list.
fn checked(key: &str, values: BTreeSet<&str>) -> Result<Vec<String>, String> {
    let fault = |(at, value): (usize, &&str)| {
        let faults = name::label_value(value);
        (!faults.is_empty()).then(|| {
            format!("values[{at}][{key}]: Invalid value: \"{value}\": {}", faults.join("; "))
        })
    };
    let faults: Vec<String> = values.iter().enumerate().filter_map(fault).collect();
    match &faults[..] {
        [] => Ok(values.into_iter().map(str::to_owned).collect()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

fn integer(value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| {
        format!("values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kubectl 1.37 said them (`top pod -l`), up to what a label may have.
    #[test]
    fn what_does_not_parse_is_told_as_upstream_tells_it() {
        for (text, told) in [
            (
                "a ~ b",
                "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a,", "found '', expected: identifier after ','"),
            ("a,=", "found '=', expected: identifier after ','"),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            (
                "a=-",
                "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must",
            ),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "*=1",
                "unable to parse requirement: <nil>: Invalid value: \"*\": name part must consist of",
            ),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!!a", "unable to parse requirement: found '!', expected: identifier"),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
            (
                "a!b",
                "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a=(b)", "unable to parse requirement: found '(', expected: identifier"),
            ("a><1", "unable to parse requirement: found '<', expected: identifier"),
            (
                "a)",
                "unable to parse requirement: found ')', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a=b,,", "found ',', expected: identifier after ','"),
            ("a in (b,", "unable to parse requirement: found '', expected: ',', or identifier"),
            ("a in (b (", "unable to parse requirement: found '(', expected: ',' or ')'"),
            ("a!=!b", "unable to parse requirement: found '!', expected: identifier"),
            (
                "a in (=)",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            (
                "a in (b,-,/)",
                "unable to parse requirement: [values[0][a]: Invalid value: \"-\": a valid label must",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }

    #[test]
    fn what_upstream_takes_is_taken() {
        let values = |text: &str| match parse(text).expect(text).pop().expect("one").operator {
            Operator::In(values) | Operator::NotIn(values) => values,
            other => panic!("{text}: {other:?}"),
        };
        for (text, expected) in [
            ("a = ", &[""][..]),
            ("b,a=", &[""]),
            ("a in ()", &[""]),
            ("a in (,)", &[""]),
            ("a in (b,)", &["", "b"]),
            ("a in (c,,b,c)", &["", "b", "c"]),
            ("a in (,b)", &["", "b"]),
            ("in in (in,notin)", &["in", "notin"]),
            ("notin=in", &["in"]),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
        assert_eq!(parse("  ").expect("everything"), []);
    }
}

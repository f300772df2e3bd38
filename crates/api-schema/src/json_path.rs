//! The JSONPath that printer columns are written in: client-go's, without
//! braces. `.spec.a`, `.a[0]`, `.a[-1:]`, `.a[*].b`, `.a["b.c"]`, `.a\.b`, `..b`,
//! `.a[?(@.type=="Ready")].status`, `.a[0,2]`.

use serde_json::Value;

/// A path that parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Field(String),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Index(i64),
    Wildcard,
    /// Everything at any depth.
    Descend,
    Union(Vec<Vec<Part>>),
    Filter {
        left: Vec<Part>,
        test: Option<(Operator, Operand)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Vec<Part>),
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let parts = parser.parts(0)?;
        match parser.rest {
            "" => Ok(Self(parts)),
            rest => Err(format!("unexpected {rest:?} in the path")),
        }
    }

    /// Every value that the path leads to, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        find(&self.0, value)
    }
}

fn find<'v>(parts: &[Part], value: &'v Value) -> Vec<&'v Value> {
    parts
        .iter()
        .fold(vec![value], |at, part| at.into_iter().flat_map(|value| step(part, value)).collect())
}

fn step<'v>(part: &Part, value: &'v Value) -> Vec<&'v Value> {
    match part {
        Part::Field(name) => value.get(name).into_iter().collect(),
        Part::Index(index) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let at = if *index < 0 { list.len() as i64 + index } else { *index };
            usize::try_from(at).ok().and_then(|at| list.get(at)).into_iter().collect()
        }
        Part::Slice { from, to, step } => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let len = list.len() as i64;
            let place = |at: i64| (if at < 0 { at + len } else { at }).clamp(0, len) as usize;
            let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(len)));
            let step = usize::try_from(*step).unwrap_or(1).max(1);
            list.get(from..to).unwrap_or_default().iter().step_by(step).collect()
        }
        Part::Wildcard => children(value),
        Part::Descend => {
            let mut all = vec![value];
            let mut at = 0;
            while at < all.len() {
                let below = children(all[at]);
                at += 1;
                all.splice(at..at, below);
            }
            all
        }
        Part::Union(paths) => paths.iter().flat_map(|path| find(path, value)).collect(),
        Part::Filter { left, test } => children(value)
            .into_iter()
            .filter(|element| {
                let found = find(left, element);
                match (test, found.first()) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some((operator, Operand::Literal(right))), Some(left)) => {
                        holds(*operator, left, right)
                    }
                    (Some((operator, Operand::Path(path))), Some(left)) => {
                        let right = find(path, element);
                        right.first().is_some_and(|right| holds(*operator, left, right))
                    }
                }
            })
            .collect(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn holds(operator: Operator, left: &Value, right: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => {
            left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right))
        }
        (left, right) => (left == right).then_some(Equal),
    };
    match operator {
        Operator::Equal => order == Some(Equal),
        Operator::NotEqual => order != Some(Equal),
        Operator::Less => order == Some(Less),
        Operator::LessOrEqual => matches!(order, Some(Less | Equal)),
        Operator::Greater => order == Some(Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
    }
}

/// Filters may hold paths with filters, up to here.
const DEPTH_MAX: usize = 8;

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, String> {
        if depth > DEPTH_MAX {
            return Err("the path is nested too deep".into());
        }
        let mut parts = Vec::new();
        loop {
            if self.eat("..") {
                parts.push(Part::Descend);
                // Without a name it is everything itself.
                let named = |c: char| c.is_alphanumeric() || matches!(c, '_' | '*' | '\\');
                if self.rest.starts_with(named) {
                    parts.push(self.field()?);
                }
            } else if self.eat(".") {
                // A dot alone is the value itself.
                if !self.rest.is_empty() && !self.rest.starts_with('[') {
                    parts.push(self.field()?);
                }
            } else if self.eat("[") {
                parts.push(self.bracket(depth)?);
            } else {
                return Ok(parts);
            }
        }
    }

    fn field(&mut self) -> Result<Part, String> {
        if self.eat("*") {
            return Ok(Part::Wildcard);
        }
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped)) => name.push(escaped),
                    None => return Err("the path ends in a backslash".into()),
                },
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' | ',' | '|' | '{' | '}' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        Ok(Part::Field(name))
    }

    fn bracket(&mut self, depth: usize) -> Result<Part, String> {
        if self.eat("?(") {
            return self.filter(depth);
        }
        let mut parts = Vec::new();
        loop {
            self.space();
            parts.push(self.subscript()?);
            self.space();
            if self.eat("]") {
                break;
            }
            if !self.eat(",") {
                return Err("unterminated array".into());
            }
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(Part::Union(parts.into_iter().map(|part| vec![part]).collect())),
        }
    }

    fn subscript(&mut self) -> Result<Part, String> {
        if self.eat("*") {
            return Ok(Part::Wildcard);
        }
        if let Some(text) = self.quoted()? {
            return Ok(Part::Field(text));
        }
        let from = self.number()?;
        if !self.eat(":") {
            // Nothing is the first.
            return Ok(Part::Index(from.unwrap_or(0)));
        }
        let to = self.number()?;
        let step = if self.eat(":") { self.number()?.unwrap_or(1) } else { 1 };
        if step <= 0 {
            return Err("step must be > 0".into());
        }
        Ok(Part::Slice { from, to, step })
    }

    fn number(&mut self) -> Result<Option<i64>, String> {
        let digits = self.rest.trim_start_matches('-');
        let digits = digits.trim_start_matches(|c: char| c.is_ascii_digit());
        let text = &self.rest[..self.rest.len() - digits.len()];
        self.rest = digits;
        match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("invalid array index {text}")),
        }
    }

    fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Some(text));
                }
                c => text.push(c),
            }
        }
        Err("unterminated quoted string".into())
    }

    fn filter(&mut self, depth: usize) -> Result<Part, String> {
        self.space();
        if !self.eat("@") {
            return Err("a filter must begin with @".into());
        }
        let left = self.parts(depth + 1)?;
        self.space();
        // Longer ones first.
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let operator = operators.into_iter().find(|(text, _)| self.eat(text));
        let test = match operator {
            None => None,
            Some((_, operator)) => {
                self.space();
                let right = match self.eat("@") {
                    true => Operand::Path(self.parts(depth + 1)?),
                    false => Operand::Literal(self.literal()?),
                };
                Some((operator, right))
            }
        };
        self.space();
        match self.eat(")]") {
            true => Ok(Part::Filter { left, test }),
            false => Err("unterminated filter".into()),
        }
    }

    fn literal(&mut self) -> Result<Value, String> {
        if let Some(text) = self.quoted()? {
            return Ok(text.into());
        }
        let end = self.rest.find(')').unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = serde_json::from_str(text.trim());
        value.map_err(|_| format!("unrecognized literal {text:?} in a filter"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_where_client_go_goes() {
        let object = json!({
            "spec": {"a": 1, "a.b": 2, "list": [{"t": "x", "n": 1}, {"t": "y", "n": 2}, {"n": 3}]},
            "metadata": {"labels": {"k8s.io/x": "l"}},
        });
        for (path, expected) in [
            (".spec.a", json!([1])),
            (".spec.b", json!([])),
            (r".spec.a\.b", json!([2])),
            (r#".metadata.labels["k8s.io/x"]"#, json!(["l"])),
            (r".metadata.labels['k8s\.io/x']", json!(["l"])),
            (".spec.list[1].n", json!([2])),
            (".spec.list[-1].n", json!([3])),
            (".spec.list[0:2].n", json!([1, 2])),
            (".spec.list[::2].n", json!([1, 3])),
            (".spec.list[*].t", json!(["x", "y"])),
            (".spec.list[0,2].n", json!([1, 3])),
            (r#".spec.list[?(@.t=="y")].n"#, json!([2])),
            (".spec.list[?(@.n >= 2)].n", json!([2, 3])),
            (".spec.list[?(@.t)].n", json!([1, 2])),
            ("..t", json!(["x", "y"])),
            (".spec.list[9].n", json!([])),
            (".spec.list[].n", json!([1])),
            (".spec..[1].t", json!(["y"])),
            (".spec.list[0]..", json!([{"t": "x", "n": 1}, 1, "x"])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|why| panic!("{path}: {why}"));
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["spec", ".a[", ".a[b]", ".a[?(b)]", ".a[?(@.b==)]", ".a[0", ".a }"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in r#"[.\[\]?()@="'*:,\\a-c0-2<-]{0,20}"#) {
            if let Ok(path) = JsonPath::parse(&path) {
                path.find(&json!({"a": [{"b": 1}, [2]], "b": {"c": "1"}}));
            }
        }
    }
}

//! Kubernetes' JSONPath templates: `{.items[*].metadata.name}{"\n"}`, with
//! `range`, filters, slices, unions and recursive descent.

use serde_json::Value;

use super::json;

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `$`: the whole object, also within a range.
    Root,
    Field(String),
    All,
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Union(Vec<Vec<Step>>),
    Filter(Operand, Option<(String, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut stack: Vec<(Vec<Step>, Vec<Node>)> = Vec::new();
        let mut nodes = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                nodes.push(Node::Text(rest[..at].to_owned()));
            }
            let inside = &rest[at + 1..];
            let end = closing(inside)?;
            let action = inside[..end].trim();
            rest = &inside[end + 1..];
            if let Some(path) = action.strip_prefix("range ") {
                let steps = Reader::new(path.trim()).steps()?;
                stack.push((steps, std::mem::take(&mut nodes)));
            } else if action == "end" {
                let (steps, outer) = stack.pop().ok_or("not in range, nothing to end")?;
                let body = std::mem::replace(&mut nodes, outer);
                nodes.push(Node::Range(steps, body));
            } else {
                actions(action, &mut nodes)?;
            }
        }
        if !rest.is_empty() {
            nodes.push(Node::Text(rest.to_owned()));
        }
        // Upstream takes a range without an end for one to the end.
        while let Some((steps, outer)) = stack.pop() {
            let body = std::mem::replace(&mut nodes, outer);
            nodes.push(Node::Range(steps, body));
        }
        Ok(Self(nodes))
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// Where an index is out of bounds or a filter does not fit.
    pub(crate) fn run(&self, object: &Value) -> Result<String, String> {
        let mut out = String::new();
        run(&self.0, object, object, &mut out)?;
        Ok(out)
    }

    /// All values that the template's paths find.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub(crate) fn values(&self, object: &Value) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for node in &self.0 {
            match node {
                Node::Path(steps) => {
                    found.extend(walk(steps, object, object)?.into_iter().cloned());
                }
                Node::Text(text) => found.push(Value::String(text.clone())),
                Node::Range(..) => found.push(Value::String(self.run(object)?)),
            }
        }
        Ok(found)
    }
}

/// Where the brace that was opened is closed.
fn closing(text: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut brackets = 0usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => brackets += 1,
            (None, ']') => brackets = brackets.saturating_sub(1),
            (None, '}') if brackets == 0 => return Ok(at),
            _ => {}
        }
    }
    Err(if brackets > 0 { "unterminated array" } else { "unclosed action" }.to_owned())
}

/// What stands in one pair of braces: paths and literals, side by side.
fn actions(text: &str, nodes: &mut Vec<Node>) -> Result<(), String> {
    let mut reader = Reader::new(text);
    loop {
        reader.spaces();
        match reader.peek() {
            None => return Ok(()),
            Some('"' | '\'') => nodes.push(Node::Text(reader.quoted()?)),
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => {
                let number = reader.word();
                nodes.push(Node::Text(number));
            }
            Some(_) => nodes.push(Node::Path(reader.steps()?)),
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn new(rest: &'t str) -> Self {
        Self { rest }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn word(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || "=<>!)],}".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn quoted(&mut self) -> Result<String, String> {
        let open = self.bump().unwrap_or('"');
        let mut text = String::new();
        while let Some(c) = self.bump() {
            match c {
                c if c == open => return Ok(text),
                '\\' => match self.bump() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err("unterminated quoted string".into())
    }

    /// A path, until what cannot belong to one.
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('$') => {
                    self.bump();
                    steps.push(Step::Root);
                }
                Some('@') => {
                    self.bump();
                }
                Some('.') => {
                    self.bump();
                    if self.take(".") {
                        steps.push(Step::Descend);
                        self.field(&mut steps);
                    } else if self.peek() != Some('[') {
                        self.field(&mut steps);
                    }
                }
                Some('[') => {
                    self.bump();
                    steps.push(self.bracket()?);
                }
                Some('*') => {
                    self.bump();
                    steps.push(Step::All);
                }
                Some(c) if steps.is_empty() && (c.is_alphanumeric() || c == '_') => {
                    let word = self.word();
                    return Err(format!("unrecognized identifier {word}"));
                }
                Some(c) if c.is_whitespace() || "=<>!),]".contains(c) => return Ok(steps),
                None => return Ok(steps),
                Some(c) => {
                    return Err(format!(
                        "unrecognized character in action: U+{:04X} '{c}'",
                        u32::from(c)
                    ));
                }
            }
        }
    }

    /// A name behind a dot; dots in it are escaped.
    fn field(&mut self, steps: &mut Vec<Step>) {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.bump();
                    name.extend(self.bump());
                }
                '.' | '[' | ' ' | '\t' | '\n' | ')' | ']' | ',' | '=' | '<' | '>' | '!' | '}' => {
                    break;
                }
                c => {
                    self.bump();
                    name.push(c);
                }
            }
        }
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.spaces();
        if self.take("?(") {
            return self.filter();
        }
        if self.take("*") {
            self.spaces();
            return self.close(Step::All);
        }
        let mut choices = Vec::new();
        loop {
            self.spaces();
            let step = match self.peek() {
                Some('\'' | '"') => Step::Field(self.quoted()?),
                _ => {
                    let end = self.rest.find([',', ']']).ok_or("unterminated array")?;
                    let (text, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    index(text.trim())?
                }
            };
            choices.push(vec![step]);
            self.spaces();
            if !self.take(",") {
                break;
            }
        }
        let step = match choices.len() {
            1 => choices.remove(0).remove(0),
            _ => Step::Union(choices),
        };
        self.close(step)
    }

    fn close(&mut self, step: Step) -> Result<Step, String> {
        if self.take("]") { Ok(step) } else { Err("unterminated array".into()) }
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.spaces();
        let left = self.operand()?;
        self.spaces();
        let operators = ["==", "!=", "<=", ">=", "<", ">"];
        let right = match operators.iter().find(|operator| self.rest.starts_with(**operator)) {
            Some(operator) => {
                self.take(operator);
                self.spaces();
                Some(((*operator).to_owned(), self.operand()?))
            }
            None => None,
        };
        self.spaces();
        if self.take(")") && self.take("]") {
            return Ok(Step::Filter(left, right));
        }
        Err("unterminated filter".into())
    }

    fn operand(&mut self) -> Result<Operand, String> {
        match self.peek() {
            Some('\'' | '"') => Ok(Operand::Value(Value::String(self.quoted()?))),
            Some('@' | '$' | '.' | '[') => Ok(Operand::Path(self.steps()?)),
            _ => {
                let word = self.word();
                let value = serde_json::from_str(&word);
                value.map(Operand::Value).map_err(|_| format!("unrecognized identifier {word}"))
            }
        }
    }
}

/// `3`, `-1`, `0:2`, `::2`.
fn index(text: &str) -> Result<Step, String> {
    let number = |part: &str| match part.trim() {
        "" => Ok(None),
        part => part.parse().map(Some).map_err(|_| format!("invalid array index {text}")),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [one] => match number(one)? {
            Some(at) => Ok(Step::Index(at)),
            None => Err(format!("invalid array index {text}")),
        },
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, by] => Ok(Step::Slice(number(from)?, number(to)?, number(by)?.unwrap_or(1))),
        _ => Err(format!("invalid array index {text}")),
    }
}

fn run(nodes: &[Node], root: &Value, here: &Value, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let found = walk(steps, root, here)?;
                let texts: Vec<String> = found.into_iter().map(text_of).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(steps, body) => {
                for found in walk(steps, root, here)? {
                    match found {
                        // A range over a list means each of it.
                        Value::Array(items)
                            if !matches!(
                                steps.last(),
                                Some(Step::All | Step::Filter(..) | Step::Slice(..))
                            ) =>
                        {
                            for item in items {
                                run(body, root, item, out)?;
                            }
                        }
                        item => run(body, root, item, out)?,
                    }
                }
            }
        }
    }
    Ok(())
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => json::compact(other),
    }
}

fn walk<'v>(steps: &[Step], root: &'v Value, here: &'v Value) -> Result<Vec<&'v Value>, String> {
    let mut found = vec![here];
    for (i, step) in steps.iter().enumerate() {
        let mut next = Vec::new();
        for value in found {
            take(step, steps.get(i + 1), root, value, &mut next)?;
        }
        found = next;
    }
    Ok(found)
}

fn take<'v>(
    step: &Step,
    following: Option<&Step>,
    root: &'v Value,
    value: &'v Value,
    found: &mut Vec<&'v Value>,
) -> Result<(), String> {
    match step {
        Step::Root => found.push(root),
        Step::Field(name) => found.extend(value.get(name)),
        Step::All => match value {
            Value::Array(items) => found.extend(items),
            Value::Object(map) => found.extend(map.values()),
            _ => {}
        },
        Step::Descend => descend(value, following, found),
        Step::Index(at) => {
            let Some(items) = value.as_array() else {
                return match value {
                    Value::Null => Ok(()),
                    _ => Err("is not array or slice".into()),
                };
            };
            let len = items.len() as i64;
            let real = if *at < 0 { *at + len } else { *at };
            match usize::try_from(real).ok().and_then(|real| items.get(real)) {
                Some(item) => found.push(item),
                None => {
                    return Err(format!("array index out of bounds: index {at}, length {len}"));
                }
            }
        }
        Step::Slice(from, to, by) => {
            let Some(items) = value.as_array() else { return Ok(()) };
            let len = items.len() as i64;
            let real = |at: i64| if at < 0 { at + len } else { at }.clamp(0, len) as usize;
            let (from, to) = (real(from.unwrap_or(0)), real(to.unwrap_or(len)));
            let by = usize::try_from(*by).ok().filter(|by| *by > 0).ok_or("step must be > 0")?;
            if from < to {
                found.extend(items[from..to].iter().step_by(by));
            }
        }
        Step::Union(choices) => {
            for steps in choices {
                found.extend(walk(steps, root, value)?);
            }
        }
        Step::Filter(left, right) => {
            for item in value.as_array().into_iter().flatten() {
                if passes(left, right.as_ref(), root, item)? {
                    found.push(item);
                }
            }
        }
    }
    Ok(())
}

/// The value and all below, those that the next step can be taken from.
fn descend<'v>(value: &'v Value, following: Option<&Step>, found: &mut Vec<&'v Value>) {
    let fits = match following {
        Some(Step::Field(name)) => value.get(name).is_some(),
        Some(Step::Index(_)) => value.is_array(),
        _ => true,
    };
    if fits {
        found.push(value);
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, following, found)),
        Value::Object(map) => map.values().for_each(|item| descend(item, following, found)),
        _ => {}
    }
}

fn passes(
    left: &Operand,
    right: Option<&(String, Operand)>,
    root: &Value,
    item: &Value,
) -> Result<bool, String> {
    let value = |operand: &Operand| -> Result<Option<Value>, String> {
        match operand {
            Operand::Value(value) => Ok(Some(value.clone())),
            Operand::Path(steps) => Ok(walk(steps, root, item)?.first().map(|v| (*v).clone())),
        }
    };
    let left = value(left)?;
    let Some((operator, right)) = right else { return Ok(left.is_some()) };
    let (Some(left), Some(right)) = (left, value(right)?) else { return Ok(false) };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    Ok(match operator.as_str() {
        "==" => order.is_some_and(|order| order.is_eq()),
        "!=" => !order.is_some_and(|order| order.is_eq()),
        "<" => order.is_some_and(|order| order.is_lt()),
        "<=" => order.is_some_and(|order| order.is_le()),
        ">" => order.is_some_and(|order| order.is_gt()),
        _ => order.is_some_and(|order| order.is_ge()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_find_what_kubectl_finds() {
        let object = json!({
            "kind": "List",
            "items": [
                {"name": "a", "n": 1, "labels": {"x.io/y": "z"}, "ports": [80, 443]},
                {"name": "b", "n": 2, "ready": true},
            ],
        });
        for (template, text) in [
            ("{.kind}", "List"),
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].name}", "a b"),
            ("{.items[0].name}{\"\\n\"}", "a\n"),
            ("{.items[-1].name}", "b"),
            ("{.items[0:1].name}", "a"),
            ("{.items[0,1].name}", "a b"),
            ("{.items[?(@.name==\"b\")].n}", "2"),
            ("{.items[?(@.n>1)].name}", "b"),
            ("{.items[?(@.ready)].name}", "b"),
            ("{range .items[*]}{.name}={.n};{end}", "a=1;b=2;"),
            ("{range .items}{.name},{end}", "a,b,"),
            ("{.items[0].labels.x\\.io/y}", "z"),
            ("{.items[0].labels['x.io/y']}", "z"),
            ("{.items[0].labels}", r#"{"x.io/y":"z"}"#),
            ("{..name}", "a b"),
            ("{.items[0].ports}", "[80,443]"),
            ("{.nope}", ""),
            ("{.items[0].nope.x}", ""),
            ("{$.kind}", "List"),
            ("{.items[*]['name', 'n']}", "a 1 b 2"),
            ("{range .items[*]}{.name}{\"\\t\"}{$.kind}{end}", "a\tListb\tList"),
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
            ("{end}", "not in range, nothing to end"),
            ("{foo}", "unrecognized identifier foo"),
        ] {
            assert_eq!(Template::parse(template), Err(why.to_owned()), "{template}");
        }
        let out = Template::parse("{.a[3]}").expect("valid").run(&json!({"a": [1]}));
        assert_eq!(out, Err("array index out of bounds: index 3, length 1".to_owned()));
    }
}

//! Go's templates (`text/template`), as far as they are used to print objects:
//! fields, variables, pipelines, `if`, `with`, `range`, `else`, comparisons,
//! `index`, `len`, `printf`, `print`, `println`, and kubectl's
//! `base64decode` and `exists`. Named templates (`define`, `block`, `template`)
//! and methods are refused when the template is read.

use api_schema::go_shown;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// A template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
}

/// Commands, each of which gets the value of the one before as its last
/// argument; and the variables that the outcome is given to.
#[derive(Clone, Debug)]
struct Pipeline {
    variables: Vec<String>,
    declares: bool,
    commands: Vec<Vec<Term>>,
}

#[derive(Clone, Debug)]
enum Term {
    Literal(Value),
    /// `$name.a.b`, `.a.b`, with an empty name for the dot.
    Path(Option<String>, Vec<String>),
    Function(String),
    Inner(Pipeline, Vec<String>),
}

const FUNCTIONS: &[&str] = &[
    "and",
    "base64decode",
    "eq",
    "exists",
    "ge",
    "gt",
    "html",
    "index",
    "js",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
    "urlquery",
];

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is malformed, or not known here.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text)?;
        let mut at = 0;
        let nodes = block(&pieces, &mut at)?;
        match pieces.get(at) {
            None => Ok(Self(nodes)),
            Some(Piece::Action(word)) => Err(format!("unexpected {{{{{word}}}}}")),
            Some(Piece::Text(_)) => Err("unexpected text".into()),
        }
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// Where a function does not fit its arguments.
    pub(crate) fn run(&self, object: &Value) -> Result<String, String> {
        let mut run = Run { out: String::new(), variables: vec![("$".into(), object.clone())] };
        run.nodes(&self.0, object).map_err(|why| format!("error executing template: {why}"))?;
        Ok(run.out)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text.to_owned();
    while let Some(start) = rest.find("{{") {
        let mut before = rest[..start].to_owned();
        let mut inside = &rest[start + 2..];
        if let Some(trimmed) = inside.strip_prefix("- ") {
            before = before.trim_end().to_owned();
            inside = trimmed;
        }
        let end = action_end(inside).ok_or("unclosed action")?;
        let mut action = inside[..end].to_owned();
        let mut after = inside[end + 2..].to_owned();
        if let Some(trimmed) = action.strip_suffix(" -") {
            action = trimmed.to_owned();
            after = after.trim_start().to_owned();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let action = action.trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

/// Nodes until an `end` or `else` that is not theirs.
fn block(pieces: &[Piece], at: &mut usize) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.get(*at) {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text.clone()));
                *at += 1;
                continue;
            }
            Piece::Action(action) => action,
        };
        let word = action.split_whitespace().next().unwrap_or_default();
        match word {
            "end" | "else" => return Ok(nodes),
            "define" | "block" | "template" | "break" | "continue" => {
                return Err(format!("{{{{{word}}}}} is not known to this kubectl"));
            }
            "if" | "with" | "range" => {
                *at += 1;
                nodes.push(branch(word, &action[word.len()..], pieces, at)?);
            }
            _ => {
                nodes.push(Node::Print(pipeline(action)?));
                *at += 1;
            }
        }
    }
    Ok(nodes)
}

fn branch(word: &str, condition: &str, pieces: &[Piece], at: &mut usize) -> Result<Node, String> {
    let condition = pipeline(condition)?;
    let body = block(pieces, at)?;
    let otherwise = match pieces.get(*at) {
        Some(Piece::Action(action)) if action == "end" => {
            *at += 1;
            Vec::new()
        }
        Some(Piece::Action(action)) if action == "else" => {
            *at += 1;
            let nodes = block(pieces, at)?;
            match pieces.get(*at) {
                Some(Piece::Action(action)) if action == "end" => *at += 1,
                _ => return Err("unexpected EOF".into()),
            }
            nodes
        }
        Some(Piece::Action(action)) if action.starts_with("else if ") => {
            let condition = action["else if ".len()..].to_owned();
            *at += 1;
            vec![branch("if", &condition, pieces, at)?]
        }
        _ => return Err("unexpected EOF".into()),
    };
    Ok(match word {
        "if" => Node::If(condition, body, otherwise),
        "with" => Node::With(condition, body, otherwise),
        _ => Node::Range(condition, body, otherwise),
    })
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let tokens = tokens(text)?;
    let mut at = 0;
    let pipeline = read_pipeline(&tokens, &mut at)?;
    match tokens.get(at) {
        None => Ok(pipeline),
        Some(token) => Err(format!("unexpected {token:?} in command")),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '"' => {
                let mut escaped = false;
                let close = rest[1..].char_indices().find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                close.map(|(at, _)| at + 2).ok_or("unterminated quoted string")?
            }
            '`' => rest[1..].find('`').map(|at| at + 2).ok_or("unterminated raw quoted string")?,
            '|' | '(' | ',' => 1,
            // What stands behind the bracket belongs to it: `(index .a 0).b`.
            ')' => {
                1 + rest[1..]
                    .find(|c: char| c.is_whitespace() || "|(),".contains(c))
                    .unwrap_or(rest.len() - 1)
            }
            ':' if rest.starts_with(":=") => 2,
            '=' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || "|(),=".contains(c))
                .map(|at| if rest[..at].ends_with(':') { at - 1 } else { at })
                .unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

fn read_pipeline(tokens: &[String], at: &mut usize) -> Result<Pipeline, String> {
    let mut variables = Vec::new();
    let mut declares = false;
    let sign = tokens[*at..].iter().position(|token| token == ":=" || token == "=");
    if let Some(sign) = sign.filter(|_| tokens.get(*at).is_some_and(|t| t.starts_with('$'))) {
        let names = tokens[*at..*at + sign].iter().filter(|token| *token != ",");
        variables = names.cloned().collect();
        declares = tokens[*at + sign] == ":=";
        *at += sign + 1;
    }
    let mut commands = vec![Vec::new()];
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            token if token.starts_with(')') => break,
            "|" => {
                *at += 1;
                commands.push(Vec::new());
            }
            "(" => {
                *at += 1;
                let inner = read_pipeline(tokens, at)?;
                let close = tokens.get(*at).ok_or("unclosed left paren")?;
                let fields = names(close[1..].trim_start_matches('.'));
                *at += 1;
                commands.last_mut().expect("there is one").push(Term::Inner(inner, fields));
            }
            token => {
                *at += 1;
                commands.last_mut().expect("there is one").push(term(token)?);
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("missing value for command".into());
    }
    Ok(Pipeline { variables, declares, commands })
}

fn names(path: &str) -> Vec<String> {
    path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn term(token: &str) -> Result<Term, String> {
    if let Some(path) = token.strip_prefix('.') {
        return Ok(Term::Path(None, names(path)));
    }
    if token.starts_with('$') {
        let (name, path) = token.split_once('.').unwrap_or((token, ""));
        return Ok(Term::Path(Some(name.to_owned()), names(path)));
    }
    if token.starts_with('"') {
        let text = serde_json::from_str(token).map_err(|_| format!("invalid syntax: {token}"))?;
        return Ok(Term::Literal(Value::String(text)));
    }
    if token.starts_with('`') {
        return Ok(Term::Literal(Value::String(token.trim_matches('`').to_owned())));
    }
    match token {
        "true" => Ok(Term::Literal(true.into())),
        "false" => Ok(Term::Literal(false.into())),
        "nil" => Ok(Term::Literal(Value::Null)),
        name if FUNCTIONS.contains(&name) => Ok(Term::Function(name.to_owned())),
        number => match serde_json::from_str::<Value>(number) {
            Ok(value @ Value::Number(_)) => Ok(Term::Literal(value)),
            _ => Err(format!("function {number:?} not defined")),
        },
    }
}

struct Run {
    out: String,
    variables: Vec<(String, Value)>,
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        let depth = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let (value, present) = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&match (value, present) {
                            (Value::Null, _) => "<no value>".to_owned(),
                            (value, _) => go_shown(&value),
                        });
                    }
                }
                Node::If(condition, body, otherwise) => {
                    let scope = self.variables.len();
                    let (value, _) = self.pipeline(condition, dot)?;
                    self.nodes(if truth(&value) { body } else { otherwise }, dot)?;
                    self.variables.truncate(scope);
                }
                Node::With(condition, body, otherwise) => {
                    let scope = self.variables.len();
                    let (value, _) = self.pipeline(condition, dot)?;
                    match truth(&value) {
                        true => self.nodes(body, &value)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                    self.variables.truncate(scope);
                }
                Node::Range(over, body, otherwise) => self.range(over, body, otherwise, dot)?,
            }
        }
        self.variables.truncate(depth);
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let bare = Pipeline { variables: Vec::new(), ..over.clone() };
        let (value, _) = self.pipeline(&bare, dot)?;
        let pairs: Vec<(Value, Value)> = match value {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(i, item)| (i.into(), item)).collect()
            }
            Value::Object(map) => map.into_iter().map(|(key, item)| (key.into(), item)).collect(),
            Value::Null => Vec::new(),
            other => return Err(format!("range can't iterate over {}", go_shown(&other))),
        };
        if pairs.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in pairs {
            let scope = self.variables.len();
            match over.variables.as_slice() {
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            self.nodes(body, &item)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    /// The value, and whether there was one.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<(Value, bool), String> {
        let mut last: Option<Value> = None;
        for command in &pipeline.commands {
            let piped = last.take();
            last = Some(match &command[0] {
                Term::Function(name) => {
                    let mut arguments = Vec::new();
                    for term in &command[1..] {
                        arguments.push(self.term(term, dot)?);
                    }
                    arguments.extend(piped);
                    call(name, &arguments)?
                }
                _ if command.len() > 1 => {
                    return Err("can't give argument to non-function".to_owned());
                }
                term => self.term(term, dot)?,
            });
        }
        let value = last.unwrap_or_default();
        if let [name] = pipeline.variables.as_slice() {
            let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
            match known {
                Some((_, slot)) if !pipeline.declares => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok((value, true))
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        let follow = |value: &Value, path: &[String]| -> Result<Value, String> {
            let mut value = value;
            for name in path {
                value = match value {
                    Value::Object(map) => map.get(name).unwrap_or(&Value::Null),
                    Value::Null => &Value::Null,
                    other => {
                        return Err(format!("can't evaluate field {name} in {}", go_shown(other)));
                    }
                };
            }
            Ok(value.clone())
        };
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Path(None, path) => follow(dot, path),
            Term::Path(Some(name), path) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| format!("undefined variable {name:?}"))?;
                follow(value, path)
            }
            Term::Inner(pipeline, path) => {
                let (value, _) = self.pipeline(pipeline, dot)?;
                follow(&value, path)
            }
            Term::Function(name) => call(name, &[]),
        }
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = || {
        arguments.first().ok_or_else(|| format!("wrong number of args for {name}: want at least 1"))
    };
    let order = || -> Result<std::cmp::Ordering, String> {
        match arguments {
            [Value::Number(a), Value::Number(b)] => a
                .as_f64()
                .zip(b.as_f64())
                .and_then(|(a, b)| a.partial_cmp(&b))
                .ok_or_else(|| "invalid type for comparison".to_owned()),
            [Value::String(a), Value::String(b)] => Ok(a.cmp(b)),
            _ => Err("incompatible types for comparison".to_owned()),
        }
    };
    let number_equal = |a: &Value, b: &Value| {
        a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
    };
    Ok(match name {
        "and" => {
            arguments.iter().find(|v| !truth(v)).or(arguments.last()).cloned().unwrap_or_default()
        }
        "or" => {
            arguments.iter().find(|v| truth(v)).or(arguments.last()).cloned().unwrap_or_default()
        }
        "not" => (!truth(first()?)).into(),
        "len" => match first()? {
            Value::String(text) => text.len().into(),
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            other => return Err(format!("len of type {}", go_shown(other))),
        },
        "eq" => arguments[1..].iter().any(|other| number_equal(&arguments[0], other)).into(),
        "ne" => (!number_equal(first()?, arguments.get(1).unwrap_or(&Value::Null))).into(),
        "lt" => order()?.is_lt().into(),
        "le" => order()?.is_le().into(),
        "gt" => order()?.is_gt().into(),
        "ge" => order()?.is_ge().into(),
        "index" => index(first()?, &arguments[1..], true)?,
        "exists" => (!index(first()?, &arguments[1..], false)?.is_null()).into(),
        "base64decode" => {
            let text = first()?.as_str().ok_or("base64decode takes a text")?;
            let bytes =
                STANDARD.decode(text).map_err(|why| format!("base64 decode failed: {why}"))?;
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        "printf" => {
            let format = first()?.as_str().ok_or("printf takes a format")?;
            printf(format, &arguments[1..]).into()
        }
        "print" => arguments.iter().map(go_shown).collect::<Vec<_>>().concat().into(),
        "println" => (arguments.iter().map(go_shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        other => return Err(format!("{other} is not known to this kubectl")),
    })
}

fn index(value: &Value, keys: &[Value], strict: bool) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).unwrap_or(&Value::Null),
            (Value::Array(items), Value::Number(at)) => {
                let found = at.as_u64().and_then(|at| items.get(at as usize));
                match found {
                    Some(item) => item,
                    None if strict => return Err(format!("index out of range: {at}")),
                    None => &Value::Null,
                }
            }
            _ if !strict => &Value::Null,
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (other, _) => return Err(format!("can't index item of {}", go_shown(other))),
        };
    }
    Ok(value.clone())
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, `%%`, with a width.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '+')) {
            flags.push(c);
        }
        let verb = chars.next().unwrap_or('%');
        if verb == '%' {
            out.push('%');
            continue;
        }
        let text = match (verb, arguments.next()) {
            (verb, None) => format!("%!{verb}(MISSING)"),
            ('q', Some(value)) => format!("{:?}", go_shown(value)),
            (_, Some(value)) => go_shown(value),
        };
        let width: usize = flags
            .trim_start_matches(['-', '+'])
            .split('.')
            .next()
            .and_then(|width| width.parse().ok())
            .unwrap_or(0);
        match flags.starts_with('-') {
            true => out.push_str(&format!("{text:width$}")),
            false => out.push_str(&format!("{text:>width$}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_what_go_prints() {
        let object = json!({
            "items": [{"name": "a", "n": 1}, {"name": "b", "n": 2, "labels": {"x": "y"}}],
            "data": {"k": "aGk="}, "on": true,
        });
        for (template, text) in [
            ("{{range .items}}{{.name}} {{end}}", "a b "),
            ("{{range $i, $e := .items}}{{$i}}{{$e.name}}{{end}}", "0a1b"),
            ("{{range $k, $v := .data}}{{$k}}={{$v | base64decode}}{{end}}", "k=hi"),
            ("{{.nope}} {{.data.nope}}", "<no value> <no value>"),
            ("{{if .on}}yes{{else}}no{{end}}", "yes"),
            ("{{if eq 1 2}}a{{else if .nope}}b{{else}}c{{end}}", "c"),
            ("{{with .data}}{{.k}}{{end}}", "aGk="),
            ("{{index .items 1 \"name\"}} {{(index .items 0).n}}", "b 1"),
            ("{{len .items}}{{\"\\n\"}}", "2\n"),
            ("{{printf \"%-4s|%3d\" \"a\" 7}}", "a   |  7"),
            ("{{range .items}}{{if .labels}}{{.labels}}{{end}}{{end}}", "map[x:y]"),
            ("a {{- /* none */ -}} b", "ab"),
            ("{{range .items}}{{if and (eq .name \"b\") (gt .n 1)}}{{.n}}{{end}}{{end}}", "2"),
            ("{{$x := \"\"}}{{range .items}}{{$x = .name}}{{end}}{{$x}}", "b"),
            ("{{range .nope}}x{{else}}none{{end}}", "none"),
        ] {
            let parsed =
                Template::parse(template).unwrap_or_else(|why| panic!("{template}: {why}"));
            assert_eq!(parsed.run(&object).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_malformed_or_unknown_is_said() {
        for (template, why) in [
            ("{{.a", "unclosed action"),
            ("{{foo .a}}", "not defined"),
            ("{{if .a}}x", "EOF"),
            ("{{template \"x\"}}", "not known"),
            ("{{end}}", "unexpected"),
        ] {
            assert!(Template::parse(template).expect_err(template).contains(why), "{template}");
        }
    }
}

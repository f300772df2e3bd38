//! Go's templates (`text/template`), as far as they are used to print objects:
//! everything but methods and functions as values.

mod functions;
pub(super) mod go_text;
mod printf;
mod run;

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use self::run::Run;

/// Deeper ones would only serve to exhaust the stack.
const DEEPEST: usize = 100;
/// A template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
    named: BTreeMap<String, Vec<Node>>,
}

/// What stands where in a template, for what is said of it.
#[derive(Clone, Debug)]
struct Place {
    at: usize,
    text: String,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Named(String, Option<Pipeline>, Place),
    Break,
    Continue,
}

/// Commands, each of which gets the value of the one before as its last
/// argument; and the variables that the outcome is given to.
#[derive(Clone, Debug)]
struct Pipeline {
    variables: Vec<String>,
    declares: bool,
    commands: Vec<Command>,
}

#[derive(Clone, Debug)]
struct Command {
    terms: Vec<Term>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Term {
    Literal(Value),
    /// `$name.a.b`, `.a.b`, with an empty name for the dot.
    Path(Option<String>, Vec<String>, Place),
    Function(String, Place),
    Inner(Pipeline, Vec<String>, Place),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is malformed, or not known here.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let told = |at: usize, why: String| {
            let (line, _) = line_and_column(text, at);
            format!("template: output:{line}: {why}")
        };
        let pieces = pieces(text).map_err(|at| told(at, "unclosed action".into()))?;
        let mut reader = Reader { pieces, end: text.len(), ..Reader::default() };
        let nodes = reader.block().map_err(|why| told(reader.here, why))?;
        match reader.pieces.get(reader.at) {
            None => Ok(Self { text: text.to_owned(), nodes, named: reader.named }),
            Some(Piece::Action(word, at)) => Err(told(*at, format!("unexpected {{{{{word}}}}}"))),
            Some(Piece::Text(_)) => Err("unexpected text".into()),
        }
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// Where a function does not fit its arguments.
    pub(crate) fn run(&self, object: &Value) -> Result<String, String> {
        let mut run = Run {
            out: String::new(),
            variables: vec![("$".into(), object.clone())],
            named: &self.named,
            depth: 0,
            name: "output",
            place: None,
        };
        match run.nodes(&self.nodes, object) {
            Ok(_) => Ok(run.out),
            Err(why) => {
                let (at, there) = run.place.map_or((0, ""), |place| (place.at, &place.text));
                let (line, column) = line_and_column(&self.text, at);
                Err(format!(
                    "error executing template {:?}: template: output:{line}:{column}: executing {:?} at <{there}>: {why}",
                    self.text, run.name
                ))
            }
        }
    }
}

/// Counted as Go does: lines from one, and bytes of a line from none.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    (lines + 1, before.len() - line_start)
}

enum Piece {
    Text(String),
    /// And where it begins.
    Action(String, usize),
}

/// What a template is made of, or where an action begins that has no end.
fn pieces(text: &str) -> Result<Vec<Piece>, usize> {
    let mut pieces = Vec::new();
    let mut rest = text.to_owned();
    while let Some(start) = rest.find("{{") {
        let mut before = rest[..start].to_owned();
        let mut inside = &rest[start + 2..];
        if let Some(trimmed) = inside.strip_prefix("- ") {
            before = before.trim_end().to_owned();
            inside = trimmed;
        }
        let begin = text.len() - inside.len();
        let end = action_end(inside).ok_or(begin)?;
        let mut action = inside[..end].to_owned();
        let mut after = inside[end + 2..].to_owned();
        if let Some(trimmed) = action.strip_suffix(" -") {
            action = trimmed.to_owned();
            after = after.trim_start().to_owned();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let begin = begin + action.len() - action.trim_start().len();
        let action = action.trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.to_owned(), begin));
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
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

#[derive(Default)]
struct Reader {
    pieces: Vec<Piece>,
    at: usize,
    named: BTreeMap<String, Vec<Node>>,
    depth: usize,
    ranges: usize,
    /// Where what is read now begins, and where the template ends.
    here: usize,
    end: usize,
}

impl Reader {
    fn action(&mut self) -> Option<String> {
        self.here = self.end;
        match self.pieces.get(self.at)? {
            Piece::Action(action, at) => {
                self.here = *at;
                Some(action.clone())
            }
            Piece::Text(_) => None,
        }
    }

    /// Nodes until an `end` or `else` that is not theirs.
    fn block(&mut self) -> Result<Vec<Node>, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("blocks are nested too deep".to_owned());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    self.at += 1;
                    continue;
                }
                Piece::Action(action, at) => {
                    self.here = *at;
                    action.clone()
                }
            };
            let here = self.here;
            let end = action.find(|c: char| !c.is_alphanumeric()).unwrap_or(action.len());
            let (word, rest) = action.split_at(end);
            let rest_at = here + end;
            if matches!(word, "end" | "else") {
                break;
            }
            self.at += 1;
            match word {
                "break" | "continue" => {
                    if !rest.trim().is_empty() {
                        return Err(format!("unexpected {:?} in {{{{{word}}}}}", rest.trim()));
                    }
                    if self.ranges == 0 {
                        return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                    }
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                "if" | "with" | "range" => nodes.push(self.branch(word, rest, rest_at)?),
                "define" => {
                    let (name, rest, _) = name(word, rest, rest_at)?;
                    if !rest.is_empty() {
                        return Err(format!("unexpected {rest:?} in define clause"));
                    }
                    self.define(name)?;
                }
                "block" => {
                    let (name, rest, at) = name(word, rest, rest_at)?;
                    let argument = pipeline(&rest, here + action.len() - rest.len())?;
                    let place = Place { at, text: written_action(&action)? };
                    nodes.push(Node::Named(name.clone(), Some(argument), place));
                    self.define(name)?;
                }
                "template" => {
                    let (name, rest, at) = name(word, rest, rest_at)?;
                    let argument = match rest.is_empty() {
                        true => None,
                        false => Some(pipeline(&rest, here + action.len() - rest.len())?),
                    };
                    let place = Place { at, text: written_action(&action)? };
                    nodes.push(Node::Named(name, argument, place));
                }
                _ => nodes.push(Node::Print(pipeline(&action, here)?)),
            }
        }
        self.depth -= 1;
        Ok(nodes)
    }

    fn define(&mut self, name: String) -> Result<(), String> {
        let ranges = std::mem::take(&mut self.ranges);
        let body = self.block()?;
        self.end()?;
        self.ranges = ranges;
        self.named.insert(name, body);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.action().as_deref() {
            Some("end") => {
                self.at += 1;
                Ok(())
            }
            Some(other) => Err(format!("expected end; found {{{{{other}}}}}")),
            None => Err("unexpected EOF".to_owned()),
        }
    }

    fn branch(&mut self, word: &str, condition: &str, at: usize) -> Result<Node, String> {
        if condition.trim().is_empty() {
            return Err(format!("missing value for {word}"));
        }
        let condition = pipeline(condition, at)?;
        self.ranges += usize::from(word == "range");
        let body = self.block()?;
        self.ranges -= usize::from(word == "range");
        let action = self.action().ok_or("unexpected EOF")?;
        let after = action.strip_prefix("else").map(str::trim);
        let chained = after.and_then(|after| {
            let rest = after.strip_prefix(word).filter(|_| word != "range")?;
            rest.is_empty()
                .then_some(rest)
                .or_else(|| rest.strip_prefix(|c: char| !c.is_alphanumeric()).map(|_| rest))
        });
        let otherwise = match (after, chained) {
            (_, Some(condition)) => {
                self.at += 1;
                self.depth += 1;
                let at = self.here + action.len() - condition.len();
                let node = self.branch(word, condition, at)?;
                self.depth -= 1;
                vec![node]
            }
            (Some(""), None) => {
                self.at += 1;
                let nodes = self.block()?;
                self.end()?;
                nodes
            }
            _ => {
                self.end()?;
                Vec::new()
            }
        };
        Ok(match word {
            "if" => Node::If(condition, body, otherwise),
            "with" => Node::With(condition, body, otherwise),
            _ => Node::Range(condition, body, otherwise),
        })
    }
}

/// The name in quotes behind `define`, `block` and `template`, what is behind it, and where
/// it is.
fn name(word: &str, rest: &str, at: usize) -> Result<(String, String, usize), String> {
    let tokens = tokens(rest, at)?;
    let none = Place { at, text: "}}".into() };
    let token = tokens.first().unwrap_or(&none);
    match term(token) {
        Ok(Term::Literal(Value::String(name))) => {
            let rest = rest.trim_start().get(token.text.len()..).unwrap_or_default();
            Ok((name, rest.trim().to_owned(), token.at))
        }
        _ => Err(format!("unexpected {:?} in {word} clause", token.text)),
    }
}

fn pipeline(text: &str, at: usize) -> Result<Pipeline, String> {
    let tokens = tokens(text, at)?;
    let mut at = 0;
    let pipeline = read_pipeline(&tokens, &mut at, 0)?;
    match tokens.get(at) {
        None => Ok(pipeline),
        Some(token) => Err(format!("unexpected {:?} in command", token.text)),
    }
}

/// Tokens as Go writes them.
fn written(tokens: &[Place]) -> String {
    let mut text = String::new();
    for token in tokens {
        if !text.is_empty() && !text.ends_with('(') && !token.text.starts_with(')') {
            text.push(' ');
        }
        text.push_str(&token.text);
    }
    text
}

fn written_action(action: &str) -> Result<String, String> {
    Ok(format!("{{{{{}}}}}", written(&tokens(action, 0)?)))
}

fn tokens(text: &str, at: usize) -> Result<Vec<Place>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(quote) = rest.chars().next() {
        let end = match quote {
            '"' | '\'' => {
                let mut escaped = false;
                let close = rest[1..].char_indices().find(|(_, c)| {
                    let ends = *c == quote && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                close.map(|(at, _)| at + 2).ok_or(match quote {
                    '"' => "unterminated quoted string",
                    _ => "unterminated character constant",
                })?
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
        let at = at + text.len() - rest.len();
        tokens.push(Place { at, text: rest[..end].to_owned() });
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

fn read_pipeline(tokens: &[Place], at: &mut usize, depth: usize) -> Result<Pipeline, String> {
    if depth > DEEPEST {
        return Err("parentheses are nested too deep".to_owned());
    }
    let mut variables = Vec::new();
    let mut declares = false;
    let sign = tokens[*at..].iter().position(|token| token.text == ":=" || token.text == "=");
    if let Some(sign) = sign.filter(|_| tokens.get(*at).is_some_and(|t| t.text.starts_with('$'))) {
        let names = tokens[*at..*at + sign].iter().filter(|token| token.text != ",");
        variables = names.map(|token| token.text.clone()).collect();
        declares = tokens[*at + sign].text == ":=";
        *at += sign + 1;
    }
    let mut commands = Vec::new();
    loop {
        let begin = *at;
        let mut terms = Vec::new();
        while let Some(token) = tokens.get(*at) {
            match token.text.as_str() {
                "|" => break,
                text if text.starts_with(')') => break,
                "(" => {
                    *at += 1;
                    let open = *at - 1;
                    let inner = read_pipeline(tokens, at, depth + 1)?;
                    let close = tokens.get(*at).ok_or("unclosed left paren")?;
                    let fields = names(close.text[1..].trim_start_matches('.'));
                    *at += 1;
                    let place = Place { at: close.at + 1, text: written(&tokens[open..*at]) };
                    terms.push(Term::Inner(inner, fields, place));
                }
                _ => {
                    *at += 1;
                    terms.push(term(token)?);
                }
            }
        }
        let Some(first) = tokens.get(begin).filter(|_| !terms.is_empty()) else {
            return Err("missing value for command".into());
        };
        let place = Place { at: first.at, text: written(&tokens[begin..*at]) };
        commands.push(Command { terms, place });
        match tokens.get(*at) {
            Some(token) if token.text == "|" => *at += 1,
            _ => return Ok(Pipeline { variables, declares, commands }),
        }
    }
}

fn names(path: &str) -> Vec<String> {
    path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn term(token: &Place) -> Result<Term, String> {
    let place = |skipped: usize| Place { at: token.at + skipped, text: token.text.clone() };
    let token = token.text.as_str();
    if let Some(path) = token.strip_prefix('.') {
        // To Go a path of several names is where the second is.
        let second = path.find('.').map_or(0, |at| at + 1);
        return Ok(Term::Path(None, names(path), place(second)));
    }
    if token.starts_with('$') {
        let (name, path) = token.split_once('.').unwrap_or((token, ""));
        let skipped = if path.is_empty() { 0 } else { name.len() };
        return Ok(Term::Path(Some(name.to_owned()), names(path), place(skipped)));
    }
    if let Some(text) = token.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let text = go_text::unquote(text, '"').ok_or_else(|| format!("invalid syntax: {token}"))?;
        return Ok(Term::Literal(Value::String(text)));
    }
    if let Some(text) = token.strip_prefix('\'') {
        let text = text.strip_suffix('\'').and_then(|text| go_text::unquote(text, '\''));
        let mut chars = text.as_deref().unwrap_or_default().chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Term::Literal(u32::from(c).into())),
            _ => Err(format!("malformed character constant: {token}")),
        };
    }
    if token.starts_with('`') {
        return Ok(Term::Literal(Value::String(token.trim_matches('`').to_owned())));
    }
    match token {
        "true" => Ok(Term::Literal(true.into())),
        "false" => Ok(Term::Literal(false.into())),
        "nil" => Ok(Term::Literal(Value::Null)),
        name if functions::is_known(name) => Ok(Term::Function(name.to_owned(), place(0))),
        other if other.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => {
            number(other)
                .map(|number| Term::Literal(Value::Number(number)))
                .ok_or_else(|| format!("bad number syntax: {other:?}"))
        }
        "|" | "," => Err(format!("unexpected {token:?} in operand")),
        name => Err(format!("function {name:?} not defined")),
    }
}

/// A number as Go's source has it: `1_000`, `0x1f`, `017`, `1e3`.
fn number(token: &str) -> Option<Number> {
    let (sign, digits) = match token.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", token.strip_prefix('+').unwrap_or(token)),
    };
    let digits = digits.replace('_', "").to_ascii_lowercase();
    let octal = digits.strip_prefix("0o").or_else(|| {
        digits
            .strip_prefix('0')
            .filter(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    let (radix, whole) = if let Some(rest) = digits.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = digits.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = octal {
        (8, rest)
    } else {
        (10, digits.as_str())
    };
    if whole.contains(['+', '-']) && radix != 10 {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{whole}"), radix) {
        return Some(number.into());
    }
    let fractional = radix == 10 && digits.contains(['.', 'e']);
    let float = fractional.then(|| format!("{sign}{digits}").parse().ok()).flatten();
    float.and_then(Number::from_f64)
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
            ("{{range .items}}{{.name}}{{break}}{{end}}", "a"),
            ("{{range .items}}{{if eq .name \"a\"}}{{continue}}{{end}}{{.name}}{{end}}", "b"),
            ("{{range 3}}{{.}}{{end}}{{range $i := 2}}{{$i}}{{end}}", "01201"),
            (
                "{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .on}}{{template \"x\"}}",
                "[true][<no value>]",
            ),
            ("{{block \"y\" .data}}{{.k}}{{end}}", "aGk="),
            ("{{'c'}} {{'\\n'}} {{'\u{e9}'}}", "99 10 233"),
            (
                "{{100000.0}} {{1e-6}} {{1e21}} {{0x10}} {{1_000}} {{017}} {{-3}}",
                "100000 1e-06 1e+21 16 1000 15 -3",
            ),
            ("{{\"a\\x41\"}}{{`r\"aw`}}", "aAr\"aw"),
            (
                "{{html \"<a b='c'>&\"}} {{html .nope}}",
                "&lt;a b=&#39;c&#39;&gt;&amp; &lt;no value&gt;",
            ),
            ("{{js \"<a\\n\\\"'=\\\\\"}}", "\\u003Ca\\u000A\\\"\\'\\u003D\\\\"),
            ("{{urlquery \"a b&c/d?~-_.*\"}}", "a+b%26c%2Fd%3F~-_.%2A"),
            ("{{print 1 2 \"a\" \"b\" 3}}{{println 1 \"a\"}}", "1 2ab31 a\n"),
            ("{{slice \"abc\" 1 2}}{{slice \"abc\" 1}}{{index \"abc\" 1}}", "bbc98"),
            (
                "{{or 0 \"x\"}} {{and 1 0 (index .nope 1)}} {{eq 1 2 1}} {{eq .nope nil}}",
                "x 0 true true",
            ),
            ("{{with .nope}}{{else with .on}}{{.}}{{end}}", "true"),
            ("{{exists .data \"k\"}} {{exists .data \"q\"}} {{print nil}}", "true false <nil>"),
            (
                "{{printf \"%.2f\" 1.0}} {{printf \"%99999999999d\" 1}}",
                "1.00 %!(NOVERB)%!(EXTRA int=1)",
            ),
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
            ("{{end}}", "unexpected"),
            ("{{break}}", "{{break}} outside {{range}}"),
            ("{{range .a}}{{else}}{{break}}{{end}}", "{{break}} outside {{range}}"),
            ("{{template}}", "in template clause"),
            ("{{define}}{{end}}", "in define clause"),
            ("{{define \"x\"}}a", "unexpected EOF"),
            ("{{if 1}}{{else}}{{else}}{{end}}", "expected end; found {{else}}"),
            ("{{if}}x{{end}}", "missing value for if"),
            ("{{'ab'}}", "malformed character constant: 'ab'"),
            ("{{'", "unclosed action"),
            ("{{}}", "missing value for command"),
            ("{{1x}}", "bad number syntax"),
        ] {
            assert!(Template::parse(template).expect_err(template).contains(why), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let executing = |name: &str, at: &str, there: &str, why: &str| {
            format!("template: output:{at}: executing {name:?} at <{there}>: {why}")
        };
        let field = "can't evaluate field x in type interface {}";
        let index = "error calling index: index out of range: 5";
        for (template, why) in [
            ("{{.n.x}}", executing("output", "1:4", ".n.x", field)),
            ("a\nb {{- .n.x -}}", executing("output", "2:8", ".n.x", field)),
            ("{{with $.n}}{{$.n.x}}{{end}}", executing("output", "1:15", "$.n.x", field)),
            ("{{(index .a  0).x}}", executing("output", "1:15", "(index .a 0).x", field)),
            ("{{1 | index  .a 5}}", executing("output", "1:6", "index .a 5", index)),
            (
                "{{if .no}}{{else if index .a 5}}{{end}}",
                executing("output", "1:20", "index .a 5", index),
            ),
            ("{{range .s}}{{end}}", executing("output", "1:8", ".s", "range can't iterate over t")),
            (
                "{{len}}",
                executing("output", "1:2", "len", "wrong number of args for len: want 1 got 0"),
            ),
            ("{{.n 1}}", executing("output", "1:2", ".n", "n is not a method but has arguments")),
            (
                "{{template  \"q\" .n}}",
                executing("output", "1:12", "{{template \"q\" .n}}", "template \"q\" not defined"),
            ),
            (
                "{{define \"d\"}}{{.x}}{{end}}{{template \"d\" .n}}",
                executing("d", "1:16", ".x", field),
            ),
        ] {
            let told = Template::parse(template)
                .expect(template)
                .run(&json!({"a": [1], "n": 1, "s": "t"}));
            assert_eq!(told, Err(format!("error executing template {template:?}: {why}")));
        }
        for (template, why) in [
            ("a\n{{nope}}", "template: output:2: function \"nope\" not defined"),
            ("{{if .a}}\n\n", "template: output:3: unexpected EOF"),
            ("\n{{.a", "template: output:2: unclosed action"),
        ] {
            assert_eq!(Template::parse(template).expect_err(template), why);
        }
    }

    #[test]
    fn what_does_not_fit_an_object_is_said() {
        for (template, why) in [
            ("{{eq}}", "wrong number of args for eq: want at least 1 got 0"),
            ("{{eq 1}}", "error calling eq: missing argument for comparison"),
            ("{{eq 1 \"a\"}}", "incompatible types for comparison: int and string"),
            ("{{lt 1}}", "wrong number of args for lt: want 2 got 1"),
            ("{{not}}", "wrong number of args for not: want 1 got 0"),
            ("{{index}}", "wrong number of args for index: want at least 1 got 0"),
            ("{{index .a 5}}", "index out of range: 5"),
            ("{{slice .a 5}}", "index out of range: 5"),
            ("{{slice .a 1 0}}", "invalid slice index"),
            ("{{len 3}}", "len of type int"),
            ("{{printf 1}}", "expected string; found 1"),
            ("{{nil}}", "nil is not a command"),
            ("{{template \"no\"}}", "template \"no\" not defined"),
            (
                "{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}",
                "maximum template depth",
            ),
            ("{{$x := \"aaaaaaaa\"}}{{range 60}}{{$x = print $x $x}}{{end}}", "too long"),
        ] {
            let told = Template::parse(template).expect(template).run(&json!({"a": [1, 2]}));
            assert!(told.as_ref().is_err_and(|told| told.contains(why)), "{template}: {told:?}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        let words = [
            "{{",
            "}}",
            "{{",
            "}}",
            "{{- ",
            " -}}",
            "if ",
            "else",
            "end",
            "range ",
            "with ",
            "define ",
            "block ",
            "template ",
            "break",
            "continue",
            "eq",
            "printf ",
            "index ",
            "slice ",
            "len ",
            "\"%d\"",
            "\"x\"",
            "'c'",
            "'",
            "\"",
            "`",
            "(",
            ")",
            "|",
            ":=",
            "=",
            ",",
            "$",
            "$x",
            ".",
            ".a",
            " ",
            "1",
            "-1",
            "1.5",
            "0x",
            "\\",
            "\u{e9}",
            "/*",
            "*/",
            "nil",
            "and ",
            "js ",
            "%*d",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or_default() % below
        };
        for _ in 0..20_000 {
            let length = 1 + next(16);
            let text: String = (0..length).map(|_| words[next(words.len())]).collect();
            for text in [format!("{{{{{text}}}}}"), text] {
                if let Ok(template) = Template::parse(&text) {
                    let _told = template.run(&json!({"a": [1, {"b": "c"}]}));
                }
            }
        }
        for deep in ["{{if 1}}", "{{if 1}}{{else if 1}}", "{{with .}}{{else with .}}"] {
            assert!(Template::parse(&deep.repeat(50_000)).is_err());
        }
        assert!(Template::parse(&format!("{{{{{}", "(".repeat(50_000) + "}}")).is_err());
    }
}

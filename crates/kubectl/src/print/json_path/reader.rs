//! Reads the text of a template. Every step takes at least one character or
//! fails, so that no text keeps it busy for ever.

use serde_json::{Number, Value};

use super::{Node, Step, Template};
use crate::print::template::go_text;

/// Deeper ones would only serve to exhaust the stack.
const DEEPEST_RANGE: usize = 200;
const DEEPEST_FILTER: usize = 16;

pub(super) const NOTHING_TO_END: &str = "not in range, nothing to end";

/// Reads a template.
///
/// # Errors
/// Says what is malformed.
pub(super) fn template(text: &str) -> Result<Template, String> {
    let mut stack: Vec<(Vec<Step>, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    let mut reader = Reader { rest: text };
    loop {
        let at = reader.rest.find('{').unwrap_or(reader.rest.len());
        let before = reader.take(at);
        if !before.is_empty() {
            nodes.push(Node::Action(vec![Step::Text(before.into())]));
        }
        if reader.rest.is_empty() {
            break;
        }
        reader.bump();
        let action = reader.action(0)?;
        if action.ends {
            match stack.pop() {
                Some((steps, outer)) => {
                    let body = std::mem::replace(&mut nodes, outer);
                    nodes.push(Node::Range(steps, body));
                }
                None => nodes.push(Node::Action(vec![Step::Fail(NOTHING_TO_END.to_owned())])),
            }
        } else if action.ranges {
            if stack.len() == DEEPEST_RANGE {
                return Err("ranges are nested too deep".to_owned());
            }
            stack.push((action.steps, std::mem::take(&mut nodes)));
        } else {
            nodes.push(Node::Action(action.steps));
        }
    }
    // A range without an end goes to the end.
    while let Some((steps, outer)) = stack.pop() {
        let body = std::mem::replace(&mut nodes, outer);
        nodes.push(Node::Range(steps, body));
    }
    Ok(Template { text: text.to_owned(), nodes })
}

/// What stands in one pair of braces.
#[derive(Default)]
struct Action {
    steps: Vec<Step>,
    ranges: bool,
    ends: bool,
}

/// The steps of text that stands within other steps.
fn inner(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    if depth > DEEPEST_FILTER {
        return Err("filters are nested too deep".to_owned());
    }
    let text = format!("{text}}}");
    let mut action = Reader { rest: &text }.action(depth)?;
    if action.ends {
        action.steps.push(Step::Fail(NOTHING_TO_END.to_owned()));
    }
    Ok(action.steps)
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn action(&mut self, depth: usize) -> Result<Action, String> {
        let mut action = Action::default();
        let steps = &mut action.steps;
        loop {
            if self.skip("[?(") {
                steps.push(self.filter(depth)?);
                continue;
            }
            if self.skip("..") {
                if steps.last() == Some(&Step::Descend) {
                    return Err("invalid multiple recursive descent".to_owned());
                }
                steps.push(Step::Descend);
                if self.peek().is_some_and(is_word) {
                    steps.push(self.field());
                }
                continue;
            }
            match self.peek() {
                None | Some('\r' | '\n') => return Err("unclosed action".to_owned()),
                Some('}') => {
                    self.bump();
                    return Ok(action);
                }
                // The object at hand, which is where every path begins.
                Some(' ' | '@' | '$') => {
                    self.bump();
                }
                Some('[') => self.array(steps, depth)?,
                Some(quote @ ('"' | '\'')) => steps.push(self.quoted(quote)?),
                Some('.') => {
                    self.bump();
                    steps.push(self.field());
                }
                Some(c) if c.is_ascii_digit() || c == '+' || c == '-' => {
                    steps.push(self.number()?);
                }
                Some(c) if is_word(c) => {
                    let end = self.rest.find(is_terminator).unwrap_or(self.rest.len());
                    match self.take(end) {
                        "range" => action.ranges = true,
                        "end" => action.ends = true,
                        "true" => steps.push(Step::Each(true.into())),
                        "false" => steps.push(Step::Each(false.into())),
                        word => steps.push(Step::Fail(format!("unrecognized identifier {word}"))),
                    }
                }
                Some(c) => {
                    let mut why =
                        format!("unrecognized character in action: U+{:04X}", u32::from(c));
                    if !c.is_control() {
                        why.push_str(&format!(" '{c}'"));
                    }
                    return Err(why);
                }
            }
        }
    }

    /// A name behind a dot; dots in it are escaped.
    fn field(&mut self) -> Step {
        let mut name = String::new();
        let mut plain = true;
        while let Some(c) = self.peek() {
            if c == '\\' {
                plain = false;
                self.bump();
                name.extend(self.bump().filter(|c| *c != '\\'));
            } else if is_terminator(c) {
                break;
            } else {
                name.push(c);
                self.bump();
            }
        }
        if name == "*" && plain { Step::All } else { Step::Field(name) }
    }

    fn number(&mut self) -> Result<Step, String> {
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let digits = self.rest[sign..].find(|c: char| c != '.' && !c.is_ascii_digit());
        let text = self.take(digits.map_or(self.rest.len(), |digits| sign + digits));
        let number = text.parse::<i64>().ok().map(Number::from);
        let number = number.or_else(|| text.parse().ok().and_then(Number::from_f64));
        let number = number.ok_or_else(|| format!("cannot parse number {text}"))?;
        Ok(Step::Each(Value::Number(number)))
    }

    fn quoted(&mut self, quote: char) -> Result<Step, String> {
        let mut last = '\0';
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let stops = *c == '\n' || (*c == quote && last != '\\');
            last = *c;
            stops
        });
        let Some((end, _)) = end.filter(|(_, c)| *c == quote) else {
            return Err("unterminated quoted string".to_owned());
        };
        let text = self.take(end + 1);
        go_text::unquote(&text[1..end], quote)
            .map(|text| Step::Text(Value::String(text)))
            .ok_or_else(|| format!("unquote string {text} error invalid syntax"))
    }

    /// `[0]`, `[1:3]`, `[*]`, `['name']`, and several of them with commas between.
    fn array(&mut self, steps: &mut Vec<Step>, depth: usize) -> Result<(), String> {
        let end = self.rest.find([']', '\n']).filter(|end| self.rest[*end..].starts_with(']'));
        let end = end.ok_or("unterminated array")?;
        let text = &self.take(end + 1)[1..end];
        if text.contains(',') {
            let choices = text
                .split(',')
                .map(|one| inner(&format!("[{}]", one.trim_matches(' ')), depth + 1));
            steps.push(Step::Union(choices.collect::<Result<_, _>>()?));
            return Ok(());
        }
        let name = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
        if let Some(name) = name.filter(|name| !name.contains('\'')) {
            steps.extend(inner(&format!(".{name}"), depth + 1)?);
            return Ok(());
        }
        steps.push(slice(if text == "*" { ":" } else { text })?);
        Ok(())
    }

    /// What stands behind `[?(`.
    fn filter(&mut self, depth: usize) -> Result<Step, String> {
        let mut quote = None;
        let mut closed = false;
        let mut last = '(';
        let mut end = None;
        for (at, c) in self.rest.char_indices() {
            match (c, quote) {
                ('\n', _) => break,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open && last != '\\' => closed = true,
                (')', _) if quote.is_some() == closed => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
            last = c;
        }
        let text = self.take(end.ok_or("unterminated filter")?);
        self.bump();
        if !self.skip("]") {
            return Err("unclosed array expect ]".to_owned());
        }
        let is_operator = |c: char| "!<>=".contains(c);
        let Some(start) = text.find(is_operator).filter(|start| *start > 0) else {
            return Ok(Step::Exists(inner(text, depth + 1)?));
        };
        let (left, rest) = text.split_at(start);
        let end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len() - 1);
        if end == 0 {
            return Ok(Step::Exists(inner(text, depth + 1)?));
        }
        let (operator, right) = rest.split_at(end);
        let (left, right) = (inner(left, depth + 1)?, inner(right, depth + 1)?);
        Ok(Step::Filter(left, operator.to_owned(), right))
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_terminator(c: char) -> bool {
    " \t\r\n.,[]$@{}".contains(c)
}

/// `3`, `-1`, `0:2`, `::2`, and nothing for the first.
fn slice(text: &str) -> Result<Step, String> {
    let invalid = || format!("invalid array index {text}");
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(invalid());
    }
    let mut bounds = [None; 3];
    for (bound, part) in bounds.iter_mut().zip(&parts) {
        let digits = part.strip_prefix('-').unwrap_or(part);
        if digits.contains(|c: char| !c.is_ascii_digit()) {
            return Err(invalid());
        }
        if !part.is_empty() {
            let number = part.parse::<i64>();
            *bound = Some(number.map_err(|_| format!("array index {part} is not a number"))?);
        }
    }
    let [from, to, by] = bounds;
    Ok(match parts.len() {
        1 => Step::Index(from.unwrap_or(0)),
        _ => Step::Slice(from, to, by),
    })
}

//! Pipelines of commands, and the operands of those.

use serde_json::{Number, Value};

use super::{Kind, Parser, Read};
use crate::print::template::{Command, DEEPEST, Operand, Pipe, Place, Term, functions, go_text};

impl Parser<'_> {
    /// Up to the token that ends it.
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Read<Pipe> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.wrong("parentheses are nested too deep");
        }
        let at = self.peek_word().at;
        let (variables, declares) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::Char
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => {}
                Kind::Keyword if matches!(token.text.as_str(), "." | "nil") => {}
                _ => return self.unexpected(&token, context),
            }
            self.back();
            commands.push(self.command()?);
        }
        if commands.is_empty() {
            return self.wrong(format!("missing value for {context}"));
        }
        for (i, command) in commands.iter().enumerate().skip(1) {
            if matches!(command.operands[0].term, Term::Literal(_) | Term::Dot | Term::Nil) {
                let stage = i + 1;
                return self.wrong(format!("non executable command in pipeline stage {stage}"));
            }
        }
        self.depth -= 1;
        let mut text = variables.join(", ");
        if !variables.is_empty() {
            text.push_str(if declares { " := " } else { " = " });
        }
        let shown: Vec<&str> = commands.iter().map(|c| c.place.text.as_str()).collect();
        text.push_str(&shown.join(" | "));
        Ok(Pipe { variables, declares, commands, place: Place { at, text } })
    }

    /// The variables that the outcome is given to, and whether they are new.
    fn declarations(&mut self, context: &str) -> Read<(Vec<String>, bool)> {
        let mut found = Vec::new();
        loop {
            let variable = self.peek_word();
            if variable.kind != Kind::Variable {
                return Ok((found, true));
            }
            self.next();
            let after = self.peek().clone();
            let next = self.peek_word();
            let is_comma = next.kind == Kind::Sign && next.text == ",";
            if is_comma || matches!(next.kind, Kind::Assign | Kind::Declare) {
                self.next_word();
                self.variables.push(variable.text.clone());
                found.push(variable.text);
                if !is_comma {
                    return Ok((found, next.kind == Kind::Declare));
                }
                if context != "range" || found.len() > 1 {
                    return self.wrong(format!("too many declarations in {context}"));
                }
                let kind = self.peek_word().kind;
                if !matches!(kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                    return self.wrong("range can only initialize variables");
                }
                continue;
            }
            match after.kind {
                Kind::Space => self.back_with_both(variable, after),
                _ => self.back_with(variable),
            }
            return Ok((found, true));
        }
    }

    fn command(&mut self) -> Read<Command> {
        let at = self.peek_word().at;
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            self.peek_word();
            operands.extend(self.operand()?);
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.back(),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if operands.is_empty() {
            return self.wrong("empty command");
        }
        let shown: Vec<String> = operands.iter().map(Operand::shown).collect();
        Ok(Command { place: Place { at, text: shown.join(" ") }, operands })
    }

    /// A term, and the fields of it.
    fn operand(&mut self) -> Read<Option<Operand>> {
        let Some(operand) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(operand));
        }
        // To Go a path of several names is where the second is.
        let at = self.peek().at;
        let (mut fields, mut text) = (Vec::new(), operand.shown());
        while self.peek().kind == Kind::Field {
            let field = self.next().text;
            text.push_str(&field);
            fields.push(field[1..].to_owned());
        }
        let term = match operand.term {
            Term::Field(mut names) => {
                names.extend(fields);
                Term::Field(names)
            }
            Term::Variable(name, mut names) => {
                names.extend(fields);
                Term::Variable(name, names)
            }
            Term::Literal(_) | Term::Dot | Term::Nil => {
                let term = go_text::quoted(&operand.place.text, '"');
                return self.wrong(format!("unexpected . after term {term}"));
            }
            Term::Function(_) | Term::Chain(..) | Term::Inner(_) => {
                Term::Chain(Box::new(operand), fields)
            }
        };
        Ok(Some(Operand { term, place: Place { at, text } }))
    }

    fn term(&mut self) -> Read<Option<Operand>> {
        let token = self.next_word();
        let term = match token.kind {
            Kind::Identifier if functions::is_known(&token.text) => {
                Term::Function(token.text.clone())
            }
            Kind::Identifier => {
                let name = go_text::quoted(&token.text, '"');
                return self.wrong(format!("function {name} not defined"));
            }
            Kind::Keyword if token.text == "." => Term::Dot,
            Kind::Keyword if token.text == "nil" => Term::Nil,
            Kind::Variable if self.variables.contains(&token.text) => {
                Term::Variable(token.text.clone(), Vec::new())
            }
            Kind::Variable => {
                let name = go_text::quoted(&token.text, '"');
                return self.wrong(format!("undefined variable {name}"));
            }
            Kind::Field => Term::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => Term::Literal((token.text == "true").into()),
            Kind::Char => match character(&token.text) {
                Ok(code) => Term::Literal(code.into()),
                Err(why) => return self.wrong(why),
            },
            Kind::Number => match number(&token.text) {
                Ok(number) => Term::Literal(Value::Number(number)),
                Err(why) => return self.wrong(why),
            },
            Kind::Quoted => Term::Literal(Value::String(self.unquoted(&token)?)),
            Kind::LeftParen => {
                let inner = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                let place = inner.place.clone();
                return Ok(Some(Operand { term: Term::Inner(inner), place }));
            }
            _ => {
                self.back();
                return Ok(None);
            }
        };
        Ok(Some(Operand { term, place: Place { at: token.at, text: token.text } }))
    }
}

/// What a character constant is worth.
fn character(text: &str) -> Result<u32, String> {
    let inside = &text[1..text.len() - 1];
    let inside = go_text::unquote(inside, '\'').ok_or("invalid syntax")?;
    let mut chars = inside.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(u32::from(c)),
        (None, _) => Err("invalid syntax".to_owned()),
        _ => Err(format!("malformed character constant: {text}")),
    }
}

/// A number as Go's source has it: `1_000`, `0x1f`, `017`, `1e3`.
fn number(text: &str) -> Result<Number, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, whole) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // Between digits, or behind what says how to read them.
    let spaced = |text: &str| text.starts_with('_') && radix == 10;
    let spaced = text.ends_with('_') || text.contains("__") || spaced(whole);
    let whole = whole.replace('_', "");
    if !spaced && let Ok(number) = i64::from_str_radix(&format!("{sign}{whole}"), radix) {
        return Ok(number.into());
    }
    let plain = !lower.starts_with("0x") && !lower.contains(['_', 'i']);
    let float = lower.parse::<f64>().ok().filter(|_| plain);
    let float = float.map(|float| if sign == "-" { -float } else { float });
    let quoted = go_text::quoted(text, '"');
    match float.and_then(Number::from_f64) {
        Some(_) if !lower.contains(['.', 'e']) => Err(format!("integer overflow: {quoted}")),
        Some(float) => Ok(float),
        None => Err(format!("illegal number syntax: {quoted}")),
    }
}

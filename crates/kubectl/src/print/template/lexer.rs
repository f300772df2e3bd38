//! A template's text is cut into tokens, as Go does it: what is wrong is told when it is
//! come to, and not before.

use super::go_text::quoted;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// What is wrong with the text here.
    Error,
    End,
    Text,
    LeftDelim,
    RightDelim,
    LeftParen,
    RightParen,
    Space,
    Pipe,
    Declare,
    Assign,
    /// `.a`
    Field,
    /// `$` or `$a`
    Variable,
    Identifier,
    Bool,
    /// In quotes of any kind.
    Quoted,
    Char,
    Number,
    /// A word of the language, `nil`, and the dot.
    Keyword,
    /// Another sign.
    Sign,
}

/// A piece of a template, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) text: String,
}

impl Token {
    /// As errors name it.
    pub(super) fn named(&self) -> String {
        const SHOWN_MAX: usize = 10;
        let text = &self.text;
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => text.clone(),
            Kind::Keyword => format!("<{text}>"),
            _ if text.len() > SHOWN_MAX => {
                let head: String = text.chars().take(SHOWN_MAX).collect();
                format!("{}...", quoted(&head, '"'))
            }
            _ => quoted(text, '"'),
        }
    }

    pub(super) fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
/// A minus and the space between it and what is inside.
const MARKER_BYTES: usize = 2;

const KEYWORDS: &[&str] = &[
    "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with",
];

/// Where the reading stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Text,
    /// At the braces before an action.
    Left,
    Action,
    Over,
}

#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    start: usize,
    at: usize,
    place: Place,
    parens: usize,
    /// The line on which a byte is.
    line: (usize, usize),
}

/// What a step makes: a token, or nothing yet.
type Step = Option<Token>;

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, start: 0, at: 0, place: Place::Text, parens: 0, line: (1, 0) }
    }

    /// The next token; after the end, or what is wrong, the end again and again.
    pub(super) fn next(&mut self) -> Token {
        loop {
            let step = match self.place {
                Place::Text => self.text(),
                Place::Left => self.left(),
                Place::Action => self.action(),
                Place::Over => Some(self.token(Kind::End, String::new())),
            };
            if let Some(token) = step {
                return token;
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, fits: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&fits) {
            self.step();
        }
    }

    fn accept(&mut self, of: &str) -> bool {
        let fits = self.peek().is_some_and(|c| of.contains(c));
        if fits {
            self.step();
        }
        fits
    }

    /// What was read since the last token is no part of any.
    fn ignore(&mut self) {
        self.start = self.at;
    }

    fn token(&mut self, kind: Kind, text: String) -> Token {
        let (line, known) = self.line;
        let new = self.text.as_bytes()[known..self.start].iter().filter(|b| **b == b'\n').count();
        self.line = (line + new, self.start);
        let token = Token { kind, at: self.start, line: self.line.0, text };
        self.start = self.at;
        token
    }

    fn emit(&mut self, kind: Kind) -> Step {
        let text = self.text[self.start..self.at].to_owned();
        Some(self.token(kind, text))
    }

    fn wrong(&mut self, why: impl Into<String>) -> Step {
        self.place = Place::Over;
        Some(self.token(Kind::Error, why.into()))
    }

    /// The text before the next action.
    fn text(&mut self) -> Step {
        let Some(found) = self.rest().find(LEFT) else {
            self.at = self.text.len();
            self.place = Place::Over;
            return if self.start < self.at { self.emit(Kind::Text) } else { None };
        };
        let end = self.at + found;
        let trims = trims_left(&self.text[end + LEFT.len()..]);
        let text = &self.text[self.start..end];
        let kept = if trims { text.trim_end_matches(is_space) } else { text }.len();
        self.at = self.start + kept;
        self.place = Place::Left;
        let token = if kept > 0 { self.emit(Kind::Text) } else { None };
        self.at = end;
        self.ignore();
        token
    }

    fn left(&mut self) -> Step {
        self.at += LEFT.len();
        let marker = if trims_left(self.rest()) { MARKER_BYTES } else { 0 };
        if self.rest()[marker..].starts_with("/*") {
            self.at += marker;
            self.ignore();
            return self.comment();
        }
        let token = self.emit(Kind::LeftDelim);
        self.at += marker;
        self.ignore();
        self.parens = 0;
        self.place = Place::Action;
        token
    }

    fn comment(&mut self) -> Step {
        let Some(end) = self.rest()[2..].find("*/") else { return self.wrong("unclosed comment") };
        self.at += 2 + end + 2;
        let Some(trims) = self.at_right() else {
            return self.wrong("comment ends before closing delimiter");
        };
        self.pass_right(trims);
        self.place = Place::Text;
        None
    }

    /// Whether the action ends here, and if so, whether the space behind it goes.
    fn at_right(&self) -> Option<bool> {
        let rest = self.rest();
        let mut signs = rest.chars();
        if signs.next().is_some_and(is_space)
            && signs.next() == Some('-')
            && rest[MARKER_BYTES..].starts_with(RIGHT)
        {
            return Some(true);
        }
        rest.starts_with(RIGHT).then_some(false)
    }

    fn pass_right(&mut self, trims: bool) {
        self.at += RIGHT.len() + if trims { MARKER_BYTES } else { 0 };
        if trims {
            self.skip(is_space);
        }
        self.ignore();
    }

    fn right(&mut self, trims: bool) -> Step {
        if trims {
            self.at += MARKER_BYTES;
            self.ignore();
        }
        self.at += RIGHT.len();
        let token = self.emit(Kind::RightDelim);
        if trims {
            self.skip(is_space);
            self.ignore();
        }
        self.place = Place::Text;
        token
    }

    fn action(&mut self) -> Step {
        if let Some(trims) = self.at_right() {
            return match self.parens {
                0 => self.right(trims),
                _ => self.wrong("unclosed left paren"),
            };
        }
        let Some(c) = self.step() else { return self.wrong("unclosed action") };
        match c {
            c if is_space(c) => self.space(),
            '=' => self.emit(Kind::Assign),
            ':' if self.accept("=") => self.emit(Kind::Declare),
            ':' => self.wrong("expected :="),
            '|' => self.emit(Kind::Pipe),
            '"' => self.in_quotes('"', Kind::Quoted, "unterminated quoted string"),
            '\'' => self.in_quotes('\'', Kind::Char, "unterminated character constant"),
            '`' => match self.rest().find('`') {
                Some(end) => {
                    self.at += end + 1;
                    self.emit(Kind::Quoted)
                }
                None => self.wrong("unterminated raw quoted string"),
            },
            '$' if self.at_end_of_word() => self.emit(Kind::Variable),
            '$' => self.named(Kind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                match self.at_end_of_word() {
                    true => self.emit(Kind::Keyword),
                    false => self.named(Kind::Field),
                }
            }
            '+' | '-' | '.' | '0'..='9' => self.number(),
            c if is_word(c) => self.word(),
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen)
            }
            ')' if self.parens == 0 => self.wrong("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.emit(Kind::RightParen)
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Sign),
            c => self.wrong(format!("unrecognized character in action: {}", code_of(c))),
        }
    }

    fn space(&mut self) -> Step {
        self.skip(is_space);
        // The last one may be of the minus that ends the action.
        let last = self.at - 1;
        let rest = &self.text[last + 1..];
        if rest.starts_with('-') && rest[1..].starts_with(RIGHT) {
            self.at = last;
            if self.start == self.at {
                return self.right(true);
            }
        }
        self.emit(Kind::Space)
    }

    fn in_quotes(&mut self, quote: char, kind: Kind, unclosed: &str) -> Step {
        loop {
            match self.step() {
                Some('\\') if !matches!(self.peek(), None | Some('\n')) => drop(self.step()),
                None | Some('\\' | '\n') => return self.wrong(unclosed),
                Some(c) if c == quote => return self.emit(kind),
                Some(_) => {}
            }
        }
    }

    fn at_end_of_word(&self) -> bool {
        let ends = |c: char| is_space(c) || ".,|:)(".contains(c);
        self.peek().is_none_or(ends) || self.rest().starts_with(RIGHT)
    }

    /// A name behind a dot or a dollar.
    fn named(&mut self, kind: Kind) -> Step {
        self.skip(is_word);
        match self.bad_end() {
            Some(why) => self.wrong(why),
            None => self.emit(kind),
        }
    }

    /// What stands behind a word and must not.
    fn bad_end(&self) -> Option<String> {
        let c = self.peek().filter(|_| !self.at_end_of_word())?;
        Some(format!("bad character {}", code_of(c)))
    }

    fn word(&mut self) -> Step {
        self.skip(is_word);
        if let Some(why) = self.bad_end() {
            return self.wrong(why);
        }
        match &self.text[self.start..self.at] {
            "true" | "false" => self.emit(Kind::Bool),
            word if KEYWORDS.contains(&word) => self.emit(Kind::Keyword),
            _ => self.emit(Kind::Identifier),
        }
    }

    fn number(&mut self) -> Step {
        self.at = self.start;
        let whole = self.scan_number();
        let whole = whole
            && (!self.peek().is_some_and(|c| "+-".contains(c))
                || self.scan_number() && self.text[..self.at].ends_with('i'));
        match whole {
            true => self.emit(Kind::Number),
            false => {
                let text = quoted(&self.text[self.start..self.at], '"');
                self.wrong(format!("bad number syntax: {text}"))
            }
        }
    }

    fn scan_number(&mut self) -> bool {
        const DECIMAL: &str = "0123456789_";
        const HEXADECIMAL: &str = "0123456789abcdefABCDEF_";
        self.accept("+-");
        let mut digits = DECIMAL;
        if self.accept("0") {
            digits = match self.peek() {
                Some('x' | 'X') => HEXADECIMAL,
                Some('o' | 'O') => "01234567_",
                Some('b' | 'B') => "01_",
                _ => digits,
            };
            self.accept("xXoObB");
        }
        self.skip(|c| digits.contains(c));
        if self.accept(".") {
            self.skip(|c| digits.contains(c));
        }
        let exponent = match digits {
            DECIMAL => "eE",
            HEXADECIMAL => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.skip(|c| DECIMAL.contains(c));
        }
        self.accept("i");
        match self.peek().is_some_and(is_word) {
            true => {
                self.step();
                false
            }
            false => true,
        }
    }
}

fn trims_left(text: &str) -> bool {
    let mut signs = text.chars();
    signs.next() == Some('-') && signs.next().is_some_and(is_space)
}

/// `U+002D '-'`
fn code_of(c: char) -> String {
    let shown = if c.is_control() { String::new() } else { format!(" '{c}'") };
    format!("U+{:04X}{shown}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_into_tokens() {
        for (text, tokens) in [
            ("a {{- .b -}} c", r#""a" "{{" ".b" "}}" "c" EOF"#),
            ("{{$x.y|f 1.5}}", r#""{{" "$x" ".y" "|" "f" " " "1.5" "}}" EOF"#),
            ("{{if (nil) . }}", r#""{{" <if> " " "(" <nil> ")" " " <.> " " "}}" EOF"#),
            ("a{{/* b */ -}} c", r#""a" "c" EOF"#),
            ("{{\"abcdefghijklm\"", r#""{{" "\"abcdefghi"... unclosed action EOF"#),
            ("{{-3}}{{- 3}}", r#""{{" "-3" "}}" "{{" "3" "}}" EOF"#),
            ("{{a-b}}", r#""{{" bad character U+002D '-' EOF"#),
            ("{{a:b}}", r#""{{" "a" expected := EOF"#),
            ("{{/* a */ }}", "comment ends before closing delimiter EOF"),
        ] {
            let mut lexer = Lexer::new(text);
            let mut told = Vec::new();
            while told.last().is_none_or(|last| last != "EOF") {
                told.push(lexer.next().named());
            }
            assert_eq!(told.join(" "), tokens, "{text}");
        }
    }
}

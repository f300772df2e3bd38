//! Source to tokens.

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Ident(String),
    /// `` `a.b-c` ``: a field name that is no identifier.
    Quoted(String),
    /// Digits as written, with `0x` where hexadecimal.
    Int(String),
    Uint(String),
    Double(String),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or bracket, or one of the words `in`, `true`, `false`, `null`.
    Symbol(&'static str),
    End,
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// In code points.
    pub(crate) offset: u32,
    /// As written, for messages.
    pub(crate) text: String,
}

/// Why a source has no tokens.
#[derive(Debug, PartialEq)]
pub(crate) struct LexError {
    pub(crate) offset: u32,
    pub(crate) message: String,
}

/// Longest first.
const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// Words that are no names.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether a word is no name in expressions. A field that is called so is
/// `__word__` in [`Object::fields`](crate::Object::fields).
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Splits a source.
///
/// # Errors
/// The first character that starts no token, or a literal that is wrong in itself.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, LexError> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let kind = lexer.next()?;
        let end = kind == Kind::End;
        let text = match end {
            true => "<EOF>".to_owned(),
            false => lexer.chars[start..lexer.at].iter().collect(),
        };
        tokens.push(Token { kind, offset: offset(start), text });
        if end {
            return Ok(tokens);
        }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("sources are bounded")
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.chars.get(self.at + ahead) == Some(&c))
    }

    fn skip_blank(&mut self) {
        loop {
            match self.peek(0) {
                '\t' | ' ' | '\r' | '\n' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Result<Kind, LexError> {
        if self.at >= self.chars.len() {
            return Ok(Kind::End);
        }
        let c = self.peek(0);
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_ascii_digit()) {
            return Ok(self.number());
        }
        if let Some(kind) = self.text()? {
            return Ok(kind);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(match WORDS.iter().find(|known| **known == word) {
                Some(known) => Kind::Symbol(known),
                None => Kind::Ident(word),
            });
        }
        if c == '`' {
            return self.quoted();
        }
        match SYMBOLS.iter().find(|symbol| self.starts_with(symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Kind::Symbol(symbol))
            }
            None => Err(self.unknown(self.at, self.at + 1)),
        }
    }

    fn unknown(&self, from: usize, to: usize) -> LexError {
        let text: String = self.chars[from..to.min(self.chars.len())].iter().collect();
        LexError {
            offset: offset(from),
            message: format!("Syntax error: token recognition error at: '{text}'"),
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.at < self.chars.len() && keep(self.peek(0)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Kind {
        let mut text = String::new();
        if self.peek(0) == '0' && self.peek(1) == 'x' && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            text.push_str("0x");
            text.push_str(&self.take_while(|c| c.is_ascii_hexdigit()));
        } else {
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
            let mut double = false;
            if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
                double = true;
                self.at += 1;
                text.push('.');
                text.push_str(&self.take_while(|c| c.is_ascii_digit()));
            }
            let sign = usize::from(matches!(self.peek(1), '+' | '-'));
            if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
                double = true;
                text.push('e');
                if sign == 1 {
                    text.push(self.peek(1));
                }
                self.at += 1 + sign;
                text.push_str(&self.take_while(|c| c.is_ascii_digit()));
            }
            if double {
                return Kind::Double(text);
            }
        }
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return Kind::Uint(text);
        }
        Kind::Int(text)
    }

    fn quoted(&mut self) -> Result<Kind, LexError> {
        let start = self.at;
        self.at += 1;
        let name = self
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
        if self.peek(0) != '`' || name.is_empty() {
            return Err(self.unknown(start, self.at));
        }
        self.at += 1;
        Ok(Kind::Quoted(name))
    }

    /// A string or bytes literal, with the prefixes `r` and `b` in any case.
    fn text(&mut self) -> Result<Option<Kind>, LexError> {
        let mut ahead = 0;
        let bytes = matches!(self.peek(ahead), 'b' | 'B');
        ahead += usize::from(bytes);
        let raw = matches!(self.peek(ahead), 'r' | 'R');
        ahead += usize::from(raw);
        let quote = self.peek(ahead);
        if !matches!(quote, '"' | '\'') {
            return Ok(None);
        }
        let start = self.at;
        self.at += ahead;
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut text = Vec::new();
        loop {
            let c = self.peek(0);
            let at_end = self.at >= self.chars.len();
            if at_end || (!triple && matches!(c, '\n' | '\r')) {
                return Err(self.unknown(start, self.at));
            }
            if c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += width;
                break;
            }
            if c == '\\' && !raw {
                self.escape(start, bytes, &mut text)?;
            } else {
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += 1;
            }
        }
        if bytes {
            return Ok(Some(Kind::Bytes(text)));
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(Some(Kind::String(text))),
            Err(_) => Err(self.unknown(start, self.at)),
        }
    }

    fn escape(&mut self, start: usize, bytes: bool, text: &mut Vec<u8>) -> Result<(), LexError> {
        let c = self.peek(1);
        self.at += 2;
        let simple = match c {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '"' | '\'' | '\\' | '?' | '`' => Some(c as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            text.push(byte);
            return Ok(());
        }
        let (digits, radix) = match c {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return Err(self.unknown(start, self.at)),
        };
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = self.peek(0).to_digit(radix) else {
                return Err(self.unknown(start, self.at + 1));
            };
            code = code * radix + digit;
            self.at += 1;
        }
        if bytes {
            // Two hexadecimal or three octal digits up to 377 fit.
            text.push(code as u8);
            return Ok(());
        }
        let Some(c) = char::from_u32(code) else {
            return Err(LexError {
                offset: offset(start),
                message: "invalid unicode code point".into(),
            });
        };
        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(source: &str) -> Kind {
        tokens(source).unwrap()[0].kind.clone()
    }

    #[test]
    fn literals() {
        let text = |text: &str| Kind::String(text.to_owned());
        for (source, kind) in [
            ("0x1F", Kind::Int("0x1F".into())),
            ("12u", Kind::Uint("12".into())),
            (".5", Kind::Double(".5".into())),
            ("1E+3", Kind::Double("1e+3".into())),
            (r#"'a\n\x41\u00e9\U0001F600\101\?'"#, text("a\nAé😀A?")),
            (r#"r'\d'"#, text(r"\d")),
            ("'''a'\n'b'''", text("a'\n'b")),
            (r#"b'\xffA'"#, Kind::Bytes(vec![255, b'A'])),
            (r#"bR"\n""#, Kind::Bytes(b"\\n".to_vec())),
            ("b'é'", Kind::Bytes("é".as_bytes().to_vec())),
            ("`a-b/c.d`", Kind::Quoted("a-b/c.d".into())),
            ("in", Kind::Symbol("in")),
            ("// no\n inner", Kind::Ident("inner".into())),
        ] {
            assert_eq!(one(source), kind, "{source}");
        }
    }

    #[test]
    fn what_is_no_token() {
        for source in ["'a", "#", r"'\q'", r"'\ud800'", "`a", "'a\nb'", r"b'\u0041'"] {
            assert!(tokens(source).is_err(), "{source}");
        }
    }
}

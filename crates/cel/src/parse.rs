//! Tokens to a syntax tree, with macros expanded on the way.

use crate::{
    ast::{Ast, Element, Entry, Expr, ExprId, Field, Literal},
    functions::Library,
    issues::Issues,
    macros,
    token::{Kind, Token, is_reserved, tokens},
};

/// Longer sources are refused, and trees of more nodes: nested macros that use
/// an argument twice double it.
const CODE_POINTS_MAX: usize = 100_000;
/// Deeper nesting is refused, in the source and in the tree.
const DEPTH_MAX: u32 = 250;
/// A macro adds levels that the source does not show.
const EXPANDED_DEPTH_MAX: u32 = 2 * DEPTH_MAX;

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Binary operators: symbol, function, how tightly it binds. All group to the left.
const BINARY: [(&str, &str, u8); 14] = [
    ("||", "_||_", OR),
    ("&&", "_&&_", AND),
    ("<", "_<_", 2),
    ("<=", "_<=_", 2),
    (">=", "_>=_", 2),
    (">", "_>_", 2),
    ("==", "_==_", 2),
    ("!=", "_!=_", 2),
    ("in", "@in", 2),
    ("+", "_+_", 3),
    ("-", "_-_", 3),
    ("*", "_*_", 4),
    ("/", "_/_", 4),
    ("%", "_%_", 4),
];
const OR: u8 = 0;
const AND: u8 = 1;

/// Parses a source.
///
/// # Errors
/// The first thing that is no expression.
pub(crate) fn parse(source: &str, libraries: &[Library]) -> Result<(Ast, ExprId), Issues> {
    let mut issues = Issues::new(source);
    let size = source.chars().count();
    if size > CODE_POINTS_MAX {
        issues.add(
            None,
            format!(
                "expression code point size exceeds limit: size: {size}, limit {CODE_POINTS_MAX}"
            ),
        );
        return Err(issues);
    }
    let parsed = tokens(source)
        .map_err(|error| Stop { offset: Some(error.offset), message: error.message })
        .and_then(|tokens| {
            let mut parser = Parser { libraries, tokens, at: 0, ast: Ast::default(), nesting: 0 };
            let root = parser.expr()?;
            match parser.peek() {
                Kind::End => Ok((parser.ast, root)),
                _ => Err(parser
                    .syntax(format!("extraneous input '{}' expecting <EOF>", parser.token().text))),
            }
        });
    parsed.map_err(|stop| {
        issues.add(stop.offset, stop.message);
        issues
    })
}

/// Why parsing ended.
pub(crate) struct Stop {
    pub(crate) offset: Option<u32>,
    pub(crate) message: String,
}

type Parsed = Result<ExprId, Stop>;

struct Parser<'l> {
    libraries: &'l [Library],
    tokens: Vec<Token>,
    at: usize,
    ast: Ast,
    nesting: u32,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn peek(&self) -> &Kind {
        &self.token().kind
    }

    fn offset(&self) -> u32 {
        self.token().offset
    }

    /// Takes the token and gives its place. The last token, the end, stays.
    fn bump(&mut self) -> u32 {
        let offset = self.offset();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        offset
    }

    fn eat(&mut self, symbol: &str) -> Option<u32> {
        matches!(self.peek(), Kind::Symbol(found) if *found == symbol).then(|| self.bump())
    }

    fn expect(&mut self, symbol: &str) -> Result<u32, Stop> {
        self.eat(symbol).ok_or_else(|| self.mismatch(&format!("'{symbol}'")))
    }

    fn syntax(&self, message: String) -> Stop {
        Stop { offset: Some(self.offset()), message: format!("Syntax error: {message}") }
    }

    fn mismatch(&self, expected: &str) -> Stop {
        self.syntax(format!("mismatched input '{}' expecting {expected}", self.token().text))
    }

    fn add(&mut self, offset: u32, expr: Expr) -> Parsed {
        let id = self.ast.add(offset, expr);
        match self.ast.depth(id) > EXPANDED_DEPTH_MAX {
            true => Err(too_deep()),
            false => Ok(id),
        }
    }

    fn call(
        &mut self,
        offset: u32,
        name: &str,
        target: Option<ExprId>,
        args: Vec<ExprId>,
    ) -> Parsed {
        if let Some(expanded) =
            macros::expand(&mut self.ast, self.libraries, offset, name, target, &args)
        {
            let id = expanded?;
            let too_large = self.ast.len() > CODE_POINTS_MAX;
            return match too_large || self.ast.depth(id) > EXPANDED_DEPTH_MAX {
                true => Err(too_deep()),
                false => Ok(id),
            };
        }
        self.add(offset, Expr::Call { function: name.into(), target, args })
    }

    fn expr(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX {
            return Err(too_deep());
        }
        let condition = self.binary(OR)?;
        let id = match self.eat("?") {
            None => condition,
            Some(offset) => {
                let yes = self.binary(OR)?;
                self.expect(":")?;
                let no = self.expr()?;
                self.call(offset, "_?_:_", None, vec![condition, yes, no])?
            }
        };
        self.nesting -= 1;
        Ok(id)
    }

    /// Operators that bind at least as tightly as `least`.
    fn binary(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        let mut count = 0;
        loop {
            let Kind::Symbol(symbol) = *self.peek() else { return Ok(left) };
            let known = BINARY.iter().find(|(known, ..)| *known == symbol);
            let Some(&(_, name, level)) = known else { return Ok(left) };
            if level < least {
                return Ok(left);
            }
            count += 1;
            if count > DEPTH_MAX {
                return Err(too_deep());
            }
            left = match level {
                OR | AND => self.logic(left, symbol, name, level)?,
                _ => {
                    let offset = self.bump();
                    let right = self.binary(level + 1)?;
                    self.call(offset, name, None, vec![left, right])?
                }
            };
        }
    }

    /// A chain of one logical operator becomes a balanced tree: operators of
    /// one kind may be evaluated in any grouping, and long chains stay flat.
    fn logic(&mut self, first: ExprId, symbol: &str, name: &str, level: u8) -> Parsed {
        let mut terms = vec![first];
        let mut operators = Vec::new();
        while let Some(offset) = self.eat(symbol) {
            operators.push(offset);
            terms.push(self.binary(level + 1)?);
        }
        self.balance(name, &terms, &operators)
    }

    fn balance(&mut self, name: &str, terms: &[ExprId], operators: &[u32]) -> Parsed {
        if operators.is_empty() {
            return Ok(terms[0]);
        }
        let middle = operators.len() / 2;
        let left = self.balance(name, &terms[..=middle], &operators[..middle])?;
        let right = self.balance(name, &terms[middle + 1..], &operators[middle + 1..])?;
        self.call(operators[middle], name, None, vec![left, right])
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, name) in [("!", "!_"), ("-", "-_")] {
            let Kind::Symbol(found) = self.peek() else { break };
            if *found != symbol {
                continue;
            }
            let number = matches!(
                self.tokens.get(self.at + 1),
                Some(Token { kind: Kind::Int(_) | Kind::Double(_), .. })
            );
            if symbol == "-" && number {
                break;
            }
            let offset = self.bump();
            let mut odd = true;
            while self.eat(symbol).is_some() {
                odd = !odd;
            }
            let operand = self.member()?;
            return match odd {
                true => self.call(offset, name, None, vec![operand]),
                false => Ok(operand),
            };
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        let mut count = 0;
        loop {
            count += 1;
            if count > DEPTH_MAX {
                return Err(too_deep());
            }
            if let Some(offset) = self.eat(".") {
                operand = self.select(offset, operand)?;
            } else if let Some(offset) = self.eat("[") {
                let name = if self.eat("?").is_some() { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(offset, name, None, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn select(&mut self, offset: u32, operand: ExprId) -> Parsed {
        let optional = self.eat("?").is_some();
        let name_offset = self.offset();
        let (name, plain) = match self.peek() {
            Kind::Ident(name) => (name.clone(), true),
            Kind::Quoted(name) => (name.clone(), false),
            _ => return Err(self.mismatch("IDENTIFIER")),
        };
        self.bump();
        if plain
            && !optional
            && let Some(open) = self.eat("(")
        {
            let args = self.arguments()?;
            return self.call(open, &name, Some(operand), args);
        }
        if optional {
            let field = self.add(name_offset, Expr::Literal(Literal::String(name)))?;
            return self.call(offset, "_?._", None, vec![operand, field]);
        }
        self.add(offset, Expr::Select { operand, field: name.into(), test: false })
    }

    fn arguments(&mut self) -> Result<Vec<ExprId>, Stop> {
        let mut args = Vec::new();
        if self.eat(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.eat(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let offset = self.offset();
        let literal = match self.peek().clone() {
            Kind::Symbol("-") => {
                self.bump();
                let literal = match self.peek() {
                    Kind::Int(digits) => self.int(&format!("-{digits}"), offset)?,
                    Kind::Double(digits) => self.double(&format!("-{digits}"), offset)?,
                    _ => return Err(self.mismatch(OPERAND)),
                };
                self.bump();
                return self.add(offset, Expr::Literal(literal));
            }
            Kind::Int(digits) => self.int(&digits, offset)?,
            Kind::Uint(digits) => Literal::Uint(
                match digits.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => digits.parse(),
                }
                .map_err(|_| at(offset, "invalid uint literal"))?,
            ),
            Kind::Double(digits) => self.double(&digits, offset)?,
            Kind::String(text) => Literal::String(text),
            Kind::Bytes(bytes) => Literal::Bytes(bytes),
            Kind::Symbol("true") => Literal::Bool(true),
            Kind::Symbol("false") => Literal::Bool(false),
            Kind::Symbol("null") => Literal::Null,
            _ => return self.compound(offset),
        };
        self.bump();
        self.add(offset, Expr::Literal(literal))
    }

    fn int(&self, digits: &str, offset: u32) -> Result<Literal, Stop> {
        match digits.split_once("0x") {
            Some((sign, hex)) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
            None => digits.parse(),
        }
        .map(Literal::Int)
        .map_err(|_| at(offset, "invalid int literal"))
    }

    fn double(&self, digits: &str, offset: u32) -> Result<Literal, Stop> {
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Literal::Double(number)),
            _ => Err(at(offset, "invalid double literal")),
        }
    }

    fn compound(&mut self, offset: u32) -> Parsed {
        if self.eat("(").is_some() {
            let id = self.expr()?;
            self.expect(")")?;
            return Ok(id);
        }
        if self.eat("[").is_some() {
            let mut elements = Vec::new();
            while self.eat("]").is_none() {
                let optional = self.eat("?").is_some();
                elements.push(Element { value: self.expr()?, optional });
                if self.eat(",").is_none() {
                    self.expect("]")?;
                    break;
                }
            }
            return self.add(offset, Expr::List(elements));
        }
        if self.eat("{").is_some() {
            let mut entries = Vec::new();
            while self.eat("}").is_none() {
                let optional = self.eat("?").is_some();
                let key = self.expr()?;
                self.expect(":")?;
                entries.push(Entry { key, value: self.expr()?, optional });
                if self.eat(",").is_none() {
                    self.expect("}")?;
                    break;
                }
            }
            return self.add(offset, Expr::Map(entries));
        }
        self.name(offset)
    }

    fn name(&mut self, offset: u32) -> Parsed {
        let dot = self.eat(".").is_some();
        let Kind::Ident(word) = self.peek().clone() else {
            return Err(self.mismatch(if dot { "IDENTIFIER" } else { OPERAND }));
        };
        let ident_offset = self.bump();
        let name = if dot { format!(".{word}") } else { word.clone() };
        if let Some(len) = self.struct_name_len() {
            return self.structure(name, len);
        }
        if is_reserved(&word) {
            return Err(at(offset, &format!("reserved identifier: {word}")));
        }
        if let Some(open) = self.eat("(") {
            let args = self.arguments()?;
            return self.call(open, &name, None, args);
        }
        self.add(ident_offset, Expr::Ident(name.into()))
    }

    /// The tokens up to the `{` of `a.b{`; `None` where this is no struct.
    fn struct_name_len(&self) -> Option<usize> {
        let mut len = 0;
        loop {
            match (&self.tokens.get(self.at + len)?.kind, self.tokens.get(self.at + len + 1)) {
                (Kind::Symbol("{"), _) => return Some(len),
                (Kind::Symbol("."), Some(Token { kind: Kind::Ident(_), .. })) => len += 2,
                _ => return None,
            }
        }
    }

    fn structure(&mut self, mut name: String, len: usize) -> Parsed {
        for _ in 0..len {
            name.push_str(&self.token().text);
            self.bump();
        }
        let offset = self.expect("{")?;
        let mut fields = Vec::new();
        while self.eat("}").is_none() {
            let optional = self.eat("?").is_some();
            let (Kind::Ident(field) | Kind::Quoted(field)) = self.peek().clone() else {
                return Err(self.mismatch("IDENTIFIER"));
            };
            self.bump();
            let colon = self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field { name: field.into(), value, optional, offset: colon });
            if self.eat(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.add(offset, Expr::Struct { name: name.into(), fields })
    }
}

fn at(offset: u32, message: &str) -> Stop {
    Stop { offset: Some(offset), message: message.to_owned() }
}

fn too_deep() -> Stop {
    Stop { offset: None, message: format!("expression recursion limit exceeded: {DEPTH_MAX}") }
}

//! Tokens become nodes: actions, `if`, `with` and `range` with what is in them, and
//! templates by name.

mod pipelines;

use std::collections::BTreeMap;

use super::{
    DEEPEST, Node, Pipe, Place, go_text,
    lexer::{Kind, Lexer, Token},
};

/// How many tokens may be looked at ahead.
const AHEAD_MAX: usize = 3;

pub(super) struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The last that was read, and what was put back; how many are there.
    tokens: [Token; AHEAD_MAX],
    ahead: usize,
    /// On which line the action began that is read; none in between.
    action_line: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    pub(super) named: BTreeMap<String, Vec<Node>>,
}

/// What a block ends with.
enum End {
    End,
    Else,
}

impl End {
    fn text(&self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

/// One step: a node, or the end of the block that it would be in.
enum Step {
    Node(Node),
    End(End),
}

type Read<T> = Result<T, String>;

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let none = Token { kind: Kind::End, at: 0, line: 1, text: String::new() };
        Self {
            lexer: Lexer::new(text),
            tokens: [none.clone(), none.clone(), none],
            ahead: 0,
            action_line: 0,
            variables: vec!["$".to_owned()],
            ranges: 0,
            depth: 0,
            named: BTreeMap::new(),
        }
    }

    /// All of it; only here templates are defined.
    pub(super) fn whole(&mut self) -> Read<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            if self.peek().kind == Kind::LeftDelim {
                let delim = self.next();
                if self.next_word().is_keyword("define") {
                    self.definition()?;
                    continue;
                }
                self.back_with(delim);
            }
            match self.step()? {
                Step::Node(node) => nodes.push(node),
                Step::End(end) => return self.wrong(format!("unexpected {}", end.text())),
            }
        }
        Ok(nodes)
    }

    fn next(&mut self) -> Token {
        match self.ahead {
            0 => self.tokens[0] = self.lexer.next(),
            _ => self.ahead -= 1,
        }
        self.tokens[self.ahead].clone()
    }

    fn peek(&mut self) -> &Token {
        if self.ahead == 0 {
            self.tokens[0] = self.lexer.next();
            self.ahead = 1;
        }
        &self.tokens[self.ahead - 1]
    }

    fn back(&mut self) {
        self.ahead += 1;
    }

    /// Back, and another before it.
    fn back_with(&mut self, before: Token) {
        self.tokens[1] = before;
        self.ahead = 2;
    }

    /// Back, and two before it.
    fn back_with_both(&mut self, first: Token, second: Token) {
        self.tokens[1] = second;
        self.tokens[2] = first;
        self.ahead = AHEAD_MAX;
    }

    /// The next that is no space.
    fn next_word(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_word(&mut self) -> Token {
        let token = self.next_word();
        self.back();
        token
    }

    fn wrong<T>(&self, why: impl AsRef<str>) -> Read<T> {
        Err(format!("template: output:{}: {}", self.tokens[0].line, why.as_ref()))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Read<T> {
        if token.kind != Kind::Error {
            return self.wrong(format!("unexpected {} in {context}", token.named()));
        }
        let began = match self.action_line {
            line if line == 0 || line == token.line => String::new(),
            // No action is told twice.
            line if token.text.ends_with(" action") => format!(" started at output:{line}"),
            line => format!(" in action started at output:{line}"),
        };
        self.wrong(format!("{}{began}", token.text))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Read<Token> {
        let token = self.next_word();
        match token.kind == kind {
            true => Ok(token),
            false => self.unexpected(&token, context),
        }
    }

    /// What a block of its own is: variables and loops outside are not of it.
    fn apart<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let line = std::mem::take(&mut self.action_line);
        let read = read(self)?;
        (self.variables, self.ranges, self.action_line) = (variables, ranges, line);
        Ok(read)
    }

    fn definition(&mut self) -> Read<()> {
        const CONTEXT: &str = "define clause";
        let name = self.next_word();
        let name = self.name(&name, CONTEXT)?;
        self.apart(|parser| {
            parser.expect(Kind::RightDelim, CONTEXT)?;
            parser.body(name, CONTEXT)
        })
    }

    /// What is behind a name up to its end.
    fn body(&mut self, name: String, context: &str) -> Read<()> {
        match self.list()? {
            (nodes, End::End) => {
                self.named.insert(name, nodes);
                Ok(())
            }
            (_, end) => self.wrong(format!("unexpected {} in {context}", end.text())),
        }
    }

    fn name(&mut self, token: &Token, context: &str) -> Read<String> {
        match token.kind {
            Kind::Quoted => self.unquoted(token),
            _ => self.unexpected(token, context),
        }
    }

    fn unquoted(&self, token: &Token) -> Read<String> {
        let (quote, inside) = token.text.split_at(1);
        let inside = &inside[..inside.len() - 1];
        match quote {
            "`" => Ok(inside.replace('\r', "")),
            _ => match go_text::unquote(inside, '"') {
                Some(text) => Ok(text),
                None => self.wrong("invalid syntax"),
            },
        }
    }

    /// Nodes up to an `end` or `else`.
    fn list(&mut self) -> Read<(Vec<Node>, End)> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.wrong("blocks are nested too deep");
        }
        let mut nodes = Vec::new();
        while self.peek_word().kind != Kind::End {
            match self.step()? {
                Step::Node(node) => nodes.push(node),
                Step::End(end) => {
                    self.depth -= 1;
                    return Ok((nodes, end));
                }
            }
        }
        self.wrong("unexpected EOF")
    }

    fn step(&mut self) -> Read<Step> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Step::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let step = self.action()?;
                self.action_line = 0;
                Ok(step)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Read<Step> {
        let token = self.next_word();
        let word = if token.kind == Kind::Keyword { token.text.as_str() } else { "" };
        let node = match word {
            "block" => self.block()?,
            "break" | "continue" => self.jump(word)?,
            "else" => {
                // What may follow is seen by whom it belongs to.
                if !["if", "with"].iter().any(|word| self.peek_word().is_keyword(word)) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Step::End(End::Else));
            }
            "end" => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Step::End(End::End));
            }
            "if" | "with" | "range" => self.control(word)?,
            "template" => self.call()?,
            _ => {
                self.back();
                Node::Print(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Step::Node(node))
    }

    fn jump(&mut self, word: &str) -> Read<Node> {
        let shown = format!("{{{{{word}}}}}");
        self.expect(Kind::RightDelim, &shown)?;
        if self.ranges == 0 {
            return self.wrong(format!("{shown} outside {{{{range}}}}"));
        }
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    fn block(&mut self) -> Read<Node> {
        const CONTEXT: &str = "block clause";
        let token = self.next_word();
        let name = self.name(&token, CONTEXT)?;
        let argument = self.pipeline(CONTEXT, Kind::RightDelim)?;
        self.apart(|parser| parser.body(name.clone(), CONTEXT))?;
        Ok(called(token.at, name, Some(argument)))
    }

    fn call(&mut self) -> Read<Node> {
        const CONTEXT: &str = "template clause";
        let token = self.next_word();
        let name = self.name(&token, CONTEXT)?;
        let argument = match self.next_word().kind {
            Kind::RightDelim => None,
            _ => {
                self.back();
                Some(self.pipeline(CONTEXT, Kind::RightDelim)?)
            }
        };
        Ok(called(token.at, name, argument))
    }

    fn control(&mut self, word: &str) -> Read<Node> {
        let known = self.variables.len();
        let condition = self.pipeline(word, Kind::RightDelim)?;
        self.ranges += usize::from(word == "range");
        let (body, end) = self.list()?;
        self.ranges -= usize::from(word == "range");
        let otherwise = match end {
            End::End => Vec::new(),
            End::Else if word != "range" && self.peek().is_keyword(word) => {
                self.next();
                self.depth += 1;
                if self.depth > DEEPEST {
                    return self.wrong("blocks are nested too deep");
                }
                let chained = self.control(word)?;
                self.depth -= 1;
                vec![chained]
            }
            End::Else => match self.list()? {
                (nodes, End::End) => nodes,
                (_, end) => return self.wrong(format!("expected end; found {}", end.text())),
            },
        };
        self.variables.truncate(known);
        Ok(match word {
            "if" => Node::If(condition, body, otherwise),
            "with" => Node::With(condition, body, otherwise),
            _ => Node::Range(condition, body, otherwise),
        })
    }
}

/// A template that is called by its name.
fn called(at: usize, name: String, argument: Option<Pipe>) -> Node {
    let mut text = format!("{{{{template {}", go_text::quoted(&name, '"'));
    if let Some(argument) = &argument {
        text.push_str(&format!(" {}", argument.place.text));
    }
    text.push_str("}}");
    Node::Named(name, argument, Place { at, text })
}

//! Pieces become nodes: `if`, `with` and `range` with what is in them, and templates by name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    DEEPEST, Node, Place, Term,
    pieces::Piece,
    pipelines::pipeline,
    words::{term, tokens, written},
};

#[derive(Default)]
pub(super) struct Reader {
    pub(super) pieces: Vec<Piece>,
    pub(super) at: usize,
    pub(super) named: BTreeMap<String, Vec<Node>>,
    depth: usize,
    ranges: usize,
    /// Where what is read now begins, and where the template ends.
    pub(super) here: usize,
    end: usize,
}

impl Reader {
    /// Of a template's pieces, and where it ends.
    pub(super) fn new(pieces: Vec<Piece>, end: usize) -> Self {
        Self { pieces, end, ..Self::default() }
    }

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
    pub(super) fn block(&mut self) -> Result<Vec<Node>, String> {
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
fn written_action(action: &str) -> Result<String, String> {
    Ok(format!("{{{{{}}}}}", written(&tokens(action, 0)?)))
}

//! Words become pipelines: commands, each with its terms.

use super::{
    Command, DEEPEST, Pipeline, Place, Term,
    words::{names, term, tokens, written},
};

pub(super) fn pipeline(text: &str, at: usize) -> Result<Pipeline, String> {
    let tokens = tokens(text, at)?;
    let mut at = 0;
    let pipeline = read_pipeline(&tokens, &mut at, 0)?;
    match tokens.get(at) {
        None => Ok(pipeline),
        Some(token) => Err(format!("unexpected {:?} in command", token.text)),
    }
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

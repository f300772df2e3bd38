//! What a template is made of: text, and actions in `{{ }}`.

pub(super) enum Piece {
    Text(String),
    /// And where it begins.
    Action(String, usize),
}

/// What a template is made of, or where an action begins that has no end.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, usize> {
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

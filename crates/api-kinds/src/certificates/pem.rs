//! PEM (RFC 7468 and its older form with headers), read as Go reads it: text
//! around blocks is ignored, and so is a block that is not whole.

use base64::{Engine, engine::general_purpose::STANDARD};

/// One block.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// `CERTIFICATE`.
    pub(super) label: String,
    /// There are `Key: value` lines before the content.
    pub(super) has_headers: bool,
    /// The content.
    pub(super) der: Vec<u8>,
}

/// The blocks of a text, in their order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, "-----BEGIN ") else { continue };
        let end = format!("-----END {label}-----");
        let mut rest = lines.clone();
        let mut has_headers = false;
        let mut base64 = String::new();
        let whole = loop {
            match rest.next() {
                None => break false,
                Some(line) if line == end => break true,
                // The next block begins before this one ended.
                Some(line) if boundary(line, "-----BEGIN ").is_some() => break false,
                Some(line) if base64.is_empty() && line.contains(':') => has_headers = true,
                Some(line) => base64.extend(line.split_ascii_whitespace()),
            }
        };
        if !whole {
            continue;
        }
        if let Ok(der) = STANDARD.decode(base64) {
            out.push(Block { label: label.to_owned(), has_headers, der });
            lines = rest;
        }
    }
    out
}

fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = "words\n-----BEGIN A B-----\nAQID\nBA==\n-----END A B-----\r\nmore\n\
                    -----BEGIN C-----\nkey: value\n\nAQ==\n-----END C-----\n\
                    -----BEGIN D-----\nAQ==\n-----END E-----\n\
                    -----BEGIN F-----\n!\n-----END F-----";
        let block = |label: &str, has_headers, der: &[u8]| Block {
            label: label.into(),
            has_headers,
            der: der.into(),
        };
        assert_eq!(blocks(text), [block("A B", false, &[1, 2, 3, 4]), block("C", true, &[1])]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            blocks(&text);
            blocks(&format!("-----BEGIN A-----\n{text}\n-----END A-----"));
        }
    }
}

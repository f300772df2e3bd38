//! Links in a page, rewritten while it streams. Only what a browser follows by
//! itself or by a click is looked at; everything else passes byte for byte.

use super::link;

/// A tag longer than this passes as it is.
const TAG_BYTES_MAX: usize = 64 * 1024;

/// Attributes that are links, and the elements they are links of.
const LINKS: &[(&str, &[&str])] = &[
    ("action", &["form"]),
    ("background", &["body"]),
    ("cite", &["blockquote", "del", "ins", "q"]),
    ("codebase", &["applet", "object"]),
    ("data", &["object"]),
    ("formaction", &["button", "input"]),
    ("href", &["a", "area", "base", "link"]),
    ("icon", &["command"]),
    ("longdesc", &["frame", "iframe", "img"]),
    ("manifest", &["html"]),
    ("poster", &["video"]),
    ("profile", &["head"]),
    (
        "src",
        &[
            "audio", "embed", "frame", "iframe", "img", "input", "script", "source", "track",
            "video",
        ],
    ),
    ("usemap", &["img", "input", "object"]),
];

/// Elements whose content is text up to their end.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// Rewrites one page.
pub(crate) struct Page {
    prefix: String,
    hosts: [String; 2],
    /// The tag that is not whole yet.
    tag: Vec<u8>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Text,
    /// Inside of a tag, and of which quotes.
    Tag(Option<u8>),
    /// Until this, in lower case; `matched` bytes of it were seen.
    Until {
        end: Vec<u8>,
        matched: usize,
    },
}

impl Page {
    pub(super) fn new(prefix: &str, hosts: [String; 2]) -> Self {
        Self { prefix: prefix.to_owned(), hosts, tag: Vec::new(), state: State::Text }
    }

    /// What can be said after these bytes of the page.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for byte in bytes {
            self.byte(*byte, &mut out);
        }
        out
    }

    /// The rest, at the page's end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.state = State::Text;
        std::mem::take(&mut self.tag)
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        match &mut self.state {
            State::Text if byte == b'<' => {
                self.tag.push(byte);
                self.state = State::Tag(None);
            }
            State::Text => out.push(byte),
            State::Until { end, matched } => {
                out.push(byte);
                let byte = byte.to_ascii_lowercase();
                // All ends begin with a byte that comes again only in `-->`.
                *matched = match byte {
                    byte if end[*matched] == byte => *matched + 1,
                    b'-' if end[0] == b'-' && *matched == 2 => 2,
                    byte => usize::from(end[0] == byte),
                };
                if *matched == end.len() {
                    self.state = State::Text;
                }
            }
            State::Tag(quote) => {
                self.tag.push(byte);
                *quote = match (*quote, byte) {
                    (Some(open), byte) if open == byte => None,
                    (None, b'"' | b'\'') => Some(byte),
                    (quote, _) => quote,
                };
                let begins = self.tag.len() > 1
                    && (self.tag[1].is_ascii_alphabetic() || matches!(self.tag[1], b'/' | b'!'));
                if !begins || self.tag.len() > TAG_BYTES_MAX {
                    self.state = State::Text;
                    out.append(&mut self.tag);
                } else if self.tag == b"<!--" {
                    self.state = State::Until { end: b"-->".to_vec(), matched: 0 };
                    out.append(&mut self.tag);
                } else if byte == b'>' && matches!(self.state, State::Tag(None)) {
                    let tag = std::mem::take(&mut self.tag);
                    self.state = self.after(&tag);
                    out.extend(self.rewrite(&tag));
                }
            }
        }
    }

    fn after(&self, tag: &[u8]) -> State {
        let name = name(tag);
        match RAW.contains(&name.as_str()) && !tag.ends_with(b"/>") {
            true => State::Until { end: format!("</{name}").into_bytes(), matched: 0 },
            false => State::Text,
        }
    }

    /// A whole tag, with its links rewritten.
    fn rewrite(&self, tag: &[u8]) -> Vec<u8> {
        let name = name(tag);
        let mut out = Vec::with_capacity(tag.len() + self.prefix.len());
        let mut rest = tag;
        while let Some((attribute, before, value)) = next_attribute(rest) {
            let after = before + value;
            out.extend_from_slice(&rest[..before]);
            let link = std::str::from_utf8(&rest[before..after]).ok();
            let is_link =
                LINKS.iter().any(|(known, of)| *known == attribute && of.contains(&name.as_str()));
            let hosts = [self.hosts[0].as_str(), self.hosts[1].as_str()];
            let here = link.filter(|_| is_link).and_then(|l| link::rewrite(l, &self.prefix, hosts));
            match here {
                Some(here) => out.extend_from_slice(here.as_bytes()),
                None => out.extend_from_slice(&rest[before..after]),
            }
            rest = &rest[after..];
        }
        out.extend_from_slice(rest);
        out
    }
}

/// A tag's name in lower case; empty for ends and declarations.
fn name(tag: &[u8]) -> String {
    let name = tag[1..].iter().take_while(|byte| byte.is_ascii_alphanumeric());
    name.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// The next attribute that has a value: its name in lower case, where the value
/// begins, and how long it is.
fn next_attribute(tag: &[u8]) -> Option<(String, usize, usize)> {
    let equals = tag.iter().position(|byte| *byte == b'=')?;
    let name: Vec<u8> = tag[..equals]
        .trim_ascii_end()
        .iter()
        .rev()
        .take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'/'))
        .map(u8::to_ascii_lowercase)
        .collect();
    let name = name.into_iter().rev().map(char::from).collect();
    let spaces = tag[equals + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let begin = equals + 1 + spaces;
    let length = |bytes: &[u8], ends: &dyn Fn(u8) -> bool| {
        bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len())
    };
    Some(match tag.get(begin) {
        Some(quote @ (b'"' | b'\'')) => {
            (name, begin + 1, length(&tag[begin + 1..], &|byte| byte == *quote))
        }
        _ => {
            let ends = |byte: u8| byte.is_ascii_whitespace() || byte == b'>';
            (name, begin, length(&tag[begin..], &ends))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page() -> Page {
        Page::new("/p", ["10.42.0.9:80".into(), "api:6443".into()])
    }

    fn check(text: &str, expected: &str) {
        for size in [1, 3, 1000] {
            let mut page = page();
            let mut out: Vec<u8> =
                text.as_bytes().chunks(size).flat_map(|c| page.push(c)).collect();
            out.extend(page.finish());
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn links_are_rewritten() {
        check("<a href=\"/x\">/x</a>", "<a href=\"/p/x\">/x</a>");
        check("<IMG class=b SRC='/x?a=b' alt=\"/y\">", "<IMG class=b SRC='/p/x?a=b' alt=\"/y\">");
        check("<form method=post action = /x>", "<form method=post action = /p/x>");
        check("<a href=http://10.42.0.9:80/x>", "<a href=/p/x>");
        check(
            "<link href=/a><script src=\"/b\"></script>",
            "<link href=/p/a><script src=\"/p/b\"></script>",
        );
    }

    #[test]
    fn everything_else_is_as_it_was() {
        for text in [
            "<p href=\"/x\">a < b, <3 & \"c\"</p>",
            "<a title=\"href=/x\" href=\"x\">",
            "<!-- <a href=\"/x\"> --- <a href=/y> -->",
            "<script>let s = '<a href=\"/x\">';</script>",
            "<a href=\"/unfinished",
            "<!DOCTYPE html>",
            "</a href=\"/x\">",
        ] {
            check(text, text);
        }
        check("<!-- --><a href=/x>", "<!-- --><a href=/p/x>");
        check("<style>a</style ><a href=/x>", "<style>a</style ><a href=/p/x>");
        let long = format!("<a title=\"{}\" href=/x>", "y".repeat(TAG_BYTES_MAX));
        check(&long, &long);
    }

    proptest! {
        #[test]
        fn no_page_panics_or_loses_text(bytes in "[<>a/!\"'= -]{0,60}|.{0,60}") {
            let mut page = page();
            let mut out = page.push(bytes.as_bytes());
            out.extend(page.finish());
            let text = String::from_utf8_lossy(&out).replace("/p/", "/");
            prop_assert_eq!(text.len(), bytes.replace("/p/", "/").len());
        }
    }
}

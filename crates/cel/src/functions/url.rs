//! URLs: absolute URIs and absolute paths, as Go reads the target of a request.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, List, Map as MapOf, Opaque, String as Str},
    function, global, member, no,
};
use crate::{
    cost::Cost,
    fault::Fault,
    value::{Key, Map, Value},
};

const URL: super::Pattern = Opaque("kubernetes.URL");

pub(super) const FUNCTIONS: &[Function] = &[
    row("url", &[global(&[Str], URL, Cost::Parse { sized: true })], |args| match args {
        [Value::String(text)] => match Url::parse(text) {
            Ok(url) => Ok(Value::Url(Arc::new(url))),
            Err(why) => {
                Err(Fault::new(format!("URL parse error during conversion from string: {why}")))
            }
        },
        _ => no(),
    }),
    row("isURL", &[global(&[Str], Bool, Cost::Unit)], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
        _ => no(),
    }),
    row("getScheme", TEXT, |args| part(args, |url| url.scheme.clone())),
    row("getHost", TEXT, |args| part(args, |url| url.host.clone())),
    row("getHostname", TEXT, |args| part(args, |url| url.hostname().to_owned())),
    row("getPort", TEXT, |args| part(args, |url| url.port().to_owned())),
    row("getEscapedPath", TEXT, |args| part(args, |url| url.path.clone())),
    row("getQuery", &[member(&[URL], MapOf(&Str, &List(&Str)), Cost::Unit)], |args| match args {
        [Value::Url(url)] => Ok(url.query_value()),
        _ => no(),
    }),
];

const TEXT: &[Overload] = &[member(&[URL], Str, Cost::Unit)];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Urls, name, overloads, run)
}

fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> String) -> Outcome<'a> {
    match args {
        [Value::Url(url)] => Ok(Value::text(part(url))),
        _ => no(),
    }
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: String,
    /// With the port, if there is one.
    host: String,
    /// Escaped as it was given, or as it must be.
    path: String,
    query: String,
}

impl Url {
    /// Reads an absolute URI or an absolute path.
    ///
    /// # Errors
    /// Why it is neither, in Go's words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.is_empty() {
            return fail("empty url");
        }
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return fail("net/url: invalid control character in URL");
        }
        if text == "*" {
            return Ok(Self::path_only("*"));
        }
        let (scheme, rest) = match scheme(text) {
            Ok(split) => split,
            Err(why) => return fail(why),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') && scheme.is_empty() {
            return fail("invalid URI for request");
        }
        if !rest.starts_with('/') {
            // `mailto:a@b`: what follows the scheme is opaque, and no path.
            return Ok(Self { scheme, query: query.into(), ..Self::path_only("") });
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                let end = rest.find('/').unwrap_or(rest.len());
                rest.split_at(end)
            }
            _ => ("", rest),
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if let Err(why) = check_host(host) {
            return fail(&why);
        }
        if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b)) {
            return fail("net/url: invalid userinfo");
        }
        for part in [path, user] {
            if let Some(bad) = bad_escape(part) {
                return fail(&format!("invalid URL escape {bad:?}"));
            }
        }
        let (host, path) = (host.to_owned(), escape_path(path));
        Ok(Self { scheme, user: user.into(), host, path, query: query.into() })
    }

    fn path_only(path: &str) -> Self {
        let empty = String::new;
        Self { scheme: empty(), user: empty(), host: empty(), path: path.into(), query: empty() }
    }

    fn hostname(&self) -> &str {
        match self.host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, _)) => address,
            None => self.host.rsplit_once(':').map_or(&self.host, |(host, _)| host),
        }
    }

    fn port(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => port,
            _ => "",
        }
    }

    /// Values by key; pairs that are not well formed are left out.
    fn query_value<'a>(&self) -> Value<'a> {
        let mut values: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
                values.entry(key).or_default().push(Value::text(value));
            }
        }
        let entries = values.into_iter().map(|(key, values)| {
            (Key::Text(Cow::Owned(key.clone())), (Value::text(key), Value::list(values)))
        });
        Value::Map(Map::Made(Arc::new(entries.collect())))
    }
}

fn scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => return Ok((String::new(), text)),
        }
    }
    Ok((String::new(), text))
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, after) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.rsplit_once(']').ok_or("missing ']' in host")?;
            (address, after)
        }
        None => match host.find(':') {
            Some(at) => host.split_at(at),
            None => (host, ""),
        },
    };
    let port = after.is_empty()
        || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !port {
        return Err(format!("invalid port {after:?} after host"));
    }
    let bad = name.chars().find(|c| {
        c.is_ascii() && !c.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:[]<>\"%".contains(*c)
    });
    match bad {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => Ok(()),
    }
}

/// The first `%` that is not followed by two hexadecimal digits.
fn bad_escape(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        if !after.bytes().take(2).filter(u8::is_ascii_hexdigit).count().eq(&2) {
            return Some(rest[at..].chars().take(3).collect());
        }
        rest = after;
    }
    None
}

fn escape_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Query text: `+` is a blank, `%XX` a byte.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

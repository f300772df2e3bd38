//! Regular expressions in RE2's syntax, which Kubernetes' users write (`pattern`
//! in schemas, `matches()` in rules), over the `regex` crate.
//!
//! Both run in linear time and differ in details only, which [`translate`]
//! evens out: Perl classes and word boundaries are ASCII, brackets in a class
//! are plain characters, `{` that opens no repetition is one too, and digits after
//! a backslash are a character by its octal number.

use regex::RegexBuilder;

/// Compiled programs may not be larger, in bytes.
const SIZE_MAX: usize = 1 << 20;

/// Compiles a pattern of RE2's syntax.
///
/// # Errors
/// What is wrong with it, for people.
pub fn compile(pattern: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(&translate(pattern)?).size_limit(SIZE_MAX).nest_limit(100).build().map_err(
        |error| match error {
            regex::Error::CompiledTooBig(_) => "expression is too large".to_owned(),
            // The last line of the parser's drawing says what is wrong.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        },
    )
}

/// The same pattern in the syntax of the `regex` crate.
///
/// # Errors
/// For what RE2 does not know and the crate would take for something else.
pub fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.char_indices().peekable();
    // Where a class began that is not closed yet.
    let mut class: Option<usize> = None;
    while let Some((at, c)) = chars.next() {
        match (c, class) {
            ('\\', _) => {
                let Some((_, escaped)) = chars.next() else {
                    return Err("trailing backslash at end of expression".into());
                };
                if escaped == 'Q' && class.is_none() {
                    let quoted = &pattern[at + 2..];
                    let end = quoted.find(r"\E").unwrap_or(quoted.len());
                    out.push_str(&regex::escape(&quoted[..end]));
                    let skip_to = at + 2 + end + if end < quoted.len() { 2 } else { 0 };
                    while chars.next_if(|(at, _)| *at < skip_to).is_some() {}
                    continue;
                }
                if let Some((number, len)) = octal(&pattern[at + 1..]) {
                    out.push_str(&format!(r"\x{{{number:x}}}"));
                    while chars.next_if(|(next, _)| *next < at + 1 + len).is_some() {}
                    continue;
                }
                escape(escaped, class.is_some(), &mut out)?;
                // What names a class or a character is no repetition.
                if matches!(escaped, 'p' | 'P' | 'x') && pattern[at + 2..].starts_with('{') {
                    let end = pattern[at..].find('}').map_or(pattern.len(), |len| at + len + 1);
                    out.push_str(&pattern[at + 2..end]);
                    while chars.next_if(|(next, _)| *next < end).is_some() {}
                }
            }
            ('[', None) => {
                class = Some(at);
                out.push('[');
                if chars.next_if(|(_, c)| *c == '^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is a character of the class.
                if chars.next_if(|(_, c)| *c == ']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ('[', Some(_)) => match pattern[at..].starts_with("[:") {
                true => {
                    let Some(len) = pattern[at..].find(":]") else {
                        out.push_str(r"\[");
                        continue;
                    };
                    out.push_str(&pattern[at..at + len + 2]);
                    while chars.next_if(|(next, _)| *next < at + len + 2).is_some() {}
                }
                false => out.push_str(r"\["),
            },
            (']', Some(_)) => {
                class = None;
                out.push(']');
            }
            // Doubled, these are operators on classes.
            ('&' | '~', Some(_)) => out.extend(['\\', c]),
            ('-', Some(_)) if pattern[at + 1..].starts_with('-') => out.push_str(r"\-"),
            ('{', None) if !is_repetition(&pattern[at..]) => out.push_str(r"\{"),
            ('(', None) if pattern[at..].starts_with("(?") => {
                let flags = pattern[at + 2..].chars().take_while(|c| !matches!(c, ':' | ')'));
                if let Some(wrong) = flags
                    .take_while(|c| c.is_ascii_alphabetic())
                    .find(|c| !matches!(c, 'i' | 'm' | 's' | 'U' | 'P'))
                {
                    return Err(format!("invalid or unsupported Perl syntax: `(?{wrong}`"));
                }
                out.push('(');
            }
            (c, _) => out.push(c),
        }
    }
    Ok(out)
}

/// Whether the text begins with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(text: &str) -> bool {
    let Some(end) = text.find('}') else { return false };
    let inner = &text[1..end];
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inner.split_once(',') {
        Some((from, to)) => number(from) && (to.is_empty() || number(to)),
        None => number(inner),
    }
}

/// The number that a text begins with, in up to three octal digits, and their
/// count. One digit alone is a reference to a group, except for zero.
fn octal(text: &str) -> Option<(u32, usize)> {
    let digits = text.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7'));
    let (number, len) =
        digits.fold((0, 0), |(number, len), digit| (number * 8 + u32::from(digit - b'0'), len + 1));
    (len > 1 || text.starts_with('0')).then_some((number, len))
}

fn escape(escaped: char, in_class: bool, out: &mut String) -> Result<(), String> {
    let class = |out: &mut String, set: &str| match in_class {
        true => out.push_str(set),
        false => out.extend(["[", set, "]"]),
    };
    match escaped {
        'd' => class(out, "0-9"),
        'w' => class(out, "0-9A-Za-z_"),
        's' => class(out, r"\t\n\f\r "),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'b' if !in_class => out.push_str(r"(?-u:\b)"),
        'B' if !in_class => out.push_str(r"(?-u:\B)"),
        'A' | 'z' if !in_class => out.extend(['\\', escaped]),
        'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'p' | 'P' => out.extend(['\\', escaped]),
        c if c.is_ascii_punctuation() && !matches!(c, '<' | '>') => out.extend(['\\', c]),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => out.push(c),
        c => return Err(format!("invalid escape sequence: `\\{c}`")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * *", false),
            (r"^\d$", "٣", false),
            (r"^\w+$", "é", false),
            (r"^[\w.-]+$", "a.b-c_d", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]]$", "]", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[a[]+$", "[a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^{{.*}}$", "{{x}}", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\p{Greek}\pL$", "αb", true),
            (r"(?i)^straße$", "STRAßE", true),
            (r"\bfoo\b", "a foo b", true),
            (r"\<", "<", true),
            (r"^\/$", "/", true),
            (r"^[+\--9]$", "0", true),
            (r"^\ *a[\ ]$", "  a ", true),
            ("^a\\\n$", "a\n", true),
            (r"^\_\~\&$", "_~&", true),
            (r"^\101\60\0$", "A0\0", true),
            (r"^[\101-\103]+\777$", "ABC\u{1ff}", true),
            (r"^\1012$", "A2", true),
            (r"oo\B", "foo", false),
            (r"o\Bo", "foo", true),
            (r"é\B", "é", true),
            (r"\B", "é", true),
            (r"^\B.\B$", "é", true),
            (r"^(?P<a>x)$", "x", true),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(compiled.is_match(text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_go_does_not_take_is_refused() {
        for pattern in
            ["(", "[a", "a**b(?=c)", r"\y", r"\1", r"\8", r"\é", r"a\", "(?x)a", "(?u)a", "*a"]
        {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in r#"[\[\](){}^$*+?|\\\-&~:a-zQEdwsbBpé0-9,]{0,24}"#) {
            let _ = compile(&pattern);
        }
    }
}

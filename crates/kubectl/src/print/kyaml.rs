//! KYAML, as kubectl writes it: YAML in braces and brackets, with every text in quotes and
//! a comma behind every value, so that neither indentation nor a bare word means anything.

use serde_json::{Map, Value};

use super::{json::in_order, number};

/// A document, behind the line that begins one.
pub(crate) fn document(value: &Value) -> String {
    document_in(value, &[])
}

/// The same with the fields of objects in an order.
pub(crate) fn document_in(value: &Value, order: &[&str]) -> String {
    let mut out = "---\n".to_owned();
    write(&mut out, value, 0, order);
    out.push('\n');
    out
}

/// The cursor is in a line that is indented by `indent`.
fn write(out: &mut String, value: &Value, indent: usize, order: &[&str]) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => write_map(out, map, indent, order),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => write_list(out, items, indent, order),
        Value::String(text) if text.contains('\n') => write_lines(out, text, indent + 2),
        Value::String(text) => write_quoted(out, text, "\t"),
        Value::Number(number) => out.push_str(&number::json(number)),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn write_map(out: &mut String, map: &Map<String, Value>, indent: usize, order: &[&str]) {
    out.push_str("{\n");
    for (key, value) in in_order(map, order) {
        spaces(out, indent + 2);
        match is_plain_key(key) {
            true => out.push_str(key),
            // Unlike elsewhere, a tab in a key is not left as it is.
            false => write_quoted(out, key, "\\t"),
        }
        out.push_str(": ");
        write(out, value, indent + 2, order);
        out.push_str(",\n");
    }
    spaces(out, indent);
    out.push('}');
}

/// The brackets of a list stand in the lines of those of its items, unless it has an item
/// without brackets.
fn write_list(out: &mut String, items: &[Value], indent: usize, order: &[&str]) {
    if items.iter().all(|item| item.is_object() || item.is_array()) {
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i == 0 { "[" } else { ", " });
            write(out, item, indent, order);
        }
    } else {
        out.push_str("[\n");
        for item in items {
            spaces(out, indent + 2);
            write(out, item, indent + 2, order);
            out.push_str(",\n");
        }
        spaces(out, indent);
    }
    out.push(']');
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// A text of several lines in as many. A reader leaves out the blanks that a line begins
/// with, and the break behind a backslash.
fn write_lines(out: &mut String, text: &str, indent: usize) {
    out.push_str("\"\\\n");
    for line in text.split_inclusive('\n') {
        spaces(out, indent);
        // Blanks of the text itself are to stay.
        out.push(if line.starts_with([' ', '\t']) { '\\' } else { ' ' });
        line.chars().for_each(|c| write_char(out, c));
        out.push_str("\\\n");
    }
    spaces(out, indent);
    out.push('"');
}

fn write_quoted(out: &mut String, text: &str, tab: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\t' => out.push_str(tab),
            c => write_char(out, c),
        }
    }
    out.push('"');
}

fn write_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\0' => out.push_str("\\0"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\n' => out.push_str("\\n"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\x1b' => out.push_str("\\e"),
        '\u{85}' => out.push_str("\\N"),
        '\u{a0}' => out.push_str("\\_"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        '\t' | ' '..='~' => out.push(c),
        ..='\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if is_visible(c) => out.push(c),
        ..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Letters, marks, numbers, punctuation and symbols: what the standard library does not
/// escape behind a letter, where a mark is no reason to.
fn is_visible(c: char) -> bool {
    let mut bytes = *b"a\0\0\0\0";
    let len = c.encode_utf8(&mut bytes[1..]).len();
    let text = std::str::from_utf8(&bytes[..=len]).expect("a letter and a character");
    text.escape_debug().nth(1) == Some(c)
}

fn is_plain_key(key: &str) -> bool {
    // A mark that belongs to the letter before it is no letter.
    let is_letter = |c: char| (c.is_alphanumeric() && c.escape_debug().len() == 1) || c == '_';
    let is_inner = |c: char| is_letter(c) || matches!(c, '-' | '.' | '/');
    key.starts_with(is_letter)
        && key.ends_with(is_letter)
        && key.chars().all(is_inner)
        && !is_word(key)
        && !is_number(&key.replace('_', ""))
        && !is_date(key)
}

/// What some reader of YAML takes for a boolean or for nothing, in whatever case.
fn is_word(key: &str) -> bool {
    const WORDS: [&str; 11] =
        ["true", "t", "false", "f", "yes", "y", "no", "n", "on", "off", "null"];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(key))
}

/// What Go takes for a number of 64 bits, without a sign.
fn is_number(digits: &str) -> bool {
    let word = ["inf", "infinity", "nan"].iter().any(|word| word.eq_ignore_ascii_case(digits));
    if word || digits.parse::<f64>().is_ok_and(f64::is_finite) {
        return true;
    }
    let (Some("0"), Some(letter), Some(rest)) =
        (digits.get(..1), digits.get(1..2), digits.get(2..))
    else {
        return false;
    };
    let is_integer = |radix| !rest.starts_with('+') && i64::from_str_radix(rest, radix).is_ok();
    match letter {
        "b" | "B" => is_integer(2),
        "o" | "O" => is_integer(8),
        "x" | "X" => is_integer(16) || is_hexadecimal_fraction(rest),
        _ => false,
    }
}

/// `1.8p1`: only the exponent makes it a number.
fn is_hexadecimal_fraction(rest: &str) -> bool {
    let Some((mantissa, exponent)) = rest.split_once(['p', 'P']) else { return false };
    let digits = mantissa.replacen('.', "", 1);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && exponent.parse::<i32>().is_ok()
}

/// `2001-12-14`, if there is such a day.
fn is_date(key: &str) -> bool {
    let parts: Vec<&str> = key.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let number = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        let fits = digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse::<u32>().ok()).flatten()
    };
    let (Some(year), Some(month), Some(day)) =
        (number(year, 4..=4), number(month, 1..=2), number(day, 1..=2))
    else {
        return false;
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // What is expected here was printed by kubectl v1.37.1.
    #[test]
    fn structures_are_laid_out_as_kubectl_does() {
        let value = json!({
            "empty": [{}, [], ""], "on": true, "none": null,
            "maps": [{}, {"a": 1}, {"b": [1.5, "x"]}], "lists": [[1, 2], [[]]],
            "mixed": [1, {"a": {}}, [[{"e": -1}]]],
        });
        assert_eq!(
            document(&value),
            r#"---
{
  empty: [
    {},
    [],
    "",
  ],
  lists: [[
    1,
    2,
  ], [[]]],
  maps: [{}, {
    a: 1,
  }, {
    b: [
      1.5,
      "x",
    ],
  }],
  mixed: [
    1,
    {
      a: {},
    },
    [[{
      e: -1,
    }]],
  ],
  none: null,
  "on": true,
}
"#
        );
    }

    #[test]
    fn lines_of_a_text_stand_below_each_other() {
        let value = json!({"m": ["a\nb", {"k": "\n a\n\tb\\\" \n"}]});
        let expected = r#"---
{
  m: [
    "\
       a\n\
       b\
      ",
    {
      k: "\
         \n\
        \ a\n\
        \TABb\\\" \n\
        ",
    },
  ],
}
"#;
        assert_eq!(document(&value), expected.replace("TAB", "\t"));
    }

    #[test]
    fn keys_that_could_be_something_else_are_in_quotes() {
        const PLAIN: &str = "a A a1 1a 1é é1 日 _ __ _a a_ a-b a.b a/b a..b a/.b 1/2 0a 0b 0x 0o8 0b2 \
             0xg 1e 1e400 1_a 0.0.0.0 1.2.3 12-14 2001-12 2001-13-01 2001-2-30 2001-02-29 \
             12001-1-1 0xffffffffffffffff 0x1.8 0x1p 0x_ o nil none nul truee app.kubernetes.io/name";
        const QUOTED: &str = "- ~ . a- -a a. .a a/ /a a:b f:x a@b a=b a€ 😀 0 00 08 1_ _1 1_000 1__0 1. 1.5 \
             1e5 1e+5 0x1F 0X1f 0xF_F 0o7 0B1 0x1p0 0x.8p0 0x1.p0 12345678901234567890 inf iNf _nan \
             Infinity 1:30 2001-1-1 2004-02-29 y N yEs On off t F true False NULL << =";
        for (keys, quote) in [(PLAIN, ""), (QUOTED, "\"")] {
            for key in keys.split_whitespace() {
                let expected = format!("---\n{{\n  {quote}{key}{quote}: 1,\n}}\n");
                assert_eq!(document(&json!({key: 1})), expected);
            }
        }
        assert_eq!(document(&json!({"": 1})), "---\n{\n  \"\": 1,\n}\n");
        assert_eq!(document(&json!({"a\tb": 1})), "---\n{\n  \"a\\tb\": 1,\n}\n");
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for (text, quoted) in [
            ("it's \"a\\b\"\t", "it's \\\"a\\\\b\\\"\t"),
            ("\0\x01\x07\x08\x0b\x0c\r\x1b\x1f", r"\0\x01\a\b\v\f\r\e\x1f"),
            ("\u{a0}\u{2028}\u{2029}\u{ad}\u{200b}", r"\_\L\P\u00ad\u200b"),
            ("\u{feff}\u{e000}\u{10ffff}\u{3000}", r"\ufeff\ue000\U0010ffff\u3000"),
            ("é日\u{301}😀\u{fffd}", "é日\u{301}😀\u{fffd}"),
        ] {
            assert_eq!(document(&json!(text)), format!("---\n\"{quoted}\"\n"));
        }
    }

    #[test]
    fn any_reader_of_yaml_reads_it() {
        // Of lines that begin with such a blank, and of the first two of these characters,
        // kubectl makes something else than they are.
        let value = json!({
            "\n": "\u{85}\u{7f}", "a": "\r\n\u{a0}\n\u{3000}x\n \n", "b": ["\t\n", [" \\\n", {}]],
            "yes": [[], {"1": null, "x": "#: ,]}"}, [-1.5, false]], "c": " a  \n  b  ",
        });
        let text = document(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).expect(&text), value);
    }
}

//! Go's `printf`: verbs with flags, a width, a precision and places of arguments.

use serde_json::Value;

use super::{
    given::Given,
    go_text::{float, kind, quoted, shown, signed, syntax, written},
};

/// Longer text is refused: a template could fill the memory with it.
pub(super) const LONGEST: usize = 64 << 20;
/// No digit may follow a number beyond this, as in Go.
const WIDEST: usize = 1_000_000;

#[derive(Clone, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// The text of a format and its arguments.
///
/// # Errors
/// Where it would be too long.
pub(super) fn printf(format: &str, arguments: &[Given]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format;
    let mut next = 0;
    let mut reordered = false;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut spec = Spec::default();
        while let Some(flag) = rest.chars().next().filter(|c| "+-# 0".contains(*c)) {
            match flag {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
            rest = &rest[1..];
        }
        reordered |= place(&mut rest, &mut next);
        match count(&mut rest, arguments, &mut next) {
            Some(Ok(width)) => {
                spec.minus |= width < 0;
                spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(0);
            }
            Some(Err(why)) => out.push_str(&format!("%!({why}WIDTH)")),
            None => {}
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            reordered |= place(&mut rest, &mut next);
            spec.precision = match count(&mut rest, arguments, &mut next) {
                Some(Ok(precision)) => usize::try_from(precision).ok(),
                Some(Err(why)) => {
                    out.push_str(&format!("%!({why}PREC)"));
                    None
                }
                None => Some(0),
            };
        }
        reordered |= place(&mut rest, &mut next);
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
        } else if let Some(given) = arguments.get(next) {
            next += 1;
            out.push_str(&one(verb, &spec, &given.value, given.kind()));
        } else {
            out.push_str(&format!("%!{verb}({})", if reordered { "BADINDEX" } else { "MISSING" }));
        }
        if out.len() > LONGEST {
            return Err("the text is too long".to_owned());
        }
    }
    out.push_str(rest);
    if !reordered && next < arguments.len() {
        let left = arguments[next..].iter().map(|given| match &given.value {
            Value::Null => "<nil>".to_owned(),
            value => format!("{}={}", given.kind(), shown(value)),
        });
        out.push_str(&format!("%!(EXTRA {})", left.collect::<Vec<_>>().join(", ")));
    }
    Ok(out)
}

/// `[2]`: which argument is next.
fn place(rest: &mut &str, next: &mut usize) -> bool {
    let Some((number, after)) = rest.strip_prefix('[').and_then(|text| text.split_once(']')) else {
        return false;
    };
    *rest = after;
    let place = number.parse::<usize>().ok().and_then(|place| place.checked_sub(1));
    *next = place.unwrap_or(usize::MAX / 2);
    true
}

/// A width or precision, in digits or as an argument.
fn count(
    rest: &mut &str,
    arguments: &[Given],
    next: &mut usize,
) -> Option<Result<i64, &'static str>> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        let number = arguments.get(*next).and_then(|given| given.value.as_i64());
        *next += 1;
        let fits = |number: &i64| usize::try_from(number.unsigned_abs()).is_ok_and(|n| n <= WIDEST);
        return Some(number.filter(fits).ok_or("BAD"));
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    if end == 0 {
        return None;
    }
    let mut number = 0_usize;
    for digit in rest[..end].bytes() {
        if number > WIDEST {
            // Go gives up on the whole format here.
            *rest = "";
            return None;
        }
        number = number * 10 + usize::from(digit - b'0');
    }
    *rest = &rest[end..];
    i64::try_from(number).ok().map(Ok)
}

fn one(verb: char, spec: &Spec, value: &Value, type_name: &str) -> String {
    let inner = |spec: &Spec, value: &Value| one(verb, spec, value, kind(value));
    let bad = || bad(verb, value, type_name);
    match (verb, value) {
        ('T', _) => padded(spec, type_name, false),
        ('v', value) if spec.sharp => padded(spec, &syntax(value), false),
        ('v', Value::Null) => padded(spec, "<nil>", false),
        (verb, Value::Null) => format!("%!{verb}(<nil>)"),
        (_, Value::Array(items)) => {
            let spec = &within(spec);
            let items: Vec<String> = items.iter().map(|item| inner(spec, item)).collect();
            format!("[{}]", items.join(" "))
        }
        (_, Value::Object(map)) => {
            let spec = &within(spec);
            let fields = map.iter().map(|(key, item)| {
                format!("{}:{}", inner(spec, &key.as_str().into()), inner(spec, item))
            });
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        ('t' | 'v', Value::Bool(on)) => padded(spec, &on.to_string(), false),
        (verb, Value::String(text)) => string(verb, spec, text).unwrap_or_else(bad),
        (verb, Value::Number(number)) => {
            let text = match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => integer(verb, spec, number),
                (None, Some(number)) => fraction(verb, spec, number),
                (None, None) => None,
            };
            text.unwrap_or_else(bad)
        }
        _ => bad(),
    }
}

/// Each of many is padded less, lest they fill the memory together.
fn within(spec: &Spec) -> Spec {
    let most = 1000;
    let precision = spec.precision.map(|precision| precision.min(most));
    Spec { width: spec.width.min(most), precision, ..spec.clone() }
}

fn bad(verb: char, value: &Value, type_name: &str) -> String {
    format!("%!{verb}({type_name}={})", written(value, &str::to_owned))
}

fn string(verb: char, spec: &Spec, text: &str) -> Option<String> {
    let cut: String = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    let hexadecimal = |upper: bool| -> String {
        let bytes = text.bytes().take(spec.precision.unwrap_or(usize::MAX));
        bytes
            .map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") })
            .collect()
    };
    let text = match verb {
        's' | 'v' => cut,
        'q' if spec.sharp && !cut.contains(['`', '\n']) => format!("`{cut}`"),
        'q' => quoted(&cut, '"'),
        'x' => hexadecimal(false),
        'X' => hexadecimal(true),
        _ => return None,
    };
    Some(padded(spec, &text, false))
}

fn integer(verb: char, spec: &Spec, number: i64) -> Option<String> {
    let character = || u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let size = number.unsigned_abs();
    let (prefix, digits) = match verb {
        'd' | 'v' => ("", size.to_string()),
        'b' => ("0b", format!("{size:b}")),
        'o' => ("0", format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'c' => return Some(padded(spec, &character().to_string(), false)),
        'q' => return Some(padded(spec, &quoted(&character().to_string(), '\''), false)),
        'U' => return Some(padded(spec, &format!("U+{number:04X}"), false)),
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 's' | 't' => return None,
        _ => return None,
    };
    let least = spec.precision.unwrap_or(0);
    let digits = format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
    let prefix = if spec.sharp || verb == 'O' { prefix } else { "" };
    let text = format!("{}{prefix}{digits}", sign(spec, number < 0));
    Some(padded(spec, &text, spec.zero && spec.precision.is_none()))
}

fn fraction(verb: char, spec: &Spec, number: f64) -> Option<String> {
    let size = number.abs();
    let precision = spec.precision.unwrap_or(6);
    let scientific = |text: String| match text.split_once('e') {
        Some((digits, power)) => format!("{digits}e{}", signed(power.parse().unwrap_or(0))),
        None => text,
    };
    let text = match verb {
        'f' | 'F' => {
            // Rust takes no precision beyond 65535; what follows are zeros anyway.
            let exact = precision.min(2000);
            format!("{size:.exact$}{}", "0".repeat(precision - exact))
        }
        'e' | 'E' => {
            let exact = precision.min(2000);
            scientific(format!("{size:.exact$e}"))
        }
        'v' | 'g' | 'G' => match spec.precision {
            None => float(size),
            Some(precision) => general(size, precision.clamp(1, 2000), &scientific),
        },
        _ => return None,
    };
    let text = format!("{}{text}", sign(spec, number.is_sign_negative()));
    let text = if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text };
    Some(padded(spec, &text, spec.zero))
}

/// `%.3g`: so many digits, in the shorter of the two forms.
fn general(size: f64, digits: usize, scientific: &dyn Fn(String) -> String) -> String {
    let after = digits - 1;
    let text = format!("{size:.after$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let most = i32::try_from(digits).unwrap_or(i32::MAX);
    if power < -4 || power >= most {
        return scientific(format!("{}e{power}", trim(mantissa)));
    }
    let after = usize::try_from(most - 1 - power).unwrap_or(0);
    trim(&format!("{size:.after$}"))
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match negative {
        true => "-",
        false if spec.plus => "+",
        false if spec.space => " ",
        false => "",
    }
}

fn padded(spec: &Spec, text: &str, zeros: bool) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if zeros {
        let digits = text.trim_start_matches(['-', '+', ' ']);
        let sign = &text[..text.len() - digits.len()];
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_filled_as_go_fills_them() {
        for (format, arguments, text) in [
            ("%5d|%-5d|%05d|%+d|% d", json!([1, 2, 3, 4, 5]), "    1|2    |00003|+4| 5"),
            (
                "%x|%X|%o|%b|%c|%U|%q",
                json!([255, 255, 8, 5, 97, 97, 97]),
                "ff|FF|10|101|a|U+0061|'a'",
            ),
            ("%.2f %f %e", json!([1.0, 1.5, 100_000.0]), "1.00 1.500000 1.000000e+05"),
            ("%g %G %8.3f", json!([1e-6, 1e21, 3.25125]), "1e-06 1E+21    3.251"),
            (
                "%6.2f|%-8.1f|%+.1f|%08.2f",
                json!([1.234, 1.25, 2.0, 3.25125]),
                "  1.23|1.2     |+2.0|00003.25",
            ),
            ("%.3g %.2g", json!([1234.5, 0.25]), "1.23e+03 0.25"),
            ("%v %v", json!([1.0, 1e6]), "1 1e+06"),
            ("%s %q %v", json!(["b", "a\"b\n\u{e9}", {"a": 1}]), "b \"a\\\"b\\n\u{e9}\" map[a:1]"),
            ("%5s|%-5s|%.1s", json!(["ab", "ab", "ab"]), "   ab|ab   |a"),
            ("%*d|%[2]d", json!([5, 1]), "    1|1"),
            ("%[2]d %[1]d", json!([1, 2]), "2 1"),
            (
                "%T %#v",
                json!([{}, {"a": "b"}]),
                "map[string]interface {} map[string]interface {}{\"a\":\"b\"}",
            ),
            ("%q", json!([{"a": ["b"]}]), "map[\"a\":[\"b\"]]"),
            ("%.3d %x", json!([5, "hi"]), "005 6869"),
            ("%d", json!(["a"]), "%!d(string=a)"),
            ("%s %z", json!([5, 5]), "%!s(int=5) %!z(int=5)"),
            ("%d", json!([["a", 1]]), "[%!d(string=a) 1]"),
            ("%s", json!([[1]]), "[%!s(int64=1)]"),
            ("%d", json!([]), "%!d(MISSING)"),
            ("%d", json!([null]), "%!d(<nil>)"),
            ("x", json!([1, "b"]), "x%!(EXTRA int=1, string=b)"),
            ("100%%", json!([]), "100%"),
            ("%", json!([]), "%!(NOVERB)"),
            ("%!", json!([]), "%!!(MISSING)"),
            ("%99999999999d", json!([1]), "%!(NOVERB)%!(EXTRA int=1)"),
            ("%[9]d", json!([1]), "%!d(BADINDEX)"),
            ("%*d", json!([99_999_999, 1]), "%!(BADWIDTH)1"),
        ] {
            let arguments = arguments.as_array().expect("a list").iter().cloned();
            let arguments: Vec<Given> = arguments.map(Given::own).collect();
            assert_eq!(printf(format, &arguments).as_deref(), Ok(text), "{format}");
        }
        assert_eq!(
            printf("%.9999999f", &[Given::own(json!(1.5))]).map(|text| text.len()),
            Ok(10_000_001)
        );
        assert!(printf(&"%9999999d".repeat(1000), &vec![Given::own(json!(1)); 1000]).is_err());
    }
}

//! JSON as Go's encoder writes it.

use std::io;

use serde_json::{Value, ser::Formatter};

use super::number;

/// Go escapes what could end a script element in HTML.
fn write_escaped<W: io::Write + ?Sized>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}', '\u{7f}']) {
        let c = rest[at..].chars().next().unwrap_or_default();
        writer.write_all(&rest.as_bytes()[..at])?;
        match c {
            '\u{7f}' => writer.write_all(b"\x7f")?,
            c => write!(writer, "\\u{:04x}", u32::from(c))?,
        }
        rest = &rest[at + c.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
}

struct Compact;

impl Formatter for Compact {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number::json_float(value).as_bytes())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_escaped(writer, fragment)
    }
}

struct Pretty<'a>(serde_json::ser::PrettyFormatter<'a>);

impl Formatter for Pretty<'_> {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number::json_float(value).as_bytes())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_escaped(writer, fragment)
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

fn with<F: Formatter>(value: &impl serde::Serialize, formatter: F) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a JSON value is written to memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// On one line.
pub(crate) fn compact(value: &Value) -> String {
    with(value, Compact)
}

/// Indented by four, without a newline at the end.
pub(crate) fn pretty(value: &Value) -> String {
    indented(value, "    ")
}

/// The same with the fields of objects in an order: that of a type of Go's.
pub(crate) fn pretty_in(value: &Value, order: &[&str]) -> String {
    let formatter = Pretty(serde_json::ser::PrettyFormatter::with_indent(b"    "));
    with(&InOrder { value, order }, formatter)
}

/// The fields of an object, first those of the order.
pub(super) fn in_order<'v>(
    map: &'v serde_json::Map<String, Value>,
    order: &[&str],
) -> Vec<(&'v String, &'v Value)> {
    let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_by_key(|(key, _)| place(key));
    fields
}

struct InOrder<'v> {
    value: &'v Value,
    order: &'v [&'v str],
}

impl serde::Serialize for InOrder<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = |value| InOrder { value, order: self.order };
        match self.value {
            Value::Object(map) => {
                let fields = in_order(map, self.order).into_iter();
                serializer.collect_map(fields.map(|(key, value)| (key, inner(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(inner)),
            other => other.serialize(serializer),
        }
    }
}

/// Indented by any text.
pub(crate) fn indented(value: &Value, indent: &str) -> String {
    with(value, Pretty(serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_in_an_order_of_ones_own() {
        let value = json!({"a": [{"x": 1, "name": "n"}], "kind": "K", "b": {}});
        let text = pretty_in(&value, &["kind", "name"]).replace(['\n', ' '], "");
        assert_eq!(text, r#"{"kind":"K","a":[{"name":"n","x":1}],"b":{}}"#);
    }

    #[test]
    fn html_is_escaped_and_the_rest_is_not() {
        let value = json!({"b": "<a> & \"ü\"\n", "a": [], "c": {}, "d": [1]});
        assert_eq!(
            compact(&value),
            r#"{"a":[],"b":"\u003ca\u003e \u0026 \"ü\"\n","c":{},"d":[1]}"#
        );
        assert_eq!(
            pretty(&json!({"a": [], "d": [1]})),
            "{\n    \"a\": [],\n    \"d\": [\n        1\n    ]\n}"
        );
    }
}

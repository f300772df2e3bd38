//! The text of a description while it is written: lines with tabs, laid out at
//! the end.

use api_object::time;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::print::tabs;

/// Longer annotations are cut.
const ANNOTATION_MAX: usize = 140;

/// Lines with tabs.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// A line, two spaces in for each level.
    pub(crate) fn line(&mut self, level: usize, text: impl AsRef<str>) {
        self.0.extend(std::iter::repeat_n("  ", level));
        self.0.push_str(text.as_ref());
        self.0.push('\n');
    }

    /// Text as it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// `Name:\tvalue`, or nothing where there is no value.
    pub(crate) fn some(&mut self, level: usize, name: &str, value: &Value) {
        if !value.is_null() && value != "" {
            self.line(level, format!("{name}:\t{}", plain(value)));
        }
    }

    /// Labels under each other.
    pub(crate) fn labels(&mut self, level: usize, name: &str, labels: &Value) {
        self.pairs(level, name, labels, "=");
    }

    /// Labels under each other, further in than other values, as upstream has those of
    /// what is inside volumes.
    pub(crate) fn inner_labels(&mut self, level: usize, name: &str, labels: &Value) {
        let labels = labels.as_object().into_iter().flatten();
        let mut pairs: Vec<String> =
            labels.map(|(key, value)| format!("{key}={}", plain(value))).collect();
        if pairs.is_empty() {
            pairs.push("<none>".into());
        }
        for (i, pair) in pairs.iter().enumerate() {
            let head = if i == 0 { format!("{name}:") } else { String::new() };
            self.line(level, format!("{head}\t    {pair}"));
        }
    }

    /// Pairs under each other.
    pub(crate) fn pairs(&mut self, level: usize, name: &str, map: &Value, sign: &str) {
        let map = map.as_object();
        let Some(map) = map.filter(|map| !map.is_empty()) else {
            return self.line(level, format!("{name}:\t<none>"));
        };
        for (i, (key, value)) in map.iter().enumerate() {
            let pair = format!("{key}{sign}{}", plain(value));
            match i {
                0 => self.line(level, format!("{name}:\t{pair}")),
                _ => self.line(0, format!("\t{pair}")),
            }
        }
    }

    /// Annotations under each other, without what apply keeps there.
    pub(crate) fn annotations(&mut self, level: usize, annotations: &Value) {
        let map = annotations.as_object().into_iter().flatten();
        let shown: Vec<_> = map
            .filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration")
            .collect();
        if shown.is_empty() {
            return self.line(level, "Annotations:\t<none>");
        }
        for (i, (key, value)) in shown.into_iter().enumerate() {
            let head = if i == 0 { "Annotations:\t" } else { "\t" };
            let value = plain(value);
            let value = value.strip_suffix('\n').unwrap_or(&value);
            if key.len() + value.len() + 2 > ANNOTATION_MAX || value.contains('\n') {
                self.line(level, format!("{head}{key}:"));
                for line in value.split('\n') {
                    self.line(level, format!("\t  {}", shortened(line, ANNOTATION_MAX - 2)));
                }
            } else {
                self.line(level, format!("{head}{key}: {value}"));
            }
        }
    }

    /// Rows under names and dashes.
    pub(crate) fn table(&mut self, level: usize, names: &[&str], rows: &[Vec<String>]) {
        self.line(level, names.join("\t"));
        let dashes: Vec<String> = names.iter().map(|name| "-".repeat(name.len())).collect();
        self.line(level, dashes.join("\t"));
        for row in rows {
            self.line(level, row.join("\t"));
        }
    }

    /// As it was written, with tabs.
    pub(crate) fn unaligned(self) -> String {
        self.0
    }

    /// Columns lined up.
    pub(crate) fn done(self) -> String {
        tabs::DESCRIPTION.lay_out(&self.0)
    }
}

fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A text, or the JSON of anything else; empty for nothing.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text; empty where there is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text, or another where there is none.
pub(crate) fn or(value: &Value, other: &str) -> String {
    match plain(value) {
        empty if empty.is_empty() => other.to_owned(),
        text => text,
    }
}

/// The elements of a list.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A number; 0 where there is none.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// `[a b]`
pub(crate) fn bracketed(value: &Value) -> String {
    format!("[{}]", list(value).map(plain).collect::<Vec<_>>().join(" "))
}

/// `True` or `False`
pub(crate) fn truth(value: &Value) -> &'static str {
    if value == true { "True" } else { "False" }
}

/// `Thu, 26 Nov 2026 03:06:26 +0000`
pub(crate) fn date(value: &Value) -> String {
    match time::parse(text(value)) {
        Some(at) => at.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => "<unset>".to_owned(),
    }
}

/// How long ago.
pub(crate) fn age(value: &Value, now: Timestamp) -> String {
    api_schema::age(text(value), now)
}

/// A label selector as text: `a=b,c in (d,e)`. Older kinds have the labels alone.
pub(crate) fn selector(value: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    let bare = !value["matchLabels"].is_object() && !value["matchExpressions"].is_array();
    let labels = if bare { value } else { &value["matchLabels"] };
    for (key, wanted) in labels.as_object().into_iter().flatten() {
        parts.push(format!("{key}={}", plain(wanted)));
    }
    for requirement in list(&value["matchExpressions"]) {
        let key = text(&requirement["key"]);
        let mut values: Vec<String> = list(&requirement["values"]).map(plain).collect();
        values.sort();
        let values = values.join(",");
        parts.push(match text(&requirement["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn label_line(labels: &Value) -> String {
    crate::print::table::labels(labels)
}

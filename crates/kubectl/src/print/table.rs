//! Tables as the server makes them (`meta.k8s.io/v1 Table`), put on the screen.

use serde_json::Value;

use super::tabs;

/// How tables are printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// All columns.
    pub(crate) wide: bool,
    /// Without the line of names.
    pub(crate) no_headers: bool,
    /// With a first column of namespaces.
    pub(crate) with_namespace: bool,
    /// `pod/web` in place of `web`.
    pub(crate) kind: Option<String>,
    /// A last column with all labels.
    pub(crate) show_labels: bool,
    /// A column for each of these labels.
    pub(crate) label_columns: Vec<String>,
    /// What happened, where events of a watch are shown as such.
    pub(crate) event: Option<String>,
}

/// The widths that earlier lines had: those of a watch line up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Widths(Vec<usize>);

/// The table as text.
pub(crate) fn print(table: &Value, options: &Options, widths: &mut Widths) -> String {
    let mut lines = Vec::new();
    if !options.no_headers {
        lines.push(header(table, options));
    }
    let columns = shown(table, options);
    for row in table["rows"].as_array().into_iter().flatten() {
        lines.push(cells(row, &columns, options));
    }
    lay_out(&lines, widths)
}

/// Which columns are shown, and which of them holds the name.
fn shown(table: &Value, options: &Options) -> Vec<(usize, bool)> {
    let columns = table["columnDefinitions"].as_array();
    let columns = columns.into_iter().flatten().enumerate();
    columns
        .filter(|(_, column)| options.wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .map(|(i, column)| (i, column["format"] == "name"))
        .collect()
}

fn header(table: &Value, options: &Options) -> Vec<String> {
    let mut line = Vec::new();
    if options.event.is_some() {
        line.push("EVENT".to_owned());
    }
    if options.with_namespace {
        line.push("NAMESPACE".to_owned());
    }
    for (i, _) in shown(table, options) {
        let name = table["columnDefinitions"][i]["name"].as_str().unwrap_or_default();
        line.push(name.to_uppercase());
    }
    for label in &options.label_columns {
        line.push(label.rsplit('/').next().unwrap_or(label).to_uppercase());
    }
    if options.show_labels {
        line.push("LABELS".to_owned());
    }
    line
}

fn cells(row: &Value, columns: &[(usize, bool)], options: &Options) -> Vec<String> {
    let meta = &row["object"]["metadata"];
    let mut line = Vec::new();
    line.extend(options.event.clone());
    if options.with_namespace {
        line.push(meta["namespace"].as_str().unwrap_or_default().to_owned());
    }
    for (i, is_name) in columns {
        let text = cell(&row["cells"][*i]);
        line.push(match &options.kind {
            Some(kind) if *is_name => format!("{kind}/{text}"),
            _ => text,
        });
    }
    for label in &options.label_columns {
        line.push(meta["labels"][label].as_str().unwrap_or_default().to_owned());
    }
    if options.show_labels {
        line.push(labels(&meta["labels"]));
    }
    line
}

/// One cell: a table has one line a row, so what stands behind a break is cut.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => match text.split_once(['\n', '\r', '\x0c']) {
            Some((first, _)) => format!("{first}..."),
            None => text.replace('\t', " ").replace('\x1b', "^["),
        },
        other => other.to_string(),
    }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// Lines of cells under each other.
pub(crate) fn lay_out(lines: &[Vec<String>], widths: &mut Widths) -> String {
    let tabs = tabs::TABLE;
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            if widths.0.len() <= i {
                widths.0.push(0);
            }
            let width = (cell.chars().count() + tabs.padding).max(tabs.width_min);
            widths.0[i] = widths.0[i].max(width);
        }
    }
    let mut text = String::new();
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < line.len() {
                let used = cell.chars().count();
                text.extend(std::iter::repeat_n(' ', widths.0[i].saturating_sub(used)));
            }
        }
        text.push('\n');
    }
    text
}

/// The same, once.
pub(crate) fn of(lines: &[Vec<String>]) -> String {
    lay_out(lines, &mut Widths::default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> Value {
        json!({
            "columnDefinitions": [
                {"name": "Name", "format": "name", "priority": 0},
                {"name": "Ready", "priority": 0},
                {"name": "IP", "priority": 1},
            ],
            "rows": [{
                "cells": ["web", "1/1", null],
                "object": {"metadata": {"namespace": "default", "labels": {"a/app": "web", "b": "c"}}},
            }],
        })
    }

    #[test]
    fn columns_follow_the_options() {
        let print = |options: Options| print(&pods(), &options, &mut Widths::default());
        assert_eq!(print(Options::default()), "NAME   READY\nweb    1/1\n");
        let wide = Options { wide: true, with_namespace: true, ..Options::default() };
        assert_eq!(
            print(wide),
            "NAMESPACE   NAME   READY   IP\ndefault     web    1/1     <none>\n"
        );
        let labels = Options {
            kind: Some("pod".into()),
            no_headers: true,
            label_columns: vec!["a/app".into(), "x".into()],
            show_labels: true,
            ..Options::default()
        };
        assert_eq!(print(labels), "pod/web   1/1   web         a/app=web,b=c\n");
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(cell(&json!("a\nb")), "a...");
        assert_eq!(cell(&json!(3)), "3");
    }
}

//! `-o custom-columns`: a header and a JSONPath each.

use api_schema::go_shown;
use serde_json::Value;

use super::{json_path::Template, table};

/// Columns of one's own.
#[derive(Debug)]
pub(crate) struct Columns(Vec<(String, Template)>);

impl Columns {
    /// `NAME:.metadata.name,IMAGE:.spec.image`
    ///
    /// # Errors
    /// Where a column is no `HEADER:PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        for part in text.split(',') {
            let (header, path) = part.split_once(':').ok_or_else(|| {
                format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                )
            })?;
            columns.push((header.to_owned(), Template::parse(&relaxed(path)?)?));
        }
        Ok(Self(columns))
    }

    /// The form of a file: a line of headers and a line of paths.
    ///
    /// # Errors
    /// Where the lines do not match.
    pub(crate) fn of_file(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
            return Err("expected two lines: headers, and a JSONPath for each".into());
        };
        let headers: Vec<&str> = headers.split_whitespace().collect();
        let paths: Vec<&str> = paths.split_whitespace().collect();
        if headers.len() != paths.len() {
            return Err(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            ));
        }
        let columns = headers
            .iter()
            .zip(paths)
            .map(|(header, path)| Ok(((*header).to_owned(), Template::parse(&relaxed(path)?)?)));
        Ok(Self(columns.collect::<Result<_, String>>()?))
    }

    /// An object, or each of a list.
    pub(crate) fn print(&self, object: &Value, headers: bool) -> String {
        let mut lines = Vec::new();
        if headers {
            lines.push(self.0.iter().map(|(header, _)| header.clone()).collect());
        }
        let items: Vec<&Value> = match object["items"].as_array() {
            Some(items) => items.iter().collect(),
            None => vec![object],
        };
        for item in items {
            let cell = |(_, path): &(String, Template)| match path.values(item) {
                Ok(found) if !found.is_empty() => {
                    let texts: Vec<String> = found.iter().map(go_shown).collect();
                    texts.join(",")
                }
                _ => "<none>".to_owned(),
            };
            lines.push(self.0.iter().map(cell).collect());
        }
        table::of(&lines)
    }
}

/// A path with or without braces and the first dot.
///
/// # Errors
/// Where braces do not match.
pub(crate) fn relaxed(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let inner = match (path.strip_prefix('{'), path.ends_with('}')) {
        (Some(inner), true) => &inner[..inner.len() - 1],
        (None, false) => path,
        _ => {
            return Err("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
                .to_owned());
        }
    };
    let inner = inner.strip_prefix('$').unwrap_or(inner);
    Ok(match inner.starts_with(['.', '[']) {
        true => format!("{{{inner}}}"),
        false => format!("{{.{inner}}}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_print_what_is_there() {
        let columns = Columns::parse("N:.metadata.name,X:{.x},I:items[*].a").expect("valid");
        let object = json!({"metadata": {"name": "web"}, "x": {"a": [1, "b"]}});
        assert_eq!(
            columns.print(&object, true),
            "N     X              I\nweb   map[a:[1 b]]   <none>\n"
        );
        let bare = Columns::parse(":.x.a[1],B:").expect("both may be empty");
        assert_eq!(bare.print(&object, false), "b     <none>\n");
        assert!(Columns::parse("N").is_err() && Columns::parse("N:{a").is_err());
        let file = Columns::of_file("A B\n.a  .b\n").expect("valid");
        assert_eq!(file.print(&json!({"a": 1, "b": true}), false), "1     true\n");
    }
}

//! Objects in files: YAML or JSON, one or many, from files, folders, URLs and
//! stdin.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::failure::{Failure, Outcome, failed};

/// An object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// As messages name it: `web.yaml`, `STDIN`.
    pub(crate) source: String,
    /// The object.
    pub(crate) object: Value,
}

/// `open a.yaml: no such file or directory`, in Go's words.
pub(crate) fn os_error(what: &str, path: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("{what} {path}: {why}")
}

/// A place that objects are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `-`
    Stdin,
    /// `https://…`
    Url(String),
    /// A file.
    File(PathBuf),
}

/// The places behind `-f`, folders opened.
///
/// # Errors
/// For paths that are not there.
pub(crate) fn places(names: &[String], recursive: bool) -> Outcome<Vec<Place>> {
    let mut places = Vec::new();
    for name in names {
        if name == "-" {
            places.push(Place::Stdin);
        } else if name.starts_with("http://") || name.starts_with("https://") {
            places.push(Place::Url(name.clone()));
        } else {
            let path = Path::new(name);
            let about = std::fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    Failure::Message(format!("the path {name:?} does not exist"))
                }
                _ => Failure::Message(format!("the path {name:?} cannot be accessed: {error}")),
            })?;
            if about.is_dir() {
                let before = places.len();
                folder(path, recursive, &mut places)
                    .map_err(|error| Failure::Message(os_error("open", name, &error)))?;
                if places.len() == before {
                    return failed(format!(
                        "error reading [{name}]: recognized file extensions are [.json .yaml .yml]"
                    ));
                }
            } else {
                places.push(Place::File(path.to_owned()));
            }
        }
    }
    Ok(places)
}

fn folder(path: &Path, recursive: bool, places: &mut Vec<Place>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            if recursive {
                folder(&entry, recursive, places)?;
            }
        } else if entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            places.push(Place::File(entry));
        }
    }
    Ok(())
}

/// The objects of one place.
///
/// # Errors
/// For text that holds no objects.
pub(crate) async fn read(place: &Place) -> Outcome<Vec<Manifest>> {
    let (source, text) = match place {
        Place::Stdin => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Message(format!("error reading STDIN: {error}")))?;
            ("STDIN".to_owned(), text)
        }
        Place::Url(url) => (url.clone(), crate::download::get(url).await?),
        Place::File(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Message(os_error("open", &name, &error)))?;
            (name, text)
        }
    };
    parse(&source, &text)
}

/// The objects of a text; Lists are taken apart.
///
/// # Errors
/// For documents that are no objects.
pub(crate) fn parse(source: &str, text: &str) -> Outcome<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for document in documents(text) {
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let parsed: Option<Value> = serde_saphyr::from_str_with_options(&document, options)
            .map_err(|error| {
                Failure::Message(format!(
                    "error parsing {source}: error converting YAML to JSON: yaml: {error}"
                ))
            })?;
        let Some(object) = parsed.filter(|value| !value.is_null()) else { continue };
        if !object.is_object() {
            return failed(format!(
                "error parsing {source}: error converting YAML to JSON: a document holds no mapping"
            ));
        }
        flatten(source, object, &mut manifests)?;
    }
    Ok(manifests)
}

fn flatten(source: &str, object: Value, manifests: &mut Vec<Manifest>) -> Outcome {
    let kind = object["kind"].as_str().unwrap_or_default();
    let missing = match (kind, object["apiVersion"].as_str().unwrap_or_default()) {
        ("", "") => "[apiVersion not set, kind not set]",
        ("", _) => "kind not set",
        (_, "") => "apiVersion not set",
        _ => "",
    };
    if !missing.is_empty() {
        return failed(format!(
            "error validating {source:?}: error validating data: {missing}; if you choose to ignore these errors, turn validation off with --validate=false"
        ));
    }
    match object.get("items").and_then(Value::as_array) {
        Some(items) if kind.ends_with("List") => {
            for item in items.clone() {
                flatten(source, item, manifests)?;
            }
        }
        _ => manifests.push(Manifest { source: source.to_owned(), object }),
    }
    Ok(())
}

/// Cuts a stream at lines of `---`.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let separates = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '#']));
        if separates {
            let rest = line[3..].trim().to_owned();
            let rest = if rest.starts_with('#') { String::new() } else { rest };
            documents.push(rest + "\n");
        } else {
            let document = documents.last_mut().expect("there is one");
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|document| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let manifests = parse("f", text).expect("valid");
        manifests.iter().map(|m| m.object["metadata"]["name"].to_string()).collect()
    }

    #[test]
    fn streams_and_lists_are_taken_apart() {
        let text = "# only words\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n--- # x\n\n---\n\
            apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B, metadata: {name: b}}\n";
        assert_eq!(names(text), [r#""a""#, r#""b""#]);
        assert_eq!(names(r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}"#).len(), 1);
        let block = "apiVersion: v1\nkind: A\nmetadata: {name: a}\ndata:\n  x: |\n    ---\n    y\n";
        assert_eq!(names(block).len(), 1, "a rule in a block is text");
    }

    #[test]
    fn yaml_is_read_as_kubectl_reads_it() {
        let manifests = parse("f", "apiVersion: v1\nkind: A\na: yes\nb: 0644\nc: off\nd: 1e3\n");
        let object = &manifests.expect("valid")[0].object;
        assert_eq!((&object["a"], &object["c"]), (&true.into(), &false.into()));
        assert_eq!(object["b"], 420, "octal as YAML 1.1 has it: modes of volumes");
    }

    #[test]
    fn what_holds_no_object_is_refused() {
        assert!(parse("f", "a: b").is_err());
        assert!(parse("f", "- a").is_err());
        assert!(parse("f", "{").is_err());
    }
}

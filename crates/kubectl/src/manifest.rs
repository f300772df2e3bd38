//! Objects in files: YAML or JSON, one or many, from files, folders, URLs and
//! stdin.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    document,
    failure::{Failure, Outcome, failed},
    file_pattern,
    flags::Parsed,
    kustomize,
};

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
    /// The folder of a kustomization.
    Kustomization(PathBuf),
}

/// The places behind `-f`, or the one behind `-k`.
///
/// # Errors
/// For both at once, and for paths that are not there.
pub(crate) fn of(flags: &Parsed) -> Outcome<Vec<Place>> {
    if !flags.is_set("kustomize") {
        return places(&flags.list("filename"), flags.on("recursive"));
    }
    if flags.is_set("filename") {
        return failed("only one of -f or -k can be specified");
    }
    if flags.on("recursive") {
        return failed("the -k flag can't be used with -f or -R");
    }
    Ok(vec![Place::Kustomization(flags.one("kustomize").into())])
}

/// The places behind `-f`, folders opened.
///
/// # Errors
/// For paths that are not there.
pub(crate) fn places(names: &[String], recursive: bool) -> Outcome<Vec<Place>> {
    if names.iter().filter(|name| *name == "-").count() > 1 {
        return failed("standard input cannot be used for multiple arguments");
    }
    let mut places = Vec::new();
    let mut absent = Vec::new();
    let meant = |name: &String| match file_pattern::is_pattern(name) && !Path::new(name).exists() {
        true => file_pattern::paths(name).iter().map(|path| path.display().to_string()).collect(),
        false => Vec::new(),
    };
    let names = names.iter().flat_map(|name| match meant(name) {
        found if found.is_empty() => vec![name.clone()],
        found => found,
    });
    for name in names {
        if name == "-" {
            places.push(Place::Stdin);
        } else if name.starts_with("http://") || name.starts_with("https://") {
            places.push(Place::Url(name.clone()));
        } else {
            let path = Path::new(&name);
            let about = match std::fs::metadata(path) {
                Ok(about) => about,
                Err(error) => {
                    let why = match error.kind() {
                        io::ErrorKind::NotFound => "does not exist".to_owned(),
                        _ => format!("cannot be accessed: {error}"),
                    };
                    absent.push(Failure::Message(format!("the path {name:?} {why}")));
                    continue;
                }
            };
            if about.is_dir() {
                let before = places.len();
                folder(path, recursive, &mut places)
                    .map_err(|error| Failure::Message(os_error("open", &name, &error)))?;
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
    Failure::of(absent).map(|()| places)
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

/// Objects, and why what is beside them is none: one does not keep the others.
pub(crate) type Found = (Vec<Manifest>, Vec<Failure>);

/// The objects of one place.
pub(crate) async fn read(place: &Place) -> Found {
    if let Place::Kustomization(folder) = place {
        let source = folder.display().to_string();
        let manifest = |object| Manifest { source: source.clone(), object };
        return match kustomize::build(folder) {
            Ok(objects) => (objects.into_iter().map(manifest).collect(), Vec::new()),
            Err(failure) => (Vec::new(), vec![failure]),
        };
    }
    match text(place).await {
        Ok((source, text)) => parse(&source, &text),
        Err(failure) => (Vec::new(), vec![failure]),
    }
}

/// What messages call a place, and its text.
async fn text(place: &Place) -> Outcome<(String, String)> {
    Ok(match place {
        Place::Stdin => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Message(format!("error reading STDIN: {error}")))?;
            ("STDIN".to_owned(), text)
        }
        Place::Url(url) => (url.clone(), crate::download::get(url).await?),
        Place::File(path) | Place::Kustomization(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Message(os_error("open", &name, &error)))?;
            (name, text)
        }
    })
}

/// The objects of a text; Lists are taken apart. Behind a document that is no YAML
/// nothing is read.
pub(crate) fn parse(source: &str, text: &str) -> Found {
    parse_by(document::read, source, text)
}

/// The same by another reader of documents.
pub(crate) fn parse_by(read: fn(&str) -> Result<Value, String>, source: &str, text: &str) -> Found {
    let mut found = Found::default();
    if let Some(objects) = as_json(text) {
        objects.into_iter().all(|object| flatten(source, object, &mut found));
        return found;
    }
    for document in documents(text) {
        let told = |why: &str| {
            Failure::Message(format!(
                "error parsing {source}: error converting YAML to JSON: {why}"
            ))
        };
        match read(&document) {
            Ok(Value::Null) => {}
            Ok(object) if object.is_object() => {
                if !flatten(source, object, &mut found) {
                    break;
                }
            }
            Ok(_) => found.1.push(told("a document holds no mapping")),
            Err(error) => {
                found.1.push(told(&format!("yaml: {error}")));
                break;
            }
        }
    }
    found
}

/// The objects of a stream of JSON, one behind the other, as `jq -c` writes them.
fn as_json(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let objects = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let objects = objects.collect::<Result<Vec<_>, _>>().ok()?;
    objects.iter().all(Value::is_object).then_some(objects)
}

/// Whether more is read: not behind a document that does not say what it is.
fn flatten(source: &str, object: Value, found: &mut Found) -> bool {
    if let Some(why) = misshapen(&object) {
        found.1.push(Failure::Message(format!("unable to decode {source:?}: json: {why}")));
        return true;
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let missing = match (kind, object["apiVersion"].as_str().unwrap_or_default()) {
        ("", "") => "[apiVersion not set, kind not set]",
        ("", _) => "kind not set",
        (_, "") => "apiVersion not set",
        _ => "",
    };
    if !missing.is_empty() {
        found.1.push(Failure::Message(format!(
            "error validating {source:?}: error validating data: {missing}; if you choose to ignore these errors, turn validation off with --validate=false"
        )));
        return false;
    }
    match (object.get("items").and_then(Value::as_array), kind.strip_suffix("List")) {
        (Some(items), Some(of)) => items.iter().all(|item| {
            let mut item = item.clone();
            // Those of a list of one kind need not say it.
            if item.is_object() && !of.is_empty() && item["kind"].is_null() {
                item["kind"] = of.into();
                item["apiVersion"] = object["apiVersion"].clone();
            }
            flatten(source, item, found)
        }),
        _ => {
            found.0.push(Manifest { source: source.to_owned(), object });
            true
        }
    }
}

/// Why no object can have such metadata, which others take for mappings.
fn misshapen(object: &Value) -> Option<String> {
    let meta = &object["metadata"];
    let mappings =
        [(meta, "metadata"), (&meta["labels"], "labels"), (&meta["annotations"], "annotations")];
    let (found, name) =
        mappings.into_iter().find(|(value, _)| !value.is_object() && !value.is_null())?;
    let what = match found {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    let of = if name == "metadata" { "v1.ObjectMeta" } else { "map[string]string" };
    Some(format!("cannot unmarshal {what} into Go struct field ObjectMeta.{name} of type {of}"))
}

/// Cuts a stream at lines of `---`.
pub(crate) fn documents(text: &str) -> Vec<String> {
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
        let (manifests, failures) = parse("f", text);
        assert!(failures.is_empty(), "{failures:?}");
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
        let (manifests, _) =
            parse("f", "apiVersion: v1\nkind: A\na: yes\nb: 0644\nc: off\nd: 1e3\n");
        let object = &manifests[0].object;
        assert_eq!((&object["a"], &object["c"]), (&true.into(), &false.into()));
        assert_eq!(object["b"], 420, "octal as YAML 1.1 has it: modes of volumes");
    }

    #[test]
    fn what_holds_no_object_is_refused() {
        for text in ["a: b", "- a", "{"] {
            let (manifests, failures) = parse("f", text);
            assert_eq!((manifests.len(), failures.len()), (0, 1), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_does_not_keep_the_others() {
        let of = |name: &str| format!("apiVersion: v1\nkind: A\nmetadata: {{name: {name}}}\n---\n");
        let wrong = "apiVersion: v1\nkind: A\nmetadata: []\n---\n- a\n---\n";
        for last in ["kind: x\n---\n", "{\n---\n"] {
            let (manifests, failures) = parse("f", &(of("a") + wrong + &of("b") + last + &of("c")));
            assert_eq!((manifests.len(), failures.len()), (2, 3), "{failures:?}");
        }
    }

    #[test]
    fn metadata_that_is_none_is_refused() {
        for (meta, why) in [
            ("5", "cannot unmarshal number into Go struct field ObjectMeta.metadata"),
            ("[]", "cannot unmarshal array into Go struct field ObjectMeta.metadata"),
            ("{labels: x}", "cannot unmarshal string into Go struct field ObjectMeta.labels"),
            ("{annotations: true}", "cannot unmarshal bool into Go struct field ObjectMeta.ann"),
        ] {
            let (_, failures) = parse("f", &format!("apiVersion: v1\nkind: A\nmetadata: {meta}"));
            let said = failures[0].message();
            assert!(said.contains(why), "{meta}: {said}");
        }
    }

    #[test]
    fn streams_of_json_and_lists_of_one_kind_are_read() {
        let one = r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}"#;
        assert_eq!(names(&format!("{one}{one}\n\n{one}")).len(), 3);
        let list = "apiVersion: v1\nkind: AList\nitems: [{metadata: {name: a}}, {kind: B, apiVersion: b/v1}]";
        let (found, _) = parse("f", list);
        assert_eq!(
            (&found[0].object["kind"], &found[1].object["kind"]),
            (&"A".into(), &"B".into())
        );
        assert_eq!(found[0].object["apiVersion"], "v1");
        let (found, failures) = parse("f", "apiVersion: v1\nkind: List\nitems: [{metadata: {}}]");
        assert_eq!((found.len(), failures.len()), (0, 1), "a list of any kinds");
    }
}

//! `configMapGenerator` and `secretGenerator`, and the hash that names end with.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;
use serde_json::{Map, Value, json};

use super::{file, resource::Resource};
use crate::{
    failure::{Failure, Outcome, failed},
    print,
};

const FIELDS: &[&str] =
    &["name", "namespace", "behavior", "literals", "files", "envs", "env", "type", "options"];
/// How long a line of base64 is where there are several.
const LINE: usize = 70;

/// Adds what a generator makes, or merges it into what is there.
///
/// # Errors
/// Where its sources are not there, or what it changes is not.
pub(super) fn run(
    kind: &str,
    entry: &Value,
    common: &Value,
    folder: &Path,
    resources: &mut Vec<Resource>,
) -> Outcome {
    file::only(entry, FIELDS, &format!("{kind} generator"))?;
    let made = made(kind, entry, common, folder)?;
    let known = resources
        .iter_mut()
        .find(|known| known.kind() == kind && known.was(made.namespace(), made.name()));
    let behavior = entry["behavior"].as_str().unwrap_or("create");
    match (behavior, known) {
        ("create", None) => resources.push(made),
        ("create", Some(known)) => {
            return failed(format!("{} exists; behavior must be merge or replace", known.id()));
        }
        ("merge" | "replace", None) => {
            return failed(format!("{} does not exist; cannot merge or replace", made.id()));
        }
        ("merge", Some(known)) => {
            for (from, into) in [("data", "binaryData"), ("binaryData", "data")] {
                for key in keys(&made.object[from]) {
                    if let Some(others) = known.object.get_mut(into).and_then(Value::as_object_mut)
                    {
                        others.remove(&key);
                    }
                }
                merge(&mut known.object, &made.object, from);
            }
            for key in ["labels", "annotations"] {
                merge(&mut known.object["metadata"], &made.object["metadata"], key);
            }
            known.hashed |= made.hashed;
        }
        ("replace", Some(known)) => {
            let name = known.object["metadata"]["name"].clone();
            known.object = made.object;
            known.object["metadata"]["name"] = name;
            known.hashed = made.hashed;
        }
        (other, _) => {
            return failed(format!("behavior {other:?} must be create, merge or replace"));
        }
    }
    Ok(())
}

fn keys(map: &Value) -> Vec<String> {
    map.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
}

/// Merges one mapping of an object into the other's.
fn merge(into: &mut Value, from: &Value, key: &str) {
    let Some(entries) = from[key].as_object().filter(|entries| !entries.is_empty()) else { return };
    match into.get_mut(key).and_then(Value::as_object_mut) {
        Some(known) => known.extend(entries.clone()),
        None => into[key] = Value::Object(entries.clone()),
    }
}

fn made(kind: &str, entry: &Value, common: &Value, folder: &Path) -> Outcome<Resource> {
    let name = entry["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return failed("a generator has no name");
    }
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    if let Some(namespace) = entry["namespace"].as_str() {
        object["metadata"]["namespace"] = namespace.into();
    }
    if kind == "Secret" {
        object["type"] = entry["type"].as_str().unwrap_or("Opaque").into();
    }
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in sources(entry, folder)? {
        let twice = data.contains_key(&key) || binary.contains_key(&key);
        if twice {
            let kind = kind.to_lowercase();
            return failed(format!("{kind} {name} illegally repeats the key `{key}`"));
        }
        match String::from_utf8(bytes) {
            Ok(text) if kind == "ConfigMap" => _ = data.insert(key, text.into()),
            Ok(text) => _ = data.insert(key, encoded(text.as_bytes()).into()),
            Err(error) if kind == "ConfigMap" => {
                binary.insert(key, encoded(error.as_bytes()).into());
            }
            Err(error) => _ = data.insert(key, encoded(error.as_bytes()).into()),
        }
    }
    for (key, map) in [("data", data), ("binaryData", binary)] {
        // A Secret has data, if none.
        if !map.is_empty() || (kind == "Secret" && key == "data") {
            object[key] = Value::Object(map);
        }
    }
    let own = &entry["options"];
    let fields = ["labels", "annotations", "disableNameSuffixHash", "immutable"];
    for options in [common, own] {
        file::only(options, &fields, "generatorOptions")?;
        for key in ["labels", "annotations"] {
            merge(&mut object["metadata"], options, key);
        }
    }
    let is_on = |key: &str| own[key] == true || common[key] == true;
    if is_on("immutable") {
        object["immutable"] = true.into();
    }
    let mut resource = Resource::new(object);
    resource.hashed = !is_on("disableNameSuffixHash");
    Ok(resource)
}

/// Keys and contents, of variables, of files and of literals.
fn sources(entry: &Value, folder: &Path) -> Outcome<Vec<(String, Vec<u8>)>> {
    let texts = |key: &str| -> Vec<String> {
        let listed = entry[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        listed.chain(entry[key].as_str()).map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for name in texts("envs").into_iter().chain(texts("env")) {
        let read = file::bytes(folder, &name, "env source files")?;
        let text = String::from_utf8_lossy(&read).into_owned();
        for line in text.trim_start_matches('\u{feff}').lines().map(str::trim_start) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                // A name alone is a variable of who builds.
                None => (line, std::env::var(line).unwrap_or_default()),
            };
            found.push((key.to_owned(), value.into_bytes()));
        }
    }
    for source in texts("files") {
        let (key, path) = match source.split_once('=') {
            Some((key, path)) => (key.to_owned(), path),
            None => {
                let name = Path::new(&source).file_name().unwrap_or_default();
                (name.to_string_lossy().into_owned(), source.as_str())
            }
        };
        found.push((key, file::bytes(folder, path, "file sources")?));
    }
    for literal in texts("literals") {
        let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return failed(format!(
                "loading KV pairs: literal sources [{literal}]: invalid literal source {literal}, expected key=value"
            ));
        };
        found.push((key.to_owned(), value.trim_matches(['"', '\'']).as_bytes().to_vec()));
    }
    Ok(found)
}

/// Base64, in lines where it is long.
fn encoded(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    if text.len() <= LINE {
        return text;
    }
    let mut lines = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push('\n');
    lines
}

/// Ends the name with a hash of the content.
///
/// # Errors
/// For kinds that have none.
pub(super) fn hash(resource: &mut Resource) -> Outcome {
    let name = hashed_name(&resource.object, "").map_err(Failure::Message)?;
    resource.remember();
    resource.object["metadata"]["name"] = name.into();
    Ok(())
}

/// The name with a hash of the content behind it, without letters and digits that make
/// words. What is hashed has a name too: none here, its own in `kubectl create`.
///
/// # Errors
/// For kinds that have none.
pub(crate) fn hashed_name(object: &Value, hashed_as: &str) -> Result<String, String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let or_empty = |key: &str| match &object[key] {
        Value::Null if key == "data" && !hashed_as.is_empty() => json!({}),
        Value::Null => Value::from(""),
        value => value.clone(),
    };
    let mut hashed = json!({"kind": kind, "name": hashed_as, "data": or_empty("data")});
    match kind {
        "ConfigMap" if object["binaryData"].is_object() => {
            hashed["binaryData"] = object["binaryData"].clone();
        }
        "ConfigMap" => {}
        "Secret" => {
            hashed["type"] = or_empty("type");
            if object["stringData"].is_object() {
                hashed["stringData"] = object["stringData"].clone();
            }
        }
        other => return Err(format!("no hash is known of a {other}")),
    }
    let digest = digest::digest(&digest::SHA256, print::json::compact(&hashed).as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let letters = hex.chars().take(10).map(|letter| match letter {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    });
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Ok(format!("{name}-{}", letters.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_upstreams() {
        for (object, name) in [
            (
                json!({"kind": "ConfigMap", "metadata": {"name": "envs"}, "data": {"A": "1", "B": "two words", "C": ""}}),
                "envs-fbg265c954",
            ),
            (
                json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "sec"}, "data": {"pw": "eA=="}}),
                "sec-b287528h4m",
            ),
        ] {
            let mut resource = Resource::new(object);
            hash(&mut resource).expect("it has one");
            assert_eq!(resource.name(), name);
        }
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "h"}, "data": {"a": "b"}});
        assert_eq!(hashed_name(&object, "h").as_deref(), Ok("h-tgm746dk2t"));
    }

    #[test]
    fn a_later_layer_merges_or_replaces() {
        let mut all = Vec::new();
        let mut run = |entry: Value| {
            run("ConfigMap", &entry, &Value::Null, Path::new("/"), &mut all)?;
            Ok::<Value, Failure>(all[0].object["data"].clone())
        };
        let literals = |behavior: &str, literals: &[&str]| json!({"name": "a", "behavior": behavior, "literals": literals});
        assert!(run(literals("merge", &["a=b"])).is_err());
        assert_eq!(
            run(literals("create", &["a=b", "c='d'"])).ok(),
            Some(json!({"a": "b", "c": "d"}))
        );
        assert!(run(literals("create", &["a=b"])).is_err());
        assert_eq!(run(literals("merge", &["a=x"])).ok(), Some(json!({"a": "x", "c": "d"})));
        assert_eq!(run(literals("replace", &["q=r"])).ok(), Some(json!({"q": "r"})));
        assert!(run(literals("merge", &["q"])).is_err());
    }

    #[test]
    fn long_base64_has_lines() {
        assert_eq!(encoded(b"x"), "eA==");
        let long = encoded(&[0; 100]);
        assert_eq!((long.lines().count(), long.lines().next().map(str::len)), (2, Some(70)));
    }
}

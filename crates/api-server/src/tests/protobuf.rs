//! Objects mean the same in protobuf and in JSON, and go out as upstream writes them.

use std::{collections::BTreeMap, io::Read};

use api_schema::ShapeRef;
use serde_json::Value;

/// Upstream's samples of every field, in both encodings.
#[test]
fn samples_are_the_same_in_both_encodings() {
    let Some(files) = samples() else { return };
    let schema = api_kinds::schema();
    let (mut tried, mut unknown) = (0, Vec::new());
    for (path, json) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
        let sample: Value = serde_json::from_slice(json).expect("JSON");
        let text = |key: &str| sample[key].as_str();
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            println!("skipped: {path}, whose kind is only in its envelope");
            continue;
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or(group);
        // Options, Status and discovery belong to every group.
        let names = [package, "meta"].map(|package| format!("{package}/{version}.{kind}"));
        let Some(shape) = names.iter().find_map(|name| ShapeRef::find(&schema, name)) else {
            unknown.push(kind.to_owned());
            continue;
        };
        let protobuf = &files[&path.replace(".json", ".pb")];
        let tree = shape.decode_protobuf(protobuf).expect(path);
        let (from_protobuf, faults) = shape.conform(tree).expect("canonical");
        assert_eq!(faults, Vec::<String>::new(), "{path}");
        let (from_json, _) = shape.decode(json).expect("canonical");
        let mut differences = Vec::new();
        compare(&from_json, &from_protobuf, "", &mut differences);
        assert_eq!(differences, Vec::<String>::new(), "{path}");
        // What is stored goes out as upstream's bytes.
        let stored = from_json.to_string();
        let written = shape.encode_protobuf(stored.as_bytes()).expect(path);
        assert!(written == *protobuf, "{path}: {}", first_difference(&written, protobuf));
        // Cut short anywhere, it is refused or read, but nothing panics.
        for end in (0..protobuf.len()).step_by(protobuf.len() / 64 + 1) {
            let _ = shape.decode_protobuf(&protobuf[..end]);
        }
        tried += 1;
    }
    println!("{tried} samples; without a shape: {unknown:?}");
    assert!(tried >= 80, "only {tried} kinds were found");
}

/// The files of upstream's samples by name; `None` where they are not there.
fn samples() -> Option<BTreeMap<String, Vec<u8>>> {
    let Ok(file) = std::fs::File::open("../../../shared/kubernetes-api/roundtrip.tar.zst") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return None;
    };
    let stream = ruzstd::decoding::StreamingDecoder::new(file).expect("zstd");
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in tar::Archive::new(stream).entries().expect("tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        files.insert(path, bytes);
    }
    Some(files)
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        let from = at.saturating_sub(40);
        let to = bytes.len().min(at + 40);
        bytes[from..to].escape_ascii().to_string()
    };
    format!("at {at} of {} and {}:\n{}\n{}", ours.len(), theirs.len(), near(ours), near(theirs))
}

fn compare(a: &Value, b: &Value, path: &str, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key), b.get(key));
                let path = format!("{path}.{key}");
                compare(a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null), &path, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{index}]"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {a} is not {b}")),
    }
}

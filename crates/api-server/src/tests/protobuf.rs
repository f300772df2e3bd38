//! Bodies in protobuf mean what the same bodies in JSON mean.

use std::{collections::BTreeMap, io::Read};

use api_schema::FieldValidation;
use serde_json::Value;

/// Groups whose kinds are kept without a shape, so that only JSON can be read.
const UNDESCRIBED: [&str; 1] = ["apiextensions.k8s.io"];

/// Upstream's samples of every field, in both encodings.
#[test]
fn samples_are_the_same_in_both_encodings() {
    let Ok(file) = std::fs::File::open("../../../shared/kubernetes-api/roundtrip.tar.zst") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return;
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
    let catalogue = api_kinds::catalogue();
    let mut tried = 0;
    for (path, json) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
        let sample: Value = serde_json::from_slice(json).expect("JSON");
        let Some(api_version) = sample["apiVersion"].as_str() else { continue };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = sample["kind"].as_str().expect("text");
        let Some(spec) = catalogue.by_kind(group, version, kind) else { continue };
        if UNDESCRIBED.contains(&group) {
            println!("skipped: {path}, whose shape is free JSON");
            continue;
        }
        let protobuf = &files[&path.replace(".json", ".pb")];
        let tree = spec.shape.decode_protobuf(protobuf).expect(path);
        let (from_protobuf, warnings) =
            spec.conform(tree, FieldValidation::Strict).expect("canonical");
        assert_eq!(warnings, Vec::<String>::new(), "{path}");
        let (from_json, _) = spec.decode(json, FieldValidation::Strict).expect("canonical");
        let mut differences = Vec::new();
        compare(&from_json, &from_protobuf, "", &mut differences);
        assert_eq!(differences, Vec::<String>::new(), "{path}");
        // Cut short anywhere, it is refused or read, but nothing panics.
        for end in (0..protobuf.len()).step_by(protobuf.len() / 64 + 1) {
            let _ = spec.shape.decode_protobuf(&protobuf[..end]);
        }
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} kinds were found");
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

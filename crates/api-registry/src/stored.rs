//! Between trees, the store's bytes and the wire's: which are the same bytes
//! wherever the version and the schema epoch allow.

mod split;

use api_object::Status;
use api_schema::{Custom, ResourceSpec, tree};
use bytes::Bytes;
use serde_json::Value;
use store::{Item, Key, Put, Revision};

/// Metadata in upstream's order. The revision's place comes before every map
/// that users fill, so the first `"resourceVersion":"` in stored bytes is it.
const METADATA_FIRST: [&str; 5] = ["name", "generateName", "namespace", "uid", "resourceVersion"];
/// Kept beside the tree as text: nobody but managers reads it, and it is the
/// largest part of a small object.
const MANAGED: &str = "managedFields";
const REVISION_MARK: &[u8] = br#""resourceVersion":""#;

/// The group and the resource that objects are kept under.
pub(crate) fn storage_of(spec: &ResourceSpec) -> (&str, &str) {
    match &spec.stored_as {
        Some(stored) => (stored.group, stored.plural),
        None => (&spec.group, &spec.plural),
    }
}

/// Where an object is kept.
pub(crate) fn key_of(spec: &ResourceSpec, namespace: &str, name: &str) -> Key {
    let (group, plural) = storage_of(spec);
    let namespace = if spec.namespaced { namespace } else { "" };
    Key::new(group, plural, namespace, name)
}

/// Where the objects of a resource, or of one namespace of it, are kept.
pub(crate) fn prefix_of(spec: &ResourceSpec, namespace: &str) -> String {
    let (group, plural) = storage_of(spec);
    Key::prefix(group, plural, (!namespace.is_empty()).then_some(namespace))
}

/// Writes an object as JSON, kind and name first; its managers come as they are
/// written.
pub(crate) fn encode(object: &Value, managed: &str) -> Bytes {
    // What was never stored has none.
    let version = Some(tree::text(object, "metadata.resourceVersion"));
    encode_at(object, managed, version.filter(|version| !version.is_empty())).0.into()
}

/// The same with another `resourceVersion` than the tree's; where it begins is
/// the second part.
fn encode_at(object: &Value, managed: &str, version: Option<&str>) -> (Vec<u8>, u32) {
    const PLAIN: &str = "a tree of JSON has text keys only";
    let mut out = Vec::with_capacity(1024 + managed.len());
    let mut revision_at = 0;
    let separate = |out: &mut Vec<u8>, key: &str, first: &mut bool| {
        out.push(if *first { b'{' } else { b',' });
        *first = false;
        serde_json::to_writer(&mut *out, key).expect(PLAIN);
        out.push(b':');
    };
    let mut first = true;
    for key in ["kind", "apiVersion"] {
        if let Some(value) = object.get(key) {
            separate(&mut out, key, &mut first);
            serde_json::to_writer(&mut out, value).expect(PLAIN);
        }
    }
    separate(&mut out, "metadata", &mut first);
    let nothing = serde_json::Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&nothing);
    let mut inner = true;
    for key in METADATA_FIRST {
        if key == "resourceVersion" {
            let Some(version) = version else { continue };
            separate(&mut out, key, &mut inner);
            out.push(b'"');
            revision_at = u32::try_from(out.len()).expect("names are short");
            out.extend_from_slice(version.as_bytes());
            out.push(b'"');
        } else if let Some(value) = metadata.get(key) {
            separate(&mut out, key, &mut inner);
            serde_json::to_writer(&mut out, value).expect(PLAIN);
        }
    }
    for (key, value) in metadata {
        if !METADATA_FIRST.contains(&key.as_str()) {
            separate(&mut out, key, &mut inner);
            serde_json::to_writer(&mut out, value).expect(PLAIN);
        }
    }
    if !managed.is_empty() {
        separate(&mut out, MANAGED, &mut inner);
        out.extend_from_slice(managed.as_bytes());
    }
    out.push(b'}');
    for (key, value) in object.as_object().unwrap_or(&nothing) {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            separate(&mut out, key, &mut first);
            serde_json::to_writer(&mut out, value).expect(PLAIN);
        }
    }
    out.push(b'}');
    (out, revision_at)
}

/// The write that stores an object; the store fills in its `resourceVersion`.
pub(crate) fn put(spec: &ResourceSpec, key: Key, object: &Value, managed: &str, epoch: u32) -> Put {
    let storage_version = spec.custom.as_ref().map(|custom| &custom.definition.storage_version);
    let (data, revision_at) = match &spec.stored_as {
        None if storage_version.is_some_and(|stored| **stored != *spec.version) => {
            let mut object = object.clone();
            let version = storage_version.map(String::as_str).unwrap_or_default();
            tree::set(&mut object, "apiVersion", format!("{}/{version}", spec.group));
            encode_at(&object, managed, Some(""))
        }
        None => encode_at(object, managed, Some("")),
        Some(stored) => {
            let mut object = (stored.to_stored)(object.clone());
            let api_version = match stored.group {
                "" => stored.version.to_owned(),
                group => format!("{group}/{}", stored.version),
            };
            tree::set(&mut object, "apiVersion", api_version);
            encode_at(&object, managed, Some(""))
        }
    };
    let value = store::Value { epoch: epoch_of(spec, epoch), data: data.into() };
    Put { key, value, revision_at: Some(revision_at) }
}

/// The write that stores an object which is in its stored form already.
pub(crate) fn put_as_is(key: Key, object: &Value, epoch: u32) -> Put {
    let (data, revision_at) = encode_at(object, "", Some(""));
    Put { key, value: store::Value { epoch, data: data.into() }, revision_at: Some(revision_at) }
}

/// Stored bytes with the revision filled in: what a read gives back later.
pub(crate) fn filled(put: &Put, revision: Revision) -> Bytes {
    let data = &put.value.data;
    let Some(at) = put.revision_at.map(|at| at as usize) else { return data.clone() };
    let mut out = Vec::with_capacity(data.len() + 20);
    out.extend_from_slice(&data[..at]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&data[at..]);
    out.into()
}

/// The same object at another revision: what a watcher is told of a deletion.
pub(crate) fn at_revision(bytes: &Bytes, revision: Revision) -> Bytes {
    let found = bytes.windows(REVISION_MARK.len()).position(|window| window == REVISION_MARK);
    let Some(start) = found.map(|at| at + REVISION_MARK.len()) else { return bytes.clone() };
    let digits = bytes[start..].iter().take_while(|byte| **byte != b'"').count();
    let mut out = Vec::with_capacity(bytes.len() + 20);
    out.extend_from_slice(&bytes[..start]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&bytes[start + digits..]);
    out.into()
}

/// A stored object as a tree, in the version in which it is stored, and its managers.
///
/// # Errors
/// 500 where the stored bytes are no JSON.
pub(crate) fn parse(item: &Item) -> Result<(Value, &str), Status> {
    split::split(&item.value.data)
        .map_err(|error| Status::internal(format!("stored object {}: {error}", item.key)))
}

/// The number that says under which schema objects of a row are stored.
fn epoch_of(spec: &ResourceSpec, epoch: u32) -> u32 {
    spec.custom.as_ref().map_or(epoch, |custom| custom.definition.epoch)
}

/// Whether a value was stored under the schema of now.
pub(crate) fn is_of_now(spec: &ResourceSpec, value: &store::Value, epoch: u32) -> bool {
    value.epoch == epoch_of(spec, epoch)
}

/// Whether stored objects have the form that this version has on the wire.
pub(crate) fn is_native(spec: &ResourceSpec) -> bool {
    let converted = |custom: &Custom| *custom.definition.storage_version != *spec.version;
    spec.stored_as.is_none() && !spec.custom.as_ref().is_some_and(converted)
}

/// Whether a value's bytes are what clients of this version are to get.
pub(crate) fn is_wire(spec: &ResourceSpec, value: &store::Value, epoch: u32) -> bool {
    let converted = |custom: &Custom| value.epoch == custom.definition.converted_epoch();
    is_native(spec) && value.epoch == epoch_of(spec, epoch)
        || spec.custom.as_ref().is_some_and(converted)
}

/// A stored object as a tree of the requested version, without its managers.
///
/// # Errors
/// 500 where the stored bytes are no JSON.
pub(crate) fn decode(spec: &ResourceSpec, item: &Item, epoch: u32) -> Result<Value, Status> {
    decode_managed(spec, item, epoch).map(|(object, _)| object)
}

/// A stored object as a tree of the requested version, and its managers as they
/// are written; empty for none.
///
/// # Errors
/// 500 where the stored bytes are no JSON.
pub(crate) fn decode_managed<'i>(
    spec: &ResourceSpec,
    item: &'i Item,
    epoch: u32,
) -> Result<(Value, &'i str), Status> {
    let (mut object, managed) = parse(item)?;
    if let Some(custom) = &spec.custom {
        if !is_wire(spec, &item.value, epoch) {
            custom.refresh(&mut object);
            tree::set(&mut object, "apiVersion", spec.api_version());
            custom.converted(&mut object);
        }
        return Ok((object, managed));
    }
    if let Some(stored) = &spec.stored_as {
        object = (stored.from_stored)(object);
        tree::set(&mut object, "apiVersion", spec.api_version());
    }
    if item.value.epoch != epoch {
        // Written under an older schema: its new defaults are filled in.
        spec.default(&mut object);
    }
    Ok((object, managed))
}

/// A stored object as JSON of the requested version; the stored bytes
/// themselves where those are the same.
///
/// # Errors
/// 500 where the stored bytes are no JSON.
pub(crate) fn wire(spec: &ResourceSpec, item: &Item, epoch: u32) -> Result<Bytes, Status> {
    if is_wire(spec, &item.value, epoch) {
        return Ok(item.value.data.clone());
    }
    let (object, managed) = decode_managed(spec, item, epoch)?;
    Ok(encode(&object, managed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_revision_goes_where_metadata_has_it() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "annotations": {"resourceVersion": "1"}, "name": "a", "namespace": "b",
                "resourceVersion": "",
            },
            "involvedObject": {"resourceVersion": "5"},
        });
        let (bytes, at) = encode_at(&object, r#"[{"manager":"m"}]"#, Some(""));
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        assert_eq!(
            text,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b","resourceVersion":"","annotations":{"resourceVersion":"1"},"managedFields":[{"manager":"m"}]},"involvedObject":{"resourceVersion":"5"}}"#
        );
        let (tree, managed) = split::split(&bytes).expect("JSON");
        assert_eq!((tree, managed), (object, r#"[{"manager":"m"}]"#));
        let value = store::Value { epoch: 0, data: bytes.into() };
        let put = Put { key: Key::new("", "pods", "b", "a"), value, revision_at: Some(at) };
        let first = filled(&put, Revision(7));
        assert!(first.starts_with(
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b","resourceVersion":"7""#
        ));
        assert_eq!(at_revision(&first, Revision(12)), filled(&put, Revision(12)));
    }
}

//! How many values a body has and how deep they stand, told before it is parsed.
//!
//! A value of two bytes takes hundreds as a tree, so that the limit of a body's
//! length says too little of the memory that it takes.

use api_object::{Reason, Status};
use api_schema::protobuf::VALUES_MAX;

/// # Errors
/// 413 for more than [`VALUES_MAX`].
pub(crate) fn few(json: &[u8]) -> Result<(), Status> {
    match count(json) {
        count if count > VALUES_MAX => Err(Status::failure(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {VALUES_MAX} values, got {count}"),
        )),
        _ => Ok(()),
    }
}

/// More brackets than this stay open, or more marks of nested lists follow each
/// other, in no object of anybody.
const OPEN_MAX: usize = 10_000;

/// The reader of YAML looks ahead of its own limit of depth, for a time that grows
/// with the square of what is open.
///
/// # Errors
/// 400 for more than [`OPEN_MAX`].
pub(crate) fn shallow(yaml: &[u8]) -> Result<(), Status> {
    let (mut open, mut marks) = (0_usize, 0_usize);
    for byte in yaml {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'-' | b'?' | b':' => marks += 1,
            b' ' | b'\t' => {}
            _ => marks = 0,
        }
        if open.max(marks) > OPEN_MAX {
            return Err(Status::bad_request(
                "error converting YAML to JSON: yaml: exceeded max depth",
            ));
        }
    }
    Ok(())
}

/// At least as many as there are values: all but the first follow one of these
/// signs.
fn count(json: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b',' | b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn values(tree: &Value) -> usize {
        1 + match tree {
            Value::Array(list) => list.iter().map(values).sum(),
            Value::Object(map) => map.values().map(values).sum::<usize>(),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn no_value_is_missed(texts in proptest::collection::vec(".{0,8}", 0..8)) {
            let object: serde_json::Map<_, _> =
                texts.iter().map(|text| (text.clone(), Value::from(texts.clone()))).collect();
            let tree = Value::from(object);
            prop_assert!(count(tree.to_string().as_bytes()) >= values(&tree));
        }
    }

    #[test]
    fn signs_in_texts_are_no_values() {
        assert_eq!(count(br#"{"a,b:[\",": ["\\", ","]}"#), 4);
        assert_eq!(few(&[b'['; VALUES_MAX + 1]).expect_err("too many").code, 413);
    }
}

//! How many values a body of JSON has, told before it is parsed.
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

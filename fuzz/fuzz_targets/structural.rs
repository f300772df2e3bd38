//! Any schema of a custom kind, and after a zero byte any object of it:
//! defaulting, checking and pruning end, and pruning what is pruned changes
//! nothing more.

#![no_main]

use api_schema::{Faults, Path, structural::Node};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let schema = parts.next().unwrap_or_default();
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
    let Ok(node) = Node::parse(&schema) else { return };
    let object = parts.next().unwrap_or(b"{}");
    let Ok(mut object) = serde_json::from_slice::<Value>(object) else { return };
    node.prune(&mut object);
    let pruned = object.clone();
    assert!(node.prune(&mut object).is_empty());
    assert_eq!(object, pruned);
    node.default(&mut object);
    node.validate_part(&object, &Path::new("spec"), &mut Faults::default());
});

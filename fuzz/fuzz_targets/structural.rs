//! Any schema of a custom kind, and any object of it: defaulting and pruning
//! what is pruned changes nothing more.

#![no_main]

use api_schema::structural::Node;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (schema, object) = input;
    let Ok(schema) = serde_json::from_slice::<Value>(&schema) else { return };
    let Ok(node) = Node::parse(&schema) else { return };
    let Ok(mut object) = serde_json::from_slice::<Value>(&object) else { return };
    node.prune(&mut object);
    let pruned = object.clone();
    assert!(node.prune(&mut object).is_empty());
    assert_eq!(object, pruned);
    node.default(&mut object);
});

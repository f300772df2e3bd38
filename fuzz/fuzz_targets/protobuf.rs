//! Any protobuf body of a Pod: what decodes is written again, and reads as the
//! same.

#![no_main]

use std::sync::LazyLock;

use api_schema::ShapeRef;
use libfuzzer_sys::fuzz_target;

static POD: LazyLock<ShapeRef> =
    LazyLock::new(|| api_kinds::catalogue().find("", "v1", "pods").expect("a kind").shape.clone());

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = POD.decode_protobuf(bytes) else { return };
    let Ok((canonical, _)) = POD.conform(tree) else { return };
    let Ok(body) = POD.encode_protobuf(canonical.to_string().as_bytes()) else { return };
    POD.decode_protobuf(&body).expect("our own writing");
});

//! Any `FieldsV1`: what is read is written, and reads as the same set.

#![no_main]

use api_schema::apply::FieldSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(set) = FieldSet::parse(bytes) else { return };
    let mut text = String::new();
    set.write(&mut text);
    let again = FieldSet::parse(text.as_bytes()).expect("our own writing");
    assert_eq!(set.paths(), again.paths());
});

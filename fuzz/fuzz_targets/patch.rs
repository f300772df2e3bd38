//! Any patch of any media type: it is read or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

const MEDIA_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

fuzz_target!(|bytes: &[u8]| {
    for media_type in MEDIA_TYPES {
        let _ = api_registry::Patch::parse(media_type, bytes);
    }
});

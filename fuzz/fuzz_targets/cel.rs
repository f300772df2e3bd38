//! Any expression: it compiles or is refused.

#![no_main]

use cel::Environment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let _ = Environment::kubernetes(Vec::new()).compile(source);
});

//! See the library of the same name.

use std::process::ExitCode;

/// glibc's and musl's allocators hold on to what a burst of requests needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    // A link of that name makes the machine's kubectl.
    match std::path::Path::new(&program).file_name().is_some_and(|name| name == "kubectl") {
        true => skiff::commands::kubectl(args),
        false => skiff::run(args),
    }
}

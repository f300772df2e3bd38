//! See the library of the same name.

use std::process::ExitCode;

/// glibc's and musl's allocators hold on to what a burst of requests needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    skiff::run(std::env::args_os().skip(1))
}

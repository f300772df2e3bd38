//! Builds the shim, a small static ELF of its own, for embedding.
//!
//! A nested cargo call with its own flags and target directory: the shim wants
//! size and no unwinding whatever this crate is built with, and no relocations
//! to dirty memory in every pod.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let crates = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("..");
    for path in ["linux/src", "linux/Cargo.toml", "node-shim/src", "node-shim/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", crates.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let (target, out) = (var("TARGET"), PathBuf::from(var("OUT_DIR")));
    let target_dir = out.join("shim-target");
    let flags = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Cpanic=abort"];
    let status = Command::new(var("CARGO"))
        .args(["build", "--quiet", "--release", "--bin", "node-shim", "--target", &target])
        .arg("--manifest-path")
        .arg(crates.join("node-shim/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        // Those of the outer call are not for this one (clippy sets the wrapper).
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "building the shim failed");
    let shim = target_dir.join(&target).join("release/node-shim");
    println!("cargo::rustc-env=NODE_SHIM={}", shim.display());
}

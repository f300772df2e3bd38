//! Builds the shim, a small static ELF of its own, for embedding.

fn main() {
    let elf = small_elf::build("node-shim", &["linux"]);
    println!("cargo::rustc-env=NODE_SHIM={}", elf.display());
    println!("cargo::rerun-if-changed=build.rs");
}

//! The recipe for a small static ELF of this workspace, for build scripts:
//! [`build`] makes it in a nested cargo call, so that its flags (static libc,
//! abort on panic, size) touch nothing else and its dependency tree stays its
//! own. The embedding crate then says
//! `include_bytes!(concat!(env!("OUT_DIR"), "/toolbox.deflate"))` and unpacks that.
//!
//! Must not know: what the programs do. By hand, the same build is
//! `RUSTFLAGS="-C target-feature=+crt-static" cargo build -p toolbox --release --target <host triple>`.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, write::DeflateEncoder};

/// What differs from the workspace's release profile.
const PROFILE: &[&str] = &[
    "profile.release.opt-level='s'",
    "profile.release.lto='fat'",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.debug=false",
    "profile.release.strip=true",
];

/// `crt-static` needs `--target`, or procedural macros would get it too. At a
/// fixed address there are no relocations to do at each start.
const RUSTFLAGS: &[&str] = &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"];

/// Variables of the calling build that would change the nested one. The wrapper
/// is how `cargo clippy` puts itself in front of the compiler.
const NOT_INHERITED: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "LLVM_PROFILE_FILE",
];

/// Builds the binary of the sibling crate `package` into `OUT_DIR/<package>.deflate`
/// (raw deflate: it is less than half of the ELF) and tells cargo what to watch. `also` names further sibling crates whose change
/// must rebuild it (its workspace dependencies).
///
/// # Panics
/// When it cannot be built: in a build script that is how to fail.
pub fn build(package: &str, also: &[&str]) -> PathBuf {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let crates = Path::new(&variable("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a crate's folder has a parent")
        .to_path_buf();
    for name in also.iter().chain([&package]) {
        println!("cargo::rerun-if-changed={}", crates.join(name).join("src").display());
        println!("cargo::rerun-if-changed={}", crates.join(name).join("Cargo.toml").display());
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = variable("TARGET");
    let target_dir = out.join("small-elf");

    let mut cargo = Command::new(variable("CARGO"));
    cargo.arg("build").arg("--manifest-path").arg(crates.join(package).join("Cargo.toml"));
    cargo.args(["--release", "--target", &target]).arg("--target-dir").arg(&target_dir);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    // The same bytes wherever sources, registry and build directory are kept: panics name
    // their files.
    let root = crates.parent().expect("the workspace has a folder").display().to_string();
    let home = env::var("CARGO_HOME").or(env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(ToString::to_string).collect();
    flags.push(format!("--remap-path-prefix={root}=/skiff"));
    flags.push(format!("--remap-path-prefix={}=/target", target_dir.display()));
    flags.extend(home.ok().map(|home| format!("--remap-path-prefix={home}=/cargo")));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let status = cargo.status().unwrap_or_else(|e| panic!("cannot start cargo: {e}"));
    assert!(status.success(), "building {package} failed: {status}");

    let built = target_dir.join(&target).join("release").join(package);
    let elf = std::fs::read(&built).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let place = out.join(format!("{package}.deflate"));
    encoder
        .write_all(&elf)
        .and_then(|()| encoder.finish())
        .and_then(|bytes| std::fs::write(&place, bytes))
        .unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    place
}

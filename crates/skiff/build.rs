//! The time of the build, as a floor for the clock of machines that boot in
//! the past. The commit's time, so that two builds of it are the same.
//!
//! A commit alone is no reason to build anew while one develops; `xtask dist` names
//! commit and time in variables, which are.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| -> Option<String> {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let epoch = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .or_else(|| git(&["log", "-1", "--format=%ct"]))
        .and_then(|text| text.parse::<i64>().ok())
        .unwrap_or(0);
    let commit = std::env::var("SKIFF_COMMIT")
        .ok()
        .or_else(|| git(&["rev-parse", "HEAD"]))
        .map(|commit| commit.chars().take(12).collect::<String>())
        .unwrap_or_default();
    println!("cargo:rustc-env=SKIFF_BUILD_EPOCH={epoch}");
    println!("cargo:rustc-env=SKIFF_COMMIT={commit}");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-env-changed=SKIFF_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
}

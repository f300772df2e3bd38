//! What builds for a target: a compiler that has its standard library, and a
//! linker with its C library.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What the installer asks for, and what is needed to make it elsewhere.
pub(crate) struct Architecture {
    /// How its targets begin.
    prefix: &'static str,
    /// In file names of a release, and as the kernel calls it.
    pub(crate) name: &'static str,
    /// As `std::env::consts::ARCH` calls it.
    own: &'static str,
    /// Debian's, for machines of another kind.
    linker: &'static str,
    packages: &'static str,
    /// What the compiler is told beside what it is told for all.
    pub(crate) flags: &'static [&'static str],
}

/// A static program of theirs stands at a fixed address anyway. Told so, the compiler does
/// without the global offset table, which would become too large for the C library's code
/// (aarch64 reaches 32 KiB of it).
const FIXED: &[&str] = &["-Crelocation-model=static"];

/// As [`FIXED`], in Thumb-2, which every ARMv7-A has and which Debian is built in: a quarter
/// less than in ARM (19.3 MB and not 26.3). The compiler warns that the switch is not stable;
/// one that forgets it makes a larger program. Linked by LLVM's linker: GNU's (2.40) forgets,
/// in a program with more than 16 MB of code, that what chooses the C library's `memcpy` is in
/// Thumb: the first instruction of the program's start that is run as ARM ends it.
const FIXED_IN_THUMB: &[&str] = &["-Crelocation-model=static", "-Ctarget-feature=+thumb-mode", LLD];
const LLD: &str = "-Clink-arg=-fuse-ld=lld";

/// Anywhere, by 40 thousand relocations that are the same and told as bits (glibc 2.36).
const ANYWHERE: &[&str] = &["-Clink-arg=-Wl,-z,pack-relative-relocs"];

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        prefix: "x86_64-",
        name: "x86_64",
        own: "x86_64",
        linker: "x86_64-linux-gnu-gcc",
        packages: "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
        flags: ANYWHERE,
    },
    Architecture {
        prefix: "aarch64-",
        name: "aarch64",
        own: "aarch64",
        linker: "aarch64-linux-gnu-gcc",
        packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        flags: FIXED,
    },
    Architecture {
        prefix: "armv7-",
        name: "armv7",
        own: "arm",
        linker: "arm-linux-gnueabihf-gcc",
        packages: "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
        flags: FIXED_IN_THUMB,
    },
];

/// What `./x cross` unpacks, where rustup does not have a target's library.
const UNPACKED: &str = "target/cross/rust";

/// That of a target.
pub(crate) fn architecture(target: &str) -> Result<&'static Architecture, String> {
    let known = ARCHITECTURES.iter().find(|known| target.starts_with(known.prefix));
    known.ok_or(format!("{target}: the installer asks for none such"))
}

impl Architecture {
    /// Whether its programs run on this machine.
    pub(crate) fn is_own(&self) -> bool {
        self.own == env::consts::ARCH
    }
}

/// A cargo that builds for a target; says what is missing where there is none.
pub(crate) fn cargo(target: &str) -> Result<Command, String> {
    let mut cargo = with_library(target)?;
    let architecture = architecture(target)?;
    let variable =
        format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace(['-', '.'], "_"));
    if !architecture.is_own() && env::var_os(&variable).is_none() {
        let linker = architecture.linker;
        if !is_on_path(linker) {
            return Err(format!(
                "{linker} is missing, which links for {target}: `./x cross {target}` installs it \
                 (Debian's {}); another is named by {variable}",
                architecture.packages
            ));
        }
        // Build scripts' own calls of cargo, which make the small ELFs, inherit it.
        cargo.env(variable, linker);
    }
    if architecture.flags.contains(&LLD) {
        // Not told by a flag: the path would be part of every symbol's name.
        match own_lld()? {
            Some(folder) => drop(cargo.env("COMPILER_PATH", folder)),
            None if is_on_path("ld.lld") => {}
            None => {
                return Err(format!("ld.lld is missing, which links for {target} (Debian's lld)"));
            }
        }
    }
    Ok(cargo)
}

/// Where rustup's toolchains have LLVM's linker, by the name that a compiler of C looks for.
fn own_lld() -> Result<Option<PathBuf>, String> {
    let hosts = std::fs::read_dir(sysroot()?.join("lib/rustlib"));
    let folders = hosts.into_iter().flatten().flatten().map(|host| host.path().join("bin/gcc-ld"));
    Ok(folders.into_iter().find(|folder| folder.join("ld.lld").is_file()))
}

fn sysroot() -> Result<PathBuf, String> {
    let told = crate::dist::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(told.trim().into())
}

fn with_library(target: &str) -> Result<Command, String> {
    if has_library(&sysroot()?, target) {
        return Ok(Command::new("cargo"));
    }
    let unpacked = std::path::absolute(UNPACKED).map_err(|error| error.to_string())?;
    if has_library(&unpacked.join("usr"), target) {
        let mut cargo = Command::new("cargo");
        // Also for the calls of cargo in build scripts.
        cargo.env("RUSTC", unpacked.join("rustc"));
        return Ok(cargo);
    }
    Err(format!(
        "the compiler has no standard library for {target}: `rustup target add {target}`, or, \
         where rustup does not reach it, `./x cross {target}`, which takes it from Debian"
    ))
}

fn has_library(sysroot: &Path, target: &str) -> bool {
    let files = std::fs::read_dir(sysroot.join("lib/rustlib").join(target).join("lib"));
    files.into_iter().flatten().flatten().any(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir: PathBuf| dir.join(program)).any(|file| file.is_file())
}

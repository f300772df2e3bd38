//! The one binary of the built-in image `skiff.local/toolbox`, as bytes. The
//! image puts [`toolbox`] at `/bin/toolbox`, makes a symbolic link to it for
//! each of [`PROGRAMS`] beside it, and has `/bin/toolbox` as entry point.
//!
//! Must not know: images. The `toolbox` crate is the source.

use std::io::Read as _;

use flate2::read::DeflateDecoder;

/// A static ELF for the machine this was built for. Unpacked at each call.
pub fn toolbox() -> Vec<u8> {
    let packed = &include_bytes!(concat!(env!("OUT_DIR"), "/toolbox.deflate"))[..];
    let mut elf = Vec::new();
    DeflateDecoder::new(packed)
        .read_to_end(&mut elf)
        .expect("the build script packed it: a test unpacks it");
    elf
}

/// The names that the binary answers to.
pub static PROGRAMS: &[&str] = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, toolbox};
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    const PT_INTERP: u32 = 3;

    /// The types in the program header table, elf(5), of a 64-bit ELF.
    fn program_headers(elf: &[u8]) -> Vec<u32> {
        let number = |at: usize, n: usize| {
            elf[at..at + n].iter().rev().fold(0_usize, |sum, b| sum << 8 | usize::from(*b))
        };
        let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        (0..count).map(|n| number(start + n * size, 4) as u32).collect()
    }

    #[test]
    fn it_is_small_static_and_runs() {
        // Two thirds of it are the static C library's and the panic machinery's.
        let elf = toolbox();
        assert!(elf.len() < 1_500_000, "{} bytes", elf.len());
        assert!(!program_headers(&elf).contains(&PT_INTERP), "needs a dynamic loader");
        let dir = std::env::temp_dir().join(format!("toolbox-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("toolbox");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o755).open(&path).unwrap();
        file.write_all(&elf).unwrap();
        drop(file);
        let out = Command::new(&path).args(["echo", "a", "b"]).output().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(out.stdout, b"a b\n");
        assert!(PROGRAMS.contains(&"tar"));
    }
}

//! Layers as honest and dishonest tools write them.

use std::{
    io::Read as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use crate::unpack::{target, unpack};

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

/// An entry under any name, also those that the tar crate refuses to write.
fn raw(builder: &mut Builder<Vec<u8>>, path: &str, mut header: Header, data: &[u8]) {
    header.as_mut_bytes()[..100].fill(0);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    builder.append(&header, data).expect("in memory");
}

fn link(builder: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, to: &str) {
    let mut header = header(kind, 0o777, 0);
    header.set_link_name_literal(to).expect("short");
    raw(builder, path, header, b"");
}

fn check(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Result<tempfile::TempDir, String> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    let bytes = builder.into_inner().expect("in memory");
    let dir = tempfile::tempdir().expect("a directory for the test");
    unpack(&bytes[..], dir.path()).map(|_| dir)
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can give files away and make devices");
    }
    root
}

#[test]
fn files_links_modes_owners_and_times_are_as_written() {
    if !is_root() {
        return;
    }
    let dir = check(|tar| {
        let mut owned = header(EntryType::Regular, 0o4755, 5);
        owned.set_uid(12);
        owned.set_gid(34);
        raw(tar, "./usr/bin/tool", owned, b"hello");
        let mut late = header(EntryType::Directory, 0o700, 0);
        late.set_uid(7);
        raw(tar, "usr/", late, b"");
        link(tar, "usr/bin/same", EntryType::Link, "/usr/bin/tool");
        link(tar, "bin", EntryType::Symlink, "/usr/bin");
        raw(tar, "fifo", header(EntryType::Fifo, 0o600, 0), b"");
        raw(tar, "usr/bin/twice", header(EntryType::Regular, 0o644, 1), b"1");
        raw(tar, "usr/bin/twice", header(EntryType::Regular, 0o644, 1), b"2");
    })
    .expect("an honest layer");
    let meta = |path: &str| dir.path().join(path).symlink_metadata().expect(path);
    let tool = meta("usr/bin/tool");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4755, 12, 34));
    assert_eq!((tool.mtime(), tool.nlink()), (1_700_000_000, 2));
    let usr = meta("usr");
    assert_eq!((usr.mode() & 0o7777, usr.uid(), usr.mtime()), (0o700, 7, 1_700_000_000));
    assert_eq!(std::fs::read_link(dir.path().join("bin")).expect("a link").as_os_str(), "/usr/bin");
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(std::fs::read(dir.path().join("usr/bin/twice")).expect("there"), b"2");
}

#[test]
fn whiteouts_become_overlays_own() {
    if !is_root() {
        return;
    }
    let dir = check(|tar| {
        raw(tar, "etc/.wh.passwd", header(EntryType::Regular, 0o644, 0), b"");
        raw(tar, "var/.wh..wh..opq", header(EntryType::Regular, 0o644, 0), b"");
        raw(tar, "var/.wh..wh.plnk", header(EntryType::Directory, 0o700, 0), b"");
    })
    .expect("an honest layer");
    let hidden = dir.path().join("etc/passwd").symlink_metadata().expect("there");
    assert!(hidden.file_type().is_char_device());
    assert_eq!(hidden.rdev(), 0);
    let mut value = [0; 8];
    let var = dir.path().join("var");
    match rustix::fs::getxattr(&var, "trusted.overlay.opaque", &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"y"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(var.read_dir().expect("readable").count(), 0);
}

#[test]
fn what_would_leave_the_layer_is_refused_by_name() {
    let file = |size| header(EntryType::Regular, 0o644, size);
    for (path, text) in [
        ("../evil", "entry \"../evil\": the path leaves the layer"),
        ("a/../../evil", "leaves the layer"),
        ("a/..", "leaves the layer"),
        ("a/.wh..", "a whiteout of the directory itself"),
        (".wh...", "a whiteout of the directory itself"),
    ] {
        let error = check(|tar| raw(tar, path, file(1), b"x")).expect_err(path);
        assert!(error.contains(text), "{error}");
    }
    let error = check(|tar| {
        link(tar, "out", EntryType::Symlink, "/tmp");
        raw(tar, "out/evil", file(1), b"x");
    });
    assert_eq!(
        error.err().as_deref(),
        Some("entry \"out/evil\": the path goes through a symbolic link")
    );
    let error = check(|tar| link(tar, "shadow", EntryType::Link, "../../etc/shadow"));
    assert!(error.expect_err("refused").contains("leaves the layer"));
    let error = check(|tar| link(tar, "shadow", EntryType::Link, "/etc/shadow"));
    assert!(error.expect_err("refused").contains("which is not in the layer"));
    let error = check(|tar| {
        link(tar, "etc", EntryType::Symlink, "/etc");
        link(tar, "shadow", EntryType::Link, "etc/shadow");
    });
    assert!(error.is_err());
    // A link is replaced, not written through.
    if is_root() {
        let dir = check(|tar| {
            link(tar, "file", EntryType::Symlink, "/tmp/node-image-test-evil");
            raw(tar, "file", file(1), b"x");
        });
        let meta = dir.expect("fine").path().join("file").symlink_metadata().expect("there");
        assert!(meta.is_file());
    }
    assert!(!Path::new("/tmp/node-image-test-evil").exists());
}

#[test]
fn names_without_end_are_refused_and_long_ones_not_quoted() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let mut giant = header(EntryType::GNULongName, 0o644, 3 << 30);
    giant.set_cksum();
    let layer = giant.as_bytes().chain(std::io::repeat(b'a'));
    assert_eq!(
        unpack(layer, dir.path()).expect_err("a giant"),
        "name and attributes of an entry have over 1048576 bytes"
    );
    let long = "a/".repeat(100_000);
    let error = check(|tar| {
        let mut file = header(EntryType::Regular, 0o644, 0);
        tar.append_data(&mut file, &long, &b""[..]).expect("in memory");
    });
    let error = error.expect_err("no file has such a name");
    assert!(error.starts_with("entry \"a/a/") && error.len() < 400, "{error}");
    let error = check(|tar| {
        let mut to = header(EntryType::Link, 0o644, 0);
        tar.append_link(&mut to, "to", &long).expect("in memory");
    });
    let error = error.expect_err("no file has such a name");
    assert!(error.starts_with("entry \"to\": hard link to") && error.len() < 400, "{error}");
}

#[test]
fn an_archive_cut_short_is_noticed() {
    if !is_root() {
        return;
    }
    let mut builder = Builder::new(Vec::new());
    raw(&mut builder, "a", header(EntryType::Regular, 0o644, 3000), &[7; 3000]);
    raw(&mut builder, "b", header(EntryType::Regular, 0o644, 1), b"x");
    let bytes = builder.into_inner().expect("in memory");
    for cut in [1, 100, 511, 513, 1000, 3000, 3600, 4000] {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let error = unpack(&bytes[..cut], dir.path()).expect_err("cut");
        assert!(error.contains("cut short"), "cut at {cut}: {error}");
    }
}

proptest! {
    #[test]
    fn a_target_never_climbs(path in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(found) = target(&path) {
            let mut parts: Vec<_> =
                found.parent.as_bytes().split(|byte| *byte == b'/').collect();
            parts.extend(found.name.as_ref().map(|name| name.as_bytes()));
            prop_assert!(!parts.contains(&&b".."[..]));
            prop_assert!(!found.parent.as_bytes().starts_with(b"/"));
        }
    }

    #[test]
    fn foreign_archives_never_panic_and_stay_inside(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 512), 0..4),
        name in "(\\.\\./|/|a|\\.wh\\.|\\./){0,6}",
        kind in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        let mut first = header(EntryType::new(kind), 0o644, 0);
        first.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        first.set_cksum();
        bytes.extend_from_slice(first.as_bytes());
        bytes.extend(blocks.concat());
        let outer = tempfile::tempdir().expect("a directory for the test");
        let dir = outer.path().join("layer");
        std::fs::create_dir(&dir).expect("writable");
        let _ = unpack(&bytes[..], &dir);
        prop_assert_eq!(outer.path().read_dir().expect("readable").count(), 1);
    }
}

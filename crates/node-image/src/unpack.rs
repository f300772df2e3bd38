//! Unpacks one layer: what a stranger's tar says becomes files under one
//! directory, and nothing anywhere else.
//!
//! Every entry's parent is opened with `openat2` so that the kernel refuses to
//! leave the directory or to follow a symbolic link, whatever stands there;
//! the entry itself is then made by its last name. Whiteouts become what
//! overlayfs understands (the kernel's `filesystems/overlayfs.rst`).

use std::{
    ffi::{CString, OsStr, OsString},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
        XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev,
        mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use crate::archive::{Gate, fault, pass, shown};

/// Most bytes that are kept of directories whose times are to be set.
const DIRS_BYTES_MAX: usize = 64 << 20;

/// What was made of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of all regular files.
    pub(crate) bytes: u64,
    /// Entries, whiteouts included.
    pub(crate) entries: u64,
}

/// Unpacks a tar stream into an existing, empty directory. The error names the
/// entry; what was made so far stays behind for the caller to remove.
pub(crate) fn unpack(tar: impl Read, dir: &Path) -> Result<Unpacked, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, dir, flags, Mode::empty())
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut unpacker =
        Unpacker { root, parent: None, dirs: Vec::new(), dirs_bytes: 0, done: Unpacked::default() };
    let gate = Gate::default();
    let mut archive = Archive::new(gate.reader(tar));
    let damaged = |error: io::Error| fault(&error);
    let mut entries = archive.entries().map_err(damaged)?;
    while let Some(entry) = gate.next(&mut entries) {
        let mut entry = entry.map_err(damaged)?;
        unpacker
            .entry(&mut entry)
            .and_then(|()| pass(&mut entry).map_err(damaged))
            .map_err(|text| format!("entry {}: {text}", shown(&entry.path_bytes())))?;
        unpacker.done.entries += 1;
    }
    unpacker.finish_dirs()?;
    Ok(unpacker.done)
}

/// Where an entry goes, from the root of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without slashes at either end; empty for the root.
    pub(crate) parent: OsString,
    /// `None` for the root itself.
    pub(crate) name: Option<OsString>,
}

/// Reads an entry's path. A leading slash means the layer's root, as for other
/// tools; a `..` is refused wherever it stands, since no honest tool writes it.
pub(crate) fn target(path: &[u8]) -> Result<Target, String> {
    if path.contains(&0) {
        return Err("the path holds a zero byte".into());
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("the path leaves the layer (it holds \"..\")".into()),
            part if part.len() > 255 => return Err("the path has a part of over 255 bytes".into()),
            part => parts.push(part),
        }
    }
    let name = parts.pop().map(|name| OsString::from_vec(name.to_vec()));
    Ok(Target { parent: OsString::from_vec(parts.join(&b'/')), name })
}

/// What a name starting with `.wh.` asks for (OCI image-spec, `layer.md`).
#[derive(Debug, PartialEq, Eq)]
enum Whiteout<'a> {
    /// Nothing of the lower layers shows in this directory.
    Opaque,
    /// One name of the lower layers does not show.
    Name(&'a OsStr),
    /// AUFS' own book-keeping.
    Ignored,
    /// The directory itself or its parent.
    Invalid,
}

fn whiteout(name: &OsStr) -> Option<Whiteout<'_>> {
    match name.as_bytes().strip_prefix(b".wh.")? {
        b".wh..opq" => Some(Whiteout::Opaque),
        // What is hidden must be a name in this directory.
        b"." | b".." => Some(Whiteout::Invalid),
        rest if rest.starts_with(b".wh.") || rest.is_empty() => Some(Whiteout::Ignored),
        rest => Some(Whiteout::Name(OsStr::from_bytes(rest))),
    }
}

struct Unpacker {
    root: OwnedFd,
    /// The parent of the last entry: the next one mostly has the same.
    parent: Option<(OsString, OwnedFd)>,
    /// Directories and the times they get once everything is in them.
    dirs: Vec<(OsString, Timestamps)>,
    dirs_bytes: usize,
    done: Unpacked,
}

/// What the archive says about an entry beside its content.
struct Attributes {
    mode: Mode,
    uid: Uid,
    gid: Gid,
    times: Timestamps,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Unpacker {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), String> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let target = target(&entry.path_bytes())?;
        let attributes = attributes(entry)?;
        let Some(name) = target.name else {
            return match kind {
                EntryType::Directory => self.finish_dir(&self.root, OsStr::new(""), &attributes),
                _ => Err("only a directory can be the root".into()),
            };
        };
        let parent = self.open_parent(&target.parent)?;
        match whiteout(&name) {
            Some(Whiteout::Invalid) => return Err("a whiteout of the directory itself".into()),
            Some(Whiteout::Ignored) => return self.keep_parent(target.parent, parent),
            Some(Whiteout::Opaque) => {
                fsetxattr(&parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                    .map_err(|error| format!("the directory cannot be made opaque: {error}"))?;
                return self.keep_parent(target.parent, parent);
            }
            Some(Whiteout::Name(hidden)) => {
                self.clear(&parent, hidden, false)?;
                mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|error| format!("a whiteout cannot be made: {error}"))?;
                return self.keep_parent(target.parent, parent);
            }
            None => {}
        }
        let exists = self.clear(&parent, &name, kind == EntryType::Directory)?;
        match kind {
            EntryType::Directory => {
                if !exists {
                    mkdirat(&parent, &name, Mode::RWXU).map_err(failed)?;
                }
                let mut path = target.parent.clone();
                if !path.is_empty() {
                    path.push("/");
                }
                path.push(&name);
                let dir = openat(&parent, &name, DIR_FLAGS, Mode::empty()).map_err(failed)?;
                self.finish_dir(&dir, &path, &attributes)?;
                self.dirs_bytes += path.len() + size_of::<(OsString, Timestamps)>();
                self.dirs.push((path, attributes.times));
                if self.dirs_bytes > DIRS_BYTES_MAX {
                    // A file that comes late changes a time; no honest layer is that large.
                    self.finish_dirs()?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&parent, &name, entry, &attributes)?;
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().ok_or("a symbolic link without a target")?;
                symlinkat(OsStr::from_bytes(&to), &parent, &name).map_err(failed)?;
                own(&parent, &name, &attributes)?;
                set_times(&parent, &name, &attributes)?;
            }
            EntryType::Link => self.hard_link(&parent, &name, entry)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
                let device = makedev(number(header.device_major()), number(header.device_minor()));
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                mknodat(&parent, &name, file_type, attributes.mode, device)
                    .map_err(|error| format!("a device cannot be made: {error}"))?;
                own(&parent, &name, &attributes)?;
                chmodat(&parent, &name, attributes.mode, AtFlags::empty()).map_err(failed)?;
                set_times(&parent, &name, &attributes)?;
            }
            other => return Err(format!("entries of type {:?} are not known", other.as_byte())),
        }
        self.keep_parent(target.parent, parent)
    }

    fn keep_parent(&mut self, path: OsString, fd: OwnedFd) -> Result<(), String> {
        self.parent = Some((path, fd));
        Ok(())
    }

    /// Opens a directory of the layer, making those that the archive left out.
    fn open_parent(&mut self, path: &OsStr) -> Result<OwnedFd, String> {
        if let Some((last, fd)) = self.parent.take()
            && last == path
        {
            return Ok(fd);
        }
        match self.open_dir(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => return Err("the path goes through a symbolic link".into()),
            Err(Errno::NOTDIR) => return Err("the path goes through what is no directory".into()),
            opened => return opened.map_err(failed),
        }
        let mut made = OsString::new();
        for part in path.as_bytes().split(|byte| *byte == b'/') {
            let parent = self.open_dir(&made).map_err(failed)?;
            let part = OsStr::from_bytes(part);
            match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    // The process's umask had its say in `mkdirat`.
                    chmodat(&parent, part, Mode::from_raw_mode(0o755), AtFlags::empty())
                        .map_err(failed)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            if !made.is_empty() {
                made.push("/");
            }
            made.push(part);
        }
        self.open_dir(path).map_err(failed)
    }

    fn open_dir(&self, path: &OsStr) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { OsStr::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Removes what stands at a name, unless a directory takes the place of a
    /// directory. Returns whether that is so.
    fn clear(&mut self, parent: &OwnedFd, name: &OsStr, for_dir: bool) -> Result<bool, String> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat.map_err(failed)?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
            return Ok(false);
        }
        if for_dir {
            return Ok(true);
        }
        let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
        linux::tree::remove_at(parent, &name).map_err(failed)?;
        Ok(false)
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut Entry<'_, impl Read>,
        attributes: &Attributes,
    ) -> Result<(), String> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let mut file = std::fs::File::from(fd);
        let expected = entry.size();
        let copied = io::copy(entry, &mut file)
            .map_err(|error| format!("the archive is damaged or cut short: {error}"))?;
        if copied != expected {
            return Err(format!(
                "the archive is cut short: {copied} of {expected} bytes are there"
            ));
        }
        self.done.bytes += copied;
        fchown(&file, Some(attributes.uid), Some(attributes.gid)).map_err(failed)?;
        set_xattrs(&file, attributes)?;
        // After the owner: a change of owner clears the set-user-ID bit.
        fchmod(&file, attributes.mode).map_err(failed)?;
        futimens(&file, &attributes.times).map_err(failed)
    }

    fn hard_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry<'_, impl Read>,
    ) -> Result<(), String> {
        let to = entry.link_name_bytes().ok_or("a hard link without a target")?;
        let shown = shown(&to);
        let to = target(&to).map_err(|text| format!("hard link to {shown}: {text}"))?;
        let missing = |error: Errno| match error {
            Errno::NOENT => format!("hard link to {shown}, which is not in the layer"),
            error => format!("hard link to {shown}: {error}"),
        };
        let to_name = to.name.ok_or("a hard link to the root")?;
        let to_parent = self.open_dir(&to.parent).map_err(missing)?;
        linkat(&to_parent, &to_name, parent, name, AtFlags::empty()).map_err(missing)
    }

    fn finish_dir(
        &self,
        dir: &OwnedFd,
        path: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), String> {
        let shown = || path.display().to_string();
        let failed = |error: Errno| format!("{}: {error}", shown());
        fchown(dir, Some(attributes.uid), Some(attributes.gid)).map_err(failed)?;
        set_xattrs(dir, attributes)?;
        fchmod(dir, attributes.mode).map_err(failed)
    }

    fn finish_dirs(&mut self) -> Result<(), String> {
        self.dirs_bytes = 0;
        for (path, times) in std::mem::take(&mut self.dirs) {
            match self.open_dir(&path) {
                Ok(dir) => futimens(&dir, &times)
                    .map_err(|error| format!("{}: {error}", path.display()))?,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Ok(())
    }
}

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn attributes(entry: &mut Entry<'_, impl Read>) -> Result<Attributes, String> {
    let mut xattrs = Vec::new();
    let mut pax_mtime = None;
    let pax = entry.pax_extensions().map_err(|error| format!("its PAX header: {error}"))?;
    for extension in pax.into_iter().flatten() {
        let extension = extension.map_err(|error| format!("its PAX header: {error}"))?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
        } else if key == "mtime" {
            pax_mtime = extension.value().ok().and_then(parse_time);
        }
    }
    let header = entry.header();
    let old = header.as_old();
    let uid = number(&old.uid, header.uid())?;
    let gid = number(&old.gid, header.gid())?;
    let mode = number(&old.mode, header.mode().map(u64::from))?;
    let seconds = i64::try_from(number(&old.mtime, header.mtime())?).unwrap_or(0);
    let mtime = pax_mtime.unwrap_or(Timespec { tv_sec: seconds, tv_nsec: 0 });
    let id = |id: u64| u32::try_from(id).map_err(|_| format!("user or group {id} is too large"));
    Ok(Attributes {
        mode: Mode::from_raw_mode(u32::try_from(mode & 0o7777).unwrap_or(0)),
        uid: Uid::from_raw(id(uid)?),
        gid: Gid::from_raw(id(gid)?),
        times: Timestamps { last_access: mtime, last_modification: mtime },
        xattrs,
    })
}

/// A number of the header; a blank field is 0, as for other tools.
fn number(field: &[u8], parsed: io::Result<u64>) -> Result<u64, String> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => parsed.map_err(|error| format!("its header: {error}")),
    }
}

/// Seconds with a fraction, as PAX has them.
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: digits.parse().ok()? })
}

fn set_xattrs(fd: impl AsFd, attributes: &Attributes) -> Result<(), String> {
    for (name, value) in &attributes.xattrs {
        match fsetxattr(&fd, name.as_str(), value, XattrFlags::empty()) {
            // A file system without them; containerd goes on as well.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(format!("its attribute {}: {error}", shown(name.as_bytes()))),
        }
    }
    Ok(())
}

fn own(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), String> {
    let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn set_times(parent: &OwnedFd, name: &OsStr, attributes: &Attributes) -> Result<(), String> {
    utimensat(parent, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn failed(error: Errno) -> String {
    error.to_string()
}

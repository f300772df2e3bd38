//! Archives of strangers, in bounded memory.
//!
//! The tar crate reads what stands before an entry whole into memory, however
//! long it claims to be: GNU's long names, PAX headers, the map of a sparse
//! file. A second reading of the same headers here could see others than the
//! crate does; so nothing is parsed, and what the crate takes from one entry to
//! the next is counted.

use std::{
    cell::Cell,
    ffi::OsStr,
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
};

use tar::{Entries, Entry, EntryType};

/// Most bytes that stand before an entry: what Go's `archive/tar`, and so
/// containerd, takes of each of its headers.
pub(crate) const HEADERS_BYTES_MAX: u64 = 1 << 20;

/// Most bytes of a name that errors quote.
const SHOWN_BYTES_MAX: usize = 256;

/// Lets all of an entry's content through, and little of what is before it.
#[derive(Default)]
pub(crate) struct Gate {
    /// Bytes that may still be read; `None` inside an entry.
    left: Cell<Option<u64>>,
}

/// Reads through a [`Gate`].
pub(crate) struct Gated<'a, R> {
    inner: R,
    gate: &'a Gate,
}

impl Gate {
    pub(crate) fn reader<R>(&self, inner: R) -> Gated<'_, R> {
        Gated { inner, gate: self }
    }

    /// The next entry of an archive that reads through this gate. Of the last
    /// one nothing is left to read: it was seeked over, or [`passed`](pass).
    pub(crate) fn next<'a, R: Read>(
        &self,
        entries: &mut Entries<'a, R>,
    ) -> Option<io::Result<Entry<'a, R>>> {
        self.left.set(Some(HEADERS_BYTES_MAX));
        let next = entries.next();
        self.left.set(None);
        Some(next?.and_then(|entry| match is_header(&entry) && entry.size() > HEADERS_BYTES_MAX {
            true => Err(too_large()),
            false => Ok(entry),
        }))
    }
}

/// Those that the crate gives out as entries: global ones, and any in an old
/// format. Their content is read into memory by who asks for the attributes.
fn is_header(entry: &Entry<'_, impl Read>) -> bool {
    matches!(
        entry.header().entry_type(),
        EntryType::XGlobalHeader
            | EntryType::XHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

fn too_large() -> io::Error {
    let text = format!("name and attributes of an entry have over {HEADERS_BYTES_MAX} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Reads what is left of an entry's content.
pub(crate) fn pass(entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    if entry.header().entry_type() != EntryType::GNUSparse {
        return io::copy(entry, &mut io::sink()).map(drop);
    }
    // Its holes may be exabytes.
    match entry.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a sparse file in an odd place")),
    }
}

/// What is wrong with an archive whose next entry cannot be read.
pub(crate) fn fault(error: &io::Error) -> String {
    match is_too_large(error) {
        true => error.to_string(),
        false => format!("it is damaged or cut short: {error}"),
    }
}

/// Whether a [`Gate`] refused to read on.
pub(crate) fn is_too_large(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

/// A name as errors quote it: the start of one that no honest tool writes.
pub(crate) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN_BYTES_MAX) {
        Some(start) if start.len() < name.len() => format!("{:?}…", OsStr::from_bytes(start)),
        _ => format!("{:?}", OsStr::from_bytes(name)),
    }
}

impl<R: Read> Read for Gated<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.gate.left.get() else { return self.inner.read(buffer) };
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 && !buffer.is_empty() {
            return Err(too_large());
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        self.gate.left.set(Some(left - count as u64));
        Ok(count)
    }
}

impl<R: Seek> Seek for Gated<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::{Archive, Builder, Header};

    use super::*;

    /// Counts what is taken.
    struct Counted<R>(R, u64);

    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1 += count as u64;
            Ok(count)
        }
    }

    /// What an entry is to whoever unpacks it.
    #[derive(Debug, PartialEq)]
    struct Seen {
        path: Vec<u8>,
        link: Option<Vec<u8>>,
        kind: EntryType,
        attributes: Vec<(Vec<u8>, Vec<u8>)>,
        content: Vec<u8>,
    }

    fn seen(entry: &mut Entry<'_, impl Read>, content_max: u64) -> Seen {
        let mut content = Vec::new();
        entry.take(content_max).read_to_end(&mut content).expect("whole");
        let pax = entry.pax_extensions().expect("well-formed").into_iter().flatten();
        let attributes = pax.map(|one| {
            let one = one.expect("well-formed");
            (one.key_bytes().to_vec(), one.value_bytes().to_vec())
        });
        let attributes = attributes.collect();
        Seen {
            path: entry.path_bytes().into_owned(),
            link: entry.link_name_bytes().map(|link| link.into_owned()),
            kind: entry.header().entry_type(),
            attributes,
            content,
        }
    }

    /// Passes all entries of an archive, and gives the bytes that were read.
    fn walk(archive: impl Read) -> (io::Result<usize>, u64) {
        let mut counted = Counted(archive, 0);
        let gate = Gate::default();
        let mut archive = Archive::new(gate.reader(&mut counted));
        let mut all = || {
            let mut entries = archive.entries()?;
            let mut count = 0;
            while let Some(entry) = gate.next(&mut entries) {
                pass(&mut entry?)?;
                count += 1;
            }
            Ok(count)
        };
        let walked = all();
        (walked, counted.1)
    }

    fn header(kind: EntryType, mut header: Header, size: u64) -> Vec<u8> {
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    #[test]
    fn headers_of_gigabytes_are_refused_unread() {
        use EntryType as Kind;
        for new in [Header::new_gnu, Header::new_ustar, Header::new_old] {
            for kind in [Kind::GNULongName, Kind::GNULongLink, Kind::XHeader, Kind::XGlobalHeader] {
                // The last is beyond octal digits, and so in GNU's base 256.
                for size in [HEADERS_BYTES_MAX + 1, 3 << 30, 3 << 40] {
                    let first = header(kind, new(), size);
                    let (walked, count) = walk(first.chain(io::repeat(b'a').take(size)));
                    let error = walked.expect_err("a giant");
                    assert!(is_too_large(&error), "{kind:?}, {size} bytes: {error}");
                    assert!(count <= HEADERS_BYTES_MAX, "{kind:?}: {count} bytes were read");
                }
            }
        }
    }

    #[test]
    fn a_sparse_file_s_map_without_end_is_refused() {
        let mut first = Header::new_gnu();
        let gnu = first.as_gnu_mut().expect("it is");
        gnu.isextended[0] = 1;
        gnu.realsize.copy_from_slice(b"00000000000\0");
        let first = header(EntryType::GNUSparse, first, 0);
        let mut extension = tar::GnuExtSparseHeader::new();
        extension.isextended[0] = 1;
        let extensions = extension.as_bytes().repeat(4 * HEADERS_BYTES_MAX as usize / 512);
        let (walked, count) = walk([first, extensions].concat().as_slice());
        assert!(is_too_large(&walked.expect_err("without end")));
        assert!(count <= HEADERS_BYTES_MAX, "{count} bytes were read");
    }

    #[test]
    fn holes_are_not_read_to_their_end() {
        let mut first = Header::new_gnu();
        let gnu = first.as_gnu_mut().expect("it is");
        gnu.realsize.copy_from_slice(b"77777777777\0");
        gnu.sparse[0].offset.copy_from_slice(b"77777777777\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        let (walked, _) = walk(header(EntryType::GNUSparse, first, 0).as_slice());
        assert!(walked.expect_err("unread holes").to_string().contains("sparse"));
    }

    #[test]
    fn content_is_no_header() {
        let size = 3 * HEADERS_BYTES_MAX;
        let file = || {
            let first = io::Cursor::new(header(EntryType::Regular, Header::new_gnu(), size));
            first.chain(io::repeat(0).take(size))
        };
        let (walked, count) = walk(file().chain(file()));
        assert_eq!((walked.expect("honest"), count), (2, 2 * (512 + size)));
    }

    #[test]
    fn long_names_are_cut_in_errors() {
        assert_eq!(shown(b"a/b\xff"), r#""a/b\xFF""#);
        let shown = shown(&[b'a'; 1 << 20]);
        assert!(shown.len() < 300 && shown.ends_with("\"…"), "{shown}");
    }

    proptest! {
        #[test]
        fn well_formed_archives_pass_unchanged(
            files in prop::collection::vec(
                (
                    "[a-z]{1,8}(/[a-z]{1,90}){0,6}",
                    prop::option::of("[a-z]{1,8}(/[a-z]{1,90}){0,6}"),
                    prop::collection::vec(("[a-z.]{1,20}", "[a-z]{0,600}"), 0..3),
                    prop::collection::vec(any::<u8>(), 0..3000),
                    any::<bool>(),
                ),
                0..8,
            ),
            content_max in 0..4000_u64,
        ) {
            let mut builder = Builder::new(Vec::new());
            for (path, link, attributes, content, is_gnu) in &files {
                if !attributes.is_empty() {
                    let of = attributes.iter().map(|(key, value)| (&key[..], value.as_bytes()));
                    builder.append_pax_extensions(of).expect("in memory");
                }
                let mut header = match is_gnu {
                    true => Header::new_gnu(),
                    false => Header::new_ustar(),
                };
                header.set_mode(0o644);
                match link {
                    Some(link) => {
                        header.set_entry_type(EntryType::Symlink);
                        header.set_size(0);
                        builder.append_link(&mut header, path, link).expect("in memory");
                    }
                    None => {
                        header.set_entry_type(EntryType::Regular);
                        header.set_size(content.len() as u64);
                        builder.append_data(&mut header, path, &content[..]).expect("in memory");
                    }
                }
            }
            let bytes = builder.into_inner().expect("in memory");
            let mut plain = Archive::new(&bytes[..]);
            let plain: Vec<Seen> = plain
                .entries()
                .expect("well-formed")
                .map(|entry| seen(&mut entry.expect("well-formed"), content_max))
                .collect();
            prop_assert_eq!(plain.len(), files.len());

            let gate = Gate::default();
            let mut archive = Archive::new(gate.reader(&bytes[..]));
            let mut entries = archive.entries().expect("well-formed");
            let mut gated = Vec::new();
            while let Some(entry) = gate.next(&mut entries) {
                let mut entry = entry.expect("well-formed");
                gated.push(seen(&mut entry, content_max));
                pass(&mut entry).expect("whole");
            }
            prop_assert_eq!(&gated, &plain);

            let gate = Gate::default();
            let mut archive = Archive::new(gate.reader(io::Cursor::new(&bytes)));
            let mut entries = archive.entries_with_seek().expect("well-formed");
            let mut gated = Vec::new();
            while let Some(entry) = gate.next(&mut entries) {
                gated.push(seen(&mut entry.expect("well-formed"), content_max));
            }
            prop_assert_eq!(gated, plain);
        }
    }
}

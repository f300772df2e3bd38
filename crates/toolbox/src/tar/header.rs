//! The 512-byte header of an archive's entry, ustar(5), and the two ways to
//! store a name that does not fit into it.

use std::io::{self, Read};

pub(super) const BLOCK: usize = 512;
/// Bytes of a long name or of pax records; more is refused.
const EXTENSION_MAX: u64 = 64 << 10;

/// Bytes of an entry; more is no archive of this world.
const SIZE_MAX: u64 = 1 << 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Link,
    Other(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Bytes that follow the header, zero but for files.
    pub(super) size: u64,
    /// Where a link points.
    pub(super) target: String,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
}

/// Zeroes behind `size` bytes of content.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

impl Entry {
    /// The header, with GNU long-name entries before it where needed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (letter, text) in [(b'L', &self.name), (b'K', &self.target)] {
            if text.len() > 100 {
                let size = text.len() as u64 + 1;
                out.extend(block("././@LongLink", "", letter, size, &Entry::blank()));
                out.extend(text.as_bytes());
                out.resize(out.len() + 1 + padding(size) as usize, 0);
            }
        }
        let letter = match self.kind {
            Kind::File => b'0',
            Kind::Link => b'1',
            Kind::Symlink => b'2',
            Kind::Directory => b'5',
            Kind::Other(c) => c as u8,
        };
        out.extend(block(&self.name, &self.target, letter, self.size, self));
        out
    }

    fn blank() -> Entry {
        let (name, target) = (String::new(), String::new());
        Entry { name, kind: Kind::File, size: 0, target, mode: 0, uid: 0, gid: 0, mtime: 0 }
    }

    /// The next entry; `None` at the archive's end. The content is left unread.
    pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Entry>> {
        let (mut name, mut target) = (None, None);
        let mut size = None;
        loop {
            let Some(block) = read_block(input)? else { return Ok(None) };
            if block.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            let sum: u64 = block
                .iter()
                .enumerate()
                .map(
                    |(at, b)| {
                        if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*b) }
                    },
                )
                .sum();
            if number(&block[148..156])? != sum {
                return Err(bad("not a tar archive: wrong checksum"));
            }
            let length = number(&block[124..136])?;
            if length > SIZE_MAX {
                return Err(bad("not a tar archive: an impossible size"));
            }
            match block[156] {
                b'L' => name = Some(text(&extension(input, length)?)),
                b'K' => target = Some(text(&extension(input, length)?)),
                b'x' => {
                    for (key, value) in pax_records(&extension(input, length)?)? {
                        match key.as_str() {
                            "path" => name = Some(value),
                            "linkpath" => target = Some(value),
                            "size" => {
                                size = value.parse().ok().filter(|n| *n <= SIZE_MAX);
                                size.ok_or_else(|| bad("a bad pax size"))?;
                            }
                            _ => {}
                        }
                    }
                }
                b'g' => drop(extension(input, length)?),
                letter => {
                    let kind = match letter {
                        0 | b'0' | b'7' => Kind::File,
                        b'1' => Kind::Link,
                        b'2' => Kind::Symlink,
                        b'5' => Kind::Directory,
                        other => Kind::Other(char::from(other)),
                    };
                    let prefix = if &block[257..262] == b"ustar" {
                        text(&block[345..500])
                    } else {
                        String::new()
                    };
                    let short = text(&block[..100]);
                    let joined =
                        if prefix.is_empty() { short } else { format!("{prefix}/{short}") };
                    return Ok(Some(Entry {
                        name: name.unwrap_or(joined),
                        kind,
                        size: match kind {
                            Kind::File | Kind::Other(_) => size.unwrap_or(length),
                            _ => 0,
                        },
                        target: target.unwrap_or_else(|| text(&block[157..257])),
                        mode: number(&block[100..108])? as u32,
                        uid: number(&block[108..116])? as u32,
                        gid: number(&block[116..124])? as u32,
                        mtime: number(&block[136..148])?,
                    }));
                }
            }
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn block(name: &str, target: &str, letter: u8, size: u64, entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, max: usize, bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(max)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, 100, name.as_bytes());
    put(100, 7, format!("{:07o}", entry.mode).as_bytes());
    put(108, 7, format!("{:07o}", entry.uid & 0o7_777_777).as_bytes());
    put(116, 7, format!("{:07o}", entry.gid & 0o7_777_777).as_bytes());
    put(136, 11, format!("{:011o}", entry.mtime).as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[letter]);
    put(157, 100, target.as_bytes());
    put(257, 8, b"ustar\x0000");
    if size < 0o100_000_000_000 {
        put(124, 11, format!("{size:011o}").as_bytes());
    } else {
        // GNU's base-256 form for 8 GiB and more.
        put(124, 1, &[0x80]);
        put(128, 8, &size.to_be_bytes());
    }
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// `None` at the end of the input, which is allowed between entries only.
fn read_block(input: &mut impl Read) -> io::Result<Option<[u8; BLOCK]>> {
    let mut block = [0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(bad("the archive is cut short")),
            n => filled += n,
        }
    }
    Ok(Some(block))
}

fn extension(input: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    if length > EXTENSION_MAX {
        return Err(bad("a name is too long"));
    }
    let mut bytes = vec![0; (length + padding(length)) as usize];
    input.read_exact(&mut bytes)?;
    bytes.truncate(length as usize);
    Ok(bytes)
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Octal text or GNU's base 256.
fn number(bytes: &[u8]) -> io::Result<u64> {
    if bytes[0] & 0x80 != 0 {
        let tail = &bytes[bytes.len().saturating_sub(8)..];
        return Ok(tail.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    }
    let text = text(bytes);
    let text = text.trim();
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| bad("not a tar archive: a bad number"))
}

/// Records of the form `LENGTH KEY=VALUE\n`, pax(1).
fn pax_records(mut bytes: &[u8]) -> io::Result<Vec<(String, String)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let record = || -> Option<(usize, String, String)> {
            let space = bytes.iter().position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = body.iter().position(|b| *b == b'=')?;
            Some((length, text(&body[..equals]), text(&body[equals + 1..])))
        };
        let (length, key, value) = record().ok_or_else(|| bad("a bad pax record"))?;
        records.push((key, value));
        bytes = &bytes[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back() {
        for name in ["short", &"long/".repeat(60)] {
            let target = format!("{name}-target");
            let (mode, uid, gid, mtime) = (0o644, 1000, 1000, 1_700_000_000);
            let name = name.to_owned();
            let entry = Entry { name, kind: Kind::Symlink, size: 0, target, mode, uid, gid, mtime };
            assert_eq!(Entry::read(&mut entry.encode().as_slice()).unwrap(), Some(entry));
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert!(Entry::read(&mut [1; 100].as_slice()).is_err());
        assert!(Entry::read(&mut [1; 600].as_slice()).is_err());
        assert!(Entry::read(&mut [].as_slice()).unwrap().is_none());
        let records = pax_records(b"13 path=a/bc\n").unwrap();
        assert_eq!(records, [("path".to_owned(), "a/bc".to_owned())]);
        assert!(pax_records(b"99 path=a\n").is_err() && pax_records(b"2 x\n").is_err());
    }
}

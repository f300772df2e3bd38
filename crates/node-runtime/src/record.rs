//! State files: a line with format version and checksum, then JSON. Written
//! beside and renamed, so a file is whole or absent; the checksum catches what
//! a dying disk does.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

const MAGIC: &str = "skiff-runtime-record 1";

/// Writes a record durably.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{MAGIC} {:08x}", crc32fast::hash(&body))?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a record.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    parse(&fs::read(path)?)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("not a record"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("not a record"))?;
    let (magic, checksum) = head.rsplit_once(' ').ok_or_else(|| bad("not a record"))?;
    if magic != MAGIC {
        return Err(bad("a record of another version"));
    }
    let body = &bytes[end + 1..];
    if u32::from_str_radix(checksum, 16) != Ok(crc32fast::hash(body)) {
        return Err(bad("the checksum does not fit"));
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("record");
        write(&path, &vec![1, 2, 3])?;
        assert_eq!(read::<Vec<u32>>(&path)?, [1, 2, 3]);
        let whole = fs::read(&path)?;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(parse::<Vec<u32>>(&bytes).is_err(), "byte {at}");
            assert!(parse::<Vec<u32>>(&whole[..at]).is_err(), "cut at {at}");
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn outside_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = parse::<Vec<u32>>(&bytes);
        }
    }
}

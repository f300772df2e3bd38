//! Small files that must be whole to be believed: a format number and a checksum
//! around JSON.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::plugin::digest;

#[derive(Serialize, Deserialize)]
struct Sealed {
    format: u32,
    /// SHA-256 of `ledger`.
    checksum: String,
    /// What is kept, as JSON.
    ledger: String,
}

/// Empty where there is no file.
///
/// # Errors
/// Where it cannot be read or is not what was written.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path, format: u32) -> io::Result<T> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        bytes => bytes?,
    };
    let sealed: Sealed = serde_json::from_slice(&bytes)?;
    if sealed.format != format {
        let text = format!("format {}, not {format}", sealed.format);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if digest(&sealed.ledger) != sealed.checksum {
        let text = "the checksum is another one";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(serde_json::from_str(&sealed.ledger)?)
}

/// Whole or not at all.
///
/// # Errors
/// What the file system says.
pub(crate) fn write<T: Serialize>(path: &Path, format: u32, content: &T) -> io::Result<()> {
    let ledger = serde_json::to_string(content)?;
    let sealed = Sealed { format, checksum: digest(&ledger), ledger };
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&sealed)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

//! Compresses the descriptions: they are large and rarely asked for.

use std::{env, error::Error, fs, io::Write, path::Path};

use flate2::{Compression, write::DeflateEncoder};

/// One file a group.
const FOLDER: &str = "src/descriptions";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let mut files = fs::read_dir(FOLDER)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    files.sort();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    for file in files {
        encoder.write_all(&fs::read(file)?)?;
    }
    let path = Path::new(&env::var("OUT_DIR")?).join("descriptions.deflate");
    fs::write(path, encoder.finish()?)?;
    Ok(())
}

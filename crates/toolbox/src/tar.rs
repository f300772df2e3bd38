//! `tar`, as `kubectl cp` calls it: `tar cf - PATH` and `tar xmf - -C DIR`.
//! The format is POSIX ustar with GNU's and pax's long names; nothing is
//! written outside the target directory.

mod header;

use crate::args::Args;
use header::{BLOCK, Entry, Kind};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

struct Options {
    action: char,
    file: Option<PathBuf>,
    directory: Option<PathBuf>,
    keep_times: bool,
    verbose: bool,
    paths: Vec<PathBuf>,
}

pub(crate) fn tar(args: Args) -> Result<u8, String> {
    let options = parse(args.rest())?;
    if let Some(directory) = &options.directory {
        std::env::set_current_dir(directory)
            .map_err(|e| format!("{}: {e}", directory.display()))?;
    }
    let failed = |e: io::Error| e.to_string();
    let open = |path: &PathBuf| File::open(path).map_err(|e| format!("{}: {e}", path.display()));
    match (options.action, &options.file) {
        ('c', None) => create(&options, &mut io::stdout().lock()).map_err(failed)?,
        ('c', Some(path)) => {
            let mut file = File::create(path).map_err(failed)?;
            create(&options, &mut file).map_err(failed)?;
        }
        (_, None) => read(&options, &mut io::stdin().lock()).map_err(failed)?,
        (_, Some(path)) => read(&options, &mut io::BufReader::new(open(path)?)).map_err(failed)?,
    }
    Ok(0)
}

/// The first word may be a bundle without a dash; long options that change only
/// owners and modes are accepted, since neither is kept here anyway.
fn parse(words: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        action: ' ',
        file: None,
        directory: None,
        keep_times: true,
        verbose: false,
        paths: Vec::new(),
    };
    let mut words = words.into_iter().enumerate();
    while let Some((at, word)) = words.next() {
        let bundle = match word.strip_prefix("--") {
            Some("no-same-permissions" | "no-same-owner" | "no-overwrite-dir") => continue,
            Some("") => {
                options.paths.extend(words.map(|(_, w)| PathBuf::from(w)));
                break;
            }
            Some(_) => return Err(format!("unknown option {word}")),
            None => match word.strip_prefix('-').filter(|b| !b.is_empty()) {
                Some(bundle) => bundle,
                None if at == 0 => word.as_str(),
                None => {
                    options.paths.push(word.into());
                    continue;
                }
            },
        };
        for letter in bundle.chars() {
            let mut value =
                || words.next().map(|(_, w)| w).ok_or(format!("-{letter} needs a value"));
            match letter {
                'c' | 'x' | 't' => options.action = letter,
                'f' => options.file = Some(value()?).filter(|f| f != "-").map(PathBuf::from),
                'C' => options.directory = Some(value()?.into()),
                'm' => options.keep_times = false,
                'v' => options.verbose = true,
                'p' | 'o' => {}
                _ => return Err(format!("unknown option -{letter}")),
            }
        }
    }
    if options.action == ' ' {
        return Err("one of c, x and t is needed".into());
    }
    Ok(options)
}

fn create(options: &Options, out: &mut impl Write) -> io::Result<()> {
    for path in &options.paths {
        append(path, options, out)?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()
}

fn append(path: &Path, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let meta = fs::symlink_metadata(path).map_err(at)?;
    let kind = meta.file_type();
    let mut name = stored_name(path);
    let (kind, size, target) = if kind.is_dir() {
        if !name.ends_with('/') {
            name.push('/');
        }
        (Kind::Directory, 0, String::new())
    } else if kind.is_symlink() {
        (Kind::Symlink, 0, fs::read_link(path).map_err(at)?.to_string_lossy().into_owned())
    } else if kind.is_file() {
        (Kind::File, meta.len(), String::new())
    } else {
        eprintln!("tar: {}: not a file, directory or symbolic link: left out", path.display());
        return Ok(());
    };
    if options.verbose {
        eprintln!("{name}");
    }
    let mode = meta.permissions().mode() & 0o7777;
    let (uid, gid) = (meta.uid(), meta.gid());
    let mtime = u64::try_from(meta.mtime()).unwrap_or(0);
    let entry = Entry { name, kind, size, target, mode, uid, gid, mtime };
    out.write_all(&entry.encode())?;
    match entry.kind {
        Kind::File => {
            let copied = io::copy(&mut File::open(path).map_err(at)?.take(size), out)?;
            // A file that shrank meanwhile still takes the room it announced.
            io::copy(&mut io::repeat(0).take(size - copied + header::padding(size)), out)?;
        }
        Kind::Directory => {
            let mut children: Vec<PathBuf> = fs::read_dir(path)
                .and_then(|d| d.map(|e| e.map(|e| e.path())).collect())
                .map_err(at)?;
            children.sort();
            for child in children {
                append(&child, options, out)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Without a leading slash, as every tar does.
fn stored_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    let name = text.trim_start_matches('/');
    if name.is_empty() { ".".into() } else { name.to_owned() }
}

fn read(options: &Options, input: &mut impl Read) -> io::Result<()> {
    while let Some(entry) = Entry::read(input)? {
        let skip = entry.size + header::padding(entry.size);
        if options.verbose || options.action == 't' {
            println!("{}", entry.name);
        }
        if options.action == 't' {
            copy_exactly(input, skip, &mut io::sink())?;
            continue;
        }
        extract(&entry, options, input)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", entry.name)))?;
    }
    // The writer must not see a broken pipe for its trailing blocks.
    io::copy(input, &mut io::sink())?;
    Ok(())
}

fn copy_exactly(input: &mut impl Read, size: u64, out: &mut impl Write) -> io::Result<()> {
    if io::copy(&mut input.take(size), out)? == size {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"))
    }
}

fn extract(entry: &Entry, options: &Options, input: &mut impl Read) -> io::Result<()> {
    let path = safe_path(&entry.name)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let existing = fs::symlink_metadata(&path).ok();
    if existing.as_ref().is_some_and(|m| !m.is_dir()) {
        fs::remove_file(&path)?;
    }
    match entry.kind {
        Kind::Directory if existing.is_some_and(|m| m.is_dir()) => return Ok(()),
        Kind::Directory => fs::create_dir_all(&path)?,
        Kind::File => {
            let mut file = File::create_new(&path)?;
            copy_exactly(input, entry.size, &mut file)?;
            copy_exactly(input, header::padding(entry.size), &mut io::sink())?;
            file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777))?;
            if options.keep_times {
                file.set_modified(UNIX_EPOCH + Duration::from_secs(entry.mtime))?;
            }
        }
        Kind::Symlink => std::os::unix::fs::symlink(&entry.target, &path)?,
        Kind::Link => fs::hard_link(safe_path(&entry.target)?, &path)?,
        Kind::Other(letter) => {
            eprintln!("tar: {}: entry type {letter:?} left out", entry.name);
            copy_exactly(input, entry.size + header::padding(entry.size), &mut io::sink())?;
        }
    }
    Ok(())
}

/// A relative path without `..` whose directories are no symbolic links: it
/// cannot leave the target directory.
fn safe_path(name: &str) -> io::Result<PathBuf> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut path = PathBuf::from(".");
    let mut parts = Path::new(name).components().peekable();
    while let Some(part) = parts.next() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => continue,
            _ => return Err(refuse("the name has a \"..\"")),
        }
        let link = fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_symlink());
        if link && parts.peek().is_some() {
            return Err(refuse("a directory in the name is a symbolic link"));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_calls_of_kubectl_cp() {
        for line in [
            "xmf - -C /tmp",
            "-xmf - -C /tmp",
            "--no-same-permissions --no-same-owner -xmf - -C /tmp",
        ] {
            let options = parse(words(line)).unwrap();
            assert_eq!((options.action, options.keep_times), ('x', false), "{line}");
            assert_eq!(options.directory, Some("/tmp".into()));
            assert!(options.file.is_none() && options.paths.is_empty());
        }
        let options = parse(words("cf - /etc/x")).unwrap();
        assert_eq!((options.action, options.paths), ('c', vec![PathBuf::from("/etc/x")]));
        assert!(parse(words("f -")).is_err() && parse(words("cz")).is_err());
    }

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        assert!(safe_path("../x").is_err() && safe_path("a/../../x").is_err());
        assert_eq!(safe_path("/etc/none-such").unwrap(), Path::new("./etc/none-such"));
    }
}

//! Programs about files and about who one is.

use crate::args::Args;
use nix::unistd::{getegid, geteuid, getgid, getgroups, getuid};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The pod's name: `HOSTNAME` as Kubernetes sets it, or the kernel's.
pub(crate) fn pod_name() -> String {
    std::env::var("HOSTNAME").ok().filter(|h| !h.is_empty()).unwrap_or_else(kernel_hostname)
}

fn kernel_hostname() -> String {
    nix::unistd::gethostname()
        .map(|h| h.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".into())
}

pub(crate) fn hostname(_: Args) -> Result<u8, String> {
    println!("{}", kernel_hostname());
    Ok(0)
}

pub(crate) fn cat(args: Args) -> Result<u8, String> {
    let mut out = io::stdout().lock();
    let mut paths = args.paths();
    if paths.is_empty() {
        paths.push("-".into());
    }
    for path in paths {
        let copied = if path == Path::new("-") {
            io::copy(&mut io::stdin().lock(), &mut out)
        } else {
            fs::File::open(&path).and_then(|mut f| io::copy(&mut f, &mut out))
        };
        copied.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    out.flush().map_err(|e| e.to_string())?;
    Ok(0)
}

pub(crate) fn echo(args: Args) -> Result<u8, String> {
    writeln!(io::stdout(), "{}", args.rest().join(" ")).map_err(|e| e.to_string())?;
    Ok(0)
}

pub(crate) fn env(_: Args) -> Result<u8, String> {
    let mut out = io::stdout().lock();
    out.write_all(environment().as_bytes()).map_err(|e| e.to_string())?;
    Ok(0)
}

/// `NAME=value` lines, in the order of their names.
pub(crate) fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(k, v)| format!("{}={}\n", k.to_string_lossy(), v.to_string_lossy()))
        .collect();
    lines.sort();
    lines.concat()
}

pub(crate) fn write(mut args: Args) -> Result<u8, String> {
    let mode: Option<String> = args.option("--mode")?;
    let mode = mode.map(|mode| u32::from_str_radix(&mode, 8).map_err(|e| format!("{mode}: {e}")));
    let mode = mode.transpose()?;
    let words = args.rest();
    let [path, text] = words.as_slice() else { return Err("expected FILE TEXT".into()) };
    let fail = |e: io::Error| format!("{path}: {e}");
    fs::write(path, format!("{text}\n")).map_err(fail)?;
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    Ok(0)
}

pub(crate) fn rm(args: Args) -> Result<u8, String> {
    let words = args.rest();
    if words.is_empty() {
        return Err("expected FILE".into());
    }
    for path in &words {
        fs::remove_file(path).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(0)
}

pub(crate) fn link(args: Args) -> Result<u8, String> {
    let words = args.rest();
    let [target, path] = words.as_slice() else { return Err("expected TARGET LINK".into()) };
    std::os::unix::fs::symlink(target, path).map_err(|e| format!("{path}: {e}"))?;
    Ok(0)
}

/// `kubectl cp` asks `test -d` before it copies.
pub(crate) fn test(args: Args) -> Result<u8, String> {
    let words = args.rest();
    let [check, path] = words.as_slice() else {
        return Err("expected -d, -e or -f and PATH".into());
    };
    let meta = fs::metadata(path);
    let holds = match check.as_str() {
        "-d" => meta.is_ok_and(|m| m.is_dir()),
        "-e" => meta.is_ok(),
        "-f" => meta.is_ok_and(|m| m.is_file()),
        _ => return Err(format!("unknown check {check}")),
    };
    Ok(u8::from(!holds))
}

pub(crate) fn id(_: Args) -> Result<u8, String> {
    let groups = getgroups().map_err(|e| e.to_string())?;
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    println!(
        "uid={} gid={} euid={} egid={} groups={}",
        getuid(),
        getgid(),
        geteuid(),
        getegid(),
        groups.join(",")
    );
    Ok(0)
}

pub(crate) fn ls(mut args: Args) -> Result<u8, String> {
    let both = args.switch("-la") | args.switch("-al");
    let long = args.switch("-l") || both;
    let all = args.switch("-a") || both;
    let itself = args.switch("-d");
    args.switch("-1");
    let mut paths = args.paths();
    if paths.is_empty() {
        paths.push(".".into());
    }
    let mut out = io::stdout().lock();
    for path in paths {
        let fail = |e: io::Error| format!("{}: {e}", path.display());
        let meta = fs::metadata(&path).or_else(|_| fs::symlink_metadata(&path)).map_err(fail)?;
        let mut entries: Vec<PathBuf> = if meta.is_dir() && !itself {
            fs::read_dir(&path)
                .and_then(|dir| dir.map(|e| e.map(|e| e.path())).collect())
                .map_err(fail)?
        } else {
            vec![path.clone()]
        };
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap_or(entry.as_os_str()).to_string_lossy();
            if !all && name.starts_with('.') && entry != path {
                continue;
            }
            let line = if long { long_line(&entry, &name)? } else { name.into_owned() };
            writeln!(out, "{line}").map_err(|e| e.to_string())?;
        }
    }
    Ok(0)
}

fn long_line(path: &Path, name: &str) -> Result<String, String> {
    let fail = |e: io::Error| format!("{}: {e}", path.display());
    let meta = fs::symlink_metadata(path).map_err(fail)?;
    let kind = meta.file_type();
    let (letter, target) = if kind.is_dir() {
        ('d', String::new())
    } else if kind.is_symlink() {
        ('l', format!(" -> {}", fs::read_link(path).map_err(fail)?.display()))
    } else if kind.is_block_device() {
        ('b', String::new())
    } else {
        ('-', String::new())
    };
    let mode = meta.permissions().mode() & 0o7777;
    Ok(format!(
        "{letter}{mode:04o} {:>5} {:>5} {:>9} {name}{target}",
        meta.uid(),
        meta.gid(),
        meta.len()
    ))
}

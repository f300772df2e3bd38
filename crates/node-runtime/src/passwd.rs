//! Users and groups of an image, read from its layers without mounting them and
//! without following a link out of them.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{
    error::{Error, Result},
    spec::User,
};

/// More than any sane user database; what lies beyond is not read.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Resolves an image's `USER` (`name`, `uid`, either with `:group` or `:gid`;
/// empty is root) against `/etc/passwd` and `/etc/group`, with supplementary
/// groups.
///
/// # Errors
/// When a name is not there, or the files cannot be read.
pub fn resolve(layers: &[PathBuf], user: &str) -> Result<User> {
    let passwd = read(layers, "etc/passwd")?;
    let group = read(layers, "etc/group")?;
    find(&passwd, &group, user).map_err(Error::InvalidSpec)
}

fn find(passwd: &str, group: &str, user: &str) -> std::result::Result<User, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 4 && (fields[0] == name || (number(name).is_some() && fields[2] == name))
    });
    let uid =
        entry.as_ref().and_then(|fields| number(fields[2])).or_else(|| number(name)).ok_or_else(
            || format!("unable to find user {name}: no matching entries in passwd file"),
        )?;
    let groups =
        || group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 3);
    let gid = match group_name {
        Some(wanted) => groups()
            .find(|fields| fields[0] == wanted)
            .and_then(|fields| number(fields[2]))
            .or_else(|| number(wanted))
            .ok_or_else(|| {
                format!("unable to find group {wanted}: no matching entries in group file")
            })?,
        None => entry.as_ref().and_then(|fields| number(fields[3])).unwrap_or(0),
    };
    let login = entry.as_ref().map(|fields| fields[0]);
    let supplementary = groups()
        .filter(|fields| {
            fields.get(3).is_some_and(|members| {
                login.is_some_and(|login| members.split(',').any(|member| member == login))
            })
        })
        .filter_map(|fields| number(fields[2]))
        .collect();
    Ok(User { uid, gid, groups: supplementary })
}

/// The home directory of a user, `/` without an entry.
pub(crate) fn home(layers: &[PathBuf], uid: u32) -> String {
    // A container without a readable user database still runs.
    let passwd = read(layers, "etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && number(fields[2]) == Some(uid))
        .map_or_else(|| "/".to_owned(), |fields| fields[5].to_owned())
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// A file of the image: that of the top-most layer which has it; empty where
/// none does.
fn read(layers: &[PathBuf], path: &str) -> Result<String> {
    for layer in layers {
        match open(layer, path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(FILE_LEN_MAX)
                    .read_to_end(&mut bytes)
                    .map_err(Error::io(format!("read /{path} of the image")))?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("read /{path} of the image"))(error)),
        }
    }
    Ok(String::new())
}

fn open(layer: &Path, path: &str) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(layer, flags, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?);
    // A whiteout (a character device 0/0) or a pipe is no user database.
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nextra:x:50:other,www\n";

    #[track_caller]
    fn check(user: &str, expect: std::result::Result<(u32, u32, &[u32]), &str>) {
        let found = find(PASSWD, GROUP, user);
        match expect {
            Ok((uid, gid, groups)) => {
                assert_eq!(found, Ok(User { uid, gid, groups: groups.to_vec() }));
            }
            Err(text) => assert!(found.is_err_and(|e| e.contains(text))),
        }
    }

    #[test]
    fn users() {
        check("", Ok((0, 0, &[])));
        check("www", Ok((33, 34, &[50])));
        check("33", Ok((33, 34, &[50])));
        check("www:extra", Ok((33, 50, &[50])));
        check("1000", Ok((1000, 0, &[])));
        check("1000:1001", Ok((1000, 1001, &[])));
        check("nobody", Err("unable to find user nobody"));
        check("www:none", Err("unable to find group none"));
    }

    proptest::proptest! {
        #[test]
        fn outside_text_does_not_panic(passwd: String, group: String, user: String) {
            let _ = find(&passwd, &group, &user);
        }
    }
}

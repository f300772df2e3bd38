//! Whom an image's or a pod's user text means, by the image's own
//! `/etc/passwd` and `/etc/group`.

use node_runtime::spec::User;

/// Reads `""`, `uid`, `name`, each with an optional `:group` or `:gid`. A name
/// must be in `passwd`; a number need not be.
///
/// # Errors
/// What is unknown, in the words of container runtimes.
pub(super) fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, explicit_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let accounts = || passwd.lines().filter_map(Account::read);
    let account = match (user, user.parse::<u32>()) {
        ("", _) => accounts().find(|account| account.uid == 0),
        (_, Ok(uid)) => accounts().find(|account| account.uid == uid),
        (name, Err(_)) => {
            let found = accounts().find(|account| account.name == name);
            Some(found.ok_or_else(|| {
                format!("unable to find user {name}: no matching entries in passwd file")
            })?)
        }
    };
    let uid = account.as_ref().map(|account| account.uid).or(user.parse().ok()).unwrap_or(0);
    let gid = match explicit_group {
        None => account.as_ref().map_or(0, |account| account.gid),
        Some(text) => match text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group_members(group)
                .find(|(name, ..)| *name == text)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| {
                    format!("unable to find group {text}: no matching entries in group file")
                })?,
        },
    };
    // As with runc, an explicit group takes the place of the account's others.
    let groups = match (&account, explicit_group) {
        (Some(account), None) => group_members(group)
            .filter(|(_, _, members)| members.split(',').any(|member| member == account.name))
            .map(|(_, gid, _)| gid)
            .collect(),
        _ => Vec::new(),
    };
    Ok(User { uid, gid, groups })
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl<'a> Account<'a> {
    /// A line of passwd(5); others are passed over.
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

/// The lines of group(5): name, number, members.
fn group_members(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:\nbroken\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nvideo:x:44:other,app\n";

    #[test]
    fn users_as_runtimes_read_them() {
        for (text, uid, gid, groups) in [
            ("", 0, 0, &[][..]),
            ("app", 1000, 1001, &[44][..]),
            ("1000", 1000, 1001, &[44][..]),
            ("app:video", 1000, 44, &[][..]),
            ("1000:7", 1000, 7, &[][..]),
            ("12345", 12345, 0, &[][..]),
        ] {
            let user = resolve(text, PASSWD, GROUP).expect(text);
            assert_eq!((user.uid, user.gid, user.groups.as_slice()), (uid, gid, groups), "{text}");
        }
        assert_eq!(resolve("", "", "").map(|user| user.uid), Ok(0), "an image without accounts");
        assert!(resolve("nobody", PASSWD, GROUP).expect_err("unknown").contains("nobody"));
        assert!(resolve("app:wheel", PASSWD, GROUP).expect_err("unknown").contains("wheel"));
    }
}

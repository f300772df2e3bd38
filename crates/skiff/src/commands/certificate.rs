//! `skiff certificate status|rotate|rotate-ca`; `check` is the former by another name

use std::{error::Error, fs, path::Path};

use jiff::Timestamp;
use pki::inspect;
use serde::Serialize;

use crate::{
    agent, columns,
    flags::{UsageError, Values},
    server::cluster_socket::{self, Answer, Ask},
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["status" | "check"] => check(&values, &data_dir, Timestamp::now()),
        ["rotate"] => rotate(&data_dir),
        ["rotate-ca", words @ ..] => super::certificate_authorities::run(&values, &data_dir, words),
        _ => Err(Box::new(UsageError("say `status`, `rotate` or `rotate-ca`".into()))),
    }
}

/// One certificate of this machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Below the data directory.
    file: String,
    subject: String,
    /// `CA`, `client`, `server`.
    usages: String,
    expires: String,
    /// Whole days, rounded down.
    days_left: i64,
    /// `ok`, or what is wrong.
    status: String,
}

fn rows(data_dir: &Path, now: Timestamp) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for folder in ["server/tls", "agent"] {
        let folder_path = data_dir.join(folder);
        let entries = match fs::read_dir(&folder_path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(format!("{}: {error}; run this as root", folder_path.display()).into());
            }
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "crt") {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            rows.push(row(format!("{folder}/{name}"), &text, now));
        }
    }
    rows.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(rows)
}

fn row(file: String, pem: &str, now: Timestamp) -> Row {
    let found = match inspect::describe(pem) {
        Ok(found) => found,
        Err(why) => {
            let (subject, usages, expires) = Default::default();
            return Row { file, subject, usages, expires, days_left: 0, status: why };
        }
    };
    let status = match (found.not_after <= now, found.is_ca, found.due <= now) {
        (true, true, _) => "expired: the cluster needs a new CA (skiff certificate rotate-ca)",
        (true, false, _) if file.starts_with("agent/") => {
            "expired: start the agent once with --server and --token"
        }
        (true, false, _) => "expired: a start, or `skiff certificate rotate`, makes another",
        (false, true, true) => "ends soon: replace it with skiff certificate rotate-ca",
        (false, false, true) => "due: it is renewed while its server or agent runs",
        (false, _, false) => "ok",
    };
    Row {
        file,
        subject: found.common_name,
        usages: match found.is_ca {
            true => "CA".into(),
            false => found.usages.join(","),
        },
        expires: api_object::time::format_seconds(found.not_after),
        days_left: found.not_after.duration_since(now).as_hours() / 24,
        status: status.into(),
    }
}

/// Prints all; an error where one has expired or is unreadable, so that a script
/// can tell.
fn check(values: &Values, data_dir: &Path, now: Timestamp) -> Result<(), Box<dyn Error>> {
    let rows = rows(data_dir, now)?;
    if rows.is_empty() {
        return Err(nobody(data_dir).into());
    }
    match super::wants_json(values)? {
        false => print!("{}", table(&rows)),
        true => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    let bad = |row: &&Row| row.expires.is_empty() || row.status.starts_with("expired");
    match rows.iter().filter(bad).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} certificates are of no use", rows.len()).into()),
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["FILE", "SUBJECT", "USAGES", "EXPIRES", "DAYS", "STATUS"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.file.clone(),
            row.subject.clone(),
            row.usages.clone(),
            row.expires.clone(),
            row.days_left.to_string(),
            row.status.clone(),
        ]
    }));
    columns::lay_out(&lines)
}

fn nobody(data_dir: &Path) -> String {
    format!(
        "no certificate is in {}: neither a server nor an agent has run with it; give the \
         --data-dir that they have",
        data_dir.display()
    )
}

/// A running server does it itself; an agent's are asked for here, and its
/// connections to come find them.
fn rotate(data_dir: &Path) -> Result<(), Box<dyn Error>> {
    let server = data_dir.join("server/tls").exists();
    if server {
        match cluster_socket::ask(data_dir, &Ask::RotateCertificates) {
            Ok(Answer::Rotated(files)) => println!("rotated: {}", files.join(", ")),
            Ok(Answer::Failed(why)) => return Err(why.into()),
            Ok(other) => return Err(format!("an answer to something else: {other:?}").into()),
            Err(error) => return Err(cluster_socket::unanswered(data_dir, &error).into()),
        }
        return Ok(());
    }
    if !data_dir.join("agent").exists() {
        return Err(nobody(data_dir).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files =
        runtime.block_on(agent::rotate(data_dir)).map_err(|error| -> Box<dyn Error> { error })?;
    println!("rotated: {}", files.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_certificates_are_listed_with_what_is_wrong() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let dir = tempfile::tempdir().expect("a folder");
        let names = pki::Names { node_name: "pi".into(), ..pki::Names::default() };
        pki::Pki::open(&pki::directory(dir.path()), &names, now).expect("made");
        let all = rows(dir.path(), now).expect("readable");
        assert!(all.iter().all(|row| row.status == "ok"), "{all:?}");
        let peer = all.iter().find(|row| row.file == "server/tls/peer.crt").expect("listed");
        assert_eq!((peer.subject.as_str(), peer.usages.as_str()), ("pi", "client,server"));
        assert_eq!(peer.days_left, 365);
        for (time, status) in [("2026-11-01T00:00:00Z", "due"), ("2027-02-01T00:00:00Z", "expired")]
        {
            let later = rows(dir.path(), time.parse().expect("a time")).expect("readable");
            let peer = later.iter().find(|row| row.file == "server/tls/peer.crt").expect("listed");
            assert!(peer.status.starts_with(status), "{peer:?}");
            let ca = later.iter().find(|row| row.usages == "CA").expect("listed");
            assert_eq!(ca.status, "ok");
        }
        fs::write(pki::directory(dir.path()).join("peer.crt"), "junk").expect("written");
        let spoilt = rows(dir.path(), now).expect("readable");
        assert!(spoilt.iter().any(|row| row.status.contains("no certificate in PEM form")));
    }
}

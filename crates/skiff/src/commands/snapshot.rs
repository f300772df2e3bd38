//! `skiff snapshot save|list|delete|restore|key`

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use pki::snapshot_key::SnapshotKey;
use store_raft::backup;

use crate::{
    columns, config,
    flags::{UsageError, Values},
    server::{
        cluster_socket::{self, Answer, Ask},
        snapshots::{self, Row},
    },
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["save"] => save(&values, &data_dir),
        ["list" | "ls"] => {
            let dir = dir(&values, &data_dir)?;
            // The server's own is made with the first snapshot; one that was typed is there.
            if !dir.is_dir() && dir != servers_dir(&data_dir) {
                let text = format!("--snapshot-dir: there is no folder {}", dir.display());
                return Err(Box::new(UsageError(text)));
            }
            list(&values, &dir)
        }
        ["delete" | "rm", names @ ..] if !names.is_empty() => {
            delete(&dir(&values, &data_dir)?, names)
        }
        ["restore", file] => restore(&values, &data_dir, &std::path::absolute(file)?),
        ["key"] => match SnapshotKey::of(&pki::directory(&data_dir))? {
            Some(key) => {
                println!("{key}");
                Ok(())
            }
            None => Err(format!(
                "no server has ever run with --data-dir {}: run this on a server of the \
                     cluster",
                data_dir.display()
            )
            .into()),
        },
        _ => {
            let words = "say `save`, `list`, `delete NAME…`, `restore FILE` or `key`";
            Err(Box::new(UsageError(words.into())))
        }
    }
}

/// Where snapshots are: as told, else where the running server keeps them.
fn dir(values: &Values, data_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    if let Some(dir) = values.one("snapshot-dir") {
        return Ok(std::path::absolute(dir)?);
    }
    Ok(servers_dir(data_dir))
}

/// Where the server of a data directory keeps them, as far as it can be asked.
fn servers_dir(data_dir: &Path) -> PathBuf {
    match cluster_socket::ask(data_dir, &Ask::SnapshotDir) {
        Ok(Answer::SnapshotDir(dir)) => dir,
        _ => config::snapshot_dir(data_dir),
    }
}

fn save(values: &Values, data_dir: &Path) -> Result<(), Box<dyn Error>> {
    let name = values.one("name").unwrap_or_default().to_owned();
    let dir = values.one("snapshot-dir").map(std::path::absolute).transpose()?;
    if !config::is_snapshot_name(&name) {
        let text = format!("--name: \"{name}\" is not a name of letters, digits, - and .");
        return Err(Box::new(UsageError(text)));
    }
    let answer = cluster_socket::ask(data_dir, &Ask::Save { name, dir });
    match answer.map_err(|error| cluster_socket::unanswered(data_dir, &error))? {
        Answer::Saved(row) => {
            println!(
                "saved {} objects to {}\nit is sealed; to restore it elsewhere, keep apart from it \
                 what `skiff snapshot key` prints",
                row.objects,
                row.path.display()
            );
            Ok(())
        }
        Answer::Failed(why) => Err(why.into()),
        other => Err(format!("an answer to something else: {other:?}").into()),
    }
}

fn list(values: &Values, dir: &Path) -> Result<(), Box<dyn Error>> {
    let (rows, faults) =
        snapshots::list(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    match super::wants_json(values)? {
        false => print!("{}", table(&rows)),
        true => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    match faults.is_empty() {
        true => Ok(()),
        false => {
            Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ").into())
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![["NAME", "SIZE", "CREATED", "SERVER", "REVISION", "OBJECTS"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.clone(),
            row.size_bytes.to_string(),
            row.created.clone(),
            row.server.clone(),
            row.revision.to_string(),
            row.objects.to_string(),
        ]
    }));
    columns::lay_out(&lines)
}

/// All names are looked for before the first is deleted.
fn delete(dir: &Path, names: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut paths = Vec::new();
    for name in names {
        let path = dir.join(name);
        if !config::is_snapshot_name(name) || !path.exists() {
            return Err(format!(
                "there is no snapshot \"{name}\" in {}; `skiff snapshot list` shows them",
                dir.display()
            )
            .into());
        }
        if let Err(backup::BackupError::Foreign(path)) = backup::read_head(&path) {
            return Err(format!("{} is no snapshot; it stays", path.display()).into());
        }
        paths.push(path);
    }
    for path in paths {
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("deleted {}", path.display());
    }
    Ok(())
}

fn restore(values: &Values, data_dir: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let key = values.one("snapshot-key").map(str::parse::<SnapshotKey>).transpose();
    let key = key.map_err(|error| UsageError(format!("--snapshot-key: {error}")))?;
    crate::node::preflight::data_dir(data_dir)?;
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let done = snapshots::restore(file, key, data_dir, &name)
        .map_err(|error| -> Box<dyn Error> { error })?;
    println!("restored {} objects into {}", done.head.keys, data_dir.display());
    let mut line = "skiff server".to_owned();
    for label in &done.head.labels {
        if values_differ(&label.name, &label.value) {
            let _ = write!(line, " --{} {}", label.name, label.value);
        }
    }
    println!(
        "start it with `{line}` and the flags of this machine. It is a cluster of its own now: \
         other servers join it anew, each with its data directory removed; agents go on where \
         their servers' address is the same, and otherwise start once with --server. Nodes that \
         are gone are deleted with `kubectl delete node NAME`."
    );
    if let Some(before) = done.before {
        println!("the state of before is in {}: remove it when all is well", before.display());
    }
    Ok(())
}

/// Whether a server must be told so, since it is not what it does by itself.
fn values_differ(flag: &str, value: &str) -> bool {
    Values::default().one(flag) != Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_default_is_told() {
        assert!(!values_differ("cluster-domain", "cluster.local"));
        assert!(values_differ("cluster-domain", "home.arpa"));
        // Of a newer server: its own start says what it thinks of it.
        assert!(values_differ("not-known", "x"));
    }

    #[test]
    fn nothing_but_snapshots_is_deleted() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        fs::write(dir.path().join("notes.txt"), "mine, and long enough").expect("written");
        let refused = delete(dir.path(), &["notes.txt"]).expect_err("no snapshot");
        assert!(refused.to_string().contains("it stays"), "{refused}");
        for name in ["../x", "nothing"] {
            let refused = delete(dir.path(), &[name]).expect_err("not there");
            assert!(refused.to_string().contains("there is no snapshot"), "{refused}");
        }
        assert!(dir.path().join("notes.txt").exists());
        let (rows, faults) = snapshots::list(dir.path()).expect("readable");
        assert!(rows.is_empty() && faults.is_empty());
    }
}

//! Snapshots of the cluster's state: taken on demand and by schedule, kept in a
//! folder, and what a cluster begins with elsewhere.
//!
//! A snapshot holds the state, the CAs with their keys and the keys that sign
//! tokens, all sealed with the cluster's snapshot key (see `pki::snapshot_key`).
//! Whoever restores it needs that key, which is why it is printed apart and is
//! in no snapshot.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use api_kinds::cron::Schedule;
use client::Ambient;
use jiff::tz::TimeZone;
use pki::snapshot_key::SnapshotKey;
use serde::{Deserialize, Serialize};
use store_raft::{
    OpenOptions, RaftStore,
    backup::{self, BackupHead, BackupKey, Beside},
};
use tracing::{error, info};

use crate::{
    StartError,
    commands::VERSION,
    config::{self, Config},
};

/// There while a restore has not finished: the folder is then no server's yet.
const MARK: &str = "server/restoring";

/// One snapshot, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    /// When it was taken, RFC 3339.
    pub(crate) created: String,
    pub(crate) revision: u64,
    pub(crate) objects: u64,
    /// Which server took it.
    pub(crate) server: String,
    pub(crate) version: String,
    /// Of the cluster's ID, hexadecimal.
    pub(crate) cluster: String,
}

/// Takes snapshots of a running server.
pub(crate) struct Snapshots {
    settings: config::Snapshots,
    store: Arc<RaftStore>,
    keys_dir: PathBuf,
    node_name: String,
    /// What the servers of the cluster were told, for who restores it.
    told: BTreeMap<String, String>,
    /// One at a time.
    taking: tokio::sync::Mutex<()>,
}

impl Snapshots {
    pub(super) fn new(config: &Config, store: Arc<RaftStore>) -> Arc<Self> {
        Arc::new(Self {
            settings: config.snapshots.clone(),
            store,
            keys_dir: pki::directory(&config.machine.data_dir),
            node_name: config.machine.node_name.clone(),
            told: config.cluster.tell(),
            taking: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// Takes one: everything that was acknowledged before the call is in it.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub(super) async fn save(&self, name: &str, dir: Option<&Path>) -> Result<Row, String> {
        if !config::is_snapshot_name(name) {
            return Err(format!("\"{name}\" is not a name of letters, digits, - and ."));
        }
        let _one = self.taking.lock().await;
        let dir = dir.unwrap_or(&self.settings.dir);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| format!("{}: {error}", dir.display()))?;
        let key = SnapshotKey::of(&self.keys_dir).map_err(|error| error.to_string())?;
        let key = key.ok_or_else(|| format!("{} has no CA", self.keys_dir.display()))?;
        let files = pki::shared::export(&self.keys_dir).map_err(|error| error.to_string())?;
        let now = jiff::Timestamp::now().as_second();
        let beside = Beside {
            time: now,
            labels: self.told.clone().into_iter().collect(),
            files: files.into_iter().map(|(name, text)| (name, text.into())).collect(),
        };
        let name = format!("{name}-{}-{now}", self.node_name);
        let key = BackupKey::new(key.bytes());
        let head = self.store.back_up(dir, &name, &key, beside).await;
        let head = head.map_err(|error| error.to_string())?;
        row(dir, &name, &head).map_err(|error| format!("{}: {error}", dir.join(&name).display()))
    }

    /// Takes snapshots by the schedule until dropped.
    pub(super) async fn run(self: Arc<Self>, zone: TimeZone, ambient: Ambient) {
        let schedule = self.settings.schedule.as_deref().map(Schedule::parse);
        // The configuration was checked.
        let Some(Ok(schedule)) = schedule else { return };
        let zone = schedule.zone.clone().unwrap_or(zone);
        loop {
            let Some(due) = schedule.next(ambient.now(), &zone) else { return };
            let mut sets = ambient.clock_sets();
            tokio::select! {
                biased;
                () = ambient.sleep_until(due) => self.take_scheduled().await,
                // Set back, another moment may come before that one.
                () = sets.next() => {}
            }
        }
    }

    /// Takes one unless the newest is of the same state, so that a cluster where
    /// nothing is written writes nothing here either; then lets the oldest go.
    async fn take_scheduled(&self) {
        let (dir, prefix) = (&self.settings.dir, self.prefix());
        let newest = scheduled(dir, &prefix).into_iter().next_back();
        if newest.is_some_and(|(head, _)| self.store.is_in(&head)) {
            return;
        }
        match self.save(&self.settings.name, None).await {
            Ok(row) => info!(path = %row.path.display(), objects = row.objects, "took a snapshot"),
            Err(error) => {
                return error!(error, "no snapshot could be taken; the next is due as scheduled");
            }
        }
        let all = scheduled(dir, &prefix);
        let old = &all[..all.len().saturating_sub(self.settings.retention)];
        // What a crash left half is of no use either; only this task writes such.
        for path in old.iter().map(|(_, path)| path.clone()).chain(halves(dir, &prefix)) {
            match fs::remove_file(&path) {
                Ok(()) => info!(path = %path.display(), "removed an old snapshot"),
                Err(error) => error!(%error, path = %path.display(), "an old snapshot stays"),
            }
        }
    }

    /// What the names of this server's scheduled snapshots begin with.
    fn prefix(&self) -> String {
        format!("{}-{}-", self.settings.name, self.node_name)
    }
}

/// Those by one prefix and a time, oldest first.
fn scheduled(dir: &Path, prefix: &str) -> Vec<(BackupHead, PathBuf)> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = names.filter(|entry| {
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(prefix));
        time.is_some_and(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let mut found: Vec<_> = ours
        .filter_map(|entry| Some((backup::read_head(&entry.path()).ok()?, entry.path())))
        .collect();
    found.sort_by_key(|(head, _)| head.time);
    found
}

/// What was not finished of those.
fn halves(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix('.'));
        name.is_some_and(|name| name.starts_with(prefix) && name.ends_with(".partial"))
    });
    ours.map(|entry| entry.path()).collect()
}

fn row(dir: &Path, name: &str, head: &BackupHead) -> io::Result<Row> {
    let path = dir.join(name);
    let created = jiff::Timestamp::from_second(head.time).unwrap_or_default();
    Ok(Row {
        name: name.to_owned(),
        size_bytes: fs::metadata(&path)?.len(),
        path,
        created: api_object::time::format_seconds(created),
        revision: head.revision,
        objects: head.keys,
        server: head.server.clone(),
        version: head.version.clone(),
        cluster: head.cluster_id.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Every snapshot in a folder, oldest first, and what is wrong with files that
/// look like one; anything else there is not ours.
///
/// # Errors
/// Where the folder cannot be read. One that is not there is empty.
pub(crate) fn list(dir: &Path) -> io::Result<(Vec<Row>, Vec<backup::BackupError>)> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry.file_name();
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        // The schedule may finish one, or let one go, between the look at the folder and
        // the look at the file.
        match backup::read_head(&entry.path()) {
            Ok(head) => match row(dir, &name.to_string_lossy(), &head) {
                Err(error) if gone(&error) => {}
                row => rows.push(row?),
            },
            Err(backup::BackupError::Foreign(_)) => {}
            Err(backup::BackupError::Io { error, .. }) if gone(&error) => {}
            Err(fault) => faults.push(fault),
        }
    }
    rows.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    Ok((rows, faults))
}

/// What came of a restore.
pub(crate) struct Restored {
    pub(crate) head: BackupHead,
    pub(crate) before: Option<PathBuf>,
}

/// Makes a snapshot the state of a data directory that no server uses: an empty
/// one, or one of the snapshot's cluster.
///
/// # Errors
/// Why not, and what to do. Nothing was changed.
pub(crate) fn restore(
    file: &Path,
    key: Option<SnapshotKey>,
    data_dir: &Path,
    node_name: &str,
) -> Result<Restored, StartError> {
    let keys_dir = pki::directory(data_dir);
    let own = SnapshotKey::of(&keys_dir)?;
    let key = key.or_else(|| own.clone()).ok_or(
        "the snapshot is sealed: give its key with --snapshot-key or SKIFF_SNAPSHOT_KEY; a \
         server of its cluster prints it with `skiff snapshot key`",
    )?;
    let backup = backup::read(file, &BackupKey::new(key.bytes()))?;
    let mark = data_dir.join(MARK);
    if own.is_some_and(|own| own != key) && !mark.exists() {
        return Err(format!(
            "{} belongs to another cluster than the snapshot; restore into another --data-dir, \
             or remove that one",
            data_dir.display()
        )
        .into());
    }
    let db = data_dir.join("server/db");
    let running = db.exists().then(|| store_raft::lock(&db)).transpose();
    drop(running.map_err(|error| format!("{error}; stop it first"))?);
    let failed = |error: io::Error| format!("{}: {error}", mark.display());
    fs::create_dir_all(data_dir.join("server")).map_err(failed)?;
    fs::write(&mark, "").map_err(failed)?;
    let head = backup.head.clone();
    if !keys_dir.exists() || SnapshotKey::of(&keys_dir)? != Some(key) {
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec());
        let files = (backup.files.iter())
            .map(|(name, content)| Ok((name.clone(), text(content)?)))
            .collect::<Result<pki::shared::Shared, std::string::FromUtf8Error>>()?;
        pki::shared::import(&keys_dir, &files)?;
    }
    let options =
        OpenOptions { name: node_name.to_owned(), version: VERSION.into(), ..OpenOptions::new(db) };
    let done = backup::restore(&options, backup)?;
    fs::remove_file(&mark).map_err(failed)?;
    Ok(Restored { head, before: done.before })
}

/// A server does not start on a folder that is half restored.
///
/// # Errors
/// Where it is.
pub(super) fn no_half_restore(data_dir: &Path) -> Result<(), StartError> {
    let mark = data_dir.join(MARK);
    match mark.exists() {
        false => Ok(()),
        true => Err(format!(
            "{}: a restore was begun here and has not finished: run `skiff snapshot restore` \
             again, or remove {} to begin anew",
            mark.display(),
            data_dir.join("server").display()
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which the schedule does while somebody looks.
    #[test]
    fn files_may_come_and_go_while_they_are_listed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (half, whole) = (dir.path().join(".snapshot.partial"), dir.path().join("snapshot"));
        let schedule = std::thread::spawn(move || {
            for _ in 0..2000 {
                fs::write(&half, [1; 16]).expect("a file of ours");
                fs::rename(&half, &whole).expect("a file of ours");
                fs::remove_file(&whole).expect("a file of ours");
            }
        });
        while !schedule.is_finished() {
            let (rows, faults) = list(dir.path()).expect("a folder");
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!((rows.len(), faults), (0, Vec::new()));
        }
        schedule.join().expect("it ended well");
    }
}

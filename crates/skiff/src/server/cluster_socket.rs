//! How `skiff cluster`, `snapshot` and `certificate` reach a running server: a unix socket in the data
//! directory, for root only, since what it does must work without a leader and
//! without the API. One line of JSON each way.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use client::Api;
use serde::{Deserialize, Serialize};
use store_raft::{Member, RaftStore};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tracing::warn;

use super::{
    certificates::Certificates,
    join,
    snapshots::{self, Snapshots},
};
use crate::status::without_majority;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ask {
    /// Every server and where it stands.
    Status,
    /// Remove the server of that name.
    Remove(String),
    /// Take a snapshot whose name begins so, in that folder or where this server
    /// keeps them.
    Save { name: String, dir: Option<PathBuf> },
    /// Where this server keeps snapshots.
    SnapshotDir,
    /// Make all certificates of this server anew.
    RotateCertificates,
}

/// What the server says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Status(Vec<Row>),
    /// It is a server no more, and the tokens with these IDs went with it, or why not.
    Removed(Result<Vec<String>, String>),
    Saved(snapshots::Row),
    SnapshotDir(PathBuf),
    /// File names without extension.
    Rotated(Vec<String>),
    Failed(String),
}

/// One server of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) name: String,
    /// `leader`, `voter` or `learner`.
    pub(crate) role: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) term: u64,
    pub(crate) last_log_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) snapshot_index: u64,
    pub(crate) revision: u64,
    /// `ok`, or what is wrong.
    pub(crate) health: String,
    /// The server's ID, hexadecimal.
    pub(crate) id: String,
}

impl Row {
    /// Whether it counts towards the majority.
    pub(crate) fn is_voter(&self) -> bool {
        self.role != "learner"
    }

    /// Whether it was not reached: one that is behind, or has a fault, has a position.
    pub(crate) fn is_away(&self) -> bool {
        self.term == 0 && self.health != "ok"
    }
}

/// Where the socket of a data directory is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("server/cluster.sock")
}

/// Serves the socket until the task is aborted.
pub(super) fn serve(
    data_dir: &Path,
    store: Arc<RaftStore>,
    snapshots: Arc<Snapshots>,
    certificates: Arc<Certificates>,
    api: Api,
) -> io::Result<JoinHandle<()>> {
    let path = path(data_dir);
    // A killed server leaves its socket behind; the data directory is locked.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (store, snapshots) = (store.clone(), snapshots.clone());
                    let (certificates, api) = (certificates.clone(), api.clone());
                    tokio::spawn(async move {
                        if let Err(error) =
                            serve_one(stream, &store, &snapshots, certificates, &api).await
                        {
                            warn!(%error, "a client of the cluster socket went away");
                        }
                    });
                }
                Err(error) => return warn!(%error, "`skiff cluster` does not work any more"),
            }
        }
    }))
}

async fn serve_one(
    mut stream: UnixStream,
    store: &RaftStore,
    snapshots: &Snapshots,
    certificates: Arc<Certificates>,
    api: &Api,
) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Ask::Status) => Answer::Status(rows(&store.members().await)),
        Ok(Ask::Remove(name)) => match store.remove(&name).await {
            Ok(()) => {
                let revoked = join::revoke_token(api, &name).await;
                Answer::Removed(revoked.map_err(|error| error.to_string()))
            }
            Err(error) => Answer::Failed(error.to_string()),
        },
        Ok(Ask::Save { name, dir }) => match snapshots.save(&name, dir.as_deref()).await {
            Ok(row) => Answer::Saved(row),
            Err(error) => Answer::Failed(error),
        },
        Ok(Ask::RotateCertificates) => match certificates.rotate().await {
            Ok(files) => Answer::Rotated(files),
            Err(error) => Answer::Failed(error),
        },
        Ok(Ask::SnapshotDir) => Answer::SnapshotDir(snapshots.dir().to_owned()),
        Err(error) => Answer::Failed(format!(
            "the server that runs does not know what is asked ({error}): it is of another version \
             than this command; restart it"
        )),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

/// Nobody leads without a majority, though the last leader may not have noticed yet.
fn rows(members: &[Member]) -> Vec<Row> {
    let mut rows: Vec<Row> = members.iter().map(row).collect();
    if without_majority(&rows).is_some() {
        let leads = rows.iter_mut().filter(|row| row.role == "leader");
        leads.for_each(|row| row.role = "voter".into());
    }
    rows
}

fn row(member: &Member) -> Row {
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let (position, health) = match &member.position {
        Ok(position) if position.fault.is_empty() => (position.clone(), "ok".to_owned()),
        Ok(position) => (position.clone(), position.fault.clone()),
        Err(why) => (Default::default(), format!("unreachable: {why}")),
    };
    Row {
        name: member.name.clone(),
        role: role.into(),
        address: member.address.clone(),
        version: member.version.clone(),
        term: position.term,
        last_log_index: position.last_log,
        applied_index: position.applied,
        snapshot_index: position.snapshot,
        revision: position.revision,
        health,
        id: format!("{:013x}", member.id),
    }
}

/// Asks the server of a data directory.
///
/// # Errors
/// Where none runs, or it does not answer.
pub(crate) fn ask(data_dir: &Path, ask: &Ask) -> io::Result<Answer> {
    use std::io::{BufRead as _, Write as _};
    let stream = std::os::unix::net::UnixStream::connect(path(data_dir))?;
    let mut text = serde_json::to_vec(ask)?;
    text.push(b'\n');
    (&stream).write_all(&text)?;
    let mut line = String::new();
    if io::BufReader::new(&stream).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// What it means that [`ask`] failed, and what to do, for whoever typed a command.
pub(crate) fn unanswered(data_dir: &Path, error: &io::Error) -> String {
    let has = |folder: &str| data_dir.join(folder).exists();
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => "only root may ask: run this with sudo",
        io::ErrorKind::UnexpectedEof => {
            "the server ended before it answered: look at its log, start it, and say this again"
        }
        io::ErrorKind::NotFound if has("server/db") => {
            "the server of this machine does not run: start it"
        }
        io::ErrorKind::NotFound if has("agent") => "this machine is an agent: run this on a server",
        io::ErrorKind::NotFound => {
            "no server has run here: run this on a server, with the --data-dir that it has"
        }
        io::ErrorKind::ConnectionRefused => "the server of this machine does not run: start it",
        io::ErrorKind::InvalidData => {
            "the server that runs is of another version than this command: restart it"
        }
        _ => "does the server of this machine run?",
    };
    format!("{}: {error}; {what}", path(data_dir).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leads_without_a_majority() {
        let member = |name: &str, leader, answers: bool| Member {
            id: 1,
            name: name.into(),
            address: "192.0.2.1:6443".into(),
            voter: true,
            leader,
            version: String::new(),
            position: match answers {
                true => Ok(store_raft::Position { term: 3, ..Default::default() }),
                false => Err("gone".into()),
            },
        };
        let roles = |answer: [bool; 3]| {
            let members = [("a", true, 0), ("b", false, 1), ("c", false, 2)]
                .map(|(name, leader, index)| member(name, leader, answer[index]));
            rows(&members).into_iter().map(|row| row.role).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(roles([true, true, false]), "leader voter voter");
        assert_eq!(roles([true, false, false]), "voter voter voter");
        // Seen from another: it may be cut off from this one alone.
        assert_eq!(roles([false, true, true]), "leader voter voter");
    }

    #[test]
    fn who_does_not_answer_is_told_apart() {
        let dir = tempfile::tempdir().expect("a folder");
        let asked = |what: &str| {
            let error = ask(dir.path(), &Ask::Status).expect_err(what);
            let told = unanswered(dir.path(), &error);
            assert!(told.contains(what), "{told}");
        };
        asked("no server has run here");
        std::fs::create_dir(dir.path().join("agent")).expect("made");
        asked("run this on a server");
        std::fs::create_dir_all(dir.path().join("server/db")).expect("made");
        asked("does not run: start it");
        let listener = std::os::unix::net::UnixListener::bind(path(dir.path())).expect("bound");
        let answers = |what: &'static [u8]| {
            let listener = listener.try_clone().expect("a descriptor");
            std::thread::spawn(move || {
                use std::io::{BufRead as _, Write as _};
                let (stream, _) = listener.accept().expect("somebody asks");
                io::BufReader::new(&stream).read_line(&mut String::new()).expect("a question");
                (&stream).write_all(what).expect("it listens");
            })
        };
        let answering = answers(b"");
        asked("ended before it answered");
        answering.join().expect("answered");
        let answering = answers(b"{\"unheardOf\":1}\n");
        asked("of another version");
        answering.join().expect("answered");
        // As a server leaves it that was killed.
        drop(listener);
        asked("does not run: start it");
    }
}

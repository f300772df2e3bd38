//! `kubectl cp`: a tar through `exec`, made and read here.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    websocket::{self, REMOTE},
};

use super::{exec, pods};

pub(super) static FLAGS: &[Flag] = &[
    value("container", "NAME", "Container name").short('c'),
    switch(
        "no-preserve",
        "The copied file/directory's ownership and permissions will not be preserved",
    ),
    value("retries", "N", "Taken for compatibility: a copy that breaks is not taken up again")
        .or("0"),
];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// What is sent at once.
const PIECE_BYTES: usize = 32 * 1024;

/// A file here, or in a pod.
#[derive(Debug, PartialEq)]
enum Place {
    Here(PathBuf),
    /// Namespace, which may be empty, pod and path.
    There(String, String, String),
}

/// `[[NAMESPACE/]POD:]PATH`; a path that is there with a colon is one.
fn place(text: &str) -> Result<Place, String> {
    match text.split_once(':') {
        _ if Path::new(text).exists() => Ok(Place::Here(text.into())),
        None => Ok(Place::Here(text.into())),
        Some((pod, path)) => {
            if pod.is_empty() {
                return Err(format!(
                    "filespec must match the canonical format: [[namespace/]pod:]file/path: {text}"
                ));
            }
            let (namespace, pod) = pod.split_once('/').unwrap_or(("", pod));
            Ok(Place::There(namespace.to_owned(), pod.to_owned(), path.to_owned()))
        }
    }
}

pub(super) async fn run(session: &Session) -> Outcome {
    let [from, to] = session.flags.words.as_slice() else {
        return failed("source and destination are required");
    };
    match (place(from).map_err(Failure::Message)?, place(to).map_err(Failure::Message)?) {
        (Place::Here(from), Place::There(namespace, pod, to)) => {
            up(session, &from, &namespace, &pod, &to).await
        }
        (Place::There(namespace, pod, from), Place::Here(to)) => {
            down(session, &namespace, &pod, &from, &to).await
        }
        (Place::Here(_), Place::Here(_)) => {
            failed("one of src or dest must be a remote file specification")
        }
        (Place::There(..), Place::There(..)) => {
            failed("one of src or dest must be a local file specification")
        }
    }
}

async fn pod(session: &Session, namespace: &str, name: &str) -> Outcome<(Value, String)> {
    let namespace = match namespace {
        "" => session.namespace().await?,
        given => given.to_owned(),
    };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let pod = session.connection().await?.get(&path).await?;
    let container = pods::container(session, &pod, false)?;
    Ok((pod, container))
}

/// Runs a command with bytes on its stdin, and returns what it prints.
async fn remote(
    session: &Session,
    pod: &Value,
    container: &str,
    command: &[String],
    input: Option<&[u8]>,
) -> Outcome<Vec<u8>> {
    let streams = exec::Streams { stdin: input.is_some(), tty: false };
    let path = exec::path(pod, "exec", container, streams, command);
    let connection = session.connection().await?;
    let (mut sender, mut receiver) = websocket::open(connection, &path, REMOTE).await?;
    let sending = async {
        for piece in input.unwrap_or_default().chunks(PIECE_BYTES) {
            sender.send(STDIN, piece).await?;
        }
        if input.is_some() {
            sender.end(STDIN).await?;
        }
        // The answer ends this, not we.
        std::future::pending::<Outcome>().await
    };
    let receiving = async {
        let (mut out, mut outcome) = (Vec::new(), None);
        while let Some(message) = receiver.next().await {
            let (channel, bytes) = message?;
            match channel {
                STDOUT => out.extend_from_slice(&bytes),
                STDERR => eprint!("{}", String::from_utf8_lossy(&bytes)),
                ERROR if !bytes.is_empty() => {
                    outcome = Some(bytes);
                    break;
                }
                _ => {}
            }
        }
        Ok::<_, Failure>((out, outcome))
    };
    let (out, outcome) = tokio::select! {
        sent = sending => return sent.map(|()| Vec::new()),
        received = receiving => received?,
    };
    match outcome {
        Some(status) => exec::judged(session, &status).map(|()| out),
        None => failed("the connection to the pod broke"),
    }
}

async fn up(session: &Session, from: &Path, namespace: &str, name: &str, to: &str) -> Outcome {
    if !from.exists() {
        return failed(format!("{} doesn't exist in local filesystem", from.display()));
    }
    let (pod, container) = pod(session, namespace, name).await?;
    if to.is_empty() {
        return failed("filepath can not be empty");
    }
    // Into a folder that is there, or under the name that is given.
    let test = ["test", "-d", to].map(str::to_owned);
    let is_folder = to.ends_with('/') || is_there(session, &pod, &container, &test).await;
    let base = from.file_name().map(|name| name.to_string_lossy().into_owned());
    let target = match (is_folder, base) {
        (true, Some(base)) => format!("{}/{base}", to.trim_end_matches('/')),
        _ => to.to_owned(),
    };
    let (folder, entry) = match target.rsplit_once('/') {
        Some(("", entry)) => ("/", entry),
        Some((folder, entry)) => (folder, entry),
        None => (".", target.as_str()),
    };
    let bytes = packed(from, entry)
        .map_err(|error| Failure::Message(format!("{}: {error}", from.display())))?;
    let mut command = vec!["tar"];
    command.push(if session.flags.on("no-preserve") { "--no-same-permissions" } else { "-xmf" });
    if session.flags.on("no-preserve") {
        command.extend(["--no-same-owner", "-xmf"]);
    }
    command.extend(["-", "-C", folder]);
    let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
    remote(session, &pod, &container, &command, Some(&bytes)).await.map(drop)
}

/// Whether a command succeeds; a pod without it answers no.
async fn is_there(session: &Session, pod: &Value, container: &str, command: &[String]) -> bool {
    let streams = exec::Streams { stdin: false, tty: false };
    let path = exec::path(pod, "exec", container, streams, command);
    let Ok(connection) = session.connection().await else { return false };
    let Ok((_, mut receiver)) = websocket::open(connection, &path, REMOTE).await else {
        return false;
    };
    while let Some(Ok((channel, bytes))) = receiver.next().await {
        if channel == ERROR && !bytes.is_empty() {
            let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            return status["status"] == "Success";
        }
    }
    false
}

/// A file or folder as a tar whose entries are under a name.
fn packed(from: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    match from.is_dir() {
        true => builder.append_dir_all(name, from)?,
        false => builder.append_path_with_name(from, name)?,
    }
    builder.into_inner()
}

async fn down(session: &Session, namespace: &str, name: &str, from: &str, to: &Path) -> Outcome {
    if from.is_empty() {
        return failed("filepath can not be empty");
    }
    let (pod, container) = pod(session, namespace, name).await?;
    let command = ["tar", "cf", "-", from].map(str::to_owned);
    let bytes = remote(session, &pod, &container, &command, None).await?;
    let base = from.trim_end_matches('/').rsplit('/').next().unwrap_or(from);
    let to = if to.is_dir() { to.join(base) } else { to.to_owned() };
    unpacked(session, &bytes, from, &to)
        .map_err(|error| Failure::Message(format!("{}: {error}", to.display())))
}

/// Writes what a tar holds below `from` to `to`. What would lead out of there is left
/// out: the pod is not to be trusted with this machine's files.
fn unpacked(session: &Session, bytes: &[u8], from: &str, to: &Path) -> io::Result<()> {
    let prefix = from.trim_start_matches('/').trim_end_matches('/').to_owned();
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let inside = path.strip_prefix(&prefix).unwrap_or(&path).to_owned();
        let safe = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !safe {
            session.say(&format!(
                "warning: file {:?} is outside target destination, skipping",
                path.display()
            ));
            continue;
        }
        let target = if inside.as_os_str().is_empty() { to.to_owned() } else { to.join(&inside) };
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&target)?,
            tar::EntryType::Regular => {
                if let Some(folder) =
                    target.parent().filter(|folder| !folder.as_os_str().is_empty())
                {
                    fs::create_dir_all(folder)?;
                }
                // Not through a link that is there.
                if fs::symlink_metadata(&target).is_ok_and(|about| about.is_symlink()) {
                    fs::remove_file(&target)?;
                }
                let mut file = fs::File::create(&target)?;
                io::copy(&mut entry, &mut file)?;
                if !session.flags.on("no-preserve") {
                    use std::os::unix::fs::PermissionsExt as _;
                    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
                    file.set_permissions(fs::Permissions::from_mode(mode))?;
                }
            }
            _ => session.say(&format!(
                "warning: skipping {:?}: neither a file nor a folder",
                path.display()
            )),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(place("/no/such/a"), Ok(Place::Here("/no/such/a".into())));
        assert_eq!(place("p:/a"), Ok(Place::There(String::new(), "p".into(), "/a".into())));
        assert_eq!(place("n/p:a"), Ok(Place::There("n".into(), "p".into(), "a".into())));
        assert!(place(":a").is_err());
    }
}

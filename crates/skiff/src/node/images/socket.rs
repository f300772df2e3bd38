//! How `skiff image` reaches the image store of a running server, which the
//! store belongs to: a unix socket in the data directory, for root only.
//!
//! The client sends one line of JSON ([`Ask`]) and, for an import, the tarball
//! behind it; the server answers with one line of JSON ([`Answer`]).

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use node_image::ImageStore;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// What the client wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ask {
    /// The images of the tarball that follows.
    Import {
        /// What errors call it.
        what: String,
    },
    /// All images.
    List,
    /// Take a name away.
    Remove {
        /// The image.
        name: String,
    },
}

/// What the server says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// These images.
    Images(Vec<Row>),
    /// It did not work.
    Failed(String),
}

/// One image.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) names: Vec<String>,
    pub(crate) id: String,
    pub(crate) size_bytes: u64,
}

/// Where the socket of a data directory is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("node/images.sock")
}

/// Where its images are.
pub(crate) fn images_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("node/images")
}

/// Carries out what is asked, from the stream that it came on.
pub(crate) fn answer(store: &ImageStore, ask: Ask, tarball: impl io::Read) -> Answer {
    let done = match ask {
        Ask::Import { what } => store.import_reader(tarball, &what, None),
        Ask::List => Ok(store.list()),
        // Layers under running containers stay usable: the files are open.
        Ask::Remove { name } => {
            store.remove(&name, &Default::default(), false).map(|()| Vec::new())
        }
    };
    match done {
        Ok(images) => Answer::Images(images.iter().map(|image| row(image)).collect()),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn row(image: &node_image::Image) -> Row {
    let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
    Row { names: names.clone(), id: image.id_string(), size_bytes: image.size_bytes }
}

/// Serves the socket on a thread of its own until the process ends.
pub(crate) fn serve(data_dir: &Path, store: Arc<ImageStore>) -> io::Result<()> {
    let path = path(data_dir);
    // A killed server leaves its socket behind; the data directory is locked.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("images".into()).spawn(move || {
        for stream in listener.incoming() {
            // One after the other: the disk is the limit.
            if let Err(error) = stream.and_then(|stream| serve_one(&stream, &store)) {
                warn!(%error, "a client of the image socket went away");
            }
        }
    })?;
    Ok(())
}

fn serve_one(stream: &UnixStream, store: &ImageStore) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(ask) => answer(store, ask, reader),
        Err(error) => Answer::Failed(format!("not understood: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    (&*stream).write_all(&text)
}

/// Asks the server of a data directory; `None` where none runs.
pub(crate) fn ask(
    data_dir: &Path,
    ask: &Ask,
    tarball: &mut dyn io::Read,
) -> io::Result<Option<Answer>> {
    let stream = match UnixStream::connect(path(data_dir)) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    // The server may refuse before the end; its answer says why.
    match io::copy(tarball, &mut &stream) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    Ok(Some(serde_json::from_str(&answer)?))
}

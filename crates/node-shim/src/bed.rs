//! What tests here share.

use std::{
    collections::VecDeque,
    env, fs,
    os::fd::OwnedFd,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process,
};

use linux::child::Child;
use node_shim::protocol::Start;

use crate::{
    container::{Container, Phase},
    log_file::LogFile,
    shim::Shim,
};

/// A folder of one test, gone at its end with what is mounted on it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("node-shim-{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Refused to those who could mount nothing either.
        let _ = linux::mount::unmount(&self.0);
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cleaning up: {error}");
        }
    }
}

/// A shim that has nothing yet.
pub(crate) fn shim(folder: &Folder) -> Shim {
    let listener = UnixListener::bind(folder.path("shim.sock")).expect("a socket");
    Shim::new(listener).expect("a shim")
}

/// A container that runs, with a terminal to be set and input.
pub(crate) fn container(folder: &Folder) -> Container {
    Container {
        start: Start {
            id: "main".into(),
            new_namespaces: 0,
            steps: Vec::new(),
            log_path: String::new(),
            log_size_max: 0,
            log_files_max: 0,
            exit_path: String::new(),
            oom_path: String::new(),
            tty: true,
            stdin: true,
            stdin_once: true,
        },
        phase: Phase::Running,
        child: child(1),
        started_ns: 1,
        warnings: Vec::new(),
        outputs: [None, None],
        stdin: None,
        stdin_queue: VecDeque::new(),
        stdin_closing: false,
        log: LogFile::open(&folder.path("0.log"), u64::MAX, 1).expect("a log"),
    }
}

/// A process that there is not.
pub(crate) fn child(pid: i32) -> Child {
    Child { pid, pidfd: null(), report: null() }
}

pub(crate) fn null() -> OwnedFd {
    fs::File::open("/dev/null").expect("it is there").into()
}

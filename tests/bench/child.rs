//! The load as the bench starts it: this program again, in the server's
//! namespaces.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Stdio},
};

use serde_json::Value;

use crate::cluster::Cluster;

/// A load that has made its connections and targets, and waits for a word to
/// begin: what is measured from here on is its requests alone.
pub(crate) struct Prepared {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// What a load printed.
pub(crate) struct Answer(Value);

impl Answer {
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("the load told no {name}: {}", self.0))
    }
}

/// Starts a load with the arguments that [`crate::load`] tells.
pub(crate) fn prepare(cluster: &Cluster, args: &[&str]) -> Prepared {
    let program = std::env::current_exe().expect("this program");
    let mut child = cluster
        .command(&program.to_string_lossy())
        .arg("load")
        .arg(cluster.path("admin.yaml"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut prepared = Prepared { child, lines };
    let word = prepared.line();
    assert_eq!(word, READY, "load {args:?} failed");
    prepared
}

/// The same, and lets it run.
pub(crate) fn run(cluster: &Cluster, args: &[&str]) -> Answer {
    prepare(cluster, args).go()
}

impl Prepared {
    pub(crate) fn go(mut self) -> Answer {
        let mut stdin = self.child.stdin.take().expect("piped");
        stdin.write_all(b"go\n").expect("the load waits");
        let line = self.line();
        Answer(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a pipe can be read");
        line.trim_end().to_owned()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // It ends by itself after its answer, or else has failed.
        let _ = self.child.wait();
    }
}

const READY: &str = "ready";

/// The load's side: says that it is ready, and waits for the word.
pub(crate) fn ready() {
    println!("{READY}");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).expect("a pipe can be read");
    assert!(!word.is_empty(), "the bench has gone");
}

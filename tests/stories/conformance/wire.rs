//! Requests as any client sends them: headers, answers and watches that kubectl
//! keeps to itself. Sent by curl, with kubectl's own certificate.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::Place;
use crate::cluster::{Cluster, run};

/// How long a watch goes on, so that a story that waits in vain ends.
const WATCH_SECONDS: &str = "120";

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    asked: String,
    pub(super) code: u16,
    /// The lines of its head.
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// It must have this code.
    #[track_caller]
    pub(super) fn is(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}: {}{}", self.asked, self.head, self.body);
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert!(self.code < 300, "{}: {} {}", self.asked, self.code, self.body);
        self.json()
    }

    /// It must be a Status with this code that says this.
    #[track_caller]
    pub(super) fn refuses(self, code: u16, text: &str) -> Value {
        let answer = self.is(code);
        let status = answer.json();
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{} says {message:?}, not {text:?}", answer.asked);
        status
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.body))
    }

    /// The texts of `Warning` headers.
    pub(super) fn warnings(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case("warning"))
            .map(|(_, text)| text.trim().replace("\\\"", "\""))
            .collect()
    }
}

/// Events as they come.
pub(super) struct Watch {
    path: String,
    curl: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    /// The next event: `ADDED`, and the object.
    #[track_caller]
    pub(super) fn next(&mut self) -> (String, Value) {
        let line = self.lines.next().unwrap_or_else(|| panic!("the watch of {} ended", self.path));
        let event: Value = serde_json::from_str(&line.expect("text")).expect("an event");
        (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].clone())
    }

    /// The next event, which must be of this type and about this name.
    #[track_caller]
    pub(super) fn sees(&mut self, what: &str, name: &str) -> Value {
        let (seen, object) = self.next();
        assert_eq!(
            (seen.as_str(), &object["metadata"]["name"]),
            (what, &Value::from(name)),
            "{object}"
        );
        object
    }

    /// Passes over events until one is like this.
    #[track_caller]
    pub(super) fn until(&mut self, like: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let (seen, object) = self.next();
            if like(&seen, &object) {
                return object;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// The files of a cluster's kubeconfig, written once.
fn credentials(cluster: &Cluster) -> String {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = cluster.path("wire.server");
    if let Ok(server) = fs::read_to_string(&server) {
        return server;
    }
    let config = cluster.kubectl("config view --raw -o json").ok().stdout;
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let (cluster_part, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    for (file, data) in [
        ("wire.ca", &cluster_part["certificate-authority-data"]),
        ("wire.crt", &user["client-certificate-data"]),
        ("wire.key", &user["client-key-data"]),
    ] {
        let bytes = STANDARD.decode(data.as_str().expect("text")).expect("base64");
        fs::write(cluster.path(file), bytes).expect("our own folder");
    }
    let address = cluster_part["server"].as_str().expect("an address").to_owned();
    fs::write(server, &address).expect("our own folder");
    address
}

fn file(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// curl of a path of the API, not yet run.
pub(super) fn curl(cluster: &Cluster, path: &str) -> Command {
    let server = credentials(cluster);
    let mut command = cluster.command("curl");
    command.args(["-sS", "--cacert", &file(&cluster.path("wire.ca"))]);
    command.args(["--cert", &file(&cluster.path("wire.crt"))]);
    command.args(["--key", &file(&cluster.path("wire.key"))]);
    command.arg(format!("{server}{path}"));
    command
}

impl Place<'_> {
    /// A path of the namespace: of `api/v1` and `pods`.
    pub(super) fn path(&self, api: &str, rest: &str) -> String {
        format!("/{api}/namespaces/{}/{rest}", self.namespace)
    }

    /// A request with headers of one's own.
    pub(super) fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let mut command = curl(self.cluster, path);
        command.args(["-i", "-X", method, "-H", "Expect:"]);
        for header in headers {
            command.args(["-H", header]);
        }
        if !body.is_empty() {
            command.args(["--data-binary", "@-"]);
        }
        let told = run(&mut command, Some(body)).ok().stdout;
        let (head, body) = told.split_once("\r\n\r\n").unwrap_or((&told, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.trim().parse().ok());
        Answer {
            asked: format!("{method} {path}"),
            code: code.unwrap_or_else(|| panic!("no code: {told}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// A request of JSON.
    pub(super) fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let kind = match method {
            "PATCH" => "Content-Type: application/merge-patch+json",
            _ => "Content-Type: application/json",
        };
        self.send_with(method, path, &[kind], &body.to_string())
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, object: &Value) -> Value {
        self.send("POST", path, object).ok()
    }

    #[track_caller]
    pub(super) fn read(&self, path: &str) -> Value {
        self.send_with("GET", path, &[], "").ok()
    }

    #[track_caller]
    pub(super) fn remove(&self, path: &str) -> Value {
        self.send_with("DELETE", path, &[], "").ok()
    }

    /// Follows a collection; the path may have a query.
    pub(super) fn watch(&self, path: &str) -> Watch {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}watch=true");
        let mut command = curl(self.cluster, &path);
        command.args(["-N", "--max-time", WATCH_SECONDS]);
        let started = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut curl = started.expect("curl runs");
        let lines = BufReader::new(curl.stdout.take().expect("piped")).lines();
        Watch { path, curl, lines }
    }
}

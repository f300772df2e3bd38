//! `kubectl exec` and `attach`

use std::os::fd::AsFd as _;

use rustix::termios::{self, OptionalActions, Termios};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    websocket::{self, REMOTE, Sender},
};

use super::pods;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

pub(super) static FLAGS: &[Flag] = &[
    value("container", "NAME", "Container name").short('c'),
    switch("stdin", "Pass stdin to the container").short('i'),
    switch("tty", "Stdin is a TTY").short('t'),
    switch("quiet", "Only print output from the remote session").short('q'),
    value(
        "pod-running-timeout",
        "TIME",
        "The length of time to wait until at least one pod is running",
    )
    .or("1m0s"),
];

pub(super) static DETACH: &[Flag] = &[value(
    "detach-keys",
    "KEYS",
    "Not known to this kubectl: it is refused; a session ends with the container or with this program",
)
.or("ctrl-p,ctrl-q")];

/// Of a session that could be left by keys.
///
/// # Errors
/// Where others than those that are never looked for are wanted.
pub(super) fn no_detach_keys(session: &Session) -> Outcome {
    match session.flags.is_set("detach-keys") {
        true => failed(
            "--detach-keys is not known to this kubectl: a session ends with its container or with this program",
        ),
        false => Ok(()),
    }
}

pub(super) static FILE: &[Flag] =
    &[value("filename", "FILES", "Files with the object to run the command in").short('f')];

pub(super) async fn exec(session: &Session) -> Outcome {
    let flags = &session.flags;
    let (words, command) = match flags.dash {
        Some(_) => (flags.before_dash().to_vec(), flags.after_dash().to_vec()),
        None if flags.words.len() > 1 => {
            return Err(Failure::Arguments(
                "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead"
                    .into(),
            ));
        }
        None => (flags.words.clone(), Vec::new()),
    };
    if words.is_empty() && !flags.has_files() {
        return failed("pod, type/name or --filename must be specified");
    }
    if command.is_empty() {
        return failed("you must specify at least one command for the container");
    }
    let pod = pods::one(session, &words).await?;
    ended(session, &pod)?;
    let container = pods::container(session, &pod, flags.on("quiet"))?;
    let tty = flags.on("tty") && flags.on("stdin") && termios::isatty(std::io::stdin());
    if flags.on("tty") && !tty {
        session.say("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let streams = Streams { stdin: flags.on("stdin"), tty };
    let path = path(&pod, "exec", &container, streams, &command);
    run(session, &path, streams).await
}

pub(super) async fn attach(session: &Session) -> Outcome {
    no_detach_keys(session)?;
    let flags = &session.flags;
    match flags.words.len() {
        0 => return failed("at least 1 argument is required for attach"),
        1 | 2 => {}
        n => {
            return failed(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {n}: [{}]",
                flags.words.join(" ")
            ));
        }
    }
    let pod = pods::one(session, &flags.words).await?;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return failed(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        ));
    }
    let container = pods::container(session, &pod, flags.on("quiet")).map_err(|why| {
        Failure::Message(format!("cannot attach to the container: {}", why.message()))
    })?;
    attach_to(session, &pod, &container, flags.on("stdin"), flags.on("tty")).await
}

/// Attaches to a container of a pod. One with a terminal is spoken to as such where
/// we have one too.
pub(super) async fn attach_to(
    session: &Session,
    pod: &Value,
    container: &str,
    stdin: bool,
    tty: bool,
) -> Outcome {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let has_tty = lists
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .any(|c| c["name"] == container && c["tty"] == true);
    let quiet = session.flags.on("quiet");
    if tty && !has_tty && !quiet {
        session.say(&format!(
            "error: Unable to use a TTY - container {container} did not allocate one"
        ));
    }
    let tty = has_tty && stdin && termios::isatty(std::io::stdin());
    if !quiet {
        session.say("All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.");
        session.say("If you don't see a command prompt, try pressing enter.");
    }
    let streams = Streams { stdin, tty };
    let path = path(pod, "attach", container, streams, &[]);
    run(session, &path, streams).await?;
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
    let again =
        format!("kubectl attach {} -c {container} -n {} -i -t'", text("name"), text("namespace"));
    let mut ephemeral = pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten();
    match ephemeral.any(|c| c["name"] == container) {
        _ if quiet || !tty => Ok(()),
        true => session.out(&format!("Session ended, the ephemeral container will not be restarted but may be reattached using '{again} if it is still running\n")),
        false => session.out(&format!("Session ended, resume using '{again} command\n")),
    }
}

fn ended(session: &Session, pod: &Value) -> Outcome {
    let _ = session;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    match matches!(phase, "Succeeded" | "Failed") {
        true => failed(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )),
        false => Ok(()),
    }
}

/// Which streams are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// Where a command is run.
pub(super) fn path(
    pod: &Value,
    verb: &str,
    container: &str,
    streams: Streams,
    command: &[String],
) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}/{verb}", text("namespace"), text("name"));
    let mut query: Vec<(&str, &str)> = vec![("container", container), ("stdout", "true")];
    query.extend(command.iter().map(|word| ("command", word.as_str())));
    if streams.stdin {
        query.push(("stdin", "true"));
    }
    // A terminal has one output.
    query.push(if streams.tty { ("tty", "true") } else { ("stderr", "true") });
    client::with_query(path, &query)
}

/// A terminal as it was, put back when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Outcome<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd());
        let before = before.map_err(|error| Failure::Message(format!("terminal: {error}")))?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)
            .map_err(|error| Failure::Message(format!("terminal: {error}")))?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

async fn size(sender: &mut Sender) -> Outcome {
    match termios::tcgetwinsize(std::io::stdout().as_fd()) {
        Ok(size) => {
            let size = json!({"Width": size.ws_col, "Height": size.ws_row}).to_string();
            sender.send(RESIZE, size.as_bytes()).await
        }
        // Not a terminal: there is no size.
        Err(_) => Ok(()),
    }
}

/// Connects our stdio with a command's until it ends.
pub(super) async fn run(session: &Session, path: &str, streams: Streams) -> Outcome {
    let connection = session.connection().await?;
    let (mut sender, mut receiver) = websocket::open(connection, path, REMOTE).await?;
    let raw = if streams.tty { Some(Raw::enter()?) } else { None };
    let sending = async {
        let resized = signal(SignalKind::window_change());
        let mut resized =
            resized.map_err(|error| Failure::Message(format!("SIGWINCH: {error}")))?;
        if streams.tty {
            size(&mut sender).await?;
        }
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; 32 * 1024];
        let mut open = streams.stdin;
        loop {
            tokio::select! {
                read = stdin.read(&mut buffer), if open => {
                    match read.map_err(|error| Failure::Message(format!("stdin: {error}")))? {
                        0 => {
                            open = false;
                            sender.end(STDIN).await?;
                        }
                        n => sender.send(STDIN, &buffer[..n]).await?,
                    }
                }
                _ = resized.recv(), if streams.tty => size(&mut sender).await?,
                else => std::future::pending::<()>().await,
            }
        }
        #[allow(unreachable_code, reason = "the type of the block")]
        Ok::<(), Failure>(())
    };
    let receiving = async {
        let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
        let mut outcome = None;
        while let Some(message) = receiver.next().await {
            let (channel, bytes) = message?;
            let written = match channel {
                STDOUT => stdout.write_all(&bytes).await.and(stdout.flush().await),
                STDERR => stderr.write_all(&bytes).await.and(stderr.flush().await),
                ERROR if !bytes.is_empty() => {
                    outcome = Some(bytes);
                    break;
                }
                _ => Ok(()),
            };
            written.map_err(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => Failure::Exit(141),
                _ => Failure::Message(format!("output: {error}")),
            })?;
        }
        Ok::<_, Failure>(outcome)
    };
    let outcome = tokio::select! {
        sent = sending => sent.map(|()| None),
        outcome = receiving => outcome,
    };
    drop(raw);
    match outcome? {
        Some(status) => judged(session, &status),
        // The other side went without a word.
        None => Ok(()),
    }
}

/// What the error channel says.
pub(super) fn judged(session: &Session, bytes: &[u8]) -> Outcome {
    let status: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes
        .filter(|cause| cause["reason"] == "ExitCode")
        .find_map(|cause| cause["message"].as_str().and_then(|code| code.parse::<u8>().ok()));
    if status["reason"] == "NonZeroExitCode"
        && let Some(code) = code
    {
        session.say(&format!("command terminated with exit code {code}"));
        return Err(Failure::Exit(code));
    }
    failed(match status["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    })
}

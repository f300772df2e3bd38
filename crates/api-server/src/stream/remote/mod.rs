//! `pods/exec` and `pods/attach`: stdin, stdout, stderr, the outcome and the
//! terminal's size, over the channels of a WebSocket or the streams of SPDY.

mod channels;
mod streams;

use std::sync::Arc;

use api_object::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use tunnel::{End, Input, Open, Stdio};

use super::{
    pod,
    upgrade::{self, Wish},
    websocket::{self, Outcome},
};
use crate::{ApiServer, chain::Asked, counts::Label, path::flag, respond::Reply};

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
    exec: bool,
) -> Result<Reply, Status> {
    let query = &asked.query;
    let tty = flag(query, "tty");
    let stdio = Stdio {
        stdin: flag(query, "stdin"),
        stdout: flag(query, "stdout"),
        // A terminal has one output.
        stderr: flag(query, "stderr") && !tty,
        tty,
    };
    if !(stdio.stdin || stdio.stdout || stdio.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let command: Vec<String> =
        query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
    if exec && command.is_empty() {
        return Err(Status::bad_request("you must specify a command to run"));
    }
    let container = pod::container(object, asked.parameter("container"))?;
    let (node, target) = pod::target(object, container)?;
    let open = match exec {
        true => Open::Exec(target, command, stdio),
        false => Open::Attach(target, stdio),
    };
    match upgrade::wish(&asked.head.headers) {
        Wish::WebSocket => channels::serve(server, &node, open, asked, label),
        Wish::Spdy => streams::serve(server, &node, open, stdio, asked, label).await,
        Wish::Nothing => Err(upgrade::required()),
    }
}

/// What one message about the terminal's size asks for:
/// `{"Width":80,"Height":24}`.
fn resized(size: &Value) -> Option<Input> {
    let number = |key: &str| size.get(key)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some(Input::Resize { width: number("Width")?, height: number("Height")? })
}

/// What the client hears at the end; not quite an ordinary Status. Only what
/// was run by exec tells its exit code.
fn ended(end: &End, exec: bool) -> Value {
    match end {
        End::Exited(code) if *code != 0 && exec => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        End::Exited(_) => json!({"metadata": {}, "status": "Success"}),
        End::Failed(why) => failed(why),
    }
}

/// The Status of a stream that broke.
fn failed(why: impl std::fmt::Display) -> Value {
    let status = Status::internal(why);
    json!({
        "metadata": {}, "status": "Failure", "message": status.message,
        "reason": status.reason, "code": status.code, "details": status.details,
    })
}

/// The outcome in the form that a protocol has for it; empty where there is
/// nothing to tell.
fn told(status: &Value, outcome: Outcome) -> Bytes {
    match outcome {
        Outcome::Status => status.to_string().into(),
        Outcome::Text if status["status"] == "Success" => Bytes::new(),
        Outcome::Text => {
            let message = status["message"].as_str().unwrap_or_default();
            Bytes::copy_from_slice(message.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_as_a_status_or_as_text() {
        let said = |end: End, exec, outcome| {
            String::from_utf8(told(&ended(&end, exec), outcome).to_vec()).expect("text")
        };
        let text = "command terminated with non-zero exit code: exit status 3";
        assert_eq!(said(End::Exited(3), true, Outcome::Text), text);
        assert!(said(End::Exited(3), true, Outcome::Status).contains(text));
        assert_eq!(said(End::Exited(0), true, Outcome::Text), "");
        assert_eq!(said(End::Exited(3), false, Outcome::Text), "");
        assert!(said(End::Exited(0), true, Outcome::Status).contains("Success"));
        assert_eq!(
            said(End::Failed("gone".into()), true, Outcome::Text),
            "Internal error occurred: gone"
        );
    }

    #[test]
    fn sizes_are_read_or_ignored() {
        let size = Some(Input::Resize { width: 80, height: 24 });
        assert_eq!(resized(&json!({"Width": 80, "Height": 24})), size);
        for odd in [json!({"Width": 80}), json!({"Width": -1, "Height": 70_000}), json!([])] {
            assert_eq!(resized(&odd), None);
        }
    }
}

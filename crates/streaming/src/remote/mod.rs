//! Exec and attach: stdin, stdout, stderr, the outcome and the
//! terminal's size, over the channels of a WebSocket or the streams of SPDY.

mod channels;
mod streams;

use std::sync::Arc;

use api_object::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use tunnel::{End, Input, Open, Stdio};

use crate::{
    Asked, Host, Reply,
    upgrade::{self, Wish},
    websocket::Outcome,
};

/// Which streams a session has.
///
/// # Errors
/// 400 where it would have none.
pub fn stdio(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Stdio, Status> {
    if !(stdin || stdout || stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    // A terminal has one output.
    Ok(Stdio { stdin, stdout, stderr: stderr && !tty, tty })
}

/// Answers a request for what `open` says, an exec or an attach.
///
/// # Errors
/// Where the request does not say what its connection is to become, or what nobody here
/// speaks; over SPDY also what the node refuses.
pub async fn serve(host: Arc<dyn Host>, open: Open, asked: Asked) -> Result<Reply, Status> {
    let stdio = match &open {
        Open::Exec(_, _, stdio) | Open::Attach(_, stdio) => *stdio,
        _ => return Err(Status::internal("neither exec nor attach")),
    };
    match upgrade::wish(&asked.headers) {
        Wish::WebSocket => channels::serve(host, open, asked),
        Wish::Spdy => streams::serve(host, open, stdio, asked).await,
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

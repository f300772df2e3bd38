//! How a command fails, and what it says then.

use api_object::Status;

/// Why a command failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server said no. With where the object came from, if so.
    Status(Box<Status>),
    /// Printed behind `error: `.
    Message(String),
    /// The same, after what was to be printed went to stdout as far as it came.
    Halfway(Box<(String, String)>),
    /// Printed as it is.
    Plain(String),
    /// A command line that cannot be; `See 'kubectl X --help' for usage.` follows.
    Usage(String),
    /// Arguments that cannot be; `See 'kubectl X -h' for help and examples` follows.
    Arguments(String),
    /// Everything was said already.
    Exit(u8),
    /// Several, each on lines of its own, without the `error: ` of one alone.
    Several(Vec<Failure>),
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A failure in one's own words.
pub(crate) fn failed<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::Message(text.into()))
}

impl Failure {
    /// Whether the server said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The HTTP status, where a server answered.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// The message alone.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Status(status) => status.message.clone(),
            Self::Message(text) | Self::Plain(text) | Self::Usage(text) | Self::Arguments(text) => {
                text.clone()
            }
            Self::Halfway(told) => told.1.clone(),
            Self::Exit(_) => String::new(),
            Self::Several(all) => all.iter().map(Self::message).collect::<Vec<_>>().join(", "),
        }
    }

    /// The same, saying what was done to which file.
    pub(crate) fn about(self, what: &str, source: &str) -> Self {
        match self {
            Self::Status(mut status) => {
                status.message = format!("error when {what} {source:?}: {}", status.message);
                Self::Status(status)
            }
            other => other,
        }
    }

    /// One failure of many; `None` for none.
    pub(crate) fn of(mut all: Vec<Self>) -> Outcome {
        match all.len() {
            0 => Ok(()),
            1 => Err(all.remove(0)),
            _ => Err(Self::Several(all)),
        }
    }

    /// What stdout gets before.
    pub(crate) fn printed(&self) -> String {
        match self {
            Self::Halfway(told) => told.0.clone(),
            Self::Several(all) => all.iter().map(Self::printed).collect(),
            _ => String::new(),
        }
    }

    /// What stderr gets; ends with a newline unless it is empty.
    pub(crate) fn text(&self, command: &str) -> String {
        match self {
            Self::Status(status) => status_text(status) + "\n",
            Self::Message(text) => format!("error: {text}\n"),
            Self::Halfway(told) => format!("error: {}\n", told.1),
            Self::Plain(text) => format!("{text}\n"),
            Self::Usage(text) => {
                let words = format!("kubectl {command}");
                format!("error: {text}\nSee '{} --help' for usage.\n", words.trim_end())
            }
            Self::Arguments(text) => {
                format!("error: {text}\nSee 'kubectl {command} -h' for help and examples\n")
            }
            Self::Exit(_) => String::new(),
            Self::Several(all) => {
                let line = |failure: &Self| match failure {
                    Self::Message(text) => format!("{text}\n"),
                    Self::Halfway(told) => format!("{}\n", told.1),
                    Self::Status(status) => plain_text(status) + "\n",
                    other => other.text(command),
                };
                all.iter().map(line).collect()
            }
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) => *code,
            _ => 1,
        }
    }
}

impl From<client::TransportError> for Failure {
    fn from(error: client::TransportError) -> Self {
        Self::Message(error.0)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// What kubectl makes of a Status.
fn status_text(status: &Status) -> String {
    let reason = serde_json::to_value(status.reason).unwrap_or_default();
    let reason = reason.as_str().unwrap_or_default();
    let details = status.details.as_deref();
    if reason == "Invalid"
        && let Some(details) = details
    {
        let subject = match (details.kind.as_str(), details.name.as_str()) {
            ("", _) => "The request is invalid".to_owned(),
            (kind, "") => format!("The {kind} is invalid"),
            (kind, name) => format!("The {kind} {name:?} is invalid"),
        };
        let causes: Vec<String> = details
            .causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        return match causes.as_slice() {
            [] => format!("{subject}: {}", status.message),
            [one] => format!("{subject}: {one}"),
            many => {
                let lines: Vec<String> = many.iter().map(|line| format!("* {line}")).collect();
                format!("{subject}: \n{}", lines.join("\n"))
            }
        };
    }
    plain_text(status)
}

/// The same of one of several: what is invalid about it stands in the message too.
fn plain_text(status: &Status) -> String {
    let reason = serde_json::to_value(status.reason).unwrap_or_default();
    match reason.as_str().unwrap_or_default() {
        "" => format!("Error from server: {}", status.message),
        "Unauthorized" => {
            format!("error: You must be logged in to the server ({})", status.message)
        }
        reason => format!("Error from server ({reason}): {}", status.message),
    }
}

#[cfg(test)]
mod tests {
    use api_object::{GroupVersionResource, Reason};

    use super::*;

    #[test]
    fn failures_read_as_kubectls() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        let missing = Failure::from(Status::not_found(&pods, "a"));
        assert_eq!(missing.text("get"), "Error from server (NotFound): pods \"a\" not found\n");
        let bad = Failure::from(Status::failure(Reason::BadRequest, "no")).about("creating", "f");
        assert_eq!(
            bad.text("apply"),
            "Error from server (BadRequest): error when creating \"f\": no\n"
        );
        let both = Failure::Several(vec![missing, Failure::Message("x".into())]);
        assert!(both.text("get").ends_with("not found\nx\n"));
        let one = Failure::of(vec![Failure::Message("x".into())]).expect_err("one");
        assert_eq!(one.text("get"), "error: x\n");
        let usage = Failure::Usage("unknown flag: --x".into());
        let said = "error: unknown flag: --x\nSee 'kubectl get --help' for usage.\n";
        assert_eq!(usage.text("get"), said);
        let arguments = Failure::Arguments("USAGE: drain NODE [flags]".into());
        let said =
            "error: USAGE: drain NODE [flags]\nSee 'kubectl drain -h' for help and examples\n";
        assert_eq!(arguments.text("drain"), said);
    }
}

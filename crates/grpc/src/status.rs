//! How a call ended.

use futures_util::StreamExt as _;
pub use tonic::Code;

use crate::Messages;

/// The end of a call that did not go well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// What a program branches on.
    pub code: Code,
    /// What a person reads.
    pub message: String,
}

impl Status {
    /// A status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What a path that is not known gets.
    pub fn unimplemented(path: &str) -> Self {
        Self::new(Code::Unimplemented, format!("{path} is not known here"))
    }
}

impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        Self::new(status.code, status.message)
    }
}

/// What the other end says, or what became of the connection: tonic's code for
/// a broken one is not always the one to branch on.
impl From<tonic::Status> for Status {
    fn from(status: tonic::Status) -> Self {
        let mut source = std::error::Error::source(&status);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                let text = format!("the connection broke: {error}");
                return Self::new(Code::Unavailable, text);
            }
            source = error.source();
        }
        Self::new(status.code(), status.message())
    }
}

/// Messages as tonic reads them.
pub(crate) fn from_tonic(messages: tonic::Streaming<bytes::Bytes>) -> Messages {
    // Nothing follows an error: the stream's users rely on that.
    Box::pin(messages.map(|one| one.map_err(Status::from)).scan(false, |ended, one| {
        let next = (!*ended).then_some(one);
        *ended |= next.as_ref().is_none_or(Result::is_err);
        std::future::ready(next)
    }))
}

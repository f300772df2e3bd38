//! Why a request failed, as the runtime is told.

use std::io;

use node_shim::protocol::{Failure, FailureKind, Reply};

/// The runtime knows the steps by their number, in its own words.
pub(crate) fn step_failed(step: usize, error: &io::Error) -> Reply {
    Reply::Failed(Failure {
        kind: FailureKind::Step,
        what: step.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
    })
}

pub(crate) fn failed(kind: FailureKind, what: &str, error: &io::Error) -> Reply {
    let errno = error.raw_os_error().unwrap_or(0);
    Reply::Failed(Failure { kind, what: what.to_owned(), errno })
}

pub(crate) fn not_found(id: &str) -> Reply {
    let what = format!("container {id} does not run");
    Reply::Failed(Failure { kind: FailureKind::NotFound, what, errno: 0 })
}

pub(crate) fn conflict(what: &str) -> Reply {
    Reply::Failed(Failure { kind: FailureKind::Conflict, what: what.to_owned(), errno: 0 })
}

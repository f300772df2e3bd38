//! How a call ended.

use http::{HeaderMap, HeaderValue};

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "gRPC's own names and meanings")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    fn from_number(number: u8) -> Self {
        use Code::*;
        const ALL: [Code; 17] = [
            Ok,
            Cancelled,
            Unknown,
            InvalidArgument,
            DeadlineExceeded,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            ResourceExhausted,
            FailedPrecondition,
            Aborted,
            OutOfRange,
            Unimplemented,
            Internal,
            Unavailable,
            DataLoss,
            Unauthenticated,
        ];
        ALL.get(usize::from(number)).copied().unwrap_or(Unknown)
    }
}

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

    /// The trailers that end a call.
    pub(crate) fn trailers(result: Result<(), &Self>) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let code = result.map_or_else(|status| status.code, |()| Code::Ok);
        trailers.insert("grpc-status", HeaderValue::from(u16::from(code as u8)));
        if let Err(status) = result
            && let Ok(text) = HeaderValue::from_str(&percent_encoded(&status.message))
        {
            trailers.insert("grpc-message", text);
        }
        trailers
    }

    /// What trailers, or the headers of an answer without a body, say. `None`
    /// where they say nothing about the call.
    pub(crate) fn from_trailers(trailers: &HeaderMap) -> Option<Result<(), Self>> {
        let code = trailers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let code = Code::from_number(code);
        if code == Code::Ok {
            return Some(Ok(()));
        }
        let message = trailers.get("grpc-message").and_then(|text| text.to_str().ok());
        Some(Err(Self::new(code, percent_decoded(message.unwrap_or_default()))))
    }
}

/// As gRPC wants messages in headers: printable ASCII but for `%`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_status_reads_back(number in 1u8..17, message in "\\PC*") {
            let status = Status::new(Code::from_number(number), message);
            let trailers = Status::trailers(Err(&status));
            proptest::prop_assert_eq!(Status::from_trailers(&trailers), Some(Err(status)));
        }

        #[test]
        fn junk_never_panics(text in "[%0-9A-Fg ]{0,20}") {
            percent_decoded(&text);
        }
    }

    #[test]
    fn ok_and_nothing_differ() {
        assert_eq!(Status::from_trailers(&Status::trailers(Ok(()))), Some(Ok(())));
        assert_eq!(Status::from_trailers(&HeaderMap::new()), None);
    }
}

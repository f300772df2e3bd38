//! `metav1.Status`: the body of every failed request.
//!
//! Scripts and client libraries match on codes, reasons and messages, so the
//! constructors here give upstream's wording (apimachinery `api/errors`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::GroupVersionResource;

/// The outcome of a request that returns no object; also an error type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `Status`.
    #[serde(default)]
    pub kind: String,
    /// Always `v1`.
    #[serde(default)]
    pub api_version: String,
    /// Empty for a Status; upstream writes it. Boxed, as are the details, since
    /// this is an error type and results should stay small.
    #[serde(default)]
    pub metadata: Box<serde_json::Map<String, serde_json::Value>>,
    /// `Success` or `Failure`.
    #[serde(default)]
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs.
    #[serde(default, skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    /// What the failure is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: u16,
}

/// `status.details`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (kind for invalid objects), as upstream does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One a fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When trying again makes sense; 0 for not said.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One fault of an invalid object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people, without the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

macro_rules! reasons {
    ($($name:ident $code:literal,)*) => {
        /// `metav1.StatusReason`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = concat!("HTTP ", $code)] $name,)*
            /// Upstream's empty reason.
            #[default]
            #[serde(other, rename = "")]
            Unknown,
        }
        impl Reason {
            /// The HTTP status code that goes with the reason.
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* Self::Unknown => 500 }
            }
        }
    };
}

reasons! {
    BadRequest 400,
    Unauthorized 401,
    Forbidden 403,
    NotFound 404,
    MethodNotAllowed 405,
    NotAcceptable 406,
    AlreadyExists 409,
    Conflict 409,
    Gone 410,
    Expired 410,
    RequestEntityTooLarge 413,
    UnsupportedMediaType 415,
    Invalid 422,
    TooManyRequests 429,
    InternalError 500,
    ServerTimeout 500,
    ServiceUnavailable 503,
    Timeout 504,
}

impl Reason {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

impl Status {
    /// A failure with a reason and a message; the code follows from the reason.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Box::default(),
            status: "Failure".into(),
            message: message.into(),
            reason,
            details: None,
            code: reason.code(),
        }
    }

    /// What a delete answers when the object is gone.
    pub fn success(gvr: &GroupVersionResource, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..Self::about(gvr, name) };
        Self {
            status: "Success".into(),
            reason: Reason::Unknown,
            code: 200,
            details: Some(Box::new(details)),
            ..Self::failure(Reason::Unknown, "")
        }
    }

    /// `pods "a" not found`.
    pub fn not_found(gvr: &GroupVersionResource, name: &str) -> Self {
        Self::failure(Reason::NotFound, format!("{gvr} \"{name}\" not found"))
            .with_details(Self::about(gvr, name))
    }

    /// `pods "a" already exists`.
    pub fn already_exists(gvr: &GroupVersionResource, name: &str) -> Self {
        Self::failure(Reason::AlreadyExists, format!("{gvr} \"{name}\" already exists"))
            .with_details(Self::about(gvr, name))
    }

    /// `Operation cannot be fulfilled on pods "a": <why>`.
    pub fn conflict(gvr: &GroupVersionResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {gvr} \"{name}\": {why}");
        Self::failure(Reason::Conflict, message).with_details(Self::about(gvr, name))
    }

    /// The conflict of an update that carries an old resourceVersion.
    pub fn modified(gvr: &GroupVersionResource, name: &str) -> Self {
        Self::conflict(
            gvr,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `pods "a" is forbidden: <why>`; without a name, `pods is forbidden: <why>`.
    pub fn forbidden(gvr: &GroupVersionResource, name: &str, why: &str) -> Self {
        let message = match name {
            "" if gvr.resource.is_empty() => format!("forbidden: {why}"),
            "" => format!("{gvr} is forbidden: {why}"),
            name => format!("{gvr} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(Reason::Forbidden, message).with_details(Self::about(gvr, name))
    }

    /// `Pod "a" is invalid: <field>: <message>`, with one cause a fault.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut faults: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let all = match faults.len() {
            1 => faults.remove(0),
            _ => format!("[{}]", faults.join(", ")),
        };
        // Upstream names the kind with its group: `Deployment.apps "a" is invalid`.
        let title = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        Self::failure(Reason::Invalid, format!("{title} \"{name}\" is invalid: {all}"))
            .with_details(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(Reason::BadRequest, message)
    }

    /// 500; `Internal error occurred: <what>`.
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::failure(Reason::InternalError, format!("Internal error occurred: {what}"))
    }

    /// 410 for a revision or continue token past the history window.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(Reason::Expired, message)
    }

    /// Adds what the failure is about.
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(gvr: &GroupVersionResource, name: &str) -> Details {
        Details {
            name: name.into(),
            group: gvr.group.clone(),
            kind: gvr.resource.clone(),
            ..Details::default()
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_upstreams() {
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        assert_eq!(
            Status::not_found(&deployments, "a").message,
            "deployments.apps \"a\" not found"
        );
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        };
        assert_eq!(
            Status::invalid("apps", "Deployment", "a", vec![cause("spec.selector")]).message,
            "Deployment.apps \"a\" is invalid: spec.selector: Required value"
        );
        assert_eq!(
            Status::invalid("", "Pod", "a", vec![cause("x"), cause("y")]).message,
            "Pod \"a\" is invalid: [x: Required value, y: Required value]"
        );
    }

    #[test]
    fn json_reads_back() {
        let status = Status::not_found(&GroupVersionResource::new("", "v1", "pods"), "a");
        let text = serde_json::to_string(&status).expect("plain data");
        assert_eq!(
            text,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#
        );
        assert_eq!(serde_json::from_str::<Status>(&text).expect("our own"), status);
    }
}

//! Which kind a body should be of, and what is said of one that is of no kind or
//! of another.

use api_object::Status;
use serde_json::Value;

use super::FieldValidation;
use crate::{Schema, ShapeRef, Subresource, json_fault, json_kind};

/// As much of a body is shown where nothing else is known of it.
const SUMMARY_BYTES_MAX: usize = 30;

/// What a body should be.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// `apps/v1`.
    pub api_version: String,
    /// `v1`.
    pub version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Of built-in kinds; upstream reads custom ones in another way.
    pub shape: Option<&'a ShapeRef>,
}

/// What a decoder gives: the object and what only strict validation minds.
type Decoded = Result<(Value, Vec<String>), String>;

impl<'a> Expected<'a> {
    /// The body of a subresource, whose kind differs from the resource's.
    pub fn of_sub(sub: &'a Subresource, shape: &'a ShapeRef) -> Self {
        let kind = &sub.kind;
        let api_version = match &*kind.group {
            "" => kind.version.clone(),
            group => format!("{group}/{}", kind.version),
        };
        Self { api_version, version: &kind.version, kind: &kind.kind, shape: Some(shape) }
    }
}

impl Expected<'_> {
    /// Checks what a decoder gave against the kind that it should be. `text` is
    /// the JSON that it was given, if it was.
    ///
    /// # Errors
    /// 400 in upstream's words: not JSON, wrong types, another kind or version,
    /// unknown or duplicate fields where `mode` is strict.
    pub fn check(
        &self,
        text: Option<&[u8]>,
        decoded: Decoded,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let bad = |why: &str| {
            Status::bad_request(cannot_be_handled(self.kind, self.version, self.kind) + why)
        };
        let (mut object, mut warnings) = match decoded {
            Ok(decoded) => decoded,
            Err(why) => {
                // Which kind a body says it is comes first.
                let Some(text) = text else { return Err(bad(&why)) };
                if let Some(fault) = json_fault(text) {
                    return Err(self.unrecognized(&no_kind(&fault), text));
                }
                if let Ok(said) = serde_json::from_slice(text) {
                    self.check_kind(&said, Some(text))?;
                }
                return Err(bad(&why));
            }
        };
        self.check_kind(&object, text)?;
        if let Value::Object(fields) = &mut object {
            fields.insert("apiVersion".into(), self.api_version.clone().into());
            fields.insert("kind".into(), self.kind.into());
        }
        match mode {
            FieldValidation::Ignore => warnings.clear(),
            FieldValidation::Warn => {}
            FieldValidation::Strict if warnings.is_empty() => {}
            FieldValidation::Strict => {
                return Err(bad(&format!("strict decoding error: {}", warnings.join(", "))));
            }
        }
        Ok((object, warnings))
    }

    fn check_kind(&self, object: &Value, text: Option<&[u8]>) -> Result<(), Status> {
        let mut said = [""; 2];
        for (said, field) in said.iter_mut().zip(["apiVersion", "kind"]) {
            *said = match object.get(field) {
                None | Some(Value::Null) => "",
                Some(Value::String(text)) => text,
                Some(other) => {
                    let got = json_kind(other);
                    let fault = format!(
                        "json: cannot unmarshal {got} into Go struct field .{field} of type string"
                    );
                    return Err(self.unrecognized_as(&no_kind(&fault), text, object));
                }
            };
        }
        let [version, kind] = said;
        if version.matches('/').count() > 1 {
            let fault = format!("unexpected GroupVersion string: {version}");
            return Err(self.unrecognized_as(&fault, text, object));
        }
        let Some(shape) = self.shape else {
            return self.check_custom(version, kind, text, object);
        };
        let version = if version.is_empty() { &*self.api_version } else { version };
        let kind = if kind.is_empty() { self.kind } else { kind };
        if (version, kind) == (&*self.api_version, self.kind) {
            return Ok(());
        }
        let bare = version.rsplit('/').next().unwrap_or_default();
        let why = match knows(&shape.schema, version, kind) {
            false => format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            ),
            true if kind == self.kind => return Err(self.other_version(version)),
            true => {
                let package = shape.schema.name(shape.id).split('/').next().unwrap_or_default();
                let wanted = self.kind;
                format!("converting ({bare}.{kind}) to ({package}.{wanted}): unknown conversion")
            }
        };
        Err(Status::bad_request(cannot_be_handled(kind, bare, self.kind) + &why))
    }

    /// Custom kinds are not filled in from the address.
    fn check_custom(
        &self,
        version: &str,
        kind: &str,
        text: Option<&[u8]>,
        object: &Value,
    ) -> Result<(), Status> {
        if kind.is_empty() {
            let whole = text.map(String::from_utf8_lossy);
            let whole = whole.unwrap_or_else(|| object.to_string().into());
            let fault = format!("Object 'Kind' is missing in '{whole}'");
            return Err(self.unrecognized_as(&fault, text, object));
        }
        if version != self.api_version {
            return Err(self.other_version(version));
        }
        if kind != self.kind {
            return Err(Status::bad_request(format!(
                "the kind in the data ({kind}) does not match the expected kind ({})",
                self.kind
            )));
        }
        Ok(())
    }

    fn other_version(&self, version: &str) -> Status {
        Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            self.api_version
        ))
    }

    fn unrecognized_as(&self, fault: &str, text: Option<&[u8]>, object: &Value) -> Status {
        match text {
            Some(text) => self.unrecognized(fault, text),
            None => self.unrecognized(fault, object.to_string().as_bytes()),
        }
    }

    /// 400 for a body that does not say what it is.
    pub fn unrecognized(&self, fault: &str, text: &[u8]) -> Status {
        let kind = self.kind;
        let summary = summary(text);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {fault} ({summary})"
        ))
    }
}

/// How the message begins of what is no object of a kind; why follows.
pub fn cannot_be_handled(said: &str, version: &str, kind: &str) -> String {
    format!("{said} in version {version:?} cannot be handled as a {kind}: ")
}

fn no_kind(fault: &str) -> String {
    format!("couldn't get version/kind; json parse error: {fault}")
}

/// Whether a kind is a built-in one: shapes go by the first word of their group.
fn knows(schema: &Schema, api_version: &str, kind: &str) -> bool {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or_default();
    let found = schema.find(&format!("{package}/{version}.{kind}"));
    found.is_some_and(|id| schema.field(id, "apiVersion").is_some() && !kind.ends_with("Reference"))
}

/// The beginning of a body.
fn summary(text: &[u8]) -> String {
    let (shown, more) = match text.get(..SUMMARY_BYTES_MAX) {
        Some(beginning) if text.len() > SUMMARY_BYTES_MAX => (beginning, " ..."),
        _ => (text, ""),
    };
    let shown = match shown {
        [] => "<empty>".to_owned(),
        [b'{', ..] => String::from_utf8_lossy(shown).into_owned(),
        _ => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    shown + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_far_as_it_tells_something() {
        let long = format!("{{\"kind\":\"{}\"", "x".repeat(40));
        for (text, shown) in [
            (&b""[..], "<empty>"),
            (b"{", "{"),
            (b"xx", "7878"),
            (long.as_bytes(), "{\"kind\":\"xxxxxxxxxxxxxxxxxxxxx ..."),
        ] {
            assert_eq!(summary(text), shown);
        }
        assert_eq!(summary(&[0xff; 31]), format!("{} ...", "ff".repeat(30)));
    }

    /// Nothing is filled in from the address, so that a kind must be said.
    #[test]
    fn custom_objects_say_what_they_are() {
        let expected =
            Expected { api_version: "a.io/v1".into(), version: "v1", kind: "Foo", shape: None };
        for (text, message) in [
            (
                r#"{"apiVersion":"a.io/v1"}"#,
                r#"the object provided is unrecognized (must be of type Foo): Object 'Kind' is missing in '{"apiVersion":"a.io/v1"}' ({"apiVersion":"a.io/v1"})"#,
            ),
            (
                r#"{"kind":"Foo"}"#,
                "the API version in the data () does not match the expected API version (a.io/v1)",
            ),
            (
                r#"{"apiVersion":"a.io/v1","kind":"Bar"}"#,
                "the kind in the data (Bar) does not match the expected kind (Foo)",
            ),
            (
                r#"{"apiVersion":"a.io/v1","kind":"Foo""#,
                r#"the object provided is unrecognized (must be of type Foo): couldn't get version/kind; json parse error: unexpected end of JSON input ({"apiVersion":"a.io/v1","kind" ...)"#,
            ),
        ] {
            let decoded = serde_json::from_str(text).map(|object| (object, Vec::new()));
            let decoded = decoded.map_err(|error: serde_json::Error| error.to_string());
            let refused = expected.check(Some(text.as_bytes()), decoded, FieldValidation::Warn);
            assert_eq!(refused.expect_err(text).message, message);
        }
        let good = serde_json::json!({"apiVersion": "a.io/v1", "kind": "Foo"});
        expected.check(None, Ok((good, Vec::new())), FieldValidation::Warn).expect("is one");
    }
}

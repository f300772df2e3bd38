//! The kinds of patches, from bytes to a changed tree.

use api_object::{
    Reason, Status,
    status::{Cause, Details},
};
use api_schema::{
    Expected, FieldValidation, ResourceSpec, Role, Subresource, cannot_be_handled, converter_fault,
    go_shown, json_fault, json_kind,
};
use json_patch::PatchOperation;
use serde_json::Value;

/// Upstream's limits for one JSON patch: operations, and bytes that it copies. Without the
/// second a few `copy`s of what was copied before make any size of a small patch.
const OPERATIONS_MAX: usize = 10_000;
const COPIED_MAX: usize = 3 * 1024 * 1024;

/// A patch that parsed.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, with merge keys.
    Strategic(Value),
    /// Server-side apply of a configuration, with what strict validation says of
    /// how it is written.
    Apply {
        /// The fields that the applier wants.
        config: Value,
        /// Fields that are there twice; empty for none.
        duplicates: String,
    },
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

impl Patch {
    /// The media type of server-side apply.
    pub const APPLY: &'static str = "application/apply-patch+yaml";

    /// Whether a kind takes patches of a media type. Custom kinds have no merge
    /// keys, so there is nothing strategic about them.
    ///
    /// # Errors
    /// 415 that names the media types that it takes.
    pub fn check_type(spec: &ResourceSpec, media_type: &str) -> Result<(), Status> {
        let strategic = spec.custom.is_none();
        let all = [JSON, MERGE, STRATEGIC, Self::APPLY];
        let taken = all.into_iter().filter(|&taken| strategic || taken != STRATEGIC);
        if taken.clone().any(|taken| taken == media_type) {
            return Ok(());
        }
        let taken: Vec<&str> = taken.collect();
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            taken.join(", ")
        );
        Err(Status::failure(Reason::UnsupportedMediaType, message))
    }

    /// Reads a patch of a media type other than [`Self::APPLY`].
    ///
    /// # Errors
    /// 400 where it does not parse, 413 for too many operations.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, Status> {
        let bad = |why: String| Status::bad_request(format!("error decoding patch: {why}"));
        let tree: Value = serde_json::from_slice(bytes)
            .map_err(|error| bad(json_fault(bytes).unwrap_or_else(|| error.to_string())))?;
        let wrong = |got: &Value, wanted: &str| {
            let got = json_kind(got);
            format!("json: cannot unmarshal {got} into Go value of type {wanted}")
        };
        if media_type != JSON {
            return match tree {
                Value::Object(_) if media_type == MERGE => Ok(Self::Merge(tree)),
                Value::Object(_) => Ok(Self::Strategic(tree)),
                other if media_type == MERGE => Err(bad(wrong(&other, "map[string]interface {}"))),
                other => Err(Status::bad_request(wrong(&other, "map[string]interface {}"))),
            };
        }
        let operations = match &tree {
            Value::Array(operations) => operations,
            other => return Err(bad(wrong(other, "[]handlers.jsonPatchOp"))),
        };
        if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
            return Err(bad(wrong(other, "handlers.jsonPatchOp")));
        }
        let known = |operation: &Value| {
            let op = operation["op"].as_str().unwrap_or_default();
            ["add", "remove", "replace", "move", "copy", "test"].contains(&op)
        };
        if operations.len() <= OPERATIONS_MAX && !operations.iter().all(known) {
            return Err(unprocessable());
        }
        let patch: json_patch::Patch =
            serde_json::from_value(tree).map_err(|error| bad(error.to_string()))?;
        match patch.0.len() {
            count if count > OPERATIONS_MAX => Err(Status::failure(
                Reason::RequestEntityTooLarge,
                format!(
                    "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
                ),
            )),
            _ => Ok(Self::Json(patch)),
        }
    }

    /// What becomes of fields that a configuration has twice: texts for `Warning`
    /// headers.
    ///
    /// # Errors
    /// 400 where validation is strict.
    pub(crate) fn strict(
        duplicates: &str,
        mode: FieldValidation,
    ) -> Result<Option<String>, Status> {
        match mode {
            FieldValidation::Strict if !duplicates.is_empty() => {
                Err(Status::bad_request(format!("error strict decoding patch: {duplicates}")))
            }
            FieldValidation::Warn if !duplicates.is_empty() => Ok(Some(duplicates.to_owned())),
            _ => Ok(None),
        }
    }

    /// Whether the patch says anything of who manages what, so that it has to be
    /// applied to an object with its managers.
    pub(crate) fn names_managers(&self) -> bool {
        let named = |tree: &Value| tree.pointer("/metadata/managedFields").is_some();
        match self {
            Self::Json(patch) => patch.0.iter().any(|operation| {
                let from = match operation {
                    PatchOperation::Move(moved) => moved.from.as_str(),
                    PatchOperation::Copy(copied) => copied.from.as_str(),
                    _ => "/",
                };
                // Operations on a whole reach its parts.
                let reaches = |path: &str| {
                    matches!(path, "" | "/metadata") || path.starts_with("/metadata/managedFields")
                };
                reaches(operation.path().as_str()) || reaches(from)
            }),
            Self::Merge(tree) => named(tree),
            // `$patch: replace` leaves what is not named.
            Self::Strategic(tree) => named(tree),
            Self::Apply { .. } => false,
        }
    }

    /// The view with the patch applied, decoded and defaulted, and texts for
    /// `Warning` headers.
    ///
    /// # Errors
    /// 400 and 422 for patches that do not fit the object.
    pub(crate) fn apply(
        &self,
        spec: &ResourceSpec,
        sub: Option<&Subresource>,
        base: &Value,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let patched = self.patched(spec, sub, base)?;
        view(spec, sub, patched, mode).map_err(|status| {
            let (version, kind) = match is_scale(sub) {
                true => ("v1", "Scale"),
                false => (&*spec.version, &*spec.kind),
            };
            // Upstream shows what came of the patch, in place of a bad request.
            let why = status.message.strip_prefix(&cannot_be_handled(kind, version, kind));
            match (why, self) {
                (None, _) => status,
                // A strategic patch is merged as a tree, so it is shown itself.
                (Some(why), Self::Strategic(patch)) if !is_scale(sub) => {
                    let why = converter_fault(why).unwrap_or_else(|| why.to_owned());
                    misshapen(&why, &go_shown(patch))
                }
                (Some(why), _) => match self.patched(spec, sub, base) {
                    Ok(patched) => misshapen(why, &patched.to_string()),
                    Err(status) => status,
                },
            }
        })
    }

    /// The view with the patch applied, whatever it is then.
    fn patched(
        &self,
        spec: &ResourceSpec,
        sub: Option<&Subresource>,
        base: &Value,
    ) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => {
                let mut patched = base.clone();
                match operate(&mut patched, patch) {
                    Ok(()) => Ok(patched),
                    Err(fault @ PatchFault::Copies(_)) => Err(Status::failure(
                        Reason::RequestEntityTooLarge,
                        format!("Request entity too large: {fault}"),
                    )),
                    Err(PatchFault::Operation(error)) => Err(rejected(&error)),
                }
            }
            Self::Strategic(patch) if !is_scale(sub) => {
                spec.strategic_merge(base.clone(), patch.clone())
            }
            // A Scale has no lists to merge, so both kinds mean the same for it.
            Self::Merge(patch) | Self::Strategic(patch) => {
                let mut patched = base.clone();
                json_patch::merge(&mut patched, patch);
                Ok(patched)
            }
            Self::Apply { .. } => Err(Status::internal("an apply is no patch of bytes")),
        }
    }
}

/// Why a JSON Patch (RFC 6902) was not applied.
#[derive(Debug)]
pub enum PatchFault {
    /// One of its operations does not fit the object.
    Operation(json_patch::PatchError),
    /// It copies so many bytes at least, which are too many.
    Copies(usize),
}

impl std::fmt::Display for PatchFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operation(error) => error.fmt(f),
            Self::Copies(size) => write!(
                f,
                "Unable to complete the copy, the accumulated size increase of copy is {size}, \
                 exceeding the limit {COPIED_MAX}"
            ),
        }
    }
}

/// Applies a JSON Patch (RFC 6902).
///
/// # Errors
/// The first operation that does not fit, or the copy that is too much; the object is then
/// changed by those before it.
pub fn operate(object: &mut Value, patch: &[PatchOperation]) -> Result<(), PatchFault> {
    let mut copied = Counted(0);
    for operation in patch {
        if let PatchOperation::Copy(copy) = operation
            && let Some(value) = object.pointer(copy.from.as_str())
            && serde_json::to_writer(&mut copied, value).is_err()
        {
            return Err(PatchFault::Copies(copied.0));
        }
        json_patch::patch(object, std::slice::from_ref(operation))
            .map_err(PatchFault::Operation)?;
    }
    Ok(())
}

/// Counts what is written, and refuses what is too much.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        match self.0 {
            0..=COPIED_MAX => Ok(bytes.len()),
            _ => Err(std::io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_scale(sub: Option<&Subresource>) -> bool {
    sub.is_some_and(|sub| matches!(sub.role, Role::Scale(_)))
}

/// 422 that shows what a patch made, which is no object of the kind.
fn misshapen(what: &str, patched: &str) -> Status {
    let message = format!("Invalid value: {patched:?}: {what}");
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "patch".into() };
    Status::invalid("", "", "", vec![cause])
}

/// What a patch or an apply made of the view, decoded and defaulted.
///
/// # Errors
/// 422 that shows it, where it is no object of the kind any more.
pub(crate) fn view(
    spec: &ResourceSpec,
    sub: Option<&Subresource>,
    patched: Value,
    mode: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let text = (mode == FieldValidation::Strict).then(|| patched.to_string());
    let text = text.as_deref().unwrap_or_default();
    let lenient = match mode {
        FieldValidation::Ignore => FieldValidation::Ignore,
        FieldValidation::Warn | FieldValidation::Strict => FieldValidation::Warn,
    };
    let scale = sub.filter(|sub| matches!(sub.role, Role::Scale(_)));
    let (view, warnings) = match scale {
        None => {
            let (mut view, warnings) = spec.conform(patched, lenient)?;
            spec.default(&mut view);
            (view, warnings)
        }
        Some(sub) => {
            let Some(shape) = &sub.shape else {
                return Err(Status::internal("a Scale without a shape"));
            };
            Expected::of_sub(sub, shape).check(None, shape.conform(patched), lenient)?
        }
    };
    match mode {
        FieldValidation::Strict if !warnings.is_empty() => {
            Err(misshapen(&format!("strict decoding error: {}", warnings.join(", ")), text))
        }
        _ => Ok((view, warnings)),
    }
}

/// Upstream's words are bare, and scripts know them so; which operation failed is
/// told in the log alone.
fn rejected(error: &json_patch::PatchError) -> Status {
    tracing::debug!(%error, "a JSON patch does not fit its object");
    unprocessable()
}

fn unprocessable() -> Status {
    Status::failure(
        Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
    .with_details(Details::default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_patch_is_refused() {
        for (media_type, text, code) in [
            ("application/json-patch+json", "{}", 400),
            ("application/json-patch+json", r#"[{"op":"jump","path":"/a"}]"#, 422),
            ("application/merge-patch+json", "[]", 400),
            ("application/strategic-merge-patch+json", "{", 400),
        ] {
            let status = Patch::parse(media_type, text.as_bytes()).expect_err(text);
            assert_eq!(status.code, code, "{media_type} {text}");
        }
        for (media_type, text, message) in [
            (MERGE, r#"{"data":"#, "error decoding patch: unexpected end of JSON input"),
            (
                MERGE,
                r#"["a"]"#,
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (
                STRATEGIC,
                "5",
                "json: cannot unmarshal number into Go value of type map[string]interface {}",
            ),
            (
                JSON,
                r#"{"op":"add"}"#,
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
            (
                JSON,
                r#"[{"op":"jump","path":"/a"}]"#,
                "the server rejected our request due to an error in our request",
            ),
        ] {
            let status = Patch::parse(media_type, text.as_bytes()).expect_err(text);
            assert_eq!(status.message, message, "{media_type} {text}");
        }
        let many = vec![r#"{"op":"test","path":"/a","value":1}"#; OPERATIONS_MAX + 1].join(",");
        let status = Patch::parse(JSON, format!("[{many}]").as_bytes());
        assert_eq!(status.expect_err("too many").code, 413);
    }

    /// Each copy doubles the object: sixty of them are more than any machine has.
    #[test]
    fn copies_do_not_grow_without_end() {
        let copies = |count: usize, size: usize| {
            let mut tree = serde_json::json!({"data": {"y": "y".repeat(size)}});
            let operations: Vec<_> = (0..count)
                .map(|n| serde_json::json!({"op": "copy", "from": "/data", "path": format!("/data/k{n}")}))
                .collect();
            let patch: json_patch::Patch =
                serde_json::from_value(operations.into()).expect("a patch");
            operate(&mut tree, &patch).map(|()| tree.to_string().len())
        };
        let most = 2 * COPIED_MAX;
        assert!(copies(4, 100_000).is_ok_and(|size| size < most));
        assert!(matches!(copies(60, 100_000), Err(PatchFault::Copies(size)) if size < most));
        assert!(matches!(copies(60, 1), Err(PatchFault::Copies(_))));
        assert!(matches!(copies(1, COPIED_MAX), Err(PatchFault::Copies(_))));
        assert!(copies(1, COPIED_MAX - 20).is_ok());

        let mut tree = serde_json::json!({"a": 1});
        let patch: json_patch::Patch = serde_json::from_value(serde_json::json!([
            {"op": "copy", "from": "/b", "path": "/c"},
        ]))
        .expect("a patch");
        assert!(matches!(operate(&mut tree, &patch), Err(PatchFault::Operation(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(media_type in 0usize..3, text in ".{0,64}") {
            let _ = Patch::parse([JSON, MERGE, STRATEGIC][media_type], text.as_bytes());
        }

        #[test]
        fn no_pointer_panics(path in "(/[a-z0-9~-]{0,3}){0,4}", from in "(/[a-z0-9~-]{0,3}){0,4}", op in "add|remove|replace|move|copy|test") {
            let text = serde_json::json!([{"op": op, "path": path, "from": from, "value": null}]);
            if let Ok(Patch::Json(patch)) = Patch::parse(JSON, text.to_string().as_bytes()) {
                let mut tree = serde_json::json!({"a": [1, {"b": null}], "": {"~": 0}});
                let mut bounded = tree.clone();
                let done = json_patch::patch(&mut tree, &patch);
                assert_eq!(operate(&mut bounded, &patch).is_ok(), done.is_ok());
                assert_eq!(bounded, tree);
            }
        }
    }
}

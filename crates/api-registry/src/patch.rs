//! The three kinds of patches, from bytes to a changed tree.

use api_object::{
    Reason, Status,
    status::{Cause, Details},
};
use api_schema::{FieldValidation, ResourceSpec, Role, Subresource, decoded_as};
use serde_json::Value;

/// Upstream's limit for one JSON patch.
const OPERATIONS_MAX: usize = 10_000;

/// A patch that parsed.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, with merge keys.
    Strategic(Value),
}

impl Patch {
    /// Media types that [`Self::parse`] reads, in the order in which they are offered.
    pub const MEDIA_TYPES: [&str; 3] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];

    /// Reads a patch of a media type.
    ///
    /// # Errors
    /// 400 where it does not parse, 413 for too many operations, 415 for other
    /// media types, server-side apply among them for now.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, Status> {
        let tree = || {
            let tree: Value = serde_json::from_slice(bytes)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            match tree {
                Value::Object(_) => Ok(tree),
                _ => {
                    Err(Status::bad_request("error decoding patch: a patch must be a JSON object"))
                }
            }
        };
        match media_type {
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_slice(bytes).map_err(|error| {
                    Status::bad_request(format!("error decoding patch: {error}"))
                })?;
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
            "application/merge-patch+json" => tree().map(Self::Merge),
            "application/strategic-merge-patch+json" => tree().map(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(unsupported(
                "server-side apply (application/apply-patch+yaml) is not served yet",
            )),
            other => Err(unsupported(&format!(
                "the body of the request was in an unknown format \"{other}\" - accepted media types include: {}",
                Self::MEDIA_TYPES.join(", ")
            ))),
        }
    }

    /// The view with the patch applied, decoded and defaulted, and texts for
    /// `Warning` headers.
    ///
    /// # Errors
    /// 400 and 422 for patches that do not fit the object, 415 for a strategic
    /// merge patch of a kind that does not know one.
    pub(crate) fn apply(
        &self,
        spec: &ResourceSpec,
        sub: Option<&Subresource>,
        base: &Value,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let scale = sub.filter(|sub| matches!(sub.role, Role::Scale(_)));
        let patched = match (self, scale) {
            (Self::Json(patch), _) => {
                let mut patched = base.clone();
                json_patch::patch(&mut patched, patch).map_err(|error| rejected(&error))?;
                patched
            }
            // A Scale has no lists to merge, so both kinds mean the same for it.
            (Self::Merge(patch), _) | (Self::Strategic(patch), Some(_)) => {
                let mut patched = base.clone();
                json_patch::merge(&mut patched, patch);
                patched
            }
            (Self::Strategic(patch), None) => spec.strategic_merge(base.clone(), patch.clone())?,
        };
        match scale {
            None => {
                let (mut view, warnings) = spec.conform(patched, mode)?;
                spec.default(&mut view);
                Ok((view, warnings))
            }
            Some(sub) => {
                let Some(shape) = &sub.shape else {
                    return Err(Status::internal("a Scale without a shape"));
                };
                let decoded = shape.conform(patched);
                decoded_as("autoscaling/v1", "v1", "Scale", decoded, mode)
            }
        }
    }
}

fn unsupported(message: &str) -> Status {
    Status::failure(Reason::UnsupportedMediaType, message)
}

/// Upstream's words are bare; which operation failed stands in the causes.
fn rejected(error: &json_patch::PatchError) -> Status {
    let cause = Cause { field: "patch".into(), message: error.to_string(), ..Cause::default() };
    let details = Details { causes: vec![cause], ..Details::default() };
    Status::failure(
        Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
    .with_details(details)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_patch_is_refused() {
        for (media_type, text, code) in [
            ("application/json-patch+json", "{}", 400),
            ("application/json-patch+json", r#"[{"op":"jump","path":"/a"}]"#, 400),
            ("application/merge-patch+json", "[]", 400),
            ("application/strategic-merge-patch+json", "{", 400),
            ("application/apply-patch+yaml", "a: b", 415),
            ("application/json", "{}", 415),
        ] {
            let status = Patch::parse(media_type, text.as_bytes()).expect_err(text);
            assert_eq!(status.code, code, "{media_type} {text}");
        }
        let many = vec![r#"{"op":"test","path":"/a","value":1}"#; OPERATIONS_MAX + 1].join(",");
        let status = Patch::parse(Patch::MEDIA_TYPES[0], format!("[{many}]").as_bytes());
        assert_eq!(status.expect_err("too many").code, 413);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(media_type in 0usize..3, text in ".{0,64}") {
            let _ = Patch::parse(Patch::MEDIA_TYPES[media_type], text.as_bytes());
        }

        #[test]
        fn no_pointer_panics(path in "(/[a-z0-9~-]{0,3}){0,4}", from in "(/[a-z0-9~-]{0,3}){0,4}", op in "add|remove|replace|move|copy|test") {
            let text = serde_json::json!([{"op": op, "path": path, "from": from, "value": null}]);
            if let Ok(Patch::Json(patch)) = Patch::parse(Patch::MEDIA_TYPES[0], text.to_string().as_bytes()) {
                let mut tree = serde_json::json!({"a": [1, {"b": null}], "": {"~": 0}});
                let _ = json_patch::patch(&mut tree, &patch);
            }
        }
    }
}

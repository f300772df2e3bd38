//! Whether an object is selected by labels and fields, reading no more of its
//! bytes than the question needs.

use std::borrow::Cow;

use api_object::{FieldSelector, LabelSelector, Object, Status};
use api_schema::ResourceSpec;
use store::Item;

use crate::{options::ListOptions, stored};

/// Both selectors of a request, checked against the kind.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Name and namespace are known from the key, so nothing is decoded.
    only_key_fields: bool,
}

impl Selection {
    /// # Errors
    /// 400 for fields that the kind does not let select.
    pub(crate) fn new(
        spec: &ResourceSpec,
        options: &ListOptions,
        name: &str,
    ) -> Result<Self, Status> {
        let mut fields = options.field_selector.clone();
        if !name.is_empty() {
            // A watch of one object by its path is a field selector.
            if fields.required("metadata.name").is_some_and(|selected| selected != name) {
                return Err(Status::bad_request(
                    "fieldSelector metadata.name doesn't match requested name",
                ));
            }
            fields = FieldSelector::parse(&format!("metadata.name={name}"))
                .map_err(|error| Status::bad_request(error.to_string()))?;
        }
        let mut only_key_fields = true;
        for (field, _, _) in &fields.terms {
            let key_field = matches!(field.as_str(), "metadata.name" | "metadata.namespace");
            only_key_fields &= key_field;
            if !key_field && !spec.selectable.iter().any(|row| row.name == *field) {
                return Err(Status::bad_request(unsupported(spec, field)));
            }
        }
        Ok(Self { labels: options.label_selector.clone(), fields, only_key_fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The only name that can match.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    /// # Errors
    /// 500 where the stored bytes are no object.
    pub(crate) fn matches(
        &self,
        spec: &ResourceSpec,
        item: &Item,
        epoch: u32,
    ) -> Result<bool, Status> {
        if !self.fields.is_empty() {
            let [_, _, namespace, name] = item.key.segments();
            let by_key = |field: &str| match field {
                "metadata.name" => Some(Cow::Borrowed(name)),
                "metadata.namespace" => Some(Cow::Borrowed(namespace)),
                _ => None,
            };
            let selected = if self.only_key_fields {
                self.fields.matches(|field| by_key(field).unwrap_or_default())
            } else {
                let object = stored::decode(spec, item, epoch)?;
                self.fields.matches(|field| match by_key(field) {
                    Some(value) => value,
                    None => Cow::Owned(spec.select(&object, field).unwrap_or_default()),
                })
            };
            if !selected {
                return Ok(false);
            }
        }
        if self.labels.is_empty() {
            return Ok(true);
        }
        let object = Object::parse(item.value.data.clone())
            .map_err(|error| Status::internal(format!("stored object {}: {error}", item.key)))?;
        Ok(self.labels.matches(&object.meta.labels))
    }
}

fn unsupported(spec: &ResourceSpec, field: &str) -> String {
    let beyond_metadata = spec.selectable.iter().any(|row| !row.name.starts_with("metadata."));
    if beyond_metadata || spec.custom.is_some() {
        format!("field label not supported: {field}")
    } else {
        format!(
            "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    }
}

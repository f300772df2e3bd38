//! Why an apply is refused: others manage what it would change.

use api_object::{
    Reason, Status,
    status::{Cause, Details},
};

use super::{managers::ManagerId, set::FieldSet};

/// Fields that an apply would change and somebody else manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub(super) Vec<(ManagerId, FieldSet)>);

impl Conflicts {
    /// All fields.
    pub(super) fn fields(&self) -> FieldSet {
        self.0.iter().fold(FieldSet::default(), |all, (_, fields)| all.union(fields))
    }

    /// What is left where conflicts about some fields are none.
    pub(super) fn without(&self, allowed: &FieldSet) -> Self {
        let left = self.0.iter().map(|(id, fields)| (id.clone(), fields.difference(allowed)));
        Self(left.filter(|(_, fields)| !fields.is_empty()).collect())
    }

    /// 409 in upstream's words, with one cause a field.
    pub fn status(&self) -> Status {
        let mut causes = Vec::new();
        let mut text = Vec::new();
        for (id, fields) in &self.0 {
            text.push(format!("conflicts with {id}:"));
            for path in fields.paths() {
                text.push(format!("- {path}"));
                causes.push(Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {id}"),
                    field: path,
                });
            }
        }
        let message = match causes.as_slice() {
            [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
            many => format!("Apply failed with {} conflicts: {}", many.len(), text.join("\n")),
        };
        let details = Details { causes, ..Details::default() };
        Status::failure(Reason::Conflict, message).with_details(details)
    }
}

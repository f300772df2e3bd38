//! The label by which the pods of a selector are found.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use api_object::{LabelSelector, selector::Operator};

use crate::Labels;

/// Where to look for what has to do with a pod. Two labels may share one, so
/// that whoever is found still has to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handle {
    /// Under every pod: the selector names no value.
    Any,
    /// Under the pods that have a label.
    Label(u64),
}

fn of_label(key: &str, value: &str) -> Handle {
    Handle::Label(BuildHasherDefault::<DefaultHasher>::default().hash_one((key, value)))
}

/// Where what a selector is for is kept.
pub(crate) fn handle(selector: Option<&LabelSelector>) -> Handle {
    let mut requirements = selector.into_iter().flat_map(LabelSelector::requirements);
    let label = requirements.find_map(|requirement| match &requirement.operator {
        Operator::In(values) => match values.as_slice() {
            [value] => Some(of_label(&requirement.key, value)),
            _ => None,
        },
        _ => None,
    });
    label.unwrap_or(Handle::Any)
}

/// Where what has to do with a pod of these labels is kept.
pub(crate) fn handles(labels: &Labels) -> impl Iterator<Item = Handle> {
    let of_labels = labels.iter().map(|(key, value)| of_label(key, value));
    std::iter::once(Handle::Any).chain(of_labels)
}

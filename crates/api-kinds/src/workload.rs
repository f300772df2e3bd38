//! What the kinds that make pods share: their selectors and templates, their
//! counts, and what is worth a warning.

use api_object::{LabelSelector, name};
use api_schema::{Column, Faults, Path, ResourceSpec, tree};
use serde_json::Value;

use crate::{cells, pod, rules};

/// How a kind is called in the words of its faults.
pub(crate) struct Words {
    /// In `empty selector is invalid for deployment`.
    pub(crate) selector: &'static str,
    /// In `activeDeadlineSeconds in ReplicaSet is not Supported`.
    pub(crate) template: &'static str,
}

/// The selector is there, selects something, and matches the template.
pub(crate) fn selector(path: &Path<'_>, spec: &Value, words: &Words, faults: &mut Faults) {
    let selector = tree::get(spec, "selector");
    let at = path.child("selector");
    if selector.is_null() {
        // DaemonSets are told only that theirs, which selects nothing, does not select the pods.
        if words.selector != "daemonset" {
            faults.required(&at, "");
        }
        does_not_match(&path.child("template"), tree::get(spec, "template"), faults);
        return;
    }
    rules::label_selector(&at, selector, faults);
    if is_empty(selector) {
        let detail = format!("empty selector is invalid for {}", words.selector);
        faults.invalid(&at, selector.clone(), detail);
    } else {
        selects_template(&path.child("template"), selector, tree::get(spec, "template"), faults);
    }
}

/// Whether a `LabelSelector` says nothing.
pub(crate) fn is_empty(selector: &Value) -> bool {
    tree::entries(selector, "matchLabels").next().is_none()
        && tree::list(selector, "matchExpressions").is_empty()
}

/// Pods that come from the template are found by the selector. One that cannot
/// be read has its own faults.
pub(crate) fn selects_template(
    path: &Path<'_>,
    selector: &Value,
    template: &Value,
    faults: &mut Faults,
) {
    let Ok(selector) = LabelSelector::of_pods(selector) else { return };
    let labels = tree::entries(template, "metadata.labels")
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    if !selector.matches(&labels) {
        does_not_match(path, template, faults);
    }
}

fn does_not_match(path: &Path<'_>, template: &Value, faults: &mut Faults) {
    faults.invalid(
        &path.child("metadata.labels"),
        tree::get(template, "metadata.labels").clone(),
        "`selector` does not match template `labels`",
    );
}

/// The template is a pod that is always restarted.
pub(crate) fn template(path: &Path<'_>, template: &Value, words: &Words, faults: &mut Faults) {
    pod::validate_template(path, template, faults);
    let policy = tree::text(template, "spec.restartPolicy");
    if !matches!(policy, "Always" | "") {
        faults.unsupported(&path.child("spec.restartPolicy"), policy, ["Always"]);
    }
    if tree::int(template, "spec.activeDeadlineSeconds").is_some() {
        faults.forbidden(
            &path.child("spec.activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {} is not Supported", words.template),
        );
    }
}

/// `apps/v1` never lets a selector change.
pub(crate) fn selector_is_immutable(
    _: &ResourceSpec,
    new: &Value,
    old: &Value,
    faults: &mut Faults,
) {
    let path = "spec.selector";
    rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
}

/// Numbers of a status, none below zero.
pub(crate) fn counts(status: &Value, fields: &[&str], faults: &mut Faults) {
    let path = Path::new("status");
    for field in fields {
        rules::not_negative(&path.child(field), tree::int(status, field), faults);
    }
}

/// Numbers of a status that are parts of another.
pub(crate) fn parts(
    status: &Value,
    fields: &[&str],
    (whole, detail): (&str, &str),
    faults: &mut Faults,
) {
    let path = Path::new("status");
    let most = tree::int(status, whole).unwrap_or(0);
    for field in fields {
        if let Some(number) = tree::int(status, field).filter(|&number| number > most) {
            faults.invalid(&path.child(field), number, detail);
        }
    }
}

/// Names of ReplicaSets that came too close to each other only ever count up.
pub(crate) fn collisions(new: &Value, old: &Value, faults: &mut Faults) {
    let field = "status.collisionCount";
    let count = |object| tree::int(object, field).unwrap_or(0);
    if count(new) < count(old) {
        faults.invalid(&Path::new(field), tree::get(new, field).clone(), "cannot be decremented");
    }
}

/// Warnings about the template at a path.
pub(crate) fn template_warnings(path: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    pod::warnings_of(&format!("{path}.spec"), new, old)
}

/// The same, and a word about names that make no host name.
pub(crate) fn warnings(path: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let wrong = name::dns1123_label(tree::text(new, "metadata.name"));
    let mut out = Vec::new();
    if old.is_none() && !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    out.extend(template_warnings(path, new, old));
    out
}

/// Names and images of the containers in `spec.template`.
pub(crate) fn container_columns() -> [Column; 2] {
    [
        Column::text("Containers", "Names of each container in the template.", |object, _| {
            cells::containers(tree::get(object, "spec.template"), "name").into()
        })
        .wide(),
        Column::text(
            "Images",
            "Images referenced by each container in the template.",
            |object, _| cells::containers(tree::get(object, "spec.template"), "image").into(),
        )
        .wide(),
    ]
}

/// Those, and the selector in `spec.selector`.
pub(crate) fn template_columns() -> [Column; 3] {
    let [containers, images] = container_columns();
    let selector = Column::text("Selector", "Label selector for pods.", |object, _| {
        cells::selector(tree::get(object, "spec.selector")).into()
    });
    [containers, images, selector.wide()]
}

//! What is remembered of the binding of a policy.

use api_object::LabelSelector;
use api_schema::tree;
use serde_json::Value;

use super::matching::Matcher;

/// Where a policy holds, with which parameters, and what follows.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// `None` for wherever the policy holds.
    pub(super) matcher: Option<Matcher>,
    pub(super) params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`; of a validating policy.
    pub(super) actions: Vec<String>,
}

#[derive(Debug)]
pub(super) struct ParamRef {
    /// Empty where a selector is given.
    pub(super) name: String,
    /// Empty for the namespace of the request.
    pub(super) namespace: String,
    pub(super) selector: LabelSelector,
    /// What finds no parameters is refused, not let pass.
    pub(super) deny: bool,
}

impl Binding {
    /// Of an object that was let in.
    pub(crate) fn of(object: &Value) -> Self {
        let spec = tree::get(object, "spec");
        let resources = tree::get(spec, "matchResources");
        let reference = tree::get(spec, "paramRef");
        let actions = tree::list(spec, "validationActions").iter().filter_map(Value::as_str);
        Self {
            name: tree::text(object, "metadata.name").to_owned(),
            policy: tree::text(spec, "policyName").to_owned(),
            matcher: resources.is_object().then(|| Matcher::of_resources(resources)),
            params: reference.is_object().then(|| ParamRef {
                name: tree::text(reference, "name").to_owned(),
                namespace: tree::text(reference, "namespace").to_owned(),
                // What does not parse was not let in.
                selector: LabelSelector::from_object(tree::get(reference, "selector"))
                    .unwrap_or_default(),
                deny: tree::text(reference, "parameterNotFoundAction") == "Deny",
            }),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}

//! Which requests a webhook or a policy is about.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{GroupVersionKind, GroupVersionResource, LabelSelector, Status};
use api_registry::{Attributes, Operation};
use api_schema::{Catalogue, ResourceSpec, tree};
use serde_json::Value;

use crate::{Access, admission::namespace};

/// A `RuleWithOperations`, with the names that a policy's may have.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

fn texts(object: &Value, field: &str) -> Vec<String> {
    tree::list(object, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    fn of(rule: &Value) -> Self {
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            scope: tree::text(rule, "scope").to_owned(),
            names: texts(rule, "resourceNames"),
        }
    }

    /// Whether it is about the request, if that were about this resource.
    fn matches(&self, attributes: &Attributes, resource: &GroupVersionResource) -> bool {
        let any =
            |list: &[String], value: &str| list.iter().any(|item| item == "*" || item == value);
        let is_namespace = resource.group.is_empty() && resource.resource == "namespaces";
        let inside = !is_namespace && !attributes.namespace.is_empty();
        let scope = match self.scope.as_str() {
            "Namespaced" => inside,
            "Cluster" => !inside,
            _ => true,
        };
        let of_resource = self.resources.iter().any(|item| {
            let (name, sub) = item.split_once('/').unwrap_or((item, ""));
            (name == "*" || name == resource.resource)
                && (sub == "*" || sub == attributes.subresource)
        });
        scope
            && of_resource
            && any(&self.operations, attributes.operation.as_str())
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && (self.names.is_empty() || self.names.contains(&attributes.name))
    }
}

/// Which requests are meant: rules and selectors.
#[derive(Debug)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    /// Requests of other versions of a resource are meant too.
    equivalent: bool,
    /// Without rules, everything is meant.
    everything: bool,
}

/// How a request is meant: the version of its object that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    pub(super) resource: GroupVersionResource,
    pub(super) kind: GroupVersionKind,
    /// The row of that version; `None` for the version of the request.
    pub(super) other: Option<Arc<ResourceSpec>>,
}

/// The labels of the namespace that a request is about or in; `None` for what is in
/// none.
pub(super) type Labels = Option<BTreeMap<String, String>>;

impl Matcher {
    /// Of a webhook.
    pub(super) fn of_webhook(hook: &Value) -> Self {
        Self::of(hook, "rules", false)
    }

    /// Of a `MatchResources`: a policy's, which has rules, or a binding's, which may
    /// leave them out.
    pub(super) fn of_resources(resources: &Value) -> Self {
        Self::of(resources, "resourceRules", true)
    }

    fn of(object: &Value, field: &str, open: bool) -> Self {
        // What does not parse was not let in.
        let selector =
            |field| LabelSelector::from_object(tree::get(object, field)).unwrap_or_default();
        let all = |field| tree::list(object, field).iter().map(Rule::of).collect();
        let rules: Vec<Rule> = all(field);
        Self {
            everything: open && rules.is_empty(),
            rules,
            excluded: all("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: tree::text(object, "matchPolicy") != "Exact",
        }
    }

    /// How the request is meant; `None` if it is not.
    pub(super) fn meant(
        &self,
        catalogue: &Catalogue,
        attributes: &Attributes,
        labels: &Labels,
    ) -> Option<Meant> {
        let in_namespace = match labels {
            Some(labels) => self.namespaces.is_empty() || self.namespaces.matches(labels),
            None => true,
        };
        if !in_namespace || !self.selects_objects(attributes) {
            return None;
        }
        if find(&self.excluded, self.equivalent, catalogue, attributes).is_some() {
            return None;
        }
        if self.everything {
            return Some(as_requested(attributes));
        }
        find(&self.rules, self.equivalent, catalogue, attributes)
    }

    /// By the labels of the object as it is or as it was.
    fn selects_objects(&self, attributes: &Attributes) -> bool {
        let selects = |object: &Option<Value>| {
            object.as_ref().is_some_and(|object| {
                let labels = tree::entries(object, "metadata.labels");
                let labels = labels
                    .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
                self.objects.matches(&labels.collect())
            })
        };
        self.objects.is_empty() || selects(&attributes.object) || selects(&attributes.old_object)
    }
}

fn as_requested(attributes: &Attributes) -> Meant {
    Meant { resource: attributes.resource.clone(), kind: attributes.kind.clone(), other: None }
}

/// By the first rule that is about the request, or else about the same resource in
/// another version.
fn find(
    rules: &[Rule],
    equivalent: bool,
    catalogue: &Catalogue,
    attributes: &Attributes,
) -> Option<Meant> {
    let resource = &attributes.resource;
    if rules.iter().any(|rule| rule.matches(attributes, resource)) {
        return Some(as_requested(attributes));
    }
    if !equivalent || rules.is_empty() {
        return None;
    }
    let others = catalogue.groups().into_iter().find(|(group, _)| *group == resource.group)?.1;
    let others: Vec<Arc<ResourceSpec>> = others
        .iter()
        .filter(|version| **version != resource.version)
        .filter_map(|version| catalogue.find(&resource.group, version, &resource.resource))
        .collect();
    rules.iter().find_map(|rule| {
        let other = others.iter().find(|other| rule.matches(attributes, &other.gvr()))?;
        let kind = match other.subresource(&attributes.subresource) {
            Some(sub) => sub.kind.clone(),
            None => other.gvk(),
        };
        Some(Meant { resource: other.gvr(), kind, other: Some(other.clone()) })
    })
}

/// The labels that namespace selectors look at.
///
/// # Errors
/// The namespace cannot be read.
pub(super) async fn labels(access: &Access, attributes: &Attributes) -> Result<Labels, Status> {
    let of_namespace =
        attributes.resource.group.is_empty() && attributes.resource.resource == "namespaces";
    let name = match of_namespace {
        true => attributes.name.as_str(),
        false => attributes.namespace.as_str(),
    };
    if of_namespace
        && attributes.subresource.is_empty()
        && matches!(attributes.operation, Operation::Create | Operation::Update)
    {
        // As it is going to be.
        let object = attributes.object.as_ref().unwrap_or(&Value::Null);
        let labels = tree::entries(object, "metadata.labels")
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        return Ok(Some(labels.collect()));
    }
    if name.is_empty() {
        return Ok(None);
    }
    match namespace::find(access, name).await {
        Ok(found) => Ok(Some(found.labels)),
        // Whatever else is wrong with the request, it is not this.
        Err(status) if status.code == 404 => Ok(Some(BTreeMap::new())),
        Err(status) => Err(status),
    }
}

//! Role-based access control: rules, roles, bindings, and an index from who
//! asks to the bindings that name them, kept with each change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::ControlFlow,
    sync::Arc,
};

use api_object::LabelSelector;
use api_registry::{RequestAttributes, UserInfo};
use api_schema::tree;
use serde::Serialize;
use serde_json::Value;

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(rename = "apiGroups", skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(rename = "resourceNames", skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|entry| entry == text)
}

fn has_or_star(list: &[String], text: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == text)
}

impl Rule {
    /// The `rules` of a role.
    pub(crate) fn all(role: &Value) -> Arc<[Self]> {
        tree::list(role, "rules").iter().map(Self::of).collect()
    }

    fn of(value: &Value) -> Self {
        let texts = |path| {
            let list = tree::list(value, path).iter();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// Whether the rule allows a request.
    pub(crate) fn allows(&self, asked: &RequestAttributes) -> bool {
        if !has_or_star(&self.verbs, &asked.verb) {
            return false;
        }
        if !asked.resource_request {
            return self.urls.iter().any(|url| url_matches(url, &asked.path));
        }
        has_or_star(&self.groups, &asked.group)
            && self.resources.iter().any(|resource| resource_matches(resource, asked))
            && (self.names.is_empty() || has(&self.names, &asked.name))
    }
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(rule: &str, asked: &RequestAttributes) -> bool {
    match rule.split_once('/') {
        None => rule == "*" || (asked.subresource.is_empty() && rule == asked.resource),
        Some((resource, subresource)) => {
            !asked.subresource.is_empty()
                && subresource == asked.subresource
                && (resource == "*" || resource == asked.resource)
        }
    }
}

/// `*`, `/healthz`, `/healthz/*`.
pub(crate) fn url_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix.trim_end_matches('*')),
        None => rule == path,
    }
}

/// A ClusterRole.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterRole {
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whose rules it is to collect.
    pub(crate) aggregates: Option<Vec<LabelSelector>>,
}

/// Whom a binding names. ServiceAccounts are users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectName {
    User(String),
    Group(String),
}

/// A binding of either kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) subjects: Vec<SubjectName>,
    /// Whether the role is a ClusterRole.
    pub(crate) cluster_role: bool,
    pub(crate) role: String,
}

/// Bindings by the namespace they are in (empty for ClusterRoleBindings).
type Names = BTreeMap<String, BTreeSet<String>>;

/// All roles and bindings.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) cluster_roles: BTreeMap<String, ClusterRole>,
    pub(crate) roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    bindings: HashMap<String, HashMap<String, Binding>>,
    by_user: HashMap<String, Names>,
    by_group: HashMap<String, Names>,
}

/// Which binding allowed a request, in upstream's words.
pub(crate) struct Grant<'a> {
    namespace: &'a str,
    name: &'a str,
    binding: &'a Binding,
    subject: String,
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RBAC: allowed by ")?;
        match self.namespace {
            "" => write!(f, "ClusterRoleBinding {:?}", self.name)?,
            namespace => write!(f, "RoleBinding {:?}", format!("{}/{namespace}", self.name))?,
        }
        let kind = if self.binding.cluster_role { "ClusterRole" } else { "Role" };
        write!(f, " of {kind} {:?} to {}", self.binding.role, self.subject)
    }
}

impl Policy {
    /// Puts a binding in place of the one of its name.
    pub(crate) fn bind(&mut self, namespace: &str, name: &str, binding: Binding) {
        self.unbind(namespace, name);
        for subject in &binding.subjects {
            let (index, subject) = match subject {
                SubjectName::User(user) => (&mut self.by_user, user),
                SubjectName::Group(group) => (&mut self.by_group, group),
            };
            let names = index.entry(subject.clone()).or_default();
            names.entry(namespace.to_owned()).or_default().insert(name.to_owned());
        }
        self.bindings.entry(namespace.to_owned()).or_default().insert(name.to_owned(), binding);
    }

    /// Takes a binding away.
    pub(crate) fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.get_mut(namespace).and_then(|of| of.remove(name)) else {
            return;
        };
        for subject in &binding.subjects {
            let (index, subject) = match subject {
                SubjectName::User(user) => (&mut self.by_user, user),
                SubjectName::Group(group) => (&mut self.by_group, group),
            };
            let Some(namespaces) = index.get_mut(subject) else { continue };
            if let Some(names) = namespaces.get_mut(namespace) {
                names.remove(name);
                if names.is_empty() {
                    namespaces.remove(namespace);
                }
            }
            if namespaces.is_empty() {
                index.remove(subject);
            }
        }
    }

    /// Takes all ClusterRoleBindings away, or all RoleBindings.
    pub(crate) fn clear_bindings(&mut self, cluster: bool) {
        let which: Vec<(String, String)> = (self.bindings.iter())
            .filter(|(namespace, _)| namespace.is_empty() == cluster)
            .flat_map(|(namespace, of)| {
                of.keys().map(move |name| (namespace.clone(), name.clone()))
            })
            .collect();
        for (namespace, name) in which {
            self.unbind(&namespace, &name);
        }
    }

    pub(crate) fn binding(&self, namespace: &str, name: &str) -> Option<&Binding> {
        self.bindings.get(namespace)?.get(name)
    }

    /// Why a request is allowed, or what went wrong while looking.
    pub(crate) fn judge(&self, asked: &RequestAttributes) -> Result<Grant<'_>, String> {
        let mut granted = None;
        let missing = self.visit(&asked.user, &asked.namespace, |namespace, name, rules| {
            if rules.iter().any(|rule| rule.allows(asked)) {
                granted = self.binding(namespace, name).map(|binding| {
                    let subject = subject_of(binding, &asked.user);
                    Grant { namespace, name, binding, subject }
                });
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        granted.ok_or_else(|| match &missing[..] {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            more => format!("RBAC: [{}]", more.join(", ")),
        })
    }

    /// Every rule that applies to a user in a namespace (empty: cluster-wide
    /// only), and the roles that bindings name and that do not exist.
    pub(crate) fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut all = Vec::new();
        let missing = self.visit(user, namespace, |_, _, rules| {
            all.extend_from_slice(rules);
            ControlFlow::Continue(())
        });
        (all, missing)
    }

    /// The rules of a role that a binding in `namespace` names.
    pub(crate) fn role(&self, namespace: &str, cluster: bool, name: &str) -> Option<&[Rule]> {
        match cluster {
            true => self.cluster_roles.get(name).map(|role| &role.rules[..]),
            false => self.roles.get(namespace)?.get(name).map(|rules| &rules[..]),
        }
    }

    /// Visits the rules of each binding that names the user, cluster-wide ones
    /// first. Returns a sentence for each role that does not exist.
    fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut with: impl FnMut(&'a str, &'a str, &'a [Rule]) -> ControlFlow<()>,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        let index = || {
            let groups = user.groups.iter().filter_map(|group| self.by_group.get(group));
            self.by_user.get(&user.name).into_iter().chain(groups)
        };
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            for (of, names) in index().filter_map(|names| names.get_key_value(*scope)) {
                for name in names {
                    let Some(binding) = self.binding(of, name) else { continue };
                    match self.role(of, binding.cluster_role, &binding.role) {
                        Some(rules) => {
                            if with(of, name, rules).is_break() {
                                return missing;
                            }
                        }
                        None => {
                            let kind = if binding.cluster_role { "clusterrole" } else { "role" };
                            missing.push(format!(
                                "{kind}.rbac.authorization.k8s.io {:?} not found",
                                binding.role
                            ));
                        }
                    }
                }
            }
        }
        missing
    }
}

fn subject_of(binding: &Binding, user: &UserInfo) -> String {
    for subject in &binding.subjects {
        match subject {
            SubjectName::User(name) if *name == user.name => {
                return match name
                    .strip_prefix("system:serviceaccount:")
                    .and_then(|rest| rest.split_once(':'))
                {
                    Some((namespace, name)) => {
                        format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
                    }
                    None => format!("User {name:?}"),
                };
            }
            SubjectName::Group(name) if user.in_group(name) => return format!("Group {name:?}"),
            _ => {}
        }
    }
    String::new()
}

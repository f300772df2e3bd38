//! `authorizer` in expressions: what the user of a request, or an account, may do.

use std::sync::Arc;

use api_registry::{Attributes, RequestAttributes, UserInfo};
use cel::{Authorizer, Decision, Question, Resource, Target};

use crate::{Access, authorization};

struct Rights {
    access: Arc<Access>,
    user: Arc<UserInfo>,
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rights of {}", self.user.name)
    }
}

/// `authorizer` and `authorizer.requestResource`; `None` while the server ends.
pub(super) fn authorizer(
    access: &Access,
    attributes: &Attributes,
) -> Option<(Arc<cel::Access>, Arc<cel::Access>)> {
    let rights: Arc<dyn Authorizer> =
        Arc::new(Rights { access: access.shared()?, user: attributes.user.clone() });
    let resource = Resource {
        group: attributes.resource.group.clone(),
        resource: attributes.resource.resource.clone(),
        subresource: attributes.subresource.clone(),
        namespace: attributes.namespace.clone(),
        name: attributes.name.clone(),
        ..Resource::default()
    };
    let whole = cel::Access::authorizer(rights.clone());
    Some((Arc::new(whole), Arc::new(cel::Access::resource(rights, resource))))
}

fn account(namespace: &str, name: &str) -> Arc<UserInfo> {
    Arc::new(UserInfo {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
        ..UserInfo::default()
    })
}

impl Authorizer for Rights {
    fn decide(&self, question: &Question) -> Decision {
        let user = match &question.account {
            Some((namespace, name)) => account(namespace, name),
            None => self.user.clone(),
        };
        let mut asked =
            RequestAttributes { user, verb: question.verb.clone(), ..RequestAttributes::default() };
        match &question.target {
            Target::Path(path) => asked.path.clone_from(path),
            Target::Resource(resource) => {
                asked.resource_request = true;
                asked.group.clone_from(&resource.group);
                asked.version = "*".into();
                asked.resource.clone_from(&resource.resource);
                asked.subresource.clone_from(&resource.subresource);
                asked.namespace.clone_from(&resource.namespace);
                asked.name.clone_from(&resource.name);
                asked.field_selector.clone_from(&resource.field_selector);
                asked.label_selector.clone_from(&resource.label_selector);
            }
        }
        let (allowed, reason) = match authorization::grant(&self.access.state(), &asked) {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
        Decision { allowed, reason, error: None }
    }
}

//! `Impersonate-*` headers: acting as somebody else, where one is allowed to.

use std::sync::Arc;

use api_object::Status;
use api_registry::{RequestAttributes, UserInfo};

use crate::{ApiServer, chain::Asked};

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The user that the request acts as.
///
/// # Errors
/// 403 for every user, group or account that the caller may not impersonate;
/// 400 for groups without a user.
pub(crate) async fn apply(server: &ApiServer, asked: &Asked) -> Result<Arc<UserInfo>, Status> {
    let headers = &asked.head.headers;
    let values = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let name = values("impersonate-user").into_iter().next().unwrap_or_default();
    let mut groups = values("impersonate-group");
    let uid = values("impersonate-uid").into_iter().next().unwrap_or_default();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() {
            return Ok(asked.user.clone());
        }
        return Err(Status::bad_request(
            "requested to impersonate groups or a uid without impersonating a user",
        ));
    }
    let account = name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    let mut wanted = vec![match account {
        Some((namespace, name)) => ("", "serviceaccounts", namespace, name),
        None => ("", "users", "", name.as_str()),
    }];
    wanted.extend(groups.iter().map(|group| ("", "groups", "", group.as_str())));
    if !uid.is_empty() {
        wanted.push(("authentication.k8s.io", "uids", "", uid.as_str()));
    }
    for (group, resource, namespace, name) in wanted {
        let attributes = RequestAttributes {
            user: asked.user.clone(),
            verb: "impersonate".into(),
            resource_request: true,
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..RequestAttributes::default()
        };
        server.authorize(&attributes).await?;
    }
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups.push("system:serviceaccounts".into());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let everybody = match name.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ => "system:authenticated",
    };
    if !groups.iter().any(|group| group == everybody) {
        groups.push(everybody.into());
    }
    Ok(Arc::new(UserInfo { name, uid, groups, ..UserInfo::default() }))
}

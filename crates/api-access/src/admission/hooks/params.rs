//! The objects that a bound policy is given as `params`.

use std::collections::BTreeMap;

use api_schema::tree;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::{binding::Binding, policy::Policy};
use crate::Access;

/// Each is evaluated by itself. A single null for a policy or a binding without
/// parameters; nothing where none are found and that is fine.
///
/// # Errors
/// Why the parameters cannot be had, or that there are none.
pub(super) async fn collect(
    access: &Access,
    policy: &Policy,
    binding: &Binding,
    namespace: &str,
) -> Result<Vec<Value>, String> {
    let (Some((version, kind)), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let (group, name) = version.split_once('/').unwrap_or(("", version));
    let Some(row) = access.settings.catalogue.by_kind(group, name, kind) else {
        return Err(format!("paramKind kind `{version}, Kind={kind}` not known"));
    };
    let mut path = match group {
        "" => format!("/api/{name}"),
        group => format!("/apis/{group}/{name}"),
    };
    match (row.namespaced, reference.namespace.as_str()) {
        (false, "") => {}
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()
            );
        }
        (true, "") if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .into(),
            );
        }
        (true, "") => path += &format!("/namespaces/{namespace}"),
        (true, given) => path += &format!("/namespaces/{given}"),
    }
    path += &format!("/{}", row.plural);
    let found = match reference.name.as_str() {
        "" => match read(access, &path).await? {
            Some(list) => selected(&list, binding),
            None => Vec::new(),
        },
        name => read(access, &format!("{path}/{name}")).await?.into_iter().collect(),
    };
    if found.is_empty() && reference.deny {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

fn selected(list: &Value, binding: &Binding) -> Vec<Value> {
    let selects = |object: &&Value| {
        let labels: BTreeMap<String, String> = tree::entries(object, "metadata.labels")
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        binding.params.as_ref().is_some_and(|params| params.selector.matches(&labels))
    };
    let (version, kind) = (tree::text(list, "apiVersion"), tree::text(list, "kind"));
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    let whole = |object: &Value| {
        // Those of a list do not say what they are.
        let mut object = object.clone();
        tree::set_if_unset(&mut object, "apiVersion", version);
        tree::set_if_unset(&mut object, "kind", kind);
        object
    };
    tree::list(list, "items").iter().filter(selects).map(whole).collect()
}

/// `None` where nothing is.
async fn read(access: &Access, path: &str) -> Result<Option<Value>, String> {
    let api = access.api.get().ok_or("access control is not running yet")?;
    match api.request(Method::GET, path, None, Bytes::new()).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

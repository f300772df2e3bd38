//! From APIServices to who serves what.

use std::sync::Arc;

use api_registry::{Extension, Priority, Registered};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// The port of a Service that an APIService names none of.
const PORT: u16 = 443;

/// The part of an APIService that is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApiService {
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    group: Option<String>,
    version: String,
    group_priority_minimum: i64,
    version_priority: i64,
    ca_bundle: Option<String>,
    #[serde(rename = "insecureSkipTLSVerify")]
    insecure: Option<bool>,
    service: Option<Reference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    namespace: String,
    name: String,
    port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

/// What these say together.
pub(crate) fn registered<'a>(services: impl Iterator<Item = &'a ApiService>) -> Registered {
    let mut registered = Registered::default();
    for ApiService { spec, status } in services {
        let priority = Priority {
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone(),
            of_group: spec.group_priority_minimum,
            of_version: spec.version_priority,
        };
        let given = spec.service.as_ref().filter(|_| may_be_given_away(&priority.group));
        let Some(reference) = given else {
            registered.local.push(priority);
            continue;
        };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let bundle = STANDARD.decode(spec.ca_bundle.as_deref().unwrap_or_default());
        registered.others.push(Arc::new(Extension {
            priority,
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            port: reference.port.unwrap_or(PORT),
            // Validation has seen that it is base64.
            ca_bundle: bundle.unwrap_or_default(),
            insecure: spec.insecure.unwrap_or_default(),
            available: conditions.iter().any(|c| c.r#type == "Available" && c.status == "True"),
        }));
    }
    registered
}

/// Whether another server may have a group. Without Services nobody could be
/// reached, and without APIServices nobody could take a group back.
fn may_be_given_away(group: &str) -> bool {
    !matches!(group, "" | "apiregistration.k8s.io")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(objects: Value) -> Registered {
        let services: Vec<ApiService> = serde_json::from_value(objects).expect("APIServices");
        registered(services.iter())
    }

    #[test]
    fn who_names_a_service_is_another_server() {
        let spec = json!({"group": "a.io", "version": "v1", "groupPriorityMinimum": 2000,
            "versionPriority": 15, "caBundle": "Q0E=", "service": {"namespace": "n", "name": "s"}});
        let available = json!({"conditions": [{"type": "Available", "status": "True"}]});
        let local = json!({"group": "b.io", "version": "v1", "groupPriorityMinimum": 1000,
            "versionPriority": 100, "service": null});
        let read = read(json!([{"spec": spec, "status": available}, {"spec": local}]));
        let other = read.find("a.io", "v1").expect("it names a Service");
        assert_eq!(
            (other.server_name().as_str(), other.port, other.ca_bundle.as_slice()),
            ("s.n.svc", 443, b"CA".as_slice())
        );
        assert!(other.available && !other.insecure);
        assert_eq!(read.find("b.io", "v1"), None);
        assert_eq!((read.local.len(), read.local[0].of_group), (1, 1000));
    }

    #[test]
    fn some_groups_are_never_given_away() {
        let of = |group: &str| json!({"spec": {"group": group, "version": "v1", "service": {"namespace": "n", "name": "s"}}});
        let read = read(json!([of(""), of("apiregistration.k8s.io"), of("apps")]));
        assert_eq!(read.local.len(), 2);
        assert!(read.find("apps", "v1").is_some_and(|other| !other.available));
    }
}

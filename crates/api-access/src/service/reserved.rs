//! What is stored with a Service: one object an address or port that it has.

use api_registry::{Attributes, Beside};
use api_schema::tree;
use serde_json::{Value, json};

use super::allocators::held;

pub(super) const GROUP: &str = "networking.k8s.io";
pub(super) const ADDRESSES: &str = "ipaddresses";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Whose business an IPAddress is.
pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Ours, under upstream's name.
pub(super) const ALLOCATOR: &str = "ipallocator.k8s.io";
/// Ports have no kind in the API: they are kept where nobody sees them.
const PORTS: (&str, &str) = ("skiff", "nodeports");

/// The plugin's second part: what the Service comes to hold is created and
/// what it held is deleted in the commit that changes the Service.
pub(crate) fn reserve(attributes: &mut Attributes) {
    let of = |service: &Option<Value>| service.as_ref().map(held).unwrap_or_default();
    let before = of(&attributes.old_object);
    let ends = attributes.old_object.is_some() && attributes.object.as_ref().is_none_or(is_gone);
    let after = if ends { Vec::new() } else { of(&attributes.object) };
    let parent = (attributes.namespace.as_str(), attributes.name.as_str());
    let mut beside: Vec<Beside> = Vec::new();
    for (index, value) in before.iter().enumerate() {
        if !after.contains(value) && !before[..index].contains(value) {
            let (group, plural) = storage(value);
            beside.push(Beside::Delete { group, plural, name: value.clone() });
        }
    }
    for (index, value) in after.iter().enumerate() {
        if !before.contains(value) && !after[..index].contains(value) {
            let (group, plural) = storage(value);
            beside.push(Beside::Create { group, plural, object: object(value, parent) });
        }
    }
    attributes.beside.extend(beside);
}

/// An update that takes the last finalizer of a deleted object ends it.
fn is_gone(service: &Value) -> bool {
    !tree::text(service, "metadata.deletionTimestamp").is_empty()
        && tree::list(service, "metadata.finalizers").is_empty()
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok()
}

fn storage(value: &str) -> (&'static str, &'static str) {
    if is_port(value) { PORTS } else { (GROUP, ADDRESSES) }
}

/// The object that says who has a value; `parent` are namespace and name.
pub(super) fn object(value: &str, parent: (&str, &str)) -> Value {
    let parent = json!({ "resource": "services", "namespace": parent.0, "name": parent.1 });
    if is_port(value) {
        return json!({
            "kind": "NodePort", "apiVersion": "skiff/v1",
            "metadata": { "name": value }, "spec": { "parentRef": parent },
        });
    }
    let family = if value.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": { "name": value, "labels": { FAMILY: family, MANAGED_BY: ALLOCATOR } },
        "spec": { "parentRef": parent },
    })
}

#[cfg(test)]
mod tests {
    use api_registry::Operation;

    use super::*;
    use crate::testing::{admin, write};

    /// `+10.43.0.7 -30080` for what an update from one to the other does.
    fn check(operation: Operation, old: &str, new: &str, expected: &str) {
        let service = |text: &str| {
            let mut words = text.split_whitespace();
            let mut service = json!({ "metadata": { "name": "s", "namespace": "ns" } });
            match words.next()? {
                "deleted" => {
                    service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                "held" => {
                    service["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    service["metadata"]["finalizers"] = json!(["x"]);
                }
                _ => {}
            }
            let (ports, addresses): (Vec<&str>, Vec<&str>) = words.partition(|word| is_port(word));
            let port = |port: &&str| json!({ "nodePort": port.parse::<u16>().expect("a port") });
            service["spec"]["clusterIPs"] = json!(addresses);
            service["spec"]["ports"] = ports.iter().map(port).collect();
            Some(service)
        };
        let mut attributes =
            write(admin(), operation, "services", "ns", service(new), service(old));
        reserve(&mut attributes);
        let told: Vec<String> = (attributes.beside.iter())
            .map(|change| match change {
                Beside::Create { object, .. } => {
                    assert_eq!(object["spec"]["parentRef"]["name"], "s");
                    format!("+{}", tree::text(object, "metadata.name"))
                }
                Beside::Delete { name, .. } => format!("-{name}"),
            })
            .collect();
        assert_eq!(told.join(" "), expected, "{old} -> {new}");
    }

    #[test]
    fn what_a_service_comes_to_hold_and_held() {
        use Operation::{Create, Delete, Update};
        check(Create, "", "live 10.43.0.7 30080 30080", "+10.43.0.7 +30080");
        check(Create, "", "live None", "");
        check(Update, "live 10.43.0.7 30080", "live 10.43.0.7 30081", "-30080 +30081");
        check(Update, "live 10.43.0.7", "live 10.43.0.7 fd00::7", "+fd00::7");
        check(Update, "live 10.43.0.7 30080", "live", "-10.43.0.7 -30080");
        check(Update, "held 10.43.0.7", "held 10.43.0.7", "");
        check(Update, "held 10.43.0.7 30080", "deleted 10.43.0.7 30080", "-10.43.0.7 -30080");
        check(Delete, "live 10.43.0.7 30080", "", "-10.43.0.7 -30080");
    }
}

//! Where a proxied request goes: `name`, `name:port` or `scheme:name:port`.

use std::{net::IpAddr, sync::Arc};

use api_object::{Reason, Status};
use api_registry::{ListOptions, Request};
use api_schema::tree;
use serde_json::Value;
use tunnel::{Open, Target};

use crate::{ApiServer, chain::Asked, stream::pod};

/// The name in a proxy's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) https: bool,
    pub(super) name: String,
    /// A number or a name; may be empty.
    pub(super) port: String,
    /// As it was asked for.
    pub(super) whole: String,
}

impl Place {
    /// `None` for what is no such name.
    pub(super) fn parse(whole: &str) -> Option<Self> {
        let parts: Vec<&str> = whole.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let https = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        let (name, port) = (name.to_owned(), port.to_owned());
        (!name.is_empty()).then(|| Self { https, name, port, whole: whole.to_owned() })
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) https: bool,
    pub(super) to: To,
    /// `host:port` as links of the backend may say it.
    pub(super) host: String,
}

/// How one gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A pod, through its node.
    Pod {
        /// The node's name.
        node: String,
        /// The connection.
        open: Open,
    },
    /// Something that is no pod: an endpoint that somebody wrote by hand.
    Address(IpAddr, u16),
}

fn host(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// 503 in upstream's words.
fn nobody(message: String) -> Status {
    Status::failure(Reason::ServiceUnavailable, message)
}

/// The pod's port: the one that is named, else its first one, else the scheme's.
///
/// # Errors
/// 400 for a pod that is nowhere, and for a port that it does not name.
pub(super) fn pod(object: &Value, place: &Place) -> Result<Backend, Status> {
    let ip = tree::text(object, "status.podIP");
    let Ok((node, target)) = pod::target(object, String::new()) else {
        return Err(Status::bad_request("address not allowed"));
    };
    let mut ports =
        tree::list(object, "spec.containers").iter().flat_map(|c| tree::list(c, "ports"));
    let port = match place.port.as_str() {
        "" => ports.next().and_then(|port| tree::int(port, "containerPort")),
        text => text.parse().ok().or_else(|| {
            let named = ports.find(|port| tree::text(port, "name") == text);
            named.and_then(|port| tree::int(port, "containerPort"))
        }),
    };
    let port = match port {
        None if place.port.is_empty() => Some(if place.https { 443 } else { 80 }),
        port => port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
    };
    let invalid = || Status::bad_request(format!("invalid port \"{}\"", place.port));
    let port = port.ok_or_else(invalid)?;
    let host = host(ip, port);
    Ok(Backend {
        https: place.https,
        to: To::Pod { node, open: Open::Connect(target, port) },
        host,
    })
}

/// One of the Service's ready endpoints.
///
/// # Errors
/// 503 for a port that the Service does not have, and where nobody is ready.
pub(super) async fn service(
    server: &Arc<ApiServer>,
    object: &Value,
    place: &Place,
    asked: &Asked,
) -> Result<Backend, Status> {
    let port = port_name(object, place)?;
    let namespace = tree::text(object, "metadata.namespace");
    let catalogue = &server.parts.catalogue;
    let slices = catalogue.find("discovery.k8s.io", "v1", "endpointslices");
    let spec = slices.ok_or_else(|| Status::internal("EndpointSlices are not served"))?;
    let request = Request {
        spec,
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
        user: asked.user.clone(),
        create_refused: None,
    };
    let selector = format!("kubernetes.io/service-name={}", place.name);
    let options = ListOptions::from_pairs(&[("labelSelector".into(), selector)])?;
    let listed = server.parts.registry.list(&request, &options).await?;
    let slices: Result<Vec<Value>, _> =
        listed.items.iter().map(|bytes| serde_json::from_slice(bytes)).collect();
    let slices = slices.map_err(Status::internal)?;
    let backends = backends(&slices, namespace, &port, place.https);
    let none = || nobody(format!("no endpoints available for service \"{}\"", place.whole));
    let count = backends.len();
    // Any will do; the clock's fraction spreads them.
    let spread = server.now().subsec_nanosecond().unsigned_abs() as usize / 1000;
    backends.into_iter().nth(spread % count.max(1)).ok_or_else(none)
}

/// The name of the Service's port that is meant: endpoints know ports by name.
fn port_name(service: &Value, place: &Place) -> Result<String, Status> {
    let Ok(number) = place.port.parse::<i64>() else { return Ok(place.port.clone()) };
    let mut ports = tree::list(service, "spec.ports").iter();
    let port = ports.find(|port| tree::int(port, "port") == Some(number));
    port.map(|port| tree::text(port, "name").to_owned()).ok_or_else(|| {
        nobody(format!("no service port {number} found for service \"{}\"", place.name))
    })
}

/// Every ready endpoint that has the port.
fn backends(slices: &[Value], namespace: &str, port: &str, https: bool) -> Vec<Backend> {
    let mut found = Vec::new();
    for slice in slices {
        let mut ports = tree::list(slice, "ports").iter();
        let number = ports
            .find(|p| tree::text(p, "name") == port && tree::text(p, "protocol") != "UDP")
            .and_then(|port| u16::try_from(tree::int(port, "port")?).ok());
        let Some(number) = number.filter(|number| *number > 0) else { continue };
        for endpoint in tree::list(slice, "endpoints") {
            if tree::get(endpoint, "conditions.ready") == &Value::Bool(false) {
                continue;
            }
            let address = tree::list(endpoint, "addresses").first().and_then(Value::as_str);
            let Some(address) = address else { continue };
            let to = match tree::text(endpoint, "targetRef.kind") {
                "Pod" => pod_of(endpoint, namespace, number),
                _ => address.parse().ok().map(|ip| To::Address(ip, number)),
            };
            let host = host(address, number);
            found.extend(to.map(|to| Backend { https, to, host }));
        }
    }
    found
}

/// The endpoint's pod. The node holds its uid against the name, and nobody
/// reaches another namespace by writing endpoints.
fn pod_of(endpoint: &Value, namespace: &str, port: u16) -> Option<To> {
    let text = |path| tree::text(endpoint, path).to_owned();
    let (node, of) = (text("nodeName"), text("targetRef.namespace"));
    let target = Target {
        namespace: namespace.to_owned(),
        pod: text("targetRef.name"),
        uid: text("targetRef.uid"),
        container: String::new(),
    };
    let same = of.is_empty() || of == namespace;
    (same && !node.is_empty()).then_some(To::Pod { node, open: Open::Connect(target, port) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_schemes_and_ports() {
        let read = |text: &str| Place::parse(text).map(|p| (p.https, p.name, p.port));
        let place = |https, name: &str, port: &str| Some((https, name.into(), port.into()));
        assert_eq!(read("a"), place(false, "a", ""));
        assert_eq!(read("a:80"), place(false, "a", "80"));
        assert_eq!(read("https:a:web"), place(true, "a", "web"));
        assert_eq!(read("http:a:"), place(false, "a", ""));
        assert_eq!(read(":a:1"), place(false, "a", "1"));
        for text in ["", ":80", "ftp:a:1", "a:b:c:d"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_pods_port_is_named_or_its_first() {
        let mut object = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "node", "containers": [
                {"name": "a"}, {"name": "b", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"podIP": "10.42.0.9"},
        });
        let host = |object: &Value, text: &str| {
            pod(object, &Place::parse(text).expect("a name")).map(|backend| backend.host)
        };
        assert_eq!(host(&object, "p").as_deref(), Ok("10.42.0.9:8080"));
        assert_eq!(host(&object, "p:81").as_deref(), Ok("10.42.0.9:81"));
        assert_eq!(host(&object, "p:web").as_deref(), Ok("10.42.0.9:8080"));
        for text in ["p:0", "p:70000", "p:nope", "p:-1"] {
            assert_eq!(host(&object, text).expect_err(text).code, 400);
        }
        object["spec"]["containers"] = json!([{"name": "a"}]);
        assert_eq!(host(&object, "https:p:").as_deref(), Ok("10.42.0.9:443"));
        object["spec"]["nodeName"] = "".into();
        assert_eq!(host(&object, "p").expect_err("nowhere").message, "address not allowed");
    }

    #[test]
    fn services_ports_are_found_by_number_or_name() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}});
        let name = |text: &str| port_name(&service, &Place::parse(text).expect("a name"));
        assert_eq!(name("s:80").as_deref(), Ok("web"));
        assert_eq!(name("s:81").as_deref(), Ok(""));
        assert_eq!(name("s:other").as_deref(), Ok("other"));
        assert_eq!(
            name("s:9").expect_err("no such port").message,
            "no service port 9 found for service \"s\""
        );
    }

    #[test]
    fn only_ready_endpoints_of_the_namespace_are_chosen() {
        let endpoint = |name: &str, namespace: &str, ready| {
            json!({"addresses": ["10.42.0.9"], "conditions": {"ready": ready}, "nodeName": "node",
                "targetRef": {"kind": "Pod", "name": name, "namespace": namespace, "uid": "u"}})
        };
        let slices = [json!({
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": [endpoint("a", "n", true), endpoint("b", "n", false),
                endpoint("c", "other", true), {"addresses": ["192.0.2.1"]}],
        })];
        let found: Vec<String> = backends(&slices, "n", "web", false)
            .into_iter()
            .map(|backend| match backend.to {
                To::Pod { open: Open::Connect(target, port), .. } => {
                    format!("{}/{}:{port}", target.namespace, target.pod)
                }
                To::Pod { .. } => "another stream".into(),
                To::Address(ip, port) => format!("{ip}:{port}"),
            })
            .collect();
        assert_eq!(found, ["n/a:8080", "192.0.2.1:8080"]);
        assert!(backends(&slices, "n", "", false).is_empty());
    }
}

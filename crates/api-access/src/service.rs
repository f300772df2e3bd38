//! What Services get: address families, cluster addresses, node ports.
//!
//! [`allocators`] choose, from what this server knows of; [`reserve`] has the
//! choice stored in the Service's own commit, an address as its IPAddress, so
//! that nothing is given twice, whoever else chooses. [`repair`] keeps
//! IPAddresses and Services in step whatever happens to either.

mod allocators;
pub(crate) mod cidrs;
mod families;
mod pool;
mod range;
pub(crate) mod repair;
mod reserved;

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use crate::{Access, state::SERVICES};
pub(crate) use allocators::Allocators;
use allocators::Want;
pub use range::{Family, ParseRangeError, Range};
pub(crate) use reserved::reserve;

/// Addresses of the spec, ports of the spec.
const CLUSTER_IPS: Path<'static> = Path::new("spec.clusterIPs");

/// The plugin.
pub(crate) async fn allocate(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let old = match attributes.operation {
        Operation::Update => attributes.old_object.clone(),
        _ => None,
    };
    let Some(service) = &mut attributes.object else { return Ok(()) };
    let mut faults = Faults::default();
    if let Some(old) = &old {
        keep_allocated(service, old);
    }
    mirror_first_address(service);
    families::fill(service, old.as_ref(), access.allocators.families(), &mut faults);
    let wants = wants(service, old.as_ref());
    if !faults.is_empty() || wants.is_empty() {
        return invalid(service, faults);
    }
    // Only says where the search begins; what is free is decided under the lock.
    let mut random = || access.random().unwrap_or_default();
    let taken = match access.allocators.take(&wants, &mut random) {
        Err((want, Some(owner))) if !still_owned(access, &owner, &wants[want]).await => {
            // The watch has not told yet that the owner is gone.
            access.allocators.forget(&owner.uid);
            access.allocators.take(&wants, &mut random)
        }
        other => other,
    };
    match taken {
        Ok(values) => {
            for (want, value) in wants.iter().zip(&values) {
                want.put(service, value);
            }
            mirror_first_address(service);
            attributes.reserved.extend(values);
            Ok(())
        }
        // Upstream calls the address taken; that it is taken by the very object
        // is what the caller can act upon.
        Err((_, Some(owner)))
            if old.is_none()
                && owner.namespace == attributes.namespace
                && owner.name == tree::text(service, "metadata.name") =>
        {
            Err(Status::already_exists(&attributes.resource, &owner.name))
        }
        Err((want, owner)) => {
            fault(service, &wants[want], owner.is_none(), access, &mut faults);
            invalid(service, faults)
        }
    }
}

fn invalid(service: &Value, faults: Faults) -> Result<(), Status> {
    match faults.is_empty() {
        true => Ok(()),
        false => {
            let name = tree::text(service, "metadata.name");
            Err(Status::invalid("", "Service", name, faults.into_causes()))
        }
    }
}

/// Says in upstream's words why a want cannot be had. `no_owner` tells a full
/// or foreign range from a value that somebody has.
fn fault(service: &Value, want: &Want, no_owner: bool, access: &Access, faults: &mut Faults) {
    match want {
        Want::Address { value, .. } => {
            let shown = tree::get(service, "spec.clusterIPs").clone();
            let why = match (value, no_owner) {
                (None, _) => "failed to allocate a serviceIP: range is full".to_owned(),
                (Some(ip), true) if !access.allocators.contains(ip) => format!(
                    "failed to allocate IP {ip}: the provided network does not match the current range"
                ),
                (Some(ip), _) => {
                    format!("failed to allocate IP {ip}: provided IP is already allocated")
                }
            };
            faults.invalid(&CLUSTER_IPS, shown, why);
        }
        Want::NodePort { index, value } => {
            let ports = Path::new("spec.ports");
            let port = ports.index(*index);
            port_fault(&port.child("nodePort"), *value, access, faults);
        }
        Want::HealthCheckNodePort { value } => {
            port_fault(&Path::new("spec.healthCheckNodePort"), *value, access, faults);
        }
    }
}

fn port_fault(path: &Path<'_>, value: Option<u16>, access: &Access, faults: &mut Faults) {
    let (first, last) = access.settings.node_ports;
    let why = match value {
        None => "range is full".to_owned(),
        Some(port) if port < first || port > last => {
            format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )
        }
        Some(_) => "provided port is already allocated".to_owned(),
    };
    faults.invalid(path, value.unwrap_or_default(), why);
}

/// Whether a Service that is said to hold a value still exists with it.
async fn still_owned(access: &Access, owner: &allocators::Owner, want: &Want) -> bool {
    let Some(api) = access.api.get().filter(|_| !owner.uid.is_empty()) else { return true };
    match api.get(SERVICES, &owner.namespace, &owner.name).await {
        Ok(object) if object.meta.uid == owner.uid => {
            // One that cannot be read keeps what it has: nothing is given twice.
            serde_json::from_slice::<Value>(&object.bytes).map_or(true, |value| {
                want.value().is_none_or(|wanted| allocators::held(&value).contains(&wanted))
            })
        }
        Ok(_) => false,
        Err(error) => !error.is_not_found(),
    }
}

fn kind(service: &Value) -> &str {
    match tree::text(service, "spec.type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

fn needs_address(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

fn needs_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            tree::get(service, "spec.allocateLoadBalancerNodePorts").as_bool() != Some(false)
        }
        _ => false,
    }
}

fn needs_health_check_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && tree::text(service, "spec.externalTrafficPolicy") == "Local"
}

fn is_headless(service: &Value) -> bool {
    tree::text(service, "spec.clusterIP") == "None"
        || tree::list(service, "spec.clusterIPs").first().and_then(Value::as_str) == Some("None")
}

/// An update that does not name what was allocated keeps it; a type that needs
/// it no more drops it.
fn keep_allocated(service: &mut Value, old: &Value) {
    let text = |object: &Value, path| tree::text(object, path).to_owned();
    if needs_address(old) && needs_address(service) {
        let (was, is) = (text(old, "spec.clusterIP"), text(service, "spec.clusterIP"));
        let same_list =
            tree::list(old, "spec.clusterIPs") == tree::list(service, "spec.clusterIPs");
        if is.is_empty() {
            tree::set(service, "spec.clusterIP", was.as_str());
        } else if is != was && same_list {
            // Only the older field was changed; the list follows it.
            tree::set(service, "spec.clusterIPs", vec![is.clone()]);
        }
        let unchanged = text(service, "spec.clusterIP") == was;
        if unchanged && tree::list(service, "spec.clusterIPs").is_empty() {
            tree::copy(old, service, "spec.clusterIPs");
        }
    } else if needs_address(old) {
        for path in ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"]
        {
            if tree::get(service, path) == tree::get(old, path) {
                tree::remove(service, path);
            }
        }
    }
    let port_key = |port: &Value| (tree::int(port, "port"), text(port, "protocol"));
    if needs_node_ports(old) && needs_node_ports(service) {
        let old_ports = tree::list(old, "spec.ports");
        let mut used: Vec<i64> = tree::list(service, "spec.ports")
            .iter()
            .filter_map(|port| tree::int(port, "nodePort"))
            .collect();
        for port in tree::list_mut(service, "spec.ports") {
            if tree::int(port, "nodePort").unwrap_or(0) != 0 {
                continue;
            }
            let before = old_ports.iter().find(|old| port_key(old) == port_key(port));
            if let Some(number) = before.and_then(|old| tree::int(old, "nodePort"))
                && number != 0
                && !used.contains(&number)
            {
                used.push(number);
                tree::set(port, "nodePort", number);
            }
        }
    } else if needs_node_ports(old) {
        let numbers = |object: &Value| -> Vec<Option<i64>> {
            tree::list(object, "spec.ports")
                .iter()
                .map(|port| tree::int(port, "nodePort"))
                .collect()
        };
        if numbers(service) == numbers(old) {
            for port in tree::list_mut(service, "spec.ports") {
                tree::remove(port, "nodePort");
            }
        }
    }
    const HEALTH: &str = "spec.healthCheckNodePort";
    match (needs_health_check_port(old), needs_health_check_port(service)) {
        (true, true) if tree::int(service, HEALTH).unwrap_or(0) == 0 => {
            tree::copy(old, service, HEALTH)
        }
        (true, false) if tree::int(service, HEALTH) == tree::int(old, HEALTH) => {
            tree::remove(service, HEALTH);
        }
        _ => {}
    }
}

/// `clusterIP` is the first of `clusterIPs`; where one is given, so is the other.
fn mirror_first_address(service: &mut Value) {
    let first =
        tree::list(service, "spec.clusterIPs").first().and_then(Value::as_str).map(str::to_owned);
    let single = tree::text(service, "spec.clusterIP").to_owned();
    match first {
        None if !single.is_empty() => tree::set(service, "spec.clusterIPs", vec![single]),
        Some(first) if single.is_empty() => tree::set(service, "spec.clusterIP", first),
        _ => {}
    }
}

/// What the Service must get that its old self does not hold already.
fn wants(service: &Value, old: Option<&Value>) -> Vec<Want> {
    let mut wants = Vec::new();
    let held = old.map(allocators::held).unwrap_or_default();
    // An address may not change once set: validation says so, whether the other one is
    // free or not. So only those are wanted that the old self has no place for.
    let settled = match old.filter(|old| needs_address(old)) {
        Some(old) if is_headless(old) => usize::MAX,
        Some(old) => tree::list(old, "spec.clusterIPs").len(),
        None => 0,
    };
    if needs_address(service) && !is_headless(service) {
        let given = tree::list(service, "spec.clusterIPs");
        for (index, family) in families::of(service).into_iter().enumerate().skip(settled) {
            let value = given.get(index).and_then(Value::as_str).filter(|ip| !ip.is_empty());
            if value.is_none_or(|ip| !held.contains(&allocators::canonical(ip))) {
                wants.push(Want::Address { index, family, value: value.map(str::to_owned) });
            }
        }
    }
    let port = |value: Option<i64>| {
        value.filter(|port| *port != 0).map(|port| u16::try_from(port).unwrap_or(0))
    };
    let is_held = |value: Option<u16>| value.is_some_and(|port| held.contains(&port.to_string()));
    let mut seen = Vec::new();
    if needs_node_ports(service) {
        for (index, entry) in tree::list(service, "spec.ports").iter().enumerate() {
            let value = port(tree::int(entry, "nodePort"));
            // One number may serve several protocols of one Service.
            if is_held(value) || value.is_some_and(|port| seen.contains(&port)) {
                continue;
            }
            seen.extend(value);
            wants.push(Want::NodePort { index, value });
        }
    } else {
        // A number that was given is taken as it is, whatever the type.
        let given = tree::list(service, "spec.ports").iter().enumerate();
        let given =
            given.filter_map(|(index, entry)| Some((index, port(tree::int(entry, "nodePort"))?)));
        wants.extend(
            given
                .filter(|(_, port)| !is_held(Some(*port)))
                .map(|(index, port)| Want::NodePort { index, value: Some(port) }),
        );
    }
    if needs_health_check_port(service) {
        let value = port(tree::int(service, "spec.healthCheckNodePort"));
        if !is_held(value) {
            wants.push(Want::HealthCheckNodePort { value });
        }
    }
    wants
}

#[cfg(test)]
mod tests;

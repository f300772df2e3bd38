//! The status of a ResourceClaim: which devices it got, and who uses them.

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{
    device, names,
    request::{Names, configuration},
};
use crate::{conditions, pod, rules};

const RESERVED_FOR_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 64;
const CONDITIONS_MAX: usize = 8;
const DATA_BYTES_MAX: usize = 10 * 1024;
const INTERFACE_LEN_MAX: usize = 256;
const HARDWARE_ADDRESS_LEN_MAX: usize = 128;
const IPS_MAX: usize = 16;

pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    let (status, before) = (tree::get(new, "status"), tree::get(old, "status"));
    reserved_for(&path.child("reservedFor"), new, status, before, faults);
    device_statuses(&path.child("devices"), status, faults);
    let (allocation, old_allocation) =
        (tree::get(status, "allocation"), tree::get(before, "allocation"));
    let path = path.child("allocation");
    match (allocation.is_null(), old_allocation.is_null()) {
        (true, _) => {}
        (false, false) => rules::immutable(&path, allocation, old_allocation, faults),
        (false, true) => {
            result(&path, allocation, &Names::of(tree::get(new, "spec.devices")), faults)
        }
    }
}

fn reserved_for(
    path: &Path<'_>,
    claim: &Value,
    status: &Value,
    before: &Value,
    faults: &mut Faults,
) {
    let consumers = tree::list(status, "reservedFor");
    let uid = |consumer: &Value| tree::text(consumer, "uid").to_owned();
    names::set(path, consumers, RESERVED_FOR_MAX, uid, faults, |path, consumer, faults| {
        for field in ["resource", "name", "uid"] {
            if tree::text(consumer, field).is_empty() {
                faults.required(&path.child(field), "");
            }
        }
    });
    if consumers.is_empty() {
        return;
    }
    if tree::get(status, "allocation").is_null() {
        faults.forbidden(path, "may not be specified when `allocated` is not set");
    } else if !tree::get(claim, "metadata.deletionTimestamp").is_null() {
        let known = tree::list(before, "reservedFor");
        if consumers.iter().any(|consumer| !known.contains(consumer)) {
            faults.forbidden(
                path,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
}

/// `driver/pool/device`, and which share of it.
fn device_id(device: &Value) -> String {
    let text = |field| tree::text(device, field);
    let id = [text("driver"), text("pool"), text("device")].join("/");
    match text("shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

fn device_statuses(path: &Path<'_>, status: &Value, faults: &mut Faults) {
    let results = tree::list(status, "allocation.devices.results");
    let allocated: Vec<String> = results.iter().map(device_id).collect();
    let devices = tree::list(status, "devices");
    names::set(path, devices, usize::MAX, device_id, faults, |path, device, faults| {
        names::driver(&path.child("driver"), tree::text(device, "driver"), faults);
        names::pool(&path.child("pool"), tree::text(device, "pool"), faults);
        names::label(&path.child("device"), tree::text(device, "device"), faults);
        if let Some(share) = tree::get(device, "shareID").as_str() {
            names::uuid(&path.child("shareID"), share, faults);
        }
        let id = device_id(device);
        if !allocated.contains(&id) {
            faults.invalid(path, id, "must be an allocated device in the claim");
        }
        let list = tree::list(device, "conditions");
        let at = path.child("conditions");
        if list.len() > CONDITIONS_MAX {
            faults.too_many(&at, list.len(), CONDITIONS_MAX);
        }
        conditions::validate(&at, list, faults);
        let data = tree::get(device, "data");
        if !data.is_null() {
            names::parameters(&path.child("data"), data, DATA_BYTES_MAX, faults);
        }
        network(&path.child("networkData"), tree::get(device, "networkData"), faults);
    });
}

fn network(path: &Path<'_>, data: &Value, faults: &mut Faults) {
    for (field, len_max) in
        [("interfaceName", INTERFACE_LEN_MAX), ("hardwareAddress", HARDWARE_ADDRESS_LEN_MAX)]
    {
        if tree::text(data, field).len() > len_max {
            faults.too_long(&path.child(field), len_max);
        }
    }
    let text = |ip: &Value| ip.as_str().unwrap_or_default().to_owned();
    let ips = tree::list(data, "ips");
    names::set(&path.child("ips"), ips, IPS_MAX, text, faults, |path, ip, faults| {
        rules::cidr(path, ip.as_str().unwrap_or_default(), faults);
    });
}

fn result(path: &Path<'_>, allocation: &Value, requests: &Names<'_>, faults: &mut Faults) {
    let at = path.child("devices");
    let results = tree::list(allocation, "devices.results");
    names::list(&at.child("results"), results, RESULTS_MAX, faults, |path, result, faults| {
        requests.check(&path.child("request"), tree::text(result, "request"), faults);
        names::driver(&path.child("driver"), tree::text(result, "driver"), faults);
        names::pool(&path.child("pool"), tree::text(result, "pool"), faults);
        names::label(&path.child("device"), tree::text(result, "device"), faults);
        device::binding_conditions(path, result, faults);
        if let Some(share) = tree::get(result, "shareID").as_str() {
            names::uuid(&path.child("shareID"), share, faults);
        }
        let at = path.child("tolerations");
        for (index, toleration) in tree::list(result, "tolerations").iter().enumerate() {
            let key = tree::text(toleration, "key");
            if !key.is_empty() {
                let path = at.index(index);
                faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
            }
        }
    });
    let configs = tree::list(allocation, "devices.config");
    names::list(&at.child("config"), configs, CONFIGS_MAX, faults, |path, config, faults| {
        if tree::text(config, "source").is_empty() {
            faults.required(&path.child("source"), "");
        }
        requests.check_all(&path.child("requests"), tree::list(config, "requests"), faults);
        configuration(path, config, faults);
    });
    let selector = tree::get(allocation, "nodeSelector");
    if !selector.is_null() {
        pod::validate_node_selector(&path.child("nodeSelector"), selector, faults);
    }
}

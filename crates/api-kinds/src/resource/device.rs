//! One device of a slice: what it is, what it can, what it shares.

use std::collections::BTreeSet;

use api_object::{Quantity, name};
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{names, taint};
use crate::pod;

const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const COUNTERS_MAX: usize = 32;
const VALUE_LEN_MAX: usize = 64;
const CHOICES_MAX: usize = 10;
const BINDING_CONDITIONS_MAX: usize = 4;
const VALUES: [&str; 8] =
    ["bool", "bools", "int", "ints", "string", "strings", "version", "versions"];

/// Faults of a device. `by_device`: each says where it can be used.
pub(super) fn validate(path: &Path<'_>, device: &Value, by_device: bool, faults: &mut Faults) {
    names::label(&path.child("name"), tree::text(device, "name"), faults);
    let count =
        tree::entries(device, "attributes").count() + tree::entries(device, "capacity").count();
    if count > ATTRIBUTES_AND_CAPACITIES_MAX {
        faults.invalid(
            path,
            count,
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES_MAX}"),
        );
    }
    let at = path.child("attributes");
    for (key, value) in tree::entries(device, "attributes") {
        let path = at.key(key);
        names::qualified(&path, key, faults);
        attribute(&path, value, faults);
    }
    let shared = tree::flag(device, "allowMultipleAllocations");
    let at = path.child("capacity");
    for (key, capacity) in tree::entries(device, "capacity") {
        let path = at.key(key);
        names::qualified(&path, key, faults);
        let policy = tree::get(capacity, "requestPolicy");
        let at = path.child("requestPolicy");
        match (policy.is_null(), shared) {
            (true, _) => {}
            (false, false) => faults.forbidden(&at, "allowMultipleAllocations must be true"),
            (false, true) => request_policy(&at, policy, tree::text(capacity, "value"), faults),
        }
    }
    let list = tree::list(device, "taints");
    names::list(&path.child("taints"), list, TAINTS_MAX, faults, taint::check);
    let set = |item: &Value| tree::text(item, "counterSet").to_owned();
    let list = tree::list(device, "consumesCounters");
    let at = path.child("consumesCounters");
    names::set(&at, list, CONSUMPTIONS_MAX, set, faults, |path, consumption, faults| {
        match tree::text(consumption, "counterSet") {
            "" => faults.required(&path.child("counterSet"), ""),
            name => names::label(&path.child("counterSet"), name, faults),
        }
        counters(path, consumption, faults);
    });
    where_usable(path, device, by_device, faults);
    binding_conditions(path, device, faults);
}

/// Faults of a map `counters`.
pub(super) fn counters(path: &Path<'_>, object: &Value, faults: &mut Faults) {
    let at = path.child("counters");
    match tree::entries(object, "counters").count() {
        0 => faults.required(&at, ""),
        count if count > COUNTERS_MAX => faults.too_many(&at, count, COUNTERS_MAX),
        _ => {
            for (name, _) in tree::entries(object, "counters") {
                names::label(&at.key(name), name, faults);
            }
        }
    }
}

fn attribute(path: &Path<'_>, attribute: &Value, faults: &mut Faults) {
    for (field, value) in attribute.as_object().into_iter().flatten() {
        let at = path.child(field);
        let each = match value {
            Value::Array(list) => list.as_slice(),
            value => std::slice::from_ref(value),
        };
        for text in each.iter().filter_map(Value::as_str) {
            if field.starts_with("version") && !is_version(text) {
                let detail = "must be a string compatible with semver.org spec 2.0.0";
                faults.invalid(&at, text, detail);
            }
            if text.len() > VALUE_LEN_MAX {
                faults.too_long(&at, VALUE_LEN_MAX);
            }
        }
    }
    const ONE: &str = "exactly one value must be specified";
    match VALUES.iter().filter(|field| !tree::get(attribute, field).is_null()).count() {
        0 => faults.invalid(path, "", ONE),
        1 => {}
        _ => faults.invalid(path, attribute.clone(), ONE),
    }
}

/// Three numbers, then `-` and a pre-release, then `+` and a build.
fn is_version(text: &str) -> bool {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, pre) = match text.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (text, None),
    };
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| {
            pre.split('.').all(|part| word(part) && (!digits(part) || number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

fn request_policy(path: &Path<'_>, policy: &Value, capacity: &str, faults: &mut Faults) {
    let values = tree::list(policy, "validValues");
    let range = tree::get(policy, "validRange");
    let default = amount(tree::get(policy, "default"));
    let Ok(capacity) = Quantity::parse(capacity) else { return };
    match (values.is_empty(), range.is_null(), default) {
        (true, true, _) => {}
        (false, false, _) => faults.forbidden(
            path,
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ),
        (false, true, None) => {
            faults.required(&path.child("default"), "required when validValues is defined");
        }
        (true, false, None) => {
            faults.required(&path.child("default"), "required when validRange is defined");
        }
        (false, true, Some(default)) => {
            valid_values(&path.child("validValues"), values, default, capacity, faults);
        }
        (true, false, Some(default)) => {
            valid_range(&path.child("validRange"), range, default, capacity, faults);
        }
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

fn valid_values(
    path: &Path<'_>,
    values: &[Value],
    default: Quantity,
    capacity: Quantity,
    faults: &mut Faults,
) {
    let amounts: Vec<Option<Quantity>> = values.iter().map(amount).collect();
    for (index, pair) in amounts.windows(2).enumerate() {
        if let [Some(before), Some(after)] = pair
            && before > after
        {
            faults.invalid(
                &path.index(index + 1),
                values[index + 1].clone(),
                "values must be sorted in ascending order",
            );
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    names::set(path, values, CHOICES_MAX, text, faults, |path, value, faults| {
        if amount(value).is_some_and(|amount| amount > capacity) {
            let detail = format!("option is larger than capacity value: {capacity}");
            faults.invalid(path, value.clone(), detail);
        }
    });
    if !amounts.contains(&Some(default)) {
        let detail = "default value is not valid according to the requestPolicy";
        faults.invalid(path, default.to_string(), detail);
    }
}

fn valid_range(
    path: &Path<'_>,
    range: &Value,
    default: Quantity,
    capacity: Quantity,
    faults: &mut Faults,
) {
    let bound = |field| amount(tree::get(range, field));
    let Some(min) = bound("min") else {
        faults.required(&path.child("min"), "required when validRange is defined");
        return;
    };
    let mut check = |wrong: bool, field: &str, value: Quantity, detail: String| {
        if wrong {
            faults.invalid(&path.child(field), value.to_string(), detail);
        }
    };
    check(min > capacity, "min", min, format!("min is larger than capacity value: {capacity}"));
    check(default < min, "min", default, format!("default is less than min: {min}"));
    let max = bound("max");
    if let Some(max) = max {
        check(min > max, "max", min, format!("min is larger than max: {max}"));
        let detail = format!("max is larger than capacity value: {capacity}");
        check(max > capacity, "max", max, detail);
        check(default > max, "max", default, format!("default is more than max: {max}"));
    }
    let Some(step) = bound("step") else { return };
    let one = min + step;
    let detail = format!("one step {one} is larger than capacity value: {capacity}");
    check(one > capacity, "step", step, detail);
    for value in [Some(default), max].into_iter().flatten() {
        let steps = step.units();
        let off = steps == 0 || (value.units() - min.units()) % steps != 0;
        let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
        check(off, "step", value, detail);
    }
}

fn where_usable(path: &Path<'_>, device: &Value, by_device: bool, faults: &mut Faults) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let given = |field| !tree::get(device, field).is_null();
    if !by_device {
        if given("nodeName") || given("nodeSelector") || given("allNodes") {
            faults.invalid(
                path,
                Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            );
        }
        return;
    }
    let mut set = Vec::new();
    match tree::get(device, "nodeName").as_str() {
        None => {}
        Some("") => faults.invalid(&path.child("nodeName"), "", "must not be empty"),
        Some(node) => {
            set.push("`nodeName`");
            faults.invalid_all(&path.child("nodeName"), node, name::dns1123_subdomain(node));
        }
    }
    if given("nodeSelector") {
        set.push("`nodeSelector`");
        let selector = tree::get(device, "nodeSelector");
        pod::validate_node_selector(&path.child("nodeSelector"), selector, faults);
    }
    match tree::get(device, "allNodes").as_bool() {
        None => {}
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            faults.invalid(&path.child("allNodes"), false, detail);
        }
    }
    match set.len() {
        0 => faults.required(path, ONE),
        1 => {}
        _ => faults.invalid(path, format!("{{{}}}", set.join(", ")), ONE),
    }
}

/// What has to become true before a pod may be bound, and what says that it
/// will not: both or neither.
pub(super) fn binding_conditions(path: &Path<'_>, device: &Value, faults: &mut Faults) {
    const GOOD: &str = "bindingConditions";
    const BAD: &str = "bindingFailureConditions";
    for field in [GOOD, BAD] {
        let list = tree::list(device, field);
        let at = path.child(field);
        names::list(&at, list, BINDING_CONDITIONS_MAX, faults, |path, item, faults| {
            let text = item.as_str().unwrap_or_default();
            faults.invalid_all(path, text, name::qualified_name(text));
        });
    }
    let (good, bad) = (tree::list(device, GOOD), tree::list(device, BAD));
    for (field, list) in [(GOOD, good), (BAD, bad)] {
        let mut seen = BTreeSet::new();
        let at = path.child(field);
        for (index, text) in list.iter().enumerate() {
            if !seen.insert(text.as_str()) {
                faults.duplicate(&at.index(index), text.clone());
            }
            if field == BAD && good.contains(text) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                faults.invalid(&at.index(index), text.clone(), detail);
            }
        }
    }
    for (field, list, other_field, other) in [(GOOD, good, BAD, bad), (BAD, bad, GOOD, good)] {
        if list.is_empty() && !other.is_empty() {
            let detail = format!("{field} are required to use {other_field}");
            faults.invalid(&path.child(field), Value::from(list), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions() {
        for good in ["0.0.0", "1.2.3", "1.2.3-a.1-b", "1.2.3+01.a", "1.2.3-x+y"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}

//! What a claim asks for: devices of a class, with constraints between them.

use std::collections::BTreeMap;

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::names;
use crate::expression;

const REQUESTS_MAX: usize = 32;
const SUBREQUESTS_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const MODES: [&str; 2] = ["All", "ExactCount"];

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Names<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Names<'a> {
    /// Of `spec.devices`.
    pub(super) fn of(devices: &'a Value) -> Self {
        let requests = tree::list(devices, "requests").iter();
        let names = requests.map(|request| {
            let alternatives = tree::list(request, "firstAvailable").iter();
            let alternatives = alternatives.map(|request| tree::text(request, "name"));
            (tree::text(request, "name"), alternatives.collect())
        });
        Self(names.collect())
    }

    /// A request, or a request and one of its alternatives: `a/b`.
    pub(super) fn check(&self, path: &Path<'_>, text: &str, faults: &mut Faults) {
        const DETAIL: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let (request, alternative) = match text.split_once('/') {
            None => (text, None),
            Some((_, rest)) if rest.contains('/') => return faults.invalid(path, text, DETAIL),
            Some((request, rest)) => (request, Some(rest)),
        };
        names::label(path, request, faults);
        if let Some(alternative) = alternative {
            names::label(path, alternative, faults);
        }
        let known = self.0.get(request).is_some_and(|alternatives| {
            alternative.is_none_or(|alternative| alternatives.contains(&alternative))
        });
        if !known {
            faults.invalid(path, text, DETAIL);
        }
    }

    /// A list of such names.
    pub(super) fn check_all(&self, path: &Path<'_>, names: &[Value], faults: &mut Faults) {
        let text = |name: &Value| name.as_str().unwrap_or_default().to_owned();
        names::set(path, names, REQUESTS_MAX, text, faults, |path, name, faults| {
            self.check(path, name.as_str().unwrap_or_default(), faults);
        });
    }
}

/// Fills in what `spec.devices` leaves out.
pub(super) fn default(devices: &mut Value) {
    for request in tree::list_mut(devices, "requests") {
        if let Some(exactly) = tree::at_mut(request, "exactly") {
            default_amount(exactly);
        }
        tree::list_mut(request, "firstAvailable").iter_mut().for_each(default_amount);
    }
}

fn default_amount(request: &mut Value) {
    tree::set_if_unset(request, "allocationMode", "ExactCount");
    if tree::text(request, "allocationMode") == "ExactCount"
        && tree::int(request, "count").unwrap_or(0) == 0
    {
        tree::set(request, "count", 1);
    }
}

/// Faults of `spec.devices`.
pub(super) fn validate(path: &Path<'_>, devices: &Value, faults: &mut Faults) {
    let names = Names::of(devices);
    let name = |request: &Value| tree::text(request, "name").to_owned();
    let requests = tree::list(devices, "requests");
    names::set(&path.child("requests"), requests, REQUESTS_MAX, name, faults, one);
    let list = tree::list(devices, "constraints");
    names::list(&path.child("constraints"), list, CONSTRAINTS_MAX, faults, |path, item, faults| {
        constraint(path, item, &names, faults);
    });
    let list = tree::list(devices, "config");
    names::list(&path.child("config"), list, CONFIGS_MAX, faults, |path, item, faults| {
        names.check_all(&path.child("requests"), tree::list(item, "requests"), faults);
        configuration(path, item, faults);
    });
}

fn one(path: &Path<'_>, request: &Value, faults: &mut Faults) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    names::label(&path.child("name"), tree::text(request, "name"), faults);
    let alternatives = tree::list(request, "firstAvailable");
    let exactly = tree::get(request, "exactly");
    match (exactly.is_null(), alternatives.is_empty()) {
        (true, true) => faults.required(path, ONE),
        (false, false) => {
            faults.invalid(path, Value::Null, format!("{ONE}, but multiple fields are set"));
        }
        (false, true) => amount(&path.child("exactly"), exactly, faults),
        (true, false) => {
            let name = |request: &Value| tree::text(request, "name").to_owned();
            let at = path.child("firstAvailable");
            names::set(&at, alternatives, SUBREQUESTS_MAX, name, faults, |path, item, faults| {
                names::label(&path.child("name"), tree::text(item, "name"), faults);
                amount(path, item, faults);
            });
        }
    }
}

/// Which devices, and how many.
fn amount(path: &Path<'_>, request: &Value, faults: &mut Faults) {
    let at = path.child("deviceClassName");
    match tree::text(request, "deviceClassName") {
        "" => faults.required(&at, ""),
        class => faults.invalid_all(&at, class, name::dns1123_subdomain(class)),
    }
    selectors(&path.child("selectors"), tree::list(request, "selectors"), faults);
    let count = tree::int(request, "count").unwrap_or(0);
    let at = path.child("count");
    match tree::text(request, "allocationMode") {
        "All" if count != 0 => {
            faults.invalid(&at, count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => faults.invalid(&at, count, "must be greater than zero"),
        "" => faults.unsupported(&path.child("allocationMode"), "", MODES),
        _ => {}
    }
    let at = path.child("tolerations");
    for (index, toleration) in tree::list(request, "tolerations").iter().enumerate() {
        tolerate(&at.index(index), toleration, faults);
    }
    let at = path.child("capacity.requests");
    for (capacity, amount) in tree::entries(request, "capacity.requests") {
        let path = at.key(capacity);
        names::qualified(&path, capacity, faults);
        crate::rules::amount(&path, amount.as_str().unwrap_or_default(), faults);
    }
}

/// CEL expressions over a device.
pub(super) fn selectors(path: &Path<'_>, selectors: &[Value], faults: &mut Faults) {
    names::list(path, selectors, SELECTORS_MAX, faults, |path, selector, faults| {
        let cel = tree::get(selector, "cel");
        let at = path.child("cel");
        if cel.is_null() {
            faults.required(&at, "");
            return;
        }
        let at = at.child("expression");
        let text = tree::text(cel, "expression");
        if text.len() > EXPRESSION_BYTES_MAX {
            faults.too_long(&at, EXPRESSION_BYTES_MAX);
            return;
        }
        expression::check_device(&at, text, faults);
    });
}

fn tolerate(path: &Path<'_>, toleration: &Value, faults: &mut Faults) {
    let (key, value) = (tree::text(toleration, "key"), tree::text(toleration, "value"));
    if !key.is_empty() {
        faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
    }
    match tree::text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            faults.invalid(&path.child("value"), value, "must be empty for operator `Exists`");
        }
        "Equal" => faults.invalid_all(&path.child("value"), value, name::label_value(value)),
        "" => faults.required(&path.child("operator"), ""),
        _ => {}
    }
}

fn constraint(path: &Path<'_>, constraint: &Value, names: &Names<'_>, faults: &mut Faults) {
    names.check_all(&path.child("requests"), tree::list(constraint, "requests"), faults);
    let text = |field| tree::get(constraint, field).as_str();
    match (text("matchAttribute"), text("distinctAttribute")) {
        (Some(name), None) => {
            names::fully_qualified(&path.child("matchAttribute"), name, faults);
        }
        (None, Some(name)) => {
            names::fully_qualified(&path.child("distinctAttribute"), name, faults);
        }
        (Some(_), Some(_)) => faults.invalid(
            path,
            constraint.clone(),
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ),
        (None, None) => faults.required(
            path,
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required",
        ),
    }
}

/// What a driver is told.
pub(super) fn configuration(path: &Path<'_>, config: &Value, faults: &mut Faults) {
    let opaque = tree::get(config, "opaque");
    let at = path.child("opaque");
    if opaque.is_null() {
        faults.required(&at, "");
        return;
    }
    names::driver(&at.child("driver"), tree::text(opaque, "driver"), faults);
    let parameters = tree::get(opaque, "parameters");
    names::parameters(&at.child("parameters"), parameters, PARAMETERS_BYTES_MAX, faults);
}

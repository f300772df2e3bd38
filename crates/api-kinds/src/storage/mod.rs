//! storage.k8s.io: classes of volumes, the drivers that make them, and where
//! volumes are attached.

pub(crate) mod csi_driver;
pub(crate) mod csi_node;
pub(crate) mod csi_storage_capacity;
pub(crate) mod storage_class;
pub(crate) mod volume_attachment;
pub(crate) mod volume_attributes_class;

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

const GROUP: &str = "storage.k8s.io";
const DRIVER_NAME_LEN_MAX: usize = 63;
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// A driver's name: a DNS subdomain, upper case allowed, 63 characters at most.
pub(crate) fn driver_name(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "");
    }
    if text.len() > DRIVER_NAME_LEN_MAX {
        faults.too_long(path, DRIVER_NAME_LEN_MAX);
    }
    faults.invalid_all(path, text, name::dns1123_subdomain(&text.to_lowercase()));
}

/// Who makes volumes: a qualified name, upper case allowed.
fn provisioner(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "");
        return;
    }
    faults.invalid_all(path, text, name::qualified_name(&text.to_lowercase()));
}

/// What a driver is told: few and short enough to be kept.
fn parameters(object: &Value, faults: &mut Faults) {
    let path = Path::new("parameters");
    if tree::entries(object, "parameters").count() > PARAMETERS_MAX {
        faults.too_long(&path, PARAMETERS_MAX);
        return;
    }
    let mut bytes = 0;
    for (key, value) in tree::entries(object, "parameters") {
        if key.is_empty() {
            faults.invalid(&path, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        faults.too_long(&path, PARAMETERS_BYTES_MAX);
    }
}

/// Fields whose change upstream refuses in these words.
fn updates_forbidden(fields: &[&str], new: &Value, old: &Value, faults: &mut Faults) {
    for field in fields {
        if tree::get(new, field) != tree::get(old, field) {
            faults.forbidden(&Path::new(field), &format!("updates to {field} are forbidden."));
        }
    }
}

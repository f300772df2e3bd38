//! Which names of resources limits and quotas may speak of.

use api_object::name;
use api_schema::{Faults, Path};

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What a quota can count without a group's name before it.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// What a quota can add up.
const SUMMED: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// A resource of any kind.
pub(crate) fn any(path: &Path<'_>, resource: &str, faults: &mut Faults) {
    faults.invalid_all(path, resource, name::qualified_name(resource));
    let standard = resource == "storage" || is_of_quota(resource);
    if !resource.contains('/') && !standard {
        faults.invalid(path, resource, "must be a standard resource type or fully qualified");
    }
}

/// A resource that containers have.
pub(crate) fn of_container(path: &Path<'_>, resource: &str, faults: &mut Faults) {
    faults.invalid_all(path, resource, name::qualified_name(resource));
    let standard = COMPUTE.contains(&resource) || is_huge(resource);
    if !resource.contains('/') && !standard {
        faults.invalid(path, resource, "must be a standard resource for containers");
    }
}

/// A resource that a quota limits.
pub(crate) fn of_quota(path: &Path<'_>, resource: &str, faults: &mut Faults) {
    any(path, resource, faults);
    if !resource.contains('/') && !is_of_quota(resource) {
        faults.invalid(path, resource, "must be a standard resource for quota");
    }
}

/// Whether a name without a group is one that quotas know.
pub(crate) fn is_of_quota(resource: &str) -> bool {
    COUNTED.contains(&resource)
        || SUMMED.contains(&resource)
        || is_huge(resource)
        || resource.strip_prefix("requests.").is_some_and(is_huge)
}

/// Whether amounts are whole numbers: things that are counted, and devices.
pub(crate) fn is_whole(resource: &str) -> bool {
    let native = match resource.split_once('/') {
        Some((domain, _)) => domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"),
        None => true,
    };
    COUNTED.contains(&resource)
        || resource.starts_with("count/")
        || (!native && !resource.starts_with("requests."))
}

/// Whether a limit may exceed the request.
pub(crate) fn may_be_overcommitted(resource: &str) -> bool {
    !resource.contains('/') && !is_huge(resource)
}

fn is_huge(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

//! Devices by claim (KEP-4381): not allocated by this scheduler yet, and said
//! so, since a pod without its devices would not start.

use super::{Rejection, Start, Task};

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    match task.waiting().resource_claims {
        0 => Start::Skip,
        _ => Start::Never(Rejection::never(
            "this scheduler does not allocate resource claims yet; remove spec.resourceClaims",
        )),
    }
}

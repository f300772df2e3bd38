//! A pod that names its node goes nowhere else.

use super::{Rejection, Start, Task};
use crate::Node;

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let wanted = task.pod.view.node_name.as_str();
    match wanted {
        "" => Start::Skip,
        wanted => Start::each(move |node: &Node| {
            (wanted != node.name())
                .then(|| Rejection::never("node(s) didn't match the requested node name"))
        }),
    }
}

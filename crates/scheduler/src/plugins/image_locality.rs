//! Better where the images are already, weighed by their size.

use super::{SCORE_MAX, Task};
use crate::Node;

const MIB: i64 = 1024 * 1024;
/// Below this much nothing is gained, above the other nothing more; upstream's
/// figures, the second for each container.
const GAIN_MIN: i64 = 23 * MIB;
const GAIN_MAX: i64 = 1000 * MIB;

pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let images = &task.waiting().images;
    let gain_max = GAIN_MAX * i64::try_from(images.len().max(1)).unwrap_or(1);
    let total = task.cluster.len().max(1) as f64;
    // An image that few nodes have must not draw every pod to them.
    let spread: Vec<(String, f64)> = images
        .iter()
        .map(|image| with_tag(image))
        .filter_map(|image| match task.cluster.nodes_with_image(&image) {
            0 => None,
            nodes => Some((image, nodes as f64 / total)),
        })
        .collect();
    if spread.is_empty() {
        return Vec::new();
    }
    let score = |node: &&Node| {
        let gains = spread.iter().map(|(image, spread)| {
            let size = node.offer().images.get(image).copied().unwrap_or(0);
            (size as f64 * spread) as i64
        });
        let gain = gains.sum::<i64>().clamp(GAIN_MIN, gain_max);
        SCORE_MAX * (gain - GAIN_MIN) / (gain_max - GAIN_MIN)
    };
    nodes.iter().map(score).collect()
}

/// Nodes list images by full name; without a tag, `latest` is meant.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.contains(':') {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

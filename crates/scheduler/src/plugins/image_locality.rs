//! Better where the images are already, weighed by their size.

use super::SCORE_MAX;
use crate::{Node, Pod};

const MIB: i64 = 1024 * 1024;
/// Below this much nothing is gained, above the other nothing more; upstream's
/// figures, the second for each container.
const GAIN_MIN: i64 = 23 * MIB;
const GAIN_MAX: i64 = 1000 * MIB;

pub(super) fn score(pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let images = pod.waiting.as_ref().map_or(&[][..], |waiting| &waiting.images);
    let gain_max = GAIN_MAX * i64::try_from(images.len().max(1)).unwrap_or(1);
    let total = i64::try_from(nodes.len().max(1)).unwrap_or(1);
    let score = |node: &&Node| {
        let gains = images.iter().map(|image| {
            let image = with_tag(image);
            let Some(size) = node.offer.images.get(&image) else { return 0 };
            // An image that few nodes have must not draw every pod to them.
            let spread = nodes.iter().filter(|node| node.offer.images.contains_key(&image));
            size / total * i64::try_from(spread.count()).unwrap_or(0)
        });
        let gain = gains.sum::<i64>().clamp(GAIN_MIN, gain_max);
        SCORE_MAX * (gain - GAIN_MIN) / (gain_max - GAIN_MIN)
    };
    nodes.iter().map(score).collect()
}

/// Nodes list images by full name; without a tag, `latest` is meant.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.contains(':') || image.contains('@') {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

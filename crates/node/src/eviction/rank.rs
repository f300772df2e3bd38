//! In which order pods go, as upstream ranks them: who uses more than it asked
//! for, then the lower priority, then who uses more beyond its request. Pure.

use super::thresholds::Signal;

/// What the ranking looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) uid: String,
    pub(super) priority: i32,
    pub(super) memory: Use,
    /// Bytes: logs, layers, emptyDirs.
    pub(super) disk: Use,
    pub(super) inodes: u64,
    pub(super) pids: u64,
}

/// What a pod uses and what it asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) used: u64,
    pub(super) requested: u64,
}

impl Use {
    fn beyond(self) -> i128 {
        i128::from(self.used) - i128::from(self.requested)
    }
}

/// The first to go comes first.
pub(super) fn rank(signal: Signal, candidates: &mut [Candidate]) {
    candidates.sort_by_key(|pod| {
        let amount = match signal {
            Signal::MemoryAvailable => pod.memory.beyond(),
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => pod.disk.beyond(),
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => i128::from(pod.inodes),
            Signal::PidAvailable => i128::from(pod.pids),
        };
        // Nobody requests inodes or pids.
        let requestable = !matches!(
            signal,
            Signal::PidAvailable | Signal::NodeFsInodesFree | Signal::ImageFsInodesFree
        );
        let keeps_to_request = requestable && amount <= 0;
        (keeps_to_request, pod.priority, std::cmp::Reverse(amount), pod.uid.clone())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_exceeds_its_request_goes_first() {
        let pod = |uid: &str, priority, used, requested| {
            let memory = Use { used, requested };
            Candidate { uid: uid.into(), priority, memory, disk: memory, ..Candidate::default() }
        };
        let mut pods = [
            pod("guaranteed", 0, 100, 100),
            pod("large-but-within", 0, 900, 1000),
            pod("important", 1000, 800, 100),
            pod("little-over", 0, 110, 100),
            pod("best-effort", 0, 300, 0),
        ];
        for signal in [Signal::MemoryAvailable, Signal::NodeFsAvailable] {
            rank(signal, &mut pods);
            let order: Vec<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
            assert_eq!(
                order,
                ["best-effort", "little-over", "important", "guaranteed", "large-but-within"]
            );
        }
    }

    #[test]
    fn what_nobody_requests_is_ranked_by_priority_and_use() {
        let pod = |uid: &str, priority, count| Candidate {
            uid: uid.into(),
            priority,
            pids: count,
            inodes: count,
            ..Candidate::default()
        };
        let mut pods = [pod("important", 10, 900), pod("few", 0, 1), pod("many", 0, 50)];
        for signal in [Signal::PidAvailable, Signal::NodeFsInodesFree] {
            rank(signal, &mut pods);
            let order: Vec<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
            assert_eq!(order, ["many", "few", "important"]);
        }
    }
}

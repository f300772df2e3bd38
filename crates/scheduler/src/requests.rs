//! Amounts of resources, in the units in which they are counted.

use std::collections::BTreeMap;

use api_object::Quantity;
use api_types::core::{Container, ContainerStatus, Pod, ResourceList};

/// What a container that names none is taken to use, when nodes are compared;
/// upstream's figures.
const CPU_MILLI_UNASKED: i64 = 100;
const MEMORY_UNASKED: i64 = 200 * 1024 * 1024;

/// What a pod asks for, or what a node has. Missing names are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// `ephemeral-storage`, `hugepages-2Mi`, `example.com/gpu`, in units.
    pub others: BTreeMap<String, i64>,
}

impl Requests {
    /// From a node's capacity or a container's requests.
    pub fn from_list(list: &ResourceList) -> Self {
        let mut requests = Self::default();
        for (name, quantity) in list {
            requests.set(name, *quantity);
        }
        requests
    }

    /// What a pod holds at most at any moment of its life: all containers and
    /// sidecars together, or a later init container beside the sidecars
    /// before it; plus overhead. Amounts for the whole pod, where given,
    /// replace those of its containers (KEP-2837). While a container is being
    /// resized it holds the larger of what it has and what it shall have
    /// (KEP-1287).
    ///
    /// Beside it the CPU and memory by which nodes are compared, where a
    /// container that names none counts for a little.
    pub fn of_pod(pod: &Pod) -> (Self, [i64; 2]) {
        let never = pod.status.condition("PodResizePending");
        let never = never.is_some_and(|condition| condition.reason == "Infeasible");
        let held = |container: &Container, statuses: &[ContainerStatus]| {
            let status = statuses.iter().find(|status| status.name == container.name);
            let mut own = match status {
                Some(status) if never && status.allocated_resources.is_some() => Self::default(),
                _ => Self::from_list(&container.resources.requests),
            };
            let actual = status.and_then(|status| status.resources.as_ref());
            let lists = [
                status.and_then(|status| status.allocated_resources.as_ref()),
                actual.map(|resources| &resources.requests),
            ];
            lists.into_iter().flatten().for_each(|list| own.raise_to(&Self::from_list(list)));
            own
        };
        let spec = &pod.spec;
        let (now, first) = (&pod.status.container_statuses, &pod.status.init_container_statuses);
        let running: Vec<Self> = spec.containers.iter().map(|c| held(c, now)).collect();
        let starting: Vec<(bool, Self)> = spec
            .init_containers
            .iter()
            .map(|c| (c.restart_policy.as_deref() == Some("Always"), held(c, first)))
            .collect();
        let whole = |running: &[Self], starting: &[(bool, Self)]| {
            let mut sum = worst_moment(running, starting);
            for (name, quantity) in spec.resources.iter().flat_map(|of_pod| &of_pod.requests) {
                sum.set(name, *quantity);
            }
            sum.add(&Self::from_list(&spec.overhead));
            sum
        };
        let named = |container: &Container| {
            ["cpu", "memory"].map(|name| container.resources.requests.contains_key(name))
        };
        let fill = |own: &Self, [cpu, memory]: [bool; 2]| Self {
            cpu_milli: if cpu { own.cpu_milli } else { CPU_MILLI_UNASKED },
            memory: if memory { own.memory } else { MEMORY_UNASKED },
            ..Self::default()
        };
        let filled: Vec<Self> =
            running.iter().zip(&spec.containers).map(|(own, c)| fill(own, named(c))).collect();
        let filled_first: Vec<(bool, Self)> = starting
            .iter()
            .zip(&spec.init_containers)
            .map(|((stays, own), c)| (*stays, fill(own, named(c))))
            .collect();
        let scored = whole(&filled, &filled_first);
        (whole(&running, &starting), [scored.cpu_milli, scored.memory])
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.iter().all(|(_, amount)| amount == 0)
    }

    /// Each resource that is asked for, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let others = self.others.iter().map(|(name, amount)| (name.as_str(), *amount));
        [("cpu", self.cpu_milli), ("memory", self.memory)].into_iter().chain(others)
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory,
            name => self.others.get(name).copied().unwrap_or(0),
        }
    }

    /// Adds the amounts of another.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes the amounts of another away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, f: impl Fn(i64, i64) -> i64) {
        self.cpu_milli = f(self.cpu_milli, other.cpu_milli);
        self.memory = f(self.memory, other.memory);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = f(*mine, *amount);
        }
    }

    fn set(&mut self, name: &str, quantity: Quantity) {
        match name {
            "cpu" => self.cpu_milli = quantity.millis(),
            "memory" => self.memory = quantity.units(),
            name => drop(self.others.insert(name.to_owned(), quantity.units())),
        }
    }
}

fn worst_moment(running: &[Requests], starting: &[(bool, Requests)]) -> Requests {
    let mut total = Requests::default();
    running.iter().for_each(|own| total.add(own));
    let mut sidecars = Requests::default();
    let mut worst = Requests::default();
    for (stays, own) in starting {
        if *stays {
            sidecars.add(own);
            worst.raise_to(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(own);
            worst.raise_to(&moment);
        }
    }
    total.add(&sidecars);
    total.raise_to(&worst);
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_its_worst_moment() {
        let container = |cpu: &str, restart: Option<&str>| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}, "restartPolicy": restart});
        let table = [
            (json!({"containers": [container("1", None), container("500m", None)]}), 1500),
            // An init container runs alone, a sidecar beside everything after it.
            (
                json!({"initContainers": [container("2", None)], "containers": [container("1", None)]}),
                2000,
            ),
            (
                json!({"initContainers": [container("1", Some("Always")), container("2", None)], "containers": [container("1", None)]}),
                3000,
            ),
            (
                json!({"initContainers": [container("2", None), container("1", Some("Always"))], "containers": [container("1", None)]}),
                2000,
            ),
            (json!({"containers": [container("1", None)], "overhead": {"cpu": "250m"}}), 1250),
            (
                json!({"containers": [container("1", None)], "resources": {"requests": {"cpu": "4"}}}),
                4000,
            ),
        ];
        for (spec, milli) in table {
            let parsed: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            assert_eq!(Requests::of_pod(&parsed).0.cpu_milli, milli, "{spec}");
        }
    }

    #[test]
    fn what_is_being_resized_counts_for_the_larger_size() {
        let status = json!({"name": "c", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1"}}});
        let pod = |cpu: &str, reason: &str| {
            let condition = json!({"type": "PodResizePending", "status": "True", "reason": reason});
            let pod = json!({
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
                "status": {"containerStatuses": [status], "conditions": [condition]},
            });
            Requests::of_pod(&serde_json::from_value(pod).expect("a pod"))
        };
        assert_eq!(pod("3", "Deferred").0.cpu_milli, 3000);
        assert_eq!(pod("1", "Deferred").0.cpu_milli, 2000);
        assert_eq!(pod("3", "Infeasible").0.cpu_milli, 2000, "it will never get more");
        assert_eq!(pod("3", "Deferred").1, [3000, MEMORY_UNASKED]);
    }
}

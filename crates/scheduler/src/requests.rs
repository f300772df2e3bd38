//! Amounts of resources, in the units in which they are counted.

use std::collections::BTreeMap;

use api_object::Quantity;
use api_types::core::{Container, PodSpec, ResourceList};

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
    /// replace those of its containers.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let of = |container: &Container| Self::from_list(&container.resources.requests);
        let mut running = Self::default();
        spec.containers.iter().for_each(|container| running.add(&of(container)));
        let mut sidecars = Self::default();
        let mut starting = Self::default();
        for container in &spec.init_containers {
            let own = of(container);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars.add(&own);
                starting.raise_to(&sidecars);
            } else {
                let mut moment = sidecars.clone();
                moment.add(&own);
                starting.raise_to(&moment);
            }
        }
        running.add(&sidecars);
        running.raise_to(&starting);
        for (name, quantity) in spec.resources.iter().flat_map(|resources| &resources.requests) {
            running.set(name, *quantity);
        }
        running.add(&Self::from_list(&spec.overhead));
        running
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
            let parsed: PodSpec = serde_json::from_value(spec.clone()).expect("a pod spec");
            assert_eq!(Requests::of_pod(&parsed).cpu_milli, milli, "{spec}");
        }
    }
}

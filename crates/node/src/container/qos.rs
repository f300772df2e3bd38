//! Quality of service, and the cgroup values that follow from requests and
//! limits.

use api_object::Quantity;
use api_types::core::{Container, Pod, ResourceList};
use node_runtime::spec::Resources;

/// `status.qosClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The cgroup below the runtime's prefix that holds pods of this class.
    pub(crate) fn cgroup_parent(self) -> &'static str {
        match self {
            Self::Guaranteed => "pods",
            Self::Burstable => "pods/burstable",
            Self::BestEffort => "pods/besteffort",
        }
    }
}

const COUNTED: [&str; 2] = ["cpu", "memory"];

fn all(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers)
}

fn set(list: &ResourceList, name: &str) -> Option<Quantity> {
    list.get(name).copied().filter(|q| !q.is_zero())
}

/// The class of a pod, over its init containers too.
pub(crate) fn class(pod: &Pod) -> Qos {
    let pod_level = pod.spec.resources.iter();
    let any = all(pod).map(|c| &c.resources).chain(pod_level).any(|r| {
        COUNTED.iter().any(|name| set(&r.requests, name).or(set(&r.limits, name)).is_some())
    });
    if !any {
        return Qos::BestEffort;
    }
    let equal = |r: &api_types::core::ResourceRequirements| {
        COUNTED.iter().all(|name| {
            let limit = set(&r.limits, name);
            let request = set(&r.requests, name).or(limit);
            limit.is_some() && request.map(Quantity::millis) == limit.map(Quantity::millis)
        })
    };
    let guaranteed = match &pod.spec.resources {
        Some(resources) => equal(resources),
        None => all(pod).all(|c| equal(&c.resources)),
    };
    if guaranteed { Qos::Guaranteed } else { Qos::Burstable }
}

const PERIOD_US: u64 = 100_000;

/// The kernel's share of a request.
pub(crate) fn shares(request_millis: i64) -> u64 {
    u64::try_from(request_millis)
        .unwrap_or(0)
        .saturating_mul(1024)
        .div_euclid(1000)
        .clamp(2, 262_144)
}

fn quota(limit_millis: i64) -> Option<u64> {
    let millis = u64::try_from(limit_millis).ok().filter(|millis| *millis > 0)?;
    Some((millis * PERIOD_US / 1000).max(1000))
}

/// What one container's cgroup gets.
pub(crate) fn container(pod: &Pod, container: &Container) -> Resources {
    let limits = own_or_shared(pod, container);
    let cpu_limit = set(&limits, "cpu").map(Quantity::millis);
    // A request of nothing is one.
    let cpu_request = container.resources.requests.get("cpu").map(|q| q.millis()).or(cpu_limit);
    Resources {
        cpu_shares: Some(shares(cpu_request.unwrap_or(0))),
        cpu_quota_us: cpu_limit.and_then(quota),
        cpu_period_us: Some(PERIOD_US),
        memory_limit: set(&limits, "memory").and_then(|q| u64::try_from(q.units()).ok()),
        pids_limit: None,
        huge_pages: Some(huge_pages(&limits)),
    }
}

/// The name of a resource of huge pages, but for their size.
pub(crate) const HUGE_PAGES: &str = "hugepages-";

/// A container's limits; of what it does not limit itself it may have all that the pod has
/// for everybody. The kubelet has it so of CPU and memory (`getCPULimit`, `getMemoryLimit`;
/// programs look at their own cgroup for how much there is), and of huge pages since 1.34
/// (kubernetes/kubernetes#131089: the pod's hugepage cgroup is propagated to containers
/// that do not specify hugepages); KEP-2837 speaks of the pod's own cgroup only.
fn own_or_shared(pod: &Pod, container: &Container) -> ResourceList {
    let shared = pod.spec.resources.iter().flat_map(|r| &r.limits);
    let own = container.resources.limits.iter();
    // Without CPU or memory is without a limit of it; without huge pages is without any.
    let own = own.filter(|(name, amount)| name.starts_with(HUGE_PAGES) || !amount.is_zero());
    shared.chain(own).map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// How many bytes of huge pages of which size: limits are requests, and what is not
/// asked for is not given.
fn huge_pages(limits: &ResourceList) -> [Option<(u64, u64)>; 4] {
    let mut granted = [None; 4];
    let named = limits.iter().filter_map(|(name, amount)| {
        let size = Quantity::parse(name.strip_prefix(HUGE_PAGES)?).ok()?.whole()?;
        let bytes = u64::try_from(amount.units()).ok()?;
        Some((u64::try_from(size).ok()?, bytes))
    });
    for (slot, pages) in granted.iter_mut().zip(named) {
        *slot = Some(pages);
    }
    granted
}

/// What a pod requests of its node: the larger of what runs side by side and
/// what one init container needs, with the pod's own word above both and the
/// overhead of its runtime on top.
pub(crate) fn request(pod: &Pod, name: &str, read: fn(Quantity) -> i64) -> i64 {
    let overhead = pod.spec.overhead.get(name).copied().map_or(0, read);
    let own = pod.spec.resources.as_ref().and_then(|r| set(&r.requests, name));
    own.map_or_else(|| request_of_containers(pod, name, read), read) + overhead
}

/// What one container requests; who has a limit only, as much as that.
fn request_of(container: &Container, name: &str) -> Option<Quantity> {
    let resources = &container.resources;
    set(&resources.requests, name).or(set(&resources.limits, name))
}

/// The larger of what runs side by side and what one init container needs.
fn request_of_containers(pod: &Pod, name: &str, read: fn(Quantity) -> i64) -> i64 {
    let one = |c: &Container| request_of(c, name).map_or(0, read);
    let mut sidecars = 0;
    let mut most = 0;
    for container in &pod.spec.init_containers {
        // An init container runs beside the sidecars started before it.
        match container.restart_policy.as_deref() == Some("Always") {
            true => sidecars += one(container),
            false => most = most.max(sidecars + one(container)),
        }
    }
    let steady = pod.spec.containers.iter().map(one).sum::<i64>() + sidecars;
    steady.max(most)
}

/// What a pod asks for of each size of huge pages.
pub(crate) fn huge_page_requests(pod: &Pod) -> ResourceList {
    let lists = all(pod).map(|c| &c.resources).chain(&pod.spec.resources);
    let names = lists.flat_map(|r| r.limits.keys());
    let names = names.filter(|name| name.starts_with(HUGE_PAGES));
    names
        .map(|name| (name.clone(), Quantity::from_units(request(pod, name, Quantity::units))))
        .collect()
}

/// What the pod's own cgroup gets: sums, with a limit only where every
/// container has one.
pub(crate) fn pod(pod: &Pod, pids_max: Option<u64>) -> Resources {
    let sum = |list: fn(&Container) -> Option<i64>| -> (i64, bool) {
        let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let mains = pod.spec.containers.iter();
        let steady: Vec<_> =
            mains.chain(pod.spec.init_containers.iter().filter(sidecar)).map(list).collect();
        let total = steady.iter().flatten().sum::<i64>();
        let once = pod.spec.init_containers.iter().filter(|c| !sidecar(c)).map(list);
        let once: Vec<_> = once.collect();
        let most = once.iter().flatten().copied().max().unwrap_or(0);
        (total.max(most), steady.iter().chain(&once).all(Option::is_some))
    };
    let (cpu_request, _) = sum(|c| {
        set(&c.resources.requests, "cpu").or(set(&c.resources.limits, "cpu")).map(Quantity::millis)
    });
    let (cpu_limit, cpu_limited) = sum(|c| set(&c.resources.limits, "cpu").map(Quantity::millis));
    let (memory, memory_limited) = sum(|c| set(&c.resources.limits, "memory").map(Quantity::units));
    let mut resources = Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota_us: cpu_limited.then(|| quota(cpu_limit)).flatten(),
        cpu_period_us: Some(PERIOD_US),
        memory_limit: memory_limited.then(|| u64::try_from(memory).ok()).flatten(),
        pids_limit: pids_max,
        huge_pages: Some(huge_pages(&huge_page_requests(pod))),
    };
    if let Some(own) = &pod.spec.resources {
        if let Some(q) = set(&own.limits, "cpu") {
            resources.cpu_quota_us = quota(q.millis());
        }
        if let Some(q) = set(&own.limits, "memory") {
            resources.memory_limit = u64::try_from(q.units()).ok();
        }
        if let Some(q) = set(&own.requests, "cpu") {
            resources.cpu_shares = Some(shares(q.millis()));
        }
    }
    // What the runtime itself takes comes on top.
    let overhead = |name: &str| set(&pod.spec.overhead, name);
    if let Some(cpu) = overhead("cpu").map(Quantity::millis) {
        resources.cpu_shares = Some(shares(request(pod, "cpu", Quantity::millis)));
        let more = quota(cpu).unwrap_or(0);
        resources.cpu_quota_us = resources.cpu_quota_us.map(|quota| quota + more);
    }
    if let Some(memory) = overhead("memory").and_then(|q| u64::try_from(q.units()).ok()) {
        resources.memory_limit = resources.memory_limit.map(|limit| limit + memory);
    }
    resources
}

/// Who dies first when memory runs out (upstream's `qos/policy.go`): nobody
/// before best effort, guaranteed last, in between by the requested share. What the pod
/// requests beyond its containers counts for all of them alike (KEP-2837), and no sidecar
/// dies before the containers that it is for (KEP-753).
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: u64) -> i32 {
    const GUARANTEED: i64 = -997;
    // system-node-critical and above.
    if pod.spec.priority.is_some_and(|p| p >= 2_000_000_000) {
        return GUARANTEED as i32;
    }
    match class(pod) {
        Qos::Guaranteed => GUARANTEED as i32,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let bytes = |c: &Container| request_of(c, "memory").map_or(0, Quantity::units);
            let own = pod.spec.resources.as_ref().and_then(|r| set(&r.requests, "memory"));
            let shared = own.map_or(0, |own| {
                let left = own.units() - request_of_containers(pod, "memory", Quantity::units);
                left / i64::try_from(all(pod).count().max(1)).unwrap_or(i64::MAX)
            });
            let is_sidecar = container.restart_policy.as_deref() == Some("Always")
                && pod.spec.init_containers.iter().any(|c| c.name == container.name);
            let served = pod.spec.containers.iter().map(bytes).min().filter(|_| is_sidecar);
            let request = bytes(container).max(served.unwrap_or(0)) + shared;
            let capacity = i64::try_from(memory_capacity).unwrap_or(i64::MAX).max(1);
            let score = 1000 - (1000i128 * i128::from(request) / i128::from(capacity)) as i64;
            score.clamp(1000 + GUARANTEED, 999) as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod_of(resources: &[Value]) -> Pod {
        let containers: Vec<Value> =
            resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let partial = json!({"requests": {"cpu": "100m"}});
        for (resources, expected) in [
            (vec![json!({})], Qos::BestEffort),
            (vec![full.clone()], Qos::Guaranteed),
            (vec![full.clone(), json!({})], Qos::Burstable),
            (vec![partial.clone()], Qos::Burstable),
            (
                vec![json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})],
                Qos::Burstable,
            ),
        ] {
            assert_eq!(class(&pod_of(&resources)), expected, "{resources:?}");
        }
    }

    #[test]
    fn cgroup_values() {
        let p = pod_of(&[
            json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}),
        ]);
        let r = container(&p, &p.spec.containers[0]);
        assert_eq!(r.cpu_shares, Some(256));
        assert_eq!(r.cpu_quota_us, Some(50_000));
        assert_eq!(r.memory_limit, Some(64 << 20));
        let none = pod_of(&[json!({})]);
        assert_eq!(container(&none, &none.spec.containers[0]).cpu_shares, Some(2));
        let two = pod_of(&[
            json!({"limits": {"cpu": "500m", "memory": "64Mi"}}),
            json!({"limits": {"cpu": "1"}}),
        ]);
        let r = pod(&two, Some(100));
        assert_eq!(
            (r.cpu_quota_us, r.memory_limit, r.pids_limit),
            (Some(150_000), None, Some(100))
        );
        assert_eq!(r.cpu_shares, Some(1536));
    }

    #[test]
    fn huge_pages_are_what_is_asked_for_and_no_more() {
        let pages = |size: &str, amount: &str| json!({"limits": {"memory": "1Mi", size: amount}});
        let two = pod_of(&[
            pages("hugepages-2Mi", "4Mi"),
            pages("hugepages-2Mi", "2Mi"),
            pages("hugepages-1Gi", "1Gi"),
            json!({}),
        ]);
        let of = |index: usize| container(&two, &two.spec.containers[index]).huge_pages;
        assert_eq!(of(0), Some([Some((2 << 20, 4 << 20)), None, None, None]));
        assert_eq!(of(3), Some([None; 4]));
        let all = pod(&two, None).huge_pages.expect("always said");
        assert_eq!(all, [Some((1 << 30, 1 << 30)), Some((2 << 20, 6 << 20)), None, None]);
        // The pod's own word is for those who say nothing themselves.
        let mut shared = pod_of(&[pages("hugepages-2Mi", "4Mi"), json!({})]);
        shared.spec.resources = serde_json::from_value(
            json!({"limits": {"hugepages-2Mi": "8Mi"}, "requests": {"hugepages-2Mi": "8Mi"}}),
        )
        .expect("resources");
        let of = |index: usize| container(&shared, &shared.spec.containers[index]).huge_pages;
        assert_eq!(of(0), Some([Some((2 << 20, 4 << 20)), None, None, None]));
        let whole = Some([Some((2 << 20, 8 << 20)), None, None, None]);
        assert_eq!((of(1), pod(&shared, None).huge_pages), (whole, whole));
    }

    #[test]
    fn limits_of_the_pod_are_those_of_containers_without() {
        let mut p = pod_of(&[
            json!({}),
            json!({"limits": {"cpu": "250m"}, "requests": {"cpu": "100m"}}),
            json!({"limits": {"memory": "0"}, "requests": {"cpu": "0"}}),
        ]);
        p.spec.resources = serde_json::from_value(
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}),
        )
        .expect("resources");
        let of = |index: usize| {
            let r = container(&p, &p.spec.containers[index]);
            (r.cpu_quota_us, r.memory_limit, r.cpu_shares)
        };
        // As the kubelet has it, shares follow a limit where no request is named.
        assert_eq!(of(0), (Some(200_000), Some(1 << 30), Some(2048)));
        assert_eq!(of(1), (Some(25_000), Some(1 << 30), Some(102)));
        assert_eq!(of(2), (Some(200_000), Some(1 << 30), Some(2)));
    }

    #[test]
    fn overhead_comes_on_top() {
        let mut p = pod_of(&[json!({"limits": {"cpu": "500m", "memory": "64Mi"}})]);
        p.spec.overhead =
            serde_json::from_value(json!({"cpu": "250m", "memory": "1Mi"})).expect("a list");
        let r = pod(&p, None);
        assert_eq!((r.cpu_quota_us, r.memory_limit), (Some(75_000), Some(65 << 20)));
        assert_eq!(r.cpu_shares, Some(768));
        assert_eq!(request(&p, "cpu", Quantity::millis), 750);
    }

    #[test]
    fn oom_scores() {
        let score = |r: Value| {
            let p = pod_of(&[r]);
            oom_score_adj(&p, &p.spec.containers[0], 4 << 30)
        };
        assert_eq!(score(json!({})), 1000);
        assert_eq!(score(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), -997);
        assert_eq!(score(json!({"requests": {"memory": "1Gi"}})), 750);
        assert_eq!(score(json!({"requests": {"cpu": "1"}})), 999);
        assert_eq!(score(json!({"requests": {"memory": "4Gi"}})), 3);
    }

    /// With the KEP's own example: 180 for the pod, 150 for two of three containers.
    #[test]
    fn oom_scores_by_what_the_pod_requests() {
        let memory = |amount: &str| json!({"requests": {"memory": amount}});
        let mut p = pod_of(&[memory("50Gi"), memory("100Gi"), json!({})]);
        let scores =
            |p: &Pod| -> Vec<i32> { all(p).map(|c| oom_score_adj(p, c, 1000 << 30)).collect() };
        assert_eq!(scores(&p), [950, 900, 999]);
        p.spec.resources = serde_json::from_value(memory("180Gi")).expect("resources");
        assert_eq!(scores(&p), [940, 890, 990]);
        // A sidecar is worth as much as the least of those that it serves.
        let mut p = pod_of(&[memory("50Gi"), memory("100Gi")]);
        let sidecar = json!([{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]);
        p.spec.init_containers = serde_json::from_value(sidecar).expect("containers");
        assert_eq!(scores(&p), [950, 999, 950, 900]);
    }
}

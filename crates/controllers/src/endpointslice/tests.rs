//! EndpointSlice plans, and that carrying them out leaves nothing to do.

use std::{collections::BTreeMap, sync::Arc};

use client::Cached;
use proptest::prelude::*;
use serde_json::json;
use testkit::{Build, pod, service};

use super::{
    plan::{ENDPOINTS_MAX, Plan, plan},
    view::{Slice, View},
};

fn web(i: usize) -> Build {
    let ip = format!("10.42.{}.{}", i / 250, i % 250 + 1);
    pod(&format!("default/web-{i}")).label("app", "web").on("n1").ready(&ip)
}

struct World {
    service: Build,
    slices: BTreeMap<String, (Slice, BTreeMap<String, String>)>,
    made: usize,
}

impl World {
    fn new(service: Build) -> Self {
        Self { service, slices: BTreeMap::new(), made: 0 }
    }

    fn plan(&self, pods: &[Build]) -> Plan {
        let pods =
            pods.iter().map(|pod| Arc::new(Cached::read(pod.object(), false).expect("a pod")));
        let slices = self.slices.iter().map(|(name, (view, labels))| {
            let meta = api_object::Meta {
                name: name.clone(),
                namespace: "default".into(),
                uid: name.clone(),
                labels: labels.clone(),
                ..api_object::Meta::default()
            };
            Arc::new(Cached { meta, view: view.clone(), bytes: None })
        });
        plan(&View {
            service: Arc::new(Cached::read(self.service.object(), false).expect("a service")),
            pods: pods.collect(),
            slices: slices.collect(),
            zones: BTreeMap::from([("n1".to_owned(), "z1".to_owned())]),
        })
    }

    /// Carries a plan out; returns how many slices were made, changed, deleted.
    fn step(&mut self, pods: &[Build]) -> (usize, usize, usize) {
        let plan = self.plan(pods);
        let counts = (plan.create.len(), plan.update.len(), plan.delete.len());
        for slice in plan.delete {
            self.slices.remove(&slice.meta.name);
        }
        for (slice, next) in plan.update {
            self.slices.insert(slice.meta.name.clone(), (next, plan.labels.clone()));
        }
        for slice in plan.create {
            self.made += 1;
            self.slices.insert(format!("web-{}", self.made), (slice, plan.labels.clone()));
        }
        counts
    }

    /// Address, port and conditions (ready, serving, terminating) of each
    /// endpoint, in order.
    fn endpoints(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (slice, _) in self.slices.values() {
            for endpoint in &slice.endpoints {
                let flag = |c: Option<bool>, letter: &'static str| {
                    if c == Some(true) { letter } else { "-" }
                };
                let c = &endpoint.conditions;
                let ports: Vec<String> =
                    slice.ports.iter().map(|p| p.port.unwrap_or(0).to_string()).collect();
                all.push(format!(
                    "{}:{} {}{}{}",
                    endpoint.addresses.join(","),
                    ports.join(","),
                    flag(c.ready, "r"),
                    flag(c.serving, "s"),
                    flag(c.terminating, "t")
                ));
            }
        }
        all.sort();
        all
    }
}

#[test]
fn each_pod_is_told_as_it_is() {
    let ready = web(0);
    let unready = pod("default/u").label("app", "web").running("10.42.0.50");
    let ending = web(60).deleting();
    let finished = web(70).set("/status/phase", json!("Succeeded"));
    let without_address = pod("default/n").label("app", "web");
    let pods = [ready, unready, ending, finished, without_address];
    let mut world = World::new(service("default/web"));
    assert_eq!(world.step(&pods), (1, 0, 0));
    assert_eq!(
        world.endpoints(),
        ["10.42.0.1:8080 rs-", "10.42.0.50:8080 ---", "10.42.0.61:8080 -st"]
    );
    assert_eq!(world.step(&pods), (0, 0, 0), "nothing changed");
    let (slice, labels) = world.slices.values().next().expect("one");
    let first = &slice.endpoints[0];
    assert_eq!((first.zone.as_deref(), first.node_name.as_deref()), (Some("z1"), Some("n1")));
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    // What is not ready counts, where the Service says so.
    let eager = service("default/web").set("/spec/publishNotReadyAddresses", json!(true));
    let mut world = World::new(eager);
    world.step(&pods);
    assert_eq!(
        world.endpoints(),
        ["10.42.0.1:8080 rs-", "10.42.0.50:8080 r--", "10.42.0.61:8080 rst"]
    );
}

#[test]
fn named_ports_and_headless_names() {
    let named = |i: usize, port: i32| {
        web(i).set(
            "/spec/containers/0/ports",
            json!([{"name": "web", "containerPort": port, "protocol": "TCP"}]),
        )
    };
    let service = service("default/web")
        .set("/spec/ports/0/targetPort", json!("web"))
        .set("/spec/clusterIP", json!("None"));
    let known = named(0, 80).set("/spec/hostname", json!("a")).set("/spec/subdomain", json!("web"));
    let mut world = World::new(service);
    // One port number a slice; a pod without the port is there without it.
    assert_eq!(world.step(&[known, named(1, 81), web(2)]), (3, 0, 0));
    assert_eq!(world.endpoints(), ["10.42.0.1:80 rs-", "10.42.0.2:81 rs-", "10.42.0.3: rs-"]);
    let names: Vec<_> = world
        .slices
        .values()
        .flat_map(|(slice, _)| slice.endpoints.iter().filter_map(|e| e.hostname.clone()))
        .collect();
    assert_eq!(names, ["a"]);
    assert!(world.slices.values().all(|(_, l)| l.contains_key("service.kubernetes.io/headless")));
}

#[test]
fn both_families_have_their_slices() {
    let dual = service("default/web").set("/spec/ipFamilies", json!(["IPv4", "IPv6"]));
    let both = web(0).set("/status/podIPs", json!([{"ip": "10.42.0.1"}, {"ip": "fd00::1"}]));
    let mut world = World::new(dual);
    assert_eq!(world.step(&[both]), (2, 0, 0));
    assert_eq!(world.endpoints(), ["10.42.0.1:8080 rs-", "fd00::1:8080 rs-"]);
}

#[test]
fn hints_say_for_whom_an_endpoint_is() {
    let hints = |distribution: &str, pods: &[Build]| {
        let mut world = World::new(
            service("default/web").set("/spec/trafficDistribution", json!(distribution)),
        );
        world.step(pods);
        assert_eq!(world.step(pods), (0, 0, 0), "{distribution}: nothing changed");
        let endpoints = world.slices.values().flat_map(|(slice, _)| &slice.endpoints);
        let mut lines: Vec<String> = endpoints
            .filter_map(|endpoint| {
                let hints = endpoint.hints.as_ref()?;
                let names = |list: &[api_types::discovery::ForName]| {
                    list.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(",")
                };
                let (nodes, zones) = (names(&hints.for_nodes), names(&hints.for_zones));
                Some(format!("{} nodes={nodes} zones={zones}", endpoint.addresses.join(",")))
            })
            .collect();
        lines.sort();
        lines
    };
    // The second node has no zone; what is not ready is for nobody.
    let away = web(1).set("/spec/nodeName", json!("n2"));
    let pods = [web(0), away, web(2).deleting()];
    for zonal in ["PreferSameZone", "PreferClose"] {
        assert_eq!(hints(zonal, &pods), ["10.42.0.1 nodes= zones=z1"], "{zonal}");
    }
    let both = ["10.42.0.1 nodes=n1 zones=z1", "10.42.0.2 nodes=n2 zones="];
    assert_eq!(hints("PreferSameNode", &pods), both);
    assert_eq!(hints("", &pods), [""; 0]);
    // A Service that prefers nobody any more takes them back.
    let mut world = World::new(
        service("default/web").set("/spec/trafficDistribution", json!("PreferSameNode")),
    );
    world.step(&pods);
    world.service = service("default/web");
    assert_eq!(world.step(&pods), (0, 1, 0));
    let left = world.slices.values().flat_map(|(slice, _)| &slice.endpoints);
    assert!(left.into_iter().all(|endpoint| endpoint.hints.is_none()));
}

#[test]
fn no_endpoints_are_told_too_and_selectorless_services_left_alone() {
    let mut world = World::new(service("default/web"));
    assert_eq!(world.step(&[]), (1, 0, 0));
    assert_eq!(world.step(&[]), (0, 0, 0));
    assert_eq!(world.step(&[web(0)]).0, 1);
    assert_eq!(world.slices.len(), 1, "the empty one went");
    let mut world = World::new(service("default/web").set("/spec/selector", json!(null)));
    assert_eq!(world.step(&[web(0)]), (0, 0, 0));
}

#[test]
fn a_large_service_changes_little_at_a_time() {
    let mut pods: Vec<Build> = (0..250).map(web).collect();
    let mut world = World::new(service("default/web"));
    assert_eq!(world.step(&pods), (3, 0, 0));
    pods[7] = pods[7].clone().deleting();
    assert_eq!(world.step(&pods), (0, 1, 0));
    pods.push(web(300));
    assert_eq!(world.step(&pods), (0, 1, 0), "it went where there is room");
    pods.remove(7);
    assert_eq!(world.step(&pods), (0, 1, 0));
}

proptest! {
    // Each case is of hundreds of pods.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn slices_hold_just_what_is(steps in prop::collection::vec(prop::collection::btree_set(0..300usize, 0..250), 1..5)) {
        let mut world = World::new(service("default/web"));
        for step in steps {
            let pods: Vec<Build> = step.iter().map(|i| web(*i)).collect();
            world.step(&pods);
            prop_assert_eq!(world.step(&pods), (0, 0, 0));
            prop_assert_eq!(world.endpoints().len(), step.len());
            prop_assert!(world.slices.values().all(|(slice, _)| slice.endpoints.len() <= ENDPOINTS_MAX));
        }
    }
}

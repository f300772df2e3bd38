//! Which endpoints may be used, by policy, by their conditions and by what is
//! remembered of a client.

use std::time::Duration;

use super::*;

/// Where connections from a client go, over all that may be thrown.
fn spread(rules: &mut Rules, from: &str, to: &str) -> BTreeSet<String> {
    let throws = 0..6;
    let went = throws.map(|random| {
        rules.random = random;
        told(&rules.trace(first_packet(from, to)))
    });
    went.collect()
}

/// One line a client: from, to, the fates that there are for it.
#[track_caller]
fn check_all(service: &Service, expected: &str) {
    let lines = expected.lines().map(str::trim);
    let found: Vec<String> = lines
        .clone()
        .map(|line| {
            let (from, rest) = line.split_once(" -> ").expect("from -> to: fates");
            let (to, _) = rest.split_once(": ").expect("to: fates");
            let family = plan::family_of(from.parse().expect("an address"));
            let fates = spread(&mut Rules::of(service, family), from, to);
            format!("{from} -> {to}: {}", Vec::from_iter(fates).join(" or "))
        })
        .collect();
    assert_eq!(found.join("\n"), lines.collect::<Vec<_>>().join("\n"));
}

/// 10.43.0.5 and fd43::5, two endpoints of either family, the second on another node.
fn on_two_nodes() -> Service {
    let mut service = service(&["10.42.0.5", "10.42.1.6", "fd42::5", "fd42:0:0:1::6"]);
    service.cluster_ips.push("fd43::5".parse().unwrap());
    for at in [1, 3] {
        service.ports[0].endpoints[at].local = false;
    }
    service
}

#[test]
fn an_internal_policy_keeps_connections_on_the_node() {
    let mut service = on_two_nodes();
    check_all(
        &service,
        "10.42.0.6 -> 10.43.0.5:80: 10.42.0.5:8080 or 10.42.1.6:8080
         192.0.2.1 -> 10.43.0.5:80: 10.42.0.5:8080 or 10.42.1.6:8080
         fd42::6 -> [fd43::5]:80: [fd42:0:0:1::6]:8080 or [fd42::5]:8080",
    );
    service.internal_policy = TrafficPolicy::Local;
    service.ports[0].node_port = Some(30080);
    check_all(
        &service,
        "10.42.0.6 -> 10.43.0.5:80: 10.42.0.5:8080
         192.0.2.1 -> 10.43.0.5:80: 10.42.0.5:8080
         10.42.0.5 -> 10.43.0.5:80: 10.42.0.5:8080 as the node
         fd42::6 -> [fd43::5]:80: [fd42::5]:8080
         2001:db8::1 -> [fd43::5]:80: [fd42::5]:8080
         203.0.113.1 -> 192.0.2.1:30080: 10.42.0.5:8080 as the node or 10.42.1.6:8080 as the node",
    );
    // None here: as kube-proxy has it, dropped where another node has one, and a word
    // where nobody has. What comes from outside has a policy of its own.
    service.ports[0].endpoints.retain(|endpoint| !endpoint.local);
    check_all(
        &service,
        "10.42.0.6 -> 10.43.0.5:80: dropped
         192.0.2.1 -> 10.43.0.5:80: dropped
         fd42::6 -> [fd43::5]:80: dropped
         203.0.113.1 -> 192.0.2.1:30080: 10.42.1.6:8080 as the node",
    );
    service.ports[0].endpoints.clear();
    check_all(
        &service,
        "10.42.0.6 -> 10.43.0.5:80: rejected
         fd42::6 -> [fd43::5]:80: rejected",
    );
}

#[test]
fn who_terminates_serves_where_nobody_is_ready() {
    let mut service = service(&["10.42.0.5", "10.42.0.6", "10.42.0.7"]);
    let all = |service: &mut Service, change: &dyn Fn(&mut Endpoint)| {
        service.ports[0].endpoints.iter_mut().for_each(change);
    };
    let from_a_pod = |service: &Service, fates: &str| {
        check_all(service, &format!("10.42.0.9 -> 10.43.0.5:80: {fates}"));
    };
    // Beside one that is ready, none of them.
    all(&mut service, &|endpoint| (endpoint.ready, endpoint.terminating) = (false, true));
    service.ports[0].endpoints[2] = endpoint("10.42.0.7");
    from_a_pod(&service, "10.42.0.7:8080");
    // Alone they serve, but not one that says that it cannot any more.
    service.ports[0].endpoints.pop();
    from_a_pod(&service, "10.42.0.5:8080 or 10.42.0.6:8080");
    service.ports[0].endpoints[0].serving = false;
    from_a_pod(&service, "10.42.0.6:8080");
    // Not ready and not leaving is not there.
    all(&mut service, &|endpoint| endpoint.terminating = false);
    from_a_pod(&service, "rejected");
    // On this node those that leave come before those that are ready elsewhere.
    let mut service = on_two_nodes();
    service.internal_policy = TrafficPolicy::Local;
    all(&mut service, &|endpoint| {
        (endpoint.ready, endpoint.terminating) = (!endpoint.local, endpoint.local);
    });
    from_a_pod(&service, "10.42.0.5:8080");
    service.internal_policy = TrafficPolicy::Cluster;
    from_a_pod(&service, "10.42.1.6:8080");
}

#[test]
fn a_client_is_remembered_and_no_other() {
    let mut service = on_two_nodes();
    service.cluster_ips.push("10.43.0.6".parse().unwrap());
    let without = Rules::of(&service, Family::Ip);
    service.affinity = Some(Duration::from_secs(10800));
    service.ports[0].node_port = Some(30080);
    for (family, clients, to, endpoints) in [
        (
            Family::Ip,
            ["10.42.0.6", "10.42.0.7"],
            ["10.43.0.5:80", "192.0.2.1:30080"],
            ["10.42.0.5:8080", "10.42.1.6:8080"],
        ),
        (
            Family::Ip6,
            ["fd42::6", "fd42::7"],
            ["[fd43::5]:80", "[2001:db8::1]:30080"],
            ["[fd42::5]:8080", "[fd42:0:0:1::6]:8080"],
        ),
    ] {
        let mut rules = Rules::of(&service, family);
        let mut expected = BTreeSet::new();
        for (random, client) in [1, 0].into_iter().zip(clients) {
            rules.random = random;
            let first = told(&rules.trace(first_packet(client, to[0])));
            expected.insert(first.clone());
            assert_eq!(spread(&mut rules, client, to[0]), [first].into(), "{client}");
        }
        assert_eq!(expected, endpoints.map(str::to_owned).into(), "each has its own");
        // At another address of the Service it is somebody new, and remembered as well.
        rules.random = 0;
        let first = told(&rules.trace(first_packet(clients[0], to[1])));
        assert!(first.starts_with(endpoints[0]), "{first}");
        assert_eq!(spread(&mut rules, clients[0], to[1]), [first].into());
    }
    let mut rules = without;
    assert_eq!(spread(&mut rules, "10.42.0.6", "10.43.0.5:80").len(), 2, "without it");
}

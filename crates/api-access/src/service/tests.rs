use api_registry::Operation;
use serde_json::json;

use super::*;
use crate::testing::{World, admin, write};

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") }, "spec": spec })
}

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    world.add(crate::state::NAMESPACES, json!({ "metadata": { "name": "default" } }));
    world
}

/// Admits a create; the object as it would be stored, or the message.
async fn create(world: &World, object: Value) -> Result<Value, String> {
    let mut attributes =
        write(admin(), Operation::Create, "services", "default", Some(object), None);
    world.admit(&mut attributes).await.map_err(|status| status.message)?;
    Ok(attributes.object.expect("kept"))
}

async fn update(world: &World, object: Value, old: Value) -> Result<Value, String> {
    let mut attributes =
        write(admin(), Operation::Update, "services", "default", Some(object), Some(old));
    world.admit(&mut attributes).await.map_err(|status| status.message)?;
    Ok(attributes.object.expect("kept"))
}

#[tokio::test]
async fn a_service_gets_an_address_of_the_upper_band() {
    let world = world();
    let made =
        create(&world, service("a", json!({ "ports": [{ "port": 80 }] }))).await.expect("room");
    let address: std::net::Ipv4Addr = tree::text(&made, "spec.clusterIP").parse().expect("address");
    assert_eq!(address.octets()[..2], [10, 43]);
    assert!(u32::from(address) - u32::from(std::net::Ipv4Addr::new(10, 43, 0, 1)) >= 256);
    assert_eq!(tree::get(&made, "spec.clusterIPs"), &json!([address.to_string()]));
    assert_eq!(tree::get(&made, "spec.ipFamilies"), &json!(["IPv4"]));
    assert_eq!(tree::text(&made, "spec.ipFamilyPolicy"), "SingleStack");
    assert_eq!(tree::get(&made, "spec.ports.0.nodePort"), &Value::Null);
}

#[tokio::test]
async fn fixed_addresses_are_had_once_and_errors_are_upstreams() {
    let world = world();
    let fixed = |name: &str, ip: &str| service(name, json!({ "clusterIP": ip }));
    let made = create(&world, fixed("dns", "10.43.0.10")).await.expect("free");
    assert_eq!(tree::get(&made, "spec.clusterIPs"), &json!(["10.43.0.10"]));
    create(&world, fixed("kubernetes", "10.43.0.1")).await.expect("kept for those who ask");
    for (ip, why) in [
        ("10.43.0.10", "failed to allocate IP 10.43.0.10: provided IP is already allocated"),
        (
            "1.2.3.4",
            "failed to allocate IP 1.2.3.4: the provided network does not match the current range",
        ),
        (
            "10.43.255.255",
            "failed to allocate IP 10.43.255.255: the provided network does not match the current range",
        ),
    ] {
        let message = create(&world, fixed("x", ip)).await.expect_err(ip);
        assert_eq!(
            message,
            format!("Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: {why}")
        );
    }
    let message = create(&world, fixed("x", "fd00::1")).await.expect_err("one family");
    let why =
        "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster";
    assert!(message.contains(why), "{message}");
}

/// What a change of a Service is answered, by what fills it in and what looks at it.
async fn changed(world: &World, old: &Value, spec: Value) -> Result<Value, String> {
    let name = tree::text(old, "metadata.name");
    let mut new = update(world, service(name, spec), old.clone()).await?;
    let row = api_kinds::catalogue().find("", "v1", "services").expect("served");
    let mut old = old.clone();
    [&mut new, &mut old].into_iter().for_each(|service| row.default(service));
    let causes = row.validate_update(&new, &old);
    match causes.is_empty() {
        true => Ok(new),
        false => Err(Status::invalid("", "Service", name, causes).message),
    }
}

#[tokio::test]
async fn an_address_does_not_change_and_a_taken_one_is_not_given_with_another_type() {
    let world = world();
    let fixed = |ip: &str| json!({ "type": "ClusterIP", "clusterIP": ip, "selector": { "a": "b" }, "ports": [{ "port": 80 }] });
    let dns = create(&world, service("dns", fixed("10.43.0.10"))).await.expect("free");
    let web = create(&world, service("web", fixed("10.43.0.11"))).await.expect("free");
    // Taken, free, of no range: it is always the change that is refused.
    for ip in ["10.43.0.10", "10.43.0.12", "1.2.3.4", "None"] {
        let message = changed(&world, &web, fixed(ip)).await.expect_err(ip);
        let what =
            format!("spec.clusterIPs[0]: Invalid value: [\"{ip}\"]: may not change once set");
        assert_eq!(message, format!("Service \"web\" is invalid: {what}"));
    }
    create(&world, service("other", fixed("10.43.0.12"))).await.expect("nothing was taken");
    let headless = create(&world, service("none", fixed("None"))).await.expect("no address");
    let message = changed(&world, &headless, fixed("10.43.0.13")).await.expect_err("headless");
    assert!(message.contains("[\"10.43.0.13\"]: may not change once set"), "{message}");
    create(&world, service("free", fixed("10.43.0.13"))).await.expect("nothing was taken");
    // From a name to an address there is a choice, and what somebody has is not had.
    let away = json!({ "type": "ExternalName", "externalName": "example.com" });
    let away = create(&world, service("away", away)).await.expect("no address");
    let message = changed(&world, &away, fixed("10.43.0.10")).await.expect_err("taken");
    let why = "failed to allocate IP 10.43.0.10: provided IP is already allocated";
    let what = format!("spec.clusterIPs: Invalid value: [\"10.43.0.10\"]: {why}");
    assert_eq!(message, format!("Service \"away\" is invalid: {what}"));
    let found = changed(&world, &away, fixed("10.43.0.14")).await.expect("free");
    assert_eq!(tree::get(&found, "spec.clusterIPs"), &json!(["10.43.0.14"]));
    assert_eq!(tree::text(&dns, "spec.clusterIP"), "10.43.0.10");
}

#[tokio::test]
async fn node_ports_are_had_once_and_shared_between_protocols_of_one_service() {
    let world = world();
    let both = json!({ "type": "NodePort", "ports": [
        { "port": 53, "protocol": "UDP", "nodePort": 30053 }, { "port": 53, "protocol": "TCP", "nodePort": 30053 },
        { "port": 80, "protocol": "TCP" },
    ] });
    let made = create(&world, service("dns", both)).await.expect("free");
    let ports = tree::list(&made, "spec.ports");
    assert_eq!(tree::int(&ports[1], "nodePort"), Some(30053));
    assert!((30_086..=32_767).contains(&tree::int(&ports[2], "nodePort").expect("picked")));
    for (port, why) in [
        (30_053, "provided port is already allocated"),
        (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ] {
        let spec = json!({ "type": "NodePort", "ports": [{ "port": 1 }, { "port": 2, "nodePort": port }] });
        let message = create(&world, service("x", spec)).await.expect_err("taken");
        assert_eq!(
            message,
            format!(
                "Service \"x\" is invalid: spec.ports[1].nodePort: Invalid value: {port}: {why}"
            )
        );
    }
    // What failed gave back what it had taken: every other port is still free.
    let wants: Vec<Want> = (30_000..=32_767u16)
        .filter(|port| {
            *port != 30_053 && Some(i64::from(*port)) != tree::int(&ports[2], "nodePort")
        })
        .map(|port| Want::NodePort { index: 0, value: Some(port) })
        .collect();
    world.access.allocators.take(&wants, &mut || 0).expect("all free");
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 1 }] });
    let message = create(&world, service("x", spec)).await.expect_err("full");
    assert!(message.contains("range is full"), "{message}");
}

#[tokio::test]
async fn the_range_can_be_used_up() {
    let world = World::new(&["10.43.0.0/28"]);
    world.add(crate::state::NAMESPACES, json!({ "metadata": { "name": "default" } }));
    let mut addresses = std::collections::BTreeSet::new();
    for n in 0..13 {
        let made =
            create(&world, service(&format!("s{n}"), json!({}))).await.expect("13 of 14 are free");
        assert!(addresses.insert(tree::text(&made, "spec.clusterIP").to_owned()), "twice");
    }
    assert!(!addresses.contains("10.43.0.1"), "kept");
    let message = create(&world, service("x", json!({}))).await.expect_err("full");
    assert!(message.contains("failed to allocate a serviceIP: range is full"), "{message}");
}

#[tokio::test]
async fn headless_external_and_back() {
    let world = world();
    let none = json!({ "clusterIP": "None", "selector": { "a": "b" } });
    let made = create(&world, service("h", none)).await.expect("nothing to take");
    assert_eq!(tree::get(&made, "spec.clusterIPs"), &json!(["None"]));
    assert_eq!(tree::get(&made, "spec.ipFamilies"), &json!(["IPv4"]));
    let made = create(&world, service("hs", json!({ "clusterIP": "None" })))
        .await
        .expect("nothing to take");
    assert_eq!(tree::text(&made, "spec.ipFamilyPolicy"), "RequireDualStack");
    assert_eq!(tree::get(&made, "spec.ipFamilies"), &json!(["IPv4", "IPv6"]));

    let external = json!({ "type": "ExternalName", "externalName": "example.org" });
    let made = create(&world, service("e", external)).await.expect("nothing to take");
    assert_eq!(tree::get(&made, "spec.clusterIPs"), &Value::Null);
    assert_eq!(tree::get(&made, "spec.ipFamilies"), &Value::Null);

    // ClusterIP, then NodePort with the same address, then ExternalName.
    let old = create(&world, service("a", json!({ "ports": [{ "port": 80, "protocol": "TCP" }] })))
        .await
        .expect("room");
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }] });
    let node_port = update(&world, service("a", spec.clone()), old.clone()).await.expect("room");
    assert_eq!(tree::text(&node_port, "spec.clusterIP"), tree::text(&old, "spec.clusterIP"));
    let number = tree::int(&tree::list(&node_port, "spec.ports")[0], "nodePort").expect("picked");
    let again = update(&world, service("a", spec), node_port.clone()).await.expect("kept");
    assert_eq!(again, node_port);
    let mut external = node_port.clone();
    tree::set(&mut external, "spec.type", "ExternalName");
    let external = update(&world, external, node_port.clone()).await.expect("dropped");
    for path in ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies"] {
        assert_eq!(tree::get(&external, path), &Value::Null, "{path}");
    }
    assert_eq!(tree::get(&tree::list(&external, "spec.ports")[0], "nodePort"), &Value::Null);
    // Once that is seen, address and port are free again.
    world.add(crate::state::SERVICES, node_port.clone());
    world.add(crate::state::SERVICES, external);
    let spec = json!({
        "type": "NodePort", "clusterIP": tree::text(&old, "spec.clusterIP"),
        "ports": [{ "port": 80, "nodePort": number }],
    });
    create(&world, service("b", spec)).await.expect("free");
}

#[tokio::test]
async fn an_address_of_a_service_that_is_gone_is_free_before_the_watch_tells() {
    let world = world();
    let a = create(&world, service("a", json!({ "clusterIP": "10.43.0.77" }))).await.expect("free");
    world.add(crate::state::SERVICES, a);
    let fixed = || service("b", json!({ "clusterIP": "10.43.0.77" }));
    create(&world, fixed()).await.expect_err("taken");
    let again = create(&world, service("a", json!({ "clusterIP": "10.43.0.77" }))).await;
    assert_eq!(again.expect_err("it is there"), "services \"a\" already exists");
    world.delete_unseen(crate::state::SERVICES, "default", "a");
    create(&world, fixed()).await.expect("free");
    create(&world, fixed()).await.expect_err("taken by b");
}

fn two_stacks() -> World {
    let world = World::new(&["10.43.0.0/16", "fd00:43::/112"]);
    world.add(crate::state::NAMESPACES, json!({ "metadata": { "name": "default" } }));
    world
}

/// `IPv4,IPv6 PreferDualStack 10,fd` or why not: the families, the policy, and
/// of each address what it begins with.
fn shown(made: &Result<Value, String>) -> String {
    let made = match made {
        Ok(made) => made,
        Err(message) => {
            let (_, why) = message.split_once(" is invalid: ").expect("faults of a Service");
            return why.to_owned();
        }
    };
    let texts = |path| {
        let texts = tree::list(made, path).iter().filter_map(Value::as_str);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let starts = |ip: &String| match ip.as_str() {
        "None" => "None".to_owned(),
        ip => ip.split(['.', ':']).next().unwrap_or_default().to_owned(),
    };
    let addresses: Vec<String> = texts("spec.clusterIPs").iter().map(starts).collect();
    format!(
        "{} {} {}",
        texts("spec.ipFamilies").join(","),
        tree::text(made, "spec.ipFamilyPolicy"),
        addresses.join(",")
    )
}

/// What a Service gets, on a cluster of IPv4 alone and on one of both families.
#[tokio::test]
async fn families_by_policy() {
    const NO_SECOND: &str = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    const NO_SIX: &str =
        "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    const TWO: &str = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
    const TWO_IPS: &str = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified";
    const TWICE: &str = "spec.ipFamilies[1]: Duplicate value: \"IPv4\"";
    let both = format!(
        "[{TWO_IPS}, spec.clusterIPs[1]: Invalid value: [\"10.43.0.98\",\"fd00:43::98\"]: IPv6 is not configured on this cluster]"
    );
    let table = [
        (json!({}), "IPv4 SingleStack 10", "IPv4 SingleStack 10"),
        (
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            "IPv4 PreferDualStack 10",
            "IPv4,IPv6 PreferDualStack 10,fd00",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            NO_SECOND,
            "IPv4,IPv6 RequireDualStack 10,fd00",
        ),
        (json!({"ipFamilies": ["IPv6"]}), NO_SIX, "IPv6 SingleStack fd00"),
        (
            json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            NO_SIX,
            "IPv6,IPv4 PreferDualStack fd00,10",
        ),
        (json!({"ipFamilies": ["IPv4", "IPv6"]}), TWO, TWO),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}),
            TWICE,
            TWICE,
        ),
        (
            json!({"clusterIP": "fd00:43::99"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00:43::99\"]: IPv6 is not configured on this cluster",
            "IPv6 SingleStack fd00",
        ),
        (
            json!({"clusterIP": "10.43.0.98", "clusterIPs": ["10.43.0.98", "fd00:43::98"]}),
            both.as_str(),
            TWO_IPS,
        ),
        (
            json!({"clusterIP": "10.43.0.97", "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.43.0.97\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            "spec.clusterIPs[0]: Invalid value: \"10.43.0.97\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"clusterIP": "None", "selector": {"a": "b"}}),
            "IPv4 SingleStack None",
            "IPv4 SingleStack None",
        ),
        (
            json!({"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": "PreferDualStack"}),
            "IPv4 PreferDualStack None",
            "IPv4,IPv6 PreferDualStack None",
        ),
        (
            json!({"clusterIP": "None"}),
            "IPv4,IPv6 RequireDualStack None",
            "IPv4,IPv6 RequireDualStack None",
        ),
        (
            json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}),
            "IPv6,IPv4 RequireDualStack None",
            "IPv6,IPv4 RequireDualStack None",
        ),
        (
            json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}),
            "IPv4 SingleStack None",
            "IPv4 SingleStack None",
        ),
    ];
    for (spec, one, two) in table {
        let made = create(&world(), service("a", spec.clone())).await;
        assert_eq!(shown(&made), one, "{spec} on one stack");
        let made = create(&two_stacks(), service("a", spec.clone())).await;
        assert_eq!(shown(&made), two, "{spec} on two stacks");
    }
}

/// From one policy to another: what is kept, given and given back.
#[tokio::test]
async fn policies_change() {
    let two = json!({"ipFamilyPolicy": "PreferDualStack"});
    let table = [
        (
            json!({}),
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            "IPv4,IPv6 PreferDualStack 10,fd00",
        ),
        (
            json!({}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "IPv4,IPv6 RequireDualStack 10,fd00",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "IPv6,IPv4 RequireDualStack fd00,10",
        ),
        (two.clone(), json!({"ipFamilyPolicy": "SingleStack"}), "IPv4 SingleStack 10"),
        (
            two.clone(),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "IPv4,IPv6 RequireDualStack 10,fd00",
        ),
        (two.clone(), json!({"type": "NodePort"}), "IPv4,IPv6 PreferDualStack 10,fd00"),
        (
            two.clone(),
            json!({"ipFamilies": ["IPv4"]}),
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
        ),
        (
            two.clone(),
            json!({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            "IPv4 SingleStack 10",
        ),
        (
            json!({"clusterIP": "None", "selector": {"a": "b"}}),
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "IPv4,IPv6 RequireDualStack None",
        ),
    ];
    for (spec, change, expected) in table {
        let world = two_stacks();
        let old = create(&world, service("a", spec.clone())).await.expect("room");
        let mut new = old.clone();
        for (field, value) in change.as_object().expect("a map") {
            tree::set(&mut new, &format!("spec.{field}"), value.clone());
        }
        let made = update(&world, new, old.clone()).await;
        assert_eq!(shown(&made), expected, "{spec}, then {change}");
        if let Ok(made) = made {
            let primary = "spec.clusterIP";
            assert_eq!(tree::text(&made, primary), tree::text(&old, primary), "the first stays");
        }
    }
    // Only the addresses are reduced.
    let world = two_stacks();
    let old = create(&world, service("a", two)).await.expect("room");
    let mut fewer = old.clone();
    let first = tree::text(&old, "spec.clusterIP").to_owned();
    tree::set(&mut fewer, "spec.clusterIPs", vec![first]);
    let message = shown(&update(&world, fewer, old.clone()).await);
    assert!(
        message.ends_with("must be 'SingleStack' to release the secondary cluster IP"),
        "{message}"
    );
    // What was given back can be had by another.
    let second = tree::list(&old, "spec.clusterIPs")[1].as_str().expect("text").to_owned();
    world.add(crate::state::SERVICES, old.clone());
    let other = || service("b", json!({ "clusterIP": second }));
    create(&world, other()).await.expect_err("taken");
    let mut single = old.clone();
    tree::set(&mut single, "spec.ipFamilyPolicy", "SingleStack");
    let single = update(&world, single, old).await.expect("fewer");
    world.add(crate::state::SERVICES, single);
    create(&world, other()).await.expect("free");
}

/// A cluster that got a second family leaves Services that prefer two alone
/// until somebody asks.
#[tokio::test]
async fn a_second_family_of_the_cluster_changes_no_service_by_itself() {
    let spec = json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.43.0.44"});
    let before = create(&world(), service("a", spec)).await.expect("room");
    assert_eq!(shown(&Ok(before.clone())), "IPv4 PreferDualStack 10");
    let world = two_stacks();
    world.add(crate::state::SERVICES, before.clone());
    let mut labelled = before.clone();
    tree::set(&mut labelled, "metadata.labels.a", "b");
    let same = update(&world, labelled, before.clone()).await;
    assert_eq!(shown(&same), "IPv4 PreferDualStack 10");
    let mut both = before.clone();
    tree::set(&mut both, "spec.ipFamilies", json!(["IPv4", "IPv6"]));
    assert_eq!(shown(&update(&world, both, before).await), "IPv4,IPv6 PreferDualStack 10,fd00");
}

#[tokio::test]
async fn an_address_has_one_spelling_among_those_that_are_taken() {
    let world = two_stacks();
    let spec = json!({"clusterIP": "FD00:0043:0::7"});
    let made = create(&world, service("a", spec)).await.expect("free");
    assert_eq!(tree::text(&made, "spec.clusterIP"), "FD00:0043:0::7", "as it was written");
    let again = update(&world, made.clone(), made.clone()).await.expect("it has it already");
    assert_eq!(again, made);
    let taken = create(&world, service("b", json!({"clusterIP": "fd00:43::7"}))).await;
    assert!(taken.expect_err("taken").contains("provided IP is already allocated"));
}

//! What holds for all sets, all objects and all bytes.

use proptest::prelude::*;

use super::*;

fn any_set() -> impl Strategy<Value = FieldSet> {
    let step = prop_oneof![
        "[a-c]".prop_map(|name| Step::field(&name)),
        (0..3i64).prop_map(|n| Step::Value(n.into())),
        "[\"\\\\é/]{0,2}".prop_map(|text| Step::Value(text.into())),
        (0..3i64, any::<bool>()).prop_map(|(n, more)| {
            let mut key = vec![("port".into(), Value::from(n))];
            key.extend(more.then(|| ("protocol".into(), Value::from("TCP"))));
            Step::Key(key.into())
        }),
        (0..3i64).prop_map(Step::Index),
    ];
    let leaf = Just(FieldSet::default());
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop::collection::vec((step.clone(), any::<bool>(), inner), 0..4).prop_map(|entries| {
            let mut set = FieldSet::default();
            for (step, member, below) in entries {
                set.push(step, member, below);
            }
            set
        })
    })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let port = (0..3i32, prop::option::of("TCP|UDP"), prop::option::of("[a-b]")).prop_map(
        |(port, protocol, name)| {
            let mut value = json!({ "port": port });
            protocol.into_iter().for_each(|protocol| value["protocol"] = protocol.into());
            name.into_iter().for_each(|name| value["name"] = name.into());
            value
        },
    );
    let ports = prop::collection::vec(port, 0..4).prop_map(|mut ports| {
        let key = |port: &Value| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            format!("{} {protocol}", port["port"])
        };
        ports.sort_by_key(key);
        ports.dedup_by_key(|port| key(port));
        ports
    });
    let container = ("[a-c]", prop::option::of("[1-2]")).prop_map(|(name, image)| {
        let mut value = json!({ "name": name });
        image.into_iter().for_each(|image| value["image"] = image.into());
        value
    });
    let containers = prop::collection::vec(container, 1..3).prop_map(|mut containers| {
        containers.sort_by_key(|container| container["name"].to_string());
        containers.dedup_by_key(|container| container["name"].to_string());
        containers
    });
    (
        prop::option::of(1..3i32),
        prop::option::of("[x-y]"),
        prop::option::of(ports),
        prop::option::of(containers),
        prop::option::of(prop::collection::btree_map("[a-c]", 0..2i32, 0..3)),
        prop::option::of(prop::collection::vec("[a-b]", 0..3)),
    )
        .prop_map(|(replicas, text, ports, containers, open, args)| {
            let mut spec = json!({});
            replicas.into_iter().for_each(|value| spec["replicas"] = value.into());
            text.into_iter().for_each(|value| spec["text"] = value.into());
            ports.into_iter().for_each(|value| spec["ports"] = value.into());
            containers.into_iter().for_each(|value| spec["containers"] = value.into());
            open.into_iter().for_each(|value| spec["open"] = json!(value));
            args.into_iter().for_each(|value| spec["args"] = json!(value));
            spec
        })
}

/// The paths of all scalars and whole lists of an object.
fn leaves(object: &Value) -> Vec<String> {
    let shape = shape();
    let root = Node::Struct(shape.id);
    extract::extract(&shape.schema, root, object).1.paths()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(set in any_set()) {
        let mut text = String::new();
        set.write(&mut text);
        prop_assert_eq!(FieldSet::parse(text.as_bytes()), Ok(set.clone()));
        let tree: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(FieldSet::from_tree(&tree), Ok(set));
    }

    #[test]
    fn sets_obey_their_laws(a in any_set(), b in any_set(), c in any_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b).difference(&b), a.difference(&b));
        prop_assert_eq!(a.meets(&b), !a.intersection(&b).is_empty());
        prop_assert_eq!(a.recursive_difference(&b).difference(&b), a.recursive_difference(&b));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = FieldSet::parse(&bytes);
    }

    #[test]
    fn no_fields_panic(text in r#"\{("(\.|[fkvix]:?[a-z0-9"\\{}]{0,4})":(\{\}|1|null|\[\]),?){0,3}\}"#) {
        if let Ok(set) = FieldSet::parse(text.as_bytes()) {
            let mut out = String::new();
            set.write(&mut out);
            prop_assert_eq!(FieldSet::parse(out.as_bytes()), Ok(set));
        }
    }

    #[test]
    fn no_configuration_panics(spec in any_tree(), live in any_tree()) {
        let mut state = State::new();
        let _ = state.write(&Write::Apply { manager: "a", config: json!({ "spec": live }), force: true }, 0);
        let _ = state.write(&Write::Apply { manager: "b", config: json!({ "spec": spec }), force: true }, 1);
    }

    #[test]
    fn applying_twice_changes_nothing(specs in prop::collection::vec(any_spec(), 1..4)) {
        let mut state = State::new();
        for (number, spec) in specs.iter().enumerate() {
            let manager = ["a", "b"][number % 2];
            state.write(&force(manager, spec.clone()), number).expect("forced");
        }
        let manager = ["a", "b"][(specs.len() - 1) % 2];
        let last = specs.last().expect("one at least");
        let before = state.clone();
        state.write(&apply(manager, last.clone()), 9).expect("no conflict with oneself");
        prop_assert_eq!(&state.object, &before.object);
        prop_assert!(state.managers.same_fields(&before.managers));
    }

    #[test]
    fn a_merge_invents_nothing_and_has_all_that_is_applied(a in any_spec(), b in any_spec()) {
        let mut state = State::new();
        state.write(&force("a", a.clone()), 0).expect("forced");
        let live = leaves(&state.object);
        let config = json!({ "spec": b });
        state.write(&force("b", b.clone()), 1).expect("forced");
        let applied = leaves(&config);
        let after = leaves(&state.object);
        // What becomes empty is a leaf itself.
        for path in after.iter().filter(|path| *path != ".spec") {
            prop_assert!(live.contains(path) || applied.contains(path), "{} is invented", path);
        }
        // Empty lists are left out of what is stored.
        for path in applied.iter().filter(|path| ![".spec", ".spec.args", ".spec.open"].contains(&path.as_str())) {
            prop_assert!(after.contains(path), "{} is lost", path);
        }
    }

    #[test]
    fn nobody_left_means_nothing_left(a in any_spec(), b in any_spec()) {
        let mut state = State::new();
        state.write(&force("a", a), 0).expect("forced");
        state.write(&force("b", b), 1).expect("forced");
        for (number, manager) in ["a", "b"].into_iter().enumerate() {
            let nothing = Write::Apply { manager, config: json!({}), force: false };
            state.write(&nothing, 2 + number).expect("letting go conflicts with nobody");
        }
        prop_assert_eq!(&state.object["spec"], &json!({}));
        prop_assert_eq!(state.shown().len(), 0);
    }
}

fn any_tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        "[a-b]{0,1}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "ports",
        "port",
        "protocol",
        "containers",
        "name",
        "open",
        "raw",
        "any",
        "byName",
        "args",
        "selector",
        "a",
        "text",
    ]);
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

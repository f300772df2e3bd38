//! What becomes of one object.

use super::graph::{FOREGROUND, Graph, Node, ORPHAN, Owner};

/// How things stand with an owner that an object names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there and stays.
    Solid,
    /// It is there, and is being deleted after its dependents.
    Waiting,
    /// It is gone, or was another object of that name.
    Absent,
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Keep,
    /// It goes, in this way.
    Delete(&'static str),
    /// It forgets these owners (by uid); another one is left.
    Forget(Vec<String>),
    /// Its dependents (by uid) are to be looked at; it waits for them.
    AwaitDependents(Vec<String>),
    /// These dependents (by uid) are to forget it.
    Orphan(Vec<String>),
    /// Nothing holds it any more: this finalizer goes.
    Release(&'static str),
    /// These dependents (by uid) block no more, for they wait for each other
    /// with it in a circle; then it goes.
    Unblock(Vec<String>),
}

/// The owners that the graph does not know, or not surely: they are to be
/// asked for before a decision.
pub(super) fn unknown_owners<'a>(graph: &Graph, node: &'a Node) -> Vec<&'a Owner> {
    if node.deleting {
        return Vec::new();
    }
    node.owners.iter().filter(|owner| known_owner(graph, node, owner).is_none()).collect()
}

fn known_owner(graph: &Graph, node: &Node, owner: &Owner) -> Option<OwnerState> {
    let known = graph.get(&owner.uid)?;
    if !known.may_own_in(&node.namespace) {
        return None;
    }
    // Of another name it is another object, whatever the reference says its uid is.
    if known.name != owner.name {
        return None;
    }
    Some(match known.waits_for_dependents() {
        true => OwnerState::Waiting,
        false => OwnerState::Solid,
    })
}

/// Decides for the object `uid`. `asked` are the states of the
/// [`unknown_owners`].
pub(super) fn plan(graph: &Graph, uid: &str, asked: &[(String, OwnerState)]) -> Action {
    let Some(node) = graph.get(uid) else { return Action::Keep };
    if node.deleting {
        return plan_deleting(graph, uid, node);
    }
    if node.owners.is_empty() {
        return Action::Keep;
    }
    let state = |owner: &Owner| {
        known_owner(graph, node, owner)
            .or_else(|| asked.iter().find(|(uid, _)| **uid == *owner.uid).map(|(_, state)| *state))
    };
    // One that nobody was asked for is taken to be there.
    let states: Vec<(&Owner, OwnerState)> = node
        .owners
        .iter()
        .map(|owner| (owner, state(owner).unwrap_or(OwnerState::Solid)))
        .collect();
    let lost: Vec<String> = states
        .iter()
        .filter(|(_, state)| *state != OwnerState::Solid)
        .map(|(owner, _)| owner.uid.to_string())
        .collect();
    if lost.len() < states.len() {
        return if lost.is_empty() { Action::Keep } else { Action::Forget(lost) };
    }
    let waiting = states.iter().any(|(_, state)| *state == OwnerState::Waiting);
    if waiting && graph.dependents(uid).next().is_some() {
        let circle = graph.dependents(uid).filter(|(_, dependent)| {
            dependent.waits_for_dependents()
                && dependent.owners.iter().any(|owner| &*owner.uid == uid && owner.blocks)
        });
        let circle: Vec<String> = circle.map(|(uid, _)| uid.to_owned()).collect();
        return match circle.is_empty() {
            true => Action::Delete("Foreground"),
            false => Action::Unblock(circle),
        };
    }
    Action::Delete(match (node.orphan, node.foreground) {
        (true, _) => "Orphan",
        (_, true) => "Foreground",
        _ => "Background",
    })
}

fn plan_deleting(graph: &Graph, uid: &str, node: &Node) -> Action {
    let dependents = || graph.dependents(uid);
    if node.orphan {
        let held: Vec<String> = dependents().map(|(uid, _)| uid.to_owned()).collect();
        return if held.is_empty() { Action::Release(ORPHAN) } else { Action::Orphan(held) };
    }
    if !node.foreground {
        return Action::Keep;
    }
    let blocks =
        |dependent: &Node| dependent.owners.iter().any(|owner| &*owner.uid == uid && owner.blocks);
    if !dependents().any(|(_, dependent)| blocks(dependent)) {
        return Action::Release(FOREGROUND);
    }
    let left = dependents().filter(|(_, dependent)| !dependent.deleting);
    let left: Vec<String> = left.map(|(uid, _)| uid.to_owned()).collect();
    if left.is_empty() { Action::Keep } else { Action::AwaitDependents(left) }
}

#[cfg(test)]
mod tests {
    use api_object::{Meta, OwnerReference};
    use client::Resource;

    use super::*;

    const THINGS: Resource = Resource::namespaced("", "v1", "things");

    /// `name[!f][!o][!d] < owner[+]…`: finalizers, deletion, owners that are
    /// blocked.
    fn graph(lines: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for line in lines {
            let (head, owners) = line.split_once(" < ").unwrap_or((line, ""));
            let mut words = head.split('!');
            let name = words.next().unwrap_or_default();
            let mut meta = Meta { name: name.into(), namespace: "ns".into(), ..Meta::default() };
            for word in words {
                match word {
                    "f" => meta.finalizers.push(FOREGROUND.into()),
                    "o" => meta.finalizers.push(ORPHAN.into()),
                    _ => meta.deletion_timestamp = Some("now".into()),
                }
            }
            for owner in owners.split_whitespace() {
                meta.owner_references.push(OwnerReference {
                    uid: owner.trim_end_matches('+').into(),
                    name: owner.trim_end_matches('+').into(),
                    block_owner_deletion: Some(owner.ends_with('+')),
                    ..OwnerReference::default()
                });
            }
            graph.upsert(name, Node::new(THINGS, &meta));
        }
        graph
    }

    #[test]
    fn decisions() {
        let list = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>();
        let table: &[(&[&str], Action)] = &[
            (&["x"], Action::Keep),
            (&["x < a", "a"], Action::Keep),
            (&["x < gone"], Action::Delete("Background")),
            (&["x!o < gone"], Action::Delete("Orphan")),
            (&["x!f < gone"], Action::Delete("Foreground")),
            (&["x < a gone", "a"], Action::Forget(list(&["gone"]))),
            (&["x < a b", "a", "b!f!d"], Action::Forget(list(&["b"]))),
            // An owner that goes after its dependents takes them along.
            (&["x < a+", "a!f!d"], Action::Delete("Background")),
            (&["x < a+", "a!f!d", "y < x+"], Action::Delete("Foreground")),
            // Deleted in the background, an owner is solid until it is gone.
            (&["x < a+", "a!d"], Action::Keep),
            // The foreground waits for those that block, and only those.
            (&["x!f!d"], Action::Release(FOREGROUND)),
            (&["x!f!d", "y < x"], Action::Release(FOREGROUND)),
            (&["x!f!d", "y < x+", "z < x"], Action::AwaitDependents(list(&["y", "z"]))),
            (&["x!f!d", "y!d < x+"], Action::Keep),
            (&["x!o!d", "y < x", "z!d < x"], Action::Orphan(list(&["y", "z"]))),
            (&["x!o!d"], Action::Release(ORPHAN)),
            (&["x!d", "y < x"], Action::Keep),
            // A circle in the foreground is cut.
            (&["x < y+", "y!f!d < x+"], Action::Unblock(list(&["y"]))),
        ];
        for (lines, action) in table {
            let asked = [("gone".to_owned(), OwnerState::Absent)];
            assert_eq!(plan(&graph(lines), "x", &asked), *action, "{lines:?}");
        }
    }

    #[test]
    fn an_owner_of_another_namespace_is_asked_for() {
        let mut graph = graph(&["x < a"]);
        let meta = Meta { name: "a".into(), namespace: "other".into(), ..Meta::default() };
        graph.upsert("a", Node::new(THINGS, &meta));
        let node = graph.get("x").expect("just put in").clone();
        assert_eq!(unknown_owners(&graph, &node).len(), 1);
    }

    #[test]
    fn an_owner_of_another_namespace_is_told_of_once() {
        let of = |name: &str, namespace: &str, owner: &str| {
            let references = (!owner.is_empty()).then(|| OwnerReference {
                api_version: "v1".into(),
                kind: "Thing".into(),
                name: owner.into(),
                uid: owner.into(),
                ..OwnerReference::default()
            });
            Node::new(
                THINGS,
                &Meta {
                    name: name.into(),
                    namespace: namespace.into(),
                    owner_references: references.into_iter().collect(),
                    ..Meta::default()
                },
            )
        };
        let told = |graph: &mut Graph, node: Node| -> Vec<String> {
            let name = node.name.to_string();
            let changed = graph.upsert(&name, node);
            changed.misplaced.iter().map(|found| found.message()).collect()
        };
        let message = |namespace: &str| {
            format!(
                "ownerRef [v1/Thing, namespace: {namespace}, name: a, uid: a] does not exist in namespace \"{namespace}\""
            )
        };
        let none = Vec::<String>::new();
        let mut graph = Graph::default();
        assert_eq!(told(&mut graph, of("early", "one", "a")), none, "its owner is not known");
        assert_eq!(told(&mut graph, of("a", "two", "")), [message("one")], "now it is");
        assert_eq!(told(&mut graph, of("late", "three", "a")), [message("three")]);
        assert_eq!(told(&mut graph, of("wide", "", "a")), [message("")], "a namespaced owner");
        assert_eq!(told(&mut graph, of("right", "two", "a")), none);
        assert_eq!(told(&mut graph, of("late", "three", "a")), none, "nothing new");
        let mut deleting = of("late", "three", "a");
        deleting.deleting = true;
        assert_eq!(told(&mut graph, deleting), none, "the same owners");
        // What is of no namespace may own everywhere.
        assert_eq!(told(&mut graph, of("b", "", "")), none);
        assert_eq!(told(&mut graph, of("x", "one", "b")), none);
    }

    #[test]
    fn a_reference_that_does_not_fit_is_asked_for() {
        let mut graph = graph(&["x < a"]);
        let meta = Meta { name: "b".into(), namespace: "ns".into(), ..Meta::default() };
        graph.upsert("a", Node::new(THINGS, &meta));
        let node = graph.get("x").expect("just put in").clone();
        assert_eq!(unknown_owners(&graph, &node).len(), 1);
        let asked = [("a".to_owned(), OwnerState::Absent)];
        assert_eq!(plan(&graph, "x", &asked), Action::Delete("Background"));
    }

    #[test]
    fn changes_say_who_is_to_be_looked_at() {
        let mut graph = graph(&["a", "x < a+", "y < x"]);
        let deleting = Meta {
            name: "a".into(),
            namespace: "ns".into(),
            deletion_timestamp: Some("now".into()),
            finalizers: vec![FOREGROUND.into()],
            ..Meta::default()
        };
        assert_eq!(graph.upsert("a", Node::new(THINGS, &deleting)).look, ["a", "x"]);
        assert_eq!(graph.upsert("a", Node::new(THINGS, &deleting)).look, [""; 0], "nothing new");
        assert_eq!(graph.remove("x"), ["y", "a"]);
        assert_eq!(plan(&graph, "a", &[]), Action::Release(FOREGROUND));
    }

    #[test]
    fn an_owner_that_was_seen_to_go_is_known_as_long_as_it_is_named() {
        let mut graph = graph(&["a", "b", "x < a", "y < b"]);
        assert_eq!((graph.remove("a"), graph.lose("b")), (vec!["x".into()], vec!["y".into()]));
        assert!(graph.is_gone("a"));
        assert!(!graph.is_gone("b"), "its kind is served no more");
        graph.remove("x");
        assert!(!graph.is_gone("a"), "nobody names it any more");
        assert!(!graph.is_gone("x"), "nobody named it");
    }
}

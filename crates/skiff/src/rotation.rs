//! New CAs and token keys while everything runs, as servers, agents and the command
//! `skiff certificate rotate-ca` see it.
//!
//! `kube-system/skiff-rotation`, a Secret, holds both generations of keys, sealed so
//! that only servers can read them, the phase that servers shall be in, and by
//! server the one it is in. `kube-system/skiff-cluster` says the same to agents, which
//! answer with an annotation of their Node. A server or agent takes a phase by
//! running itself anew, as after an upgrade: pods run on. The command moves the phase
//! on once everybody is there; nobody else does, so a rotation waits in a state in
//! which all works for as long as it must.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::Resource;
use pki::rotation::State;
use serde::Deserialize;

pub(crate) const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
pub(crate) const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
pub(crate) const NODES: Resource = Resource::cluster("", "v1", "nodes");
pub(crate) const NAMESPACE: &str = "kube-system";
/// The Secret.
pub(crate) const NAME: &str = "skiff-rotation";
/// Its type.
pub(crate) const TYPE: &str = "skiff.sh/rotation";
/// Keys of the Secret: the phase, and the keys for servers of before and after.
pub(crate) const TARGET: &str = "state";
pub(crate) const SEALED: [&str; 2] = ["sealed-before", "sealed-after"];
/// When the phase was entered, RFC 3339.
pub(crate) const SINCE: &str = "since";
/// What keys begin with that say where a server is.
pub(crate) const SERVER: &str = "server.";
/// The ConfigMap that nodes read, and its keys.
pub(crate) const CLUSTER: &str = "skiff-cluster";
pub(crate) const CA: &str = "server-ca.crt";
pub(crate) const CA_STATE: &str = "ca-rotation";
/// By which an agent says where it is.
pub(crate) const ANNOTATION: &str = "skiff.sh/ca-rotation";

/// The Secret as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rotation {
    pub(crate) data: BTreeMap<String, String>,
}

impl Rotation {
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(STANDARD.decode(self.data.get(key)?).ok()?).ok()
    }

    /// The phase that all shall be in.
    pub(crate) fn target(&self) -> Option<State> {
        self.text(TARGET)?.parse().ok()
    }

    /// Whether a server has said that it is in a phase.
    pub(crate) fn has(&self, server: &str, state: &State) -> bool {
        self.text(&format!("{SERVER}{server}")).is_some_and(|text| text == state.to_string())
    }
}

/// What a server does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is where it shall be, or others come first.
    Wait,
    /// Take the keys of the phase, and run anew.
    Take,
    /// Say that it is there.
    Tell,
}

/// `here` is the phase whose keys this server runs with. One server after the other,
/// by name, so that the others answer meanwhile.
pub(crate) fn step(
    rotation: &Rotation,
    me: &str,
    servers: &[String],
    here: Option<&State>,
) -> Step {
    let Some(target) = rotation.target() else { return Step::Wait };
    if here == Some(&target) {
        return if rotation.has(me, &target) { Step::Wait } else { Step::Tell };
    }
    let first = |name: &String| name.as_str() < me && !rotation.has(name, &target);
    if servers.iter().any(first) { Step::Wait } else { Step::Take }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_after_the_other() {
        let state = |text: &str| text.parse::<State>().expect(text);
        let (trust, sign) = ("0123456789abcdef/trust", "0123456789abcdef/sign");
        let rotation = |target: &str, servers: &[(&str, &str)]| {
            let mut data = BTreeMap::from([(TARGET.to_owned(), STANDARD.encode(target))]);
            for (name, at) in servers {
                data.insert(format!("{SERVER}{name}"), STANDARD.encode(at));
            }
            Rotation { data }
        };
        let servers = ["a", "b", "c"].map(str::to_owned);
        let all = [("a", sign), ("b", sign)];
        for (told, me, here, expected) in [
            (Rotation::default(), "a", None, Step::Wait),
            (rotation("junk", &[]), "a", None, Step::Wait),
            (rotation(trust, &[]), "a", None, Step::Take),
            (rotation(trust, &[]), "b", None, Step::Wait),
            (rotation(trust, &[]), "a", Some(trust), Step::Tell),
            (rotation(trust, &[("a", trust)]), "a", Some(trust), Step::Wait),
            (rotation(trust, &[("a", trust)]), "b", None, Step::Take),
            (rotation(trust, &[("b", trust)]), "c", None, Step::Wait),
            (rotation(sign, &[("a", trust)]), "a", Some(trust), Step::Take),
            (rotation(sign, &[("a", trust)]), "b", Some(trust), Step::Wait),
            (rotation(sign, &all), "c", Some(trust), Step::Take),
            // One that joined meanwhile has keys and no state.
            (rotation(sign, &all), "c", None, Step::Take),
            // Of a rotation that is over.
            (Rotation::default(), "a", Some(sign), Step::Wait),
        ] {
            let here = here.map(state);
            assert_eq!(
                step(&told, me, &servers, here.as_ref()),
                expected,
                "{me} {here:?} {told:?}"
            );
        }
    }
}

//! One release on every machine of a cluster, one machine after the other.
//!
//! `skiff upgrade --cluster` writes into `kube-system/skiff-cluster` whose turn it is and
//! for which version. That machine's skiff ([`follow`]) runs `skiff upgrade` for itself:
//! from where its own installer got it, verified with its own key. It answers with an
//! annotation of its Node. Nobody else moves the turn on, so that the command can be
//! stopped at any time, and what is there when it is run again decides what is to do
//! ([`plan`]).
//!
//! Who may write that ConfigMap can give agents another CA too, and all that the API
//! can say here is the version of a release that its signature makes the project's.

pub(crate) mod follow;
pub(crate) mod plan;

use serde::{Deserialize, Serialize};

/// The key of `kube-system/skiff-cluster`.
pub(crate) const TURN: &str = "upgrade";
/// Annotations of a Node: what its machine says, and that it was cordoned for this.
pub(crate) const ANSWER: &str = "skiff.sh/upgrade";
pub(crate) const CORDONED: &str = "skiff.sh/upgrade-cordoned";

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// Of this turn and no other: who tries again has another.
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) version: String,
}

/// What a machine says of its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The turn's.
    pub(crate) id: String,
    pub(crate) state: State,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
}

/// How far a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// It works on it.
    Began,
    /// The new release runs.
    Done,
    /// The one of before runs.
    Failed,
}

/// What a machine does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Its own `skiff upgrade`.
    Begin,
    /// Answer.
    Say(State, &'static str),
}

/// Why a process of before finds its turn begun: its machine was upgraded, and went back.
const GAVE_WAY: &str = "the new release did not start, or did not get to it, and gave way to the \
                        one of before: the log of skiff there says why";

/// `here` is the version of this process, which has begun nothing itself: it would wait
/// for the end.
pub(crate) fn step(turn: &Turn, me: &str, here: &str, answered: Option<&Answer>) -> Step {
    if turn.node != me {
        return Step::Wait;
    }
    let state = answered.filter(|answer| answer.id == turn.id).map(|answer| answer.state);
    match state {
        Some(State::Done | State::Failed) => Step::Wait,
        _ if here == turn.version => Step::Say(State::Done, ""),
        Some(State::Began) => Step::Say(State::Failed, GAVE_WAY),
        None => Step::Begin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_takes_its_turn_once() {
        let turn = Turn { id: "b".into(), node: "pi-2".into(), version: "v2".into() };
        let answer = |id: &str, state| Answer { id: id.into(), state, why: String::new() };
        let failed = Step::Say(State::Failed, GAVE_WAY);
        for (me, here, answered, expected) in [
            ("pi-1", "v1", None, Step::Wait),
            ("pi-2", "v1", None, Step::Begin),
            ("pi-2", "v2", None, Step::Say(State::Done, "")),
            ("pi-2", "v1", Some(("b", State::Began)), failed),
            ("pi-2", "v2", Some(("b", State::Began)), Step::Say(State::Done, "")),
            ("pi-2", "v2", Some(("b", State::Done)), Step::Wait),
            ("pi-2", "v1", Some(("b", State::Failed)), Step::Wait),
            // It failed, and is asked once more.
            ("pi-2", "v1", Some(("a", State::Failed)), Step::Begin),
            ("pi-2", "v1", Some(("a", State::Began)), Step::Begin),
        ] {
            let answered = answered.map(|(id, state)| answer(id, state));
            assert_eq!(
                step(&turn, me, here, answered.as_ref()),
                expected,
                "{me} {here} {answered:?}"
            );
        }
    }

    #[test]
    fn an_answer_reads_as_it_was_written() {
        let answer = Answer { id: "a".into(), state: State::Failed, why: "no room".into() };
        let text = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(text, r#"{"id":"a","state":"failed","why":"no room"}"#);
        assert_eq!(serde_json::from_str::<Answer>(&text).expect("an answer"), answer);
    }
}

//! Whether packets with pods' addresses pass between this node and another without a
//! tunnel. That no router is in between does not say so: clouds, and some access
//! points, drop what does not come from the address that they gave out.
//!
//! Of two nodes the one whose name comes first asks: the other's own address, then the
//! address of its pods from that of its own, by the way that direct packets take both
//! times. From what is answered follows the verdict, and the other is told, so that both
//! send and expect packets by the same way. The other asks for nothing but to be asked,
//! where something has changed on its side. Pure: messages and time in, messages out;
//! [`watch`] sends them.

mod message;
mod watch;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use netlink::packet::Place;

use message::{Kind, Message};
pub(crate) use watch::Scout;

/// UDP: where every node hears the others, and from where it asks.
pub const PORT: u16 = 8475;

/// After each time that something is said for which no answer comes: 3 s for all.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(1500)];
/// Who has begun to ask comes to a verdict meanwhile, or to none.
const ASKED: Duration = Duration::from_secs(12);

/// What is known of the network between two nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody answers: another version, a firewall, or it is not up. The routes say.
    #[default]
    Unknown,
    /// Packets of pods pass.
    Segment,
    /// Those of nodes do, those of pods do not.
    Filtered,
}

/// From what was answered, of each family: by the node, and at its pods' address.
fn judge(answers: impl IntoIterator<Item = (bool, bool)>) -> Verdict {
    let mut verdict = Verdict::Segment;
    for (node, pods) in answers {
        match (node, pods) {
            (false, _) => return Verdict::Unknown,
            (true, false) => verdict = Verdict::Filtered,
            (true, true) => {}
        }
    }
    verdict
}

/// The direct way to another node's pods, of one family. Where any of it changes, what is
/// known of it has to be found out anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) link: u32,
    pub(crate) carrier_changes: u32,
    /// The nodes' own addresses: ours, and the other's.
    pub(crate) nodes: [IpAddr; 2],
    /// The first addresses of their pods, which no pod has.
    pub(crate) pods: [IpAddr; 2],
}

/// Another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Other {
    /// One of each family of its pods; none where a router is in between.
    pub(crate) ways: Vec<Way>,
    /// Whether it says that it is: if it did not answer before, it may now.
    pub(crate) is_ready: bool,
    /// Whether an earlier life of ours has reached it by a tunnel.
    pub(crate) is_tunnelled: bool,
}

/// Something to send, from our address to the other's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Out {
    /// Where it is known; else the kernel finds it.
    place: Option<Place>,
    addresses: [IpAddr; 2],
    message: Message,
}

/// What goes on with another node until there is a verdict.
#[derive(Debug)]
struct Round {
    number: u64,
    stage: Stage,
    tries: usize,
    /// When to say it again, or to give up.
    due: Instant,
}

#[derive(Debug)]
enum Stage {
    Asks(Vec<Answers>),
    /// By which of the ways, and to where.
    Tells(Verdict, usize, Place),
    Nudges,
    IsAsked,
}

/// To what is asked by one way.
#[derive(Debug, Clone, Default)]
struct Answers {
    /// From where the node answered.
    node: Option<Place>,
    pods: bool,
}

#[derive(Debug)]
struct Pair {
    other: Other,
    verdict: Verdict,
    /// Of which ways.
    judged: Vec<Way>,
    round: Option<Round>,
    /// By which it nudged last.
    nudge: Option<u64>,
}

/// All other nodes, and what is known of the networks between them and this one.
#[derive(Debug)]
struct Segments {
    me: String,
    pairs: BTreeMap<String, Pair>,
    /// The last number.
    number: u64,
}

impl Segments {
    /// `number` is one that nobody else can guess.
    fn new(me: String, number: u64) -> Self {
        Self { me, pairs: BTreeMap::new(), number }
    }

    fn verdicts(&self) -> BTreeMap<String, Verdict> {
        self.pairs.iter().map(|(name, pair)| (name.clone(), pair.verdict)).collect()
    }

    /// When to call [`Self::tick`] next.
    fn due(&self) -> Option<Instant> {
        self.pairs.values().filter_map(|pair| pair.round.as_ref()).map(|round| round.due).min()
    }

    /// These are the other nodes now. Says something where a way is new, and to who did
    /// not answer and is ready now.
    fn know(&mut self, others: &BTreeMap<String, Other>, now: Instant) -> Vec<Out> {
        self.pairs.retain(|name, _| others.contains_key(name));
        let mut out = Vec::new();
        for (name, other) in others {
            let pair = self.pairs.entry(name.clone()).or_insert_with(|| Pair {
                // Until it is known, all goes on as before.
                verdict: if other.is_tunnelled { Verdict::Filtered } else { Verdict::Unknown },
                other: Other::default(),
                judged: Vec::new(),
                round: None,
                nudge: None,
            });
            let is_other = pair.other.ways != other.ways;
            let has_come = other.is_ready && !pair.other.is_ready;
            pair.other = other.clone();
            if other.ways.is_empty() {
                pair.round = None;
            } else if is_other || has_come && pair.verdict == Verdict::Unknown {
                self.number = self.number.wrapping_add(1);
                pair.begin(self.me < *name, self.number, now, &mut out);
            }
        }
        out
    }

    /// Says again what was not answered, or gives up.
    fn tick(&mut self, now: Instant) -> Vec<Out> {
        let mut out = Vec::new();
        for pair in self.pairs.values_mut() {
            if pair.round.as_ref().is_some_and(|round| round.due <= now) {
                pair.say(now, &mut out);
            }
        }
        out
    }

    /// Only who is known is answered, and only by the link by which we would send to it:
    /// so no pod can say anything here, and nobody behind a router.
    fn hear(
        &mut self,
        place: &Place,
        from: IpAddr,
        to: IpAddr,
        said: Message,
        now: Instant,
    ) -> Vec<Out> {
        let addresses = [to, from];
        let found = self.pairs.iter_mut().find_map(|(name, pair)| {
            let mut ways = pair.other.ways.iter();
            let is_it = |way: &Way| {
                way.link == place.link && (way.nodes == addresses || way.pods == addresses)
            };
            let at = ways.position(is_it)?;
            let is_nodes = pair.other.ways.get(at)?.nodes == addresses;
            Some((name, pair, at, is_nodes))
        });
        let Some((name, pair, at, is_nodes)) = found else { return Vec::new() };
        let asks = self.me < *name;
        let back = |kind| Out {
            place: Some(place.clone()),
            addresses,
            message: Message { kind, number: said.number },
        };
        let mut out = Vec::new();
        match said.kind {
            Kind::Ask => {
                out.push(back(Kind::Answer));
                if let Some(round) = pair.round.as_mut().filter(|_| !asks && is_nodes) {
                    let (tries, due) = (PAUSES.len(), now + ASKED);
                    *round = Round { number: round.number, stage: Stage::IsAsked, tries, due };
                }
            }
            Kind::Answer => {
                pair.answered(said.number, at, is_nodes.then_some(place), now, &mut out);
            }
            Kind::Segment | Kind::Filtered if !asks && is_nodes => {
                out.push(back(Kind::Heard));
                pair.adopt(match said.kind {
                    Kind::Segment => Verdict::Segment,
                    _ => Verdict::Filtered,
                });
            }
            Kind::Heard => {
                if let Some(Round { number, stage: Stage::Tells(verdict, ..), .. }) = pair.round
                    && number == said.number
                {
                    pair.adopt(verdict);
                }
            }
            Kind::Nudge if asks && is_nodes && pair.nudge != Some(said.number) => {
                pair.nudge = Some(said.number);
                // What it has answered by now was from before it changed.
                self.number = self.number.wrapping_add(1);
                pair.begin(asks, self.number, now, &mut out);
            }
            Kind::Segment | Kind::Filtered | Kind::Nudge => {}
        }
        out
    }
}

impl Pair {
    fn begin(&mut self, asks: bool, number: u64, now: Instant, out: &mut Vec<Out>) {
        let stage = match asks {
            true => Stage::Asks(vec![Answers::default(); self.other.ways.len()]),
            false => Stage::Nudges,
        };
        self.round = Some(Round { number, stage, tries: 0, due: now });
        self.say(now, out);
    }

    /// Says what the stage has to say, or ends it.
    fn say(&mut self, now: Instant, out: &mut Vec<Out>) {
        let Some(round) = &mut self.round else { return };
        let Some(pause) = PAUSES.get(round.tries) else { return self.end(now, out) };
        round.tries += 1;
        round.due = now + *pause;
        let mut put = |kind, place: Option<&Place>, addresses| {
            let message = Message { kind, number: round.number };
            out.push(Out { place: place.cloned(), addresses, message });
        };
        let ways = &self.other.ways;
        match &round.stage {
            Stage::Asks(all) => {
                for (way, answers) in ways.iter().zip(all).filter(|(_, answers)| !answers.pods) {
                    let addresses = if answers.node.is_some() { way.pods } else { way.nodes };
                    put(Kind::Ask, answers.node.as_ref(), addresses);
                }
            }
            Stage::Tells(verdict, at, place) => {
                let is_segment = *verdict == Verdict::Segment;
                let kind = if is_segment { Kind::Segment } else { Kind::Filtered };
                if let Some(way) = ways.get(*at) {
                    put(kind, Some(place), way.nodes);
                }
            }
            Stage::Nudges => {
                if let Some(way) = ways.first() {
                    put(Kind::Nudge, None, way.nodes);
                }
            }
            Stage::IsAsked => {}
        }
    }

    fn end(&mut self, now: Instant, out: &mut Vec<Out>) {
        match self.round.take().map(|round| (round.number, round.stage)) {
            Some((number, Stage::Asks(all))) => {
                let verdict =
                    judge(all.iter().map(|answers| (answers.node.is_some(), answers.pods)));
                let mut places = all.into_iter().enumerate();
                match places.find_map(|(at, answers)| Some((at, answers.node?))) {
                    Some((at, place)) if verdict != Verdict::Unknown => {
                        let stage = Stage::Tells(verdict, at, place);
                        self.round = Some(Round { number, stage, tries: 0, due: now });
                        self.say(now, out);
                    }
                    _ => self.give_up(),
                }
            }
            // It answered what was asked: that it has heard this gets lost on the way.
            Some((_, Stage::Tells(verdict, ..))) => self.adopt(verdict),
            Some((_, Stage::Nudges | Stage::IsAsked)) => self.give_up(),
            None => {}
        }
    }

    /// `node` is where an answer of the node itself came from; else it is its pods'.
    fn answered(
        &mut self,
        number: u64,
        at: usize,
        node: Option<&Place>,
        now: Instant,
        out: &mut Vec<Out>,
    ) {
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else {
            return;
        };
        let Stage::Asks(all) = &mut round.stage else { return };
        let Some(answers) = all.get_mut(at) else { return };
        match node {
            Some(place) if answers.node.is_none() => {
                answers.node = Some(place.clone());
                // Its pods' address is asked as often as it was itself.
                round.tries = 0;
                self.say(now, out);
            }
            Some(_) => {}
            None => {
                answers.pods = true;
                if all.iter().all(|answers| answers.pods) {
                    self.end(now, out);
                }
            }
        }
    }

    fn adopt(&mut self, verdict: Verdict) {
        self.verdict = verdict;
        self.judged = self.other.ways.clone();
        self.round = None;
    }

    /// What was found out of the same ways stays so: the other may only be down.
    fn give_up(&mut self) {
        let is_known = self.judged == self.other.ways;
        self.adopt(if is_known { self.verdict } else { Verdict::Unknown });
    }
}

#[cfg(test)]
mod tests;

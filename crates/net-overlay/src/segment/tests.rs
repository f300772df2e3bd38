//! Two nodes, a network between them that drops what a story says, and a clock.

use super::*;

const NAMES: [&str; 2] = ["a", "b"];
const NODES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const PODS: [&str; 2] = ["10.42.1.0", "10.42.2.0"];
const PODS_V6: [&str; 2] = ["fd42:0:0:1::", "fd42:0:0:2::"];
const NODES_V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];
const LINK: u32 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// From the first to the second, or the other way.
fn way(of: usize, nodes: [&str; 2], pods: [&str; 2]) -> Way {
    let turned = |[a, b]: [&str; 2]| if of == 0 { [ip(a), ip(b)] } else { [ip(b), ip(a)] };
    Way { link: LINK, carrier_changes: 0, nodes: turned(nodes), pods: turned(pods) }
}

struct World {
    nodes: [Segments; 2],
    others: [BTreeMap<String, Other>; 2],
    now: Instant,
    /// By whom something was said, whether it is of pods' addresses, and what.
    said: Vec<(usize, bool, Kind)>,
    drops: Box<dyn FnMut(usize, bool, Kind) -> bool>,
}

impl World {
    fn new(drops: impl FnMut(usize, bool, Kind) -> bool + 'static) -> Self {
        let ways = |of| vec![way(of, NODES, PODS), way(of, NODES_V6, PODS_V6)];
        let other = |of: usize| {
            let other = Other { ways: ways(of), is_ready: true, is_tunnelled: false };
            BTreeMap::from([(NAMES[1 - of].to_owned(), other)])
        };
        Self {
            nodes: NAMES.map(|name| Segments::new(name.into(), u64::MAX)),
            others: [other(0), other(1)],
            now: Instant::now(),
            said: Vec::new(),
            drops: Box::new(drops),
        }
    }

    fn other(&mut self, of: usize) -> &mut Other {
        self.others[of].values_mut().next().expect("the other one")
    }

    /// A node is told who the other is.
    fn tell(&mut self, of: usize) {
        let out = self.nodes[of].know(&self.others[of], self.now);
        self.carry(of, out);
    }

    fn carry(&mut self, of: usize, out: Vec<Out>) {
        for Out { addresses: [from, to], message, .. } in out {
            let is_pods = [PODS, PODS_V6].concat().iter().any(|pods| ip(pods) == from);
            self.said.push((of, is_pods, message.kind));
            if !(self.drops)(of, is_pods, message.kind) {
                let place = Place { link: LINK, card: vec![of as u8; 6] };
                let read = Message::decode(&message.encode()).expect("ours");
                let out = self.nodes[1 - of].hear(&place, from, to, read, self.now);
                self.carry(1 - of, out);
            }
        }
    }

    /// Until nobody has anything to say any more: how long that takes.
    fn settle(&mut self) -> Duration {
        let began = self.now;
        while let Some(due) = self.nodes.iter().filter_map(Segments::due).min() {
            assert!(due >= self.now, "nothing is forgotten");
            self.now = due;
            for of in [0, 1] {
                let out = self.nodes[of].tick(self.now);
                self.carry(of, out);
            }
            assert!(self.now - began < Duration::from_secs(60), "it never ends: {:?}", self.said);
        }
        self.now - began
    }

    fn verdict_of(&self, of: usize) -> Verdict {
        self.nodes[of].verdicts()[NAMES[1 - of]]
    }

    fn verdicts(&self) -> [Verdict; 2] {
        [0, 1].map(|of| self.verdict_of(of))
    }

    fn all(mut self) -> Self {
        self.tell(0);
        self.tell(1);
        self.settle();
        self
    }
}

#[test]
fn what_is_answered_is_the_verdict() {
    for (answers, verdict) in [
        (&[(true, true)][..], Verdict::Segment),
        (&[(true, true), (true, true)], Verdict::Segment),
        (&[(true, false)], Verdict::Filtered),
        (&[(true, true), (true, false)], Verdict::Filtered),
        (&[(false, false)], Verdict::Unknown),
        (&[(true, false), (false, false)], Verdict::Unknown),
        (&[(true, true), (false, true)], Verdict::Unknown),
    ] {
        assert_eq!(judge(answers.iter().copied()), verdict, "{answers:?}");
    }
}

#[test]
fn on_one_segment_both_know_at_once() {
    for first in [0, 1] {
        let mut world = World::new(|_, _, _| false);
        // Whoever comes first is not heard.
        world.tell(first);
        world.tell(1 - first);
        assert_eq!(world.verdicts(), [Verdict::Segment; 2], "before any time passes");
        world.settle();
        assert_eq!(world.verdicts(), [Verdict::Segment; 2]);
        let said = world.said.len();
        world.tell(0);
        world.tell(1);
        assert_eq!(world.said.len(), said, "nothing changed: {:?}", world.said);
    }
}

#[test]
fn where_pods_are_dropped_one_way_both_know_that() {
    for drops in [0, 1] {
        let mut world = World::new(move |of, is_pods, _| of == drops && is_pods);
        world.tell(1);
        world.tell(0);
        assert_eq!(world.settle(), Duration::from_secs(3));
        assert_eq!(world.verdicts(), [Verdict::Filtered; 2], "of {drops}");
        // The network lets them pass later, which one of them sees by its cable.
        world.drops = Box::new(|_, _, _| false);
        for way in &mut world.other(drops).ways {
            way.carrier_changes += 2;
        }
        world.tell(drops);
        world.settle();
        assert_eq!(world.verdicts(), [Verdict::Segment; 2], "of {drops}");
    }
}

#[test]
fn some_loss_changes_nothing() {
    let mut counts = BTreeMap::new();
    let world = World::new(move |of, is_pods, kind| {
        // The first two of each are lost.
        let count = counts.entry(format!("{of} {is_pods} {kind:?}")).or_insert(0);
        *count += 1;
        *count <= 2 && (is_pods || kind != Kind::Answer)
    });
    assert_eq!(world.all().verdicts(), [Verdict::Segment; 2]);
}

#[test]
fn who_does_not_answer_is_asked_again_when_it_is_ready() {
    let mut world = World::new(|of, _, _| of == 1);
    world.other(0).is_ready = false;
    world.tell(0);
    assert_eq!(world.settle(), Duration::from_secs(3));
    assert_eq!(world.verdict_of(0), Verdict::Unknown);
    // Three times by each of two families, and no more.
    assert_eq!(world.said.len(), 6);
    world.other(0).is_ready = true;
    world.tell(0);
    world.settle();
    assert_eq!((world.verdict_of(0), world.said.len()), (Verdict::Unknown, 12));
    world.tell(0);
    assert_eq!(world.said.len(), 12);
    // It is there now, and says so itself.
    world.drops = Box::new(|_, _, _| false);
    world.tell(1);
    world.settle();
    assert_eq!(world.verdicts(), [Verdict::Segment; 2]);
}

/// What was found out stays so while the other is down, and no longer where a way changes.
#[test]
fn what_is_known_stays_known_of_the_same_ways() {
    let mut world = World::new(|_, is_pods, _| is_pods).all();
    world.drops = Box::new(|of, _, _| of == 1);
    for is_ready in [false, true] {
        world.other(0).is_ready = is_ready;
        world.tell(0);
        world.settle();
        assert_eq!(world.verdict_of(0), Verdict::Filtered);
    }
    // A cable that comes back: as before until it is known, and then nobody answers.
    let ways = std::mem::take(&mut world.other(0).ways);
    world.tell(0);
    assert_eq!(world.verdict_of(0), Verdict::Filtered);
    world.other(0).ways = ways;
    world.other(0).ways[0].carrier_changes += 2;
    world.tell(0);
    assert_eq!(world.verdict_of(0), Verdict::Filtered);
    world.settle();
    assert_eq!(world.verdict_of(0), Verdict::Unknown);
}

/// A process that is new goes on as the one before until it knows.
#[test]
fn what_was_tunnelled_is_until_it_is_known() {
    let filters = |filters: bool| move |_: usize, is_pods: bool, _: Kind| is_pods && filters;
    for of in [0, 1] {
        for (is_filtered, verdict) in [(true, Verdict::Filtered), (false, Verdict::Segment)] {
            let mut world = World::new(filters(is_filtered)).all();
            world.nodes[of] = Segments::new(NAMES[of].into(), 9);
            world.other(of).is_tunnelled = is_filtered;
            world.tell(of);
            if is_filtered {
                assert_eq!(world.verdict_of(of), Verdict::Filtered);
            }
            world.settle();
            assert_eq!(world.verdicts(), [verdict; 2], "of {of}");
        }
    }
    // Nobody answers: the routes say, as for a node of another version.
    let mut world = World::new(|_, _, _| true);
    for of in [0, 1] {
        world.other(of).is_tunnelled = true;
    }
    assert_eq!(world.all().verdicts(), [Verdict::Unknown; 2]);
}

#[test]
fn nobody_else_is_answered() {
    let mut world = World::new(|_, _, _| false).all();
    let said = Message { kind: Kind::Ask, number: 7 };
    let now = world.now;
    let mut ask = |link, from: &str, to: &str| {
        let place = Place { link, card: vec![9; 6] };
        world.nodes[0].hear(&place, ip(from), ip(to), said, now).len()
    };
    assert_eq!(ask(LINK, NODES[1], NODES[0]), 1);
    assert_eq!(ask(LINK, PODS_V6[1], PODS_V6[0]), 1);
    // A pod of ours, a stranger, an address of the other family's, a node in another's name.
    assert_eq!(ask(LINK + 1, NODES[1], NODES[0]), 0);
    assert_eq!(ask(LINK, "192.0.2.9", NODES[0]), 0);
    assert_eq!(ask(LINK, NODES[1], PODS[0]), 0);
    assert_eq!(ask(LINK, PODS[1], NODES[0]), 0);
    // Who asks is told nothing, and a node that has left neither.
    for kind in [Kind::Segment, Kind::Filtered] {
        let place = Place { link: LINK, card: vec![9; 6] };
        let said = Message { kind, number: 7 };
        assert_eq!(world.nodes[0].hear(&place, ip(NODES[1]), ip(NODES[0]), said, now), []);
    }
    assert_eq!(world.verdicts(), [Verdict::Segment; 2]);
    world.others[0].clear();
    world.tell(0);
    let place = Place { link: LINK, card: vec![9; 6] };
    assert_eq!(world.nodes[0].hear(&place, ip(NODES[1]), ip(NODES[0]), said, now), []);
}

//! What time it is by the cluster's servers: a machine that has booted in the past
//! believes no certificate, so it asks before it judges any.
//!
//! [`ask`] asks all servers at once, [`judge`] decides, and [`Follower`] asks again where
//! there is a reason to. One server that is wrong, or lies, moves nothing where the
//! others agree; who is no server of the cluster is not listened to.

use std::{sync::Arc, time::Duration};

use client::{Ambient, Backoff, Recorder, Reference};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use pki::clock::{JudgedClock, TRUSTED_DIFFERENCE};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use super::greeting;
use crate::clock;

/// Who differs by less says the same.
const AGREED: SignedDuration = SignedDuration::from_mins(1);
/// So many are asked at once.
const ASKED_AT_ONCE: usize = 8;
/// While its own clock is not believed a machine asks again, soon and then less often: the
/// servers' may have been wrong, and nobody tells when they are set.
const AGAIN: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(600) };

/// What one server says that the time is.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// `host:port`, as it was asked.
    pub(super) address: String,
    /// The hash of its key: a server that answers at two addresses has one voice.
    pub(super) key: [u8; 32],
    pub(super) now: Timestamp,
}

/// What is made of what servers say.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    now: Timestamp,
    /// Of how many servers it is the median.
    of: usize,
    /// How many of those that were asked are servers, each counted once.
    known: usize,
    /// Where a server's clock is wrong, and by how much (positive: it is ahead).
    wrong: Vec<(String, SignedDuration)>,
}

/// One for each server.
fn voices(told: &[Told]) -> Vec<&Told> {
    let mut voices: Vec<&Told> = Vec::new();
    for one in told {
        if voices.iter().all(|known| known.key != one.key) {
            voices.push(one);
        }
    }
    voices
}

/// The median of what the servers say, and of an even number the later of the two in the
/// middle, since a clock without a battery is behind and not ahead. What lies before this
/// program was made is no time at all. `None` where nobody says any.
fn judge(told: &[Told], asked: usize, built: Timestamp) -> Option<Judgement> {
    let voices = voices(told);
    let mut times: Vec<Timestamp> =
        voices.iter().map(|one| one.now).filter(|now| *now >= built).collect();
    times.sort_unstable();
    let now = *times.get(times.len() / 2)?;
    let off = voices.iter().map(|one| (one.address.clone(), one.now.duration_since(now)));
    Some(Judgement {
        now,
        of: times.len(),
        known: asked - (told.len() - voices.len()),
        wrong: off.filter(|(_, by)| by.abs() > TRUSTED_DIFFERENCE).collect(),
    })
}

/// Whether those that have not answered yet cannot change the judgement, whatever they
/// say: more than half agree.
fn is_settled(told: &[Told], open: usize, built: Timestamp) -> bool {
    let voices = voices(told);
    let times: Vec<Timestamp> =
        voices.iter().map(|one| one.now).filter(|now| *now >= built).collect();
    let agree = |with: &Timestamp| {
        times.iter().filter(|time| time.duration_since(*with).abs() <= AGREED).count()
    };
    times.iter().map(agree).max().is_some_and(|most| most * 2 > times.len() + open)
}

/// Asks all servers at once, and waits for none that does not matter any more.
async fn ask<F>(servers: &[String], built: Timestamp, greet: impl Fn(String) -> F) -> Vec<Told>
where
    F: Future<Output = Option<Told>>,
{
    let mut answers = stream::iter(servers.to_vec()).map(greet).buffer_unordered(ASKED_AT_ONCE);
    let (mut told, mut heard) = (Vec::new(), Vec::new());
    let mut open = servers.len();
    while let Some(answer) = answers.next().await {
        open -= 1;
        heard.extend(answer.is_some().then(Instant::now));
        told.extend(answer);
        if is_settled(&told, open, built) {
            break;
        }
    }
    // They were heard one after the other, and are compared at one moment.
    for (one, heard) in told.iter_mut().zip(heard) {
        one.now = one.now.checked_add(heard.elapsed()).unwrap_or(one.now);
    }
    told
}

/// What a server of the cluster says; whoever has no certificate of its CA is not heard.
async fn greet(server: String, ca_hash: [u8; 32]) -> Option<Told> {
    let heard = match greeting::greet(&server).await {
        Ok(greeting) => greeting.told(&server, ca_hash),
        Err(fault) => Err(fault.to_string()),
    };
    heard.inspect_err(|error| debug!(server, error, "it does not say what time it is")).ok()
}

/// Asks all servers once, and goes by what they say.
pub(super) async fn ask_once(clock: &JudgedClock, servers: &[String], ca_hash: [u8; 32]) {
    let built = clock::built();
    let told = ask(servers, built, |server| greet(server, ca_hash)).await;
    hear(clock, &told, servers.len());
}

/// Goes by what servers say; `asked` is how many were asked.
pub(super) fn hear(clock: &JudgedClock, told: &[Told], asked: usize) {
    let judgement = judge(told, asked, clock::built());
    if let Some(judgement) = judgement {
        let words = Words::new(clock.hear(judgement.now), &judgement);
        words.log();
    }
}

/// What people are told of it.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    /// Of this machine, and whether that is a warning.
    own: (bool, String),
    /// Of servers.
    others: Vec<String>,
}

impl Words {
    /// `difference` is by how much this machine's clock is wrong, if it is.
    fn new(difference: Option<SignedDuration>, judgement: &Judgement) -> Self {
        let Judgement { of, known, wrong, .. } = judgement;
        let own = match difference {
            Some(by) => format!(
                "this machine's clock is {} what {of} of {known} servers say; certificates and \
                 leases go by theirs until it is set right (is NTP running?)",
                far(by)
            ),
            None => format!("this machine's clock agrees with {of} of {known} servers"),
        };
        let other = |(address, by): &(String, SignedDuration)| {
            format!(
                "the clock of the server at {address} is {} that of the others: set it right (is \
                 NTP running there?)",
                far(*by)
            )
        };
        Self { own: (difference.is_some(), own), others: wrong.iter().map(other).collect() }
    }

    fn log(&self) {
        match &self.own {
            (true, text) => warn!("{text}"),
            (false, text) => info!("{text}"),
        }
        self.others.iter().for_each(|text| warn!("{text}"));
    }
}

/// `20 days behind`, `13 hours ahead of`.
pub(crate) fn far(by: SignedDuration) -> String {
    let side = if by.is_negative() { "behind" } else { "ahead of" };
    match by.abs().as_hours() {
        hours @ ..48 => format!("{hours} hours {side}"),
        hours => format!("{} days {side}", hours / 24),
    }
}

/// Keeps the clock of a running agent to what the servers say.
pub(super) struct Follower {
    pub(super) clock: Arc<JudgedClock>,
    pub(super) ca_hash: [u8; 32],
    pub(super) servers: watch::Receiver<Vec<String>>,
    pub(super) ambient: Ambient,
    /// Told when the machine's clock is set.
    pub(super) machine_sets: watch::Receiver<()>,
    /// Told when what is judged to be the time may have made a leap.
    pub(super) clock_sets: watch::Sender<()>,
    pub(super) recorder: Recorder,
    /// The node's name.
    pub(super) node: String,
}

impl Follower {
    /// Until dropped.
    pub(super) async fn run(mut self) {
        let (mut failures, mut disbelieved, mut said) = (0, 0, None);
        loop {
            let servers = self.servers.borrow_and_update().clone();
            let ca_hash = self.ca_hash;
            let built = clock::built();
            let told = ask(&servers, built, |server| greet(server, ca_hash)).await;
            let judgement = judge(&told, servers.len(), built);
            let wrong = judgement.as_ref().and_then(|judgement| {
                let difference = self.clock.hear(judgement.now);
                self.clock_sets.send_replace(());
                self.say(&mut said, Words::new(difference, judgement));
                difference
            });
            let pause = match judgement {
                // The median of a few is what those few say: the others are still wanted.
                Some(Judgement { known, .. }) if voices(&told).len() * 2 > known => {
                    failures = 0;
                    disbelieved = wrong.map_or(0, |_| disbelieved + 1);
                    wrong.map(|_| self.ambient.jittered(AGAIN.delay(disbelieved)))
                }
                _ => {
                    failures += 1;
                    Some(self.ambient.jittered(Backoff::CONNECT.delay(failures)))
                }
            };
            if self.wait(pause).await {
                disbelieved = 0;
            }
        }
    }

    /// Until there is a reason to ask again: the time is over, or, which it returns, the
    /// machine's clock was set or there are other servers.
    async fn wait(&mut self, pause: Option<Duration>) -> bool {
        let over = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        // Where one of these fails there is nobody left who could tell.
        tokio::select! {
            () = over => false,
            Ok(()) = self.servers.changed() => true,
            Ok(()) = self.machine_sets.changed() => {
                // The machine's is believed again where it agrees; till then, as it may be.
                self.clock_sets.send_replace(());
                true
            }
        }
    }

    /// Each thing once.
    fn say(&self, said: &mut Option<Words>, words: Words) {
        if said.as_ref() == Some(&words) {
            return;
        }
        words.log();
        let was_wrong = said.as_ref().is_some_and(|said| said.own.0);
        let about = Reference {
            kind: "Node".into(),
            name: self.node.clone(),
            api_version: "v1".into(),
            ..Reference::default()
        };
        match &words.own {
            (true, text) => self.recorder.warning(&about, "ClockWrong", text.as_str()),
            (false, text) if was_wrong => self.recorder.normal(&about, "ClockRight", text.as_str()),
            _ => {}
        }
        *said = Some(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: i64 = 1_700_000_000;
    const NOW: i64 = BUILT + 400 * DAY;
    const DAY: i64 = 24 * 3600;
    const YEARS: i64 = 20 * 365 * DAY;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// A server by the first letter of its name; further letters are addresses of its.
    fn says(name: &str, second: i64) -> Told {
        let key = [name.as_bytes()[0]; 32];
        Told { address: name.to_owned(), key, now: at(second) }
    }

    #[test]
    fn the_servers_time_is_what_most_of_them_say() {
        for (story, told, asked, expected) in [
            (
                "they agree",
                vec![says("a", NOW), says("b", NOW + 1), says("c", NOW + 2)],
                3,
                "+1 s, 3 of 3",
            ),
            ("one is asked", vec![says("a", NOW)], 1, "+0 s, 1 of 1"),
            ("the others are away", vec![says("a", NOW)], 3, "+0 s, 1 of 3"),
            (
                "one has no battery",
                vec![says("a", NOW - YEARS), says("b", NOW), says("c", NOW)],
                3,
                "+0 s, 2 of 3; a -7300 days",
            ),
            (
                "two have no battery, and were made after this program",
                vec![says("a", NOW - 30 * DAY), says("b", NOW), says("c", NOW - 30 * DAY)],
                3,
                "-2592000 s, 3 of 3; b 30 days",
            ),
            (
                "two have no battery at all",
                vec![says("a", 0), says("b", NOW), says("c", 1)],
                3,
                "+0 s, 1 of 3; a -20075 days, c -20075 days",
            ),
            (
                "one lies, ahead",
                vec![says("a", NOW + YEARS), says("b", NOW), says("c", NOW)],
                3,
                "+0 s, 3 of 3; a 7300 days",
            ),
            (
                "one lies, behind",
                vec![says("a", NOW - 90 * DAY), says("b", NOW), says("c", NOW)],
                3,
                "+0 s, 3 of 3; a -90 days",
            ),
            (
                "one of two is behind",
                vec![says("a", NOW), says("b", NOW - 30 * DAY)],
                2,
                "+0 s, 2 of 2; b -30 days",
            ),
            (
                "two of four are behind",
                vec![
                    says("a", NOW),
                    says("b", NOW - 9 * DAY),
                    says("c", NOW),
                    says("d", NOW - 8 * DAY),
                ],
                4,
                "+0 s, 4 of 4; b -9 days, d -8 days",
            ),
            (
                "one that lies has two addresses and one voice",
                vec![
                    says("a", NOW + YEARS),
                    says("a-too", NOW + YEARS),
                    says("b", NOW),
                    says("c", NOW),
                ],
                4,
                "+0 s, 3 of 3; a 7300 days",
            ),
            (
                "all are from before this program",
                vec![says("a", 0), says("b", BUILT - 1)],
                2,
                "no time",
            ),
            ("nobody answers", vec![], 3, "no time"),
        ] {
            let text = match judge(&told, asked, at(BUILT)) {
                None => "no time".to_owned(),
                Some(Judgement { now, of, known, wrong }) => {
                    let wrong: Vec<String> = wrong
                        .iter()
                        .map(|(address, by)| format!("{address} {} days", by.as_hours() / 24))
                        .collect();
                    let wrong = match wrong.is_empty() {
                        true => String::new(),
                        false => format!("; {}", wrong.join(", ")),
                    };
                    format!("{:+} s, {of} of {known}{wrong}", now.as_second() - NOW)
                }
            };
            assert_eq!(text, expected, "{story}");
        }
    }

    /// What no answer that is still open could change is settled, and nothing else is.
    #[test]
    fn more_than_half_that_agree_settle_it() {
        let settled = |told: &[Told], open| is_settled(told, open, at(BUILT));
        assert!(settled(&[says("a", NOW), says("b", NOW + 30)], 1));
        assert!(!settled(&[says("a", NOW), says("b", NOW + 300)], 1), "they differ");
        assert!(!settled(&[says("a", NOW), says("b", NOW)], 2), "half of four");
        assert!(!settled(&[says("a", NOW), says("a", NOW)], 1), "one voice");
        assert!(!settled(&[says("a", NOW)], 1));
        assert!(settled(&[says("a", NOW)], 0));
        assert!(!settled(&[says("a", 0)], 0), "no time at all");
        let far = [NOW - YEARS, NOW - DAY, NOW + DAY, NOW + YEARS];
        for told in [[NOW, NOW, NOW], [NOW, NOW + 20, NOW + YEARS], [NOW - 9 * DAY, NOW, NOW + 9]] {
            let told: Vec<Told> =
                ["a", "b", "c"].iter().zip(told).map(|(name, at)| says(name, at)).collect();
            for open in 0..4 {
                if !settled(&told, open) {
                    continue;
                }
                // Whatever they say, and however many of them, all alike or each otherwise.
                for more in 0..=open {
                    for with in 0..far.len().pow(more as u32) {
                        let mut all = told.clone();
                        all.extend((0..more).map(|i| {
                            says(
                                ["x", "y", "z"][i],
                                far[with / far.len().pow(i as u32) % far.len()],
                            )
                        }));
                        let now = judge(&all, all.len(), at(BUILT)).expect("some are servers").now;
                        assert!((now.as_second() - NOW).abs() <= 60, "{all:?}: {now}");
                    }
                }
            }
        }
    }

    /// What [`ask`] makes of servers that answer after so many seconds, or never, and
    /// how long it took.
    async fn asked(answers: &[(&str, Option<u64>, i64)]) -> (Vec<i64>, Duration) {
        let servers: Vec<String> = answers.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let began = Instant::now();
        let told = ask(&servers, at(BUILT), |server| {
            let answer = answers.iter().find(|(name, ..)| *name == server);
            let (name, after, says_at) = *answer.expect("one of them is asked");
            async move {
                // As a greeting ends that nobody answers.
                tokio::time::sleep(Duration::from_secs(after.unwrap_or(5))).await;
                after.is_some().then(|| says(name, says_at))
            }
        });
        let told = told.await.iter().map(|one| one.now.as_second() - NOW).collect();
        (told, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_who_does_not_matter() {
        let s = Duration::from_secs;
        let agree = [("a", Some(0), NOW), ("b", None, 0), ("c", Some(1), NOW + 1)];
        assert_eq!(asked(&agree).await, (vec![1, 1], s(1)), "one is dead");
        let differ = [("a", Some(0), NOW), ("b", Some(3), NOW + 3), ("c", Some(1), NOW - DAY)];
        assert_eq!(asked(&differ).await, (vec![3, 2 - DAY, 3], s(3)), "the third decides");
        let gone = [("a", None, 0), ("b", None, 0), ("c", None, 0)];
        assert_eq!(asked(&gone).await, (vec![], s(5)), "all at once, not one after the other");
        assert_eq!(asked(&[]).await, (vec![], s(0)));
        // More than are asked at once.
        let many: Vec<_> = (0..20).map(|_| ("a", None, 0)).collect();
        assert_eq!(asked(&many).await, (vec![], s(15)));
    }

    #[test]
    fn people_are_told_what_is_believed_and_of_how_many() {
        let told = [says("a:6443", NOW), says("b:6443", NOW + 20 * DAY), says("c:6443", NOW)];
        let judgement = judge(&told, 4, at(BUILT)).expect("they say a time");
        let words = Words::new(Some(SignedDuration::from_hours(-13)), &judgement);
        assert_eq!(
            words.own,
            (
                true,
                "this machine's clock is 13 hours behind what 3 of 4 servers say; certificates and \
                 leases go by theirs until it is set right (is NTP running?)"
                    .to_owned()
            )
        );
        assert_eq!(
            words.others,
            ["the clock of the server at b:6443 is 20 days ahead of that of the others: set it \
                 right (is NTP running there?)"]
        );
        let words = Words::new(None, &judgement);
        assert_eq!(
            words.own,
            (false, "this machine's clock agrees with 3 of 4 servers".to_owned())
        );
    }
}

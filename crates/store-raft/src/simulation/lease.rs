//! Leases: held by one at a time, as long as holders keep their own rules, and renewed
//! by no leader that another has followed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use store::{CommitError, Committed, Item, Key, Renewal, Revision, Store as _, Txn};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::run::{SERVERS, World, put, value_of};
use crate::RaftStore;

/// After so long without a change somebody else may take a lease.
const LEASE: Duration = Duration::from_secs(4);
/// So long after it was asked for a renewal is relied on: less by what clocks may drift,
/// and by how long a leader may not get renewals to the others before it dies.
const DEADLINE: Duration = Duration::from_secs(1);

/// What is known of them from outside.
#[derive(Default)]
pub(super) struct Leases {
    /// Until when each holder relies on its lease.
    relies: RefCell<[Option<Instant>; SERVERS]>,
    /// The newest revision at which the contested one was taken.
    taken: Cell<Revision>,
}

/// A holder beside each server and as many that contend for another lease by no rules.
pub(super) fn start(world: &Rc<World>) -> Vec<JoinHandle<()>> {
    let holders = (0..SERVERS).map(|who| tokio::task::spawn_local(hold(world.clone(), who)));
    let rivals = (0..SERVERS).map(|who| tokio::task::spawn_local(contend(world.clone(), who)));
    holders.chain(rivals).collect()
}

fn lease(name: &str) -> Key {
    Key::new("", "leases", "default", name)
}

/// The value says who wrote it.
fn new_value(world: &World, who: usize) -> u64 {
    world.new_value() * SERVERS as u64 + who as u64
}

fn holder(item: &Item) -> usize {
    (value_of(&item.value.data) % SERVERS as u64) as usize
}

/// Takes a lease that nobody has renewed for long, renews it, and is away now and then,
/// by the clock of its server.
async fn hold(world: Rc<World>, who: usize) {
    let (random, seat) = (world.random.clone(), &world.seats[who]);
    let mut seen = (Revision::ZERO, Instant::now());
    while !world.over.get() {
        let pause = match random.chance(60) {
            true => LEASE,
            false => Duration::from_millis(50 + random.below(250)),
        };
        sleep(seat.pace.lasts(pause)).await;
        let Some(store) = seat.store() else { continue };
        if seat.pace.scope(store.read_barrier()).await.is_err() {
            continue;
        }
        let found = store.get(&lease("held"), None).expect("the present");
        let asked = Instant::now();
        if let Some(item) = &found
            && holder(item) != who
        {
            if item.revision != seen.0 {
                seen = (item.revision, asked);
            }
            if asked - seen.1 < seat.pace.lasts(LEASE) {
                continue;
            }
        }
        let before = *world.acknowledged.borrow();
        let new = put(lease("held"), new_value(&world, who));
        let answer = match found {
            None => seat.pace.scope(store.commit(Txn::create(new))).await,
            Some(item) if holder(&item) == who => {
                seat.pace.scope(store.renew(Renewal { put: new, at: item.revision })).await
            }
            Some(item) => seat.pace.scope(store.commit(Txn::update(new, item.revision))).await,
        };
        if let Ok(committed) = answer {
            world.acknowledge(before, committed.revision);
            world.leases.rely(who, asked + seat.pace.lasts(DEADLINE));
        }
    }
}

impl Leases {
    /// A holder has its lease until then.
    fn rely(&self, who: usize, until: Instant) {
        let now = Instant::now();
        let mut relies = self.relies.borrow_mut();
        relies[who] = Some(until);
        let holders: Vec<usize> =
            (0..SERVERS).filter(|at| relies[*at].is_some_and(|until| until > now)).collect();
        assert!(holders.len() < 2, "a lease is held by {holders:?} at once");
    }
}

/// Takes a lease from whoever has it, or renews what anybody holds.
async fn contend(world: Rc<World>, who: usize) {
    let random = world.random.clone();
    while !world.over.get() {
        sleep(Duration::from_millis(random.below(100))).await;
        let seat = &world.seats[random.index(SERVERS)];
        let Some(store) = seat.store() else { continue };
        let before = *world.acknowledged.borrow();
        let taken = world.leases.taken.get();
        let found = store.get(&lease("contested"), None).expect("the present");
        let new = put(lease("contested"), new_value(&world, who));
        let answer = match found {
            Some(item) if random.chance(800) => {
                let at = item.revision;
                let lead = store.consensus.lead();
                let renewing = store.renew(Renewal { put: new, at });
                let answer = seat.pace.scope(renewing).await;
                let taken = match &answer {
                    Ok(made) if is_just_made(&store, made) && store.consensus.lead() == lead => {
                        world.leases.taken.get()
                    }
                    _ => taken,
                };
                let late = answer.is_ok() && at < taken;
                assert!(!late, "{at} was renewed after the lease had been taken at {taken}");
                answer
            }
            found => {
                let txn = match found {
                    None => Txn::create(new),
                    Some(item) => Txn::update(new, item.revision),
                };
                let answer = seat.pace.scope(store.commit(txn)).await;
                if let Ok(committed) = &answer {
                    let newest = world.leases.taken.get().max(committed.revision);
                    world.leases.taken.set(newest);
                }
                answer
            }
        };
        acknowledged(&world, before, &answer);
    }
}

fn acknowledged(world: &World, before: Revision, answer: &Result<Committed, CommitError>) {
    if let Ok(committed) = answer {
        world.acknowledge(before, committed.revision);
    }
}

/// Whether a renewal was made by this server without its log, so in this moment: nothing
/// was waited for since.
fn is_just_made(store: &RaftStore, made: &Committed) -> bool {
    let renewed = store.read().renewed(&lease("contested"));
    store.consensus.is_leader() && renewed.is_some_and(|renewed| renewed.revision == made.revision)
}

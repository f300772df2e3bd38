//! Three members under faults that follow from a seed: messages are lost, come
//! late, twice and in another order, servers are cut off, lose power in the
//! middle of a write and come back, the lead changes. Clients write, read and
//! watch through all of them, others hold leases. Each server's clock runs at a rate of
//! its own (`clock`), as far from the others' as the leader's lease allows. Then it is
//! asked whether every key's history is linearizable, whether revisions rose, whether
//! all watches told what was acknowledged and the same, and whether leases had one
//! holder at a time.
//!
//! `./x raft-sim SEED` runs one seed as it ran before; `./x raft-sim` many. The
//! plain tests run some, whose faults follow from the seed, while the order of
//! tasks that wake together does not: tokio takes that from outside unless it
//! is built for it.

pub(crate) mod clock;
mod judge;
mod lease;
pub(crate) mod random;
mod run;

/// How many seeds a plain test runs; many run by `./x raft-sim`.
const SEEDS: u64 = 25;

fn seeds(part: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("RAFT_SIM_SEED"), number("RAFT_SIM_SEEDS")) {
        (Some(seed), _) if part == 0 => seed..seed + 1,
        (Some(_), _) => 0..0,
        (None, count) => {
            let count = count.unwrap_or(SEEDS);
            part * count..(part + 1) * count
        }
    }
}

fn run_all(part: u64) {
    for seed in seeds(part) {
        // The seed is in every panic's output, since tests print what they wrote.
        println!("seed {seed}: ./x raft-sim {seed}");
        run::run(seed);
    }
}

/// A test for each part of the seeds, so that all cores have work to the end.
macro_rules! parts {
    ($($name:ident = $part:literal;)*) => {
        $(
            #[test]
            fn $name() {
                run_all($part);
            }
        )*
    };
}

parts! {
    seeds_of_the_first_tenth = 0;
    seeds_of_the_second_tenth = 1;
    seeds_of_the_third_tenth = 2;
    seeds_of_the_fourth_tenth = 3;
    seeds_of_the_fifth_tenth = 4;
    seeds_of_the_sixth_tenth = 5;
    seeds_of_the_seventh_tenth = 6;
    seeds_of_the_eighth_tenth = 7;
    seeds_of_the_ninth_tenth = 8;
    seeds_of_the_last_tenth = 9;
}

#[cfg(tokio_unstable)]
#[test]
fn a_seed_runs_the_same_again() {
    assert_eq!(run::run(7), run::run(7));
}

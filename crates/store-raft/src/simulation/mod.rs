//! Three members under faults that follow from a seed: messages are lost, come
//! late, twice and in another order, servers are cut off, lose power in the
//! middle of a write and come back, the lead changes. Clients write, read and
//! watch through all of them. Then it is asked whether every key's history is
//! linearizable, whether revisions rose, and whether all watches told the same.
//!
//! `./x raft-sim SEED` runs one seed as it ran before; `./x raft-sim` many. The
//! plain tests run some, whose faults follow from the seed, while the order of
//! tasks that wake together does not: tokio takes that from outside unless it
//! is built for it.

pub(crate) mod random;
mod run;

/// How many seeds a plain test runs; many run by `./x raft-sim`.
const SEEDS: u64 = 15;

fn seeds(first: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("RAFT_SIM_SEED"), number("RAFT_SIM_SEEDS")) {
        (Some(seed), _) if first == 0 => seed..seed + 1,
        (Some(_), _) => 0..0,
        (None, Some(count)) => first * count..(first + 1) * count,
        (None, None) => first * SEEDS..(first + 1) * SEEDS,
    }
}

fn run_all(first: u64) {
    for seed in seeds(first) {
        // The seed is in every panic's output, since tests print what they wrote.
        println!("seed {seed}: ./x raft-sim {seed}");
        run::run(seed);
    }
}

#[test]
fn seeds_of_the_first_quarter() {
    run_all(0);
}

#[test]
fn seeds_of_the_second_quarter() {
    run_all(1);
}

#[test]
fn seeds_of_the_third_quarter() {
    run_all(2);
}

#[test]
fn seeds_of_the_fourth_quarter() {
    run_all(3);
}

#[cfg(tokio_unstable)]
#[test]
fn a_seed_runs_the_same_again() {
    assert_eq!(run::run(7), run::run(7));
}

//! Who votes, for whom, and when.

use std::time::Duration;

use store::{CommitError, Renewal, Store as _, Txn};
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, address, create, put, read};
use crate::{consensus::LEASE, simulation::clock::Pace};

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_cut_off_comes_back_without_an_election() {
    let cluster = Cluster::of(3).await;
    let (leader, followers) = cluster.leader_and_followers().await;
    let lead = |at: usize| cluster.at(at).consensus.lead();
    let before = lead(leader);
    for round in 0..3 {
        let off = followers[round % 2];
        cluster.net.cut(&address(off), true);
        sleep(LEASE * 20).await;
        let name = format!("n{round}");
        create(cluster.at(leader), &name).await;
        cluster.net.cut(&address(off), false);
        assert_eq!(read(cluster.at(off), &name).await.as_deref(), Some("x"));
        // It asked for votes all the time; whoever counts terms is heard by now.
        for at in 0..3 {
            assert_eq!((lead(at).leader, lead(at).term), (before.leader, before.term), "s{at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_starts_anew_stands_by_the_leader_that_it_heard() {
    for _ in 0..3 {
        let mut cluster = Cluster::of(3).await;
        let (leader, followers) = cluster.leader_and_followers().await;
        let [other, restarted] = followers[..] else { panic!("three") };
        // One hears nothing and wants the lead; the other's lease keeps it from that.
        cluster.net.block(&address(leader), &address(other), true);
        sleep(LEASE * 5).await;
        assert_eq!(cluster.leader().await, leader);
        cluster.at(leader).consensus.read_index().await.expect("a quorum");
        let heard = Instant::now();
        cluster.kill(restarted).await;
        cluster.net.cut(&address(leader), true);
        cluster.start(restarted).await;
        let led = async {
            let mut leads = cluster.at(other).leadership();
            let mut its = cluster.at(restarted).leadership();
            tokio::select! {
                leads = leads.wait_for(|leads| *leads) => drop(leads),
                leads = its.wait_for(|leads| *leads) => drop(leads),
            }
        };
        timeout(Duration::from_secs(20), led).await.expect("another leads");
        assert!(heard.elapsed() > LEASE, "after {:?}", heard.elapsed());
    }
}

/// Most of these are longer than an election may take where disks are fast.
#[tokio::test(start_paused = true)]
async fn servers_that_write_slowly_find_a_leader_and_keep_it() {
    for (slow_ms, within_s) in [(0, 2), (500, 10), (2_000, 20), (5_000, 40)] {
        let (slow, limit) = (Duration::from_millis(slow_ms), Duration::from_secs(within_s));
        let mut cluster = Cluster::of(3).await;
        for round in 0..3 {
            let (leader, followers) = cluster.leader_and_followers().await;
            cluster.net.slow(slow);
            cluster.kill(leader).await;
            let [mut one, mut other] = [0, 1].map(|at| cluster.at(followers[at]).leadership());
            let led = async {
                tokio::select! {
                    leads = one.wait_for(|leads| *leads) => drop(leads),
                    leads = other.wait_for(|leads| *leads) => drop(leads),
                }
            };
            let led = timeout(limit, led).await;
            assert!(led.is_ok(), "{slow:?}: no leader within {limit:?}");
            let next = cluster.leader().await;
            let term = |at: usize| cluster.at(at).consensus.lead().term;
            let before = term(next);
            let name = format!("n{round}");
            for at in followers {
                create(cluster.at(at), &format!("{name}-{at}")).await;
                let seen = read(cluster.at(at), &name).await;
                assert_eq!(seen, None, "{slow:?}: answered all the same");
            }
            sleep(LEASE * 20).await;
            assert_eq!(term(next), before, "{slow:?}: it is given time");
            cluster.net.slow(Duration::ZERO);
            cluster.start(leader).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_by_the_log_where_answers_are_old_news() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let at = create(cluster.at(leader), "lease").await;
    let groups = || cluster.at(leader).stats().log_groups;
    let before = groups();
    let renew = |data, at| cluster.at(leader).renew(Renewal { put: put("lease", data), at });
    let at = renew("soon", at).await.expect("renewed").revision;
    assert_eq!(groups(), before, "nothing was written");
    // Between what the others said and the renewal the process stands still, and is told
    // by the clock alone: others may have a leader by now.
    let late = Pace::new(1_000_000).scope(renew("late", at)).await;
    let renewed = late.expect("renewed").revision;
    assert!(renewed > at && groups() > before, "it was written");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_joins_does_not_count_until_it_has_caught_up() {
    let mut cluster = Cluster::of(1).await;
    create(cluster.at(0), "a").await;
    let voters = |cluster: &Cluster| cluster.at(0).consensus.lead().voters.len();
    for count in 1..=2 {
        let (new, others) = cluster.add_apart().await;
        let to = address(new);
        others.iter().for_each(|from| cluster.net.block(from, &to, true));
        let said = others.clone();
        let store = cluster.at(new).clone();
        let joining = tokio::spawn(async move { store.join(&others).await });
        let id = cluster.at(new).id();
        let listed = async {
            while !cluster.at(0).consensus.has_member(id) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(5), listed).await.expect("it is a member");
        // Were it a voter, the first server alone would be no majority.
        for at in 0..10 {
            create(cluster.at(0), &format!("n{count}-{at}")).await;
        }
        let members = cluster.at(0).members().await;
        let told: Vec<_> = members.iter().map(|member| member.voter).collect();
        assert_eq!(told, [vec![true; count], vec![false]].concat());
        assert_eq!(voters(&cluster), count);
        if count == 2 {
            // It gets what is written, and is no majority with one of the two all the same.
            cluster.net.cut(&address(1), true);
            said.iter().for_each(|from| cluster.net.block(from, &to, false));
            let written = cluster.at(0).commit(Txn::create(put("b", "x"))).await;
            let in_vain =
                matches!(written, Err(CommitError::Unknown(_) | CommitError::NoLeader(_)));
            assert!(in_vain, "{written:?}");
            cluster.net.cut(&address(1), false);
        }
        said.iter().for_each(|from| cluster.net.block(from, &to, false));
        joining.await.expect("no panic").expect("taken in");
        let last = format!("n{count}-9");
        assert_eq!(read(cluster.at(new), &last).await.as_deref(), Some("x"));
        assert_eq!(voters(&cluster), count + 1);
    }
    // From now on it does.
    cluster.net.cut(&address(1), true);
    create(cluster.at(2), "c").await;
    cluster.net.cut(&address(0), true);
    let written = cluster.at(2).commit(Txn::create(put("d", "x"))).await;
    assert!(written.is_err(), "{written:?}");
}

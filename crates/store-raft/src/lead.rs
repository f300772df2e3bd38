//! What follows when the lead or the membership changes.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::task::{JoinHandle, JoinSet};

use crate::{
    FEATURE_LEVEL, OpenError, RaftStore, codec,
    consensus::{ChangeError, Consensus, Lead},
    renewals,
};

/// After the cluster could not be told who this server is.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// Brings what the log says of this server and of the feature level up to
/// date, where it is alone and leads: then the first write needs not wait.
pub(crate) async fn settle(store: &Arc<RaftStore>) -> Result<(), OpenError> {
    let lead = store.consensus.lead();
    if lead.is_alone(store.links.me) {
        store.leads.send_replace(true);
        let settled = keep_house(store, &lead).await;
        settled.map_err(|error| OpenError::Raft(error.to_string()))?;
    }
    Ok(())
}

/// Acts on every change until the store is gone.
pub(crate) async fn follow(store: Weak<RaftStore>, consensus: Consensus) {
    let mut tellers = JoinSet::new();
    let mut keeper: Option<JoinHandle<()>> = None;
    let mut last = Lead::default();
    consensus
        .follow_lead(|lead| {
            let Some(store) = store.upgrade() else { return };
            let me = store.links.me;
            store.links.members_are(&lead.members);
            let leads = lead.leader == Some(me);
            let alone = lead.members.len() < 2;
            // Nobody else waits for what Raft's thread does.
            store.writer.write_here(alone);
            // A member that is no voter waits until it is told.
            store.consensus.tick(!alone && (leads || lead.voters.contains(&me)));
            if lead.leader != last.leader && !alone {
                tell_log(&lead, leads);
            }
            if last.members.contains_key(&me) && !lead.members.contains_key(&me) {
                store.links.was_removed();
            }
            store.leads.send_if_modified(|was| std::mem::replace(was, leads) != leads);
            tellers.abort_all();
            if !leads && !alone {
                tellers.spawn(listen(Arc::downgrade(&store), lead.clone()));
            }
            if leads {
                tellers.spawn(watch_over(Arc::downgrade(&store), lead.clone()));
                for (id, node) in lead.members.iter().filter(|(id, _)| **id != me) {
                    let (shared, made) = (store.shared.clone(), store.made.clone());
                    let to = (*id, node.clone());
                    tellers.spawn(renewals::tell(shared, made, store.links.clone(), lead.term, to));
                }
            }
            if let Some(keeper) = keeper.take() {
                keeper.abort();
            }
            if lead.leader.is_some() || is_misknown(&store, &lead) {
                keeper = Some(tokio::spawn(keep(Arc::downgrade(&store), lead.clone())));
            }
            last = lead;
        })
        .await;
}

/// How often a leader of several looks whom it still hears, and after how long
/// without a word a member is no address for clients any more.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const SILENT_MAX: Duration = Duration::from_secs(9);

/// Says when nothing is heard of the leader any more, and when it is again.
async fn listen(store: Weak<RaftStore>, lead: Lead) {
    let leader = lead.leader.and_then(|id| lead.members.get(&id));
    let name = leader.map_or("a leader", |node| &node.name);
    let mut silent = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(store) = store.upgrade() else { return };
        let heard = store.shared.heard_within(LOOK_EVERY);
        match (silent, heard) {
            (false, false) => tracing::warn!(
                "nothing is heard of {name}, and no majority elects another; requests wait"
            ),
            (true, true) => tracing::info!("{name} is heard again"),
            _ => {}
        }
        silent = !heard;
    }
}

/// Keeps the addresses of members that answer, as long as this server leads.
async fn watch_over(store: Weak<RaftStore>, lead: Lead) {
    let start = tokio::time::Instant::now();
    let mut alone = false;
    loop {
        {
            let Some(store) = store.upgrade() else { return };
            let heard = store.consensus.heard_from(SILENT_MAX);
            let voters = lead.voters.len();
            let answer = lead.voters.iter().filter(|id| heard.contains(id)).count();
            let lonely = answer <= voters / 2 && start.elapsed() > SILENT_MAX;
            match (alone, lonely) {
                (false, true) => tracing::warn!(
                    "{answer} of {voters} servers answer, which is no majority; requests wait for more"
                ),
                (true, false) => tracing::info!("a majority of servers answers again"),
                _ => {}
            }
            alone = lonely;
            // A new leader gives everybody the time to answer.
            let all = start.elapsed() < SILENT_MAX;
            let mut addresses: Vec<String> = (lead.members.iter())
                .filter(|(id, _)| all || **id == store.links.me || heard.contains(id))
                .map(|(_, node)| node.address.clone())
                .collect();
            addresses.sort();
            store.reachable.send_if_modified(|before| {
                let changed = *before != addresses;
                *before = addresses;
                changed
            });
        }
        match lead.members.len() {
            1 => return,
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn tell_log(lead: &Lead, leads: bool) {
    match lead.leader.and_then(|id| lead.members.get(&id)) {
        Some(_) if leads => tracing::info!("this server leads the cluster now"),
        Some(node) => tracing::info!("server {} leads the cluster now", node.name),
        None => tracing::warn!("the cluster has no leader; requests wait for one"),
    }
}

/// Whether the cluster has another address or version of this server.
fn is_misknown(store: &RaftStore, lead: &Lead) -> bool {
    lead.members.get(&store.links.me).is_some_and(|known| *known != store.node)
}

/// Until it has worked, or the next change.
async fn keep(store: Weak<RaftStore>, lead: Lead) {
    loop {
        let Some(store) = store.upgrade() else { return };
        match keep_house(&store, &lead).await {
            Ok(()) => return,
            Err(error) => tracing::debug!("the cluster does not know this server's state: {error}"),
        }
        drop(store);
        tokio::time::sleep(TELL_AGAIN).await;
    }
}

/// Sees to it that the cluster knows this server as it is now, and that the
/// feature level is what all servers understand.
async fn keep_house(store: &RaftStore, lead: &Lead) -> Result<(), ChangeError> {
    let me = store.links.me;
    if is_misknown(store, lead) {
        match lead.leader {
            Some(_) => store.change_anywhere_join(me, store.node.clone()).await?,
            // Whoever leads looks for it where it was, so it hears of nobody.
            None => {
                let others = lead.members.iter().filter(|(id, _)| **id != me);
                let others: Vec<String> = others.map(|(_, node)| node.address.clone()).collect();
                store.tell_at(&others).await.flatten().map_err(ChangeError::Refused)?;
            }
        }
    }
    if lead.leader != Some(me) {
        return Ok(());
    }
    let understood = lead.members.values().map(|node| node.feature_level).min();
    // A server of the very first version says nothing of its level.
    let level = understood.unwrap_or(0).clamp(1, FEATURE_LEVEL);
    if store.shared.progress().feature_level < level {
        let proposed = store.consensus.propose(codec::encode_feature_level(level), ()).await;
        proposed.map_err(|error| ChangeError::Refused(error.to_string()))?;
    }
    Ok(())
}

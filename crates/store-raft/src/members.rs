//! Who the servers of the cluster are: taking one in, removing one, and where
//! each stands.

use std::time::Duration;

use futures_util::future::join_all;
use grpc::CallError;
use tokio::time::Instant;

use crate::{
    RaftStore,
    anywhere::PATIENCE,
    consensus::ChangeError,
    peers::Method,
    proto::raft_v1::{
        ChangeRequest, ChangeResponse, Node, PositionResponse,
        change_request::{Change, Join},
    },
};

/// How long a server may take to say where it stands.
const POSITION_MAX: Duration = Duration::from_secs(1);
/// How long taking in a server may last: its state is sent to it first.
const CHANGE_MAX: Duration = Duration::from_secs(660);

/// Why the membership is as it was; says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChangeFailed(pub String);

/// A server of the cluster, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Random, never used again.
    pub id: u64,
    /// Unique among servers.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Whether it votes; one that does not is still catching up.
    pub voter: bool,
    /// Whether it leads, as far as the server that was asked knows.
    pub leader: bool,
    /// The version it runs, as the cluster was last told.
    pub version: String,
    /// Where it stands; why not, where it does not answer.
    pub position: Result<Position, String>,
}

/// Where a server stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Its term.
    pub term: u64,
    /// The newest entry of its log.
    pub last_log: u64,
    /// The newest entry that it has applied.
    pub applied: u64,
    /// The newest entry in its last snapshot; 0 for none.
    pub snapshot: u64,
    /// Its revision.
    pub revision: u64,
    /// Why it takes no more writes; empty where it does.
    pub fault: String,
}

impl RaftStore {
    /// This server's ID.
    pub fn id(&self) -> u64 {
        self.links.me
    }

    /// The servers that are members, without asking them.
    pub fn member_addresses(&self) -> Vec<(String, String)> {
        let lead = self.consensus.lead();
        lead.members.into_values().map(|node| (node.name, node.address)).collect()
    }

    /// Told whether this server leads, now and with every change.
    pub fn leadership(&self) -> tokio::sync::watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// The addresses of the members that this one, while it leads, has heard
    /// from lately, in order: where clients find somebody. Itself among them.
    pub fn reachable(&self) -> tokio::sync::watch::Receiver<Vec<String>> {
        self.reachable.subscribe()
    }

    /// Every member, in the order of their names; those that do not answer soon
    /// are told as such.
    pub async fn members(&self) -> Vec<Member> {
        let lead = self.consensus.lead();
        let asked = lead.members.iter().map(|(id, node)| async {
            let position = match *id == self.links.me {
                true => Ok(self.position()),
                false => self.ask_position(*id, node).await,
            };
            Member {
                id: *id,
                name: node.name.clone(),
                address: node.address.clone(),
                voter: lead.voters.contains(id),
                leader: lead.leader == Some(*id),
                version: node.version.clone(),
                position: position.map(|position| Position {
                    term: position.term,
                    last_log: position.last_log,
                    applied: position.applied,
                    snapshot: position.snapshot,
                    revision: position.revision,
                    fault: position.fault,
                }),
            }
        });
        let mut members = join_all(asked).await;
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        members
    }

    async fn ask_position(&self, id: u64, node: &Node) -> Result<PositionResponse, String> {
        let asking = self.links.call((id, node), Method::Position, &());
        match tokio::time::timeout(POSITION_MAX, asking).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {POSITION_MAX:?}")),
        }
    }

    /// Where this server stands.
    pub(crate) fn position(&self) -> PositionResponse {
        let lead = self.consensus.lead();
        let (last_log, snapshot) = self.consensus.log_position();
        let fault = match self.health() {
            Err(error) => error.to_string(),
            Ok(()) if self.is_full() => self.no_room_text(),
            Ok(()) => String::new(),
        };
        PositionResponse {
            term: lead.term,
            leader: lead.leader.unwrap_or(0),
            last_log,
            applied: self.shared.progress().applied.map_or(0, |id| id.index),
            snapshot,
            revision: self.read().revision().0,
            fault,
            node: Some(self.node.clone()),
        }
    }

    /// Has this server taken into the cluster whose members are at these
    /// addresses; returns once it is a voter.
    ///
    /// # Errors
    /// Why it is not taken in, for the person who started it.
    pub async fn join(&self, addresses: &[String]) -> Result<(), ChangeFailed> {
        let start = Instant::now();
        loop {
            match self.tell_at(addresses).await {
                Ok(answer) => return answer.map_err(ChangeFailed),
                Err(failed) if start.elapsed() > 3 * PATIENCE => return Err(ChangeFailed(failed)),
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Tells the cluster who this server is, at one of these addresses: whoever is there
    /// passes it on to the leader. Returns the leader's answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn tell_at(&self, addresses: &[String]) -> Result<Result<(), String>, String> {
        let request = join_request(self.links.me, self.node.clone());
        let mut failed = "no address of a server is known".to_owned();
        for address in addresses {
            let node = Node { address: address.clone(), ..Node::default() };
            let asking = self.links.call((0, &node), Method::Change, &request);
            match tokio::time::timeout(CHANGE_MAX, asking).await {
                Ok(Ok(ChangeResponse { not_leader: false, refused })) => {
                    return Ok(if refused.is_empty() { Ok(()) } else { Err(refused) });
                }
                Ok(Ok(_)) => failed = "the cluster has no leader now".into(),
                Ok(Err(CallError::Failed(status))) => failed = status.message,
                Ok(Err(error)) => failed = error.to_string(),
                Err(_) => failed = format!("{address}: no answer within {CHANGE_MAX:?}"),
            }
        }
        Err(failed)
    }

    /// Removes the server of that name; its data is of no use any more. Waits for a
    /// leader as requests do.
    ///
    /// # Errors
    /// Why it is not removed, and what to do.
    pub async fn remove(&self, name: &str) -> Result<(), ChangeFailed> {
        let start = Instant::now();
        loop {
            match self.change_anywhere(Change::Remove(name.to_owned())).await {
                Ok(()) => return Ok(()),
                Err(ChangeError::Refused(why)) => return Err(ChangeFailed(why)),
                Err(ChangeError::NotLeader) => {
                    self.look_again(start).await.map_err(|error| cannot_remove(name, &error))?;
                }
            }
        }
    }

    /// Tells the leader who a server is.
    pub(crate) async fn change_anywhere_join(
        &self,
        id: u64,
        node: Node,
    ) -> Result<(), ChangeError> {
        self.change_anywhere(Change::Join(Join { id, node: Some(node) })).await
    }

    /// A change, here if this server leads, else where the leader is.
    pub(crate) async fn change_anywhere(&self, change: Change) -> Result<(), ChangeError> {
        let lead = self.consensus.lead();
        match lead.leader {
            Some(leader) if leader == self.links.me => self.change_here(change).await,
            None => Err(ChangeError::NotLeader),
            Some(leader) => {
                let Some(node) = lead.members.get(&leader) else {
                    return Err(ChangeError::NotLeader);
                };
                let request = ChangeRequest { change: Some(change) };
                let asking = self.links.call((leader, node), Method::Change, &request);
                match tokio::time::timeout(CHANGE_MAX, asking).await {
                    Ok(Ok(ChangeResponse { not_leader: true, .. })) => Err(ChangeError::NotLeader),
                    Ok(Ok(answer)) if answer.refused.is_empty() => Ok(()),
                    Ok(Ok(answer)) => Err(ChangeError::Refused(answer.refused)),
                    Ok(Err(CallError::NotSent(_))) => Err(ChangeError::NotLeader),
                    Ok(Err(error)) => Err(unknown(&node.name, &error.to_string())),
                    Err(_) => Err(unknown(&node.name, "it does not answer")),
                }
            }
        }
    }

    /// A change by this server, which must lead.
    pub(crate) async fn change_here(&self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::Join(Join { id, node }) => {
                let node = node.unwrap_or_default();
                self.admissible(id, &node).map_err(ChangeError::Refused)?;
                self.consensus.admit(id, node).await
            }
            Change::Remove(name) => {
                let members = self.consensus.lead().members;
                let mut named = members.iter().filter(|(_, node)| node.name == name);
                let Some((id, _)) = named.next() else {
                    let mut names: Vec<&str> =
                        members.values().map(|node| node.name.as_str()).collect();
                    names.sort_unstable();
                    return Err(ChangeError::Refused(format!(
                        "there is no server \"{name}\"; the servers are {}",
                        names.join(", ")
                    )));
                };
                if members.len() == 1 {
                    let text = format!(
                        "\"{name}\" is the only server, and a cluster needs one; to end the \
                         cluster, run `skiff uninstall` there"
                    );
                    return Err(ChangeError::Refused(text));
                }
                self.consensus.dismiss(*id).await
            }
        }
    }

    /// Whether a server may be a member.
    fn admissible(&self, id: u64, node: &Node) -> Result<(), String> {
        let level = self.shared.progress().feature_level;
        if node.feature_level < level {
            return Err(format!(
                "the cluster uses what skiff {} does not know yet (feature level {level}, it \
                 knows {}): install the version of the other servers first",
                node.version, node.feature_level
            ));
        }
        let members = self.consensus.lead().members;
        let twin = |(other, known): (&u64, &Node)| *other != id && known.name == node.name;
        if members.iter().any(twin) {
            return Err(format!(
                "there is a server \"{0}\" in the cluster already: start with another \
                 --node-name, or, if this server replaces it, remove that one first with `skiff \
                 cluster remove {0}`",
                node.name
            ));
        }
        Ok(())
    }
}

/// Where the leader had been asked and has not answered.
fn unknown(leader: &str, why: &str) -> ChangeError {
    ChangeError::Refused(format!(
        "the leader {leader} was asked and went away ({why}): `skiff cluster status` shows \
         whether it was done; if not, say it again"
    ))
}

/// For the person who wants a server gone, where no leader can be had.
fn cannot_remove(name: &str, why: &store::CommitError) -> ChangeFailed {
    ChangeFailed(match why {
        store::CommitError::NoLeader(why) => format!(
            "\"{name}\" stays, since a majority decides who is a server: {why}. Start servers \
             that are down, then say it again; where they are lost for good, stop skiff on one \
             that is left and run `skiff server --cluster-reset` there once, which makes a \
             cluster of that one alone"
        ),
        why => format!("\"{name}\" stays: {why}"),
    })
}

fn join_request(id: u64, node: Node) -> ChangeRequest {
    ChangeRequest { change: Some(Change::Join(Join { id, node: Some(node) })) }
}

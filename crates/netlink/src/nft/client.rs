//! Sending batches, and reading back what there is.

use super::batch::{
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END,
    NFTA_SET_ELEM_TIMEOUT,
};
use super::expr::Verdict;
use super::{
    Batch, Data, Element, Family, Hook, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE, Table, kind,
};
use crate::Error;
use crate::wire::{Attrs, Message, NLM_F_ACK, NLM_F_DUMP, Received, Socket, refused};
use rustix::io::Errno;
use std::time::Duration;

const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSET: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
/// A listing that was disturbed is taken again so often.
const READINGS: usize = 64;
/// Every message has `struct nfgenmsg` in front.
const NFGENMSG: usize = 4;
/// Element flags: the end of an interval, or "everything else". Neither has a key
/// of its own.
const CATCHALL_OR_END: u32 = 3;

/// A connection to nf_tables, bound to the network namespace it was opened in.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// No netfilter in the kernel, or no descriptor left.
    pub fn open() -> Result<Self, Error> {
        Ok(Nftables { socket: Socket::netfilter()? })
    }

    /// Makes all changes of the batch, or none. With a `generation` (from
    /// [`Nftables::generation`]) only if nobody changed anything since.
    ///
    /// # Errors
    /// The first change that the kernel refused, in words; `ERESTART` if the
    /// generation is no longer that one.
    pub fn commit(&self, batch: &Batch, generation: Option<u32>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.socket.take_sequence();
        for _ in 0..=batch.len() {
            self.socket.take_sequence();
        }
        let bytes = batch.encode(first, generation);
        self.socket.reserve_send(bytes.len())?;
        self.socket.send(&bytes)?;
        // The kernel works while it takes the message, so all answers are here:
        // each failure, and the last message's acknowledgement at the end. What
        // concerns the batch as a whole bears the begin's number.
        let last = batch.len() as u32;
        let mut failure = None;
        loop {
            let acks = match self.socket.receive_acks() {
                Ok(acks) => acks,
                // More failures than the socket can hold: the first ones came,
                // the last acknowledgement did not.
                Err(Errno::NOBUFS) => continue,
                Err(Errno::AGAIN) if failure.is_some() => return failure.map_or(Ok(()), Err),
                Err(e) => return Err(Error::io("read the answers to a batch", e)),
            };
            for ack in acks {
                let offset = ack.sequence.wrapping_sub(first);
                if offset > last {
                    continue;
                }
                if ack.errno != 0 && failure.is_none() {
                    let what = match offset {
                        0 => "nf_tables batch",
                        n => batch.describe(n as usize - 1),
                    };
                    failure = Some(refused(what.to_owned(), ack.errno, ack.message));
                }
                if offset == last || (offset == 0 && failure.is_some()) {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// A number that grows with every change by anybody in this namespace.
    pub fn generation(&self) -> Result<u32, Error> {
        let message = Message::new(kind(NFT_MSG_GETGEN), NLM_F_ACK, &[0; NFGENMSG]);
        let what = || "read the nf_tables generation".to_owned();
        let answers = self.socket.query(message, what)?;
        let generation = answers.iter().find_map(|r| attrs(r).find_be32(NFTA_GEN_ID));
        generation.ok_or_else(|| Error::Answer(what()))
    }

    /// The names of the tables of a family.
    pub fn tables(&self, family: Family) -> Result<Vec<String>, Error> {
        let message = Message::new(kind(NFT_MSG_GETTABLE), NLM_F_DUMP, &[family as u8, 0, 0, 0]);
        let answers = self.socket.query(message, || "list tables".into())?;
        Ok(answers.iter().filter_map(|r| attrs(r).find_text(1)).collect())
    }

    /// The names of a table's chains.
    pub fn chains(&self, table: &Table) -> Result<Vec<String>, Error> {
        // The kernel lists the chains of all tables of the family.
        self.names(table, NFT_MSG_GETCHAIN, 3, "chains")
    }

    /// The base chains on a hook, of all tables of a family, that drop what they
    /// do not decide: `(table, chain)`.
    pub fn dropping_chains(
        &self,
        family: Family,
        hook: Hook,
    ) -> Result<Vec<(String, String)>, Error> {
        const NFTA_CHAIN_TABLE: u16 = 1;
        const NFTA_CHAIN_NAME: u16 = 3;
        const NFTA_CHAIN_HOOK: u16 = 4;
        const NFTA_CHAIN_POLICY: u16 = 5;
        const NFTA_HOOK_HOOKNUM: u16 = 1;
        let message = Message::new(kind(NFT_MSG_GETCHAIN), NLM_F_DUMP, &[family as u8, 0, 0, 0]);
        let answers = self.socket.query(message, || "list chains".into())?;
        let drops = answers.iter().map(attrs).filter(|chain| {
            chain.nested(NFTA_CHAIN_HOOK).find_be32(NFTA_HOOK_HOOKNUM) == Some(hook as u32)
                && chain.find_be32(NFTA_CHAIN_POLICY) == Some(0)
        });
        Ok(drops
            .filter_map(|c| Some((c.find_text(NFTA_CHAIN_TABLE)?, c.find_text(NFTA_CHAIN_NAME)?)))
            .collect())
    }

    /// The names of a table's sets and maps.
    pub fn sets(&self, table: &Table) -> Result<Vec<String>, Error> {
        self.names(table, NFT_MSG_GETSET, 2, "sets")
    }

    /// For each rule of a table the name of its chain, in order.
    pub fn rules(&self, table: &Table) -> Result<Vec<String>, Error> {
        self.names(table, NFT_MSG_GETRULE, 2, "rules")
    }

    fn names(&self, table: &Table, get: u16, name: u16, what: &str) -> Result<Vec<String>, Error> {
        let mut message = Message::new(kind(get), NLM_F_DUMP, &[table.family as u8, 0, 0, 0]);
        message.text(1, &table.name);
        let what = || format!("list the {what} of {}", table.name);
        let answers = match self.socket.query(message, what) {
            Err(e) if e.errno() == Some(Errno::NOENT) => return Ok(Vec::new()),
            answers => answers?,
        };
        let ours = |r: &&Received| attrs(r).find_text(1).as_deref() == Some(&table.name);
        Ok(answers.iter().filter(ours).filter_map(|r| attrs(r).find_text(name)).collect())
    }

    /// The elements of a set or map, sorted. Timeouts are those given, not what
    /// is left of them.
    pub fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        // The kernel lists a hash table in pieces and finds its place again by
        // counting. While the table is being resized that place moves: for each
        // element that comes twice another one is left out.
        for _ in 0..READINGS {
            let mut elements = self.read_elements(table, set)?;
            elements.sort();
            if elements.windows(2).all(|pair| pair[0].key != pair[1].key) {
                return Ok(elements);
            }
        }
        Err(Error::Answer(format!("{set} changes faster than it can be listed")))
    }

    fn read_elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        let header = [table.family as u8, 0, 0, 0];
        let mut message = Message::new(kind(NFT_MSG_GETSETELEM), NLM_F_DUMP, &header);
        message.text(1, &table.name).text(2, set);
        let answers = self.socket.query(message, || format!("list the elements of {set}"))?;
        let lists = answers.iter().flat_map(|r| attrs(r).nested(NFTA_SET_ELEM_LIST_ELEMENTS));
        Ok(lists.filter_map(|(_, element)| parse_element(Attrs(element))).collect())
    }
}

fn attrs(received: &Received) -> Attrs<'_> {
    Attrs(received.payload.get(NFGENMSG..).unwrap_or(&[]))
}

fn parse_element(attrs: Attrs<'_>) -> Option<Element> {
    if attrs.find_be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0) & CATCHALL_OR_END != 0 {
        return None;
    }
    let value = |kind| attrs.nested(kind).find(NFTA_DATA_VALUE).map(<[u8]>::to_vec);
    let data = attrs.nested(NFTA_SET_ELEM_DATA);
    let verdict = data.nested(NFTA_DATA_VERDICT);
    let data = match verdict.find_be32(NFTA_VERDICT_CODE) {
        Some(code) => {
            Verdict::from_code(code, verdict.find_text(NFTA_VERDICT_CHAIN)).map(Data::Verdict)
        }
        None => data.find(NFTA_DATA_VALUE).map(|bytes| Data::Value(bytes.to_vec())),
    };
    let timeout = attrs.find(NFTA_SET_ELEM_TIMEOUT).and_then(|b| b.try_into().ok());
    Some(Element {
        key: value(NFTA_SET_ELEM_KEY)?,
        key_end: value(NFTA_SET_ELEM_KEY_END),
        data,
        timeout: timeout.map(|bytes| Duration::from_millis(u64::from_be_bytes(bytes))),
    })
}

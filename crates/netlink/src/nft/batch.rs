//! Changes that become real together or not at all.

use super::expr::Expr;
use super::{Data, DataType, Field, Table, kind};
use crate::wire::{Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use std::time::Duration;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_BATCH_GENID: u16 = 1;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(super) const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
pub(super) const NFTA_SET_ELEM_KEY_END: u16 = 10;

const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
const NFT_SET_CONCAT: u32 = 0x80;

/// Bytes of a list of elements: the length field of an attribute has 16 bits,
/// and one element more must fit.
const LIST_MAX: usize = 60_000;

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// One that others jump to.
    Regular,
    /// One that packets enter from a hook.
    Base {
        /// `filter`, `nat` or `route`.
        kind: &'static str,
        /// Where.
        hook: Hook,
        /// When, among the chains of a hook.
        priority: i32,
    },
}

/// A set, or a map if it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Unique in its table.
    pub name: String,
    /// What its keys are.
    pub key: DataType,
    /// What its elements lead to.
    pub data: Option<DataType>,
    /// Rules write its elements; then `size` must be given.
    pub dynamic: bool,
    /// Elements may have timeouts.
    pub timeouts: bool,
    /// Keys are ranges, from [`Element::key`] to [`Element::key_end`].
    pub interval: bool,
    /// Elements at most; zero is no limit. A set with a size gets all its
    /// buckets at once.
    pub size: u32,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Its key, each field padded to four bytes.
    pub key: Vec<u8>,
    /// The last key of a range.
    pub key_end: Option<Vec<u8>>,
    /// For maps.
    pub data: Option<Data>,
    /// It goes away by itself.
    pub timeout: Option<Duration>,
}

impl Element {
    /// An element of a plain set.
    pub fn key(key: Vec<u8>) -> Self {
        Element { key, key_end: None, data: None, timeout: None }
    }

    /// An element of a map.
    pub fn map(key: Vec<u8>, data: Data) -> Self {
        Element { data: Some(data), ..Element::key(key) }
    }
}

/// Milliseconds in network byte order, as timeouts are written.
pub(super) fn milliseconds(duration: Duration) -> [u8; 8] {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).to_be_bytes()
}

/// A list of changes that [`super::Nftables::commit`] makes at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    messages: Vec<(Message, String)>,
    sets: u32,
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Batch::default()
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Begins a message about something in a table; every one starts with the
    /// table's name.
    fn begin(&mut self, table: &Table, message: u16, flags: u16, what: String) -> &mut Message {
        /// The same number in every kind of message.
        const TABLE: u16 = 1;
        let mut new = Message::new(kind(message), flags, &[table.family as u8, 0, 0, 0]);
        new.text(TABLE, &table.name);
        self.messages.push((new, what));
        &mut self.messages.last_mut().expect("just pushed").0
    }

    /// Makes a table, unless it is there.
    pub fn add_table(&mut self, table: &Table) {
        self.begin(table, NFT_MSG_NEWTABLE, NLM_F_CREATE, format!("add table {}", table.name));
    }

    /// Deletes a table with all that is in it, if it is there.
    pub fn delete_table(&mut self, table: &Table) {
        // Deleting what is not there is an error, so it is made first.
        self.add_table(table);
        self.begin(table, NFT_MSG_DELTABLE, 0, format!("delete table {}", table.name));
    }

    /// Makes a chain, unless it is there. A base chain accepts what it does not
    /// decide.
    pub fn add_chain(&mut self, table: &Table, name: &str, chain: &Chain) {
        self.chain(table, name, chain, 1);
    }

    /// Makes a base chain that drops what it does not decide.
    pub fn add_dropping_chain(&mut self, table: &Table, name: &str, chain: &Chain) {
        self.chain(table, name, chain, 0);
    }

    fn chain(&mut self, table: &Table, name: &str, chain: &Chain, policy: u32) {
        let message =
            self.begin(table, NFT_MSG_NEWCHAIN, NLM_F_CREATE, format!("add chain {name}"));
        message.text(3, name);
        if let Chain::Base { kind, hook, priority } = chain {
            message.nest(4, |m| {
                m.be32(1, *hook as u32).be32(2, *priority as u32);
            });
            message.be32(5, policy).text(7, kind);
        }
    }

    /// Deletes an empty chain that nothing leads to.
    pub fn delete_chain(&mut self, table: &Table, name: &str) {
        self.begin(table, NFT_MSG_DELCHAIN, 0, format!("delete chain {name}")).text(3, name);
    }

    /// Deletes a chain's rules.
    pub fn flush_chain(&mut self, table: &Table, name: &str) {
        self.begin(table, NFT_MSG_DELRULE, 0, format!("flush chain {name}")).text(2, name);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &Table, chain: &str, expressions: &[Expr]) {
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let message = self.begin(table, NFT_MSG_NEWRULE, flags, format!("add a rule to {chain}"));
        message.text(2, chain).nest(4, |m| expressions.iter().for_each(|e| e.encode(m)));
    }

    /// Makes a set or a map.
    pub fn add_set(&mut self, table: &Table, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        let concat = set.interval && set.key.0.len() > 1;
        let flags = [
            (set.data.is_some(), NFT_SET_MAP),
            (set.timeouts, NFT_SET_TIMEOUT),
            (set.dynamic, NFT_SET_EVAL),
            (set.interval, NFT_SET_INTERVAL),
            (concat, NFT_SET_CONCAT),
        ];
        let flags = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
        let what = format!("add set {}", set.name);
        let message = self.begin(table, NFT_MSG_NEWSET, NLM_F_CREATE, what);
        message.text(2, &set.name).be32(3, flags).be32(4, set.key.id()).be32(5, set.key.len());
        if let Some(data) = &set.data {
            message.be32(6, data.id()).be32(7, data.len());
        }
        if set.size > 0 || concat {
            message.nest(9, |m| {
                if set.size > 0 {
                    m.be32(1, set.size);
                }
                if concat {
                    m.nest(2, |m| {
                        for field in &set.key.0 {
                            m.nest(NFTA_LIST_ELEM, |m| {
                                m.be32(1, DataType(vec![*field]).len());
                            });
                        }
                    });
                }
            });
        }
        message.be32(10, id);
    }

    /// Deletes a set that no rule uses.
    pub fn delete_set(&mut self, table: &Table, name: &str) {
        self.begin(table, NFT_MSG_DELSET, 0, format!("delete set {name}")).text(2, name);
    }

    /// Adds elements. One that is there with the same data is no error.
    pub fn add_elements(&mut self, table: &Table, set: &str, elements: &[Element]) {
        self.elements(table, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Deletes elements, all of which must be there.
    pub fn delete_elements(&mut self, table: &Table, set: &str, elements: &[Element]) {
        self.elements(table, NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements(
        &mut self,
        table: &Table,
        message: u16,
        flags: u16,
        set: &str,
        elements: &[Element],
    ) {
        let verb = if flags == 0 { "delete" } else { "add" };
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            let what = format!("{verb} elements of {set}");
            let message = self.begin(table, message, flags, what);
            message.text(NFTA_SET_ELEM_LIST_SET, set);
            let start = message.len();
            message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                while let Some(element) = rest.next_if(|_| m.len() - start < LIST_MAX) {
                    m.nest(NFTA_LIST_ELEM, |m| encode_element(m, element, flags != 0));
                }
            });
        }
    }

    /// The bytes to send: begin, every change, end. Also the sequence number of
    /// the begin; the changes count on from there.
    pub(super) fn encode(&self, first: u32, generation: Option<u32>) -> Vec<u8> {
        // `res_id` says which subsystem the batch is for, in network order.
        let header = [0, 0, 0, 10];
        let mut out = Message::default();
        out.next(NFNL_MSG_BATCH_BEGIN, 0, first, &header);
        if let Some(generation) = generation {
            out.be32(NFNL_BATCH_GENID, generation);
        }
        let last = self.messages.len().saturating_sub(1);
        for (n, (message, _)) in self.messages.iter().enumerate() {
            out.append(message);
            // Only the last one is acknowledged, when all of it is done.
            out.set_sequence(first.wrapping_add(1 + n as u32));
            if n == last {
                out.set_flag(NLM_F_ACK);
            }
        }
        let sequence = first.wrapping_add(1 + self.messages.len() as u32);
        out.next(NFNL_MSG_BATCH_END, 0, sequence, &header);
        out.bytes().to_vec()
    }

    /// What the message after the begin with this offset was for.
    pub(super) fn describe(&self, offset: usize) -> &str {
        self.messages.get(offset).map_or("the batch", |(_, what)| what)
    }
}

fn encode_element(message: &mut Message, element: &Element, with_data: bool) {
    message.data(NFTA_SET_ELEM_KEY, &Data::Value(element.key.clone()));
    if let Some(end) = &element.key_end {
        message.data(NFTA_SET_ELEM_KEY_END, &Data::Value(end.clone()));
    }
    if let (Some(data), true) = (&element.data, with_data) {
        message.data(NFTA_SET_ELEM_DATA, data);
    }
    if let (Some(timeout), true) = (element.timeout, with_data) {
        message.attr(NFTA_SET_ELEM_TIMEOUT, &milliseconds(timeout));
    }
}

impl DataType {
    /// A verdict, the data of verdict maps.
    pub fn verdict() -> Self {
        DataType(vec![Field::Verdict])
    }
}

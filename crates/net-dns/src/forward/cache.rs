//! What upstreams said, for as long as they allow.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Answers kept at a time; the oldest goes first.
const ENTRIES_MAX: usize = 1024;
/// Bytes of an answer that is kept: with the number above, 2 MiB at most.
const BYTES_MAX: usize = 2048;
/// Seconds that an answer is kept at most.
const TTL_MAX: u32 = 300;
/// Seconds that "there is none" is kept at most.
const NEGATIVE_TTL_MAX: u32 = 30;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// In lower case.
    pub(super) name: Name,
    pub(super) kind: RecordType,
    pub(super) dnssec: bool,
}

/// Kept as bytes, a tenth of what the parsed message takes.
#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    stored: Instant,
    ttl: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order they came.
    order: VecDeque<Key>,
}

impl Cache {
    /// The answer with what is left of its time to live.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        let age = now.duration_since(entry.stored);
        if age >= entry.ttl {
            return None;
        }
        let mut message = Message::from_vec(&entry.bytes).ok()?;
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.iter_mut().for_each(|r| r.ttl = r.ttl.saturating_sub(seconds));
        }
        Some(message)
    }

    /// Keeps an answer, or a well-founded "there is none"; not failures.
    pub(super) fn put(&mut self, key: Key, message: &Message, now: Instant) {
        let Some(ttl) = ttl_of(message) else { return };
        let Ok(bytes) = message.to_vec() else { return };
        if bytes.len() > BYTES_MAX {
            return;
        }
        let ttl = Duration::from_secs(ttl.into());
        if self.entries.insert(key.clone(), Entry { bytes, stored: now, ttl }).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ENTRIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// Seconds that a message may be kept, if at all.
fn ttl_of(message: &Message) -> Option<u32> {
    let found = message.metadata.response_code == ResponseCode::NoError;
    if !found && message.metadata.response_code != ResponseCode::NXDomain {
        return None;
    }
    let ttl = if found && !message.answers.is_empty() {
        message.answers.iter().map(|r| r.ttl).min()?.min(TTL_MAX)
    } else {
        // RFC 2308: the SOA's minimum, or its own TTL if less.
        let soa = message.authorities.iter().find_map(|r| match &r.data {
            RData::SOA(soa) => Some(soa.minimum.min(r.ttl)),
            _ => None,
        });
        soa?.min(NEGATIVE_TTL_MAX)
    };
    (ttl > 0).then_some(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, SOA};

    fn key(name: &str) -> Key {
        Key { name: Name::from_ascii(name).unwrap(), kind: RecordType::A, dnssec: false }
    }

    fn found(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        let name = Name::from_ascii("x.").unwrap();
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A([1, 2, 3, 4].into()))));
        message
    }

    #[test]
    fn answers_age_and_go() {
        let mut cache = Cache::default();
        let start = Instant::now();
        cache.put(key("x."), &found(100), start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(cache.get(&key("x."), later(40)).unwrap().answers[0].ttl, 60);
        assert!(cache.get(&key("x."), later(100)).is_none());
        assert!(cache.get(&key("y."), start).is_none());
        cache.put(key("x."), &found(100_000), start);
        assert!(
            cache.get(&key("x."), later(299)).is_some()
                && cache.get(&key("x."), later(300)).is_none()
        );
    }

    #[test]
    fn only_what_may_be_kept_is_kept() {
        let mut nothing = Message::response(1, OpCode::Query);
        assert_eq!(ttl_of(&nothing), None);
        nothing.metadata.response_code = ResponseCode::NXDomain;
        let name = Name::from_ascii("x.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 7);
        nothing.add_authority(Record::from_rdata(name, 900, RData::SOA(soa)));
        assert_eq!(ttl_of(&nothing), Some(7));
        nothing.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(ttl_of(&nothing), None);
        assert_eq!(ttl_of(&found(0)), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut cache = Cache::default();
        for n in 0..3000 {
            cache.put(key(&format!("n{n}.")), &found(100), Instant::now());
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert!(cache.get(&key("n2999."), Instant::now()).is_some());
    }
}

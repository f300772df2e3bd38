//! DNS messages: just enough of RFC 1035 to ask one question and read answers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u16);

const KINDS: &[(&str, Kind)] = &[
    ("A", Kind::A),
    ("CNAME", Kind(5)),
    ("PTR", Kind::PTR),
    ("TXT", Kind(16)),
    ("AAAA", Kind::AAAA),
    ("SRV", Kind(33)),
];

impl Kind {
    pub(super) const A: Kind = Kind(1);
    pub(super) const PTR: Kind = Kind(12);
    pub(super) const AAAA: Kind = Kind(28);

    pub(super) fn from_name(name: &str) -> Option<Kind> {
        KINDS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, k)| *k)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().find(|(_, k)| k == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) ttl: u32,
    pub(super) value: String,
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) id: u16,
    pub(super) truncated: bool,
    /// RCODE: 0 is success, 3 is NXDOMAIN.
    pub(super) code: u8,
    pub(super) answers: Vec<Answer>,
}

/// A recursive query; `None` if the name is not a domain name.
pub(super) fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    out.extend(id.to_be_bytes());
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?;
        out.push(length);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.0.to_be_bytes());
    out.extend([0, 1]);
    (out.len() <= 12 + 255 + 4).then_some(out)
}

/// Reads an answer; `None` if it is malformed.
pub(super) fn parse(bytes: &[u8]) -> Option<Response> {
    let mut at = 12;
    let questions = u16_at(bytes, 4)?;
    for _ in 0..questions {
        name_at(bytes, &mut at)?;
        at += 4;
    }
    let mut answers = Vec::new();
    for _ in 0..u16_at(bytes, 6)? {
        let name = name_at(bytes, &mut at)?;
        let kind = Kind(u16_at(bytes, at)?);
        let ttl = u32::from(u16_at(bytes, at + 4)?) << 16 | u32::from(u16_at(bytes, at + 6)?);
        let length = usize::from(u16_at(bytes, at + 8)?);
        at += 10;
        let value = value_at(bytes, kind, at, length)?;
        at += length;
        answers.push(Answer { name, kind, ttl, value });
    }
    Some(Response {
        id: u16_at(bytes, 0)?,
        truncated: bytes.get(2)? & 2 != 0,
        code: bytes.get(3)? & 15,
        answers,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn value_at(bytes: &[u8], kind: Kind, at: usize, length: usize) -> Option<String> {
    let data = bytes.get(at..at + length)?;
    let named = |mut at: usize| name_at(bytes, &mut at);
    Some(match kind.0 {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
        28 => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
        5 | 12 => named(at)?,
        33 => format!(
            "{} {} {} {}",
            u16_at(data, 0)?,
            u16_at(data, 2)?,
            u16_at(data, 4)?,
            named(at + 6)?
        ),
        16 => {
            let mut texts = Vec::new();
            let mut rest = data;
            while let Some((&n, tail)) = rest.split_first() {
                texts.push(format!("{:?}", String::from_utf8_lossy(tail.get(..n.into())?)));
                rest = &tail[n.into()..];
            }
            texts.join(" ")
        }
        _ => data.iter().map(|b| format!("{b:02x}")).collect(),
    })
}

/// The name at `at`, which moves behind it. Pointers may only go backwards and a
/// name has a limit, so that a message cannot loop.
fn name_at(bytes: &[u8], at: &mut usize) -> Option<String> {
    let mut name = String::new();
    let (mut here, mut jumped) = (*at, false);
    loop {
        let length = usize::from(*bytes.get(here)?);
        match length {
            0 => {
                if !jumped {
                    *at = here + 1;
                }
                if name.is_empty() {
                    name.push('.');
                }
                return Some(name);
            }
            1..64 => {
                let label = bytes.get(here + 1..here + 1 + length)?;
                name.push_str(&String::from_utf8_lossy(label));
                name.push('.');
                here += 1 + length;
                if name.len() > 255 {
                    return None;
                }
            }
            192.. => {
                let target = usize::from(u16_at(bytes, here)? & 0x3fff);
                if !jumped {
                    *at = here + 2;
                    jumped = true;
                }
                if target >= here {
                    return None;
                }
                here = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_back_as_a_message_without_answers() {
        let bytes = query(7, "web.default", Kind::A).unwrap();
        let response = parse(&bytes).unwrap();
        assert_eq!((response.id, response.answers.len()), (7, 0));
        assert!(query(7, "a..b", Kind::A).is_none());
        assert!(query(7, &"a".repeat(64), Kind::A).is_none());
    }

    #[test]
    fn answers_with_compressed_names() {
        let mut bytes = query(7, "web.x", Kind::A).unwrap();
        bytes[7] = 2;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 1]);
        bytes.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 8, 0, 1, 0, 2, 0, 80, 0xc0, 12]);
        let response = parse(&bytes).unwrap();
        assert_eq!(response.answers[0].value, "10.0.0.1");
        assert_eq!(response.answers[1].value, "1 2 80 web.x.");
        assert_eq!(response.answers[1].kind.to_string(), "SRV");
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).is_none());
        }
    }

    #[test]
    fn a_pointer_loop_is_refused() {
        let mut bytes = query(7, "w", Kind::A).unwrap();
        bytes[12..14].copy_from_slice(&[0xc0, 12]);
        assert!(parse(&bytes).is_none());
        let mut bytes = query(7, "w.x", Kind::A).unwrap();
        bytes[14..16].copy_from_slice(&[0xc0, 12]);
        assert!(parse(&bytes).is_none());
    }
}

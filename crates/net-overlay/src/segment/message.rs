//! What two nodes say to find out whether they share a segment.

/// Ours, and of which version: later ones may say more behind what is known here.
const HEAD: [u8; 8] = *b"skiffsg\x01";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a node's own address or to that of its pods: are you there?
    Ask,
    /// The same way back.
    Answer,
    /// Packets of pods pass both ways.
    Segment,
    /// Packets of nodes do, those of pods do not.
    Filtered,
    /// To one of the two before.
    Heard,
    /// To who asks of the two: ask me anew.
    Nudge,
}

const KINDS: [(u8, Kind); 6] = [
    (1, Kind::Ask),
    (2, Kind::Answer),
    (3, Kind::Segment),
    (4, Kind::Filtered),
    (5, Kind::Heard),
    (6, Kind::Nudge),
];

/// The number says to what an answer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) number: u64,
}

impl Message {
    pub(super) fn encode(self) -> Vec<u8> {
        let code = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |(code, _)| *code);
        [&HEAD[..], &[code], &self.number.to_be_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, rest) = bytes.strip_prefix(&HEAD)?.split_first()?;
        let (_, kind) = KINDS.iter().find(|(known, _)| known == code)?;
        let number = u64::from_be_bytes(*rest.first_chunk()?);
        Some(Self { kind: *kind, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_is_understood_and_nothing_else() {
        for (_, kind) in KINDS {
            let message = Message { kind, number: 0x0102_0304_0506_0708 };
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Some(message));
            assert_eq!(Message::decode(&[&bytes[..], b"and more"].concat()), Some(message));
            for length in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..length]), None);
            }
        }
        assert_eq!(Message::decode(b"skiffsg\x01\x0712345678"), None);
        assert_eq!(Message::decode(b"skiffsg\x02\x0112345678"), None);
    }
}

//! Base64 (RFC 4648), as lenient as Go is with it: lines may be broken, and of the last
//! sign not all bits are looked at.

/// The bytes of a text, or where it is no base64.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let signs: Vec<(usize, u8)> =
        text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n')).collect();
    let mut bytes = Vec::new();
    for group in signs.chunks(4) {
        let mut bits = 0_u32;
        let mut known = 0;
        for (n, (at, sign)) in group.iter().enumerate() {
            match value(*sign) {
                Some(value) => bits |= value << (18 - 6 * n),
                None if *sign == b'=' && n >= 2 => break,
                None => return Err(*at),
            }
            known += 1;
        }
        let padding = &group[known..];
        match (known, padding) {
            (4, _) | (3, [_]) => {}
            (2, [_, (_, b'=')]) => {}
            (2, [_, (at, _)]) => return Err(at - 1),
            (2, [_]) => return Err(text.len()),
            // The end came before its time.
            _ => return Err(group.last().map_or(0, |(at, _)| at + 1 - known)),
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..known.max(1)]);
        let end = group.last().map_or(0, |(at, _)| at + 1);
        let rest = signs.iter().find(|(at, _)| *at >= end);
        if let Some((at, _)) = rest.filter(|_| !padding.is_empty()) {
            return Err(*at);
        }
    }
    Ok(bytes)
}

fn value(sign: u8) -> Option<u32> {
    let value = match sign {
        b'A'..=b'Z' => sign - b'A',
        b'a'..=b'z' => sign - b'a' + 26,
        b'0'..=b'9' => sign - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_as_go_does_it() {
        for (text, bytes) in [
            ("aGk=", Ok("hi")),
            ("YQ==", Ok("a")),
            ("YR==", Ok("a")),
            ("aGVs\nbG8=\n", Ok("hello")),
            ("", Ok("")),
            ("ConfigMap", Err(8)),
            ("!!", Err(0)),
            ("aGk", Err(0)),
            ("a===", Err(1)),
            ("YQ=x", Err(2)),
            ("YQ=", Err(3)),
            ("YQ==aGk=", Err(4)),
        ] {
            assert_eq!(decode(text), bytes.map(|text| text.as_bytes().to_vec()), "{text}");
        }
    }
}

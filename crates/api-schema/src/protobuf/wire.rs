//! The wire format: tags, varints, lengths.

/// A field's value on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("proto: wrong wireType, expected length-delimited".into()),
        }
    }

    pub(super) fn varint(self) -> Result<u64, String> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err("proto: wrong wireType, expected varint".into()),
        }
    }
}

/// Calls `field` with the number and the value of every field of a message.
pub(super) fn each<'a>(
    mut bytes: &'a [u8],
    mut field: impl FnMut(u32, Wire<'a>) -> Result<(), String>,
) -> Result<(), String> {
    const CUT: &str = "unexpected EOF";
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "proto: illegal tag")?;
        let mut take = |count: usize| -> Result<&'a [u8], String> {
            let (taken, rest) = bytes.split_at_checked(count).ok_or(CUT)?;
            bytes = rest;
            Ok(taken)
        };
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut bytes)?),
            1 => {
                let taken = take(8)?.try_into().map_err(|_| CUT)?;
                Wire::Fixed64(u64::from_le_bytes(taken))
            }
            2 => {
                let length = varint(&mut bytes)?;
                let length = usize::try_from(length).map_err(|_| CUT)?;
                let (taken, rest) = bytes.split_at_checked(length).ok_or(CUT)?;
                bytes = rest;
                Wire::Bytes(taken)
            }
            5 => {
                let taken = take(4)?.try_into().map_err(|_| CUT)?;
                Wire::Fixed32(u32::from_le_bytes(taken))
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        field(number, wire)?;
    }
    Ok(())
}

pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("unexpected EOF")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("proto: integer overflow".into())
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "proto: text is no UTF-8".into())
}

/// How many bytes a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that is a number, a negative one in ten bytes.
pub(super) fn varint_field(out: &mut Vec<u8>, number: u16, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value.cast_unsigned());
}

pub(super) fn fixed64_field(out: &mut Vec<u8>, number: u16, bits: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// The tag and the length of a field whose bytes follow.
pub(super) fn bytes_field_head(out: &mut Vec<u8>, number: u16, len: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len as u64);
}

/// A field that is text, bytes or a message.
pub(super) fn bytes_field(out: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    bytes_field_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Begins a field whose length is only known once it is written; where it begins.
pub(super) fn open(out: &mut Vec<u8>, number: u16) -> usize {
    // Most messages are short, so a byte is set aside and more are made room for.
    bytes_field_head(out, number, 0);
    out.len()
}

/// Ends a field that was opened.
pub(super) fn close(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    let mut len = (end - start) as u64;
    let more = varint_len(len) - 1;
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(start..end, start + more);
    }
    for (at, byte) in out[start - 1..start + more].iter_mut().enumerate() {
        let continues = if at < more { 0x80 } else { 0 };
        *byte = (len & 0x7f) as u8 | continues;
        len >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = each(&bytes, |_, wire| wire.bytes().map(drop));
        }

        #[test]
        fn what_is_written_reads_back(number in 1u16..5000, value: i64, bits: u64, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            varint_field(&mut out, number, value);
            fixed64_field(&mut out, number, bits);
            bytes_field(&mut out, number, &bytes);
            let start = open(&mut out, number);
            out.extend_from_slice(&bytes);
            close(&mut out, start);
            let mut found = Vec::new();
            each(&out, |n, wire| {
                assert_eq!(n, u32::from(number));
                found.push(wire);
                Ok(())
            }).expect("whole");
            let same = Wire::Bytes(&bytes);
            prop_assert_eq!(found, [Wire::Varint(value.cast_unsigned()), Wire::Fixed64(bits), same, same]);
            let mut varint = Vec::new();
            put_varint(&mut varint, bits);
            prop_assert_eq!(varint.len(), varint_len(bits));
        }
    }
}

//! One line of a container's log file, in the CRI's form:
//! `2026-01-02T03:04:05.123456789Z stdout F text`.

use tunnel::LogStream;

/// One record. A long line comes as several, all but the last partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: LogStream,
    pub(crate) partial: bool,
    /// Without the line end.
    pub(crate) text: &'a [u8],
}

/// Reads a line, with or without its end. `None` for what is no record.
pub(crate) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first says whether it goes on.
    let tag = fields.next()?.split(|byte| *byte == b':').next()?;
    let partial = match tag {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(Record { time, stream, partial, text: fields.next().unwrap_or(b"") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records() {
        let record = parse(b"2026-01-02T03:04:05.1Z stdout F a b\n").expect("a record");
        assert_eq!(
            (record.text, record.partial, record.stream),
            (&b"a b"[..], false, LogStream::Stdout)
        );
        let record = parse(b"t stderr P:x \xff").expect("a record");
        assert_eq!(
            (record.text, record.partial, record.stream),
            (&b"\xff"[..], true, LogStream::Stderr)
        );
        assert_eq!(parse(b"t stdout F").map(|r| r.text), Some(&b""[..]));
        for bad in [&b""[..], b"x", b"t stdin F x", b"t stdout G x", b"\xff stdout F x"] {
            assert_eq!(parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&line);
        }
    }
}

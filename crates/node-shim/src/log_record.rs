//! CRI's log format: `<RFC3339Nano> <stream> <F|P> <content>`, one record a
//! line, `P` for a part of a line that goes on in the next record.

/// Content of one record at most; a longer line becomes several.
pub const CONTENT_MAX: usize = 16 * 1024;

/// Turns a stream's bytes into records.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

impl Splitter {
    /// Appends the records that `data` completes, all with one timestamp.
    pub fn split(&mut self, time: &str, stream: &str, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = CONTENT_MAX - self.partial.len();
            let window = &data[..data.len().min(room + 1)];
            match window.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    record(time, stream, 'F', &self.partial, &data[..end], out);
                    self.partial.clear();
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    record(time, stream, 'P', &self.partial, &data[..room], out);
                    self.partial.clear();
                    data = &data[room..];
                }
                None => {
                    self.partial.extend_from_slice(data);
                    data = &[];
                }
            }
        }
        if self.partial.is_empty() {
            // An idle container keeps no buffer.
            self.partial = Vec::new();
        }
    }

    /// Appends what is left at the stream's end: a line without its newline.
    pub fn finish(&mut self, time: &str, stream: &str, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            record(time, stream, 'P', &self.partial, &[], out);
            self.partial = Vec::new();
        }
    }
}

fn record(time: &str, stream: &str, tag: char, head: &[u8], tail: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(&[b' ', tag as u8, b' ']);
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out.push(b'\n');
}

/// RFC 3339 in UTC with nanoseconds, always 30 characters.
pub fn rfc3339(ns_since_1970: u64) -> String {
    let (seconds, ns) = (ns_since_1970 / 1_000_000_000, ns_since_1970 % 1_000_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// `YYYYMMDD-HHMMSS`, the suffix that kubelet gives to rotated logs.
pub fn rotation_suffix(ns_since_1970: u64) -> String {
    let text = rfc3339(ns_since_1970);
    text[..19]
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == 'T')
        .map(|c| if c == 'T' { '-' } else { c })
        .collect()
}

/// Days since 1970-01-01 as a date of the Gregorian calendar (Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(chunks: &[&str], expect: &str) {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.split("T", "stdout", chunk.as_bytes(), &mut out);
        }
        splitter.finish("T", "stdout", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn records() {
        check(&["a\nb\n"], "T stdout F a\nT stdout F b\n");
        check(&["a", "b\n"], "T stdout F ab\n");
        check(&["\n"], "T stdout F \n");
        check(&["no newline"], "T stdout P no newline\n");
        let full = "x".repeat(CONTENT_MAX);
        check(&[&full, "\n"], &format!("T stdout F {full}\n"));
        check(&[&full, "y\n"], &format!("T stdout P {full}\nT stdout F y\n"));
    }

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_709_164_800_000_000_001), "2024-02-29T00:00:00.000000001Z");
        assert_eq!(rotation_suffix(1_709_164_799_000_000_000), "20240228-235959");
    }

    proptest! {
        // Long inputs, so fewer of them.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn nothing_is_lost(chunks in prop::collection::vec(prop::collection::vec(
            prop_oneof![Just(b'\n'), any::<u8>()], 0..20_000), 0..4)) {
            let mut splitter = Splitter::default();
            let mut out = Vec::new();
            for chunk in &chunks {
                splitter.split("T", "s", chunk, &mut out);
            }
            splitter.finish("T", "s", &mut out);
            let mut back = Vec::new();
            for line in out.split_inclusive(|b| *b == b'\n') {
                let content = &line["T s F ".len()..line.len() - 1];
                prop_assert!(content.len() <= CONTENT_MAX);
                back.extend_from_slice(content);
                if line[4] == b'F' {
                    back.push(b'\n');
                }
            }
            prop_assert_eq!(back, chunks.concat());
        }
    }
}

//! Sets of indexes as Jobs write them: `1,3-5,7`.

/// How many indexes a text stands for, all below `completions`.
///
/// # Errors
/// Why it is no increasing list of indexes, in upstream's words.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    Ok(intervals(text, completions)?.iter().map(|(first, last)| last - first + 1).sum())
}

/// The first index that two sets share.
pub(super) fn overlap(a: &[(i64, i64)], b: &[(i64, i64)]) -> Option<i64> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        if x.0 <= y.1 && y.0 <= x.1 {
            return Some(x.0.max(y.0));
        }
        if x.0 <= y.0 {
            a.next()
        } else {
            b.next()
        };
    }
    None
}

/// The intervals of a text, first and last index of each.
///
/// # Errors
/// As [`count`].
pub(super) fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = interval(part, completions)?;
        if let Some((_, previous)) = out.last().filter(|(_, previous)| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        out.push((first, last));
    }
    Ok(out)
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| -> Result<i64, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|_| digits);
        let number = number
            .ok_or_else(|| format!("cannot convert string to integer for index: {text:?}"))?;
        match number < completions {
            true => Ok(number),
            false => Err(format!("too large index: {text:?}")),
        }
    };
    let mut limits = text.split('-');
    let first = number(limits.next().unwrap_or_default())?;
    let Some(last) = limits.next() else { return Ok((first, first)) };
    if limits.next().is_some() {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let last = number(last)?;
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_of_indexes() {
        for (text, expect) in [
            ("", Ok(0)),
            ("1,3-5,7", Ok(5)),
            ("0-9", Ok(10)),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("5-5", Err("non-increasing order, previous: 5, current: 5")),
            ("10", Err("too large index: \"10\"")),
            ("1-x", Err("cannot convert string to integer for index: \"x\"")),
            ("1,", Err("cannot convert string to integer for index: \"\"")),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
        ] {
            assert_eq!(count(text, 10), expect.map_err(str::to_owned), "{text}");
        }
    }

    fn written(set: &[bool]) -> String {
        let mut parts = Vec::new();
        let mut at = 0;
        while at < set.len() {
            let len = set[at..].iter().take_while(|there| **there).count();
            match len {
                0 => {}
                1 => parts.push(at.to_string()),
                n => parts.push(format!("{at}-{}", at + n - 1)),
            }
            at += len.max(1);
        }
        parts.join(",")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            a in prop::collection::vec(any::<bool>(), 0..40),
            b in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let read = |set: &[bool]| intervals(&written(set), 40).expect("increasing");
            let size = a.iter().filter(|there| **there).count();
            prop_assert_eq!(count(&written(&a), 40), Ok(size as i64));
            let shared = a.iter().zip(&b).position(|(a, b)| *a && *b);
            prop_assert_eq!(overlap(&read(&a), &read(&b)), shared.map(|at| at as i64));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9,x-]{0,12}") {
            if let Ok(count) = count(&text, 100) {
                prop_assert!((0..=100).contains(&count));
            }
        }
    }
}

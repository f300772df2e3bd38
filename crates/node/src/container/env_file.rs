//! Files that variables come from (KEP-3721): `NAME='value'` a line, where a
//! value may go over several lines and nothing in it is special.

/// The value of a name; `None` where the file does not have it. The first one
/// counts.
///
/// # Errors
/// The line at which the file is something else.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>, String> {
    let mut rest = text;
    let mut line = 1;
    let mut found = None;
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let trimmed = rest[..end].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or("");
            line += 1;
            continue;
        }
        let fault =
            |what: &str| Err(format!("invalid environment variable format at line {line}: {what}"));
        let Some((name, after)) = rest.split_once('=') else { return fault("no '='") };
        let name = name.trim_start();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return fault("not a name");
        }
        let Some((quoted, after)) = after.strip_prefix('\'').and_then(|s| s.split_once('\''))
        else {
            return fault("the value is not between single quotes");
        };
        let (tail, after) = after.split_once('\n').unwrap_or((after, ""));
        if !tail.trim().is_empty() && !tail.trim_start().starts_with('#') {
            return fault("something follows the value");
        }
        if name == key && found.is_none() {
            found = Some(quoted);
        }
        line += 1 + quoted.matches('\n').count();
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        let text = "# a comment\n\nA='1'\n  B='two\nlines $x \"'  # why\nA='2'\nEMPTY=''";
        for (key, expected) in
            [("A", Some("1")), ("B", Some("two\nlines $x \"")), ("EMPTY", Some("")), ("C", None)]
        {
            assert_eq!(value(text, key), Ok(expected), "{key}");
        }
        for (bad, line) in [
            ("A=1", 1),
            ("\nA='1' x", 2),
            ("A='1\n'\nB='", 3),
            ("A B='1'", 1),
            ("='x'", 1),
            ("A", 1),
        ] {
            let error = value(bad, "A").expect_err(bad);
            assert!(error.contains(&format!("line {line}:")), "{bad:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_survived(text in "[A'=#\\n é]{0,40}") {
            let _ = value(&text, "A");
        }
    }
}

//! The one line from which the Raspberry Pi's firmware takes the kernel's
//! command line, and the words that switch the memory cgroup on.

/// What the kernel of Raspberry Pi OS needs to hear; older ones the second word.
const WORDS: [&str; 2] = ["cgroup_enable=memory", "cgroup_memory=1"];
/// What says the opposite.
const AGAINST: [&str; 2] = ["cgroup_disable=memory", "cgroup_memory=0"];

/// Whether everything is there already, so that only a reboot is missing.
pub(crate) fn is_amended(text: &str) -> bool {
    amended(text) == text
}

/// The text with the words added to its first line, which is the only one that
/// the firmware reads. Everything else stays as it is, to the byte.
pub(crate) fn amended(text: &str) -> String {
    let (line, rest) = match text.find('\n') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let has = |word: &str| line.split_ascii_whitespace().any(|given| given == word);
    let mut line = match AGAINST.iter().any(|word| has(word)) {
        // The last word counts for the kernel, so those against it go.
        true => line
            .split_ascii_whitespace()
            .filter(|word| !AGAINST.contains(word))
            .collect::<Vec<_>>()
            .join(" "),
        false => line.to_owned(),
    };
    for word in WORDS {
        if !has(word) {
            let carriage_return = line.ends_with('\r');
            line.truncate(line.trim_end().len());
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            if carriage_return {
                line.push('\r');
            }
        }
    }
    line + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_to_the_end_of_the_one_line() {
        for (before, after) in [
            (
                "console=tty1 rootwait\n",
                "console=tty1 rootwait cgroup_enable=memory cgroup_memory=1\n",
            ),
            ("rootwait", "rootwait cgroup_enable=memory cgroup_memory=1"),
            ("rootwait \n\n", "rootwait cgroup_enable=memory cgroup_memory=1\n\n"),
            ("a\r\n", "a cgroup_enable=memory cgroup_memory=1\r\n"),
            ("cgroup_memory=1 a\n", "cgroup_memory=1 a cgroup_enable=memory\n"),
            ("a cgroup_disable=memory b\n", "a b cgroup_enable=memory cgroup_memory=1\n"),
            ("", "cgroup_enable=memory cgroup_memory=1"),
        ] {
            assert_eq!(amended(before), after, "{before:?}");
            assert!(!is_amended(before), "{before:?}");
            assert!(is_amended(after), "{after:?}");
        }
    }
}

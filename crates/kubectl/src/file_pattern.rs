//! Paths with `*`, `?` and `[…]`, for who quotes them: as Go's filepath.Glob finds files.
//! (<https://pkg.go.dev/path/filepath#Match>)

use std::path::{Component, Path, PathBuf};

/// Whether a path means more than itself.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Every path that a pattern means, in the order of their names; folders that cannot be read
/// have none.
pub(crate) fn paths(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let text = component.as_os_str().to_string_lossy();
        found = match component {
            Component::Normal(_) if is_pattern(&text) => {
                found.iter().flat_map(|folder| entries(folder, &text)).collect()
            }
            _ => found.iter().map(|folder| folder.join(component)).collect(),
        };
    }
    found.retain(|path| path.exists());
    found
}

fn entries(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern: Vec<char> = pattern.chars().collect();
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
    let fits = |name: &String| matches(&pattern, &name.chars().collect::<Vec<_>>());
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(fits).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a name fits: where a `*` stood, it takes one more where the rest does not.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(_) => {
                if let Some(length) = one(&pattern[p..], name[n]) {
                    (p, n) = (p + length, n + 1);
                    continue;
                }
            }
            None => {}
        }
        let Some((at, taken)) = star else { return false };
        star = Some((at, taken + 1));
        (p, n) = (at + 1, taken + 1);
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of a pattern, which is not empty, means this letter; `None` where it does not.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        '\\' => pattern.get(1).filter(|c| **c == letter).map(|_| 2),
        '[' => {
            let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let (not, set) = match pattern[1] {
                '^' => (true, &pattern[2..end]),
                _ => (false, &pattern[1..end]),
            };
            let mut at = 0;
            let mut is_in = false;
            while at < set.len() {
                match set.get(at + 1..at + 3) {
                    Some(['-', last]) => {
                        is_in |= (set[at]..=*last).contains(&letter);
                        at += 3;
                    }
                    _ => {
                        is_in |= set[at] == letter;
                        at += 1;
                    }
                }
            }
            (is_in != not).then_some(end + 1)
        }
        c => (c == letter).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_go_says() {
        for (pattern, name, fits) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
            ("?.json", "é.json", true),
            ("?", "", false),
            ("[ab]x", "bx", true),
            ("[^ab]x", "bx", false),
            ("[a-c]", "b", true),
            ("[a-c]", "d", false),
            ("[a", "a", false),
            ("[]", "]", false),
            ("\\*", "*", true),
            ("\\", "x", false),
        ] {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(matches(&letters(pattern), &letters(name)), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_folders() {
        let dir = std::env::temp_dir().join(format!("kubectl-pattern-{}", std::process::id()));
        for folder in ["a1", "a2", "b"] {
            std::fs::create_dir_all(dir.join(folder)).expect("our own folder");
            std::fs::write(dir.join(folder).join("x.yaml"), "").expect("our own folder");
        }
        let found = |pattern: &str| paths(&dir.join(pattern).to_string_lossy());
        assert_eq!(found("a*/*.yaml"), [dir.join("a1/x.yaml"), dir.join("a2/x.yaml")]);
        assert_eq!(found("*/none"), [] as [PathBuf; 0]);
        std::fs::remove_dir_all(&dir).expect("our own folder");
    }
}

//! What is wrong with an expression, shown as `cel-go` shows it: place, words,
//! the line of source and a caret under it.

use std::fmt;

/// Errors past this many are counted and not kept.
const ISSUES_MAX: usize = 100;
/// A source line of more code points is not shown.
const SNIPPET_LEN_MAX: usize = 16_384;

/// All that is wrong with one expression. Displays as upstream prints it, one
/// issue after the other by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: String,
    issues: Vec<Issue>,
    count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Issue {
    /// In code points; `None` for the expression as a whole.
    offset: Option<u32>,
    message: String,
}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), issues: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, offset: impl Into<Option<u32>>, message: impl Into<String>) {
        self.count += 1;
        if self.count <= ISSUES_MAX {
            self.issues.push(Issue { offset: offset.into(), message: message.into() });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Issue> = self.issues.iter().collect();
        sorted.sort_by_key(|issue| issue.offset);
        for (nth, issue) in sorted.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            show(f, &self.source, issue)?;
        }
        match self.count.saturating_sub(ISSUES_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors were truncated"),
        }
    }
}

impl std::error::Error for Issues {}

fn show(f: &mut fmt::Formatter<'_>, source: &str, issue: &Issue) -> fmt::Result {
    let Some(offset) = issue.offset else {
        return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
    };
    let mut left = offset as usize;
    for (nth, line) in source.split('\n').enumerate() {
        let len = line.chars().count();
        if left > len {
            left -= len + 1;
            continue;
        }
        write!(f, "ERROR: <input>:{}:{}: {}", nth + 1, left + 1, issue.message)?;
        if len > SNIPPET_LEN_MAX {
            return Ok(());
        }
        // Wide characters get wide dots, so that the caret stays below its character.
        let wide = |c: char| c.len_utf8() > 1;
        let dots: String =
            line.chars().take(left).map(|c| if wide(c) { '．' } else { '.' }).collect();
        let caret = if line.chars().nth(left).is_some_and(wide) { '＾' } else { '^' };
        return write!(f, "\n | {}\n | {dots}{caret}", line.replace('\t', " "));
    }
    write!(f, "ERROR: <input>:-1:0: {}", issue.message)
}

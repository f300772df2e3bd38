//! Findings as people and scripts read them.

use super::{Finding, Findings, Level};

/// One line a finding, what to do below it, and the sum at the end.
pub(crate) fn text(findings: &Findings) -> String {
    let width = findings.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, Finding { level, says, remedy }) in findings {
        let word = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Fatal => "FATAL",
        };
        text.push_str(&format!("{word:8} {name:width$}  {says}\n"));
        if !remedy.is_empty() {
            text.push_str(&format!("{:9}{:width$}  -> {remedy}\n", "", ""));
        }
    }
    let count = |wanted: Level| findings.iter().filter(|(_, f)| f.level == wanted).count();
    let (fatal, warnings) = (count(Level::Fatal), count(Level::Warning));
    let some = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    text.push_str(&match (fatal, warnings) {
        (0, 0) => "\nThis machine is fit for a server and for an agent.\n".to_owned(),
        (0, n) => format!("\nThis machine is fit; {} above.\n", some(n, "warning")),
        (n, _) => format!("\nThis machine is not fit yet: {} above.\n", some(n, "fatal finding")),
    });
    text
}

/// A list of `{check, level, says, do}`.
pub(crate) fn json(findings: &Findings) -> serde_json::Value {
    findings
        .iter()
        .map(|(name, finding)| {
            let mut row = serde_json::json!(finding);
            row["check"] = (*name).into();
            row
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_whether_it_is_fit() {
        let ok = ("root", Finding::ok("this is root"));
        let slow = ("disk", Finding::warning("slow", "use another"));
        let old = ("kernel", Finding::fatal("Linux 4.9", "update"));
        assert_eq!(
            text(&vec![ok.clone(), slow.clone(), old.clone()]),
            "ok       root    this is root\n\
             warning  disk    slow\n                 -> use another\n\
             FATAL    kernel  Linux 4.9\n                 -> update\n\
             \nThis machine is not fit yet: 1 fatal finding above.\n"
        );
        assert!(text(&vec![ok.clone(), slow.clone()]).ends_with("is fit; 1 warning above.\n"));
        assert!(text(&vec![ok.clone()]).ends_with("for an agent.\n"));
        assert_eq!(
            json(&vec![ok, old])[1],
            serde_json::json!({"check": "kernel", "level": "fatal", "says": "Linux 4.9", "do": "update"})
        );
    }
}

//! When a row of results changes a probe's mind. Pure.

/// Counts results in a row.
#[derive(Debug, Clone)]
pub(crate) struct Thresholds {
    mind: bool,
    success: u32,
    failure: u32,
    last: bool,
    row: u32,
    /// Whether anything was told: the first verdict is told even where it is
    /// what was assumed, for a startup probe that has used up its failures.
    failed_once: bool,
}

impl Thresholds {
    pub(crate) fn new(mind: bool, success: i32, failure: i32) -> Self {
        let count = |n: i32, default| u32::try_from(n).ok().filter(|n| *n > 0).unwrap_or(default);
        Self {
            mind,
            success: count(success, 1),
            failure: count(failure, 3),
            last: false,
            row: 0,
            failed_once: false,
        }
    }

    /// Takes in a result; answers with the new mind where it changed.
    pub(crate) fn count(&mut self, ok: bool) -> Option<bool> {
        if ok != self.last {
            self.row = 0;
        }
        self.last = ok;
        self.row = self.row.saturating_add(1);
        let needed = if ok { self.success } else { self.failure };
        let news = ok != self.mind || (!ok && !self.failed_once);
        if self.row < needed || !news {
            return None;
        }
        self.mind = ok;
        self.failed_once |= !ok;
        Some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mind: bool, success: i32, failure: i32, results: &str, expected: &str) {
        let mut thresholds = Thresholds::new(mind, success, failure);
        let said: String = results
            .chars()
            .map(|c| match thresholds.count(c == '+') {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(said, expected, "{results}");
    }

    #[test]
    fn rows_change_the_mind() {
        check(false, 1, 3, "-+++", ".+..");
        check(true, 1, 3, "--+---+", ".....-+");
        check(false, 2, 1, "+-++", ".-.+");
        check(false, 1, 3, "---", "..-");
        check(true, 0, 0, "---", "..-");
    }
}

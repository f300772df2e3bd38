//! Elastic tab stops, as Go's `text/tabwriter` sets them: a column is a run of
//! lines that each have a cell ended by a tab there, and is as wide as its
//! widest cell.

/// How columns are padded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tabs {
    /// The least width of a column, padding included.
    pub(crate) width_min: usize,
    /// Spaces behind the widest cell.
    pub(crate) padding: usize,
}

/// Tables: at least six wide, three apart.
pub(crate) const TABLE: Tabs = Tabs { width_min: 6, padding: 3 };
/// Descriptions: two apart.
pub(crate) const DESCRIPTION: Tabs = Tabs { width_min: 0, padding: 2 };

impl Tabs {
    /// Lays out text whose cells end with tabs. A form feed ends a line and all
    /// columns.
    pub(crate) fn lay_out(self, text: &str) -> String {
        let mut out = String::new();
        for section in text.split_inclusive('\x0c') {
            let section = match section.strip_suffix('\x0c') {
                Some(section) => format!("{section}\n"),
                None => section.to_owned(),
            };
            let ended = section.ends_with('\n');
            let mut lines: Vec<&str> = section.split('\n').collect();
            if ended {
                lines.pop();
            }
            let cells: Vec<Vec<&str>> =
                lines.iter().map(|line| line.split('\t').collect()).collect();
            let mut widths: Vec<Vec<usize>> =
                cells.iter().map(|row| vec![0; row.len().saturating_sub(1)]).collect();
            self.measure(&cells, &mut widths, 0, cells.len(), 0);
            for (at, (row, widths)) in cells.iter().zip(&widths).enumerate() {
                for (i, cell) in row.iter().enumerate() {
                    out.push_str(cell);
                    if let Some(width) = widths.get(i) {
                        let used = cell.chars().count();
                        out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
                    }
                }
                if ended || at + 1 < cells.len() {
                    out.push('\n');
                }
            }
        }
        out
    }

    /// Sets the widths of one column in lines `from..to`, then of those to its
    /// right.
    fn measure(
        self,
        cells: &[Vec<&str>],
        widths: &mut [Vec<usize>],
        from: usize,
        to: usize,
        column: usize,
    ) {
        let has = |line: usize| cells[line].len() > column + 1;
        let mut line = from;
        while line < to {
            if !has(line) {
                line += 1;
                continue;
            }
            let start = line;
            while line < to && has(line) {
                line += 1;
            }
            let lines = start..line;
            let widest = lines.clone().map(|at| cells[at][column].chars().count()).max();
            let widest = widest.unwrap_or(0);
            let width = (widest + self.padding).max(self.width_min);
            for at in lines {
                widths[at][column] = width;
            }
            self.measure(cells, widths, start, line, column + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_runs_of_lines() {
        let text = "Name:\tweb\nA much longer name:\tx\nNo columns here\nIP:\t1\n";
        assert_eq!(
            DESCRIPTION.lay_out(text),
            "Name:                web\nA much longer name:  x\nNo columns here\nIP:  1\n"
        );
        assert_eq!(TABLE.lay_out("N\tREADY\nbad\t0/1\n"), "N     READY\nbad   0/1\n");
        assert_eq!(DESCRIPTION.lay_out("a\t\tb\nccc\t\td\n"), "a      b\nccc    d\n");
        assert_eq!(TABLE.lay_out("A\tB\t\nx\ty\t\n"), "A     B     \nx     y     \n");
    }
}

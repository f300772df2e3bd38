//! The table that is printed.

use std::time::Instant;

use crate::process;

/// The rows so far.
pub(crate) struct Rows {
    rows: Vec<Row>,
    last: Instant,
}

struct Row {
    what: String,
    target: &'static str,
    measured: String,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), last: Instant::now() }
    }

    /// Adds a row, and says at once what was measured and how long it took.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        target: &'static str,
        measured: impl Into<String>,
    ) {
        let row = Row { what: what.into(), target, measured: measured.into() };
        let took = self.last.elapsed().as_secs_f64();
        eprintln!("{}: {} (took {took:.1} s)", row.what, row.measured);
        self.rows.push(row);
        self.last = Instant::now();
    }

    /// The table in Markdown.
    pub(crate) fn print(&self) {
        println!("\nMachine: {}\n", process::machine());
        println!("| what | target | measured |\n|---|---|---|");
        for Row { what, target, measured } in &self.rows {
            println!("| {what} | {target} | {measured} |");
        }
    }
}

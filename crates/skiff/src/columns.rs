//! Rows as commands print them, each column under its head.

/// A line a row; columns are as wide as their widest cell and two spaces apart.
pub(crate) fn lay_out<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_in_any_script() {
        let rows = [["NAME", "SIZE", "NOTE"], ["kühl", "1", ""], ["longer", "10", "x"]];
        let text = lay_out(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(text, "NAME    SIZE  NOTE\nkühl    1\nlonger  10    x\n");
    }

    #[test]
    fn no_rows_are_no_text() {
        assert_eq!(lay_out::<2>(&[]), "");
    }
}

//! Aligned columns.

/// Which end of a column its cells stand at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Writes rows under headings, two spaces between columns, nothing after the last cell.
pub(super) fn render<const N: usize>(
    indent: usize,
    columns: [(&str, Align); N],
    rows: &[[String; N]],
) -> String {
    let headings = columns.map(|(heading, _)| heading.to_owned());
    let mut widths = [0; N];
    for row in std::iter::once(&headings).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = " ".repeat(indent);
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(columns) {
            let padded = match align {
                Align::Left => format!("{cell:<width$}  "),
                Align::Right => format!("{cell:>width$}  "),
            };
            line.push_str(&padded);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Align, render};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["longer", "22,000"]].map(|row| row.map(str::to_owned));
        let text = render(2, [("NAME", Align::Left), ("N", Align::Right)], &rows);
        assert_eq!(text, "  NAME         N\n  a            1\n  longer  22,000\n");
    }
}

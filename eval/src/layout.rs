//! Cells under headings, as aligned text and as Markdown: what all tables share.

/// Aligned plain text: the first column to the left, numbers to the right, no colour.
pub(crate) fn aligned(headings: &[&str], cells: &[Vec<String>]) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let widest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            widest.max(heading.chars().count())
        })
        .collect();
    let line = |row: &[String]| {
        let pad = |(column, (cell, width)): (usize, (&String, &usize))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        let padded: Vec<String> = row.iter().zip(&widths).enumerate().map(pad).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let heading_cells: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let mut text = line(&heading_cells);
    text.push_str(&line(&rule));
    cells.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// A Markdown table of the same cells.
pub(crate) fn markdown(headings: &[&str], cells: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n", headings.join(" | "));
    let rule: Vec<&str> =
        (0..headings.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
    text.push_str(&format!("| {} |\n", rule.join(" | ")));
    cells.iter().for_each(|row| text.push_str(&format!("| {} |\n", row.join(" | "))));
    text
}

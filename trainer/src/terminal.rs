//! What the commands print: tables and JSON on standard output, bars and remarks on standard error.

use crate::error::{Result, TrainError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::Write;

/// A bar over `total` steps; hidden where standard error is no terminal.
pub fn bar(what: &str, total: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:28} {pos}/{len}  {per_sec}  {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// A bar of `length` steps of training, or one that draws nothing.
pub fn steps_bar(length: u64, show: bool) -> ProgressBar {
    let bar = if show { ProgressBar::new(length) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} left {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Data: `value` as JSON where `json`, else `text`. A reader that has gone is no error.
pub fn print(value: &impl Serialize, text: &str, json: bool) -> Result<()> {
    let shown = if json {
        let json = serde_json::to_string_pretty(value);
        json.map_err(|error| TrainError::content("standard output", "a value that is JSON", error))? + "\n"
    } else {
        text.to_owned()
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(TrainError::File { action: "write", path: "standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Rows in columns: the first aligned left, the others right. The first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text as one line without control characters, cut to `limit` characters: it may come from a document or a model.
pub fn one_line(text: &str, limit: usize) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_are_harmless() {
        let rows = [vec!["a".into(), "10".into()], vec!["longer".to_owned(), "7".to_owned()]];
        assert_eq!(table(&rows), "a       10\nlonger   7\n");
        assert_eq!(one_line("a\u{1b}[31m\n b", 20), "a [31m b");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }
}

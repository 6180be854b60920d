//! Talking to people and to programs: data on standard output, everything else on standard error.
//!
//! Colour only adds: words and signs carry the meaning. Progress bars are drawn on a terminal and are absent
//! elsewhere, where a single line says what is being done. Neighbours: every command prints through [`Terminal`].

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a run of the program prints.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Data as JSON.
    pub json: bool,
    /// No talk but errors.
    pub quiet: bool,
    colors_data: bool,
    colors_talk: bool,
    width: usize,
}

/// A role that text plays; what it looks like is decided here alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Headings, names.
    Strong,
    /// Side remarks.
    Faint,
    /// What was kept, what passed.
    Good,
    /// What was cut off, what failed.
    Bad,
    /// Queries and other quoted text.
    Quoted,
}

impl Ink {
    /// Select Graphic Rendition code of ECMA-48; the eight basic colours follow the reader's own theme.
    fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Quoted => "36",
        }
    }
}

/// Widest line for prose where the terminal is wider, or where there is none.
const READABLE_COLUMNS: usize = 110;

impl Terminal {
    /// Looks at both streams once.
    pub fn new(color: ColorChoice, no_color: bool, json: bool, quiet: bool) -> Self {
        let wanted = |is_terminal: bool| match color {
            ColorChoice::Auto => is_terminal && !no_color,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let stdout = console::Term::stdout();
        let width = stdout.size_checked().map_or(READABLE_COLUMNS, |(_, columns)| usize::from(columns));
        Self {
            json,
            quiet,
            colors_data: wanted(std::io::stdout().is_terminal()),
            colors_talk: wanted(std::io::stderr().is_terminal()),
            width: width.clamp(40, READABLE_COLUMNS),
        }
    }

    /// Columns that data for people may take.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `text` in a role, for standard output.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        painted(self.colors_data, ink, text)
    }

    /// Writes data for people.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
    }

    /// Writes data for programs: one JSON value, indented, and a line end.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(format!("writing JSON: {error}")))?;
        self.print(&format!("{text}\n"))
    }

    /// Says something on standard error, unless quiet. A reader that has gone is ignored.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Says something the user should act on; printed even when quiet.
    pub fn warn(&self, text: &str) {
        let label = painted(self.colors_talk, Ink::Strong, "warning:");
        let _ = writeln!(std::io::stderr().lock(), "{label} {text}");
    }

    /// Prints the `error:` chain and the `hint:`.
    pub fn report(&self, failure: &Failure) {
        let mut causes = failure.causes().into_iter();
        let label = painted(self.colors_talk, Ink::Bad, "error:");
        let mut text = format!("{label} {}\n", causes.next().unwrap_or_default());
        for cause in causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        if let Some(hint) = failure.hint_text() {
            let hint_label = painted(self.colors_talk, Ink::Strong, "hint:");
            text.push_str(&format!("\n{hint_label} {hint}\n"));
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// A bar over `total` steps of one kind (`documents`, `queries`). Without a terminal, one line is said.
    pub fn bar(&self, what: &str, total: u64, unit: &str) -> ProgressBar {
        let bar = self.start(what, Some(total));
        bar.set_style(style(&format!(
            "{{msg}} {{bar:28}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"
        )));
        bar
    }

    /// A bar over bytes; `None` where the total is not known.
    pub fn byte_bar(&self, what: &str, total: Option<u64>) -> ProgressBar {
        let bar = self.start(what, total);
        let template = match total {
            Some(_) => "{msg} {bar:28} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            None => "{spinner} {msg} {bytes}  {elapsed}",
        };
        bar.set_style(style(template));
        bar
    }

    /// A sign of life beside work whose length is not known.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        let bar = self.start(what, None);
        bar.set_style(style("{spinner} {msg}  {elapsed}"));
        bar
    }

    fn start(&self, what: &str, total: Option<u64>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if self.quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        } else if bar.is_hidden() {
            self.say(what);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏✓")
}

fn painted(colors: bool, ink: Ink, text: &str) -> String {
    if colors && !text.is_empty() {
        format!("\u{1b}[{}m{text}\u{1b}[0m", ink.code())
    } else {
        text.to_owned()
    }
}

/// Whether a character of a document or a model may reach a terminal: no control characters, and none of the marks
/// that turn the direction of the text around them.
fn is_harmless(c: char) -> bool {
    let turns_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns_direction
}

/// Columns that a text takes, without colour codes.
pub(crate) fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The first `limit` columns of a text as one line, with an ellipsis where something was cut.
pub(crate) fn fitted(text: &str, limit: usize) -> String {
    let one_line: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| is_harmless(*c)).collect();
    console::truncate_str(&one_line, limit.max(1), "…").into_owned()
}

/// Words of a text in lines of at most `limit` columns; at least one line; harmful characters are dropped.
pub(crate) fn wrapped(text: &str, limit: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| is_harmless(*c)).collect();
        let last = lines.last().map_or(0, |line| columns(line));
        if last != 0 && limit < last + 1 + columns(&word) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position != 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_cut_by_columns() {
        assert_eq!(wrapped("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrapped("", 8), [""]);
        assert_eq!(fitted("one\ntwo three", 9), "one two …");
        assert_eq!(fitted("a\u{1b}[31mb\u{202e}c", 9), "a[31mbc");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}

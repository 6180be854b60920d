//! Answers on stdout, progress on stderr: what the commands of `orion-train` share.

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a value as indented JSON on stdout.
pub fn print_json(value: &impl serde::Serialize) {
    // Types of this crate have string keys and no failing serialisers.
    if let Ok(json) = serde_json::to_string_pretty(value) {
        println!("{json}");
    }
}

/// A bar of `length` steps on stderr, or one that draws nothing.
pub fn bar(length: u64, show: bool) -> ProgressBar {
    let bar = if show { ProgressBar::new(length) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} left {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

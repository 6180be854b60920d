//! The mask, made visible: which tokens of a trajectory carry loss.

use crate::data::Example;
use orion_policy::PolicyTokenizer;
use std::fmt::Write;

/// Learned tokens in green, the rest dim; without colour, learned tokens stand between `[` and `]`.
pub fn mask(example: &Example, tokenizer: &PolicyTokenizer, colour: bool) -> String {
    let mut text = String::new();
    let mut start = 0;
    while start < example.tokens.len() {
        let learned = example.learn[start];
        let end = (start..example.tokens.len())
            .find(|place| example.learn[*place] != learned)
            .unwrap_or(example.tokens.len());
        let words = tokenizer.decode(&example.tokens[start..end]);
        // Writing to a string cannot fail.
        let _ = match (colour, learned) {
            (true, true) => write!(text, "\x1b[32m{words}\x1b[0m"),
            (true, false) => write!(text, "\x1b[2m{words}\x1b[0m"),
            (false, true) => write!(text, "[{words}]"),
            (false, false) => write!(text, "{words}"),
        };
        start = end;
    }
    text
}

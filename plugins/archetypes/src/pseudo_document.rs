//! The eleventh, not in the paper's table: writes what an answer might look like and searches for that.
//!
//! An answer is closer to documents than a question is (Gao et al., arXiv:2212.10496); the question stays in it (Wang et
//! al., arXiv:2303.07678). Movement: a passage that begins as an answer to the question would, goes on with what the
//! policy proposes, and, from the second turn on, with sentences of the best results so far: each turn rewrites
//! the passage from better material.

use orion_sdk::parameters::Integer;
use orion_sdk::text::{beginning, is_stop_word, words};
use orion_sdk::{Host, Parameter, Snippet};

use crate::offers::Offer;
use crate::walk::{Halt, ROOT, Stop, Walk};

/// Ours: three or four sentences, and well within the 256 tokens that the encoder reads.
const PASSAGE_WORDS: Integer = Integer {
    name: "passage-words",
    default: 64,
    min: 8,
    max: 512,
    help: "length limit of the passage, in words",
};

/// Characters of each result that go into the passage: a sentence or two.
const QUOTED_CHARS: usize = 120;

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![PASSAGE_WORDS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let passage_words = PASSAGE_WORDS.read(&walk.request.options)? as usize;
    while walk.left() > 0 {
        let best = walk.best();
        let beginning_of_answer = statement(&walk.request.query);
        let quoted = quoted(&walk.documents(best), walk.turn_number());
        // A rule has only the question's own words to offer; a policy may too, and the passage then does without.
        let by_policy = walk.offers(best, 1)?.into_iter().filter(|offer| offer.node.is_some());
        let mut proposed: Vec<String> = by_policy.map(|offer| offer.query).collect();
        proposed.push(String::new());
        let mut passages = proposed.into_iter().map(|proposal| {
            let sentences = [&[beginning_of_answer.clone(), proposal], quoted.as_slice()].concat();
            limited(&sentences, passage_words)
        });
        let Some(passage) = passages.find(|passage| walk.is_new(passage)) else { return Ok(Stop::Exhausted) };
        let why = match best {
            ROOT => "I write what an answer might look like and search for that.".to_owned(),
            _ => format!(
                "The results of the passage so far ({:.2}) show how an answer is worded, so I write it again.",
                walk.step(best).quality
            ),
        };
        walk.go(best, Offer::own(passage), why)?;
    }
    Ok(Stop::Turns)
}

/// The beginnings of documents. Each turn starts with another one, so that no two passages are the same.
fn quoted(documents: &[Snippet], turn: usize) -> Vec<String> {
    let mut texts: Vec<String> =
        documents.iter().map(|document| beginning(&document.text, QUOTED_CHARS)).collect();
    let length = texts.len();
    texts.rotate_left(turn % length.max(1));
    texts
}

/// How an answer to the question would begin; a claim is stated.
fn statement(question: &str) -> String {
    let trimmed = question.trim().trim_end_matches(['?', '.', '!']);
    let (asks, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
    let subject = match asks.to_lowercase().as_str() {
        "who" => "The one who",
        "when" => "The time when",
        "where" => "The place where",
        "why" => "The reason why",
        "how" => "The way in which",
        "what" | "which" => "What",
        _ => return format!("It has been found that {trimmed}."),
    };
    // Do, does and did carry the question, not the answer.
    let rest = ["do ", "does ", "did "].iter().find_map(|verb| rest.strip_prefix(verb)).unwrap_or(rest);
    format!("{subject} {rest} is as follows.")
}

/// The sentences one after another, at most `most` words; what only repeats words that are there already is left out.
fn limited(sentences: &[String], most: usize) -> String {
    let mut passage: Vec<&str> = Vec::new();
    let mut known: Vec<String> = Vec::new();
    for sentence in sentences {
        let spoken = words(sentence);
        let says_something_new = spoken.iter().any(|word| !known.contains(word) && !is_stop_word(word));
        if says_something_new {
            passage.extend(sentence.split_whitespace());
            known.extend(spoken);
        }
    }
    passage.truncate(most);
    passage.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_the_beginning_of_an_answer() {
        let cases = [
            ("why do heat pumps freeze?", "The reason why heat pumps freeze is as follows."),
            ("Who built the lighthouse", "The one who built the lighthouse is as follows."),
            ("Vitamin C cures colds.", "It has been found that Vitamin C cures colds."),
        ];
        for (question, expected) in cases {
            assert_eq!(statement(question), expected);
        }
    }

    #[test]
    fn a_passage_does_not_repeat_itself_and_ends() {
        let sentences = ["Heat pumps freeze.", "pumps heat", "Ice grows on coils."].map(str::to_owned);
        assert_eq!(limited(&sentences, 20), "Heat pumps freeze. Ice grows on coils.");
        assert_eq!(limited(&sentences, 4), "Heat pumps freeze. Ice");
    }
}

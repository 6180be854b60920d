//! Short thoughts for moves: templates with variation, filled with words that stand in the results.
//!
//! Quoted words follow a space, never a quotation mark, so that they are the same tokens there and here. The
//! reflection sentence is the one whose perplexity the `beam` strategy takes as confidence: it has to match to the
//! letter.

use super::moves::{Move, Rule, Sight};
use super::words::{terms, words};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Words of a title that a thought repeats, at most.
const TITLE_WORDS: usize = 8;

/// The paper's reflection sentence. `turn` counts from 1; `relevant` says which form.
pub fn reflection(turn: usize, query: &str, question: &str, relevant: bool) -> String {
    let verdict = if relevant { "are relevant" } else { "are not relevant" };
    format!(
        "Given turn {turn} and search query {query}, the retrieved documents {verdict} to the user query {question}."
    )
}

fn title_of(sight: &Sight<'_>, hit: usize) -> String {
    sight.shown.get(hit).map_or_else(String::new, |snippet| {
        let title = words(&snippet.title);
        if title.is_empty() {
            terms(&snippet.text)[..].iter().take(4).cloned().collect::<Vec<_>>().join(" ")
        } else {
            title.into_iter().take(TITLE_WORDS).collect::<Vec<_>>().join(" ")
        }
    })
}

/// A term of the shown hit that the question does not have: what the hit is about instead.
fn topic_of(sight: &Sight<'_>, hit: usize) -> Option<String> {
    let snippet = sight.shown.get(hit)?;
    let mut candidates = terms(&snippet.title);
    candidates.extend(terms(&snippet.text));
    candidates.retain(|term| !sight.terms.contains(term) && term.chars().any(char::is_alphabetic));
    candidates.truncate(8);
    candidates.into_iter().max_by(|a, b| sight.rarity.of(a).total_cmp(&sight.rarity.of(b)))
}

fn any(options: &[String], rng: &mut ChaCha8Rng) -> String {
    options.choose(rng).cloned().unwrap_or_default()
}

/// The thought before `chosen`. `fitting` is the hit that fits, where the maker knows one among those shown.
pub(super) fn thought(
    chosen: &Move,
    retriever: &str,
    sight: &Sight<'_>,
    fitting: Option<usize>,
    rng: &mut ChaCha8Rng,
) -> String {
    let keys = sight.rarity.rarest(sight.terms, 3);
    let key = keys.choose(rng).cloned().unwrap_or_else(|| "this".into());
    let key_list = keys.join(" ");
    if sight.shown.is_empty() {
        return match chosen.rule {
            Rule::Verbatim => any(&["the question is short; ask it as it stands.".into()], rng),
            Rule::NoFiller => any(
                &[
                    format!("drop the filler and keep {key_list}."),
                    format!("search all of it without filler; {key} matters most."),
                ],
                rng,
            ),
            _ => any(
                &[
                    format!("the key terms are {key_list}."),
                    format!("start with {key_list} and see what comes back."),
                    format!("{key} is the heart of this; search {key_list} first."),
                ],
                rng,
            ),
        };
    }
    let taken = chosen.taken.join(" ");
    let lead = fitting.or(chosen.hit).unwrap_or(0);
    let title = title_of(sight, lead);
    let topic = topic_of(sight, 0).unwrap_or_else(|| "something else".into());
    let rank = lead + 1;
    match (chosen.rule, fitting.is_some()) {
        (Rule::Expand, true) => any(
            &[
                format!("result {rank}, {title}, fits {key}; add {taken}."),
                format!("{title} looks right; follow {taken}."),
                format!("good: {title}. sharpen {key} with {taken}."),
            ],
            rng,
        ),
        (Rule::Expand, false) => any(
            &[
                format!("results speak of {topic}, not {key}; from {title} take {taken}."),
                format!("{title} is close but not it; try {taken} with {key}."),
                format!("off target: {topic}. add {taken} to {key}."),
            ],
            rng,
        ),
        (Rule::Bridge, _) => any(
            &[
                format!("{title} is the link; search it with {key}."),
                format!("follow {title} to find {key}."),
                format!("the answer may lie behind {title}; look for that."),
            ],
            rng,
        ),
        (Rule::Feedback, _) => any(
            &[
                format!("several results share {taken}; add it to {key}."),
                format!("{taken} keeps coming up; search it with {key}."),
            ],
            rng,
        ),
        (Rule::Drop, _) => {
            let dropped = chosen.dropped.clone().unwrap_or_default();
            any(
                &[
                    format!("{dropped} misled: {title} is about {topic}. drop it."),
                    format!("results follow {dropped} to {topic}; leave {dropped} out."),
                ],
                rng,
            )
        }
        (Rule::Switch, true) => any(
            &[
                format!("{title} fits; confirm it with {retriever} search."),
                format!("result {rank}, {title}, is right; check with {retriever} search."),
            ],
            rng,
        ),
        (Rule::Switch, false) => any(
            &[
                format!("{title} is about {topic}; same words, {retriever} search."),
                format!("only {topic} here; ask again with {retriever} search."),
            ],
            rng,
        ),
        (Rule::Retreat, _) => any(
            &[
                format!("worse: {title}. go back and use {retriever} search."),
                format!("{topic} is a dead end; return to the earlier words with {retriever} search."),
            ],
            rng,
        ),
        _ => format!("{topic} is not it; back to {key_list}."),
    }
}

/// Whether this turn's thought is the reflection sentence: about a quarter.
pub(super) fn reflects(rng: &mut ChaCha8Rng) -> bool {
    rng.random_bool(0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reflection_is_the_papers_sentence() {
        assert_eq!(
            reflection(2, "cave bears", "what did cave bears eat", true),
            "Given turn 2 and search query cave bears, the retrieved documents are relevant to the user query what did \
             cave bears eat."
        );
    }
}

//! Thoughts made coherent by one generator with minimal edits.
//!
//! An archetype's thought is its own reason and, behind it, the words of whoever proposed the query in the pool, who had
//! other results before him. A model behind an address is asked to edit it; what it changes too much is not taken. A
//! policy in this process cannot be told to edit, so it chooses: of the sentences behind the archetype's reason, the
//! selection that makes the thought least surprising after what it has read.

use super::graph::normal;
use crate::data::{Piece, Record};
use crate::endpoint::{Ask, Endpoint, EndpointError};
use crate::error::{Result, TrainError};
use crate::ordered::in_order;
use crate::proposals::wait;
use indicatif::ProgressBar;
use orion_policy::{NodeId, Policy, PolicyError, Segment};
use serde::Serialize;
use std::collections::BTreeSet;

/// Least share of the thought's words that an edit keeps; below it is another thought. Chosen by hand.
const LEAST_KEPT: f64 = 0.4;
/// Words by which an edit may be longer than twice the thought.
const MORE_WORDS: usize = 8;
/// Sentences of a thought whose selections are compared; more would be more than 16 selections.
const MOST_SENTENCES: usize = 5;
/// Records whose every request failed, one after another, before the run gives up.
const MOST_FAILURES: usize = 4;

/// Who edits.
pub enum Thinker {
    /// A policy in this process.
    Policy(Policy),
    /// A model behind an address.
    Endpoint(Box<Endpoint>),
}

/// What became of the thoughts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rethought {
    /// Thoughts that were changed.
    pub edited: usize,
    /// Thoughts that were found good as they are.
    pub unchanged: usize,
    /// Edits that changed too much, or held no thought; the archetype's words stay.
    pub refused: usize,
    /// Requests that failed; the archetype's words stay.
    pub failed: usize,
}

impl std::ops::AddAssign for Rethought {
    fn add_assign(&mut self, other: Self) {
        self.edited += other.edited;
        self.unchanged += other.unchanged;
        self.refused += other.refused;
        self.failed += other.failed;
    }
}

/// Rewrites the thoughts of all records, in their order.
///
/// # Errors
/// A policy that fails; an endpoint that fails for [`MOST_FAILURES`] records in a row.
pub fn rethink(records: &mut [Record], thinker: &Thinker, seed: u64, bar: &ProgressBar) -> Result<Rethought> {
    bar.set_length(records.len() as u64);
    let jobs: Vec<(usize, Record)> = records.iter().cloned().enumerate().collect();
    let workers = match thinker {
        Thinker::Policy(_) => 4,
        Thinker::Endpoint(endpoint) => endpoint.concurrency(),
    };
    let mut all = Rethought::default();
    let mut failures_in_a_row = 0;
    let work = |(place, record): &(usize, Record)| match thinker {
        Thinker::Policy(policy) => {
            wait(choose(record, policy)).map_err(|error| TrainError::Policy(error.to_string()))
        }
        Thinker::Endpoint(endpoint) => edit(record, endpoint, seed.wrapping_add(*place as u64)),
    };
    in_order(&jobs, workers, work, |(place, _), outcome| {
        bar.inc(1);
        let (record, counts) = outcome?;
        records[*place] = record;
        let has_failed = counts.failed > 0 && counts.edited + counts.unchanged + counts.refused == 0;
        failures_in_a_row = if has_failed { failures_in_a_row + 1 } else { 0 };
        if let (Thinker::Endpoint(endpoint), MOST_FAILURES) = (thinker, failures_in_a_row) {
            let (url, last) = (endpoint.url().to_owned(), "no request of a record got through".to_owned());
            return Err(TrainError::Endpoint { url, failures: MOST_FAILURES, last });
        }
        all += counts;
        Ok(())
    })?;
    Ok(all)
}

/// Whether `edited` is an edit of `thought` and not another one.
pub fn is_small_edit(thought: &str, edited: &str) -> bool {
    let (before, after) = (normal(thought), normal(edited));
    let known: BTreeSet<&str> = after.split_whitespace().collect();
    let words: BTreeSet<&str> = before.split_whitespace().collect();
    let kept = words.iter().filter(|word| known.contains(**word)).count();
    let length = after.split_whitespace().count();
    length > 0
        && length <= 2 * before.split_whitespace().count() + MORE_WORDS
        && LEAST_KEPT * words.len() as f64 <= kept as f64
}

const TASK: &str = "You edit the log of a person who searches step by step. You get the question, the steps so far with \
their results, the next thought and the next search query. Change as few words of the thought as possible, so that it \
is plain English, follows from the results and leads to the query. Keep its meaning. Add nothing that the results do \
not say. Answer with exactly one line:\nThought: <the edited thought>";

fn edit(record: &Record, endpoint: &Endpoint, seed: u64) -> Result<(Record, Rethought)> {
    let mut edited = record.clone();
    let mut counts = Rethought::default();
    let mut story = String::new();
    for place in 0..edited.segments.len() {
        let next_query = match edited.segments.get(place + 1) {
            Some(Piece::SearchQuery(issued)) => issued.query.clone(),
            _ => String::new(),
        };
        match &mut edited.segments[place] {
            Piece::UserQuery(text) => story.push_str(&format!("Question: {text}\n")),
            Piece::SearchQuery(issued) => story.push_str(&format!("Query: {}\n", issued.query)),
            Piece::TopKResponse(snippets) => {
                story.push_str("Results:\n");
                for (number, snippet) in snippets.iter().enumerate() {
                    story.push_str(&format!("{}. {}: {}\n", number + 1, snippet.title, snippet.text));
                }
            }
            Piece::Think(thought) => {
                let user = format!("{story}\nNext thought: {thought}\nNext query: {next_query}");
                let ask = Ask {
                    system: TASK.to_owned(),
                    user,
                    lead: "Thought:",
                    stop: &["\n"],
                    seed: seed.wrapping_mul(64).wrapping_add(place as u64),
                };
                match endpoint.ask(&ask) {
                    Ok(answer) => match read(&answer) {
                        Some(text) if text == *thought => counts.unchanged += 1,
                        Some(text) if is_small_edit(thought, &text) => {
                            counts.edited += 1;
                            *thought = text;
                        }
                        _ => counts.refused += 1,
                    },
                    Err(EndpointError::Bad { .. }) => counts.refused += 1,
                    Err(EndpointError::Journal(reason)) => {
                        return Err(TrainError::content(
                            endpoint.url(),
                            "an answer that can be kept",
                            reason,
                        ));
                    }
                    Err(_) => counts.failed += 1,
                }
                story.push_str(&format!("Thought: {thought}\n"));
            }
        }
    }
    Ok((edited, counts))
}

/// The thought in an answer, on one line.
fn read(answer: &str) -> Option<String> {
    let label = "thought:";
    let lines = answer.lines().map(|line| line.trim().trim_start_matches(['*', '#', '-', ' ']));
    let rest =
        lines.filter(|line| line.get(..label.len()).is_some_and(|head| head.eq_ignore_ascii_case(label)));
    let text = rest.map(|line| line[label.len()..].trim_start_matches("**")).next()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The sentences of a thought.
fn sentences(thought: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (place, _) in thought.match_indices(['.', '!', '?']) {
        let end = place + 1;
        if thought[end..].starts_with(' ') || end == thought.len() {
            found.push(thought[start..end].trim());
            start = end;
        }
    }
    found.push(thought[start..].trim());
    found.retain(|sentence| !normal(sentence).is_empty());
    found
}

/// The thought as it is, and every shorter selection of its sentences that keeps the first, in a fixed order. The first is
/// the archetype's reason: a policy that was trained on other words would leave it out nearly always.
pub fn selections(thought: &str) -> Vec<String> {
    let parts = sentences(thought);
    let mut all = vec![thought.to_owned()];
    if (2..=MOST_SENTENCES).contains(&parts.len()) {
        for chosen in (1..(1usize << parts.len()) - 1).step_by(2) {
            let kept = parts.iter().enumerate().filter(|(place, _)| chosen >> place & 1 == 1);
            all.push(kept.map(|(_, sentence)| *sentence).collect::<Vec<_>>().join(" "));
        }
    }
    all
}

async fn choose(record: &Record, policy: &Policy) -> std::result::Result<(Record, Rethought), PolicyError> {
    let mut chosen = record.clone();
    let mut counts = Rethought::default();
    let session = policy.session();
    let mut node: Option<NodeId> = None;
    let segments = record.policy_segments().map_err(|error| PolicyError::InvalidInput {
        what: "record",
        expected: "segments of the policy's format".to_owned(),
        got: error.to_string(),
    })?;
    for (place, mut segment) in segments.into_iter().enumerate() {
        if let (Piece::Think(thought), Some(node)) = (&mut chosen.segments[place], node) {
            let texts = selections(thought);
            let judged = session.perplexity(vec![(node, texts.clone())]).await?;
            let judged = judged.into_iter().flatten().zip(texts);
            // The first of equals: the whole thought stands first.
            let best =
                judged.reduce(|best, next| if next.0.perplexity < best.0.perplexity { next } else { best });
            match best {
                Some((_, text)) if text != *thought => {
                    counts.edited += 1;
                    *thought = text;
                }
                _ => counts.unchanged += 1,
            }
            segment = Segment::Think(thought.clone());
        }
        node = session.extend(vec![(node, vec![segment])]).await?.into_iter().next();
    }
    Ok((chosen, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_leave_sentences_out_and_add_nothing() {
        let thought = "No success yet (0.21), so I try another way in. Perhaps it is 3.5 rather than four.";
        assert_eq!(selections(thought), [thought, "No success yet (0.21), so I try another way in."]);
        assert_eq!(selections("one only"), ["one only"]);
        assert_eq!(selections("a b. c d. e f."), ["a b. c d. e f.", "a b.", "a b. c d.", "a b. e f."]);
    }

    #[test]
    fn an_edit_keeps_most_of_the_words() {
        let thought = "There is more below cave bears; I drill deeper.";
        assert!(is_small_edit(thought, "There is more on cave bears, so I drill deeper."));
        assert!(!is_small_edit(thought, "Isotopes in collagen reveal a vegetarian diet."));
        assert!(!is_small_edit(thought, ""));
        assert!(!is_small_edit("short", &"short and then very much more ".repeat(5)));
        assert_eq!(read("**Thought:**  I drill\n"), Some("I drill".to_owned()));
        assert_eq!(read("I drill"), None);
    }
}

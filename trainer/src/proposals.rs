//! What a served policy proposes on held-out walks: how often it repeats the question, and where its words come from.
//!
//! Runs on the serving engine, with the sampling defaults of the `beam` strategy, so that what is reported is what a
//! search meets.

use crate::data::{Part, Piece, Record};
use crate::error::{Result, TrainError};
use crate::report::is_copy;
use crate::terminal::{one_line, table};
use crate::trajectories::words::{is_stop_word, words};
use orion_policy::{Policy, PolicyError, PolicyOptions, Sampling, Segment, Source};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Counts over proposed queries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Proposals {
    /// Queries looked at.
    pub queries: usize,
    /// Share that repeats the question to the letter, case and punctuation aside.
    pub copied: f64,
    /// Share of their content words that stand in the question.
    pub words_of_question: f64,
    /// Share of their content words that stand in the results shown but not in the question; 0 for opening queries.
    pub words_of_results: f64,
}

/// Openings and replies, with a few of each to look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProposalReport {
    /// First queries, after the question alone.
    pub openings: Proposals,
    /// Second queries, after the walk's first results.
    pub replies: Proposals,
    /// `question | think | query` lines.
    pub samples: Vec<String>,
}

impl ProposalReport {
    /// For people.
    pub fn text(&self) -> String {
        let percent = |share: f64| format!("{:.1}%", 100.0 * share);
        let row = |name: &str, made: &Proposals| {
            let shares = [made.copied, made.words_of_question, made.words_of_results].map(percent);
            [vec![name.to_owned(), made.queries.to_string()], shares.to_vec()].concat()
        };
        let heading = ["", "queries", "copied", "words of the question", "of results"].map(str::to_owned);
        let rows = [heading.to_vec(), row("openings", &self.openings), row("replies", &self.replies)];
        let samples: String = self.samples.iter().map(|sample| one_line(sample, 200) + "\n").collect();
        format!("{}{samples}", table(&rows))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future in place; the policy's own thread does the work.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[derive(Default)]
struct Tally {
    queries: usize,
    copied: usize,
    words: usize,
    of_question: usize,
    of_results: usize,
}

impl Tally {
    fn add(&mut self, query: &str, question: &str, results: &[String]) {
        self.queries += 1;
        self.copied += usize::from(is_copy(query, question));
        let question = words(question);
        for word in words(query).into_iter().filter(|word| !is_stop_word(word)) {
            self.words += 1;
            let known = question.contains(&word);
            self.of_question += usize::from(known);
            self.of_results += usize::from(!known && results.contains(&word));
        }
    }

    fn shares(&self) -> Proposals {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Proposals {
            queries: self.queries,
            copied: share(self.copied, self.queries),
            words_of_question: share(self.of_question, self.words),
            words_of_results: share(self.of_results, self.words),
        }
    }
}

/// Two proposals at the opening and two after the first results of up to `limit` held-out walks.
pub fn look(folder: &Path, records: &[Record], limit: usize, seed: u64) -> Result<ProposalReport> {
    let fail = |error: PolicyError| TrainError::Policy(error.to_string());
    let policy = Policy::load(&Source::Folder(folder.to_owned()), &PolicyOptions::default()).map_err(fail)?;
    // The defaults of the `beam` strategy.
    let sampling = Sampling {
        candidates: 2,
        temperature: 0.7,
        top_p: 0.95,
        max_think_tokens: 48,
        max_query_tokens: 32,
        seed,
    };
    let held_out: Vec<&Record> = records.iter().filter(|record| record.part == Part::HeldOut).collect();
    let stride = held_out.len().div_ceil(limit.max(1)).max(1);
    let (mut openings, mut replies) = (Tally::default(), Tally::default());
    let mut samples = Vec::new();
    for record in held_out.into_iter().step_by(stride) {
        let Some(first) = record.segments.iter().position(|piece| matches!(piece, Piece::TopKResponse(_)))
        else {
            continue;
        };
        let segments: Vec<Segment> = record.policy_segments()?;
        let shown: Vec<String> = match &record.segments[first] {
            Piece::TopKResponse(snippets) => {
                snippets.iter().flat_map(|s| words(&format!("{} {}", s.title, s.text))).collect()
            }
            _ => Vec::new(),
        };
        let candidates = wait(async {
            let session = policy.session();
            let opening = vec![(None, segments[..1].to_vec()), (None, segments[..=first].to_vec())];
            let nodes = session.extend(opening).await?;
            session.propose(nodes, sampling).await
        })
        .map_err(fail)?;
        let question = record.user_query();
        for (place, candidates) in candidates.iter().enumerate() {
            for candidate in candidates {
                let (tally, shown) =
                    if place == 0 { (&mut openings, &[][..]) } else { (&mut replies, &shown[..]) };
                tally.add(&candidate.query, question, shown);
                if samples.len() < 24 {
                    samples.push(format!("{question} | {} | {}", candidate.think, candidate.query));
                }
            }
        }
    }
    Ok(ProposalReport { openings: openings.shares(), replies: replies.shares(), samples })
}

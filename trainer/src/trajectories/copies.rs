//! Trajectories without retrieval: the first lesson.
//!
//! A small model has to learn to carry words from the question and the results into thoughts and queries before
//! anything else makes sense. These records look like real ones but are short: the question is a piece of a random
//! passage, the results are random passages, among them, half of the time, the one that the question came from.
//! They need no index, so there are as many as wanted, over all permitted texts.

use super::moves::{Move, Rule, Sight, opening, replies};
use super::sets::Source;
use super::snippets::snippet;
use super::thoughts::{reflection, reflects, thought};
use super::words::{Rarity, terms, words};
use crate::data::{Part, Piece, Record, SearchQuery, Snippet, TurnNote};
use crate::error::Result;
use orion_eval::dataset::CorpusDocument;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Settings of the first lesson.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CopySettings {
    /// Records to make.
    pub count: usize,
    /// Most snippets of a response.
    pub snippets: usize,
    /// Characters of each text.
    pub text_chars: usize,
}

impl Default for CopySettings {
    fn default() -> Self {
        Self { count: 8000, snippets: 3, text_chars: 60 }
    }
}

/// A question: a run of words of the passage, at most twelve.
fn question(document: &CorpusDocument, rng: &mut ChaCha8Rng) -> String {
    let source = if document.text.is_empty() { &document.title } else { &document.text };
    let all: Vec<&str> = source.split_whitespace().collect();
    let length = rng.random_range(5..=12).min(all.len());
    // Near the beginning, which is what a snippet shows.
    let start = rng.random_range(0..=(all.len() - length).min(6));
    all[start..start + length].join(" ")
}

fn retriever(rng: &mut ChaCha8Rng, not: Option<&str>) -> String {
    let choices: Vec<&str> =
        ["lexical", "dense", "hybrid"].into_iter().filter(|name| Some(*name) != not).collect();
    (*choices.choose(rng).unwrap_or(&"hybrid")).to_owned()
}

/// Makes the records; a function of its arguments.
pub fn make(sources: &[Source], settings: &CopySettings, seed: u64) -> Result<Vec<Record>> {
    let documents: Vec<&CorpusDocument> = sources
        .iter()
        .flat_map(|source| &source.documents)
        .filter(|document| words(&document.text).len() >= 5 && !document.title.is_empty())
        .collect();
    let texts: Vec<String> = sources.iter().flat_map(|source| source.texts().collect::<Vec<_>>()).collect();
    let rarity = Rarity::count(texts.iter().map(String::as_str));
    let mut records = Vec::with_capacity(settings.count);
    for number in 0..settings.count {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        if let Some(record) = one(number, &documents, &rarity, settings, &mut rng) {
            records.push(record);
        }
    }
    Ok(records)
}

fn one(
    number: usize,
    documents: &[&CorpusDocument],
    rarity: &Rarity,
    settings: &CopySettings,
    rng: &mut ChaCha8Rng,
) -> Option<Record> {
    let target = documents.choose(rng)?;
    let question = question(target, rng);
    let question_terms = terms(&question);
    if question_terms.is_empty() {
        return None;
    }
    let mut segments = vec![Piece::UserQuery(question.clone())];
    let mut turns = Vec::new();
    let mut shown: Vec<Snippet> = Vec::new();
    let mut fitting = None;
    let mut tried: Vec<(String, String, Option<u32>)> = Vec::new();
    for turn in 1..=2usize {
        let sight =
            Sight { question: &question, terms: &question_terms, shown: &shown, tried: &tried, rarity };
        let pool: Vec<Move> = if turn == 1 { opening(&sight, rng) } else { replies(&sight, fitting, rng) };
        // The rarer kinds teach less copying.
        let pool: Vec<Move> = pool
            .into_iter()
            .filter(|m| !matches!(m.rule, Rule::Switch | Rule::Retreat) || rng.random_bool(0.2))
            .collect();
        let chosen = pool.choose(rng)?;
        let by = retriever(rng, chosen.not_retriever.as_deref());
        let think = match tried.last() {
            Some((query, _, _)) if reflects(rng) => reflection(turn - 1, query, &question, fitting.is_some()),
            _ => thought(chosen, &by, &sight, fitting, rng),
        };
        let query = chosen.query.clone();
        segments.push(Piece::Think(think));
        segments.push(Piece::SearchQuery(SearchQuery { query: query.clone(), retriever: Some(by.clone()) }));
        let count = rng.random_range(2..=settings.snippets.max(2));
        let mut results: Vec<&CorpusDocument> =
            (0..count).filter_map(|_| documents.choose(rng).copied()).collect();
        let hit = rng.random_bool(0.5);
        if hit {
            results.pop();
            results.push(target);
            results.shuffle(rng);
        }
        let rank = results.iter().position(|document| hit && document.id == target.id);
        turns.push(TurnNote {
            rule: chosen.rule.name().into(),
            rank: rank.map(|rank| rank as u32 + 1),
            shown: rank.is_some(),
        });
        tried.push((query, by, rank.map(|rank| rank as u32 + 1)));
        fitting = rank;
        shown = results.iter().map(|d| snippet(&d.title, &d.text, settings.text_chars)).collect();
        if turn == 1 {
            segments.push(Piece::TopKResponse(shown.clone()));
        }
    }
    Some(Record {
        id: format!("copy-{number}"),
        set: "copies".into(),
        query_id: format!("copy-{number}"),
        part: if number.is_multiple_of(50) { Part::HeldOut } else { Part::Train },
        archetype: None,
        segments,
        turns,
    })
}

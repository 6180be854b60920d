//! The pool of reformulations that a rule may try after reading what came back.
//!
//! A move is a query with the reason for it. Which move is taken is decided elsewhere: by the rank of a judged
//! document in real results ([`super::walk`]) or at random ([`super::copies`]).

use super::words::{Rarity, alike, terms, words};
use crate::data::Snippet;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Most words of a query; longer ones are cut.
pub(super) const QUERY_WORDS: usize = 10;

/// Why a query was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The question's rarest terms.
    Keys,
    /// The question without stop words.
    NoFiller,
    /// The question as it stands.
    Verbatim,
    /// The question's terms and some of a hit's.
    Expand,
    /// A hit's title and little else: the way to a second hop.
    Bridge,
    /// The question's terms and those that the hits have in common.
    Feedback,
    /// The question's terms without one that misled.
    Drop,
    /// The last query by another retriever.
    Switch,
    /// An earlier, better query, by another retriever.
    Retreat,
}

impl Rule {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::NoFiller => "no-filler",
            Self::Verbatim => "verbatim",
            Self::Expand => "expand",
            Self::Bridge => "bridge",
            Self::Feedback => "feedback",
            Self::Drop => "drop",
            Self::Switch => "switch",
            Self::Retreat => "retreat",
        }
    }
}

/// A query with its reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Move {
    /// The reason.
    pub rule: Rule,
    /// The words.
    pub query: String,
    /// For moves that keep the words, the retriever that they must not use again.
    pub not_retriever: Option<String>,
    /// The hit it leans on, from 0.
    pub hit: Option<usize>,
    /// Words taken from the results.
    pub taken: Vec<String>,
    /// The word that misled.
    pub dropped: Option<String>,
}

/// What a rule sees: the question, what is shown, and what was tried.
pub(super) struct Sight<'a> {
    /// The question.
    pub question: &'a str,
    /// Its terms.
    pub terms: &'a [String],
    /// The snippets shown last; empty before the first query.
    pub shown: &'a [Snippet],
    /// Queries tried, oldest first, each with its retriever and the rank it reached.
    pub tried: &'a [(String, String, Option<u32>)],
    /// Word statistics of the collection.
    pub rarity: &'a Rarity,
}

fn join(parts: &[&[String]]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for word in parts.iter().flat_map(|part| part.iter()) {
        if !kept.contains(&word.as_str()) && kept.len() < QUERY_WORDS {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Terms of a snippet that are not the question's, those of the title first.
fn fresh_terms(snippet: &Snippet, question: &[String]) -> Vec<String> {
    let mut fresh = Vec::new();
    for term in terms(&snippet.title).into_iter().chain(terms(&snippet.text)) {
        let known = question.iter().chain(&fresh).any(|other| alike(other, &term));
        if !known && term.chars().any(char::is_alphabetic) && term.chars().count() > 2 {
            fresh.push(term);
        }
    }
    fresh
}

/// Terms that at least two of the snippets share, most shared first.
fn shared_terms(shown: &[Snippet], question: &[String]) -> Vec<(usize, String)> {
    let mut counted: Vec<(usize, String)> = Vec::new();
    for snippet in shown {
        for term in fresh_terms(snippet, question) {
            match counted.iter_mut().find(|(_, other)| *other == term) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, term)),
            }
        }
    }
    counted.retain(|(count, _)| *count >= 2);
    counted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    counted
}

/// Chooses `count` of the `width` first terms, keeping their order.
fn pick(terms: &[String], width: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let width = width.min(terms.len());
    let mut chosen: Vec<usize> = rand::seq::index::sample(rng, width, count.min(width)).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| terms[index].clone()).collect()
}

/// First moves, before anything is shown.
pub(super) fn opening(sight: &Sight<'_>, rng: &mut ChaCha8Rng) -> Vec<Move> {
    let plain =
        |rule, query| Move { rule, query, not_retriever: None, hit: None, taken: vec![], dropped: None };
    let mut moves = Vec::new();
    for count in [3, 4, 6] {
        let keys = sight.rarity.rarest(sight.terms, count);
        if keys.len() >= 2 {
            moves.push(plain(Rule::Keys, join(&[&keys])));
        }
    }
    moves.push(plain(Rule::NoFiller, join(&[sight.terms])));
    if rng.random_bool(0.15) || sight.terms.len() < 2 {
        moves.push(plain(Rule::Verbatim, words(sight.question).join(" ")));
    }
    moves.dedup_by(|a, b| a.query == b.query);
    moves.retain(|candidate| !candidate.query.is_empty());
    moves
}

/// Moves after reading results. `leaning` is the hit that positive moves lean on, where one is known to fit.
pub(super) fn replies(sight: &Sight<'_>, leaning: Option<usize>, rng: &mut ChaCha8Rng) -> Vec<Move> {
    let mut moves = Vec::new();
    let keys = sight.rarity.rarest(sight.terms, rng.random_range(2..=4));
    let hits: Vec<usize> = match leaning {
        Some(hit) => vec![hit],
        None => (0..sight.shown.len().min(3)).collect(),
    };
    for hit in hits {
        let snippet = &sight.shown[hit];
        let fresh = fresh_terms(snippet, sight.terms);
        for count in [1, 2] {
            let taken = pick(&fresh, 6, count, rng);
            if !taken.is_empty() {
                let query = join(&[&keys, &taken]);
                let (hit, not_retriever) = (Some(hit), None);
                moves.push(Move { rule: Rule::Expand, query, not_retriever, hit, taken, dropped: None });
            }
        }
        let title: Vec<String> = terms(&snippet.title).into_iter().take(4).collect();
        if !title.is_empty() {
            let extra = sight.rarity.rarest(sight.terms, rng.random_range(1..=2));
            let query = join(&[&title, &extra]);
            let (hit, not_retriever) = (Some(hit), None);
            moves.push(Move { rule: Rule::Bridge, query, not_retriever, hit, taken: title, dropped: None });
        }
    }
    let shared: Vec<String> =
        shared_terms(sight.shown, sight.terms).into_iter().take(2).map(|(_, term)| term).collect();
    if !shared.is_empty() {
        let query = join(&[&keys, &shared]);
        moves.push(Move {
            rule: Rule::Feedback,
            query,
            not_retriever: None,
            hit: None,
            taken: shared,
            dropped: None,
        });
    }
    if leaning.is_none() && sight.terms.len() >= 4 {
        // The question's word that most of the wrong hits share is the one that misled.
        let count = |term: &String| {
            sight
                .shown
                .iter()
                .filter(|snippet| {
                    let text = words(&format!("{} {}", snippet.title, snippet.text));
                    text.iter().any(|word| alike(word, term))
                })
                .count()
        };
        let worst = sight.terms.iter().max_by_key(|term| count(term)).filter(|term| count(term) >= 2);
        if let Some(worst) = worst {
            let kept: Vec<String> = sight.terms.iter().filter(|term| *term != worst).cloned().collect();
            moves.push(Move {
                rule: Rule::Drop,
                query: join(&[&kept]),
                not_retriever: None,
                hit: None,
                taken: vec![],
                dropped: Some(worst.clone()),
            });
        }
    }
    if let Some((query, retriever, _)) = sight.tried.last() {
        moves.push(Move {
            rule: Rule::Switch,
            query: query.clone(),
            not_retriever: Some(retriever.clone()),
            hit: None,
            taken: vec![],
            dropped: None,
        });
    }
    if let [earlier @ .., (_, _, last_rank)] = sight.tried
        && let Some((query, retriever, rank)) =
            earlier.iter().min_by_key(|(_, _, rank)| rank.unwrap_or(u32::MAX))
        && rank.unwrap_or(u32::MAX) < last_rank.unwrap_or(u32::MAX)
    {
        moves.push(Move {
            rule: Rule::Retreat,
            query: query.clone(),
            not_retriever: Some(retriever.clone()),
            hit: None,
            taken: vec![],
            dropped: None,
        });
    }
    moves
}

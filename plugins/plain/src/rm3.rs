//! Pseudo-relevance feedback in the manner of RM3 (Lavrenko and Croft, SIGIR 2001; Abdul-Jaleel et al., TREC 2004).
//!
//! 1. A lexical search; the first `fb-documents` hits count as relevant, each in proportion to its score.
//! 2. The relevance model: P(w) = sum over those documents of score share * tf(w, d) / length(d), stop words left out,
//!    the `fb-terms` heaviest words kept and normalised.
//! 3. The new query weighs each word by original-weight * P(w | query) + (1 - original-weight) * P(w), and is searched.
//!
//! Departures from the published method
//! 1. The score share stands for P(query | document), as in common tool kits.
//! 2. There are no collection statistics in the contract, so words are not filtered by document frequency; stop words
//!    and single letters are.
//! 3. Queries are free text: a weight becomes a number of repetitions (BM25 is linear in a query word's count), rounded,
//!    the heaviest word `MOST_REPEATS` times. A dense or hybrid second search reads the same text, each word once,
//!    in the order of weight after the user's own query.

use std::collections::BTreeMap;

use orion_sdk::parameters::{Choice, Integer, Number};
use orion_sdk::text::{is_stop_word, words};
use orion_sdk::{
    Description, Document, Error, Event, Expanded, Hit, Host, Outcome, Query, Request, Retrieved, Retriever,
    Strategy,
};

/// The control of that name.
#[derive(Debug)]
pub struct Rm3;

/// The usual setting: 10 documents, 10 terms, half and half.
const FB_DOCUMENTS: Integer =
    Integer { name: "fb-documents", default: 10, min: 1, max: 100, help: "documents that count as relevant" };

const FB_TERMS: Integer =
    Integer { name: "fb-terms", default: 10, min: 1, max: 100, help: "words added to the query" };

const ORIGINAL_WEIGHT: Number = Number {
    name: "original-weight",
    default: 0.5,
    min: 0.0,
    max: 1.0,
    optional: false,
    help: "share of the user's own words",
};

const RETRIEVER: Choice<Retriever> = Choice {
    name: "retriever",
    choices: &[("lexical", Retriever::Lexical), ("hybrid", Retriever::Hybrid), ("dense", Retriever::Dense)],
    help: "what looks the expanded query up; the first search is lexical",
};

/// As in `beam`.
const DENSE_WEIGHT: Number = Number {
    name: "dense-weight",
    default: 0.5,
    min: 0.0,
    max: 1.0,
    optional: true,
    help: "share of the dense score in a hybrid second search; `none` is reciprocal rank fusion",
};

/// Characters of a document that are read: a long abstract; beyond that the tail says little new.
const DOCUMENT_CHARS: u32 = 4000;

/// Repetitions of the heaviest word: weights are kept to an eighth of it, and the query stays short.
const MOST_REPEATS: f32 = 8.0;

impl Strategy for Rm3 {
    fn describe() -> Description {
        let parameters = vec![
            FB_DOCUMENTS.describe(),
            FB_TERMS.describe(),
            ORIGINAL_WEIGHT.describe(),
            RETRIEVER.describe(),
            DENSE_WEIGHT.describe(),
        ];
        Description::new("rm3", "control: one query expanded by words of the first results", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let options = &request.options;
        let fb_documents = FB_DOCUMENTS.read(options)?;
        let fb_terms = FB_TERMS.read(options)? as usize;
        let original_weight = ORIGINAL_WEIGHT.read(options)?;
        let retriever = RETRIEVER.read(options)?;
        let dense_weight = DENSE_WEIGHT.read(options)?;

        let first = Query::new(&request.query, Retriever::Lexical, f32::NAN, fb_documents.max(request.k));
        let first_ranking = host.search(&[first])?.pop().unwrap_or_default();
        trace(host, 0, &request.query, Retriever::Lexical, &first_ranking);

        let relevant = &first_ranking[..first_ranking.len().min(fb_documents as usize)];
        let ids: Vec<String> = relevant.iter().map(|hit| hit.id.clone()).collect();
        let documents = if ids.is_empty() { Vec::new() } else { host.documents(&ids, DOCUMENT_CHARS)? };
        let expansion = heaviest(relevance_model(relevant, &documents), fb_terms);
        let expanded = match retriever {
            Retriever::Lexical => weighted_text(&request.query, &expansion, original_weight),
            Retriever::Dense | Retriever::Hybrid => appended_text(&request.query, &expansion),
        };

        let second = Query::new(&expanded, retriever, dense_weight, request.k);
        let (chosen, ranking) = match host.search(&[second]) {
            Ok(mut rankings) => {
                let ranking = rankings.pop().unwrap_or_default();
                trace(host, 1, &expanded, retriever, &ranking);
                (1, ranking)
            }
            // The first ranking is an answer too.
            Err(Error::BudgetExhausted(_) | Error::Cancelled) => (0, first_ranking),
            Err(error) => return Err(error),
        };
        host.trace(&[Event::Chosen(chosen)]);
        Ok(Outcome::ranked(ranking, request.k, f32::NAN))
    }
}

/// P(w) over the documents that count as relevant; not normalised. Documents that the host does not know count nothing.
fn relevance_model(relevant: &[Hit], documents: &[Option<Document>]) -> BTreeMap<String, f32> {
    let total_score: f32 = relevant.iter().map(|hit| hit.score.max(0.0)).sum();
    let mut model: BTreeMap<String, f32> = BTreeMap::new();
    for (hit, document) in relevant.iter().zip(documents) {
        let Some(document) = document else { continue };
        let share =
            if total_score > 0.0 { hit.score.max(0.0) / total_score } else { 1.0 / relevant.len() as f32 };
        let mut document_words = words(&document.title);
        document_words.extend(words(&document.text));
        document_words.retain(|word| word.chars().count() > 1 && !is_stop_word(word));
        let length = document_words.len() as f32;
        for word in document_words {
            *model.entry(word).or_default() += share / length;
        }
    }
    model
}

/// The `count` heaviest words, heaviest first, ties in order of the alphabet; weights sum to 1.
fn heaviest(model: BTreeMap<String, f32>, count: usize) -> Vec<(String, f32)> {
    let mut ranked: Vec<(String, f32)> = model.into_iter().collect();
    ranked.sort_unstable_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    ranked.truncate(count);
    let total: f32 = ranked.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in &mut ranked {
        *weight /= total;
    }
    ranked
}

/// The interpolated query as text: the user's words in their order, then the new ones, each as often as it weighs.
fn weighted_text(query: &str, expansion: &[(String, f32)], original_weight: f32) -> String {
    let query_words = words(query);
    // Where nothing was found there is nothing to interpolate with.
    let original_weight = if expansion.is_empty() { 1.0 } else { original_weight };
    let mut weights: Vec<(&str, f32)> = Vec::new();
    let original = query_words.iter().map(|word| (word, original_weight / query_words.len() as f32));
    let added = expansion.iter().map(|(word, weight)| (word, (1.0 - original_weight) * weight));
    for (word, weight) in original.chain(added) {
        match weights.iter_mut().find(|(known, _)| known == word) {
            Some((_, sum)) => *sum += weight,
            None => weights.push((word, weight)),
        }
    }
    let most = weights.iter().map(|(_, weight)| *weight).fold(f32::MIN_POSITIVE, f32::max);
    let mut text: Vec<&str> = Vec::new();
    for (word, weight) in weights.iter().filter(|(_, weight)| *weight > 0.0) {
        let repeats = (weight / most * MOST_REPEATS).round().max(1.0) as usize;
        text.extend(std::iter::repeat_n(word, repeats));
    }
    text.join(" ")
}

/// The user's query, then the words of the expansion that it lacks.
fn appended_text(query: &str, expansion: &[(String, f32)]) -> String {
    let query_words = words(query);
    let mut text = query.to_owned();
    for (word, _) in expansion.iter().filter(|(word, _)| !query_words.contains(word)) {
        text.push(' ');
        text.push_str(word);
    }
    text
}

fn trace(host: &mut impl Host, branch: u32, query: &str, retriever: Retriever, hits: &[Hit]) {
    let expanded = Expanded {
        branch,
        parent: branch.checked_sub(1),
        turn: branch,
        think: String::new(),
        query: query.to_owned(),
        retriever,
    };
    host.trace(&[Event::Expanded(expanded), Event::Retrieved(Retrieved { branch, hits: hits.to_vec() })]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_repetitions() {
        let expansion = [("frost".to_owned(), 0.75), ("pump".to_owned(), 0.25)];
        // pump .25 + .125, heat .25, frost .375: the heaviest eight times, the others in proportion.
        let text = weighted_text("Heat pump", &expansion, 0.5);
        let count = |word: &str| text.split(' ').filter(|found| *found == word).count();
        assert_eq!((count("heat"), count("pump"), count("frost")), (5, 8, 8));
    }

    #[test]
    fn without_expansion_the_query_stays_what_it_was() {
        assert_eq!(weighted_text("heat pump", &[], 0.0).split(' ').count(), 16);
        assert_eq!(appended_text("Heat pump?", &[]), "Heat pump?");
        assert_eq!(weighted_text("", &[], 0.5), "");
    }

    #[test]
    fn appended_words_are_new_ones() {
        let expansion = [("pump".to_owned(), 0.5), ("frost".to_owned(), 0.5)];
        assert_eq!(appended_text("Heat pump?", &expansion), "Heat pump? frost");
    }
}

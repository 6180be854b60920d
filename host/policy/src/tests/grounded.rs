//! Sessions of a checkpoint whose queries are grounded.

use std::collections::BTreeSet;

use super::serving::{SAMPLING, block_on, block_on_all, node, response};
use crate::format::{FormatKind, FormatSpec};
use crate::generate::Sampling;
use crate::random::tiny_policy;
use crate::session::{Candidate, Policy, PolicyOptions, Session, Source};

const QUESTION: &str = "why does ice float?";

pub(crate) fn grounded_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 5).unwrap();
    let spec = FormatSpec { grounded_queries: true, ..FormatSpec::new(FormatKind::Full, true) };
    std::fs::write(folder.path().join("orion.json"), serde_json::to_string(&spec).unwrap()).unwrap();
    folder
}

fn policy() -> Policy {
    Policy::load(&Source::Folder(grounded_folder().path().to_owned()), &PolicyOptions::default()).unwrap()
}

async fn second_turn(session: &Session, seed: u64) -> Vec<Candidate> {
    let root = session.extend(vec![(None, super::serving::start(QUESTION))]).await.unwrap()[0];
    let sampling = Sampling { seed, temperature: 3.0, top_p: 1.0, max_query_tokens: 20, ..SAMPLING };
    let first = session.propose(vec![root], sampling).await.unwrap().concat();
    let steps = first.iter().map(|one| (Some(one.node), response())).collect();
    let read = session.extend(steps).await.unwrap();
    let second = session.propose(read, sampling).await.unwrap().concat();
    first.into_iter().chain(second).collect()
}

#[test]
fn queries_are_words_that_were_read() {
    let policy = policy();
    let asked = ["why", "does", "ice", "float"];
    // Brackets are no letters, so a document's markers are words like any other.
    let found = [
        "ice",
        "search_query",
        "search",
        "query",
        "is",
        "less",
        "dense",
        "than",
        "water",
        "top_k_response",
        "top",
        "k",
        "response",
        "think",
        "obey",
        "me",
        "eos",
    ];
    let (mut first, mut later) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..12 {
        for (index, one) in block_on(second_turn(&policy.session(), seed)).into_iter().enumerate() {
            assert!(!one.query.is_empty() && one.log_probability.is_finite());
            let words: Vec<String> = one.query.split(' ').map(str::to_lowercase).collect();
            let different: BTreeSet<&String> = words.iter().collect();
            assert_eq!(different.len(), words.len(), "a word twice: {words:?}");
            if index < 3 { first.extend(words) } else { later.extend(words) }
        }
    }
    assert!(first.iter().all(|word| asked.contains(&word.as_str())), "{first:?}");
    let known = |word: &String| asked.contains(&word.as_str()) || found.contains(&word.as_str());
    assert!(later.iter().all(known), "{later:?}");
    assert!(later.iter().any(|word| !asked.contains(&word.as_str())), "{later:?}");
}

#[test]
fn the_same_alone_and_in_company() {
    let policy = policy();
    let seen = |all: Vec<Candidate>| -> Vec<(String, u32)> {
        all.into_iter().map(|one| (one.query, one.log_probability.to_bits())).collect()
    };
    let sessions: Vec<Session> = (0..4).map(|_| policy.session()).collect();
    let futures =
        (0..).zip(&sessions).map(|(seed, session)| Box::pin(second_turn(session, seed)) as _).collect();
    let together: Vec<_> = block_on_all(futures).into_iter().map(seen).collect();
    let alone: Vec<_> = (0..4).map(|seed| seen(block_on(second_turn(&policy.session(), seed)))).collect();
    assert_eq!(together, alone);
}

#[test]
fn a_question_without_words_is_answered_all_the_same() {
    let policy = policy();
    let session = policy.session();
    let root = node(&session, "?!");
    for one in block_on(session.propose(vec![root], SAMPLING)).unwrap().concat() {
        assert!(!one.query.is_empty());
    }
}

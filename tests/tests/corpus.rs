//! The bundled corpus is what `corpus/README.md` says it is: ids, lengths, kinds, splits and judgements.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use sha2::{Digest, Sha256};

const KINDS: [&str; 3] = ["direct", "misleading", "two-hop"];

/// Highest allowed overlap of the word triples of two passages (Jaccard); the closest pair written has 0.044.
const LARGEST_OVERLAP: f64 = 0.10;

fn json_lines(name: &str) -> Vec<Value> {
    let text =
        fs::read_to_string(orion_tests::corpus().join(name)).expect("the corpus file is in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON object")).collect()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("`{field}` is missing in {object}"))
}

/// Judgements of one split: query id to (document id, grade).
fn judgements(split: &str) -> BTreeMap<String, Vec<(String, u8)>> {
    let path = orion_tests::corpus().join("qrels").join(format!("{split}.tsv"));
    let table = fs::read_to_string(path).expect("the split is in the repository");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("query-id\tcorpus-id\tscore"), "header of {split}");
    let mut judged: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
    for line in lines {
        let [query, document, grade]: [&str; 3] =
            line.split('\t').collect::<Vec<_>>().try_into().expect("three columns");
        judged
            .entry(query.into())
            .or_default()
            .push((document.into(), grade.parse().expect("a small grade")));
    }
    judged
}

#[test]
fn passages_are_unique_short_and_typed() {
    let passages = json_lines("corpus.jsonl");
    assert_eq!(passages.len(), 363);
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for passage in &passages {
        let id = text(passage, "_id");
        assert!(ids.insert(id), "`{id}` twice");
        assert!(titles.insert(text(passage, "title")), "the title of `{id}` twice");
        let words = text(passage, "text").split_whitespace().count();
        assert!((50..=110).contains(&words), "`{id}` has {words} words");
        let metadata = &passage["metadata"];
        assert!(metadata["kind"].is_string() && metadata["island"].is_string(), "metadata of `{id}`");
        assert!(metadata["year"].as_u64().is_some_and(|year| (190..=412).contains(&year)), "year of `{id}`");
    }
}

#[test]
fn no_two_passages_say_the_same() {
    let passages = json_lines("corpus.jsonl");
    let triples: Vec<BTreeSet<[String; 3]>> = passages
        .iter()
        .map(|passage| {
            let words: Vec<String> = text(passage, "text")
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            words.windows(3).map(|w| [w[0].clone(), w[1].clone(), w[2].clone()]).collect()
        })
        .collect();
    for (i, a) in triples.iter().enumerate() {
        for (j, b) in triples.iter().enumerate().skip(i + 1) {
            let shared = a.intersection(b).count();
            let overlap = shared as f64 / (a.len() + b.len() - shared) as f64;
            assert!(
                overlap < LARGEST_OVERLAP,
                "{} and {}: {overlap:.3}",
                passages[i]["_id"],
                passages[j]["_id"]
            );
        }
    }
}

#[test]
fn every_query_is_judged_in_exactly_one_split() {
    let documents: BTreeSet<String> =
        json_lines("corpus.jsonl").iter().map(|passage| text(passage, "_id").to_owned()).collect();
    let mut unjudged: BTreeSet<String> =
        json_lines("queries.jsonl").iter().map(|query| text(query, "_id").to_owned()).collect();
    for split in ["train", "dev", "test"] {
        for (query, answers) in judgements(split) {
            assert!(unjudged.remove(&query), "`{query}` of {split} is unknown or in two splits");
            let distinct: BTreeSet<&str> = answers.iter().map(|(document, _)| document.as_str()).collect();
            assert_eq!(distinct.len(), answers.len(), "`{query}` judges a passage twice");
            assert!(
                answers.iter().all(|(document, _)| documents.contains(document)),
                "`{query}` judges a stranger"
            );
            assert!(answers.iter().all(|(_, grade)| matches!(grade, 1 | 2)), "grades of `{query}`");
            assert!(answers.iter().any(|(_, grade)| *grade == 2), "`{query}` has no answer");
        }
    }
    assert!(unjudged.is_empty(), "no judgement for {unjudged:?}");
}

#[test]
fn splits_follow_the_stated_rule_and_hold_every_kind() {
    let mut by_kind: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut texts = BTreeSet::new();
    for query in &json_lines("queries.jsonl") {
        let words = text(query, "text");
        assert!(texts.insert(words.to_lowercase()), "the query `{words}` twice");
        let kind = query["metadata"]["kind"].as_str().expect("a kind").to_owned();
        let hash: String = Sha256::digest(words).iter().map(|byte| format!("{byte:02x}")).collect();
        by_kind.entry(kind).or_default().push((hash, text(query, "_id").to_owned()));
    }
    assert_eq!(by_kind.keys().map(String::as_str).collect::<Vec<_>>(), KINDS);
    let splits = ["train", "dev", "test"].map(judgements);
    for (kind, mut queries) in by_kind {
        queries.sort();
        let count = queries.len() as f64;
        let (end_of_train, end_of_dev) = ((count * 0.5).round_ties_even(), (count * 0.7).round_ties_even());
        for (rank, (_, id)) in queries.iter().enumerate() {
            let rank = rank as f64;
            let expected = if rank < end_of_train {
                0
            } else if rank < end_of_dev {
                1
            } else {
                2
            };
            assert!(splits[expected].contains_key(id), "`{id}` of kind {kind} is in the wrong split");
        }
    }
}

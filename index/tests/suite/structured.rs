//! Structured queries against a twin that looks at every document; order, pages, sources, numbered fields.

use std::collections::{BTreeMap, BTreeSet};

use orion_index::{
    Clause, Document, Filter, Found, Hit, Index, IndexSettings, OpenOptions, Order, Searched, Searcher,
    SortKey, Value,
};
use proptest::prelude::*;

use crate::common::{document, options, settings};

const WORDS: [&str; 5] = ["amber", "birch", "cedar", "delta", "ember"];

/// Documents number by number: which words, which year.
#[derive(Debug, Clone)]
struct Row {
    words: BTreeSet<usize>,
    year: Option<i32>,
}

#[derive(Debug, Clone)]
enum Asked {
    Any(BTreeSet<usize>),
    All(BTreeSet<usize>),
    From(i32),
    HasYear,
    Ids(BTreeSet<usize>),
    Bool(Vec<Asked>, Vec<Asked>, Vec<Asked>, usize),
}

fn asked() -> impl Strategy<Value = Asked> {
    let some = || proptest::collection::btree_set(0..WORDS.len(), 1..3);
    let leaf = prop_oneof![
        some().prop_map(Asked::Any),
        some().prop_map(Asked::All),
        (0..6).prop_map(Asked::From),
        Just(Asked::HasYear),
        proptest::collection::btree_set(0..12_usize, 0..4).prop_map(Asked::Ids),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 0..3);
        (list(), list(), list(), 0..3_usize)
            .prop_map(|(must, should, not, minimum)| Asked::Bool(must, should, not, minimum))
    })
}

fn matches(asked: &Asked, number: usize, row: &Row) -> bool {
    match asked {
        Asked::Any(words) => !words.is_disjoint(&row.words),
        Asked::All(words) => words.is_subset(&row.words),
        Asked::From(year) => row.year.is_some_and(|own| *year <= own),
        Asked::HasYear => row.year.is_some(),
        Asked::Ids(ids) => ids.contains(&number),
        Asked::Bool(must, should, not, minimum) => {
            must.iter().all(|inner| matches(inner, number, row))
                && !not.iter().any(|inner| matches(inner, number, row))
                && *minimum <= should.iter().filter(|inner| matches(inner, number, row)).count()
        }
    }
}

fn clause(asked: &Asked) -> Clause {
    let words = |words: &BTreeSet<usize>, minimum| Clause::Words {
        searched: Searched::Field(0),
        text: words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" "),
        minimum,
    };
    let list = |list: &[Asked]| list.iter().map(clause).collect();
    match asked {
        Asked::Any(set) => words(set, 1),
        Asked::All(set) => words(set, usize::MAX),
        Asked::From(year) => Clause::Filter(Filter::parse(&format!("year >= {year}")).unwrap()),
        Asked::HasYear => Clause::Filter(Filter::parse("year:*").unwrap()),
        Asked::Ids(ids) => Clause::Ids(ids.iter().map(|id| format!("{id:02}")).collect()),
        Asked::Bool(must, should, not, minimum) => Clause::Boolean {
            must: list(must),
            should: list(should),
            filter: Vec::new(),
            must_not: list(not),
            minimum: *minimum,
        },
    }
}

fn lexical(fields: u8) -> IndexSettings {
    let metadata = BTreeMap::from([("year".to_owned(), orion_index::Kind::Number)]);
    IndexSettings { fields, metadata, ..IndexSettings::lexical_only() }
}

fn indexed(rows: &[Row]) -> (tempfile::TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("i"), &lexical(1), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for (number, row) in rows.iter().enumerate() {
        let text = row.words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ");
        let mut one = document(&format!("{number:02}"), &text);
        one.fields.insert(0, text);
        one.metadata.extend(row.year.map(|year| ("year".to_owned(), Value::Number(f64::from(year)))));
        writer.add(one).unwrap();
        if number == 5 {
            // Two segments.
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
    (folder, index)
}

fn ids(found: &Found) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.id.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clauses_match_what_the_twin_matches(
        rows in proptest::collection::vec(
            (proptest::collection::btree_set(0..WORDS.len(), 0..4), proptest::option::of(0..6))
                .prop_map(|(words, year)| Row { words, year }),
            1..12,
        ),
        asked in proptest::collection::vec(asked(), 8),
    ) {
        let (_folder, index) = indexed(&rows);
        let searcher = index.searcher();
        for asked in &asked {
            let expected: BTreeSet<String> = rows
                .iter()
                .enumerate()
                .filter(|(number, row)| matches(asked, *number, row))
                .map(|(number, _)| format!("{number:02}"))
                .collect();
            let found = searcher.structured(&clause(asked), &[], 0, 100, None).unwrap();
            let got: BTreeSet<String> = found.hits.iter().map(|hit| hit.id.clone()).collect();
            prop_assert_eq!(&got, &expected, "{:?}", asked);
            prop_assert_eq!(found.total, expected.len() as u64);
            prop_assert_eq!(searcher.count(&clause(asked)).unwrap(), expected.len() as u64);
            // By year upwards, documents without one last, then by id; page by page behind the last position.
            let order = [
                Order::Metadata { name: "year".to_owned(), ascending: true, missing_first: false },
                Order::Id { ascending: true },
            ];
            let mut sorted: Vec<(bool, Option<i32>, String)> = expected
                .iter()
                .map(|id| (id, rows[id.parse::<usize>().unwrap()].year))
                .map(|(id, year)| (year.is_none(), year, id.clone()))
                .collect();
            sorted.sort();
            let whole = searcher.structured(&clause(asked), &order, 0, 100, None).unwrap();
            prop_assert_eq!(ids(&whole), sorted.iter().map(|(_, _, id)| id.as_str()).collect::<Vec<_>>());
            let mut paged = Vec::new();
            let mut after = None;
            loop {
                let page = searcher.structured(&clause(asked), &order, 0, 2, after.as_deref()).unwrap();
                let Some(last) = page.hits.last() else { break };
                after = Some(last.sort.clone());
                paged.extend(page.hits.into_iter().map(|hit| hit.id));
            }
            prop_assert_eq!(paged, whole.hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn scores_phrases_rankings_and_explanations() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("i"), &lexical(2), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for (id, title, text) in [
        ("a", "red fox", "the fox sleeps under a birch"),
        ("b", "red wine", "a fox drinks no wine"),
        ("c", "blue fox", "the birch sleeps"),
    ] {
        let fields = BTreeMap::from([(0, title.to_owned()), (1, text.to_owned())]);
        writer.add(Document { fields, title: title.to_owned(), ..document(id, text) }).unwrap();
    }
    writer.commit().unwrap();
    let searcher = index.searcher();
    let found = |clause: &Clause| -> Vec<String> {
        let found = searcher.structured(clause, &[], 0, 10, None).unwrap();
        found.hits.into_iter().map(|hit| hit.id).collect()
    };
    let words = |field, text: &str| Clause::Words {
        searched: Searched::Field(field),
        text: text.to_owned(),
        minimum: 1,
    };
    let phrase = |field, text: &str, slop| Clause::Phrase { field, text: text.to_owned(), slop };
    assert_eq!(found(&words(0, "fox")), ["a", "c"]);
    assert_eq!(found(&phrase(1, "fox sleeps", 0)), ["a"]);
    assert_eq!(found(&phrase(1, "birch sleeping", 0)), ["c"]);
    assert_eq!(found(&phrase(1, "sleeps fox", 0)), Vec::<String>::new());
    // Stop words keep their places.
    assert_eq!(found(&phrase(1, "sleeps under the birch", 0)), ["a"]);
    let ranking = [("c", 3.0), ("a", 2.0), ("gone", 9.0)].map(|(id, score)| Hit { id: id.to_owned(), score });
    let ranking = Clause::Ranking(ranking.to_vec());
    assert_eq!(found(&ranking), ["c", "a"]);
    let best = Clause::Best {
        clauses: vec![
            ranking,
            Clause::Scaled { clause: Box::new(Clause::Ids(vec!["b".to_owned()])), factor: 5.0 },
        ],
        tie: 0.0,
    };
    assert_eq!(found(&best), ["b", "c", "a"]);
    let explained = searcher.explain(&words(0, "fox"), "a").unwrap().unwrap();
    assert!(explained["value"].is_number(), "{explained}");
    assert_eq!(searcher.explain(&words(0, "fox"), "b").unwrap(), None);
    assert!(searcher.structured(&words(2, "fox"), &[], 0, 10, None).is_err());
    let marked =
        BTreeSet::from(searcher.words("sleeping foxes").try_into().map(|words: [String; 2]| words).unwrap());
    assert_eq!(searcher.spans("Foxes never sleep.", &marked), [0..5, 12..17]);
    let by_score =
        searcher.structured(&words(0, "fox"), &[Order::Score { ascending: true }], 0, 10, None).unwrap();
    assert!(by_score.hits.iter().all(|hit| matches!(hit.sort[0], Some(SortKey::Number(_)))));
}

/// Sources come back to the byte, through the log and through a commit, with metadata and without.
#[test]
fn sources_and_deferred_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i");
    let deferred = || OpenOptions { defer_encoding: true, ..options() };
    let with_fields = IndexSettings { fields: 3, ..settings() };
    let index = Index::create(&path, &with_fields, deferred()).unwrap();
    let mut writer = index.writer().unwrap();
    let source = "{\"odd\" :  [1, 2.50]}";
    for number in 0..600_u32 {
        let mut one = document(&format!("{number:03}"), &format!("text number {number}"));
        one.source = Some(source.to_owned());
        one.fields.insert(2, format!("word{number}"));
        if number % 2 == 0 {
            one.metadata.insert("year".to_owned(), Value::Number(1.0));
        }
        writer.add(one).unwrap();
    }
    // More than a batch, and none of it was encoded.
    assert_eq!((writer.waiting_texts(), writer.sequence()), (600, 600));
    writer.encode_some(100).unwrap();
    assert_eq!(writer.waiting_texts(), 500);
    writer.sync().unwrap();
    assert!(writer.contains("599").unwrap() && !writer.contains("600").unwrap());
    drop(writer);
    let check = |searcher: &Searcher| {
        assert_eq!((searcher.ids().len(), searcher.vector_ids().len()), (600, 600));
        for id in ["000", "001"] {
            let found = searcher.documents(&[id]).unwrap().pop().flatten().unwrap();
            assert_eq!(found.source.as_deref(), Some(source));
        }
        let word = Clause::Words { searched: Searched::Field(2), text: "word77".to_owned(), minimum: 1 };
        assert_eq!(ids(&searcher.structured(&word, &[], 0, 10, None).unwrap()), ["077"]);
    };
    drop(index);
    let index = Index::open(&path, options()).unwrap();
    check(&index.searcher());
    let mut writer = index.writer().unwrap();
    let mut wrong = document("x", "y");
    wrong.fields.insert(3, "too far".to_owned());
    let refused = writer.add(wrong).unwrap_err().to_string();
    assert_eq!(refused, "document `x`: expected fields below 3, as the index was created with, got field 3");
    writer.merge().unwrap();
    check(&index.searcher());
}

//! The life of an index in one process: add, replace, delete, search both halves, filter, merge, reopen.

use crate::common::{self, document, embedder, options};
use orion_index::{
    Document, Filter, Fusion, Hit, Index, IndexError, IndexSettings, Kind, Mode, Query, Value, Writer,
};
use std::collections::BTreeMap;

fn fill(writer: &mut Writer) {
    let texts = [
        ("a", "Foxes", "the quick brown fox jumps over the lazy dog", 1999.0, "en", "2020-01-02", true),
        ("b", "Hunting", "foxes hunt at night and sleep by day", 2005.0, "en", "2021-05-06", false),
        ("c", "Loups", "le loup dort la nuit", 2019.0, "fr", "2022-07-08", true),
        ("d", "", "a dog sleeps; dogs sleep", 2021.0, "en", "2023-09-10", false),
    ];
    for (id, title, text, year, lang, day, draft) in texts {
        let metadata = BTreeMap::from([
            ("year".to_owned(), Value::Number(year)),
            ("lang".to_owned(), Value::Keyword(lang.to_owned())),
            ("day".to_owned(), Value::Keyword(day.to_owned())),
            ("draft".to_owned(), Value::Boolean(draft)),
            ("notes".to_owned(), Value::Keyword(format!("{title} of the woods"))),
            ("tags".to_owned(), Value::Keywords(vec![lang.to_owned(), id.to_owned()])),
        ]);
        let (id, title, text) = (id.to_owned(), title.to_owned(), text.to_owned());
        writer.add(Document { id, title, text, metadata, ..Document::default() }).unwrap();
    }
}

fn settings() -> IndexSettings {
    let mut settings = common::settings();
    settings.metadata.insert("day".to_owned(), Kind::Date);
    settings.metadata.insert("notes".to_owned(), Kind::Text);
    settings
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

#[test]
fn a_life() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::create(&dir.path().join("one"), &settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer);
    assert_eq!(index.searcher().len(), 0);
    let before = index.searcher();
    let info = writer.commit().unwrap();
    assert_eq!((info.documents, info.changes), (4, 4));
    assert!(before.is_empty(), "a snapshot stays what it was");

    let searcher = index.searcher();
    assert_eq!(ids(&searcher.lexical("fox", 10, None).unwrap()), ["a", "b"]);
    assert_eq!(ids(&searcher.lexical("sleeping dogs", 1, None).unwrap()), ["d"]);
    assert!(searcher.lexical("+-\"(AND) unknown:", 10, None).unwrap().is_empty());
    assert!(searcher.lexical("the", 10, None).unwrap().is_empty(), "a stop word");
    assert!(searcher.lexical("fox", 0, None).unwrap().is_empty());
    // The text itself is the nearest to its own embedding.
    let nearest =
        searcher.dense(&["Loups le loup dort la nuit", "a dog sleeps; dogs sleep"], 2, None).unwrap();
    assert_eq!((nearest[0][0].id.as_str(), nearest[1][0].id.as_str()), ("c", "d"));
    assert!((nearest[0][0].score - 1.0).abs() < 1e-5);
    assert_eq!(nearest[0].len(), 2);

    // Replaced and deleted documents are gone from both halves.
    writer.add(document("b", "cats only")).unwrap();
    assert!(writer.delete("c").unwrap());
    assert!(!writer.delete("c").unwrap());
    assert!(!writer.delete("never there").unwrap());
    writer.add(document("e", "new here")).unwrap();
    writer.add(document("e", "newer here")).unwrap();
    assert_eq!(writer.commit().unwrap().documents, 4);
    drop(writer);
    let check = |index: &Index| {
        let searcher = index.searcher();
        assert_eq!(searcher.ids(), ["a", "b", "d", "e"]);
        assert_eq!(searcher.vector_ids(), searcher.ids());
        assert_eq!(ids(&searcher.lexical("fox", 10, None).unwrap()), ["a"]);
        assert_eq!(ids(&searcher.lexical("new newer", 10, None).unwrap()), ["e"]);
        let found = searcher.dense(&["cats only"], 10, None).unwrap();
        assert_eq!((found[0][0].id.as_str(), found[0].len()), ("b", 4));
        let stored = searcher.documents(&["d", "zz", "b"]).unwrap();
        assert_eq!(stored[0].as_ref().unwrap().text, "a dog sleeps; dogs sleep");
        assert_eq!(stored[0].as_ref().unwrap().metadata["year"], Value::Number(2021.0));
        assert!(stored[1].is_none());
        assert_eq!(stored[2].as_ref().unwrap().text, "cats only");
    };
    check(&index);
    let stats = index.stats().unwrap();
    // Three of seven rows were dead: the commit merged them away.
    assert_eq!((stats.documents, stats.vectors, stats.dead_vectors), (4, 4, 0));
    check(&Index::open(index.dir(), options()).unwrap());
    assert!(1 < index.writer().unwrap().merge().unwrap());
    let stats = index.stats().unwrap();
    assert_eq!(
        (stats.vectors, stats.dead_vectors, stats.vector_segments, stats.lexical_segments),
        (4, 0, 1, 1)
    );
    check(&index);
    check(&Index::open(index.dir(), options()).unwrap());
}

#[test]
fn filters_hold_in_both_halves() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::create(&dir.path().join("one"), &settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer);
    writer.commit().unwrap();
    writer.add(document("x", "without any metadata: fox dog loup")).unwrap();
    writer.commit().unwrap();
    let searcher = index.searcher();
    let check = |expression: &str, expected: &[&str]| {
        let filter = Filter::parse(expression).unwrap();
        let mut found = searcher.lexical("fox dog loup foxes", 10, Some(&filter)).unwrap();
        found.sort_by(|left, right| left.id.cmp(&right.id));
        assert_eq!(ids(&found), expected, "{expression}, lexical");
        let mut found = searcher.dense(&["fox"], 10, Some(&filter)).unwrap().remove(0);
        found.sort_by(|left, right| left.id.cmp(&right.id));
        assert_eq!(ids(&found), expected, "{expression}, dense");
        let unfiltered = searcher.lexical("fox dog loup foxes", 10, None).unwrap();
        for hit in searcher.lexical("fox dog loup foxes", 10, Some(&filter)).unwrap() {
            assert!(unfiltered.contains(&hit), "{expression} changed the score of {}", hit.id);
        }
    };
    check("year >= 2005", &["b", "c", "d"]);
    check("year > 2005 AND lang:en", &["d"]);
    check("year < 2000 OR lang = fr", &["a", "c"]);
    check("NOT lang:en", &["c", "x"]);
    check("lang != en", &["c"]);
    check("lang:de", &[]);
    check("day > 2021-05-06", &["c", "d"]);
    check("day = 2021-05-06T00:00:00Z", &["b"]);
    check("draft = true", &["a", "c"]);
    check("notes:\"WOOD hunt\"", &["b"]);
    check("tags:c OR tags:d", &["c", "d"]);
    check("(lang:en AND NOT (draft:true OR year>2010))", &["b"]);

    let refused = |expression: &str, expected: &str| {
        let error = searcher.lexical("fox", 10, Some(&Filter::parse(expression).unwrap())).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    refused(
        "yaer > 3",
        "filter `yaer > 3` at character 0: expected one of the metadata names [day, draft, lang, notes, tags, year], \
         got `yaer`",
    );
    refused("year > old", "filter `year > old` at character 7: expected a finite number, got `old`");
    refused(
        "lang > en",
        "filter `lang > en` at character 0: expected equality, got an order comparison of keyword `lang`",
    );
    refused("draft:yes", "filter `draft:yes` at character 6: expected `true` or `false`, got `yes`");
}

#[test]
fn a_batch_answers_like_its_queries_alone() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::create(&dir.path().join("one"), &settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer);
    writer.commit().unwrap();
    let searcher = index.searcher();
    let filter = Some(Filter::parse("lang:en").unwrap());
    let convex = Mode::Hybrid(Fusion::Convex { dense_weight: 0.3 });
    let mut queries = Vec::new();
    for (text, mode) in [
        ("fox", Mode::Lexical),
        ("sleep at night", Mode::Dense),
        ("dogs", Mode::Hybrid(Fusion::default())),
        ("loup", convex),
        ("day", Mode::Best),
    ] {
        queries.push(Query { k: 3, ..Query::new(text, mode) });
        queries.push(Query { filter: filter.clone(), ..Query::new(text, mode) });
    }
    let together = searcher.search(&queries).unwrap();
    for (query, together) in queries.iter().zip(together) {
        assert_eq!(
            searcher.search(std::slice::from_ref(query)).unwrap(),
            std::slice::from_ref(&together),
            "{query:?}"
        );
        assert!(together.len() <= query.k);
    }
    let cosine = searcher.similarity(&[("fox", "fox"), ("fox", "dog")]).unwrap();
    assert!((cosine[0] - 1.0).abs() < 1e-5 && cosine[1] < 1.0);
}

#[test]
fn refusals_say_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one");
    let index = Index::create(&path, &settings(), options()).unwrap();
    assert!(matches!(Index::create(&path, &settings(), options()), Err(IndexError::AlreadyExists { .. })));
    assert!(matches!(Index::open(&dir.path().join("nowhere"), options()), Err(IndexError::NotFound { .. })));
    let mut writer = index.writer().unwrap();
    assert!(matches!(index.writer(), Err(IndexError::Locked { .. })));
    let mut refused = |document: Document, expected: &str| {
        assert_eq!(writer.add(document).unwrap_err().to_string(), expected);
    };
    refused(document("", "x"), "document ``: expected an id of 1 to 512 bytes, got 0 bytes");
    let with = |name: &str, value: Value| Document {
        metadata: BTreeMap::from([(name.to_owned(), value)]),
        ..document("m", "x")
    };
    refused(
        with("a b", Value::Boolean(true)),
        "document `m`: expected metadata names of 1 to 64 letters, digits, `_`, not starting with a digit, joined by dots, got `a b`",
    );
    refused(
        with("day", Value::Keyword("yesterday".to_owned())),
        "document `m`: expected metadata `day` of type date, got keyword",
    );
    refused(
        with("n", Value::Number(f64::NAN)),
        "document `m`: expected a finite number in metadata `n`, got NaN or infinity",
    );
    let with_vector = |vector: Vec<f32>| Document { vector: Some(vector), ..document("v", "x") };
    let expected = "document `v`: expected a vector of 16 finite values that are not all zero, got";
    refused(with_vector(vec![1.0; 3]), &format!("{expected} 3 values"));
    refused(with_vector(vec![0.0; 16]), &format!("{expected} all zeros"));
    refused(with_vector(vec![f32::INFINITY; 16]), &format!("{expected} a value that is not finite"));
    // A refused document leaves the writer usable, and its metadata undeclared.
    writer.add(with("n", Value::Keyword("now a keyword".to_owned()))).unwrap();
    assert_eq!(writer.commit().unwrap().documents, 1);
    drop(writer);

    let bare = Index::open(&path, orion_index::OpenOptions::default()).unwrap();
    let no_encoder = "could not search by embedding: the index was opened without an encoder";
    assert_eq!(bare.searcher().dense(&["x"], 1, None).unwrap_err().to_string(), no_encoder);
    assert_eq!(bare.searcher().search(&[Query::new("x", Mode::Best)]).unwrap()[0].len(), 1);
    let refusal = bare.writer().unwrap().add(document("n", "x")).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "document `n`: expected a vector, because the index was opened without an encoder, got none"
    );
    let other =
        orion_index::OpenOptions { encoder: Some(embedder("other")), ..orion_index::OpenOptions::default() };
    let error = Index::open(&path, other).unwrap_err().to_string();
    assert_eq!(error, "encoder: expected test, got other");
}

#[test]
fn an_index_without_vectors_is_lexical() {
    let dir = tempfile::tempdir().unwrap();
    let settings = IndexSettings::lexical_only();
    let index = Index::create(&dir.path().join("one"), &settings, options()).unwrap();
    let mut writer = index.writer().unwrap();
    writer.add(document("a", "some words")).unwrap();
    writer.commit().unwrap();
    let searcher = index.searcher();
    assert_eq!(searcher.search(&[Query::new("word", Mode::Best)]).unwrap()[0][0].id, "a");
    let error = searcher.dense(&["word"], 1, None).unwrap_err().to_string();
    assert_eq!(error, "could not search by embedding: the index keeps no vectors");
}

#[test]
fn many_small_commits_stay_few_segments() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::create(&dir.path().join("one"), &common::settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 0..40 {
        writer.add(document(&format!("{number:02}"), &format!("word{number} common"))).unwrap();
        writer.commit().unwrap();
        let stats = index.stats().unwrap();
        assert!(stats.vector_segments <= 9 && stats.lexical_segments <= 9, "{stats:?}");
    }
    let searcher = index.searcher();
    assert_eq!(searcher.len(), 40);
    assert_eq!(searcher.vector_ids(), searcher.ids());
    // All tie on `common`: the ids decide, wherever the merges put the documents.
    let found = searcher.lexical("common", 5, None).unwrap();
    assert_eq!(ids(&found), ["00", "01", "02", "03", "04"]);
}

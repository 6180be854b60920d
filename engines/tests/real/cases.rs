//! What every engine has to do alike: six documents, queries, vectors, filters.

use std::collections::BTreeMap;

use orion_engines::{Condition, Document, Engine, Half, Kind, Operator, Value};

const DIMENSIONS: usize = 4;

/// Types of the documents' metadata.
pub(crate) fn kinds() -> BTreeMap<String, Kind> {
    let kinds = [
        ("year", Kind::Number),
        ("kind", Kind::Keyword),
        ("tags", Kind::Keyword),
        ("draft", Kind::Boolean),
        ("at", Kind::Date),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect()
}

/// Six documents; the fifth has no metadata, the sixth characters that need quoting everywhere.
pub(crate) fn documents() -> Vec<Document> {
    let word = |text: &str| Value::Keyword(text.to_owned());
    let one = |id: &str, title: &str, text: &str, metadata: Vec<(&str, Value)>, vector: [f32; DIMENSIONS]| {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        Document {
            id: id.to_owned(),
            title: title.to_owned(),
            text: text.to_owned(),
            metadata: metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            vector: Some(vector.iter().map(|x| x / length).collect()),
        }
    };
    let tags = Value::Keywords(vec!["reef".to_owned(), "light".to_owned()]);
    let date = Value::Date { seconds: 86_400, text: "1970-01-02T00:00:00Z".to_owned() };
    vec![
        one(
            "lamp",
            "the lamp of the reef",
            "a lamp that sends its light over the reef",
            vec![("year", Value::Number(340.0)), ("kind", word("letter")), ("tags", tags)],
            [1.0, 0.0, 0.0, 0.0],
        ),
        one(
            "lens",
            "a lens",
            "made for the lamp by an unknown hand",
            vec![("year", Value::Number(300.5)), ("kind", word("note")), ("draft", Value::Boolean(true))],
            [0.9, 0.1, 0.0, 0.0],
        ),
        one(
            "salt",
            "salt and rope",
            "what the ships carry",
            vec![("kind", word("note")), ("at", date)],
            [0.0, 1.0, 0.0, 0.0],
        ),
        one(
            "pilot",
            "the pilots",
            "they know every reef and every rock",
            vec![("year", Value::Number(350.0))],
            [0.5, 0.5, 0.0, 0.0],
        ),
        one("bread", "winter bread", "keeps until spring", vec![], [0.0, 0.0, 1.0, 0.0]),
        one(
            "it's a \"test\" \\ 100%",
            "it's quoted; DROP TABLE notes --",
            "quotes ' and \" and \\ and a lighthouse",
            vec![("kind", word("it's \"so\""))],
            [0.0, 0.0, 0.0, 1.0],
        ),
    ]
}

fn compare(name: &str, operator: Operator, value: Value) -> Condition {
    Condition::Compare { name: name.to_owned(), operator, value }
}

/// Fills an empty engine and asks it everything that it can be asked.
pub(crate) fn exercise(engine: &Engine) {
    let documents = documents();
    engine.prepare(Some(DIMENSIONS), &kinds()).expect("prepared");
    engine.prepare(Some(DIMENSIONS), &kinds()).expect("prepared twice");
    engine.push(&documents).expect("put");
    // Again, and with another text: each document is there once, with its last text.
    let mut changed = documents[4].clone();
    changed.text = "keeps until summer".to_owned();
    engine.push(&documents[..2]).expect("put again");
    engine.push(&[changed]).expect("put anew");
    engine.refresh().expect("visible");
    if engine.kind().can_be(Half::Lexical) {
        lexical(engine, documents.len());
    }
    if engine.kind().can_be(Half::Dense) {
        dense(engine);
    }
}

fn lexical(engine: &Engine, count: usize) {
    let found = |text: &str, filter: Option<&Condition>| -> Vec<String> {
        let ranking = engine.lexical(text, 10, filter).expect("an answer");
        assert_eq!(ranking.partial, None);
        assert!(ranking.hits.windows(2).all(|pair| pair[1].score <= pair[0].score), "{ranking:?}");
        ranking.hits.into_iter().map(|hit| hit.id).collect()
    };
    assert_eq!(engine.count().expect("a count"), count as u64);
    // Any word fits; more of them, and rarer ones, come first.
    let ids = found("lamp reef", None);
    assert_eq!((ids[0].as_str(), ids.len()), ("lamp", 3), "{ids:?}");
    assert_eq!(found("ships", None), ["salt"]);
    assert_eq!(found("ship", None), ["salt"], "words are stemmed");
    assert_eq!(found("summer", None), ["bread"]);
    assert_eq!(found("spring", None), Vec::<String>::new());
    assert_eq!(found("lighthouse", None), ["it's a \"test\" \\ 100%"]);
    assert_eq!(engine.lexical("lamp reef", 1, None).expect("an answer").hits.len(), 1);
    // What looks like syntax is text.
    for hostile in ["'); DROP TABLE notes; --", "@title \"", "lamp & | ! ( ) : * ~ ^ \\", "", "\u{0}", "-"] {
        engine.lexical(hostile, 10, None).expect("an answer");
    }
    filters(|filter| {
        let mut ids = found("lamp reef lens salt rope pilots bread quotes", Some(filter));
        ids.sort();
        ids
    });
    let texts = engine.documents(&["lens", "none", "it's a \"test\" \\ 100%"], 10).expect("documents");
    let lens = texts[0].as_ref().expect("the lens");
    assert_eq!((lens.id.as_str(), lens.title.as_str(), lens.text.as_str()), ("lens", "a lens", "made for t"));
    assert_eq!((lens.metadata["year"].as_f64(), &texts[1]), (Some(300.5), &None));
    assert_eq!(texts[2].as_ref().map(|one| one.title.as_str()), Some("it's quoted; DROP TABLE notes --"));
}

fn dense(engine: &Engine) {
    let ranking = engine.dense(&[1.0, 0.0, 0.0, 0.0], 3, None).expect("an answer");
    let ids: Vec<&str> = ranking.hits.iter().map(|hit| hit.id.as_str()).collect();
    assert_eq!(ids, ["lamp", "lens", "pilot"]);
    for (hit, cosine) in ranking.hits.iter().zip([1.0, 0.993_883_7, std::f32::consts::FRAC_1_SQRT_2]) {
        assert!((hit.score - cosine).abs() < 1e-4, "{hit:?}");
    }
    filters(|filter| {
        let ranking = engine.dense(&[0.5, 0.5, 0.5, 0.5], 10, Some(filter)).expect("an answer");
        let mut ids: Vec<String> = ranking.hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        ids
    });
}

/// Every kind of condition, and the documents that fit it.
fn filters(found: impl Fn(&Condition) -> Vec<String>) {
    let quoted = "it's a \"test\" \\ 100%";
    let word = |text: &str| Value::Keyword(text.to_owned());
    let year = |operator, number| compare("year", operator, Value::Number(number));
    let date = |operator, seconds| {
        compare("at", operator, Value::Date { seconds, text: "1970-01-02T00:00:00Z".to_owned() })
    };
    let exists = |name: &str| Condition::Exists { name: name.to_owned() };
    let not = |inner| Condition::Not(Box::new(inner));
    let cases: Vec<(Condition, Vec<&str>)> = vec![
        (year(Operator::GreaterOrEqual, 340.0), vec!["lamp", "pilot"]),
        (year(Operator::Greater, 340.0), vec!["pilot"]),
        (year(Operator::Less, 340.0), vec!["lens"]),
        (year(Operator::LessOrEqual, 340.0), vec!["lamp", "lens"]),
        (year(Operator::Equal, 300.5), vec!["lens"]),
        (year(Operator::NotEqual, 300.5), vec!["lamp", "pilot"]),
        (compare("kind", Operator::Equal, word("note")), vec!["lens", "salt"]),
        (compare("kind", Operator::NotEqual, word("note")), vec![quoted, "lamp"]),
        (compare("kind", Operator::Equal, word("it's \"so\"")), vec![quoted]),
        (compare("tags", Operator::Equal, word("light")), vec!["lamp"]),
        (compare("draft", Operator::Equal, Value::Boolean(true)), vec!["lens"]),
        (compare("draft", Operator::Equal, Value::Boolean(false)), vec![]),
        (date(Operator::Equal, 86_400), vec!["salt"]),
        (date(Operator::Less, 86_400), vec![]),
        (exists("year"), vec!["lamp", "lens", "pilot"]),
        // What is missing fits no comparison, and so fits every negated one.
        (not(year(Operator::GreaterOrEqual, 340.0)), vec!["bread", quoted, "lens", "salt"]),
        (not(exists("kind")), vec!["bread", "pilot"]),
        (
            Condition::Or(vec![
                compare("kind", Operator::Equal, word("letter")),
                Condition::And(vec![exists("year"), not(exists("kind"))]),
            ]),
            vec!["lamp", "pilot"],
        ),
    ];
    for (condition, expected) in cases {
        assert_eq!(found(&condition), expected, "{condition:?}");
    }
}

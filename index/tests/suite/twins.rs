//! Fast code against slow twins, over small spaces where ties and edges are common.

use crate::common::{self, document, options};
use orion_index::{Document, Filter, Fusion, Hit, Index, Value, fuse};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn by_rank(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
    hits
}

/// Unit vectors of which many are equal: (3, 4) / 5 on two of the axes.
fn few_directions(choice: u8) -> Vec<f32> {
    let mut vector = vec![0.0; common::DIMENSIONS];
    let (first, second) = (usize::from(choice % 4), 4 + usize::from(choice / 4 % 3));
    (vector[first], vector[second]) = (0.6, 0.8);
    vector
}

fn ranking(most: usize) -> impl Strategy<Value = Vec<Hit>> {
    prop::collection::btree_map(0_u8..20, 0_i16..5, 0..most).prop_map(|scores| {
        by_rank(
            scores
                .into_iter()
                .map(|(id, score)| Hit { id: id.to_string(), score: f32::from(score) })
                .collect(),
        )
    })
}

/// The definition, word by word: quadratic, and fused in the order of the definition.
fn naive_fusion(lexical: &[Hit], dense: &[Hit], fusion: Fusion, k: usize) -> Vec<Hit> {
    let part = |ranking: &[Hit], id: &str, weight: f32| -> f32 {
        let Some(place) = ranking.iter().position(|hit| hit.id == id) else { return 0.0 };
        let scores: Vec<f32> = ranking.iter().map(|hit| hit.score).collect();
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
        match fusion {
            Fusion::ReciprocalRank { k } => 1.0 / (k + 1.0 + place as f32),
            _ if most == least => weight,
            _ => weight * ((scores[place] - least) / (most - least)),
        }
    };
    let weight = if let Fusion::Convex { dense_weight } = fusion { dense_weight } else { 0.0 };
    let mut ids: Vec<&str> = lexical.iter().chain(dense).map(|hit| hit.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let score = |id: &str| part(lexical, id, 1.0 - weight) + part(dense, id, weight);
    let mut fused = by_rank(ids.into_iter().map(|id| Hit { id: id.to_owned(), score: score(id) }).collect());
    fused.truncate(k);
    fused
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fusion_is_its_definition(
        lexical in ranking(15),
        dense in ranking(15),
        weight in 0_u8..=4,
        k in 0_usize..25,
    ) {
        let convex = Fusion::Convex { dense_weight: f32::from(weight) / 4.0 };
        for fusion in [Fusion::ReciprocalRank { k: 60.0 }, Fusion::ReciprocalRank { k: 1.0 }, convex] {
            let fast = fuse(&lexical, &dense, fusion, k);
            let slow = naive_fusion(&lexical, &dense, fusion, k);
            prop_assert_eq!(fast.len(), slow.len());
            for (fast, slow) in fast.iter().zip(&slow) {
                prop_assert!((fast.score - slow.score).abs() < 1e-6, "{:?} {:?}", fast, slow);
            }
        }
    }
}

/// A comparison or a combination, as an expression and as a predicate.
#[derive(Debug, Clone)]
enum Condition {
    Year(&'static str, i32),
    Lang(bool, &'static str),
    Not(Box<Condition>),
    Both(Box<Condition>, Box<Condition>),
    Either(Box<Condition>, Box<Condition>),
}

impl Condition {
    fn expression(&self) -> String {
        match self {
            Self::Year(operator, year) => format!("year {operator} {year}"),
            Self::Lang(equal, lang) => format!("lang {} {lang}", if *equal { ":" } else { "!=" }),
            Self::Not(inner) => format!("NOT ({})", inner.expression()),
            Self::Both(left, right) => format!("({}) AND ({})", left.expression(), right.expression()),
            Self::Either(left, right) => format!("({}) OR ({})", left.expression(), right.expression()),
        }
    }

    fn holds(&self, year: Option<i32>, lang: Option<&str>) -> bool {
        match self {
            Self::Year(operator, wanted) => year.is_some_and(|year| match *operator {
                "<" => year < *wanted,
                "<=" => year <= *wanted,
                ">" => year > *wanted,
                ">=" => year >= *wanted,
                "!=" => year != *wanted,
                _ => year == *wanted,
            }),
            Self::Lang(equal, wanted) => lang.is_some_and(|lang| (lang == *wanted) == *equal),
            Self::Not(inner) => !inner.holds(year, lang),
            Self::Both(left, right) => left.holds(year, lang) && right.holds(year, lang),
            Self::Either(left, right) => left.holds(year, lang) || right.holds(year, lang),
        }
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let operator = prop::sample::select(vec!["<", "<=", ">", ">=", "=", "!=", ":"]);
    let leaf = prop_oneof![
        (operator, 0..4).prop_map(|(operator, year)| Condition::Year(operator, year)),
        (any::<bool>(), prop::sample::select(vec!["en", "fr", "de"]))
            .prop_map(|(equal, lang)| Condition::Lang(equal, lang)),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Condition::Not(Box::new(one))),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| Condition::Both(Box::new(left), Box::new(right))),
            (inner.clone(), inner)
                .prop_map(|(left, right)| Condition::Either(Box::new(left), Box::new(right))),
        ]
    })
}

/// Id, vector, year, language.
type Known = (String, Vec<f32>, Option<i32>, Option<&'static str>);

/// Direction, year, language, words.
type Row = (u8, Option<i32>, Option<&'static str>, Vec<&'static str>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let lang = prop::sample::select(vec!["en", "fr"]);
    let words = prop::collection::vec(prop::sample::select(vec!["apple", "berry", "cherry", "plum"]), 1..8);
    prop::collection::vec((0_u8..12, prop::option::of(0..4), prop::option::of(lang), words), 1..40)
}

fn index_of(rows: &[Row], dir: &std::path::Path) -> Index {
    let index = Index::create(&dir.join("index"), &common::settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for (number, (direction, year, lang, words)) in rows.iter().enumerate() {
        let mut metadata = BTreeMap::new();
        year.map(|year| metadata.insert("year".to_owned(), Value::Number(f64::from(year))));
        lang.map(|lang| metadata.insert("lang".to_owned(), Value::Keyword(lang.to_owned())));
        let vector = Some(few_directions(*direction));
        writer
            .add(Document { metadata, vector, ..document(&format!("{number:02}"), &words.join(" ")) })
            .unwrap();
        if number % 7 == 6 {
            writer.commit().unwrap();
        }
    }
    // So that both names are known.
    let metadata = BTreeMap::from([
        ("year".to_owned(), Value::Number(99.0)),
        ("lang".to_owned(), Value::Keyword("xx".to_owned())),
    ]);
    writer.add(Document { metadata, vector: Some(few_directions(0)), ..document("last", "apple") }).unwrap();
    writer.commit().unwrap();
    index
}

/// BM25 with k1 1.2 and b 0.75 (Robertson and Zaragoza 2009), from the formula.
fn naive_bm25(rows: &[Row], query: &[&str]) -> Vec<Hit> {
    let mut texts: Vec<(String, Vec<&str>)> =
        rows.iter().enumerate().map(|(number, row)| (format!("{number:02}"), row.3.clone())).collect();
    texts.push(("last".to_owned(), vec!["apple"]));
    let count = texts.len() as f64;
    let mean = texts.iter().map(|(_, words)| words.len() as f64).sum::<f64>() / count;
    let mut hits = Vec::new();
    for (id, words) in &texts {
        let mut score = 0.0;
        for wanted in query {
            let with = texts.iter().filter(|(_, words)| words.contains(wanted)).count() as f64;
            let frequency = words.iter().filter(|word| *word == wanted).count() as f64;
            let idf = (1.0 + (count - with + 0.5) / (with + 0.5)).ln();
            let length = 1.0 - 0.75 + 0.75 * words.len() as f64 / mean;
            score += idf * frequency * 2.2 / (frequency + 1.2 * length);
        }
        if query.iter().any(|wanted| words.contains(wanted)) {
            hits.push(Hit { id: id.clone(), score: score as f32 });
        }
    }
    by_rank(hits)
}

proptest! {
    // Each case writes an index, so there are fewer.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn searches_are_their_definitions(rows in rows(), conditions in prop::collection::vec(condition(), 3), query in 0_u8..12, k in 1_usize..50) {
        let dir = tempfile::tempdir().unwrap();
        let index = index_of(&rows, dir.path());
        let searcher = index.searcher();
        let mut all: Vec<Known> = rows
            .iter()
            .enumerate()
            .map(|(number, row)| (format!("{number:02}"), few_directions(row.0), row.1, row.2))
            .collect();
        all.push(("last".to_owned(), few_directions(0), Some(99), Some("xx")));
        let direction = few_directions(query);
        let mut filters: Vec<Option<&Condition>> = conditions.iter().map(Some).collect();
        filters.push(None);
        for condition in filters {
            let filter = condition.map(|condition| Filter::parse(&condition.expression()).unwrap());
            let passes = |year, lang| condition.is_none_or(|condition| condition.holds(year, lang));
            let mut slow = by_rank(
                all.iter()
                    .filter(|(_, _, year, lang)| passes(*year, *lang))
                    .map(|(id, vector, _, _)| Hit { id: id.clone(), score: orion_kernels::dot(&direction, vector) })
                    .collect(),
            );
            slow.truncate(k);
            let fast = searcher.dense_vector(&direction, k, filter.as_ref()).unwrap();
            prop_assert_eq!(&fast, &slow, "dense, {:?}", &filter);
            for words in ["apple", "berry cherry", "plum apple berry"] {
                let terms: Vec<&str> = words.split(' ').collect();
                let mut slow = naive_bm25(&rows, &terms);
                slow.retain(|hit| all.iter().any(|(id, _, year, lang)| *id == hit.id && passes(*year, *lang)));
                slow.truncate(k);
                let fast = searcher.lexical(words, k, filter.as_ref()).unwrap();
                prop_assert_eq!(fast.len(), slow.len(), "lexical {}, {:?}", words, &filter);
                for (fast, slow) in fast.iter().zip(&slow) {
                    prop_assert!((fast.score - slow.score).abs() < 1e-4, "{:?} {:?}", fast, slow);
                }
                prop_assert_eq!(by_rank(fast.clone()), fast);
            }
            // The best k of one word are the first k of all: ties at the edge included.
            let whole = searcher.lexical("apple", 100, filter.as_ref()).unwrap();
            let best = searcher.lexical("apple", k, filter.as_ref()).unwrap();
            prop_assert_eq!(&best[..], &whole[..k.min(whole.len())]);
        }
    }
}

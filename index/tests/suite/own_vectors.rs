//! Vectors that documents bring: against brute force, in every space and way; documents without one; refusals.

use crate::common::{document, options};
use crate::dense::Random;
use orion_index::{
    Clause, DenseSearch, DenseSettings, Document, Filter, Hit, Index, IndexSettings, Mode, OpenOptions,
    Query, Searched, Searcher, Space, Value, Writer, put_back,
};
use std::collections::BTreeMap;

/// What an index should hold: text and vector by id.
type Model = BTreeMap<String, (String, Option<Vec<f32>>)>;

fn settings(dimensions: usize, space: Space, search: DenseSearch) -> IndexSettings {
    let base = IndexSettings::client_vectors(dimensions, space);
    let dense = base.dense.map(|dense| DenseSettings { search, graph_from: 20, ..dense });
    IndexSettings { dense, fields: 1, ..base }
}

/// Small whole numbers: their products and distances are exact, and ties are common.
fn whole(random: &mut Random, dimensions: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dimensions).map(|_| (random.next() % 7) as f32 - 3.0).collect();
    // Never all zeros.
    vector[0] += if vector[0] == 0.0 { 1.0 } else { 0.0 };
    vector
}

fn add(writer: &mut Writer, model: &mut Model, id: &str, text: &str, vector: Option<Vec<f32>>) {
    let metadata = BTreeMap::from([("even".to_owned(), Value::Boolean(id.len().is_multiple_of(2)))]);
    writer.add(Document { metadata, vector: vector.clone(), ..document(id, text) }).unwrap();
    model.insert(id.to_owned(), (text.to_owned(), vector));
}

/// The definition, in twice the precision.
fn likeness(space: Space, left: &[f32], right: &[f32]) -> f64 {
    let pairs = || left.iter().zip(right).map(|(left, right)| (f64::from(*left), f64::from(*right)));
    let product: f64 = pairs().map(|(left, right)| left * right).sum();
    let length = |vector: &[f32]| vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    match space {
        Space::Cosine => product / (length(left) * length(right)),
        Space::Euclidean => -pairs().map(|(left, right)| (left - right).powi(2)).sum::<f64>(),
        Space::InnerProduct => product,
    }
}

fn brute_force(
    model: &Model,
    space: Space,
    query: &[f32],
    wanted: impl Fn(&str) -> bool,
) -> Vec<(f64, String)> {
    let mut all: Vec<(f64, String)> = model
        .iter()
        .filter(|(id, _)| wanted(id))
        .filter_map(|(id, (_, vector))| Some((likeness(space, query, vector.as_ref()?), id.clone())))
        .collect();
    all.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    all
}

/// Found is what brute force finds: in order, each with its own score. Returns how many of the best are not there.
#[track_caller]
fn check(found: &[Hit], expected: &[(f64, String)], k: usize, space: Space) -> usize {
    assert_eq!(found.len(), expected.len().min(k));
    let scores: BTreeMap<&str, f64> = expected.iter().map(|(score, id)| (id.as_str(), *score)).collect();
    // Whole numbers leave no room for rounding, unit lengths do.
    let most = if space == Space::Cosine { 1e-5 } else { 0.0 };
    let mut missed = 0;
    for (hit, (best, id)) in found.iter().zip(expected) {
        assert!((scores[hit.id.as_str()] - f64::from(hit.score)).abs() <= most, "{hit:?}");
        assert!(space == Space::Cosine || hit.id == *id, "{hit:?} in the place of {id}");
        missed += usize::from(most < (best - f64::from(hit.score)).abs());
    }
    missed
}

#[test]
fn every_space_and_way_finds_what_brute_force_finds() {
    let ways = [
        (Space::Cosine, DenseSearch::Exact),
        (Space::Cosine, DenseSearch::Quantised),
        (Space::Cosine, DenseSearch::Graph),
        (Space::Euclidean, DenseSearch::Exact),
        (Space::InnerProduct, DenseSearch::Exact),
    ];
    for dimensions in [1, 3, 33, 1000] {
        for (space, search) in ways {
            let (missed, asked) = compared(dimensions, space, search);
            // A walk may miss some, as the ordinary tests of graphs say.
            let most = if search == DenseSearch::Graph { asked / 30 } else { 0 };
            assert!(missed <= most, "{dimensions} {space:?} {search:?}: {missed} of {asked} missed");
        }
    }
}

/// How many of the best were missed, and how many there were.
fn compared(dimensions: usize, space: Space, search: DenseSearch) -> (usize, usize) {
    let root = tempfile::tempdir().unwrap();
    let index =
        Index::create(&root.path().join("one"), &settings(dimensions, space, search), options()).unwrap();
    let mut random = Random(dimensions as u64);
    let (mut writer, mut model) = (index.writer().unwrap(), Model::new());
    for number in 0..600 {
        // Each third has none, and some replace one of another kind.
        let id = format!("d{}", number * 7 % 480);
        let vector = (number % 3 != 0).then(|| whole(&mut random, dimensions));
        add(&mut writer, &mut model, &id, &format!("word{} all", number % 4), vector);
        if number == 70 {
            writer.commit().unwrap();
        }
    }
    writer.delete("d7").unwrap();
    model.remove("d7");
    writer.commit().unwrap();
    let stats = index.stats().unwrap();
    let rows = stats.vectors + stats.dead_vectors;
    assert_eq!(stats.quantised_vectors, if search == DenseSearch::Exact { 0 } else { rows });
    assert_eq!(stats.graph_vectors, if search == DenseSearch::Graph { rows } else { 0 });
    let searcher = index.searcher();
    holds(&searcher, &model);
    let even = |id: &str| id.len().is_multiple_of(2);
    let has_word = |id: &str| model[id].0.starts_with("word2 ");
    let filter = Filter::parse("even = true").unwrap();
    let is_even = Clause::Filter(filter.clone());
    // Among the documents of any other query.
    let word = Clause::Words { searched: Searched::Whole, text: "word2".to_owned(), minimum: 1 };
    let (mut missed, mut asked) = (0, 0);
    for _ in 0..5 {
        let query = whole(&mut random, dimensions);
        let all = brute_force(&model, space, &query, |_| true);
        let of_even = brute_force(&model, space, &query, even);
        let of_word = brute_force(&model, space, &query, has_word);
        for k in [1, 10, 1000] {
            for (found, expected) in [
                (searcher.dense_vector(&query, k, None), &all),
                (searcher.dense_vector(&query, k, Some(&filter)), &of_even),
                (searcher.nearest(&query, k, None), &all),
                (searcher.nearest(&query, k, Some(&is_even)), &of_even),
                (searcher.nearest(&query, k, Some(&word)), &of_word),
                (searcher.nearest(&query, k, Some(&Clause::Nothing)), &Vec::new()),
            ] {
                missed += check(&found.unwrap(), expected, k, space);
                asked += expected.len().min(k);
            }
        }
    }
    (missed, asked)
}

/// Both halves hold the model, and nothing else.
#[track_caller]
fn holds(searcher: &Searcher, model: &Model) {
    assert_eq!(searcher.ids(), model.keys().cloned().collect::<Vec<_>>());
    let with: Vec<&String> =
        model.iter().filter(|(_, (_, vector))| vector.is_some()).map(|(id, _)| id).collect();
    assert_eq!(searcher.vector_ids().iter().collect::<Vec<_>>(), with);
    for (id, (text, vector)) in model {
        let kept = searcher.vector_of(id).unwrap();
        assert_eq!(kept.is_some(), vector.is_some(), "{id}");
        let stored = searcher.documents(&[id]).unwrap().pop().flatten().unwrap();
        assert_eq!(&stored.text, text);
        let Some((kept, vector)) = kept.zip(vector.as_ref()) else { continue };
        assert!(kept == *vector || 0.9999 < likeness(Space::Cosine, &kept, vector), "{id}");
    }
    assert_eq!(searcher.vector_of("nobody").unwrap(), None);
}

/// Vectors come and go with their documents, through the log, commits, merges and copies.
#[test]
fn a_life_with_and_without_vectors() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("live");
    // Opened with an encoder of another length, as a server opens all its indexes: it is left alone.
    let open = || Index::open(&dir, options()).unwrap();
    drop(Index::create(&dir, &settings(3, Space::Euclidean, DenseSearch::Exact), options()).unwrap());
    let mut model = Model::new();
    let mut index = open();
    assert!(!index.searcher().can_encode());
    let mut writer = index.writer().unwrap();
    add(&mut writer, &mut model, "a", "one fox", Some(vec![3.0, 4.0, 0.0]));
    add(&mut writer, &mut model, "b", "two foxes", None);
    add(&mut writer, &mut model, "c", "three foxes", Some(vec![0.0; 3]));
    assert_eq!(writer.waiting_texts(), 0);
    // Acknowledged and not committed: it comes back from the log, though nothing can encode the one without a vector.
    writer.sync().unwrap();
    drop(writer);
    index = open();
    holds(&index.searcher(), &model);
    assert_eq!(index.stats().unwrap().pending_changes, 0);
    // As it was given: lengths count here.
    assert_eq!(index.searcher().vector_of("a").unwrap(), Some(vec![3.0, 4.0, 0.0]));

    // From none to one and back, within a commit and across commits.
    let mut writer = index.writer().unwrap();
    add(&mut writer, &mut model, "a", "one fox", None);
    add(&mut writer, &mut model, "b", "two foxes", Some(vec![1.0, 1.0, 1.0]));
    add(&mut writer, &mut model, "d", "four foxes", None);
    add(&mut writer, &mut model, "d", "four foxes again", Some(vec![0.5, 0.0, 0.0]));
    add(&mut writer, &mut model, "e", "five foxes", None);
    writer.commit().unwrap();
    holds(&index.searcher(), &model);
    assert!(writer.delete("e").unwrap() && !writer.delete("e").unwrap());
    model.remove("e");
    add(&mut writer, &mut model, "c", "three", None);
    writer.commit().unwrap();
    holds(&index.searcher(), &model);
    writer.merge().unwrap();
    holds(&index.searcher(), &model);
    let stats = index.stats().unwrap();
    assert_eq!((stats.documents, stats.vectors, stats.dead_vectors, stats.vector_segments), (4, 2, 0, 1));
    drop(writer);

    // Texts are answered by words, whatever is asked for; what needs an encoder says that there is none.
    let searcher = index.searcher();
    let found = searcher.search(&[Query::new("fox", Mode::Best)]).unwrap();
    assert_eq!(found[0].len(), 3);
    let reason = "could not search by embedding: the index's documents bring their own vectors, which no text can be \
                  compared with";
    assert_eq!(searcher.dense(&["fox"], 3, None).unwrap_err().to_string(), reason);
    let hybrid = Query::new("fox", Mode::Hybrid(orion_index::Fusion::default()));
    assert_eq!(searcher.search(&[hybrid]).unwrap_err().to_string(), reason);
    assert!(searcher.similarity(&[("a", "b")]).is_err());

    // A copy has them, and goes its own way.
    let copy = root.path().join("copy");
    let copied = index.copy_committed(&copy, &[]).unwrap();
    let back = root.path().join("back");
    put_back(&copy, &copied, &back).unwrap();
    let restored = Index::open(&back, OpenOptions::default()).unwrap();
    holds(&restored.searcher(), &model);
    let mut writer = restored.writer().unwrap();
    let mut other = model.clone();
    add(&mut writer, &mut other, "b", "two", None);
    writer.commit().unwrap();
    holds(&restored.searcher(), &other);
    holds(&open().searcher(), &model);

    // All vectors may go.
    let mut writer = index.writer().unwrap();
    for id in ["b", "d"] {
        add(&mut writer, &mut model, id, "none", None);
    }
    writer.commit().unwrap();
    writer.merge().unwrap();
    holds(&index.searcher(), &model);
    assert_eq!(index.searcher().dense_vector(&[1.0, 0.0, 0.0], 3, None).unwrap(), []);
    drop(writer);
    holds(&open().searcher(), &model);
}

#[test]
fn refusals_say_what_was_expected() {
    let root = tempfile::tempdir().unwrap();
    let made =
        |name: &str, settings: &IndexSettings| Index::create(&root.path().join(name), settings, options());
    let vector = |vector: Vec<f32>| Document { vector: Some(vector), ..document("v", "x") };
    let refused = |index: &Index, given: Vec<f32>, expected: &str, got: &str| {
        let query = index.searcher().dense_vector(&given, 1, None).unwrap_err().to_string();
        assert_eq!(query, format!("query vector: expected {expected}, got {got}"));
        let added = index.writer().unwrap().add(vector(given)).unwrap_err().to_string();
        assert_eq!(added, format!("document `v`: expected a vector of {expected}, got {got}"));
    };
    let cosine = made("cosine", &settings(3, Space::Cosine, DenseSearch::Auto)).unwrap();
    let expected = "3 finite values that are not all zero";
    refused(&cosine, vec![1.0; 4], expected, "4 values");
    refused(&cosine, Vec::new(), expected, "0 values");
    refused(&cosine, vec![0.0; 3], expected, "all zeros");
    refused(&cosine, vec![1.0, f32::NAN, 0.0], expected, "a value that is not finite");
    let product = made("product", &settings(3, Space::InnerProduct, DenseSearch::Exact)).unwrap();
    let expected = "3 finite values of a length below 1e18";
    refused(&product, vec![1.0; 2], expected, "2 values");
    refused(&product, vec![f32::INFINITY, 0.0, 0.0], expected, "a value that is not finite");
    refused(&product, vec![3e30, 4e30, 0.0], expected, "a length of 5.0e30");
    // As long as may be, and its score is still a number.
    let mut writer = product.writer().unwrap();
    writer.add(vector(vec![9e17, 0.0, 0.0])).unwrap();
    writer.commit().unwrap();
    let found = product.searcher().dense_vector(&[-9e17, 0.0, 0.0], 1, None).unwrap();
    assert!(found[0].score.is_finite() && found[0].score < -8e35, "{found:?}");

    let refused = |name: &str, settings: IndexSettings, expected: &str| {
        assert_eq!(made(name, &settings).unwrap_err().to_string(), expected);
        assert!(!root.path().join(name).exists(), "nothing was made");
    };
    let none = settings(0, Space::Cosine, DenseSearch::Auto);
    refused("none", none, "dimensions: expected 1 to 65536, got 0");
    let long = settings(16_001, Space::Cosine, DenseSearch::Auto);
    refused("long", long, "dimensions: expected 1 to 16000, got 16001");
    let walked = settings(3, Space::Euclidean, DenseSearch::Graph);
    let expected = "dense search: expected exact search of vectors that documents bring, by euclidean distance, got \
                    graph search";
    refused("walked", walked, expected);
}

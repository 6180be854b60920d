//! Codes and graphs against exact search: the same answers, or nearly; and what happens to their files.

#[path = "../../examples/support/random.rs"]
mod random;

pub(crate) use random::Random;

use crate::common::{document, options};
use crate::damage::copy;
use orion_index::{
    DenseSearch, DenseSettings, Document, Filter, Hit, Index, IndexSettings, OpenOptions, Searcher, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DIMENSIONS: usize = 40;
/// Rows of the larger collection: enough that a walk meets a small part of them.
const MANY: u64 = 3000;

impl Random {
    /// Sums of four uniform values are normal enough for a direction.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1_u64 << 24) as f32).sum::<f32>() - 2.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| self.normal()).collect()
    }
}

/// One of thirty directions and some noise of its own, so that near ones are many and far ones far.
fn clustered(number: u64) -> Vec<f32> {
    let mut own = Random(number);
    let middle = Random((1 << 40) | (own.next() % 30)).vector();
    middle.iter().map(|value| value + 0.5 * own.normal()).collect()
}

fn queries() -> impl Iterator<Item = Vec<f32>> {
    (0..40).map(|number| clustered(1 << 30 | number))
}

fn settings(search: DenseSearch) -> IndexSettings {
    let dense =
        DenseSettings { dimensions: DIMENSIONS, search, graph_from: 1000, ..DenseSettings::default() };
    IndexSettings { dense: Some(dense), ..IndexSettings::default() }
}

fn bare() -> OpenOptions {
    OpenOptions { encoder: None, ..options() }
}

fn numbered(number: u64, vector: Vec<f32>) -> Document {
    // Powers of ten: how many documents a filter lets through.
    let rank = Value::Number(f64::from(number.trailing_zeros()));
    let metadata = BTreeMap::from([("rank".to_owned(), rank)]);
    Document { metadata, vector: Some(vector), ..document(&format!("d{number:05}"), "text") }
}

/// `count` documents in one commit.
fn index_of(dir: &Path, search: DenseSearch, count: u64) -> Index {
    let index = Index::create(dir, &settings(search), bare()).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 0..count {
        writer.add(numbered(number, clustered(number))).unwrap();
    }
    writer.commit().unwrap();
    index
}

fn ask(
    searcher: &Searcher,
    query: &[f32],
    k: usize,
    filter: Option<&Filter>,
    search: DenseSearch,
) -> Vec<Hit> {
    searcher.dense_vector_by(query, k, filter, search).unwrap()
}

/// Which share of the exact best is among those found; every score found must be the exact one of its document.
fn recall(searcher: &Searcher, k: usize, filter: Option<&Filter>, search: DenseSearch) -> f64 {
    let (mut found_of_best, mut best_of_all) = (0, 0);
    for query in queries() {
        let exact = ask(searcher, &query, usize::MAX >> 32, filter, DenseSearch::Exact);
        let scores: BTreeMap<&str, f32> = exact.iter().map(|hit| (hit.id.as_str(), hit.score)).collect();
        let found = ask(searcher, &query, k, filter, search);
        for hit in &found {
            assert_eq!(scores.get(hit.id.as_str()), Some(&hit.score), "{search:?}: {}", hit.id);
        }
        let ordered = found.windows(2).all(|pair| pair[1].score <= pair[0].score);
        assert!(ordered, "{search:?}: {found:?}");
        let best: BTreeSet<&str> = exact.iter().take(k).map(|hit| hit.id.as_str()).collect();
        assert_eq!(found.len(), best.len(), "{search:?}");
        found_of_best += found.iter().filter(|hit| best.contains(hit.id.as_str())).count();
        best_of_all += best.len();
    }
    f64::from(found_of_best as u32) / f64::from(best_of_all as u32)
}

#[test]
fn codes_give_the_exact_answer() {
    let root = tempfile::tempdir().unwrap();
    let index = Index::create(&root.path().join("index"), &settings(DenseSearch::Quantised), bare()).unwrap();
    let mut writer = index.writer().unwrap();
    // Several segments, some rows of them dead; many vectors are equal, so that ties are common.
    for number in 0..600 {
        writer.add(numbered(number % 450, clustered(number / 2))).unwrap();
        if number % 200 == 199 {
            writer.delete(&format!("d{:05}", number - 100)).unwrap();
            writer.commit().unwrap();
        }
    }
    let stats = index.stats().unwrap();
    assert_eq!((stats.dense_search, stats.vector_segments), (Some(DenseSearch::Quantised), 3));
    assert_eq!(stats.quantised_vectors, stats.vectors + stats.dead_vectors);
    assert_eq!((stats.graph_vectors, stats.damage.len()), (0, 0));
    let searcher = index.searcher();
    let filters = [None, Some(Filter::parse("rank < 2").unwrap()), Some(Filter::parse("rank = 5").unwrap())];
    for query in queries() {
        for k in [1, 10, 30, 1000] {
            for filter in &filters {
                let exact = ask(&searcher, &query, k, filter.as_ref(), DenseSearch::Exact);
                assert_eq!(
                    searcher.dense_vector(&query, k, filter.as_ref()).unwrap(),
                    exact,
                    "{k} {filter:?}"
                );
            }
        }
    }
}

#[test]
fn a_graph_finds_nearly_all() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = index_of(&dir, DenseSearch::Graph, MANY);
    let stats = index.stats().unwrap();
    assert_eq!((stats.quantised_vectors, stats.graph_vectors), (MANY, MANY));
    let searcher = index.searcher();
    assert!(0.999 <= recall(&searcher, 10, None, DenseSearch::Quantised));
    assert!(0.999 <= recall(&searcher, 100, None, DenseSearch::Quantised));
    assert!(0.97 <= recall(&searcher, 10, None, DenseSearch::Graph));
    assert!(0.97 <= recall(&searcher, 100, None, DenseSearch::Graph));
    // Filters of which half, and one in a thousand, get through; a walk would meet too few of the latter.
    assert!(0.97 <= recall(&searcher, 10, Some(&Filter::parse("rank < 1").unwrap()), DenseSearch::Graph));
    let narrow = Filter::parse("rank > 9").unwrap();
    assert_eq!(recall(&searcher, 10, Some(&narrow), DenseSearch::Graph), 1.0);
    let nothing = Filter::parse("rank > 90").unwrap();
    let query = queries().next().unwrap();
    assert_eq!(ask(&searcher, &query, 10, Some(&nothing), DenseSearch::Graph), []);

    // Deleted documents are passed over, replaced ones are found where they are now.
    let mut writer = index.writer().unwrap();
    let best = ask(&searcher, &query, 150, None, DenseSearch::Graph);
    for hit in &best[..120] {
        writer.delete(&hit.id).unwrap();
    }
    writer.add(numbered(1, query.clone())).unwrap();
    writer.commit().unwrap();
    let changed = index.searcher();
    let after = ask(&changed, &query, 10, None, DenseSearch::Graph);
    assert_eq!(after[0].id, "d00001");
    assert!(after.iter().all(|hit| !best[..120].iter().any(|gone| gone.id == hit.id)));
    assert!(0.97 <= recall(&changed, 10, None, DenseSearch::Graph));
    // The snapshot from before still answers as before.
    assert_eq!(ask(&searcher, &query, 150, None, DenseSearch::Graph), best);

    // A merge makes a graph of what is left; nobody keeps the old files.
    writer.merge().unwrap();
    let merged = index.stats().unwrap();
    assert_eq!((merged.vectors, merged.dead_vectors, merged.graph_vectors), (2880, 0, 2880));
    assert!(0.97 <= recall(&index.searcher(), 10, None, DenseSearch::Graph));
    assert_eq!(names(&dir), ["0000000003.codes", "0000000003.graph", "0000000003.vec"]);
    drop(writer);
    let expected = ask(&index.searcher(), &query, 20, None, DenseSearch::Graph);
    drop(index);
    let again = Index::open(&dir, bare()).unwrap();
    assert_eq!(ask(&again.searcher(), &query, 20, None, DenseSearch::Graph), expected);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("vectors")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn file(dir: &Path, ending: &str) -> PathBuf {
    let name = names(dir).into_iter().find(|name| name.ends_with(ending)).unwrap();
    dir.join("vectors").join(name)
}

/// What happens to one file.
type Damage = fn(&Path);

#[test]
fn damaged_graphs_are_set_aside_and_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    drop(index_of(&whole, DenseSearch::Graph, 1200));
    let twin = root.path().join("twin");
    drop(index_of(&twin, DenseSearch::Graph, 1200));
    let bytes = |dir: &Path| -> Vec<Vec<u8>> {
        names(dir).iter().map(|name| std::fs::read(dir.join("vectors").join(name)).unwrap()).collect()
    };
    assert_eq!(bytes(&twin), bytes(&whole), "two builds of the same documents");
    let damage: [(&str, Damage); 4] = [
        (".graph", |path| std::fs::remove_file(path).unwrap()),
        (".codes", |path| std::fs::remove_file(path).unwrap()),
        (".graph", |path| std::fs::write(path, b"no graph").unwrap()),
        (".codes", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[1000] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (ending, damage) in damage {
        let dir = root.path().join("damaged");
        copy(&whole, &dir);
        damage(&file(&dir, ending));
        let index = Index::open(&dir, bare()).unwrap();
        let stats = index.stats().unwrap();
        assert_eq!(stats.damage.len(), 1, "{:?}", stats.damage);
        assert!(stats.damage[0].contains(ending), "{:?}", stats.damage);
        assert_eq!((stats.graph_vectors, stats.vectors), (0, 1200));
        assert!(0.999 <= recall(&index.searcher(), 10, None, DenseSearch::Graph));
        // Looking again does not make it whole, a commit does, even one without changes.
        assert_eq!(index.refresh().unwrap().len(), 1200);
        assert_eq!(index.stats().unwrap().damage.len(), 1);
        index.writer().unwrap().commit().unwrap();
        let stats = index.stats().unwrap();
        assert_eq!((stats.damage.len(), stats.graph_vectors, stats.quantised_vectors), (0, 1200, 1200));
        drop(index);
        assert_eq!(bytes(&dir), bytes(&whole), "{ending}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn what_nobody_verified_may_mislead_a_walk_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    drop(index_of(&dir, DenseSearch::Graph, 1200));
    let path = file(&dir, ".graph");
    let whole = std::fs::read(&path).unwrap();
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        // Anything at all in the begins of the rows and in the neighbours; the head stays, or the file is refused.
        for _ in 0..400 {
            let at = 64 + 4 * 17 + random.next() as usize % (bytes.len() - 64 - 4 * 17);
            bytes[at] = random.next() as u8;
        }
        std::fs::write(&path, bytes).unwrap();
        let Ok(index) = Index::open(&dir, OpenOptions { verify: false, ..bare() }) else {
            panic!("the vectors are whole");
        };
        let _ = recall(&index.searcher(), 10, None, DenseSearch::Graph);
    }
}

#[test]
fn an_index_from_before_gets_its_graph_with_the_next_commit() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    drop(index_of(&dir, DenseSearch::Graph, 1200));
    let made = std::fs::read(file(&dir, ".graph")).unwrap();
    // What a manifest of before says of its segments.
    let meta_file = dir.join("lexical/meta.json");
    let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&meta_file).unwrap()).unwrap();
    let mut sealed: serde_json::Value = serde_json::from_str(meta["payload"].as_str().unwrap()).unwrap();
    let entry = sealed["manifest"]["vectors"][0].as_object_mut().unwrap();
    assert!(entry.remove("codes_crc32").is_some() && entry.remove("graph_crc32").is_some());
    sealed["crc32"] = crc32fast::hash(sealed["manifest"].to_string().as_bytes()).into();
    meta["payload"] = sealed.to_string().into();
    std::fs::write(&meta_file, meta.to_string()).unwrap();
    let index = Index::open(&dir, bare()).unwrap();
    assert_eq!(names(&dir), ["0000000001.vec"], "what no manifest names is removed");
    let stats = index.stats().unwrap();
    assert_eq!((stats.graph_vectors, stats.quantised_vectors, stats.damage.len()), (0, 0, 0));
    assert_eq!(recall(&index.searcher(), 10, None, DenseSearch::Graph), 1.0);
    index.writer().unwrap().commit().unwrap();
    assert_eq!(index.stats().unwrap().graph_vectors, 1200);
    assert_eq!(std::fs::read(file(&dir, ".graph")).unwrap(), made);
}

#[test]
fn settings_say_how() {
    let root = tempfile::tempdir().unwrap();
    let saved = |name: &str, dense: DenseSettings| {
        let dir = root.path().join(name);
        let settings = IndexSettings { dense: Some(dense), ..IndexSettings::default() };
        let index = Index::create(&dir, &settings, bare()).map_err(|error| error.to_string())?;
        drop(index);
        let index = Index::open(&dir, bare()).unwrap();
        assert_eq!(index.settings(), &settings);
        Ok::<String, String>(std::fs::read_to_string(dir.join("orion.json")).unwrap())
    };
    // Settings as they always were, to the checksum, where nothing is chosen.
    let plain = saved("plain", DenseSettings::default()).unwrap();
    assert!(!plain.contains("search") && !plain.contains("graph_from") && !plain.contains("oversampling"));
    let chosen = DenseSettings { search: DenseSearch::Graph, oversampling: 8, ..DenseSettings::default() };
    assert!(saved("chosen", chosen).unwrap().contains("\"search\": \"graph\""));
    let wrong = DenseSettings { oversampling: 0, ..DenseSettings::default() };
    assert_eq!(saved("wrong", wrong).unwrap_err(), "oversampling: expected 1 to 1000, got 0");
    for search in [DenseSearch::Exact, DenseSearch::Quantised, DenseSearch::Graph, DenseSearch::Auto] {
        assert_eq!(serde_json::json!(search), search.name());
    }
}

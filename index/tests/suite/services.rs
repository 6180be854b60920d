//! What is around an index: the catalog, the embedding cache, tuning, a second reader, reading files.

use crate::common::{self, document, embedder, options};
use orion_index::{
    Catalog, Embedder, EmbeddingCache, Fusion, Hit, Index, IndexError, JsonLines, Mode, OpenOptions, Query,
    tune,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn named_indexes() {
    let root = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&root.path().join("indexes")).unwrap();
    assert!(catalog.names().unwrap().is_empty());
    for name in ["b", "a-1"] {
        catalog.create(name, &common::settings(), options()).unwrap();
    }
    assert_eq!(catalog.names().unwrap(), ["a-1", "b"]);
    let error = catalog.create("../b", &common::settings(), options()).unwrap_err();
    assert!(matches!(error, IndexError::Name { .. }));
    assert!(matches!(catalog.index("c", options()), Err(IndexError::NotFound { .. })));
    let index = catalog.index("b", options()).unwrap();
    let writer = index.writer().unwrap();
    assert!(matches!(catalog.delete("b"), Err(IndexError::Locked { .. })));
    drop(writer);
    catalog.delete("b").unwrap();
    assert!(matches!(catalog.delete("b"), Err(IndexError::NotFound { .. })));
    assert_eq!(catalog.names().unwrap(), ["a-1"]);
}

#[test]
fn a_text_is_encoded_once() {
    let root = tempfile::tempdir().unwrap();
    let encoded = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&encoded);
    let encoder = Embedder::new("counting", common::DIMENSIONS, move |texts| {
        count.fetch_add(texts.len() as u64, Ordering::Relaxed);
        Ok(texts.iter().map(|text| common::vector(text)).collect())
    });
    let cache = root.path().join("cache");
    let embed = |texts: &[&str]| {
        let cache = EmbeddingCache::open(&cache).unwrap();
        encoder.embed(texts, Some(&cache)).unwrap()
    };
    let first = embed(&["one", "two"]);
    assert_eq!(encoded.load(Ordering::Relaxed), 2);
    let second = embed(&["two", "three", "one"]);
    assert_eq!(encoded.load(Ordering::Relaxed), 3);
    assert_eq!((&second[0], &second[2]), (&first[1], &first[0]), "to the bit");

    // A damaged record is encoded again, and so is what a torn write left; nothing wrong is ever handed out.
    let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let record = bytes.len() / 3;
    bytes[40] ^= 1;
    bytes.extend_from_slice(&[7; 20]);
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(embed(&["one", "two", "three"]), [&first[0], &first[1], &second[1]].map(Vec::clone));
    assert_eq!(encoded.load(Ordering::Relaxed), 4);
    assert_eq!(embed(&["one", "two", "three", "four"])[0], first[0]);
    assert_eq!(encoded.load(Ordering::Relaxed), 5);
    assert_eq!(std::fs::metadata(&file).unwrap().len() as usize, 5 * record);

    // Another encoder shares nothing; two handles on one folder see each other's work.
    let (left, right) = (EmbeddingCache::open(&cache).unwrap(), EmbeddingCache::open(&cache).unwrap());
    embedder("other").embed(&["one"], Some(&left)).unwrap();
    assert!(right.get("other", common::DIMENSIONS, &["one"]).unwrap()[0].is_some());
    assert!(right.get("other", common::DIMENSIONS, &["two"]).unwrap()[0].is_none());
}

#[test]
fn documents_stream_in_with_progress() {
    let root = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let teller = Arc::clone(&told);
    let options = OpenOptions {
        progress: Some(Arc::new(move |done, total| {
            assert!(done <= total);
            teller.store(done, Ordering::Relaxed);
        })),
        ..options()
    };
    let index = Index::create(&root.path().join("index"), &common::settings(), options).unwrap();
    let mut writer = index.writer().unwrap();
    let corpus: String = (0..700)
        .map(|number| format!("{{\"_id\": \"d{number}\", \"title\": \"t\", \"text\": \"text {number}\"}}\n"))
        .collect();
    let mut refused = Vec::new();
    for read in JsonLines::new(format!("{corpus}broken\n").as_bytes(), "corpus.jsonl") {
        match read {
            Ok(read) => writer.add(read).unwrap(),
            Err(error) => refused.push(error.to_string()),
        }
    }
    assert_eq!(told.load(Ordering::Relaxed), 512, "two full batches before the commit");
    writer.commit().unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 700);
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("`corpus.jsonl` line 701: expected a JSON object"), "{refused:?}");
    assert_eq!(index.searcher().vector_ids().len(), 700);
}

#[test]
fn another_reader_follows_on_refresh() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = Index::create(&dir, &common::settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    writer.add(document("a", "first")).unwrap();
    writer.commit().unwrap();
    writer.add(document("b", "second")).unwrap();
    writer.sync().unwrap();
    // A writer is at work: the reader sees what is committed.
    let reader = Index::open(&dir, options()).unwrap();
    assert_eq!(reader.searcher().ids(), ["a"]);
    writer.commit().unwrap();
    writer.merge().unwrap();
    let old = reader.searcher();
    assert_eq!(reader.refresh().unwrap().ids(), ["a", "b"]);
    // The old snapshot still answers, though its files were merged away.
    assert_eq!(old.dense(&["first"], 5, None).unwrap()[0].len(), 1);
    assert_eq!(old.lexical("first", 5, None).unwrap()[0].id, "a");
}

#[test]
fn tuning_finds_the_better_half() {
    let root = tempfile::tempdir().unwrap();
    let index = Index::create(&root.path().join("index"), &common::settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 0..20 {
        writer
            .add(document(&format!("d{number:02}"), &format!("passage {number} about word{number}")))
            .unwrap();
    }
    writer.commit().unwrap();
    let queries: BTreeMap<String, String> =
        (0..20).map(|number| (format!("q{number}"), format!("word{number}"))).collect();
    let relevance = (0..20)
        .map(|number| (format!("q{number}"), BTreeMap::from([(format!("d{number:02}"), 1)])))
        .collect();
    let reciprocal = |hits: &[Hit], judged: &BTreeMap<String, i32>| {
        hits.iter()
            .position(|hit| judged.contains_key(&hit.id))
            .map_or(0.0, |place| 1.0 / (place as f64 + 1.0))
    };
    let searcher = index.searcher();
    let tuned = tune(&searcher, &queries, &relevance, 10, &reciprocal).unwrap();
    assert_eq!(tuned.lexical, 1.0);
    assert!(tuned.dense < 1.0, "{tuned:?}");
    assert_eq!((tuned.value, tuned.dense_weight, tuned.queries, tuned.curve.len()), (1.0, 0.0, 20, 21));
    // The value of the chosen weight is the one that searching with it gives.
    let mode = Mode::Hybrid(Fusion::Convex { dense_weight: 0.5 });
    let asked: Vec<Query> = queries.values().map(|text| Query::new(text, mode)).collect();
    let found = searcher.search(&asked).unwrap();
    let value: f64 =
        found.iter().zip(queries.keys()).map(|(hits, id)| reciprocal(hits, &relevance[id])).sum::<f64>()
            / 20.0;
    assert!((value - tuned.curve[10].1).abs() < 1e-9);
    let nobody = BTreeMap::new();
    let error = tune(&searcher, &queries, &nobody, 10, &reciprocal).unwrap_err().to_string();
    assert!(error.starts_with("tuning queries: expected at least one query with judgements"), "{error}");
}

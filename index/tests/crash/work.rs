//! The work that children do, and what must be there afterwards.

#[path = "../../examples/support/random.rs"]
mod random;

pub(crate) use random::Random;

use orion_index::{
    DenseSearch, DenseSettings, Document, Embedder, Index, IndexSettings, OpenOptions, Value, VectorSource,
    Writer,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Id to text: what an index must hold.
pub(crate) type Model = BTreeMap<String, String>;

/// Length of the vectors.
pub(crate) const DIMENSIONS: usize = 8;

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One change: a text for the id, or none to delete it.
pub(crate) type Change = (String, Option<String>);

/// Batches of changes over few ids, so that most changes replace or delete; each text occurs once.
pub(crate) fn batches(seed: u64) -> impl Iterator<Item = Vec<Change>> {
    let mut random = Random(seed);
    (0..200).map(move |batch| {
        let size = 1 + random.below(8);
        (0..size)
            .map(|place| {
                let id = format!("id{}", random.below(60));
                let text = format!("s{seed}b{batch}p{place} shared words");
                (id, (random.below(4) != 0).then_some(text))
            })
            .collect()
    })
}

/// One direction for each text, far enough from that of any other.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let seed = text.bytes().fold(17_u64, |hash, byte| hash.wrapping_mul(1_099_511_628_211) ^ u64::from(byte));
    let mut random = Random(seed);
    (0..DIMENSIONS).map(|_| random.below(2001) as f32 - 1000.5).collect()
}

pub(crate) fn options() -> OpenOptions {
    let encode = |texts: &[&str]| Ok(texts.iter().map(|text| vector(text)).collect());
    OpenOptions {
        encoder: Some(Embedder::new("crash-test", DIMENSIONS, encode)),
        writer_memory_bytes: 15_000_000,
        ..OpenOptions::default()
    }
}

pub(crate) fn settings() -> IndexSettings {
    let dense = DenseSettings { dimensions: DIMENSIONS, ..DenseSettings::default() };
    IndexSettings { dense: Some(dense), ..IndexSettings::default() }
}

/// With codes beside all vectors, and graphs beside all but the fewest; an encoder makes the vectors, or documents bring
/// them.
pub(crate) fn graph_settings(source: VectorSource) -> IndexSettings {
    let dense = DenseSettings {
        dimensions: DIMENSIONS,
        source,
        search: DenseSearch::Graph,
        graph_from: 4,
        ..DenseSettings::default()
    };
    IndexSettings { dense: Some(dense), ..IndexSettings::default() }
}

/// Some documents bring their vector, about every second one. The others are encoded, or have none.
pub(crate) fn brings_vector(text: &str) -> bool {
    vector(text)[0] < 0.0
}

pub(crate) fn apply(writer: &mut Writer, (id, text): &Change) {
    let Some(text) = text else {
        writer.delete(id).unwrap();
        return;
    };
    let metadata = BTreeMap::from([("length".to_owned(), Value::Number(text.len() as f64))]);
    let own = brings_vector(text).then(|| vector(text));
    let (id, text) = (id.clone(), text.clone());
    writer
        .add(Document { id, title: String::new(), text, metadata, vector: own, ..Document::default() })
        .unwrap();
}

pub(crate) fn change_model(model: &mut Model, batch: &[Change]) {
    for (id, text) in batch {
        match text {
            Some(text) => model.insert(id.clone(), text.clone()),
            None => model.remove(id),
        };
    }
}

pub(crate) fn contents(index: &Index) -> Model {
    let searcher = index.searcher();
    let ids = searcher.ids();
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let documents = searcher.documents(&wanted).unwrap();
    documents.into_iter().map(|document| document.unwrap()).map(|found| (found.id, found.text)).collect()
}

/// Both halves hold `model`: each text is found by its one word and by its direction, and nothing else is.
pub(crate) fn check_halves(index: &Index, model: &Model, what: &str) {
    let searcher = index.searcher();
    let ids: Vec<&String> = model.keys().collect();
    assert_eq!(searcher.ids().iter().collect::<Vec<_>>(), ids, "{what}: lexical");
    let is_client = searcher.client_half().is_some();
    let has_vector = |text: &str| !is_client || brings_vector(text);
    let with_vector: Vec<&String> =
        model.iter().filter(|(_, text)| has_vector(text)).map(|(id, _)| id).collect();
    assert_eq!(searcher.vector_ids().iter().collect::<Vec<_>>(), with_vector, "{what}: dense");
    assert_eq!(searcher.len(), model.len() as u64, "{what}");
    for (id, text) in model {
        let word = text.split(' ').next().unwrap();
        let found = searcher.lexical(word, 10, None).unwrap();
        assert_eq!(found.iter().map(|hit| &hit.id).collect::<Vec<_>>(), [id], "{what}: lexical {word}");
        if !has_vector(text) {
            continue;
        }
        let nearest = searcher.dense_vector(&vector(text), 1, None).unwrap();
        assert_eq!(&nearest[0].id, id, "{what}: dense {word}");
        assert!(0.9999 < nearest[0].score, "{what}: dense {word}");
    }
    let stats = index.stats().unwrap();
    assert_eq!(stats.pending_changes, 0, "{what}");
    assert!(stats.damage.is_empty(), "{what}: {:?}", stats.damage);
    assert_eq!(stats.quantised_vectors, stats.vectors + stats.dead_vectors, "{what}");
}

/// Writes the sample of the on-disk format that later versions must open: two commits with replaced and deleted
/// documents, and a tail of acknowledged changes in the log. Beside it, as text, what it holds, and which documents have
/// a vector where not all have.
pub(crate) fn freeze(dir: &Path, settings: &IndexSettings, count: usize) {
    let index = Index::create(dir, settings, options()).unwrap();
    let mut writer = index.writer().unwrap();
    let mut model = Model::new();
    for (number, batch) in batches(1).take(count).enumerate() {
        change_model(&mut model, &batch);
        batch.iter().for_each(|change| apply(&mut writer, change));
        writer.sync().unwrap();
        if number == count / 3 || number == 2 * count / 3 {
            writer.commit().unwrap();
        }
    }
    let lines: Vec<String> = model.iter().map(|(id, text)| format!("{id} {text}\n")).collect();
    std::fs::write(dir.with_extension("txt"), lines.concat()).unwrap();
    if settings.client_half().is_some() {
        let with_vector = model.iter().filter(|(_, text)| brings_vector(text));
        let ids: Vec<String> = with_vector.map(|(id, _)| format!("{id}\n")).collect();
        std::fs::write(dir.with_extension("vectors"), ids.concat()).unwrap();
    }
}

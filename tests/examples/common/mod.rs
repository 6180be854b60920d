//! What the benchmarks of whole searches share: the bundled corpus as an index, its queries.

use std::path::Path;
use std::sync::Arc;

use orion_host::index::{Embedder, Encoder, Index, IndexSettings, JsonLines, OpenOptions};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The bundled corpus in a folder of its own; without an encoder, the lexical half alone.
pub(crate) fn index_corpus(place: &Path, encoder: Option<Arc<Encoder>>) -> Result<Index> {
    let settings = if encoder.is_some() { IndexSettings::default() } else { IndexSettings::lexical_only() };
    let options = OpenOptions { encoder: encoder.map(Embedder::from), ..OpenOptions::default() };
    let index = Index::create(&place.join("isles"), &settings, options)?;
    let mut writer = index.writer()?;
    for document in JsonLines::open(&orion_tests::corpus().join("corpus.jsonl"))? {
        writer.add(document?)?;
    }
    writer.commit()?;
    Ok(index)
}

/// The first `count` bundled queries that need two hops.
pub(crate) fn two_hop_queries(count: usize) -> Result<Vec<String>> {
    let lines = std::fs::read_to_string(orion_tests::corpus().join("queries.jsonl"))?;
    let mut found = Vec::new();
    for line in lines.lines() {
        let query: serde_json::Value = serde_json::from_str(line)?;
        if query["metadata"]["kind"] == "two-hop" {
            found.extend(query["text"].as_str().map(str::to_owned));
        }
    }
    found.truncate(count);
    Ok(found)
}

//! A set together with the index over it: what every maker of traces and trajectories looks things up in.
//!
//! The index lies in a folder that is named by its content, so a sample of other documents never meets a stale one.
//! Neighbours: `sets` says what may be read, `walk` shares [`open_index`], `pool` and `synth` use [`Collection`].

use super::sets::{PermittedSet, Source};
use super::snippets::{SNIPPETS, TEXT_CHARS, snippet};
use super::words::Rarity;
use crate::data::Snippet;
use crate::error::{Result, TrainError};
use crate::nano::Places;
use crate::terminal;
use orion_eval::dataset::CorpusDocument;
use orion_host::index::{
    Document, Embedder, EmbeddingCache, Encoder, Fusion, Index, IndexSettings, Mode, OpenOptions, Query,
    Searcher,
};
use orion_policy::Retriever;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Share of the dense score in hybrid rankings: the default of every standard strategy.
const DENSE_WEIGHT: f32 = 0.5;
/// Texts that are embedded between two movements of a bar: a few seconds' work.
const TEXTS_AT_ONCE: usize = 64;

fn index_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Index(error.to_string())
}

/// The encoder with its cache of embeddings.
pub type SharedEncoder = (Arc<Encoder>, Arc<EmbeddingCache>);

/// Loads the encoder of a folder, with the folder of its cache.
pub fn open_encoder(encoder: &Path, cache: &Path) -> Result<SharedEncoder> {
    let encoder = Encoder::load(encoder).map_err(index_error)?;
    let cache = EmbeddingCache::open(cache).map_err(index_error)?;
    Ok((Arc::new(encoder), Arc::new(cache)))
}

/// Opens the index of a source in `folder`, or builds it there where it is missing or has another number of documents.
/// Without an encoder it is lexical.
pub fn open_index(
    source: &Source,
    folder: &Path,
    encoder: Option<Embedder>,
    cache: Option<Arc<EmbeddingCache>>,
) -> Result<Arc<Searcher>> {
    let settings = if encoder.is_some() { IndexSettings::default() } else { IndexSettings::lexical_only() };
    let options = OpenOptions { encoder, cache, ..OpenOptions::default() };
    if folder.exists() {
        let opened = Index::open(folder, options.clone()).map_err(index_error)?;
        if opened.searcher().len() == source.documents.len() as u64 {
            return Ok(opened.searcher());
        }
        drop(opened);
        std::fs::remove_dir_all(folder).map_err(TrainError::file("remove", folder))?;
    }
    let made = Index::create(folder, &settings, options).map_err(index_error)?;
    let mut writer = made.writer().map_err(index_error)?;
    for document in &source.documents {
        writer
            .add(Document {
                id: document.id.clone(),
                title: document.title.clone(),
                text: document.text.clone(),
                ..Document::default()
            })
            .map_err(index_error)?;
    }
    writer.commit().map_err(index_error)?;
    Ok(made.searcher())
}

/// Which retriever answers queries.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum RetrieverChoice {
    /// Whoever writes the query chooses; the choice stands in the trajectory.
    #[default]
    Policy,
    /// Always dense: the paper's own setting.
    Dense,
    /// Always lexical.
    Lexical,
    /// Always hybrid.
    Hybrid,
}

impl RetrieverChoice {
    /// The one retriever, where there is one.
    pub fn fixed(self) -> Option<Retriever> {
        match self {
            Self::Policy => None,
            Self::Dense => Some(Retriever::Dense),
            Self::Lexical => Some(Retriever::Lexical),
            Self::Hybrid => Some(Retriever::Hybrid),
        }
    }

    /// The value of the strategies' option `retriever`.
    pub fn name(self) -> &'static str {
        match self.fixed() {
            None => "policy",
            Some(retriever) => crate::data::retriever_name(retriever),
        }
    }
}

/// A source, the index over its documents, and word statistics.
pub struct Collection {
    /// Documents, permitted queries, targets.
    pub source: Source,
    /// The index.
    pub searcher: Arc<Searcher>,
    /// How rare each word is.
    pub rarity: Rarity,
    places: BTreeMap<String, usize>,
}

/// How much of each set is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::Args)]
pub struct SampleSize {
    /// Documents of each set at most: all judged ones, and a hashed sample of the others.
    #[arg(long, default_value_t = 1500)]
    pub documents: usize,
    /// Training queries of each set at most, chosen by the hash of their ids.
    #[arg(long, default_value_t = 500)]
    pub train_queries: usize,
    /// Held-out queries of each set at most.
    #[arg(long, default_value_t = 60)]
    pub held_out_queries: usize,
}

impl Collection {
    /// Opens one set, sampled. Without an encoder only lexical retrieval works.
    ///
    /// # Errors
    /// A set that is not there, an index that cannot be made.
    pub fn open(
        set: PermittedSet,
        places: &Places,
        size: SampleSize,
        encoder: Option<SharedEncoder>,
    ) -> Result<Self> {
        let source = places.inputs.source(set)?;
        let source = source.sample(size.documents, size.train_queries, size.held_out_queries);
        Self::over(source, &places.run.join("index"), encoder)
    }

    /// The collection over a source; its index lies below `folder`.
    pub fn over(source: Source, folder: &Path, encoder: Option<SharedEncoder>) -> Result<Self> {
        let kind = if encoder.is_some() { "dense" } else { "lexical" };
        let fingerprint = &corpus_sha256(&source.documents)[..16];
        let folder = folder.join(format!("{}-{kind}-{fingerprint}", source.set.name()));
        if let Some(encoder) = encoder.clone().filter(|_| !folder.exists()) {
            let texts: Vec<String> = source.documents.iter().map(embedded_text).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            embed(&texts, encoder, &format!("embedding {}", source.set.name()), |_, _| ())?;
        }
        let (encoder, cache) = encoder.unzip();
        let searcher = open_index(&source, &folder, encoder.map(Into::into), cache)?;
        let texts: Vec<String> = source.texts().collect();
        let rarity = Rarity::count(texts.iter().map(String::as_str));
        let places = source.documents.iter().enumerate().map(|(at, document)| (document.id.clone(), at));
        let places = places.collect();
        Ok(Self { source, searcher, rarity, places })
    }

    /// Hash of documents, queries and targets: two collections with the same one make the same traces.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(corpus_sha256(&self.source.documents));
        for (query, _) in &self.source.queries {
            hash.update([0]);
            hash.update(&query.id);
            hash.update([0]);
            hash.update(&query.text);
            for target in self.targets(&query.id) {
                hash.update([0]);
                hash.update(target);
            }
        }
        hex(&hash.finalize())
    }

    /// Relevant documents of a query; empty for an unknown one.
    pub fn targets(&self, query_id: &str) -> &[String] {
        self.source.targets.get(query_id).map_or(&[], Vec::as_slice)
    }

    /// Ids of the best `k` documents.
    pub fn search(&self, query: &str, retriever: Retriever, k: usize) -> Result<Vec<String>> {
        let mode = match retriever {
            Retriever::Lexical => Mode::Lexical,
            Retriever::Dense => Mode::Dense,
            Retriever::Hybrid => Mode::Hybrid(Fusion::Convex { dense_weight: DENSE_WEIGHT }),
        };
        let query = Query { k, ..Query::new(query, mode) };
        let hits = self.searcher.search(&[query]).map_err(index_error)?.pop().unwrap_or_default();
        Ok(hits.into_iter().map(|hit| hit.id).collect())
    }

    /// The first documents of a ranking as a policy reads them.
    pub fn snippets<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<Snippet> {
        ids.take(SNIPPETS)
            .filter_map(|id| self.document(id))
            .map(|document| snippet(&document.title, &document.text, TEXT_CHARS))
            .collect()
    }

    /// A document as it was read.
    pub fn document(&self, id: &str) -> Option<&CorpusDocument> {
        self.places.get(id).map(|place| &self.source.documents[*place])
    }

    /// The text of a document as the index embeds it.
    pub fn embedded_text(&self, id: &str) -> Option<String> {
        self.document(id).map(embedded_text)
    }

    /// Cosine of `best` to the nearest of `targets`; `None` without an encoder, a hit or a target.
    pub fn cosine(&self, best: Option<&str>, targets: &[String]) -> Result<Option<f32>> {
        if !self.searcher.can_encode() {
            return Ok(None);
        }
        let Some(best) = best.and_then(|id| self.embedded_text(id)) else { return Ok(None) };
        let texts: Vec<String> = targets.iter().filter_map(|id| self.embedded_text(id)).collect();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|text| (best.as_str(), text.as_str())).collect();
        let cosines = self.searcher.similarity(&pairs).map_err(index_error)?;
        Ok(cosines.into_iter().reduce(f32::max))
    }
}

fn embedded_text(document: &CorpusDocument) -> String {
    format!("{} {}", document.title.trim(), document.text.trim()).trim().to_owned()
}

/// Embeds texts into the cache, a few at a time under a bar, and hands each vector to `take` with the text's place.
pub(crate) fn embed(
    texts: &[&str],
    (encoder, cache): SharedEncoder,
    what: &str,
    mut take: impl FnMut(usize, Vec<f32>),
) -> Result<()> {
    let embedder: Embedder = encoder.into();
    let bar = terminal::bar(what, texts.len());
    for (chunk, some) in texts.chunks(TEXTS_AT_ONCE).enumerate() {
        let vectors = embedder.embed(some, Some(&cache)).map_err(index_error)?;
        for (place, vector) in vectors.into_iter().enumerate() {
            take(chunk * TEXTS_AT_ONCE + place, vector);
        }
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// 1-based rank of the first of `targets` in a ranking.
pub fn best_rank<'a>(ranking: impl IntoIterator<Item = &'a str>, targets: &[String]) -> Option<u32> {
    let place = ranking.into_iter().position(|id| targets.iter().any(|target| target == id));
    place.map(|place| place as u32 + 1)
}

fn corpus_sha256(documents: &[CorpusDocument]) -> String {
    let mut hash = Sha256::new();
    for document in documents {
        for part in [&document.id, &document.title, &document.text] {
            hash.update(part);
            hash.update([0]);
        }
    }
    hex(&hash.finalize())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_one() {
        let targets = ["b".to_owned(), "c".to_owned()];
        assert_eq!(best_rank(["a", "c", "b"], &targets), Some(2));
        assert_eq!(best_rank(["a"], &targets), None);
    }
}

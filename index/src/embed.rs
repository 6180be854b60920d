//! Texts to vectors: the seam between the index and whatever encodes, with the shared cache in between.

use crate::cache::EmbeddingCache;
use crate::encoder::Encoder;
use crate::error::{IndexError, Result};
use crate::vectors;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type EncodeFn = dyn Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync;

/// What an embedder was asked for so far, with all its clones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmbedCounts {
    /// Texts found in a cache of embeddings.
    pub cached: u64,
    /// Texts looked for there and not found.
    pub not_cached: u64,
    /// Batches that the encoder was given.
    pub batches: u64,
    /// Texts in all of them together.
    pub texts: u64,
    /// Of these, short ones that the encoder remembered.
    pub remembered: u64,
    /// Short ones that it looked for and did not.
    pub not_remembered: u64,
}

#[derive(Default)]
struct Counters {
    cached: AtomicU64,
    not_cached: AtomicU64,
    batches: AtomicU64,
    texts: AtomicU64,
}

/// Encodes texts; cheap to clone. A text's vector must not depend on the texts beside it.
#[derive(Clone)]
pub struct Embedder {
    fingerprint: Arc<str>,
    dimensions: usize,
    encode: Arc<EncodeFn>,
    counters: Arc<Counters>,
    /// The encoder, where it is the built-in one.
    encoder: Option<Arc<Encoder>>,
}

impl Embedder {
    /// An encoder from a function. `fingerprint` names weights and settings: equal names, equal vectors.
    pub fn new(
        fingerprint: &str,
        dimensions: usize,
        encode: impl Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync + 'static,
    ) -> Self {
        let (encode, counters) = (Arc::new(encode), Arc::default());
        Self { fingerprint: fingerprint.into(), dimensions, encode, counters, encoder: None }
    }

    /// Names weights and settings.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What it was asked for so far.
    pub fn counts(&self) -> EmbedCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (remembered, not_remembered) = self.encoder.as_ref().map_or((0, 0), |encoder| encoder.recalls());
        EmbedCounts {
            cached: read(&self.counters.cached),
            not_cached: read(&self.counters.not_cached),
            batches: read(&self.counters.batches),
            texts: read(&self.counters.texts),
            remembered,
            not_remembered,
        }
    }

    /// One unit vector for each text. With a cache, only texts that it does not hold are encoded.
    pub fn embed(&self, texts: &[&str], cache: Option<&EmbeddingCache>) -> Result<Vec<Vec<f32>>> {
        self.embed_into(texts, cache, cache)
    }

    /// [`Embedder::embed`] for queries: the cache is looked into and does not grow, as there is no end to what is asked.
    pub(crate) fn embed_queries(
        &self,
        texts: &[&str],
        cache: Option<&EmbeddingCache>,
    ) -> Result<Vec<Vec<f32>>> {
        self.embed_into(texts, cache, None)
    }

    fn embed_into(
        &self,
        texts: &[&str],
        cache: Option<&EmbeddingCache>,
        keeper: Option<&EmbeddingCache>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut found: Vec<Option<Vec<f32>>> = match cache {
            Some(cache) => cache.get(&self.fingerprint, self.dimensions, texts)?,
            None => vec![None; texts.len()],
        };
        let missing: Vec<usize> = (0..texts.len()).filter(|&place| found[place].is_none()).collect();
        let add = |counter: &AtomicU64, more: usize| counter.fetch_add(more as u64, Ordering::Relaxed);
        if cache.is_some() {
            add(&self.counters.cached, texts.len() - missing.len());
            add(&self.counters.not_cached, missing.len());
        }
        if !missing.is_empty() {
            add(&self.counters.batches, 1);
            add(&self.counters.texts, missing.len());
            let wanted: Vec<&str> = missing.iter().map(|&place| texts[place]).collect();
            let failed = |message: String| IndexError::Encode { texts: wanted.len(), message };
            let made = (self.encode)(&wanted)?;
            if made.len() != wanted.len() {
                return Err(failed(format!("expected {} vectors, got {}", wanted.len(), made.len())));
            }
            let mut fresh = Vec::with_capacity(made.len());
            for (text, vector) in wanted.iter().zip(made) {
                let vector = vectors::normalised(vector, self.dimensions).map_err(|got| {
                    failed(format!(
                        "expected {} finite values that are not all zero, got {got}",
                        self.dimensions
                    ))
                })?;
                fresh.push((*text, vector));
            }
            if let Some(cache) = keeper {
                cache.put(&self.fingerprint, self.dimensions, &fresh)?;
            }
            for (place, (_, vector)) in missing.into_iter().zip(fresh) {
                found[place] = Some(vector);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

impl From<Arc<Encoder>> for Embedder {
    /// The built-in encoder, on the threads of the process.
    fn from(encoder: Arc<Encoder>) -> Self {
        let (fingerprint, dimensions) = (encoder.fingerprint().to_owned(), encoder.dimensions());
        let own = Arc::clone(&encoder);
        let encode = move |texts: &[&str]| {
            let failed = |error: crate::encoder::EncoderError| IndexError::Encode {
                texts: texts.len(),
                message: error.to_string(),
            };
            own.encode(texts).map_err(failed)
        };
        Self { encoder: Some(encoder), ..Self::new(&fingerprint, dimensions, encode) }
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedder").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

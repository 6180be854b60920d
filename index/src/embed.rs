//! Texts to vectors: the seam between the index and whatever encodes, with the shared cache in between.

use crate::cache::EmbeddingCache;
use crate::encoder::Encoder;
use crate::error::{IndexError, Result};
use crate::vectors;
use std::sync::Arc;

type EncodeFn = dyn Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync;

/// Encodes texts; cheap to clone. A text's vector must not depend on the texts beside it.
#[derive(Clone)]
pub struct Embedder {
    fingerprint: Arc<str>,
    dimensions: usize,
    encode: Arc<EncodeFn>,
}

impl Embedder {
    /// An encoder from a function. `fingerprint` names weights and settings: equal names, equal vectors.
    pub fn new(
        fingerprint: &str,
        dimensions: usize,
        encode: impl Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync + 'static,
    ) -> Self {
        Self { fingerprint: fingerprint.into(), dimensions, encode: Arc::new(encode) }
    }

    /// Names weights and settings.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// One unit vector for each text. With a cache, only texts that it does not hold are encoded.
    pub fn embed(&self, texts: &[&str], cache: Option<&EmbeddingCache>) -> Result<Vec<Vec<f32>>> {
        let mut found: Vec<Option<Vec<f32>>> = match cache {
            Some(cache) => cache.get(&self.fingerprint, self.dimensions, texts)?,
            None => vec![None; texts.len()],
        };
        let missing: Vec<usize> = (0..texts.len()).filter(|&place| found[place].is_none()).collect();
        if !missing.is_empty() {
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
            if let Some(cache) = cache {
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
        Self::new(&fingerprint, dimensions, move |texts| {
            let failed = |error: crate::encoder::EncoderError| IndexError::Encode {
                texts: texts.len(),
                message: error.to_string(),
            };
            encoder.encode(texts).map_err(failed)
        })
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedder").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

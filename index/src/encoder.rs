//! Sentence embeddings by all-MiniLM-L6-v2, or any BERT encoder with mean pooling (Reimers and Gurevych,
//! arXiv:1908.10084).
//!
//! Why here: dense retrieval needs the same encoder for documents and queries. The forward pass is our own, over
//! `orion-kernels`, so that a text has the same bits alone and in any batch.
//!
//! `config`, `checkpoint` and `tokens` load a model's folder; `model` computes; `cache` keeps recent queries.

mod cache;
mod checkpoint;
mod config;
mod error;
mod model;
mod tokens;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use orion_kernels::Threads;
use sha2::{Digest, Sha256};

pub use self::error::EncoderError;

use self::cache::Recent;
use self::checkpoint::Checkpoint;
use self::config::Config;
use self::model::{Model, Scratch};
use self::tokens::Tokens;

/// Tokens of one forward pass. Its activations take some 14 kB a token, so a pass stays within a share of the
/// third-level cache, while weights are read often enough from it to be cheap.
const TOKENS_PER_PASS: usize = 512;

/// Texts whose token ids are held at once: bounds the memory of a call by some megabytes.
const TEXTS_AT_ONCE: usize = 2048;

/// Batches up to this size are looked up in the cache of recent texts; larger ones are documents.
const CACHED_BATCH: usize = 16;

/// Version of the computation in [`Encoder::fingerprint`]; goes up when embeddings change.
const FINGERPRINT_VERSION: &str = "orion-encoder-1";

/// How an encoder is to work.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// Tokens of a text that are read, the two special ones included: 256 is what all-MiniLM-L6-v2 was made for. Bounded
    /// by the model's positions.
    pub max_tokens: usize,
    /// Recent short texts whose embeddings are kept; 0 keeps none.
    pub cached_texts: usize,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self { max_tokens: 256, cached_texts: 1024 }
    }
}

/// A loaded sentence encoder. Safe to share between threads.
pub struct Encoder {
    model: Model,
    tokens: Tokens,
    recent: Mutex<Recent>,
    /// Texts that were looked for in `recent` and found, and those that were not.
    recalls: (AtomicU64, AtomicU64),
    /// Working memory of passes that are over.
    scratch: Mutex<Vec<Scratch>>,
    /// Hash of settings, configuration and tokenizer; that of the weights is added when asked for.
    settings: Sha256,
    fingerprint: OnceLock<String>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("dimensions", &self.dimensions()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads `config.json`, `tokenizer.json` and `model.safetensors` from a folder, with the default options.
    ///
    /// The checkpoint stays mapped: it must not be rewritten in place while the encoder lives.
    ///
    /// # Errors
    /// Where a file cannot be read, or is not that of a BERT encoder whose tensors fit its configuration.
    pub fn load(folder: &Path) -> Result<Self, EncoderError> {
        Self::load_with(folder, &EncoderOptions::default())
    }

    /// [`Encoder::load`] with options.
    ///
    /// # Errors
    /// As for [`Encoder::load`].
    pub fn load_with(folder: &Path, options: &EncoderOptions) -> Result<Self, EncoderError> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(EncoderError::Read { path, source }),
            }
        };
        let (config_path, config_bytes) = read("config.json")?;
        let config = Config::parse(&config_path, &config_bytes)?;
        // The configuration has at least three positions: a token between the two special ones.
        let max_tokens = options.max_tokens.clamp(3, config.max_position_embeddings);
        let (tokenizer_path, tokenizer_bytes) = read("tokenizer.json")?;
        let tokens = Tokens::load(&tokenizer_path, &tokenizer_bytes, max_tokens, config.vocab_size)?;
        let checkpoint = Checkpoint::open(&folder.join("model.safetensors"))?;
        let mut settings = Sha256::new();
        settings.update(format!("{FINGERPRINT_VERSION} {max_tokens} "));
        for bytes in [&config_bytes, &tokenizer_bytes] {
            settings.update(Sha256::digest(bytes));
        }
        Ok(Self {
            model: Model::new(config, checkpoint)?,
            tokens,
            recent: Mutex::new(Recent::new(options.cached_texts)),
            recalls: Default::default(),
            scratch: Mutex::default(),
            settings,
            fingerprint: OnceLock::new(),
        })
    }

    /// Floats of an embedding.
    pub fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    /// A hash, in hexadecimal, of all that decides an embedding: the weights, the tokenizer, the configuration, the
    /// window and the version of this computation. Equal fingerprints mean interchangeable embeddings, to the bit on
    /// machines of one `orion_kernels::cpu_level`. The first call reads the whole checkpoint.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| {
            let mut hash = self.settings.clone();
            hash.update(self.model.checkpoint().bytes());
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// How many texts of small batches were remembered, and how many were not.
    pub(crate) fn recalls(&self) -> (u64, u64) {
        (self.recalls.0.load(Ordering::Relaxed), self.recalls.1.load(Ordering::Relaxed))
    }

    /// The token ids of a text, special tokens included, cut to the window.
    ///
    /// A marker such as `[SEP]` in the text becomes its token, as in the reference tokenizer.
    ///
    /// # Errors
    /// Where the tokenizer refuses the text.
    pub fn token_ids(&self, text: &str) -> Result<Vec<u32>, EncoderError> {
        self.tokens.encode(text).map_err(|reason| EncoderError::Tokenize { index: 0, reason })
    }

    /// One embedding of length 1 for each text, in order, on the threads of the process.
    ///
    /// The embedding of a text is the same to the bit alone and in any batch. Memory is bounded whatever the number of
    /// texts, apart from the embeddings themselves.
    ///
    /// # Errors
    /// Where the tokenizer refuses a text.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError> {
        self.encode_on(texts, Threads::global())
    }

    /// [`Encoder::encode`] on the given threads.
    ///
    /// # Errors
    /// As for [`Encoder::encode`].
    pub fn encode_on(&self, texts: &[&str], threads: &Threads) -> Result<Vec<Vec<f32>>, EncoderError> {
        if texts.len() > CACHED_BATCH {
            let mut all = Vec::with_capacity(texts.len());
            for (i, some) in texts.chunks(TEXTS_AT_ONCE).enumerate() {
                all.extend(self.compute(some, i * TEXTS_AT_ONCE, threads)?);
            }
            return Ok(all);
        }
        let mut found: Vec<Option<Vec<f32>>> = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            texts.iter().map(|text| recent.get(text)).collect()
        };
        let missing: Vec<usize> = (0..texts.len()).filter(|&i| found[i].is_none()).collect();
        let missing_texts: Vec<&str> = missing.iter().map(|&i| texts[i]).collect();
        self.recalls.0.fetch_add((texts.len() - missing.len()) as u64, Ordering::Relaxed);
        self.recalls.1.fetch_add(missing.len() as u64, Ordering::Relaxed);
        let computed = self.compute(&missing_texts, 0, threads)?;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, vector) in missing.into_iter().zip(computed) {
            recent.put(texts[i], &vector);
            found[i] = Some(vector);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Embeddings of at most [`TEXTS_AT_ONCE`] texts, the first of which is text `first` of the caller's batch.
    fn compute(
        &self,
        texts: &[&str],
        first: usize,
        threads: &Threads,
    ) -> Result<Vec<Vec<f32>>, EncoderError> {
        let mut tokenized: Vec<Result<Vec<u32>, String>> = vec![Ok(Vec::new()); texts.len()];
        threads.run_chunks(&mut tokenized, 4, |at, part| {
            for (ids, text) in part.iter_mut().zip(&texts[at..]) {
                *ids = self.tokens.encode(text);
            }
        });
        let mut sequences = Vec::with_capacity(texts.len());
        for (i, ids) in tokenized.into_iter().enumerate() {
            sequences.push(ids.map_err(|reason| EncoderError::Tokenize { index: first + i, reason })?);
        }
        let mut passes = plan_passes(&sequences, threads.count());
        threads.run_chunks(&mut passes, 1, |_, part| {
            for pass in part {
                let ids: Vec<&[u32]> = pass.texts.iter().map(|&i| &sequences[i][..]).collect();
                let mut scratch = {
                    let mut idle = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
                    idle.pop().unwrap_or_default()
                };
                pass.embeddings = self.model.forward(&ids, &mut scratch, threads);
                self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
            }
        });
        let mut out = vec![Vec::new(); texts.len()];
        for pass in passes {
            for (i, embedding) in pass.texts.into_iter().zip(pass.embeddings) {
                out[i] = embedding;
            }
        }
        Ok(out)
    }
}

/// Texts that go through the model together.
struct Pass {
    texts: Vec<usize>,
    embeddings: Vec<Vec<f32>>,
}

/// Texts of like length together, longest first, about [`TOKENS_PER_PASS`] tokens each, or less where that leaves
/// threads without work.
fn plan_passes(sequences: &[Vec<u32>], threads: usize) -> Vec<Pass> {
    let total: usize = sequences.iter().map(Vec::len).sum();
    // A pass of few tokens is worth its reading of the weights from some 64 on.
    let target = total.div_ceil(threads).clamp(64, TOKENS_PER_PASS);
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sequences[i].len()));
    let mut passes: Vec<Pass> = Vec::new();
    let mut tokens = usize::MAX;
    for i in order {
        let length = sequences[i].len();
        if tokens.saturating_add(length) > target {
            passes.push(Pass { texts: Vec::new(), embeddings: Vec::new() });
            tokens = 0;
        }
        if let Some(pass) = passes.last_mut() {
            pass.texts.push(i);
        }
        tokens += length;
    }
    passes
}

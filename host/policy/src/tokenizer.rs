//! Text to token ids and back, with special tokens out of reach of any text.
//!
//! Whatever a text says, `encode` never returns a special token: not for `<think>`, not for `<eos>`. Markers are
//! written by `format` alone, by id. The vocabulary file is a Hugging Face `tokenizer.json`; that of a GGUF becomes one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokenizers::Tokenizer;

use crate::error::CheckpointError;
use crate::gguf_model;

/// A tokenizer whose special tokens are known by name and produced by id only.
pub struct PolicyTokenizer {
    inner: Tokenizer,
    special: BTreeMap<String, u32>,
    special_ids: BTreeSet<u32>,
    file: String,
}

impl PolicyTokenizer {
    /// Reads `tokenizer.json` in `folder`, or the metadata of a `.gguf` file.
    pub fn load(folder: &Path) -> Result<Self, CheckpointError> {
        if gguf_model::is_gguf(folder) {
            let (gguf, file) = gguf_model::read(folder)?;
            return gguf_model::tokenizer(&gguf, &file);
        }
        let path = folder.join("tokenizer.json");
        let file = path.display().to_string();
        let bytes =
            std::fs::read(&path).map_err(|source| CheckpointError::Read { file: file.clone(), source })?;
        Self::parse(&bytes, &file)
    }

    /// Reads the bytes of a `tokenizer.json`; `file` names it in errors.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, CheckpointError> {
        let malformed = |reason: String| CheckpointError::Malformed { file: file.to_owned(), reason };
        let mut inner = Tokenizer::from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
        // Without this, a text that contains `<think>` would come out as the special token of that name.
        inner.set_encode_special_tokens(true);
        let mut special = BTreeMap::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.special {
                special.insert(token.content, id);
            }
        }
        let special_ids = special.values().copied().collect();
        Ok(Self { inner, special, special_ids, file: file.to_owned() })
    }

    /// Token ids of a text; never a special one.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let ids = self.encode_raw(text);
        if ids.iter().all(|id| !self.special_ids.contains(id)) {
            return ids;
        }
        // Some model types look whole words up in a vocabulary that holds the special tokens too: take the
        // brackets out of the word, then, should that not do, the token.
        let mut broken = self.encode_raw(&text.replace('<', "‹").replace('>', "›"));
        broken.retain(|id| !self.special_ids.contains(id));
        broken
    }

    fn encode_raw(&self, text: &str) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        // Encoding fails only for models without an unknown token; such a text has no tokens.
        self.inner.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    /// The text of some tokens; bytes that are not UTF-8 become U+FFFD, unknown ids nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    /// The id of the special token of this name.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.special.get(name).copied()
    }

    /// Whether the id is that of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// One more than the largest token id.
    pub fn size(&self) -> usize {
        let largest_added = self.inner.get_added_tokens_decoder().into_keys().max().map_or(0, |id| id + 1);
        self.inner.get_vocab_size(false).max(largest_added as usize)
    }

    /// Where it was read from, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }
}

//! Texts to token ids, cut to the model's window.
//!
//! Why here: `tokenizer.json` carries settings of its own for cutting and padding (this model's: 128 tokens, padded),
//! which are put aside; and a document of a megabyte must not be tokenized whole for its first 256 tokens.

use std::path::Path;

use tokenizers::tokenizer::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{PaddingParams, PreTokenizerWrapper};

use super::error::EncoderError;

/// Bytes of a long text that are tried first. Window times this many bytes a token is several times what text needs.
const BYTES_PER_TOKEN: usize = 32;

/// A tokenizer with the window that texts are cut to.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    max_tokens: usize,
    /// Words never reach across white space, so a text may be cut there before it is tokenized.
    splits_at_space: bool,
}

impl Tokens {
    /// Loads `tokenizer.json` from `bytes`; `path` is for messages.
    pub(super) fn load(
        path: &Path,
        bytes: &[u8],
        max_tokens: usize,
        vocab_size: usize,
    ) -> Result<Self, EncoderError> {
        let refuse = |reason: String| EncoderError::Tokenizer { path: path.to_owned(), reason };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| refuse(e.to_string()))?;
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer.with_padding(None::<PaddingParams>);
        tokenizer.with_truncation(Some(truncation)).map_err(|e| refuse(e.to_string()))?;
        let largest = tokenizer.get_vocab(true).values().copied().max().unwrap_or(0) as usize;
        if largest >= vocab_size {
            return Err(refuse(format!("expected ids below `vocab_size` {vocab_size}, got {largest}")));
        }
        let splits_at_space =
            matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
        Ok(Self { tokenizer, max_tokens, splits_at_space })
    }

    /// Ids of a text with the special tokens around it, at most the window.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        if let Some(head) = self.head(text) {
            let ids = self.encode_whole(head)?;
            // A full window: what was left out comes after it.
            if ids.len() == self.max_tokens {
                return Ok(ids);
            }
        }
        self.encode_whole(text)
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The start of a long text up to a white space, where the tokenizer allows to cut there.
    fn head<'t>(&self, text: &'t str) -> Option<&'t str> {
        let limit = self.max_tokens * BYTES_PER_TOKEN;
        if !self.splits_at_space || text.len() <= limit {
            return None;
        }
        let cut = &text[..text.floor_char_boundary(limit)];
        cut.rfind([' ', '\n', '\t']).map(|end| &cut[..end])
    }
}

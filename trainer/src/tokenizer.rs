//! Learns the vocabulary of a policy: byte-level BPE over lower-cased text, with the trajectory markers as special
//! tokens.
//!
//! Lower case and a space before every first word make one token of each word wherever it stands, which is what a
//! small model needs to copy words from results into queries; both retrievers ignore case anyway.

use crate::error::{Result, TrainError};
use orion_policy::SPECIAL_TOKENS;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, TokenizerBuilder};

/// Trains on `texts` and gives the content of a `tokenizer.json`. Marker ids are their places in
/// [`SPECIAL_TOKENS`].
pub fn train(texts: impl Iterator<Item = String> + Send, vocabulary: usize) -> Result<String> {
    let fail = |error: tokenizers::Error| TrainError::Tokenizer(error.to_string());
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .show_progress(false)
        // Twice is too rare to be worth a token.
        .min_frequency(3)
        .special_tokens(SPECIAL_TOKENS.iter().map(|name| AddedToken::from(*name, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let byte_level = ByteLevel::new(true, false, true);
    let mut tokenizer = TokenizerBuilder::<_, _, _, PostProcessorWrapper, DecoderWrapper>::new()
        .with_model(BPE::default())
        .with_normalizer(Some(Lowercase))
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(None)
        .with_decoder(Some(DecoderWrapper::ByteLevel(byte_level)))
        .build()
        .map_err(fail)?;
    tokenizer.train(&mut trainer, texts).map_err(fail)?;
    tokenizer.to_string(false).map_err(fail)
}

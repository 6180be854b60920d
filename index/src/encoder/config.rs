//! The part of a BERT `config.json` that decides the computation, checked for what this encoder does not do.

use std::path::Path;

use serde::Deserialize;

use super::error::EncoderError;

/// Largest accepted size of any dimension: far above any encoder, far below overflow in a product of three.
const LARGEST: usize = 1 << 20;

/// Shapes and constants of a BERT encoder; names as in `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) vocab_size: usize,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(super) type_vocab_size: usize,
    #[serde(default = "bert_epsilon")]
    pub(super) layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "bert")]
    model_type: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

// The defaults of the reference implementation's configuration class.
fn two() -> usize {
    2
}
fn bert_epsilon() -> f32 {
    1e-12
}
fn gelu() -> String {
    "gelu".into()
}
fn bert() -> String {
    "bert".into()
}
fn absolute() -> String {
    "absolute".into()
}

impl Config {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, EncoderError> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|source| EncoderError::ConfigSyntax { path: path.to_owned(), source })?;
        config.check(path)?;
        Ok(config)
    }

    /// Floats of one attention head.
    pub(super) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn check(&self, path: &Path) -> Result<(), EncoderError> {
        let refuse = |field, expected: &str, got: String| {
            Err(EncoderError::Config { path: path.to_owned(), field, expected: expected.into(), got })
        };
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (field, size) in sizes {
            if size == 0 || size > LARGEST {
                return refuse(field, &format!("1 to {LARGEST}"), size.to_string());
            }
        }
        // A text is at least one token between the two special ones.
        if self.max_position_embeddings < 3 {
            return refuse("max_position_embeddings", "at least 3", self.max_position_embeddings.to_string());
        }
        let words = [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ];
        for (field, got, expected) in words {
            if got != expected {
                return refuse(field, &format!("`{expected}`"), format!("`{got}`"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of `hidden_size` {}", self.hidden_size);
            return refuse("num_attention_heads", &expected, self.num_attention_heads.to_string());
        }
        if !(self.layer_norm_eps.is_finite() && 0.0 <= self.layer_norm_eps) {
            return refuse("layer_norm_eps", "a number from 0", self.layer_norm_eps.to_string());
        }
        Ok(())
    }
}

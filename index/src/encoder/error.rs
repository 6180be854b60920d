//! What can go wrong with an encoder, with the file and the tensor at fault.

use std::path::PathBuf;

/// A failure to load an encoder or to encode a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A file of the model's folder could not be read.
    #[error("could not read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `config.json` describes something else than a model that this encoder runs.
    #[error("could not use `{}`: expected {expected} for `{field}`, got {got}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field at fault.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was there.
        got: String,
    },
    /// `config.json` is not the JSON that it should be.
    #[error("could not parse `{}`: {source}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// `tokenizer.json` could not be used.
    #[error("could not load the tokenizer `{}`: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library said, or what does not fit the model.
        reason: String,
    },
    /// The checkpoint is not a whole safetensors file.
    #[error("could not read the checkpoint `{}`: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What the format's reader said.
        reason: String,
    },
    /// A tensor is not in the checkpoint.
    #[error("`{}` has no tensor `{tensor}`: expected one of shape {expected:?}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{tensor}` of `{}` has the wrong shape: expected {expected:?}, got {got:?}", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A tensor has a type that is not read.
    #[error("tensor `{tensor}` of `{}` has the wrong type: expected F32, F16 or BF16, got {got}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type in the file.
        got: String,
    },
    /// A tensor holds an infinity or a NaN.
    #[error("tensor `{tensor}` of `{}` is damaged: expected finite numbers, got {got} at {position}", path.display())]
    TensorValue {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first bad value.
        got: f32,
        /// Its place in the flattened tensor.
        position: usize,
    },
    /// A text could not be cut into tokens.
    #[error("could not tokenize text {index} of the batch: {reason}")]
    Tokenize {
        /// Place of the text in the batch, from 0.
        index: usize,
        /// What the tokenizer library said.
        reason: String,
    },
}

//! Everything that can go wrong in this crate, with the file or value at fault inside.
//! One enum for the crate, because every operation here touches the same files; callers match on the kind.

use std::path::{Path, PathBuf};

/// Result of the operations of this crate.
pub type Result<T> = std::result::Result<T, IndexError>;

/// A failed index operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The operating system refused a file operation, a full disk included.
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what was written: damaged, cut short or missing.
    #[error("`{}` is damaged: expected {expected}, got {got}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What should have been there.
        expected: String,
        /// What was there.
        got: String,
    },
    /// A file was written by another version of this format, or is of another kind.
    #[error("`{}` has a foreign format: expected {expected}, got {got}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that this version reads.
        expected: String,
        /// The format found.
        got: String,
    },
    /// Another writer holds the index.
    #[error("could not open a writer on `{}`: another writer holds its lock", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no index at this place.
    #[error("there is no index at `{}`", path.display())]
    NotFound {
        /// The folder that was looked at.
        path: PathBuf,
    },
    /// There is something at this place already.
    #[error("could not create an index at `{}`: the folder is not empty", path.display())]
    AlreadyExists {
        /// The folder.
        path: PathBuf,
    },
    /// The name of an index is not acceptable.
    #[error("index name `{name}`: expected 1 to 64 of a-z, 0-9, `-` and `_`, a letter or digit first")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A document, or one field of it, is not acceptable.
    #[error("document `{id}`: expected {expected}, got {got}")]
    Document {
        /// Its id.
        id: String,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A line of an input file is not a document.
    #[error("`{source_name}` line {line}: expected {expected}, got {got}")]
    Line {
        /// Name of the input, for people.
        source_name: String,
        /// 1-based.
        line: u64,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A filter expression that does not parse, or does not fit the metadata.
    #[error("filter `{expression}` at character {at}: expected {expected}, got {got}")]
    Filter {
        /// The whole expression.
        expression: String,
        /// 0-based offset in Unicode scalar values.
        at: usize,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A query or a setting that is out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid {
        /// Which value.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// Something needs an encoder and the index was opened without one, or keeps no vectors at all.
    #[error("could not {attempted}: {reason}")]
    NoEncoder {
        /// What was attempted.
        attempted: &'static str,
        /// Why it cannot be done.
        reason: &'static str,
    },
    /// The encoder failed.
    #[error("could not encode {texts} texts: {message}")]
    Encode {
        /// How many texts were in the batch.
        texts: usize,
        /// What the encoder said.
        message: String,
    },
    /// The lexical half failed.
    #[error("could not {action} in `{}`: {source}", path.display())]
    Lexical {
        /// What was attempted.
        action: &'static str,
        /// Folder of the lexical half.
        path: PathBuf,
        /// What the engine said; it names the file.
        source: Box<tantivy::TantivyError>,
    },
    /// The graph of a vector segment could not be built.
    #[error("could not build `{}`: {message}", path.display())]
    Graph {
        /// The file that was to be.
        path: PathBuf,
        /// What the library said.
        message: String,
    },
    /// An earlier failure left this writer unusable; what was acknowledged is safe in the log.
    #[error("this writer failed earlier: {cause}; open a new one, acknowledged changes are safe in the log")]
    WriterFailed {
        /// The first failure.
        cause: String,
    },
}

impl IndexError {
    /// For `map_err` on file operations.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err` on operations of the lexical half.
    pub(crate) fn lexical<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(tantivy::TantivyError) -> Self + 'a {
        move |source| Self::Lexical { action, path: path.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn corrupt(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), expected: expected.into(), got: got.into() }
    }
}

//! The bundled corpus: a few hundred passages about invented islands, inside the program.
//!
//! What `orion demo` searches. The files are those of `corpus/` at the root of the repository, which tells how they
//! came about; queries and judgements stay outside, since the demo has no use for answers.

use orion_host::index::{Document, JsonLines};
use sha2::{Digest, Sha256};

use crate::failure::{Explain, Failure};

const CORPUS: &str = include_str!("../../../corpus/corpus.jsonl");

/// Queries that `orion demo` searches for unless it is given others, all of the corpus's test split: one whose words
/// lead to the wrong passages, one whose answer stands two passages away, one whose answer uses other words.
pub const DEMO_QUERIES: [&str; 3] = [
    "artist who stayed after the strange skies ended",
    "profession and ruin of the man who tidied a coastline and caused a wreck",
    "tree skin used to cure leather",
];

/// All passages, in file order.
pub fn documents() -> Result<Vec<Document>, Failure> {
    JsonLines::new(CORPUS.as_bytes(), "corpus.jsonl")
        .collect::<Result<_, _>>()
        .attempt("reading the bundled corpus")
}

/// The first twelve hexadecimal digits of the corpus's SHA-256: an index of another version is another index.
pub fn identity() -> String {
    Sha256::digest(CORPUS).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orion_host::index::Kind;

    #[test]
    fn the_bundled_corpus_reads_and_has_typed_metadata() {
        let documents = documents().unwrap();
        assert!(300 <= documents.len(), "{} passages", documents.len());
        assert!(documents.iter().all(|document| document.metadata["year"].kind() == Kind::Number));
    }
}

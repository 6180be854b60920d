//! What the tests of this crate share: a small deterministic encoder and short ways to make things.

use orion_index::{DenseSettings, Document, Embedder, IndexSettings, OpenOptions};

/// Length of the test encoder's vectors.
pub(crate) const DIMENSIONS: usize = 16;

/// Counts of hashed character trigrams: crude, fast, and nearer for texts that share words.
pub(crate) fn embedder(fingerprint: &str) -> Embedder {
    Embedder::new(fingerprint, DIMENSIONS, |texts| Ok(texts.iter().map(|text| vector(text)).collect()))
}

/// The test encoder's vector of one text, not normalised.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut counts = vec![0.01; DIMENSIONS];
    for trigram in text.as_bytes().windows(3) {
        let hash =
            trigram.iter().fold(7_u32, |hash, &byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        counts[(hash >> 3) as usize % DIMENSIONS] += 1.0;
    }
    counts
}

/// Settings for the test encoder.
pub(crate) fn settings() -> IndexSettings {
    let dense = DenseSettings { dimensions: DIMENSIONS, ..DenseSettings::default() };
    IndexSettings { dense: Some(dense), ..IndexSettings::default() }
}

/// Opens with the test encoder, and with the least memory that tantivy takes.
pub(crate) fn options() -> OpenOptions {
    OpenOptions { encoder: Some(embedder("test")), writer_memory_bytes: 15_000_000, ..OpenOptions::default() }
}

/// A document without title and metadata.
pub(crate) fn document(id: &str, text: &str) -> Document {
    Document { id: id.to_owned(), text: text.to_owned(), ..Document::default() }
}

//! What the policy reads of a ranking: titles and beginnings of its first documents, each fetched once a search.

use std::collections::BTreeMap;

use crate::parameters::Integer;
use crate::text::snippet;
use crate::{Error, Hit, Host, Parameter, Setting, Snippet};

/// Ours: what fits a small model's context several times.
const SNIPPETS: Integer = Integer {
    name: "snippets",
    default: 5,
    min: 1,
    max: 50,
    help: "documents that the policy reads of each retrieval",
};

/// Ours: about forty tokens a document; reading is the larger part of a turn's time.
const SNIPPET_CHARS: Integer = Integer {
    name: "snippet-chars",
    default: 160,
    min: 0,
    max: 4000,
    help: "characters of a document's text that the policy reads",
};

/// Longer titles are cut: they come from documents, and documents are not trusted.
const TITLE_CHARS: usize = 100;

/// Below the number of list items that hosts take in one call; the widest beam with the longest responses has more.
const DOCUMENTS_PER_CALL: usize = 512;

/// The documents that were read, and how much of each.
#[derive(Clone, Debug)]
pub struct Reading {
    snippets: usize,
    snippet_chars: u32,
    /// `None` for those that the host does not know.
    read: BTreeMap<String, Option<Snippet>>,
}

impl Reading {
    /// What [`Self::new`] reads.
    pub fn describe() -> [Parameter; 2] {
        [SNIPPETS.describe(), SNIPPET_CHARS.describe()]
    }

    /// Nothing read yet.
    ///
    /// # Errors
    /// `invalid-input` where a value is out of range.
    pub fn new(options: &[Setting]) -> Result<Self, Error> {
        let (snippets, snippet_chars) = (SNIPPETS.read(options)? as usize, SNIPPET_CHARS.read(options)?);
        Ok(Self { snippets, snippet_chars, read: BTreeMap::new() })
    }

    /// The first hits of a ranking: those that are read.
    pub fn top<'h>(&self, hits: &'h [Hit]) -> &'h [Hit] {
        &hits[..hits.len().min(self.snippets)]
    }

    /// Fetches, in one call unless they are very many, the first documents that were not read before.
    ///
    /// # Errors
    /// Those of [`Host::documents`].
    pub fn fetch<'h>(
        &mut self,
        host: &mut impl Host,
        rankings: impl IntoIterator<Item = &'h [Hit]>,
    ) -> Result<(), Error> {
        let mut ids: Vec<String> = Vec::new();
        for hit in rankings.into_iter().flat_map(|hits| self.top(hits)) {
            if !self.read.contains_key(&hit.id) && !ids.contains(&hit.id) {
                ids.push(hit.id.clone());
            }
        }
        for batch in ids.chunks(DOCUMENTS_PER_CALL) {
            // One more character shows whether the last word is whole.
            let documents = host.documents(batch, self.snippet_chars + 1)?;
            for (id, document) in batch.iter().zip(documents) {
                let read =
                    document.map(|document| snippet(&document, TITLE_CHARS, self.snippet_chars as usize));
                self.read.insert(id.clone(), read);
            }
        }
        Ok(())
    }

    /// The first documents of a ranking as they were read, best first; those not fetched are left out.
    pub fn of(&self, hits: &[Hit]) -> Vec<Snippet> {
        self.top(hits).iter().filter_map(|hit| self.read.get(&hit.id).cloned().flatten()).collect()
    }
}

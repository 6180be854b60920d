//! What an index gives away to another engine: the vectors of documents, by id.

use crate::error::Result;
use crate::searcher::Searcher;
use crate::settings::{DenseSettings, VectorSource};
use crate::vectors::Segment;
use std::collections::BTreeMap;
use tantivy::DocAddress;

impl Searcher {
    /// The dense half, where documents bring its vectors.
    pub fn client_half(&self) -> Option<&DenseSettings> {
        self.dense.as_ref().filter(|dense| dense.source == VectorSource::Client)
    }

    /// The vector of one document as it is kept; `None` where the id is unknown or there is none.
    pub fn vector_of(&self, id: &str) -> Result<Option<Vec<f32>>> {
        let row = self.find(id)?.and_then(|address| self.row_of(address));
        Ok(row.map(|(segment, row)| segment.row(row).to_vec()))
    }

    /// Where the vector of a living document is.
    pub(crate) fn row_of(&self, address: DocAddress) -> Option<(&Segment, usize)> {
        let key = self.tables[address.segment_ord as usize].keys[address.doc_id as usize];
        self.vector_segments().iter().find_map(|placed| {
            let row = placed.segment.keys().binary_search(&key).ok()?;
            Some((&*placed.segment, row))
        })
    }

    /// The vector of each document, `None` where the id is unknown or the index keeps no vectors. Of a document with
    /// several vectors, the first. Reads the list of all rows once: ask for many at a time.
    pub fn vectors_of(&self, ids: &[&str]) -> Vec<Option<Vec<f32>>> {
        let places: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let mut found: Vec<Option<Vec<f32>>> = vec![None; ids.len()];
        for segment in self.vector_segments() {
            let alive = segment.slots.iter().enumerate().filter_map(|(row, slot)| Some((row, (*slot)?)));
            for (row, slot) in alive {
                if let Some(place) = places.get(self.id(slot)) {
                    found[*place].get_or_insert_with(|| segment.segment.row(row).to_vec());
                }
            }
        }
        // The same id asked for twice.
        let repeated: Vec<Option<Vec<f32>>> = ids.iter().map(|id| found[places[id]].clone()).collect();
        repeated
    }
}

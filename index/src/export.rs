//! What an index gives away to another engine: the vectors of documents, by id.

use crate::searcher::Searcher;
use std::collections::BTreeMap;

impl Searcher {
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

//! Embeddings of the texts asked for last: a search strategy encodes the same query turn after turn.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest text that is kept, in bytes; queries are far shorter, documents are cached elsewhere.
const LONGEST_BYTES: usize = 1024;

/// The `capacity` texts used last.
pub(super) struct Recent {
    capacity: usize,
    clock: u64,
    by_text: BTreeMap<Arc<str>, (u64, Vec<f32>)>,
    by_age: BTreeMap<u64, Arc<str>>,
}

impl Recent {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, by_text: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, text: &str) -> Option<Vec<f32>> {
        let (age, vector) = self.by_text.get_mut(text)?;
        self.clock += 1;
        if let Some(key) = self.by_age.remove(age) {
            self.by_age.insert(self.clock, key);
        }
        *age = self.clock;
        Some(vector.clone())
    }

    pub(super) fn put(&mut self, text: &str, vector: &[f32]) {
        if self.capacity == 0 || text.len() > LONGEST_BYTES {
            return;
        }
        self.clock += 1;
        let key: Arc<str> = text.into();
        let old = self.by_text.insert(Arc::clone(&key), (self.clock, vector.to_vec()));
        if let Some((age, _)) = old {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.clock, key);
        while self.by_text.len() > self.capacity {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_text.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn the_text_used_longest_ago_goes() {
        let mut recent = Recent::new(2);
        recent.put("a", &[1.0]);
        recent.put("b", &[2.0]);
        assert_eq!(recent.get("a"), Some(vec![1.0]));
        recent.put("c", &[3.0]);
        recent.put("a", &[4.0]);
        assert_eq!(recent.get("b"), None);
        assert_eq!((recent.get("a"), recent.get("c")), (Some(vec![4.0]), Some(vec![3.0])));
        recent.put(&"x".repeat(2000), &[5.0]);
        assert_eq!(recent.get(&"x".repeat(2000)), None);
    }

    #[test]
    fn no_room_is_no_cache() {
        let mut recent = Recent::new(0);
        recent.put("a", &[1.0]);
        assert_eq!(recent.get("a"), None);
    }
}

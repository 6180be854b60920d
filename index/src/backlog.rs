//! What waits to become vectors: texts, and vectors that documents brought, in the order of their keys.
//!
//! A commit need not wait for it. So each entry knows its change's number in the log, which may not be forgotten before the
//! entry is encoded, and the documents that live without a vector meanwhile are known by id.

use std::collections::{BTreeMap, VecDeque};

/// What a vector is made of.
pub(crate) enum Content {
    Text(String),
    Vector(Vec<f32>),
}

/// A vector to be.
pub(crate) struct Entry {
    pub(crate) key: u64,
    /// The change that brought it.
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) content: Content,
}

impl Entry {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Vector(_) => None,
        }
    }
}

/// All of them; the keys of entries rise.
#[derive(Default)]
pub(crate) struct Backlog {
    entries: VecDeque<Entry>,
    texts: usize,
    /// Documents whose newest version is in here, with its key.
    living: BTreeMap<String, u64>,
}

impl Backlog {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.texts += usize::from(entry.text().is_some());
        self.living.insert(entry.id.clone(), entry.key);
        self.entries.push_back(entry);
    }

    /// The document was deleted, or replaced.
    pub(crate) fn forget(&mut self, id: &str) {
        self.living.remove(id);
    }

    /// Takes the first `most` out.
    pub(crate) fn take(&mut self, most: usize) -> Vec<Entry> {
        let taken: Vec<Entry> = self.entries.drain(..most.min(self.entries.len())).collect();
        for entry in &taken {
            self.texts -= usize::from(entry.text().is_some());
            if self.living.get(&entry.id) == Some(&entry.key) {
                self.living.remove(&entry.id);
            }
        }
        taken
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Texts that wait, those of replaced documents too.
    pub(crate) fn texts(&self) -> usize {
        self.texts
    }

    /// Documents that live without a vector because of what waits here.
    pub(crate) fn living(&self) -> u64 {
        self.living.len() as u64
    }

    /// Entries before the first text: they need no encoder.
    pub(crate) fn leading_vectors(&self) -> usize {
        self.entries.iter().take_while(|entry| entry.text().is_none()).count()
    }

    /// The last change before all that wait here; `None` where nothing waits.
    pub(crate) fn before_all(&self) -> Option<u64> {
        self.entries.front().map(|first| first.sequence - 1)
    }

    /// The last change before all texts that wait here; `None` where none waits.
    pub(crate) fn before_texts(&self) -> Option<u64> {
        let first = self.entries.iter().find(|entry| entry.text().is_some());
        first.map(|first| first.sequence - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Content, Entry};

    fn entry(key: u64, id: &str, content: Content) -> Entry {
        Entry { key, sequence: 10 + key, id: id.to_owned(), content }
    }

    #[test]
    fn what_was_replaced_is_encoded_and_counts_for_no_document() {
        let mut backlog = Backlog::default();
        assert_eq!((backlog.before_all(), backlog.living()), (None, 0));
        backlog.push(entry(1, "a", Content::Vector(vec![1.0])));
        backlog.push(entry(2, "b", Content::Text("first".to_owned())));
        backlog.forget("b");
        backlog.push(entry(3, "b", Content::Text("second".to_owned())));
        assert_eq!((backlog.len(), backlog.texts(), backlog.living()), (3, 2, 2));
        assert_eq!(
            (backlog.leading_vectors(), backlog.before_all(), backlog.before_texts()),
            (1, Some(10), Some(11))
        );
        assert_eq!(backlog.take(2).len(), 2);
        // The old text of `b` is out, the new one is not.
        assert_eq!((backlog.texts(), backlog.living(), backlog.before_texts()), (1, 1, Some(12)));
        backlog.forget("b");
        assert_eq!((backlog.take(9).len(), backlog.living(), backlog.before_texts()), (1, 0, None));
    }
}

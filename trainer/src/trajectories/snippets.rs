//! What is shown of a document: the same cut as the `beam` strategy makes when it serves.

use crate::data::Snippet;

/// Snippets of a response, characters of a title and of a text: the defaults of the `beam` strategy.
pub const SNIPPETS: usize = 5;
/// See [`SNIPPETS`].
pub const TITLE_CHARS: usize = 100;
/// See [`SNIPPETS`].
pub const TEXT_CHARS: usize = 160;

/// The first whole words of `text` that fit into `limit` characters; a first word that is too long is cut.
pub fn beginning(text: &str, limit: usize) -> String {
    let mut taken = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let (blank, word_length) = (usize::from(length > 0), word.chars().count());
        if length + blank + word_length > limit {
            if length == 0 {
                taken.extend(word.chars().take(limit));
            }
            break;
        }
        if blank == 1 {
            taken.push(' ');
        }
        taken.push_str(word);
        length += blank + word_length;
    }
    taken
}

/// A document as the policy reads it.
pub fn snippet(title: &str, text: &str, text_chars: usize) -> Snippet {
    Snippet { title: beginning(title, TITLE_CHARS), text: beginning(text, text_chars) }
}

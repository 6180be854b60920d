//! Words, stop words and snippets, the same way in every strategy.

use crate::{Document, Snippet};

/// The words of a text in order: maximal runs of alphanumeric characters, in lower case. Hyphens and apostrophes
/// separate, as they do in the index's default analysis.
pub fn words(text: &str) -> Vec<String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The form under which two queries count as the same: their words joined by one blank.
pub fn normalise(query: &str) -> String {
    words(query).join(" ")
}

/// Whether a lower-case word carries no content in English: articles, pronouns, prepositions, conjunctions, auxiliary
/// verbs and question words. Our own list, kept to closed word classes.
pub fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Sorted, for binary search.
#[rustfmt::skip]
const STOP_WORDS: &[&str] = &[
    "a", "about", "above", "after", "again", "against", "all", "also", "although", "am", "among", "an",
    "and", "any", "are", "as", "at", "be", "because", "been", "before", "being", "below", "between", "both",
    "but", "by", "can", "cannot", "could", "d", "did", "do", "does", "doing", "down", "during", "each",
    "either", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her", "here", "hers",
    "herself", "him", "himself", "his", "how", "however", "i", "if", "in", "into", "is", "it", "its",
    "itself", "just", "ll", "may", "me", "might", "more", "most", "must", "my", "myself", "neither", "no",
    "nor", "not", "of", "off", "on", "once", "only", "or", "other", "our", "ours", "ourselves", "out",
    "over", "own", "s", "same", "shall", "she", "should", "since", "so", "some", "such", "t", "than",
    "that", "the", "their", "theirs", "them", "themselves", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "under", "until", "up", "upon", "us", "very", "was", "we", "were",
    "what", "when", "where", "whether", "which", "while", "who", "whom", "whose", "why", "will", "with",
    "within", "without", "would", "you", "your", "yours", "yourself", "yourselves",
];

/// What the policy gets to read of a document: title and the beginning of the text, white space collapsed, each cut to
/// at most its number of characters, at a word boundary where there is one.
pub fn snippet(document: &Document, title_chars: usize, text_chars: usize) -> Snippet {
    Snippet { title: beginning(&document.title, title_chars), text: beginning(&document.text, text_chars) }
}

/// The first whole words of `text` that fit into `max_chars` characters; a first word that is too long is cut.
pub fn beginning(text: &str, max_chars: usize) -> String {
    let mut taken = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let blank = usize::from(length > 0);
        let word_length = word.chars().count();
        if length + blank + word_length > max_chars {
            if length == 0 {
                taken.extend(word.chars().take(max_chars));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_runs_of_letters_and_digits() {
        assert_eq!(words("Who's in COVID-19 wards?"), ["who", "s", "in", "covid", "19", "wards"]);
        assert_eq!(words("Überfluß, naïve — 北京"), ["überfluß", "naïve", "北京"]);
        assert!(words(" \t—").is_empty());
    }

    #[test]
    fn punctuation_and_case_do_not_make_a_new_query() {
        assert_eq!(normalise("Heat  pumps?"), normalise("heat, PUMPS"));
        assert_ne!(normalise("heat pumps"), normalise("pumps heat"));
    }

    #[test]
    fn the_stop_words_are_sorted_and_found() {
        assert!(STOP_WORDS.is_sorted());
        assert!(STOP_WORDS.iter().all(|word| is_stop_word(word)));
        assert!(!is_stop_word("retrieval"));
    }

    #[test]
    fn a_beginning_ends_between_words() {
        assert_eq!(beginning("one  two\nthree", 9), "one two");
        assert_eq!(beginning("one two three", 13), "one two three");
        assert_eq!(beginning("incomprehensible", 5), "incom");
        assert_eq!(beginning("äöü ß", 4), "äöü");
        assert_eq!(beginning("word", 0), "");
    }
}

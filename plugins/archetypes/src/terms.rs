//! What the archetypes and the rules know of language: the words that carry a query, and how much two queries share.

use orion_sdk::Snippet;
use orion_sdk::text::{is_stop_word, words};

/// The words that carry a text, each once, in order; all of its words where none does.
pub(crate) fn content(text: &str) -> Vec<String> {
    let all = words(text);
    let carries = all.iter().any(|word| !is_stop_word(word));
    let mut kept: Vec<String> = Vec::new();
    for word in all {
        if !(carries && is_stop_word(&word) || kept.contains(&word)) {
            kept.push(word);
        }
    }
    kept
}

/// Share of `base`'s words that `query` keeps, in [0, 1]; 0 where `base` has none.
pub(crate) fn kept_share(base: &str, query: &str) -> f32 {
    let (base, query) = (content(base), content(query));
    let kept = base.iter().filter(|word| query.contains(word)).count();
    if base.is_empty() { 0.0 } else { kept as f32 / base.len() as f32 }
}

/// The words of `query` that `base` lacks.
pub(crate) fn added(base: &str, query: &str) -> Vec<String> {
    let base = content(base);
    content(query).into_iter().filter(|word| !base.contains(word)).collect()
}

/// Words of documents that `known` lacks: those that most documents have first, then in order of appearance. Short
/// words and numbers are left out: alone they say nothing.
pub(crate) fn topics(documents: &[Snippet], known: &[String]) -> Vec<String> {
    let mut counted: Vec<(usize, String)> = Vec::new();
    for document in documents {
        for word in content(&format!("{} {}", document.title, document.text)) {
            let says_something = word.chars().count() > 2 && word.chars().any(char::is_alphabetic);
            if !says_something || known.contains(&word) {
                continue;
            }
            match counted.iter_mut().find(|(_, other)| *other == word) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, word)),
            }
        }
    }
    // Stable: ties stay in order of appearance.
    counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counted.into_iter().map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_its_words_of_content() {
        assert_eq!(content("why do heat pumps freeze, and the pumps?"), ["heat", "pumps", "freeze"]);
        assert_eq!(content("to be or not to be"), ["to", "be", "or", "not"]);
        assert!(content("?!").is_empty());
    }

    #[test]
    fn shares_are_of_the_base() {
        assert_eq!(kept_share("heat pumps", "why pumps freeze"), 0.5);
        assert_eq!(kept_share("", "pumps"), 0.0);
        assert_eq!(added("heat pumps", "pumps freeze in winter"), ["freeze", "winter"]);
    }

    #[test]
    fn topics_are_what_documents_have_in_common_and_the_query_lacks() {
        let document = |title: &str, text: &str| Snippet { title: title.to_owned(), text: text.to_owned() };
        let documents =
            [document("Snake care", "a python eats mice"), document("Python", "the snake of 1912")];
        assert_eq!(topics(&documents, &["python".to_owned()]), ["snake", "care", "eats", "mice"]);
    }
}

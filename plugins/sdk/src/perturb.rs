//! Blind perturbation of a query: small seeded edits that know nothing of documents or results.
//!
//! The controls `perturb` and `blind` search with these, to show what more retrievals bring by themselves.

use crate::random::Random;
use crate::text::{is_stop_word, words};

/// A variant of `query`: one edit for every three words (at least one), each drawn evenly from: drop a word, exchange
/// two words, repeat a word. Prefers words with content; never empties the query. Same generator state, same variant.
pub fn perturb(query: &str, random: &mut Random) -> String {
    let mut edited = words(query);
    let edits = edited.len().div_ceil(3);
    for _ in 0..edits {
        let at = content_position(&edited, random);
        match random.below(3) {
            0 if edited.len() > 1 => drop(edited.remove(at)),
            1 if edited.len() > 1 => {
                let other = (at + 1 + random.below(edited.len() - 1)) % edited.len();
                edited.swap(at, other);
            }
            _ => {
                let repeated = edited[at].clone();
                edited.push(repeated);
            }
        }
    }
    edited.join(" ")
}

/// Position of a random content word, or of any word where all are stop words. `words` must not be empty.
fn content_position(words: &[String], random: &mut Random) -> usize {
    let content: Vec<usize> = (0..words.len()).filter(|&index| !is_stop_word(&words[index])).collect();
    if content.is_empty() { random.below(words.len()) } else { content[random.below(content.len())] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_variant() {
        let variant = |seed| perturb("why do heat pumps freeze in winter", &mut Random::new(seed));
        assert_eq!(variant(5), variant(5));
        let distinct: std::collections::BTreeSet<String> = (0..40).map(variant).collect();
        assert!(distinct.len() > 20, "{} distinct variants of 40", distinct.len());
    }

    #[test]
    fn only_words_of_the_query_are_used_and_one_is_always_left() {
        for seed in 0..200 {
            for query in ["frost", "heat pump", "why do heat pumps freeze in winter", "to be or not"] {
                let variant = perturb(query, &mut Random::new(seed));
                let known = words(query);
                assert!(!variant.is_empty());
                assert!(words(&variant).iter().all(|word| known.contains(word)), "{variant}");
            }
        }
    }

    #[test]
    fn a_query_without_words_stays_empty() {
        assert_eq!(perturb("?!", &mut Random::new(1)), "");
    }
}

//! Words, stop words and how rare a word is: all that the rules know of language.

use std::collections::BTreeMap;

/// Words that carry no topic. Chosen by hand: articles, pronouns, auxiliaries, prepositions, question words and the
/// fillers that claims and questions of the training sets are full of.
const STOP_WORDS: &str = "a about above after again against all also although always among an and any are as at be \
    because been before behind being below between both but by called can cannot could did do does doing done down \
    during each either else ever every few first for from further had has have having he her here hers him himself \
    his how i if in into is it its itself just kind known last less like made make makes many may me might more most \
    much must my name named near never next no nor not now of off often on once one only or other others our out over \
    own part people person place same shall she should since so some such than that the their them then there these \
    they thing things this those though three through thus time to too took two under until up upon us use used \
    using very was way we well were what when where whether which while who whom whose why will with within without \
    would year years yet you your";

/// Lower-cased words in order: runs of letters and digits, with inner hyphens and apostrophes.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '\'' || c == '’'))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether a word carries no topic.
pub fn is_stop_word(word: &str) -> bool {
    word.chars().count() < 2 || STOP_WORDS.split_whitespace().any(|stop| stop == word)
}

/// Words that carry a topic, in order, each once.
pub fn terms(text: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for word in words(text) {
        if !is_stop_word(&word) && !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen
}

/// Whether two words share their stem, roughly: equal, or equal up to a short ending.
pub fn alike(a: &str, b: &str) -> bool {
    let shared = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let longest = a.chars().count().max(b.chars().count());
    a == b || (shared >= 4 && longest - shared <= 3)
}

/// In how many documents each word occurs.
#[derive(Debug, Clone, Default)]
pub struct Rarity {
    documents: f64,
    counts: BTreeMap<String, u32>,
}

impl Rarity {
    /// Counts over documents.
    pub fn count<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut rarity = Self::default();
        for text in texts {
            rarity.documents += 1.0;
            for term in terms(text) {
                *rarity.counts.entry(term).or_default() += 1;
            }
        }
        rarity
    }

    /// Inverse document frequency in nats; larger is rarer.
    pub fn of(&self, word: &str) -> f64 {
        let count = f64::from(self.counts.get(word).copied().unwrap_or(0));
        ((self.documents + 1.0) / (count + 0.5)).ln()
    }

    /// The `count` rarest of `terms`, in their old order.
    pub fn rarest(&self, terms: &[String], count: usize) -> Vec<String> {
        let mut order: Vec<usize> = (0..terms.len()).collect();
        order.sort_by(|a, b| self.of(&terms[*b]).total_cmp(&self.of(&terms[*a])).then(a.cmp(b)));
        let mut kept: Vec<usize> = order.into_iter().take(count).collect();
        kept.sort_unstable();
        kept.into_iter().map(|index| terms[index].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_keep_order_and_drop_fillers() {
        assert_eq!(
            terms("Who built the long, LONG break-water at Oskhaven?"),
            ["built", "long", "break-water", "oskhaven"]
        );
        assert!(alike("breakwater", "breakwaters"));
        assert!(!alike("cell", "cellar-door"));
    }
}

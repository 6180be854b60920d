//! The rules of `moves` as a rewriter that never sees a judgement: one of the sources of a pool.
//!
//! `walk` lets the rank of a judged document decide which move is taken. Here chance decides, so that the traces hold
//! what a rule would ask, good or bad; whoever reads the pool judges.

use super::moves::{Rule, Sight, opening, replies};
use super::thoughts::thought;
use super::words::{Rarity, terms};
use crate::data::{Snippet, retriever_name};
use orion_policy::Retriever;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// A query with its reason and the retriever it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reformulation {
    /// Why.
    pub think: String,
    /// The words; never empty.
    pub query: String,
    /// Where to look them up.
    pub retriever: Retriever,
}

/// One question on its way through the rules.
pub struct RuleRewriter<'a> {
    question: String,
    terms: Vec<String>,
    rarity: &'a Rarity,
    fixed: Option<Retriever>,
    rng: ChaCha8Rng,
    tried: Vec<(String, String, Option<u32>)>,
}

impl<'a> RuleRewriter<'a> {
    /// Starts on a question; `fixed` is the one retriever to be used, where there is no choice.
    pub fn new(question: &str, rarity: &'a Rarity, fixed: Option<Retriever>, seed: u64) -> Self {
        let question = question.trim().to_owned();
        Self {
            terms: terms(&question),
            question,
            rarity,
            fixed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            tried: Vec::new(),
        }
    }

    /// The next query after the last one brought `shown`; `None` where no rule has a new one.
    pub fn next(&mut self, shown: &[Snippet]) -> Option<Reformulation> {
        let sight = Sight {
            question: &self.question,
            terms: &self.terms,
            shown,
            tried: &self.tried,
            rarity: self.rarity,
        };
        let pool = if self.tried.is_empty() {
            opening(&sight, &mut self.rng)
        } else {
            replies(&sight, None, &mut self.rng)
        };
        let fixed = self.fixed.map(retriever_name);
        let mut options = Vec::new();
        for candidate in &pool {
            for retriever in Retriever::ALL {
                let name = retriever_name(retriever);
                let is_allowed = fixed.is_none_or(|only| only == name)
                    && candidate.not_retriever.as_deref() != Some(name)
                    && !self.tried.iter().any(|(query, by, _)| *query == candidate.query && by == name);
                // Repeating the question to the letter is what the rewriters are there to improve on.
                if is_allowed && (candidate.rule != Rule::Verbatim || pool.len() == 1) {
                    options.push((candidate, retriever));
                }
            }
        }
        let (chosen, retriever) = options.choose(&mut self.rng).copied()?;
        let name = retriever_name(retriever);
        let think = thought(chosen, name, &sight, None, &mut self.rng);
        let query = chosen.query.clone();
        self.tried.push((query.clone(), name.to_owned(), None));
        Some(Reformulation { think, query, retriever })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_seeded_and_never_ask_the_same_twice() {
        let rarity = Rarity::count(["the long breakwater at oskhaven"].into_iter());
        let shown = [Snippet { title: "Tobiah Lunt".into(), text: "built harbour walls in stone".into() }];
        let run = |seed| {
            let question = "who built the long breakwater at oskhaven";
            let mut rules = RuleRewriter::new(question, &rarity, None, seed);
            (0..5).filter_map(|_| rules.next(&shown)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        for seed in 0..20 {
            let asked: Vec<_> = run(seed).into_iter().map(|each| (each.query, each.retriever)).collect();
            assert_eq!(asked.len(), 5);
            for (place, each) in asked.iter().enumerate() {
                assert!(!each.0.is_empty() && !asked[..place].contains(each), "{asked:?}");
            }
        }
    }

    #[test]
    fn a_fixed_retriever_is_kept() {
        let rarity = Rarity::default();
        let mut rules = RuleRewriter::new("cave bears diet", &rarity, Some(Retriever::Dense), 3);
        let first = rules.next(&[]).map(|each| each.retriever);
        assert_eq!(first, Some(Retriever::Dense));
        let none = RuleRewriter::new("", &rarity, None, 3).next(&[]);
        assert_eq!(none, None);
    }
}

//! A scripted in-memory world for native unit tests of strategies: documents, a policy that says what the script says,
//! budgets, and a record of everything that the strategy did.
//!
//! Scoring is simple enough to do by hand. Lexical: the number of the query's words (repeats count) that occur in title
//! or text; documents without any are not found. Dense: cosine of character trigram counts. Hybrid: the weighted sum of
//! both, each divided by its best, or reciprocal rank fusion. Ties are ordered by id.
//!
//! What makes the real host end a search (an unknown node) panics here: in a test that is the same thing.
//!
//! ```
//! use orion_sdk::{Host, Query, Retriever, mock::MockHost};
//! let mut host = MockHost::new().document("frost", "Frost", "why pumps freeze").document("sun", "Sun", "warm days");
//! let found = host.search(&[Query::new("pumps freeze", Retriever::Lexical, 0.5, 10)]).unwrap();
//! assert_eq!(found[0][0].id, "frost");
//! ```

use std::collections::BTreeMap;

use crate::fusion::{Fusion, RECIPROCAL_RANK_CONSTANT, Weighted};
use crate::text::words;
use crate::{
    Candidate, Document, Error, Event, Hit, Host, JudgedText, Level, Node, Query, Remaining, Retriever,
    Sampling, Segment, Turn,
};

/// One call of the strategy, as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `retrieval.search`.
    Search(Vec<Query>),
    /// `retrieval.documents`: the ids.
    Documents(Vec<String>),
    /// `retrieval.similarity`.
    Similarity(Vec<(String, String)>),
    /// `policy.extend`.
    Extend(Vec<(Option<Node>, Vec<Segment>)>),
    /// `policy.propose`.
    Propose(Vec<Node>, Sampling),
    /// `policy.perplexity`.
    Perplexity(Vec<(Node, Vec<String>)>),
    /// `feedback.quality`.
    Quality(Vec<Turn>),
}

/// The scripted world; built with the methods that take `self`, inspected through its fields afterwards.
#[derive(Clone, Debug)]
pub struct MockHost {
    /// What is left; every call pays from it.
    pub remaining: Remaining,
    /// Every call, in order, refused ones included.
    pub calls: Vec<Call>,
    /// The trace as it was emitted.
    pub events: Vec<Event>,
    /// The log as it was written.
    pub lines: Vec<(Level, String)>,
    documents: BTreeMap<String, Document>,
    policy: Option<Script>,
    qualities: Option<BTreeMap<String, f32>>,
}

#[derive(Clone, Debug, Default)]
struct Script {
    /// By the last query of a trajectory (the user's, where there is none yet): the proposals, in order.
    proposals: BTreeMap<String, Vec<(String, Option<Retriever>)>>,
    /// By the last query of a trajectory.
    perplexities: BTreeMap<String, f32>,
    /// Node `i` is what the policy has read at that point, and how many proposals were drawn from it.
    nodes: Vec<(Vec<Segment>, usize)>,
}

/// Perplexity after queries that the script does not mention.
const DEFAULT_PERPLEXITY: f32 = 10.0;

impl Default for MockHost {
    fn default() -> Self {
        Self::new()
    }
}

impl MockHost {
    /// An empty collection, no policy, nobody who judges, and budgets without end.
    pub fn new() -> Self {
        Self {
            remaining: Remaining {
                retrievals: u64::MAX,
                tokens: u64::MAX,
                nodes: u64::MAX,
                milliseconds: u64::MAX,
            },
            calls: Vec::new(),
            events: Vec::new(),
            lines: Vec::new(),
            documents: BTreeMap::new(),
            policy: None,
            qualities: None,
        }
    }

    /// Adds a document.
    #[must_use]
    pub fn document(mut self, id: &str, title: &str, text: &str) -> Self {
        let document = Document { id: id.to_owned(), title: title.to_owned(), text: text.to_owned() };
        self.documents.insert(id.to_owned(), document);
        self
    }

    /// Gives the world a policy: after `last_query` it proposes these queries in turn, beginning again at the end.
    /// After queries that no script mentions it repeats them.
    #[must_use]
    pub fn proposes(self, last_query: &str, queries: &[&str]) -> Self {
        let queries: Vec<(&str, Option<Retriever>)> = queries.iter().map(|query| (*query, None)).collect();
        self.proposes_with(last_query, &queries)
    }

    /// As [`Self::proposes`], with the policy's choice of retriever.
    #[must_use]
    pub fn proposes_with(mut self, last_query: &str, queries: &[(&str, Option<Retriever>)]) -> Self {
        let owned = queries.iter().map(|(query, retriever)| ((*query).to_owned(), *retriever)).collect();
        self.policy.get_or_insert_default().proposals.insert(last_query.to_owned(), owned);
        self
    }

    /// The perplexity of every text after a trajectory that ends in this query (10 for those not named).
    #[must_use]
    pub fn perplexity_after(mut self, last_query: &str, perplexity: f32) -> Self {
        self.policy.get_or_insert_default().perplexities.insert(last_query.to_owned(), perplexity);
        self
    }

    /// The quality of every turn with this search query (0 for those not named).
    #[must_use]
    pub fn quality_of(mut self, search_query: &str, quality: f32) -> Self {
        self.qualities.get_or_insert_default().insert(search_query.to_owned(), quality);
        self
    }

    /// Limits the number of retrievals.
    #[must_use]
    pub fn retrievals(mut self, retrievals: u64) -> Self {
        self.remaining.retrievals = retrievals;
        self
    }

    /// Limits the number of tokens (words, here) that the policy reads and writes.
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.remaining.tokens = tokens;
        self
    }

    /// All texts that were searched for, in order.
    pub fn searched(&self) -> Vec<&str> {
        let batches = self.calls.iter().filter_map(|call| match call {
            Call::Search(queries) => Some(queries),
            _ => None,
        });
        batches.flatten().map(|query| query.text.as_str()).collect()
    }

    /// What the policy has read at a node.
    pub fn trajectory(&self, node: Node) -> &[Segment] {
        &self.script().nodes[node as usize].0
    }

    fn script(&self) -> &Script {
        self.policy.as_ref().expect("the strategy used a node of a policy that is not there")
    }

    fn policy(&mut self) -> Result<&mut Script, Error> {
        self.policy.as_mut().ok_or_else(|| Error::Unavailable("policy".to_owned()))
    }

    fn ranking(&self, query: &Query) -> Vec<Hit> {
        let lexical = || self.ranked(|document| overlap(&query.text, document));
        let dense = || self.ranked(|document| trigram_cosine(&query.text, &whole_text(document)));
        let mut ranking = match query.retriever {
            Retriever::Lexical => lexical(),
            Retriever::Dense => dense(),
            Retriever::Hybrid => {
                let (lexical, dense) = (lexical(), dense());
                let share = query.dense_weight;
                if share.is_nan() {
                    let both =
                        [Weighted { weight: 1.0, hits: &lexical }, Weighted { weight: 1.0, hits: &dense }];
                    Fusion::ReciprocalRank { constant: RECIPROCAL_RANK_CONSTANT }.fuse(&both)
                } else {
                    let scaled = |hits: &[Hit], id: &str| {
                        let best = hits.first().map_or(1.0, |hit| hit.score);
                        hits.iter().find(|hit| hit.id == id).map_or(0.0, |hit| hit.score / best)
                    };
                    self.ranked(|document| {
                        share * scaled(&dense, &document.id) + (1.0 - share) * scaled(&lexical, &document.id)
                    })
                }
            }
        };
        ranking.truncate(query.k as usize);
        ranking
    }

    fn ranked(&self, score: impl Fn(&Document) -> f32) -> Vec<Hit> {
        let scored =
            self.documents.values().map(|document| Hit { id: document.id.clone(), score: score(document) });
        let mut hits: Vec<Hit> = scored.filter(|hit| hit.score > 0.0).collect();
        hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
        hits
    }
}

impl Script {
    fn add(&mut self, trajectory: Vec<Segment>) -> Node {
        self.nodes.push((trajectory, 0));
        (self.nodes.len() - 1) as Node
    }

    fn last_query(&self, node: Node) -> String {
        let query = self.nodes[node as usize].0.iter().rev().find_map(|segment| match segment {
            Segment::SearchQuery(issued) => Some(&issued.query),
            Segment::UserQuery(query) => Some(query),
            _ => None,
        });
        query.cloned().unwrap_or_default()
    }

    fn draw(&mut self, node: Node) -> Candidate {
        let last_query = self.last_query(node);
        let drawn = self.nodes[node as usize].1;
        self.nodes[node as usize].1 += 1;
        let (query, retriever) = match self.proposals.get(&last_query) {
            Some(list) if !list.is_empty() => list[drawn % list.len()].clone(),
            _ => (last_query, None),
        };
        let think = format!("look for {query}");
        let tokens = (words(&think).len() + words(&query).len()) as u32;
        let mut trajectory = self.nodes[node as usize].0.clone();
        trajectory.push(Segment::Think(think.clone()));
        trajectory.push(Segment::SearchQuery(crate::Issued { query: query.clone(), retriever }));
        let after = self.add(trajectory);
        let log_probability = -(tokens as f32);
        Candidate { node: after, think, query, retriever, log_probability, tokens, options: Vec::new() }
    }
}

impl Host for MockHost {
    fn search(&mut self, queries: &[Query]) -> Result<Vec<Vec<Hit>>, Error> {
        self.calls.push(Call::Search(queries.to_vec()));
        pay(&mut self.remaining.retrievals, queries.len(), "retrievals")?;
        Ok(queries.iter().map(|query| self.ranking(query)).collect())
    }

    fn documents(&mut self, ids: &[String], max_chars: u32) -> Result<Vec<Option<Document>>, Error> {
        self.calls.push(Call::Documents(ids.to_vec()));
        let cut = |document: &Document| Document {
            text: document.text.chars().take(max_chars as usize).collect(),
            ..document.clone()
        };
        Ok(ids.iter().map(|id| self.documents.get(id).map(cut)).collect())
    }

    fn similarity(&mut self, pairs: &[(String, String)]) -> Result<Vec<f32>, Error> {
        self.calls.push(Call::Similarity(pairs.to_vec()));
        Ok(pairs.iter().map(|(left, right)| trigram_cosine(left, right)).collect())
    }

    fn extend(&mut self, steps: &[(Option<Node>, Vec<Segment>)]) -> Result<Vec<Node>, Error> {
        self.calls.push(Call::Extend(steps.to_vec()));
        let length: usize = steps.iter().flat_map(|(_, segments)| segments).map(segment_length).sum();
        self.policy()?;
        pay(&mut self.remaining.tokens, length, "tokens")?;
        pay(&mut self.remaining.nodes, steps.len(), "nodes")?;
        let script = self.policy()?;
        let mut nodes = Vec::new();
        for (parent, segments) in steps {
            let mut trajectory = parent.map_or_else(Vec::new, |node| script.nodes[node as usize].0.clone());
            trajectory.extend_from_slice(segments);
            nodes.push(script.add(trajectory));
        }
        Ok(nodes)
    }

    fn propose(&mut self, nodes: &[Node], sampling: &Sampling) -> Result<Vec<Vec<Candidate>>, Error> {
        self.calls.push(Call::Propose(nodes.to_vec(), sampling.clone()));
        let script = self.policy()?;
        let drawn: Vec<Vec<Candidate>> =
            nodes.iter().map(|node| (0..sampling.candidates).map(|_| script.draw(*node)).collect()).collect();
        let length: u32 = drawn.iter().flatten().map(|candidate| candidate.tokens).sum();
        pay(&mut self.remaining.tokens, length as usize, "tokens")?;
        pay(&mut self.remaining.nodes, nodes.len() * sampling.candidates as usize, "nodes")?;
        Ok(drawn)
    }

    fn perplexity(&mut self, requests: &[(Node, Vec<String>)]) -> Result<Vec<Vec<JudgedText>>, Error> {
        self.calls.push(Call::Perplexity(requests.to_vec()));
        let length: usize = requests.iter().flat_map(|(_, texts)| texts).map(|text| words(text).len()).sum();
        self.policy()?;
        pay(&mut self.remaining.tokens, length, "tokens")?;
        let script = self.policy()?;
        let judged = requests.iter().map(|(node, texts)| {
            let last_query = script.last_query(*node);
            let perplexity = script.perplexities.get(&last_query).copied().unwrap_or(DEFAULT_PERPLEXITY);
            let judge = |text: &String| {
                let tokens = words(text).len();
                let log_probabilities = vec![-perplexity.ln(); tokens];
                JudgedText { perplexity, tokens: tokens as u32, log_probabilities }
            };
            texts.iter().map(judge).collect()
        });
        Ok(judged.collect())
    }

    fn quality(&mut self, turns: &[Turn]) -> Result<Vec<f32>, Error> {
        self.calls.push(Call::Quality(turns.to_vec()));
        let qualities = self.qualities.as_ref().ok_or_else(|| Error::Unavailable("feedback".to_owned()))?;
        Ok(turns.iter().map(|turn| qualities.get(&turn.search_query).copied().unwrap_or(0.0)).collect())
    }

    fn budget(&mut self) -> Remaining {
        self.remaining
    }

    fn trace(&mut self, events: &[Event]) {
        self.events.extend_from_slice(events);
    }

    fn log(&mut self, level: Level, message: &str) {
        self.lines.push((level, message.to_owned()));
    }
}

/// Takes `cost` from a budget, or leaves it as it is and says that it is used up.
fn pay(budget: &mut u64, cost: usize, name: &str) -> Result<(), Error> {
    *budget = budget.checked_sub(cost as u64).ok_or_else(|| Error::BudgetExhausted(name.to_owned()))?;
    Ok(())
}

fn whole_text(document: &Document) -> String {
    format!("{} {}", document.title, document.text)
}

fn overlap(query: &str, document: &Document) -> f32 {
    let known = words(&whole_text(document));
    words(query).iter().filter(|word| known.contains(word)).count() as f32
}

fn trigram_cosine(left: &str, right: &str) -> f32 {
    let (left, right) = (trigrams(left), trigrams(right));
    let dot: f32 = left.iter().map(|(trigram, count)| count * right.get(trigram).unwrap_or(&0.0)).sum();
    let norm =
        |counts: &BTreeMap<String, f32>| counts.values().map(|count| count * count).sum::<f32>().sqrt();
    let norms = norm(&left) * norm(&right);
    if norms > 0.0 { dot / norms } else { 0.0 }
}

fn trigrams(text: &str) -> BTreeMap<String, f32> {
    let letters: Vec<char> = format!(" {} ", words(text).join(" ")).chars().collect();
    let mut counts = BTreeMap::new();
    for trigram in letters.windows(3) {
        *counts.entry(trigram.iter().collect()).or_insert(0.0) += 1.0;
    }
    counts
}

fn segment_length(segment: &Segment) -> usize {
    match segment {
        Segment::UserQuery(text) | Segment::Think(text) => words(text).len(),
        Segment::SearchQuery(issued) => words(&issued.query).len(),
        Segment::TopKResponse(snippets) => {
            snippets.iter().map(|snippet| words(&snippet.title).len() + words(&snippet.text).len()).sum()
        }
    }
}

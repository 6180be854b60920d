//! Trajectories over real retrieval results.
//!
//! At every turn a few moves are tried with every retriever, and the rank of the best judged document is looked up in
//! each ranking. About seven times in ten the move that ranks it best is taken; else one that sounds plausible and
//! does not help, after which the next turn has to recover. The judged documents steer which move is taken and which
//! hit a thought leans on (only one that is shown); they are never named otherwise.

use super::collection::open_index;
use super::moves::{Move, Rule, Sight, opening, replies};
use super::sets::Source;
use super::snippets::{SNIPPETS, TEXT_CHARS, snippet};
use super::thoughts::{reflection, reflects, thought};
use super::words::{Rarity, terms};
use crate::data::{Part, Piece, Record, SearchQuery, Snippet, TurnNote};
use crate::error::{Result, TrainError};
use indicatif::ProgressBar;
use orion_eval::dataset::Query;
use orion_host::index::{EmbeddingCache, Encoder, FUSION_DEPTH, Fusion, Searcher, fuse};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Settings of the walks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WalkSettings {
    /// Walks of each training query, by set: bundled, scifact, fm2.
    pub walks: [usize; 3],
    /// Training queries of each set, at most.
    pub train_queries: [usize; 3],
    /// Held-out queries of each set, at most.
    pub held_out_queries: [usize; 3],
    /// Documents of each set, at most: all that are judged, and a sample of the others.
    pub documents: [usize; 3],
    /// Whether each set's walks use all retrievers, which needs every text encoded; else the lexical one alone.
    pub dense: [bool; 3],
    /// Probability of the best move.
    pub best: f64,
    /// New queries tried at a turn; each costs an encoding.
    pub tries: usize,
    /// Depth to which a judged document is looked for.
    pub depth: usize,
    /// Probabilities of two, three and four turns; the rest of one goes to two.
    pub turns: [f64; 3],
    /// Probability that a walk ends with a reflection on its last results.
    pub last_reflection: f64,
}

impl Default for WalkSettings {
    /// Two and three turns, because results are long and training is on a CPU.
    fn default() -> Self {
        Self {
            walks: [6, 2, 2],
            train_queries: [usize::MAX; 3],
            held_out_queries: [usize::MAX; 3],
            documents: [usize::MAX; 3],
            dense: [true; 3],
            best: 0.7,
            tries: 5,
            depth: 100,
            turns: [0.65, 0.3, 0.05],
            last_reflection: 0.25,
        }
    }
}

/// Names of the retrievers, in the order of a [`Rankings`].
const RETRIEVERS: [&str; 3] = ["lexical", "dense", "hybrid"];

/// The best ids by each retriever.
type Rankings = [Vec<String>; 3];

fn index_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Index(error.to_string())
}

/// An index over a source, with every ranking asked for so far.
pub struct Results {
    searcher: Arc<Searcher>,
    retrievers: &'static [&'static str],
    depth: usize,
    known: BTreeMap<String, Rankings>,
}

impl Results {
    /// Opens the index of a source below `folder`, or builds it there. Without an encoder it is lexical.
    pub fn open(
        source: &Source,
        folder: &Path,
        encoder: Option<(Arc<Encoder>, Arc<EmbeddingCache>)>,
        depth: usize,
    ) -> Result<Self> {
        let retrievers = if encoder.is_some() { &RETRIEVERS[..] } else { &RETRIEVERS[..1] };
        let (encoder, cache) = encoder.unzip();
        let folder = folder.join(source.set.name());
        let searcher = open_index(source, &folder, encoder.map(Into::into), cache)?;
        Ok(Self { searcher, retrievers, depth, known: BTreeMap::new() })
    }

    /// Looks up what is not known yet; the dense half is encoded in one batch.
    fn look_up(&mut self, queries: &[&str]) -> Result<()> {
        let mut fresh: Vec<&str> = queries.iter().copied().filter(|q| !self.known.contains_key(*q)).collect();
        fresh.sort_unstable();
        fresh.dedup();
        if fresh.is_empty() {
            return Ok(());
        }
        let dense = if self.retrievers.len() > 1 {
            self.searcher.dense(&fresh, FUSION_DEPTH, None).map_err(index_error)?
        } else {
            vec![Vec::new(); fresh.len()]
        };
        for (query, dense) in fresh.into_iter().zip(dense) {
            let lexical = self.searcher.lexical(query, FUSION_DEPTH, None).map_err(index_error)?;
            let hybrid = fuse(&lexical, &dense, Fusion::default(), self.depth);
            let ids = |hits: Vec<orion_host::index::Hit>| -> Vec<String> {
                hits.into_iter().take(self.depth).map(|hit| hit.id).collect()
            };
            self.known.insert(query.to_owned(), [ids(lexical), ids(dense), ids(hybrid)]);
        }
        Ok(())
    }

    fn ranking(&self, query: &str, retriever: &str) -> &[String] {
        let place = RETRIEVERS.iter().position(|name| *name == retriever).unwrap_or(2);
        self.known.get(query).map_or(&[], |rankings| &rankings[place])
    }

    fn rank(&self, query: &str, retriever: &str, targets: &[String]) -> Option<u32> {
        let ranking = self.ranking(query, retriever);
        ranking.iter().position(|id| targets.contains(id)).map(|place| place as u32 + 1)
    }
}

/// One walk's surroundings.
struct Walk<'a> {
    source: &'a Source,
    places: &'a BTreeMap<&'a str, usize>,
    rarity: &'a Rarity,
    settings: &'a WalkSettings,
}

/// Rank beyond the depth looked at, for comparing.
fn or_deep(rank: Option<u32>) -> u32 {
    rank.unwrap_or(u32::MAX)
}

/// All walks over one source, in the order of query ids.
pub fn make(
    source: &Source,
    results: &mut Results,
    settings: &WalkSettings,
    seed: u64,
    bar: &ProgressBar,
) -> Result<Vec<Record>> {
    let texts: Vec<String> = source.texts().collect();
    let rarity = Rarity::count(texts.iter().map(String::as_str));
    let places: BTreeMap<&str, usize> =
        source.documents.iter().enumerate().map(|(place, document)| (document.id.as_str(), place)).collect();
    let walk = Walk { source, places: &places, rarity: &rarity, settings };
    let set_place = PermittedSetPlace::of(source);
    let mut records = Vec::new();
    for (number, (query, part)) in source.queries.iter().enumerate() {
        bar.inc(1);
        let targets = source.targets.get(&query.id).map_or(&[][..], Vec::as_slice);
        if targets.is_empty() {
            continue;
        }
        let walks = if *part == Part::HeldOut { 1 } else { settings.walks[set_place.0] };
        for copy in 0..walks {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream((set_place.0 as u64) << 40 | (number as u64) << 8 | copy as u64);
            records.extend(walk.one(query, *part, targets, copy, results, &mut rng)?);
        }
    }
    Ok(records)
}

/// Place of a set in the settings' list.
struct PermittedSetPlace(usize);

impl PermittedSetPlace {
    fn of(source: &Source) -> Self {
        Self(super::PermittedSet::SHIPPABLE.iter().position(|set| *set == source.set).unwrap_or(0))
    }
}

impl Walk<'_> {
    fn one(
        &self,
        query: &Query,
        part: Part,
        targets: &[String],
        copy: usize,
        results: &mut Results,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Record>> {
        let question = query.text.trim();
        let question_terms = terms(question);
        if question_terms.is_empty() {
            return Ok(None);
        }
        let draw: f64 = rng.random();
        let [_, three, four] = self.settings.turns;
        let turns = if draw < four {
            4
        } else if draw < four + three {
            3
        } else {
            2
        };
        let mut segments = vec![Piece::UserQuery(question.to_owned())];
        let mut notes = Vec::new();
        let mut tried: Vec<(String, String, Option<u32>)> = Vec::new();
        let mut shown: Vec<Snippet> = Vec::new();
        let mut fitting: Option<usize> = None;
        let mut must_recover = false;
        for turn in 1..=turns {
            let sight =
                Sight { question, terms: &question_terms, shown: &shown, tried: &tried, rarity: self.rarity };
            let mut pool = if turn == 1 { opening(&sight, rng) } else { replies(&sight, fitting, rng) };
            pool.shuffle(rng);
            let mut fresh = 0;
            pool.retain(|candidate| {
                let free = candidate.not_retriever.is_some();
                fresh += usize::from(!free);
                free || fresh <= self.settings.tries
            });
            let queries: Vec<&str> = pool.iter().map(|candidate| candidate.query.as_str()).collect();
            results.look_up(&queries)?;
            let best_before = tried.iter().map(|(_, _, rank)| or_deep(*rank)).min().unwrap_or(u32::MAX);
            let Some((chosen, retriever, helps)) =
                self.choose(&pool, &tried, targets, results, best_before, must_recover, rng)
            else {
                break;
            };
            let think = match tried.last() {
                Some((last, _, _)) if reflects(rng) => {
                    reflection(turn - 1, last, question, fitting.is_some())
                }
                _ => thought(&chosen, &retriever, &sight, fitting, rng),
            };
            let rank = results.rank(&chosen.query, &retriever, targets);
            let top: Vec<&String> =
                results.ranking(&chosen.query, &retriever).iter().take(SNIPPETS).collect();
            fitting = top.iter().position(|id| targets.contains(id));
            shown = top
                .iter()
                .filter_map(|id| self.places.get(id.as_str()))
                .map(|place| {
                    let document = &self.source.documents[*place];
                    snippet(&document.title, &document.text, TEXT_CHARS)
                })
                .collect();
            must_recover = !helps;
            segments.push(Piece::Think(think));
            let issued = SearchQuery { query: chosen.query.clone(), retriever: Some(retriever.clone()) };
            segments.push(Piece::SearchQuery(issued));
            notes.push(TurnNote {
                rule: chosen.rule.name().into(),
                rank,
                shown: fitting.is_some(),
                parent: None,
            });
            tried.push((chosen.query, retriever, rank));
            let reflects_last = turn == turns && rng.random_bool(self.settings.last_reflection);
            if turn < turns || reflects_last {
                segments.push(Piece::TopKResponse(shown.clone()));
            }
            if reflects_last && let Some((last, _, _)) = tried.last() {
                segments.push(Piece::Think(reflection(turn, last, question, fitting.is_some())));
            }
        }
        Ok(Some(Record {
            id: format!("{}-{}-{copy}", self.source.set.name(), query.id),
            set: self.source.set.name().into(),
            query_id: query.id.clone(),
            part,
            archetype: None,
            segments,
            turns: notes,
        }))
    }

    /// A move with its retriever, and whether it ranks the target at least as well as anything before it.
    #[expect(clippy::too_many_arguments, reason = "all of it decides, and nothing else uses it")]
    fn choose(
        &self,
        pool: &[Move],
        tried: &[(String, String, Option<u32>)],
        targets: &[String],
        results: &Results,
        best_before: u32,
        must_recover: bool,
        rng: &mut ChaCha8Rng,
    ) -> Option<(Move, String, bool)> {
        let mut options: Vec<(u32, &Move, &str)> = Vec::new();
        for candidate in pool {
            for &retriever in results.retrievers {
                let repeats = tried.iter().any(|(q, r, _)| *q == candidate.query && r == retriever);
                if repeats || candidate.not_retriever.as_deref() == Some(retriever) {
                    continue;
                }
                let rank = or_deep(results.rank(&candidate.query, retriever, targets));
                options.push((rank, candidate, retriever));
            }
        }
        options.shuffle(rng);
        let best = options.iter().map(|(rank, _, _)| *rank).min()?;
        // Ranks this close are one and the same to a reader of the top five: variety instead of hair-splitting.
        let good: Vec<&(u32, &Move, &str)> = options
            .iter()
            .filter(|(rank, candidate, _)| {
                let near = *rank == best || (*rank <= 3 && best <= 3);
                near && (candidate.rule != Rule::Verbatim || *rank < best.saturating_add(1))
            })
            .collect();
        let bad: Vec<&(u32, &Move, &str)> =
            options.iter().filter(|(rank, _, _)| *rank > best && *rank > best_before.min(10)).collect();
        let take_best = must_recover || bad.is_empty() || rng.random_bool(self.settings.best);
        let (rank, chosen, retriever) = if take_best { good.choose(rng)? } else { bad.choose(rng)? };
        let helps = *rank <= best_before && *rank != u32::MAX;
        Some(((*chosen).clone(), (*retriever).to_owned(), helps))
    }
}

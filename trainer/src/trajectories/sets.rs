//! Which texts and queries a policy may learn from.
//!
//! Two lists. [`PermittedSet::SHIPPABLE`]: sets whose licence permits shipping weights made from them.
//! [`PermittedSet::TRAINABLE`]: these and sets for weights that stay where they were made. Of neither ever a test query.
//! What is not listed here cannot be reached: nfcorpus, msmarco, hotpotqa and all other sets are refused by name.

use crate::data::Part;
use crate::error::{Result, TrainError};
use orion_eval::dataset::{CorpusDocument, Dataset, Query};
use orion_eval::split::without_leaks;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A permitted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum PermittedSet {
    /// The corpus bundled with this project.
    Bundled,
    /// SciFact: claims CC BY 4.0, abstracts ODC-By 1.0.
    #[value(name = "scifact")]
    SciFact,
    /// Fool Me Twice: claims and Wikipedia sentences; its dev split, since it has no other.
    #[value(name = "fm2")]
    FoolMeTwice,
    /// WikiQA, under a research licence: weights made from it stay here.
    #[value(name = "wikiqa")]
    WikiQa,
    /// CheckThat! 2020, task 2: tweets, whose texts may not be passed on: weights made from it stay here.
    #[value(name = "checkthat2020")]
    CheckThat2020,
    /// TREC QA: news text of restricted licence: weights made from it stay here.
    #[value(name = "trecqa")]
    TrecQa,
}

impl PermittedSet {
    /// Those that weights which ship may be made from, in the order in which they are read.
    pub const SHIPPABLE: [Self; 3] = [Self::Bundled, Self::SciFact, Self::FoolMeTwice];

    /// All that may be trained on, the shippable ones first.
    pub const TRAINABLE: [Self; 6] =
        [Self::Bundled, Self::SciFact, Self::FoolMeTwice, Self::WikiQa, Self::CheckThat2020, Self::TrecQa];

    /// The name in records and below the data folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::SciFact => "scifact",
            Self::FoolMeTwice => "fm2",
            Self::WikiQa => "wikiqa",
            Self::CheckThat2020 => "checkthat2020",
            Self::TrecQa => "trecqa",
        }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::TRAINABLE.into_iter().find(|set| set.name() == name)
    }

    /// Whether weights made from it may be passed on.
    pub fn is_shippable(self) -> bool {
        Self::SHIPPABLE.contains(&self)
    }

    /// The folder, given the bundled corpus and the folder of data sets.
    pub fn folder(self, bundled: &Path, data: &Path) -> PathBuf {
        match self {
            Self::Bundled => bundled.to_owned(),
            _ => data.join(self.name()),
        }
    }
}

/// One set, read.
pub struct Source {
    /// Which.
    pub set: PermittedSet,
    /// All documents.
    pub documents: Vec<CorpusDocument>,
    /// Permitted queries with what they are for, ordered by id.
    pub queries: Vec<(Query, Part)>,
    /// Relevant documents by query id.
    pub targets: BTreeMap<String, Vec<String>>,
}

fn eval_error(error: orion_eval::EvalError) -> TrainError {
    TrainError::Index(error.to_string())
}

/// Whether a query belongs to the hashed tenth that is held out where a set has a dev split only.
fn is_hashed_tenth(id: &str) -> bool {
    let digest = Sha256::digest(id.as_bytes());
    u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], 0, 0, 0, 0]).is_multiple_of(10)
}

impl Source {
    /// Reads a set and its permitted queries. The test split is read for one purpose: to drop queries that share
    /// their text with one of its.
    pub fn read(set: PermittedSet, folder: &Path) -> Result<Self> {
        let dataset = Dataset::open(folder).map_err(eval_error)?;
        let documents = dataset
            .corpus()
            .map_err(eval_error)?
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(eval_error)?;
        let test = dataset.split_queries("test").map_err(eval_error)?;
        let split = |name: &str| -> Result<Vec<Query>> {
            Ok(without_leaks(dataset.split_queries(name).map_err(eval_error)?, &test))
        };
        let mut judgements = dataset.judgements("dev").map_err(eval_error)?;
        let (train, held_out) = match set {
            PermittedSet::FoolMeTwice => {
                split("dev")?.into_iter().partition(|query| !is_hashed_tenth(&query.id))
            }
            _ => {
                judgements.extend(dataset.judgements("train").map_err(eval_error)?);
                (dataset.training_queries().map_err(eval_error)?, split("dev")?)
            }
        };
        // A held-out text must not be learned from under another id.
        let train = without_leaks(train, &held_out);
        let mut queries: Vec<(Query, Part)> = train.into_iter().map(|query| (query, Part::Train)).collect();
        queries.extend(held_out.into_iter().map(|query| (query, Part::HeldOut)));
        queries.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        let targets = queries
            .iter()
            .map(|(query, _)| {
                let grades = judgements.get(&query.id);
                let best = grades.and_then(|grades| grades.values().max().copied()).unwrap_or(0).max(1);
                let targets = grades.map_or_else(Vec::new, |grades| {
                    grades.iter().filter(|(_, grade)| **grade == best).map(|(id, _)| id.clone()).collect()
                });
                (query.id.clone(), targets)
            })
            .collect();
        Ok(Self { set, documents, queries, targets })
    }

    /// A smaller source: at most so many training and held-out queries, chosen by the hash of their ids, all of their
    /// judged documents, and others up to `documents` in all, chosen likewise. Walks over it cost less encoding.
    pub fn sample(mut self, documents: usize, train: usize, held_out: usize) -> Self {
        let hash =
            |id: &str| -> [u8; 8] { Sha256::digest(id.as_bytes())[..8].try_into().unwrap_or_default() };
        self.queries.sort_by_key(|(query, _)| hash(&query.id));
        let (mut trained, mut held) = (0, 0);
        self.queries.retain(|(_, part)| {
            let (count, limit) =
                if *part == Part::Train { (&mut trained, train) } else { (&mut held, held_out) };
            *count += 1;
            *count <= limit
        });
        self.queries.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        let judged: BTreeSet<&String> =
            self.queries.iter().filter_map(|(query, _)| self.targets.get(&query.id)).flatten().collect();
        let mut rest: Vec<([u8; 8], &str)> = self
            .documents
            .iter()
            .filter(|document| !judged.contains(&document.id))
            .map(|document| (hash(&document.id), document.id.as_str()))
            .collect();
        rest.sort_unstable();
        rest.truncate(documents.saturating_sub(judged.len()));
        let kept: BTreeSet<String> =
            rest.into_iter().map(|(_, id)| id.to_owned()).chain(judged.into_iter().cloned()).collect();
        self.documents.retain(|document| kept.contains(&document.id));
        self
    }

    /// Title and text of every document, for vocabulary and word statistics.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.documents.iter().map(|document| format!("{} {}", document.title, document.text))
    }
}

//! The pool on disk: a header line, then one trace a line, appended as they are made.
//!
//! The header pins what the traces were made over, so that nothing made over other data is mixed in; which rewriters
//! contributed stands in the traces, since they come one after another.

use crate::data::Part;
use crate::error::{Result, TrainError};
use crate::journal::{Journal, read_lines};
use crate::trajectories::collection::{Collection, RetrieverChoice, SampleSize};
use orion_policy::Retriever;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The format that is read and written.
pub const POOL_VERSION: u32 = 1;

/// Best documents of a turn that are kept: what a reader of the pool may want to see, twice over.
pub const KEPT_HITS: usize = 10;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHeader {
    /// [`POOL_VERSION`] of the writer.
    pub orion_pool: u32,
    /// Which retriever answered.
    pub retriever: RetrieverChoice,
    /// Turns of a trace.
    pub turns: u32,
    /// Depth to which judged documents were looked for.
    pub depth: u32,
    /// Seed of all traces.
    pub seed: u64,
    /// How much of each set was used.
    pub sample: SampleSize,
    /// What the traces were made over, in this order.
    pub sets: Vec<SetStamp>,
}

/// One set as the traces saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetStamp {
    /// Name.
    pub name: String,
    /// Whether weights made from it may be passed on.
    pub may_ship: bool,
    /// Documents.
    pub documents: usize,
    /// Queries.
    pub queries: usize,
    /// Hash of documents, queries and targets.
    pub sha256: String,
}

impl SetStamp {
    /// What is to be known of a collection.
    pub fn of(collection: &Collection) -> Self {
        let source = &collection.source;
        Self {
            name: source.set.name().to_owned(),
            may_ship: source.set.is_shippable(),
            documents: source.documents.len(),
            queries: source.queries.len(),
            sha256: collection.sha256(),
        }
    }
}

/// One search by one rewriter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolTrace {
    /// Set of the query.
    pub set: String,
    /// Its id there.
    pub query_id: String,
    /// What records made of it are for.
    pub part: Part,
    /// What the user asked.
    pub question: String,
    /// Who rewrote: `rules`, `policy NAME`, `endpoint NAME`.
    pub source: String,
    /// Which of several traces of this source for this query, from 0.
    pub draw: u32,
    /// The turns in order; fewer than asked where the rewriter had nothing more to say.
    pub turns: Vec<PoolTurn>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolTurn {
    /// Why.
    pub think: String,
    /// The search query.
    pub query: String,
    /// Where it was looked up.
    pub retriever: Retriever,
    /// Ids of the best documents, at most [`KEPT_HITS`].
    pub hits: Vec<String>,
    /// Cosine of the best hit to the nearest judged document; absent without an encoder or a hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
    /// 1-based rank of the best judged document; absent beyond the depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
}

/// What names a trace: set, query, source, draw.
pub type TraceKey = (String, String, String, u32);

impl PoolTrace {
    /// Its name.
    pub fn key(&self) -> TraceKey {
        (self.set.clone(), self.query_id.clone(), self.source.clone(), self.draw)
    }
}

/// A pool, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The header.
    pub header: PoolHeader,
    /// The traces in file order.
    pub traces: Vec<PoolTrace>,
}

impl Pool {
    /// Reads a pool; a torn last line is left out.
    ///
    /// # Errors
    /// No header, another version, a line that is no trace (it is named), the same trace twice.
    pub fn read(path: &Path) -> Result<Self> {
        parse(path, &read_lines(path)?)?
            .ok_or_else(|| TrainError::content(path, "a pool's header on line 1", "an empty file"))
    }
}

fn parse(path: &Path, lines: &[String]) -> Result<Option<Pool>> {
    let Some((first, rest)) = lines.split_first() else { return Ok(None) };
    let header: PoolHeader = serde_json::from_str(first)
        .map_err(|error| TrainError::content(path, "a pool's header on line 1", error))?;
    if header.orion_pool != POOL_VERSION {
        return Err(TrainError::content(path, format!("pool version {POOL_VERSION}"), header.orion_pool));
    }
    let mut traces = Vec::with_capacity(rest.len());
    let mut seen = BTreeSet::new();
    for (place, line) in rest.iter().enumerate() {
        let number = place + 2;
        let trace: PoolTrace = serde_json::from_str(line)
            .map_err(|error| TrainError::content(path, format!("a trace on line {number}"), error))?;
        if !seen.insert(trace.key()) {
            return Err(TrainError::content(
                path,
                format!("a new trace on line {number}"),
                format!("`{}` of {} by {} again", trace.query_id, trace.set, trace.source),
            ));
        }
        traces.push(trace);
    }
    Ok(Some(Pool { header, traces }))
}

/// A pool that grows.
#[derive(Debug)]
pub struct PoolWriter {
    journal: Journal,
    known: BTreeSet<TraceKey>,
}

impl PoolWriter {
    /// Opens a pool to go on with it, or begins one.
    ///
    /// # Errors
    /// Those of [`Pool::read`], another writer, and a pool that was made under another header.
    pub fn open(path: &Path, header: &PoolHeader) -> Result<Self> {
        let (mut journal, lines) = Journal::open(path)?;
        let known = match parse(path, &lines)? {
            Some(pool) if pool.header != *header => {
                let (expected, got) = (difference(&pool.header, header), difference(header, &pool.header));
                return Err(TrainError::content(path, format!("a pool made with {got}"), expected));
            }
            Some(pool) => pool.traces.iter().map(PoolTrace::key).collect(),
            None => {
                journal.append(header)?;
                BTreeSet::new()
            }
        };
        Ok(Self { journal, known })
    }

    /// Whether the trace of this name is there.
    pub fn has(&self, key: &TraceKey) -> bool {
        self.known.contains(key)
    }

    /// Adds a trace.
    pub fn append(&mut self, trace: &PoolTrace) -> Result<()> {
        self.journal.append(trace)?;
        self.known.insert(trace.key());
        Ok(())
    }
}

/// The first thing in which `header` differs from `other`, in words.
fn difference(header: &PoolHeader, other: &PoolHeader) -> String {
    if header.retriever != other.retriever {
        format!("retriever {}", header.retriever.name())
    } else if header.turns != other.turns {
        format!("{} turns", header.turns)
    } else if header.depth != other.depth {
        format!("depth {}", header.depth)
    } else if header.seed != other.seed {
        format!("seed {}", header.seed)
    } else {
        let sets = header
            .sets
            .iter()
            .map(|set| format!("{} ({} documents, {} queries)", set.name, set.documents, set.queries));
        format!("sets {}", sets.collect::<Vec<_>>().join(", "))
    }
}

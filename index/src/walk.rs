//! What `diskann` asks of its user: where rows, neighbours and distances come from. Beside `graph.rs`, which keeps the
//! file, so that the library is named in one place.
//!
//! Its functions are asynchronous because storage may be far away. Here nothing waits: everything is in memory or
//! mapped, so each future is ready when it is first polled, and no executor is needed.

use crate::codes::{Coded, Codes};
use crate::error::{IndexError, Result};
use crate::graph::Links;
use diskann::graph::config::{Builder, MaxDegree, PruneKind};
use diskann::graph::search::Knn;
use diskann::graph::{AdjacencyList, DiskANNIndex, IdDistance, SearchOutputBuffer, glue, workingset};
use diskann::provider::{
    DataProvider, DefaultContext, HasId, NeighborAccessor, NeighborAccessorMut, NoopGuard, SetElement,
};
use diskann::{ANNResult, error::Infallible};
use diskann_utils::Reborrow;
use diskann_vector::DistanceFunction;
use std::future::{Future, ready};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Neighbours of a row once they are chosen. 32 to 64 are usual; 32 keeps the file at a third of the codes' size.
const NEIGHBOURS: usize = 32;
/// Neighbours that a row may gather before they are chosen anew: 1.3 as often, the library's default.
pub(crate) const MOST_NEIGHBOURS: usize = 41;
/// Rows that a walk keeps while the graph is built. More make a better graph and a slower build.
const BUILD_LIST: usize = 64;

/// The rows of one segment and their graph, as `diskann` sees them.
pub(crate) struct Place {
    pub(crate) codes: Arc<Codes>,
    pub(crate) starts: Vec<u32>,
    pub(crate) links: Links,
}

/// A graph with the library around it.
pub(crate) struct Walk(DiskANNIndex<Place>);

impl Walk {
    pub(crate) fn new(place: Place) -> Result<Self> {
        let degree = MaxDegree::new(MOST_NEIGHBOURS);
        let config = Builder::new(NEIGHBOURS, degree, BUILD_LIST, PruneKind::TriangleInequality).build();
        let config = config.map_err(|error| IndexError::Invalid {
            what: "shape of the graph",
            expected: "one that the library takes".to_owned(),
            got: error.to_string(),
        })?;
        // As many kept scratch spaces as there can be searches at work.
        Ok(Self(DiskANNIndex::new(
            config,
            place,
            NonZeroUsize::new(orion_kernels::Threads::global().count()),
        )))
    }

    pub(crate) fn place(&self) -> &Place {
        self.0.provider()
    }

    /// Puts a row into a growing graph; an error says what the library said.
    pub(crate) fn insert(&mut self, row: u32) -> std::result::Result<(), String> {
        match finished(self.0.insert(&Way, &DefaultContext, &row, row)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the library waits for something".to_owned()),
        }
    }

    /// The best rows for a query, at most `list`, nearest first.
    pub(crate) fn search(&self, query: &Coded, list: usize) -> Option<Vec<u32>> {
        let (mut rows, mut distances) = (vec![0; list], vec![0.0; list]);
        let mut found = IdDistance::new(&mut rows, &mut distances);
        let knn = Knn::new_default(list).ok()?;
        finished(self.0.search_with(knn, &Way, glue::CopyIds, &DefaultContext, query, &mut found))?.ok()?;
        let count = found.current_len();
        rows.truncate(count);
        Some(rows)
    }
}

/// The value of a future that waits for nothing.
fn finished<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl DataProvider for Place {
    type Context = DefaultContext;
    type InternalId = u32;
    type ExternalId = u32;
    type Error = Infallible;
    type Guard = NoopGuard<u32>;

    fn to_internal_id(&self, _: &DefaultContext, row: &u32) -> std::result::Result<u32, Infallible> {
        Ok(*row)
    }

    fn to_external_id(&self, _: &DefaultContext, row: u32) -> std::result::Result<u32, Infallible> {
        Ok(row)
    }
}

/// A row goes in by its number: its codes are there already.
impl SetElement<u32> for Place {
    type SetError = Infallible;

    fn set_element(
        &self,
        _: &DefaultContext,
        row: &u32,
        _: u32,
    ) -> impl Future<Output = std::result::Result<NoopGuard<u32>, Infallible>> + Send {
        ready(Ok(NoopGuard::new(*row)))
    }
}

/// How rows are looked at in every operation.
#[derive(Debug, Clone, Copy)]
struct Way;

impl<'a> glue::SearchStrategy<'a, Place, &'a Coded> for Way {
    type SearchAccessorError = Infallible;
    type SearchAccessor = Towards<'a>;

    fn search_accessor(
        &'a self,
        place: &'a Place,
        _: &'a DefaultContext,
        query: &'a Coded,
    ) -> std::result::Result<Towards<'a>, Infallible> {
        Ok(Towards::new(place, query.clone()))
    }
}

impl<'a> glue::InsertStrategy<'a, Place, u32> for Way {
    type SearchAccessor = Towards<'a>;
    type SearchAccessorError = Infallible;
    type PruneStrategy = Self;

    fn insert_search_accessor(
        &'a self,
        place: &'a Place,
        _: &'a DefaultContext,
        row: u32,
    ) -> std::result::Result<Towards<'a>, Infallible> {
        Ok(Towards::new(place, place.codes.coded(row as usize)))
    }

    fn prune_strategy(&self) -> Self {
        *self
    }
}

impl glue::PruneStrategy<Place> for Way {
    type PruneAccessor<'a> = Choice<'a>;
    type PruneAccessorError = Infallible;

    fn prune_accessor<'a>(
        &'a self,
        place: &'a Place,
        _: &'a DefaultContext,
        _: usize,
    ) -> std::result::Result<Choice<'a>, Infallible> {
        Ok(Choice(place))
    }
}

/// A walk towards one query.
struct Towards<'a> {
    place: &'a Place,
    query: Coded,
    /// Space for the rows that are met at one step, and for their sums.
    met: Vec<u32>,
    sums: Vec<i32>,
}

impl<'a> Towards<'a> {
    fn new(place: &'a Place, query: Coded) -> Self {
        Self { place, query, met: Vec::new(), sums: Vec::new() }
    }
}

impl HasId for Towards<'_> {
    type Id = u32;
}

impl glue::SearchAccessor for Towards<'_> {
    fn starting_points(&self) -> impl Future<Output = ANNResult<Vec<u32>>> + Send {
        ready(Ok(self.place.starts.clone()))
    }

    fn start_point_distances<F>(&mut self, mut found: F) -> impl Future<Output = ANNResult<()>> + Send
    where
        F: FnMut(u32, f32) + Send,
    {
        let Self { place, query, sums, .. } = self;
        place.codes.scores_of(query, &place.starts, sums, |row, score| found(row, 1.0 - score));
        ready(Ok(()))
    }

    fn expand_beam<Itr, P, F>(
        &mut self,
        rows: Itr,
        mut is_new: P,
        mut found: F,
    ) -> impl Future<Output = ANNResult<()>> + Send
    where
        Itr: Iterator<Item = u32> + Send,
        P: glue::HybridPredicate<u32> + Send + Sync,
        F: FnMut(u32, f32) + Send,
    {
        let Self { place, query, met, sums } = self;
        let count = place.codes.len();
        met.clear();
        for row in rows {
            place.links.with(row, |neighbours| {
                let real = neighbours.iter().filter(|&&neighbour| (neighbour as usize) < count);
                met.extend(real.filter(|neighbour| is_new.eval_mut(neighbour)));
            });
        }
        place.codes.scores_of(query, met, sums, |row, score| found(row, 1.0 - score));
        ready(Ok(()))
    }
}

/// The choice of a row's neighbours among candidates.
struct Choice<'a>(&'a Place);

impl HasId for Choice<'_> {
    type Id = u32;
}

impl glue::PruneAccessor for Choice<'_> {
    type Neighbors<'a>
        = Edges<'a>
    where
        Self: 'a;
    type ElementRef<'a> = u32;
    type View<'a>
        = Rows
    where
        Self: 'a;
    type Distance<'a>
        = Between<'a>
    where
        Self: 'a;

    fn neighbors(&mut self) -> Edges<'_> {
        Edges(self.0)
    }

    async fn fill<Itr>(&mut self, _: Itr) -> ANNResult<(Rows, Between<'_>)>
    where
        Itr: ExactSizeIterator<Item = u32> + Clone + Send + Sync,
    {
        Ok((Rows, Between(&self.0.codes)))
    }
}

/// All rows are at hand.
struct Rows;

impl workingset::View<u32> for Rows {
    type ElementRef<'a> = u32;
    type Element<'a> = Row;

    fn get(&self, row: u32) -> Option<Row> {
        Some(Row(row))
    }
}

struct Row(u32);

impl<'a> Reborrow<'a> for Row {
    type Target = u32;

    fn reborrow(&'a self) -> u32 {
        self.0
    }
}

struct Between<'a>(&'a Codes);

impl DistanceFunction<u32, u32, f32> for Between<'_> {
    /// Not negative, because distances are divided by each other; rounding can bring equal vectors below zero.
    fn evaluate_similarity(&self, left: u32, right: u32) -> f32 {
        (1.0 - self.0.score_between(left as usize, right as usize)).max(0.0)
    }
}

struct Edges<'a>(&'a Place);

impl HasId for Edges<'_> {
    type Id = u32;
}

impl NeighborAccessor for Edges<'_> {
    fn get_neighbors(
        &mut self,
        row: u32,
        neighbours: &mut AdjacencyList<u32>,
    ) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.links.with(row, |own| neighbours.overwrite_trusted(own));
        ready(Ok(()))
    }
}

impl NeighborAccessorMut for Edges<'_> {
    fn set_neighbors(&mut self, row: u32, neighbours: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.links.put(row, neighbours, false);
        ready(Ok(()))
    }

    fn append_vector(&mut self, row: u32, neighbours: &[u32]) -> impl Future<Output = ANNResult<()>> + Send {
        self.0.links.put(row, neighbours, true);
        ready(Ok(()))
    }
}

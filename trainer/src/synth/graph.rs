//! The reformulations of one user query as a graph, and the graph as a policy: what it proposes after a query is what
//! followed that query in some trace of the pool.
//!
//! Archetypes ask it for offers like any policy (`plugins/archetypes/src/walk.rs`) and cannot tell it apart. It has no
//! likelihoods, so it answers `unavailable` to a question for perplexity; under a judge nobody asks.

use crate::pool::PoolTrace;
use crate::trajectories::words::words;
use orion_host::contract::{Candidate, JudgedText, Node, Retriever, Sampling, Segment};
use orion_host::{BoxFuture, Generate, GenerateSession, Metered, ServiceError, Usage};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::{Arc, Mutex, PoisonError};

/// The form under which two queries are one: their words.
pub(crate) fn normal(text: &str) -> String {
    words(text).join(" ")
}

/// One query of the pool, with the retriever it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vertex {
    key: String,
    query: String,
    retriever: Retriever,
}

/// A step from one query to another, with the reason of whoever took it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    to: usize,
    think: String,
}

/// All queries that the pool's traces of one user query asked, and which followed which.
///
/// Invariants
/// - No two vertices have the same words and retriever; no two edges lead from one place to the same vertex.
/// - Order is that of the traces, so the same pool makes the same graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryGraph {
    vertices: Vec<Vertex>,
    /// From the user's own query.
    openings: Vec<Edge>,
    /// From each vertex.
    replies: Vec<Vec<Edge>>,
    /// The first reason given for each vertex.
    reasons: Vec<String>,
}

impl QueryGraph {
    /// The graph of some traces, all of one user query.
    pub fn of<'a>(traces: impl IntoIterator<Item = &'a PoolTrace>) -> Self {
        let mut graph = Self::default();
        for trace in traces {
            let mut before = None;
            for turn in &trace.turns {
                let retriever = to_contract(turn.retriever);
                let vertex = graph.vertex(&turn.query, retriever, &turn.think);
                let edges = match before {
                    None => &mut graph.openings,
                    Some(from) => &mut graph.replies[from],
                };
                if before != Some(vertex) && !edges.iter().any(|edge| edge.to == vertex) {
                    edges.push(Edge { to: vertex, think: turn.think.clone() });
                }
                before = Some(vertex);
            }
        }
        graph
    }

    fn vertex(&mut self, query: &str, retriever: Retriever, think: &str) -> usize {
        let key = normal(query);
        let known = self.vertices.iter().position(|each| each.key == key && each.retriever == retriever);
        known.unwrap_or_else(|| {
            self.vertices.push(Vertex { key, query: query.to_owned(), retriever });
            self.replies.push(Vec::new());
            self.reasons.push(think.to_owned());
            self.vertices.len() - 1
        })
    }

    /// Different queries.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Whether there is nothing to propose.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    /// Whether some trace asked these words.
    pub fn holds(&self, query: &str) -> bool {
        let key = normal(query);
        self.vertices.iter().any(|vertex| vertex.key == key)
    }

    /// What to propose at a place that was reached by `path` (vertices; `None` for a query of the archetype's own), best
    /// first: what followed the last query, then every other query; each group shuffled by `seed`, without what the path
    /// has asked.
    fn order(&self, path: &[Option<usize>], seed: u64) -> Vec<Edge> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let asked = |vertex: usize| {
            let key = &self.vertices[vertex].key;
            path.iter().flatten().any(|&other| self.vertices[other].key == *key)
        };
        let following = match path.last() {
            None => &self.openings[..],
            Some(Some(last)) => &self.replies[*last][..],
            Some(None) => &[],
        };
        let mut first: Vec<Edge> = following.iter().filter(|edge| !asked(edge.to)).cloned().collect();
        first.shuffle(&mut rng);
        let mut others: Vec<Edge> = (0..self.vertices.len())
            .filter(|&vertex| !asked(vertex) && !first.iter().any(|edge| edge.to == vertex))
            .map(|vertex| Edge { to: vertex, think: self.reasons[vertex].clone() })
            .collect();
        others.shuffle(&mut rng);
        first.extend(others);
        first
    }
}

fn to_contract(retriever: orion_policy::Retriever) -> Retriever {
    match retriever {
        orion_policy::Retriever::Lexical => Retriever::Lexical,
        orion_policy::Retriever::Dense => Retriever::Dense,
        orion_policy::Retriever::Hybrid => Retriever::Hybrid,
    }
}

/// The graph in the place of a policy.
pub struct GraphPolicy {
    graph: Arc<QueryGraph>,
    /// Whether proposals name the retriever of the pool's turn.
    is_choice: bool,
}

impl GraphPolicy {
    /// A policy that proposes a graph's queries.
    pub fn new(graph: Arc<QueryGraph>, is_choice: bool) -> Self {
        Self { graph, is_choice }
    }
}

impl Generate for GraphPolicy {
    fn session(&self) -> Box<dyn GenerateSession> {
        let (graph, is_choice) = (self.graph.clone(), self.is_choice);
        Box::new(GraphSession { graph, is_choice, places: Mutex::default() })
    }
}

/// A node: how it was reached, and what it still has to propose.
#[derive(Clone, Default)]
struct Place {
    path: Vec<Option<usize>>,
    /// Set when it is first asked.
    order: Option<Vec<Edge>>,
    given: usize,
}

struct GraphSession {
    graph: Arc<QueryGraph>,
    is_choice: bool,
    places: Mutex<Vec<Place>>,
}

fn ready<'a, T: Send + 'a>(answer: Result<T, ServiceError>) -> BoxFuture<'a, Result<T, ServiceError>> {
    Box::pin(std::future::ready(answer))
}

fn find(places: &[Place], node: Node) -> Result<usize, ServiceError> {
    let place = usize::try_from(node).ok().filter(|place| *place < places.len());
    place.ok_or_else(|| {
        ServiceError::InvalidInput(format!("node: expected one of {}, got {node}", places.len()))
    })
}

impl GraphSession {
    fn locked<T>(&self, work: impl FnOnce(&mut Vec<Place>) -> T) -> T {
        work(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The vertex of an issued query: with its retriever where there is one, else of the same words.
    fn vertex_of(&self, query: &str, retriever: Option<Retriever>) -> Option<usize> {
        let key = normal(query);
        let of_words = |exact: bool| {
            self.graph.vertices.iter().position(|vertex| {
                vertex.key == key && (!exact || retriever.is_none_or(|only| only == vertex.retriever))
            })
        };
        of_words(true).or_else(|| of_words(false))
    }

    fn candidate(&self, places: &mut Vec<Place>, place: usize, seed: u64) -> Candidate {
        let path = places[place].path.clone();
        let graph = &self.graph;
        let order = places[place].order.get_or_insert_with(|| graph.order(&path, seed)).clone();
        let given = places[place].given;
        places[place].given += 1;
        // Where all was proposed, begin again: a policy may repeat itself, a walk takes nothing twice.
        let edge = order.get(given % order.len().max(1));
        let (think, query, retriever, to) = match edge {
            Some(edge) => {
                let vertex = &graph.vertices[edge.to];
                (edge.think.clone(), vertex.query.clone(), Some(vertex.retriever), Some(edge.to))
            }
            // The path has asked all there is: propose its last query, which no walk takes again.
            None => {
                let last = path.iter().flatten().last().map(|&vertex| &graph.vertices[vertex]);
                let query = last.map_or_else(String::new, |vertex| vertex.query.clone());
                (String::new(), query, last.map(|vertex| vertex.retriever), None)
            }
        };
        let tokens = (words(&think).len() + words(&query).len()) as u32;
        let mut reached = Place { path, ..Place::default() };
        reached.path.push(to);
        places.push(reached);
        Candidate {
            node: places.len() as Node - 1,
            think,
            query,
            retriever: retriever.filter(|_| self.is_choice),
            log_probability: 0.0,
            tokens,
            options: Vec::new(),
        }
    }
}

impl GenerateSession for GraphSession {
    fn extend(
        &self,
        steps: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>> {
        ready(self.locked(|places| {
            let mut value = Vec::with_capacity(steps.len());
            for (parent, segments) in &steps {
                let mut place = match parent {
                    Some(parent) => {
                        Place { path: places[find(places, *parent)?].path.clone(), ..Place::default() }
                    }
                    None => Place::default(),
                };
                for segment in segments {
                    if let Segment::SearchQuery(issued) = segment {
                        place.path.push(self.vertex_of(&issued.query, issued.retriever));
                    }
                }
                places.push(place);
                value.push(places.len() as Node - 1);
            }
            Ok(Metered { value, usage: Usage::default() })
        }))
    }

    fn propose(
        &self,
        nodes: Vec<Node>,
        sampling: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>> {
        ready(self.locked(|places| {
            let mut value = Vec::with_capacity(nodes.len());
            for (number, node) in nodes.into_iter().enumerate() {
                let place = find(places, node)?;
                let seed = sampling.seed.wrapping_add(number as u64);
                let drawn = (0..sampling.candidates).map(|_| self.candidate(places, place, seed));
                value.push(drawn.collect::<Vec<_>>());
            }
            let decoded_tokens = value.iter().flatten().map(|each| u64::from(each.tokens)).sum();
            Ok(Metered { value, usage: Usage { prefilled_tokens: 0, decoded_tokens } })
        }))
    }

    fn perplexity(
        &self,
        _: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>> {
        ready(Err(ServiceError::Unavailable("a graph of reformulations has no likelihoods".to_owned())))
    }
}

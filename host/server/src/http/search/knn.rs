//! The `knn` query: from its JSON to the documents whose vectors are nearest.

use orion_host::index::Hit;
use serde_json::Value;

use super::{
    compile::Scope,
    dsl::{self, Node, fields, number, one_field, scaled},
};
use crate::http::{error::ApiError, vectors};

/// Most neighbours: OpenSearch's own bound.
const MOST: f64 = 10_000.0;

/// `{"FIELD": {"vector": […], "k": 10, "filter": …}}`.
pub(super) fn parse(name: &str, body: &Value, depth: usize) -> Result<Node, ApiError> {
    let (field, value) = one_field(name, body)?;
    let object = fields(name, value, &["vector", "k", "filter", "boost"])?;
    let Some(vector) = object.get("vector") else {
        return Err(ApiError::parsing(format!("[{name}] requires query vector")));
    };
    let vector = vectors::numbers(vector).map_err(|got| {
        ApiError::parsing(format!("[{name}] [vector]: expected an array of numbers, got {got}"))
    })?;
    let Some(k) = number(name, object, "k")? else {
        return Err(ApiError::parsing(format!("[{name}] requires k")));
    };
    if !(1.0..=MOST).contains(&k) {
        return Err(ApiError::illegal(format!(
            "[{name}] requires k to be in the range (0, {MOST}], got {k}"
        )));
    }
    let filter = object.get("filter").map(|filter| dsl::node(filter, depth + 1)).transpose()?;
    let made = Node::Knn { field: field.to_owned(), vector, k: k as usize, filter: filter.map(Box::new) };
    scaled(name, object, made)
}

impl Scope<'_> {
    /// The nearest documents, among those that the filter matches, with OpenSearch's scores.
    pub(super) fn knn(
        &self,
        field: &str,
        vector: &[f32],
        k: usize,
        filter: Option<&Node>,
    ) -> Result<Vec<Hit>, ApiError> {
        let Some((_, mapping)) = self.mapping.vector().filter(|(name, _)| *name == field) else {
            return Err(ApiError::illegal(format!("Field '{field}' is not {} type.", vectors::KIND)));
        };
        if vector.len() != mapping.dimension {
            return Err(ApiError::illegal(format!(
                "Query vector has invalid dimension: {}. Dimension should be: {}",
                vector.len(),
                mapping.dimension
            )));
        }
        let among = filter.map(|node| self.clause(node)).transpose()?;
        let found = self.searcher.nearest(vector, k, among.as_ref())?;
        let hit = |hit: Hit| Hit { id: hit.id, score: vectors::score(mapping.space, hit.score) };
        Ok(found.into_iter().map(hit).collect())
    }
}

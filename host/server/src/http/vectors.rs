//! Fields of type `knn_vector`: what a mapping says of one, the vector in a document, and a likeness as a score.
//!
//! An index has one such field at most, and has it from its creation: its vectors are then those of the client, and no
//! encoder makes any. Names and scores are those of OpenSearch's k-NN plugin. Neighbours: `mapping.rs` keeps the field,
//! `search/knn.rs` asks for what is near.

use orion_host::index::{DenseSettings, IndexSettings, MOST_DIMENSIONS, Space};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{call::kind_of, error::ApiError};

/// The type's name.
pub const KIND: &str = "knn_vector";
/// The field of vectors in an index that the command line made, which is what lines of JSON call it.
pub const OWN_FIELD: &str = "vector";

/// What a mapping says of the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorMapping {
    /// Length of every vector.
    pub dimension: usize,
    /// How they are compared.
    pub space: Space,
    /// As it was given.
    pub given: Map<String, Value>,
}

/// OpenSearch's name of a space.
fn space_name(space: Space) -> &'static str {
    match space {
        Space::Cosine => "cosinesimil",
        Space::Euclidean => "l2",
        Space::InnerProduct => "innerproduct",
    }
}

fn space_of(field: &str, value: &Value) -> Result<Space, ApiError> {
    let all = [Space::Cosine, Space::Euclidean, Space::InnerProduct];
    all.into_iter().find(|space| value == space_name(*space)).ok_or_else(|| {
        ApiError::mapping(format!(
            "[space_type] of [{KIND}] field [{field}]: expected cosinesimil, l2 or innerproduct, got {value}"
        ))
    })
}

/// What is kept exactly needs no method; those that say how a graph is built are taken and change nothing.
fn method_space(field: &str, method: &Map<String, Value>) -> Result<Option<Space>, ApiError> {
    let mut space = None;
    for (key, value) in method {
        let expected = match key.as_str() {
            "name" if value == "hnsw" => continue,
            "engine" if ["lucene", "faiss", "nmslib"].iter().any(|known| value == known) => continue,
            "space_type" => {
                space = Some(space_of(field, value)?);
                continue;
            }
            "parameters" => {
                let known = ["ef_construction", "ef_search", "m"];
                let is_fine =
                    |(name, value): (&String, &Value)| known.contains(&name.as_str()) && value.is_u64();
                if value.as_object().is_some_and(|parameters| parameters.iter().all(is_fine)) {
                    continue;
                }
                "whole numbers in ef_construction, ef_search and m"
            }
            "name" => "hnsw",
            "engine" => "lucene, faiss or nmslib",
            _ => "name, engine, space_type or parameters",
        };
        return Err(ApiError::mapping(format!(
            "[method] of [{KIND}] field [{field}]: [{key}]: expected {expected}, got {value}"
        )));
    }
    Ok(space)
}

impl VectorMapping {
    /// Reads a definition.
    pub fn parse(field: &str, definition: &Map<String, Value>) -> Result<Self, ApiError> {
        let wrong = |key: &str, expected: &str, value: &Value| {
            ApiError::mapping(format!(
                "[{key}] of [{KIND}] field [{field}]: expected {expected}, got {value}"
            ))
        };
        let (mut dimension, mut space, mut of_method) = (None, None, None);
        for (key, value) in definition {
            match (key.as_str(), value) {
                ("type", _) => {}
                ("dimension", value) => {
                    let length = value.as_u64().and_then(|length| usize::try_from(length).ok());
                    let length = length.filter(|length| (1..=MOST_DIMENSIONS).contains(length));
                    let expected = || format!("1 to {MOST_DIMENSIONS}");
                    dimension = Some(length.ok_or_else(|| wrong(key, &expected(), value))?);
                }
                ("space_type", value) => space = Some(space_of(field, value)?),
                ("method", Value::Object(method)) => of_method = method_space(field, method)?,
                ("data_type", Value::String(kind)) if kind == "float" => {}
                ("data_type", value) => return Err(wrong(key, "float", value)),
                ("mode", Value::String(mode)) if mode == "in_memory" => {}
                (_, value) => {
                    return Err(ApiError::mapping(format!(
                        "unknown parameter [{key}] on mapper [{field}]: {value} is not supported here"
                    )));
                }
            }
        }
        if let (Some(space), Some(of_method)) = (space, of_method)
            && space != of_method
        {
            return Err(wrong("space_type", "the one in [method]", &json!(space_name(space))));
        }
        let dimension = dimension
            .ok_or_else(|| ApiError::mapping(format!("Dimension value missing for vector: {field}")))?;
        // OpenSearch's own default.
        let space = space.or(of_method).unwrap_or(Space::Euclidean);
        Ok(Self { dimension, space, given: definition.clone() })
    }

    /// Of an index that the command line made.
    pub fn of_index(dense: &DenseSettings) -> Self {
        let (dimension, space) = (dense.dimensions, dense.space);
        let given = json!({ "type": KIND, "dimension": dimension, "space_type": space_name(space) });
        Self { dimension, space, given: given.as_object().cloned().unwrap_or_default() }
    }

    /// The index that it asks for.
    pub fn settings(&self) -> IndexSettings {
        IndexSettings::client_vectors(self.dimension, self.space)
    }
}

/// Numbers of a JSON array; the index looks at how many there are and what they are worth.
pub fn numbers(value: &Value) -> Result<Vec<f32>, String> {
    let Value::Array(items) = value else { return Err(kind_of(value).to_owned()) };
    let one = |item: &Value| match item.as_f64() {
        Some(number) => Ok(number as f32),
        None => Err(format!("{} in it", kind_of(item))),
    };
    items.iter().map(one).collect()
}

/// The vector in a document.
pub fn of_document(field: &str, mapping: &VectorMapping, value: &Value) -> Result<Vec<f32>, ApiError> {
    let failed = |got: String| {
        let expected = format!("a list of {} numbers", mapping.dimension);
        ApiError::mapping(format!("failed to parse field [{field}] of type [{KIND}]"))
            .because("illegal_argument_exception", format!("expected {expected}, got {got}"))
    };
    let vector = numbers(value).map_err(failed)?;
    if vector.len() != mapping.dimension {
        return Err(failed(format!("{} of them", vector.len())));
    }
    Ok(vector)
}

/// The score of a likeness, above zero as scores have to be: half of one and the cosine; one by one and the squared
/// distance; one and the inner product, or where that is below zero one by one less it.
pub fn score(space: Space, likeness: f32) -> f32 {
    match space {
        // Rounding may leave a cosine a little outside of -1 to 1.
        Space::Cosine => ((1.0 + likeness) / 2.0).clamp(0.0, 1.0),
        Space::Euclidean => 1.0 / (1.0 - likeness),
        Space::InnerProduct if 0.0 < likeness => 1.0 + likeness,
        Space::InnerProduct => 1.0 / (1.0 - likeness),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(definition: &Value) -> Result<VectorMapping, String> {
        VectorMapping::parse("v", definition.as_object().unwrap()).map_err(|error| error.reason)
    }

    #[test]
    fn definitions_as_the_plugin_writes_them() {
        let space = |definition: Value| parsed(&definition).map(|mapping| (mapping.dimension, mapping.space));
        let check = |definition: Value, expected: Space| assert_eq!(space(definition), Ok((3, expected)));
        check(json!({ "type": KIND, "dimension": 3 }), Space::Euclidean);
        check(json!({ "type": KIND, "dimension": 3, "space_type": "cosinesimil" }), Space::Cosine);
        let method = json!({ "name": "hnsw", "engine": "lucene", "space_type": "innerproduct",
                             "parameters": { "ef_construction": 128, "m": 24 } });
        check(json!({ "type": KIND, "dimension": 3, "method": method }), Space::InnerProduct);
        check(
            json!({ "type": KIND, "dimension": 3, "data_type": "float", "mode": "in_memory", "method": { "name": "hnsw" } }),
            Space::Euclidean,
        );

        let refused = |more: Value, expected: &str| {
            let mut definition = json!({ "type": KIND, "dimension": 3 });
            for (key, value) in more.as_object().unwrap() {
                definition[key] = value.clone();
            }
            assert_eq!(parsed(&definition).unwrap_err(), expected);
        };
        assert_eq!(parsed(&json!({ "type": KIND })).unwrap_err(), "Dimension value missing for vector: v");
        refused(
            json!({ "dimension": 16_001 }),
            "[dimension] of [knn_vector] field [v]: expected 1 to 16000, got 16001",
        );
        refused(
            json!({ "dimension": 0 }),
            "[dimension] of [knn_vector] field [v]: expected 1 to 16000, got 0",
        );
        refused(
            json!({ "space_type": "hamming" }),
            "[space_type] of [knn_vector] field [v]: expected cosinesimil, l2 or innerproduct, got \"hamming\"",
        );
        refused(
            json!({ "method": { "name": "ivf" } }),
            "[method] of [knn_vector] field [v]: [name]: expected hnsw, got \"ivf\"",
        );
        refused(
            json!({ "method": { "parameters": { "encoder": { "name": "pq" } } } }),
            "[method] of [knn_vector] field [v]: [parameters]: expected whole numbers in ef_construction, ef_search \
             and m, got {\"encoder\":{\"name\":\"pq\"}}",
        );
        refused(
            json!({ "space_type": "l2", "method": { "space_type": "cosinesimil" } }),
            "[space_type] of [knn_vector] field [v]: expected the one in [method], got \"l2\"",
        );
        refused(
            json!({ "data_type": "byte" }),
            "[data_type] of [knn_vector] field [v]: expected float, got \"byte\"",
        );
        refused(
            json!({ "model_id": "m" }),
            "unknown parameter [model_id] on mapper [v]: \"m\" is not supported here",
        );
    }

    #[test]
    fn scores_are_those_of_the_plugin() {
        let check = |space: Space, likeness: f32, expected: f32| assert_eq!(score(space, likeness), expected);
        check(Space::Cosine, 1.0, 1.0);
        check(Space::Cosine, 0.0, 0.5);
        check(Space::Cosine, -1.000_001, 0.0);
        check(Space::Euclidean, 0.0, 1.0);
        check(Space::Euclidean, -3.0, 0.25);
        check(Space::InnerProduct, 2.0, 3.0);
        check(Space::InnerProduct, 0.0, 1.0);
        check(Space::InnerProduct, -3.0, 0.25);
    }
}

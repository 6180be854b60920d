//! From the query tree to clauses of the index, or, for adaptive searches, to a text and a filter expression.

use orion_host::index::{Clause, Filter, Fusion, Hit, Kind, Searched, Searcher, fuse};
use serde_json::Value;

use super::dsl::Node;
use crate::http::{
    error::ApiError,
    mapping::{Mapping, Target, filter_operand},
};

/// How deep the rankings of a hybrid query are taken.
const DEPTH: usize = 1_000;

/// What names in a query refer to.
pub struct Scope<'a> {
    /// The fields.
    pub mapping: &'a Mapping,
    /// The snapshot.
    pub searcher: &'a Searcher,
    /// Weights of hybrid queries that give none.
    pub weights: Option<Vec<f32>>,
}

impl Scope<'_> {
    /// The clause for a query.
    pub fn clause(&self, node: &Node) -> Result<Clause, ApiError> {
        let all = |nodes: &[Node]| nodes.iter().map(|node| self.clause(node)).collect::<Result<Vec<_>, _>>();
        Ok(match node {
            Node::All => Clause::All,
            Node::Nothing => Clause::Nothing,
            Node::Match { fields, text, minimum, tie, .. } => self.words(fields, text, *minimum, *tie)?,
            Node::Phrase { fields, text, slop } => self.phrase(fields, text, *slop)?,
            Node::Term { field, values } => self.term(field, values)?,
            Node::Range { .. } | Node::Exists(_) => match self.filter(node)? {
                Some(expression) => Clause::Filter(Filter::parse(&expression)?),
                None => self.exists_of_text(node)?,
            },
            Node::Ids(ids) => Clause::Ids(ids.clone()),
            Node::Bool { must, should, filter, must_not, minimum } => {
                let usual = if must.is_empty() && filter.is_empty() && !should.is_empty() { 1 } else { 0 };
                let count = should.len() as i64;
                let minimum = match minimum {
                    None => usual,
                    Some(number) if *number < 0 => (count + number).max(0),
                    Some(number) => *number,
                };
                Clause::Boolean {
                    must: all(must)?,
                    should: all(should)?,
                    filter: all(filter)?,
                    must_not: all(must_not)?,
                    minimum: minimum as usize,
                }
            }
            Node::Best { queries, tie } => Clause::Best { clauses: all(queries)?, tie: *tie },
            Node::Constant(inner) => Clause::Constant { clause: Box::new(self.clause(inner)?), score: 1.0 },
            Node::Scaled(inner, factor) => {
                Clause::Scaled { clause: Box::new(self.clause(inner)?), factor: *factor }
            }
            Node::Neural { text, field, k, filter } => {
                Clause::Ranking(self.neural(text, field, *k, filter.as_deref())?)
            }
            Node::Knn { field, vector, k, filter } => {
                Clause::Ranking(self.knn(field, vector, *k, filter.as_deref())?)
            }
            Node::Hybrid { queries, weights } => Clause::Ranking(self.hybrid(queries, weights.as_deref())?),
        })
    }

    /// What a field is; an error for one of vectors, which nothing but `knn` looks into.
    fn target(&self, name: &str) -> Result<Option<Target>, ApiError> {
        match self.mapping.vector() {
            Some((field, _)) if field == name => Err(ApiError::illegal(format!(
                "Vector fields do not support exact searching, use knn queries instead [{name}]"
            ))),
            _ => Ok(self.mapping.target(name)),
        }
    }

    fn words(
        &self,
        fields: &[(String, f32)],
        text: &str,
        minimum: usize,
        tie: f32,
    ) -> Result<Clause, ApiError> {
        let words = |searched| Clause::Words { searched, text: text.to_owned(), minimum };
        if fields.is_empty() || fields.iter().any(|(name, _)| name == "*") {
            return Ok(words(Searched::Whole));
        }
        let mut clauses = Vec::new();
        for (name, factor) in fields {
            let clause = match self.target(name)? {
                None => continue,
                Some(Target::Text(searched)) => words(searched),
                Some(Target::Column(..)) => self.term(name, &[Value::String(text.to_owned())])?,
            };
            clauses.push(if *factor == 1.0 {
                clause
            } else {
                Clause::Scaled { clause: Box::new(clause), factor: *factor }
            });
        }
        Ok(match clauses.len() {
            0 => Clause::Nothing,
            1 => clauses.swap_remove(0),
            _ => Clause::Best { clauses, tie },
        })
    }

    fn phrase(&self, fields: &[(String, f32)], text: &str, slop: u32) -> Result<Clause, ApiError> {
        let mut clauses = Vec::new();
        let every: Vec<(String, f32)>;
        let fields = if fields.is_empty() {
            every = self.mapping.text_fields().map(|name| (name.to_owned(), 1.0)).collect();
            &every
        } else {
            fields
        };
        for (name, factor) in fields {
            let clause = match self.target(name)? {
                None => continue,
                Some(Target::Text(Searched::Field(field))) => {
                    Clause::Phrase { field, text: text.to_owned(), slop }
                }
                Some(Target::Text(_)) => {
                    return Err(ApiError::illegal(format!(
                        "field:[{name}] was indexed without position data; cannot run PhraseQuery"
                    )));
                }
                Some(Target::Column(..)) => self.term(name, &[Value::String(text.to_owned())])?,
            };
            clauses.push(Clause::Scaled { clause: Box::new(clause), factor: *factor });
        }
        Ok(match clauses.len() {
            0 => Clause::Nothing,
            1 => clauses.swap_remove(0),
            _ => Clause::Best { clauses, tie: 0.0 },
        })
    }

    fn term(&self, field: &str, values: &[Value]) -> Result<Clause, ApiError> {
        if field == "_id" {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return Ok(Clause::Ids(values.iter().map(text).collect()));
        }
        match self.target(field)? {
            None => Ok(Clause::Nothing),
            Some(Target::Text(searched)) => {
                let word = |value: &Value| {
                    let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    Clause::Word { searched, word }
                };
                let mut clauses: Vec<Clause> = values.iter().map(word).collect();
                Ok(if clauses.len() == 1 {
                    clauses.swap_remove(0)
                } else {
                    Clause::Best { clauses, tie: 0.0 }
                })
            }
            Some(Target::Column(..)) => {
                let node = Node::Term { field: field.to_owned(), values: values.to_vec() };
                match self.filter(&node)? {
                    Some(expression) => Ok(Clause::Filter(Filter::parse(&expression)?)),
                    None => Ok(Clause::Nothing),
                }
            }
        }
    }

    fn exists_of_text(&self, node: &Node) -> Result<Clause, ApiError> {
        match node {
            Node::Exists(field) if matches!(self.mapping.target(field), Some(Target::Text(_))) => {
                Err(ApiError::illegal(format!(
                    "[exists] query on text field [{field}] needs a keyword behind it: map it with \"fields\""
                )))
            }
            _ => Ok(Clause::Nothing),
        }
    }

    /// The column of a field; of a text with a keyword behind it, that one where `through_text`.
    fn column(&self, field: &str, through_text: bool) -> Result<Option<(String, Kind)>, ApiError> {
        let target = match self.target(field)? {
            Some(Target::Text(_)) if through_text => {
                let sub = self.mapping.fields.get(field).and_then(|mapped| mapped.keyword.as_ref());
                sub.and_then(|sub| self.mapping.target(&format!("{field}.{sub}")))
            }
            other => other,
        };
        Ok(match target {
            // A column that no committed document has holds nothing yet.
            Some(Target::Column(name, kind)) if self.searcher.metadata().contains_key(&name) => {
                Some((name, kind))
            }
            _ => None,
        })
    }

    /// The filter expression for conditions on metadata; `None` where nothing can match.
    /// Errors: a condition that filters cannot express.
    pub fn filter(&self, node: &Node) -> Result<Option<String>, ApiError> {
        let joined = |parts: Vec<String>, word: &str| format!("({})", parts.join(word));
        match node {
            Node::Nothing => Ok(None),
            Node::Constant(inner) | Node::Scaled(inner, _) => self.filter(inner),
            Node::Match { fields, text, .. }
                if fields.len() == 1
                    && !matches!(self.mapping.target(&fields[0].0), Some(Target::Text(_))) =>
            {
                self.filter(&Node::Term {
                    field: fields[0].0.clone(),
                    values: vec![Value::String(text.clone())],
                })
            }
            Node::Term { field, values } => {
                if let Some(Target::Text(_)) = self.mapping.target(field) {
                    return Err(inexpressible("term on the text field", field));
                }
                let Some((name, kind)) = self.column(field, false)? else { return Ok(None) };
                let mut parts = Vec::new();
                for value in values {
                    let operand = filter_operand(kind, value).ok_or_else(|| unfitting(field, kind, value))?;
                    parts.push(format!("{name} = {operand}"));
                }
                Ok((!parts.is_empty()).then(|| joined(parts, " OR ")))
            }
            Node::Range { field, bounds } => {
                let Some((name, kind)) = self.column(field, false)? else {
                    return match self.mapping.target(field) {
                        Some(Target::Text(_)) => Err(inexpressible("range on the text field", field)),
                        _ => Ok(None),
                    };
                };
                if bounds.is_empty() {
                    return Ok(Some(format!("{name}:*")));
                }
                if !matches!(kind, Kind::Number | Kind::Date) {
                    return Err(ApiError::illegal(format!(
                        "[range] query on field [{field}] of type [{}]: expected a number or a date",
                        kind.name()
                    )));
                }
                // One value has to lie between all bounds.
                let mut parts = vec![name];
                for (operator, value) in bounds {
                    let operand = filter_operand(kind, value).ok_or_else(|| unfitting(field, kind, value))?;
                    parts.push(format!("{operator} {operand}"));
                }
                Ok(Some(joined(parts, " ")))
            }
            Node::Exists(object) if self.mapping.is_object(object) => {
                let inner = self.mapping.fields_in(object).map(|field| Node::Exists(field.to_owned()));
                let parts = inner.filter_map(|field| self.filter(&field).transpose());
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Ok((!parts.is_empty()).then(|| joined(parts, " OR ")))
            }
            Node::Exists(field) => {
                let column = self.column(field, true)?;
                if column.is_none()
                    && matches!(self.mapping.target(field), Some(Target::Text(_)))
                    && self.mapping.fields[field].keyword.is_none()
                {
                    self.exists_of_text(node)?;
                }
                Ok(column.map(|(name, _)| format!("{name}:*")))
            }
            Node::Bool { must, should, filter, must_not, minimum } => {
                let mut parts = Vec::new();
                for inner in must.iter().chain(filter) {
                    match self.filter(inner)? {
                        Some(expression) => parts.push(expression),
                        None => return Ok(None),
                    }
                }
                let needs_one = match minimum {
                    None => must.is_empty() && filter.is_empty(),
                    Some(0) => false,
                    Some(1) => true,
                    Some(_) => return Err(inexpressible("minimum_should_match in", "bool")),
                };
                if needs_one && !should.is_empty() {
                    let some: Vec<String> = should
                        .iter()
                        .filter_map(|inner| self.filter(inner).transpose())
                        .collect::<Result<_, _>>()?;
                    if some.is_empty() {
                        return Ok(None);
                    }
                    parts.push(joined(some, " OR "));
                }
                for inner in must_not {
                    if let Some(expression) = self.filter(inner)? {
                        parts.push(format!("NOT ({expression})"));
                    }
                }
                if parts.is_empty() {
                    return Err(inexpressible("an empty", "bool"));
                }
                Ok(Some(joined(parts, " AND ")))
            }
            Node::All => Err(inexpressible("query", "match_all")),
            _ => Err(inexpressible("a query on", "texts or ids")),
        }
    }

    fn dense_filter(&self, filter: Option<&Node>) -> Result<Option<Option<Filter>>, ApiError> {
        match filter {
            None | Some(Node::All) => Ok(Some(None)),
            Some(node) => match self.filter(node)? {
                None => Ok(None),
                Some(expression) => Ok(Some(Some(Filter::parse(&expression)?))),
            },
        }
    }

    fn neural(&self, text: &str, field: &str, k: usize, filter: Option<&Node>) -> Result<Vec<Hit>, ApiError> {
        if let Some((vector, _)) = self.mapping.vector() {
            return Err(ApiError::illegal(format!(
                "[neural] documents of this index bring their own vectors, in [{vector}]: no text can be compared with \
                 them; ask with [knn]"
            )));
        }
        if !matches!(self.mapping.target(field), Some(Target::Text(_))) {
            let known = self.mapping.text_fields().collect::<Vec<_>>().join(", ");
            return Err(ApiError::illegal(format!(
                "[neural] field [{field}] is not embedded: all text fields together are; name one of [{known}]"
            )));
        }
        let Some(filter) = self.dense_filter(filter)? else { return Ok(Vec::new()) };
        let found = self.searcher.dense(&[text], k, filter.as_ref())?;
        // Cosines from -1 to 1 become scores from 0 to 1, as OpenSearch scores them.
        let hit = |hit: Hit| Hit { id: hit.id, score: (1.0 + hit.score) / 2.0 };
        Ok(found.into_iter().flatten().map(hit).collect())
    }

    fn hybrid(&self, queries: &[Node], weights: Option<&[f32]>) -> Result<Vec<Hit>, ApiError> {
        let weights = weights.or(self.weights.as_deref()).unwrap_or(&[0.5, 0.5]);
        let mut rankings = Vec::new();
        for query in queries {
            let found = self.searcher.structured(&self.clause(query)?, &[], 0, DEPTH, None)?;
            let hit = |hit: orion_host::index::FoundHit| Hit { id: hit.id, score: hit.score.unwrap_or(0.0) };
            rankings.push(found.hits.into_iter().map(hit).collect::<Vec<_>>());
        }
        let fusion = Fusion::Convex { dense_weight: weights[1] };
        Ok(fuse(&rankings[0], &rankings[1], fusion, DEPTH))
    }

    /// The user's own text in a query, and the filter expression around it.
    pub fn text_and_filter(&self, node: &Node) -> Result<(String, Option<String>), ApiError> {
        match node {
            Node::Match { text, .. } => Ok((text.clone(), None)),
            Node::Scaled(inner, _) => self.text_and_filter(inner),
            Node::Neural { text, filter, .. } => {
                let filter = match filter.as_deref() {
                    None => None,
                    Some(node) => Some(self.needed_filter(node)?),
                };
                Ok((text.clone(), filter))
            }
            Node::Hybrid { queries, .. } => {
                let mut texts =
                    queries.iter().map(|query| self.text_and_filter(query)).collect::<Result<Vec<_>, _>>()?;
                let first = texts.remove(0);
                if texts.iter().any(|other| *other != first) {
                    return Err(ApiError::illegal(
                        "adaptive search: the queries of [hybrid] have different texts or filters",
                    ));
                }
                Ok(first)
            }
            Node::Bool { must, should, filter, must_not, .. } => {
                let texts: Vec<&Node> = must.iter().chain(should).collect();
                let [one] = texts.as_slice() else {
                    return Err(ApiError::illegal(format!(
                        "adaptive search: expected one query with text in [bool], got {}",
                        texts.len()
                    )));
                };
                let (text, inner) = self.text_and_filter(one)?;
                let mut parts: Vec<String> = inner.into_iter().collect();
                for node in filter {
                    parts.push(self.needed_filter(node)?);
                }
                for node in must_not {
                    if let Some(expression) = self.filter(node)? {
                        parts.push(format!("NOT ({expression})"));
                    }
                }
                Ok((text, (!parts.is_empty()).then(|| parts.join(" AND "))))
            }
            _ => Err(ApiError::illegal(
                "adaptive search: expected a [match], [multi_match], [query_string], [neural] or [hybrid] query, or one of them in [bool], whose text the search starts from",
            )),
        }
    }

    /// A filter of which something has to be there: an adaptive search has no way to say "nothing".
    fn needed_filter(&self, node: &Node) -> Result<String, ApiError> {
        match self.filter(node)? {
            Some(expression) => Ok(expression),
            // A comparison that no document satisfies, over any column there is.
            None => match self.searcher.metadata().keys().next() {
                Some(name) => Ok(format!("({name}:* AND NOT {name}:*)")),
                None => {
                    Err(ApiError::illegal("adaptive search: the filter names a field that no document has"))
                }
            },
        }
    }

    /// Texts whose words are highlighted.
    pub fn texts<'n>(node: &'n Node, texts: &mut Vec<&'n str>) {
        match node {
            Node::Match { text, .. } | Node::Phrase { text, .. } | Node::Neural { text, .. } => {
                texts.push(text)
            }
            Node::Term { values, .. } => texts.extend(values.iter().filter_map(Value::as_str)),
            Node::Bool { must, should, filter, .. } => {
                must.iter().chain(should).chain(filter).for_each(|inner| Self::texts(inner, texts));
            }
            Node::Best { queries, .. } | Node::Hybrid { queries, .. } => {
                queries.iter().for_each(|inner| Self::texts(inner, texts));
            }
            Node::Constant(inner) | Node::Scaled(inner, _) => Self::texts(inner, texts),
            _ => {}
        }
    }
}

fn inexpressible(what: &str, name: &str) -> ApiError {
    ApiError::illegal(format!("filter: {what} [{name}] cannot be expressed over metadata"))
}

fn unfitting(field: &str, kind: Kind, value: &Value) -> ApiError {
    ApiError::new(
        axum::http::StatusCode::BAD_REQUEST,
        "query_shard_exception",
        format!("failed to create query: field [{field}] is a {}, got {value}", kind.name()),
    )
}

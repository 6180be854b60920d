//! Which documents a filter lets through: evaluated once per snapshot over the columns of metadata, into one bit for each
//! document, which both halves then honour. Neighbour: `filter.rs` is the language.

use crate::document::{Kind, Value};
use crate::error::{IndexError, Result};
use crate::filter::{Filter, Node, Operator};
use crate::lexical;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tantivy::columnar::{Column, ColumnType, DynamicColumn, NumericalType};
use tantivy::index::SegmentId;
use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight,
};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{BitSet, DocId, SegmentReader};

/// The documents of one snapshot that a filter, or any query, lets through: one bit set for each segment.
#[derive(Clone)]
pub(crate) struct Selection(Arc<BTreeMap<SegmentId, BitSet>>);

impl Selection {
    /// Evaluates `filter` over all segments of a snapshot, deleted documents included.
    pub(crate) fn evaluate(
        filter: &Filter,
        dir: &Path,
        readers: &[SegmentReader],
        kinds: &BTreeMap<String, Kind>,
        analysis: &TextAnalyzer,
    ) -> Result<Self> {
        let scope = Scope { filter, dir, kinds, analysis };
        let sets = readers
            .iter()
            .map(|reader| Ok((reader.segment_id(), scope.node(&filter.node, reader)?)))
            .collect::<Result<_>>()?;
        // Without segments nothing was checked yet.
        if readers.is_empty() {
            scope.check(&filter.node)?;
        }
        Ok(Self(Arc::new(sets)))
    }

    /// What was found elsewhere.
    pub(crate) fn of(sets: BTreeMap<SegmentId, BitSet>) -> Self {
        Self(Arc::new(sets))
    }

    /// The share of documents that are let through, deleted ones included; 1 where there are none at all.
    pub(crate) fn share(&self) -> f64 {
        let (mut through, mut all) = (0.0, 0.0);
        for set in self.0.values() {
            through += set.len() as f64;
            all += f64::from(set.max_value());
        }
        if 0.0 < all { through / all } else { 1.0 }
    }

    pub(crate) fn contains(&self, segment: SegmentId, document: DocId) -> bool {
        self.0.get(&segment).is_some_and(|set| set.contains(document))
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Selection({} segments)", self.0.len())
    }
}

struct Scope<'a> {
    filter: &'a Filter,
    dir: &'a Path,
    kinds: &'a BTreeMap<String, Kind>,
    analysis: &'a TextAnalyzer,
}

/// The right-hand side of a comparison, converted to the field's type.
enum Operand {
    Words(Vec<String>),
    Number(f64),
    Date(i64),
    Boolean(bool),
}

impl Scope<'_> {
    fn check(&self, node: &Node) -> Result<()> {
        match node {
            Node::Or(nodes) | Node::And(nodes) => nodes.iter().try_for_each(|node| self.check(node)),
            Node::Not(inner) => self.check(inner),
            Node::Compare { name, name_at, operator, operand, operand_at } => {
                self.operand(name, *name_at, *operator, operand, *operand_at).map(|_| ())
            }
            Node::Between { name, name_at, bounds } => self.bounds(name, *name_at, bounds).map(|_| ()),
            Node::Exists { name, name_at } => self.kind(name, *name_at).map(|_| ()),
        }
    }

    fn bounds(
        &self,
        name: &str,
        name_at: usize,
        bounds: &[(Operator, String, usize)],
    ) -> Result<Vec<(Operator, Operand)>> {
        let one = |(operator, operand, at): &(Operator, String, usize)| {
            Ok((*operator, self.operand(name, name_at, *operator, operand, *at)?))
        };
        bounds.iter().map(one).collect()
    }

    fn kind(&self, name: &str, name_at: usize) -> Result<Kind> {
        self.filter.kind(self.kinds, name, name_at)
    }

    fn operand(
        &self,
        name: &str,
        name_at: usize,
        operator: Operator,
        operand: &str,
        operand_at: usize,
    ) -> Result<Operand> {
        Ok(match self.filter.value(self.kinds, (name, name_at), operator, (operand, operand_at))? {
            Value::Text(text) => Operand::Words(lexical::words(self.analysis, &text)),
            Value::Keyword(word) => Operand::Words(vec![word]),
            Value::Keywords(words) => Operand::Words(words),
            Value::Number(number) => Operand::Number(number),
            Value::Date(seconds) => Operand::Date(seconds),
            Value::Boolean(boolean) => Operand::Boolean(boolean),
            Value::Several(_) => unreachable!("an operand is one value"),
        })
    }

    fn node(&self, node: &Node, reader: &SegmentReader) -> Result<BitSet> {
        let max_doc = reader.max_doc();
        let combined = |sets: Vec<BitSet>, all: bool| {
            let mut result = BitSet::with_max_value(max_doc);
            for document in 0..max_doc {
                let mut each = sets.iter().map(|set| set.contains(document));
                if if all { each.all(|inside| inside) } else { each.any(|inside| inside) } {
                    result.insert(document);
                }
            }
            result
        };
        match node {
            Node::Or(nodes) | Node::And(nodes) => {
                let sets = nodes.iter().map(|node| self.node(node, reader)).collect::<Result<Vec<_>>>()?;
                Ok(combined(sets, matches!(node, Node::And(_))))
            }
            Node::Not(inner) => {
                let mut set = BitSet::with_max_value_and_full(max_doc);
                let inside = self.node(inner, reader)?;
                (0..max_doc)
                    .filter(|&document| inside.contains(document))
                    .for_each(|document| set.remove(document));
                Ok(set)
            }
            Node::Compare { name, name_at, operator, operand, operand_at } => {
                let value = self.operand(name, *name_at, *operator, operand, *operand_at)?;
                self.compare(name, &[(*operator, value)], reader)
            }
            Node::Between { name, name_at, bounds } => {
                self.compare(name, &self.bounds(name, *name_at, bounds)?, reader)
            }
            Node::Exists { name, name_at } => {
                self.kind(name, *name_at)?;
                self.exists(name, reader)
            }
        }
    }

    fn exists(&self, name: &str, reader: &SegmentReader) -> Result<BitSet> {
        let lexical = || IndexError::lexical("read metadata", self.dir);
        let mut result = BitSet::with_max_value(reader.max_doc());
        let path = lexical::column_path(name);
        for handle in reader.fast_fields().dynamic_column_handles(&path).map_err(lexical())? {
            let column = handle.open().map_err(|error| lexical()(error.into()))?;
            let index = column.column_index();
            for document in 0..reader.max_doc() {
                if !index.value_row_ids(document).is_empty() {
                    result.insert(document);
                }
            }
        }
        Ok(result)
    }

    /// The documents with a value that satisfies all of the comparisons, of which there is one at least.
    fn compare(
        &self,
        name: &str,
        comparisons: &[(Operator, Operand)],
        reader: &SegmentReader,
    ) -> Result<BitSet> {
        let lexical = || IndexError::lexical("read metadata", self.dir);
        let io = |error: std::io::Error| lexical()(error.into());
        let mut result = BitSet::with_max_value(reader.max_doc());
        let path = lexical::column_path(name);
        let handles = reader.fast_fields().dynamic_column_handles(&path).map_err(lexical())?;
        for handle in handles {
            match handle.column_type() {
                ColumnType::Str => {
                    let [(operator, Operand::Words(words))] = comparisons else { continue };
                    let DynamicColumn::Str(column) = handle.open().map_err(io)? else { continue };
                    let mut wanted = Vec::new();
                    for word in words {
                        wanted.push(column.dictionary().term_ord(word.as_bytes()).map_err(io)?);
                    }
                    for document in 0..reader.max_doc() {
                        let ordinals: Vec<u64> = column.term_ords(document).collect();
                        if ordinals.is_empty() {
                            continue;
                        }
                        let equal =
                            wanted.iter().all(|ordinal| ordinal.is_some_and(|one| ordinals.contains(&one)));
                        if equal == (*operator == Operator::Equal) {
                            result.insert(document);
                        }
                    }
                }
                ColumnType::I64 | ColumnType::U64 | ColumnType::F64 => {
                    let column = handle.open().map_err(io)?.coerce_numerical(NumericalType::F64);
                    if let Some(DynamicColumn::F64(column)) = column {
                        scan(
                            &column,
                            &mut result,
                            comparisons,
                            |operator, value, operand| matches!(operand, Operand::Number(number) if operator.holds(value, *number)),
                        );
                    }
                }
                ColumnType::DateTime => {
                    if let DynamicColumn::DateTime(column) = handle.open().map_err(io)? {
                        scan(&column, &mut result, comparisons, |operator, value, operand| {
                            let value = value.into_timestamp_secs();
                            matches!(operand, Operand::Date(seconds) if operator.holds(value, *seconds))
                        });
                    }
                }
                ColumnType::Bool => {
                    if let DynamicColumn::Bool(column) = handle.open().map_err(io)? {
                        scan(
                            &column,
                            &mut result,
                            comparisons,
                            |operator, value, operand| matches!(operand, Operand::Boolean(wanted) if operator.holds(value, *wanted)),
                        );
                    }
                }
                _ => {}
            }
        }
        Ok(result)
    }
}

/// Adds the documents with a value for which every comparison holds; for `!=` it has to hold for all of their values.
fn scan<T: PartialOrd + Copy + std::fmt::Debug + Send + Sync + 'static>(
    column: &Column<T>,
    result: &mut BitSet,
    comparisons: &[(Operator, Operand)],
    holds: impl Fn(Operator, T, &Operand) -> bool,
) {
    let fits = |value: T| comparisons.iter().all(|(operator, operand)| holds(*operator, value, operand));
    let is_difference = matches!(comparisons, [(Operator::NotEqual, _)]);
    for document in 0..result.max_value() {
        let mut values = column.values_for_doc(document);
        let is_inside = match values.next() {
            None => false,
            Some(first) if is_difference => fits(first) && values.all(fits),
            Some(first) => fits(first) || values.any(fits),
        };
        if is_inside {
            result.insert(document);
        }
    }
}

/// As a query, a selection matches its documents and adds nothing to their scores.
impl Query for Selection {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Selection {
    fn scorer(&self, reader: &SegmentReader, _boost: f32) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(match self.0.get(&reader.segment_id()) {
            Some(set) => Box::new(ConstScorer::new(BitSetDocSet::from(set.clone()), 0.0)),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("filter", 0.0))
    }
}

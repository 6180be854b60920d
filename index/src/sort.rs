//! Orders other than by descending score: metadata columns, scores upwards, ids; and going on behind a position.
//!
//! Every matching document is looked at, because a column knows no order of documents. Neighbour: `structured.rs`.

use crate::error::{IndexError, Result};
use crate::lexical::column_path;
use crate::searcher::Searcher;
use crate::structured::FoundHit;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use tantivy::DocAddress;
use tantivy::columnar::{DynamicColumn, NumericalType};

/// One criterion; the next one decides where this one ties.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The score.
    Score {
        /// Lowest first.
        ascending: bool,
    },
    /// A metadata field; of several values the one that comes first in this order.
    Metadata {
        /// Its name; documents without it count as missing, all of them where nothing has the name.
        name: String,
        /// Lowest first.
        ascending: bool,
        /// Documents without a value come first.
        missing_first: bool,
    },
    /// The id.
    Id {
        /// Lowest first.
        ascending: bool,
    },
}

/// What a document is ordered by.
#[derive(Debug, Clone, PartialEq)]
pub enum SortKey {
    /// Numbers, scores; booleans as 0 and 1.
    Number(f64),
    /// Seconds since 1970 UTC.
    Date(i64),
    /// Keywords, ids; of text its first word.
    Text(String),
}

/// A key, or none where the document has no value.
pub type SortValue = Option<SortKey>;

fn compare_keys(left: &SortKey, right: &SortKey) -> Ordering {
    match (left, right) {
        (SortKey::Number(left), SortKey::Number(right)) => left.total_cmp(right),
        (SortKey::Date(left), SortKey::Date(right)) => left.cmp(right),
        (SortKey::Text(left), SortKey::Text(right)) => left.cmp(right),
        // One field holds one type; only a position from outside can mix them.
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn rank(key: &SortKey) -> u8 {
    match key {
        SortKey::Number(_) => 0,
        SortKey::Date(_) => 1,
        SortKey::Text(_) => 2,
    }
}

impl Order {
    fn ascending(&self) -> bool {
        match self {
            Self::Score { ascending } | Self::Metadata { ascending, .. } | Self::Id { ascending } => {
                *ascending
            }
        }
    }

    fn compare(&self, left: &SortValue, right: &SortValue) -> Ordering {
        let missing_first = matches!(self, Self::Metadata { missing_first: true, .. });
        match (left, right) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => {
                if missing_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Some(_), None) => {
                if missing_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Some(left), Some(right)) => {
                let order = compare_keys(left, right);
                if self.ascending() { order } else { order.reverse() }
            }
        }
    }
}

fn compare(order: &[Order], left: &[SortValue], right: &[SortValue]) -> Ordering {
    let each =
        order.iter().zip(left.iter().zip(right)).map(|(order, (left, right))| order.compare(left, right));
    each.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// Orders what was matched and cuts out `from .. from + size`, counted from behind `after` where there is one.
pub(crate) fn ordered(
    searcher: &Searcher,
    matched: Vec<(Option<f32>, DocAddress)>,
    order: &[Order],
    from: usize,
    size: usize,
    after: Option<&[SortValue]>,
) -> Result<Vec<FoundHit>> {
    let mut columns = Columns::default();
    let mut keyed: Vec<(Vec<SortValue>, DocAddress, Option<f32>)> = Vec::with_capacity(matched.len());
    for (score, address) in matched {
        let mut keys = Vec::with_capacity(order.len());
        for criterion in order {
            keys.push(match criterion {
                Order::Score { .. } => score.map(|score| SortKey::Number(f64::from(score))),
                Order::Id { .. } => Some(SortKey::Text(searcher.id_at(address).to_owned())),
                Order::Metadata { name, ascending, .. } => {
                    columns.key(searcher, name, *ascending, address)?
                }
            });
        }
        if after.is_none_or(|after| compare(order, &keys, after).is_gt()) {
            keyed.push((keys, address, score));
        }
    }
    let full = |left: &(Vec<SortValue>, DocAddress, Option<f32>),
                right: &(Vec<SortValue>, DocAddress, Option<f32>)| {
        compare(order, &left.0, &right.0).then_with(|| searcher.id_at(left.1).cmp(searcher.id_at(right.1)))
    };
    let depth = from.saturating_add(size);
    if 0 < depth && depth < keyed.len() {
        keyed.select_nth_unstable_by(depth - 1, full);
        keyed.truncate(depth);
    }
    keyed.sort_by(full);
    let hit = |(sort, address, score): (Vec<SortValue>, DocAddress, Option<f32>)| FoundHit {
        id: searcher.id_at(address).to_owned(),
        score,
        sort,
    };
    Ok(keyed.into_iter().skip(from).take(size).map(hit).collect())
}

/// Columns opened so far, by segment and name.
#[derive(Default)]
struct Columns(BTreeMap<(u32, String), Vec<DynamicColumn>>);

impl Columns {
    fn key(
        &mut self,
        searcher: &Searcher,
        name: &str,
        ascending: bool,
        address: DocAddress,
    ) -> Result<SortValue> {
        let place = (address.segment_ord, name.to_owned());
        let columns = match self.0.entry(place) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(open(searcher, name, address.segment_ord)?)
            }
        };
        let mut keys: Vec<SortKey> = Vec::new();
        for column in columns {
            match column {
                DynamicColumn::F64(column) => {
                    keys.extend(column.values_for_doc(address.doc_id).map(SortKey::Number));
                }
                DynamicColumn::Bool(column) => {
                    keys.extend(
                        column
                            .values_for_doc(address.doc_id)
                            .map(|value| SortKey::Number(f64::from(u8::from(value)))),
                    );
                }
                DynamicColumn::DateTime(column) => {
                    keys.extend(
                        column
                            .values_for_doc(address.doc_id)
                            .map(|value| SortKey::Date(value.into_timestamp_secs())),
                    );
                }
                DynamicColumn::Str(column) => {
                    for ordinal in column.term_ords(address.doc_id) {
                        let mut text = String::new();
                        let read = column.ord_to_str(ordinal, &mut text);
                        read.map_err(|error| {
                            IndexError::lexical("read metadata", &searcher.dir)(error.into())
                        })?;
                        keys.push(SortKey::Text(text));
                    }
                }
                _ => {}
            }
        }
        Ok(keys.into_iter().reduce(|best, key| {
            let order = compare_keys(&key, &best);
            if (if ascending { order } else { order.reverse() }).is_lt() { key } else { best }
        }))
    }
}

fn open(searcher: &Searcher, name: &str, segment: u32) -> Result<Vec<DynamicColumn>> {
    let failed = || IndexError::lexical("read metadata", &searcher.dir);
    let reader = &searcher.lexical.segment_readers()[segment as usize];
    let handles = reader.fast_fields().dynamic_column_handles(&column_path(name)).map_err(failed())?;
    let mut columns = Vec::with_capacity(handles.len());
    for handle in handles {
        let column = handle.open().map_err(|error| failed()(error.into()))?;
        let is_number =
            matches!(column, DynamicColumn::I64(_) | DynamicColumn::U64(_) | DynamicColumn::F64(_));
        columns.extend(if is_number { column.coerce_numerical(NumericalType::F64) } else { Some(column) });
    }
    Ok(columns)
}

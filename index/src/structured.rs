//! Structured queries: trees of clauses over the searched fields, metadata, ids and rankings made elsewhere.
//!
//! What a query language of a server is translated into; free text alone is [`Searcher::lexical`]'s. A clause becomes
//! a query object of the lexical half; metadata comes in through the same filters that every search takes.
//! Neighbour: `sort.rs` orders by other things than the score.

use crate::error::{IndexError, Result};
use crate::filter::Filter;
use crate::lexical;
use crate::searcher::{Hit, Searcher};
use crate::selection::Selection;
use crate::sort::{self, Order, SortValue};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tantivy::collector::{Count, DocSetCollector, TopDocs};
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, EmptyQuery, EnableScoring,
    Occur, PhraseQuery, Query, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocAddress, DocId, Term};

/// What words are looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Searched {
    /// Title and text as one field, which has no phrases.
    Whole,
    /// One of the numbered fields ([`crate::Document::fields`]).
    Field(u8),
}

/// One node of a structured query.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Clause {
    /// Every document, score 1.
    All,
    /// No document.
    Nothing,
    /// At least `minimum` of the text's different words, scored by BM25; none where the text has no words.
    Words {
        /// Where.
        searched: Searched,
        /// Free text, analysed as the documents were.
        text: String,
        /// At least one; `usize::MAX` for all of them.
        minimum: usize,
    },
    /// The text's words one after another, with at most `slop` moves.
    Phrase {
        /// Which numbered field.
        field: u8,
        /// Free text, analysed as the documents were.
        text: String,
        /// 0 for exactly so.
        slop: u32,
    },
    /// One word as it stands in the index, without analysis.
    Word {
        /// Where.
        searched: Searched,
        /// The word.
        word: String,
    },
    /// Documents that a filter lets through, score 1.
    Filter(Filter),
    /// Documents with these ids, score 1.
    Ids(Vec<String>),
    /// Documents of a ranking, with its scores.
    Ranking(Vec<Hit>),
    /// Documents of any clause, with their best score and `tie` of the others.
    Best {
        /// The clauses.
        clauses: Vec<Clause>,
        /// In [0, 1].
        tie: f32,
    },
    /// All of `must` and `filter`, none of `must_not`, at least `minimum` of `should`; the scores of `must` and
    /// `should` are added.
    Boolean {
        /// Needed and scored.
        must: Vec<Clause>,
        /// Scored where they match.
        should: Vec<Clause>,
        /// Needed, not scored.
        filter: Vec<Clause>,
        /// Excluded.
        must_not: Vec<Clause>,
        /// How many of `should` have to match.
        minimum: usize,
    },
    /// A clause with its scores multiplied.
    Scaled {
        /// The clause.
        clause: Box<Clause>,
        /// By what.
        factor: f32,
    },
    /// A clause with one score for all.
    Constant {
        /// The clause.
        clause: Box<Clause>,
        /// The score.
        score: f32,
    },
}

/// What a structured search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// How many documents match.
    pub total: u64,
    /// The best score of all; `None` where scores were not asked for or nothing matches.
    pub max_score: Option<f32>,
    /// The wanted stretch, in order.
    pub hits: Vec<FoundHit>,
}

/// One document of [`Found`].
#[derive(Debug, Clone, PartialEq)]
pub struct FoundHit {
    /// Its id.
    pub id: String,
    /// Its score, where it was asked for.
    pub score: Option<f32>,
    /// One value for each order that was asked for.
    pub sort: Vec<SortValue>,
}

impl Searcher {
    /// The documents that `clause` matches: those at `from .. from + size` of the order, ties by id. Without an order,
    /// by score. With `after`, counted from behind that position of the order.
    ///
    /// Costs a score for each matching document, and with an order by metadata also its columns.
    pub fn structured(
        &self,
        clause: &Clause,
        order: &[Order],
        from: usize,
        size: usize,
        after: Option<&[SortValue]>,
    ) -> Result<Found> {
        let query = self.query(clause)?;
        let failed = || IndexError::lexical("search", &self.dir);
        let total = self.lexical.search(query.as_ref(), &Count).map_err(failed())? as u64;
        if order.is_empty() && after.is_none() {
            let depth = from.saturating_add(size).max(1);
            let top = lexical::top(&self.lexical, &self.tables, query.as_ref(), depth).map_err(failed())?;
            let max_score = top.first().map(|(score, _)| *score);
            let hit = |(score, address)| FoundHit {
                id: self.id_at(address).to_owned(),
                score: Some(score),
                sort: Vec::new(),
            };
            let hits = top.into_iter().skip(from).take(size).map(hit).collect();
            return Ok(Found { total, max_score, hits });
        }
        let by_score = order.iter().any(|order| matches!(order, Order::Score { .. }));
        let matched: Vec<(Option<f32>, DocAddress)> = if by_score {
            let most = (total as usize).max(1);
            let top = TopDocs::with_limit(most).order_by_score();
            let top = self.lexical.search(query.as_ref(), &top).map_err(failed())?;
            top.into_iter().map(|(score, address)| (Some(score), address)).collect()
        } else {
            let all = self.lexical.search(query.as_ref(), &DocSetCollector).map_err(failed())?;
            all.into_iter().map(|address| (None, address)).collect()
        };
        let max_score = matched.iter().filter_map(|(score, _)| *score).reduce(f32::max);
        let hits = sort::ordered(self, matched, order, from, size, after)?;
        Ok(Found { total, max_score, hits })
    }

    /// [`Searcher::dense_vector`] among the documents that a clause matches.
    pub fn nearest(&self, vector: &[f32], k: usize, among: Option<&Clause>) -> Result<Vec<Hit>> {
        let search = self.dense_half("search by vector")?.search;
        let selection = match among {
            None => None,
            // Those asked for lately are kept.
            Some(Clause::Filter(filter)) => self.selection(Some(filter))?,
            Some(clause) => Some(self.matched(clause)?),
        };
        self.nearest_selected(vector, k, selection.as_ref(), search)
    }

    /// The documents that a clause matches, deleted ones included.
    fn matched(&self, clause: &Clause) -> Result<Selection> {
        let query = self.query(clause)?;
        let failed = || IndexError::lexical("search", &self.dir);
        let weight = query.weight(EnableScoring::disabled_from_searcher(&self.lexical)).map_err(failed())?;
        let mut sets = BTreeMap::new();
        for reader in self.lexical.segment_readers() {
            let mut set = BitSet::with_max_value(reader.max_doc());
            let mut take = |documents: &[DocId]| {
                for &document in documents {
                    set.insert(document);
                }
            };
            weight.for_each_no_score(reader, &mut take).map_err(failed())?;
            sets.insert(reader.segment_id(), set);
        }
        Ok(Selection::of(sets))
    }

    /// How many documents `clause` matches.
    pub fn count(&self, clause: &Clause) -> Result<u64> {
        let query = self.query(clause)?;
        let count = self.lexical.search(query.as_ref(), &Count);
        Ok(count.map_err(IndexError::lexical("count", &self.dir))? as u64)
    }

    /// How the score of document `id` comes about, as JSON: `value`, `description`, `details`; `None` where it does not
    /// match.
    pub fn explain(&self, clause: &Clause, id: &str) -> Result<Option<serde_json::Value>> {
        let (query, Some(address)) = (self.query(clause)?, self.find(id)?) else { return Ok(None) };
        match query.explain(&self.lexical, address) {
            Ok(explanation) => Ok(serde_json::from_str(&explanation.to_pretty_json()).ok()),
            Err(tantivy::TantivyError::InvalidArgument(_)) => Ok(None),
            Err(error) => Err(IndexError::lexical("explain", &self.dir)(error)),
        }
    }

    /// The words of a text as they stand in the index.
    pub fn words(&self, text: &str) -> Vec<String> {
        lexical::words(&self.analysis, text)
    }

    /// Byte ranges of those words of `text` that stand in the index as one of `words`, rising.
    pub fn spans(&self, text: &str, words: &BTreeSet<String>) -> Vec<Range<usize>> {
        let mut analysis = self.analysis.clone();
        let mut stream = analysis.token_stream(text);
        let mut spans = Vec::new();
        while stream.advance() {
            let token = stream.token();
            if words.contains(&token.text) {
                spans.push(token.offset_from..token.offset_to);
            }
        }
        spans
    }

    /// The document's id.
    pub(crate) fn id_at(&self, address: DocAddress) -> &str {
        self.tables[address.segment_ord as usize].id(address.doc_id)
    }

    fn field(&self, searched: Searched) -> Result<Field> {
        match searched {
            Searched::Whole => Ok(self.fields.body),
            Searched::Field(number) if number < self.numbered_fields => Ok(self.fields.numbered(number)),
            Searched::Field(number) => Err(IndexError::Invalid {
                what: "field",
                expected: format!("a number below {}", self.numbered_fields),
                got: number.to_string(),
            }),
        }
    }

    fn query(&self, clause: &Clause) -> Result<Box<dyn Query>> {
        let all =
            |clauses: &[Clause]| clauses.iter().map(|inner| self.query(inner)).collect::<Result<Vec<_>>>();
        Ok(match clause {
            Clause::All => Box::new(AllQuery),
            Clause::Nothing => Box::new(EmptyQuery),
            Clause::Words { searched, text, minimum } => self.words_query(*searched, text, *minimum)?,
            Clause::Phrase { field, text, slop } => self.phrase_query(*field, text, *slop)?,
            Clause::Word { searched, word } => {
                let term = Term::from_field_text(self.field(*searched)?, word);
                Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
            }
            Clause::Filter(filter) => match self.selection(Some(filter))? {
                Some(selection) => Box::new(ConstScoreQuery::new(Box::new(selection), 1.0)),
                None => Box::new(AllQuery),
            },
            Clause::Ids(ids) => {
                let terms = ids.iter().map(|id| Term::from_field_text(self.fields.id, id));
                Box::new(ConstScoreQuery::new(Box::new(TermSetQuery::new(terms)), 1.0))
            }
            Clause::Ranking(hits) => {
                let one = |hit: &Hit| -> Box<dyn Query> {
                    let term = Term::from_field_text(self.fields.id, &hit.id);
                    let term = Box::new(TermQuery::new(term, IndexRecordOption::Basic));
                    Box::new(ConstScoreQuery::new(term, hit.score))
                };
                Box::new(BooleanQuery::union(hits.iter().map(one).collect()))
            }
            Clause::Best { clauses, tie } => {
                Box::new(DisjunctionMaxQuery::with_tie_breaker(all(clauses)?, *tie))
            }
            Clause::Boolean { must, should, filter, must_not, minimum } => {
                self.boolean_query([all(must)?, all(should)?, all(filter)?, all(must_not)?], *minimum)
            }
            Clause::Scaled { clause: inner, factor } => {
                Box::new(BoostQuery::new(self.query(inner)?, *factor))
            }
            Clause::Constant { clause: inner, score } => {
                Box::new(ConstScoreQuery::new(self.query(inner)?, *score))
            }
        })
    }

    fn words_query(&self, searched: Searched, text: &str, minimum: usize) -> Result<Box<dyn Query>> {
        let field = self.field(searched)?;
        if minimum <= 1 {
            let query = lexical::query(&self.analysis, field, text);
            return Ok(query.unwrap_or_else(|| Box::new(EmptyQuery)));
        }
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for word in self.words(text) {
            *counts.entry(word).or_default() += 1;
        }
        let wanted = minimum.min(counts.len());
        let clause = |(word, count): (String, u32)| -> Box<dyn Query> {
            let term = TermQuery::new(Term::from_field_text(field, &word), IndexRecordOption::WithFreqs);
            if count == 1 { Box::new(term) } else { Box::new(BoostQuery::new(Box::new(term), count as f32)) }
        };
        let clauses: Vec<Box<dyn Query>> = counts.into_iter().map(clause).collect();
        Ok(match clauses.len() {
            0 => Box::new(EmptyQuery),
            count if count == wanted => Box::new(BooleanQuery::intersection(clauses)),
            _ => Box::new(BooleanQuery::union_with_minimum_required_clauses(clauses, wanted)),
        })
    }

    fn phrase_query(&self, field: u8, text: &str, slop: u32) -> Result<Box<dyn Query>> {
        let field = self.field(Searched::Field(field))?;
        let mut analysis = self.analysis.clone();
        let mut stream = analysis.token_stream(text);
        // Positions count the stop words that are left out, here as in the documents.
        let mut terms = Vec::new();
        while stream.advance() {
            let token = stream.token();
            terms.push((token.position, Term::from_field_text(field, &token.text)));
        }
        Ok(match terms.len() {
            0 => Box::new(EmptyQuery),
            1 => Box::new(TermQuery::new(terms.swap_remove(0).1, IndexRecordOption::WithFreqs)),
            _ => Box::new(PhraseQuery::new_with_offset_and_slop(terms, slop)),
        })
    }

    fn boolean_query(
        &self,
        [must, should, filter, must_not]: [Vec<Box<dyn Query>>; 4],
        minimum: usize,
    ) -> Box<dyn Query> {
        let unscored = |query| Box::new(ConstScoreQuery::new(query, 0.0)) as Box<dyn Query>;
        if should.len() < minimum {
            return Box::new(EmptyQuery);
        }
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let has_needed = !must.is_empty() || !filter.is_empty();
        clauses.extend(must.into_iter().map(|query| (Occur::Must, query)));
        clauses.extend(filter.into_iter().map(|query| (Occur::Must, unscored(query))));
        if should.is_empty() {
            if !has_needed {
                // Only exclusions: everything else.
                clauses.push((Occur::Must, unscored(Box::new(AllQuery))));
            }
        } else if minimum == 0 {
            if !has_needed {
                clauses.push((Occur::Must, unscored(Box::new(AllQuery))));
            }
            clauses.extend(should.into_iter().map(|query| (Occur::Should, query)));
        } else {
            let some: Box<dyn Query> = if minimum == 1 {
                Box::new(BooleanQuery::union(should))
            } else {
                Box::new(BooleanQuery::union_with_minimum_required_clauses(should, minimum))
            };
            clauses.push((Occur::Must, some));
        }
        clauses.extend(must_not.into_iter().map(|query| (Occur::MustNot, query)));
        Box::new(BooleanQuery::new(clauses))
    }
}

//! Measures of one ranking against judgements, equal to trec_eval 9.
//!
//! What makes them equal, and easy to get wrong:
//! - documents are ordered by score as f32, descending, and equal scores by document id, descending by bytes;
//!   the order in which a run lists them does not matter;
//! - gains of nDCG are the grades themselves, discounted by log2(rank + 1); grades of 0 and below gain nothing;
//!   the ideal is taken from all judgements of the query, retrieved or not;
//! - binary measures count a document whose grade reaches a threshold (1 unless said otherwise);
//! - a mean runs over all judged queries: one that the run lacks, or that has no relevant document, counts 0.
//!
//! nDCG: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
//! Neighbours: [`crate::run`] before, [`crate::significance`] and [`crate::table`] after.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    dataset::Judgements,
    error::EvalError,
    run::{RankedDocument, Run},
};

/// A measure by its trec_eval name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// `map`: mean of the precisions at the relevant documents.
    AveragePrecision,
    /// `recip_rank`: one over the rank of the first relevant document.
    ReciprocalRank,
    /// `P_k`: share of the first k that is relevant.
    Precision(u32),
    /// `recall_k`: share of the relevant documents that is in the first k.
    Recall(u32),
    /// `ndcg`: over the whole ranking.
    Ndcg,
    /// `ndcg_cut_k`: over the first k.
    NdcgCut(u32),
    /// `success_k`: 1 where a relevant document is in the first k.
    Success(u32),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AveragePrecision => f.write_str("map"),
            Self::ReciprocalRank => f.write_str("recip_rank"),
            Self::Precision(k) => write!(f, "P_{k}"),
            Self::Recall(k) => write!(f, "recall_{k}"),
            Self::Ndcg => f.write_str("ndcg"),
            Self::NdcgCut(k) => write!(f, "ndcg_cut_{k}"),
            Self::Success(k) => write!(f, "success_{k}"),
        }
    }
}

impl FromStr for Measure {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        let unknown = || EvalError::UnknownMeasure { got: name.to_owned() };
        match name {
            "map" => return Ok(Self::AveragePrecision),
            "recip_rank" => return Ok(Self::ReciprocalRank),
            "ndcg" => return Ok(Self::Ndcg),
            _ => {}
        }
        let (family, cut) = name.rsplit_once('_').ok_or_else(unknown)?;
        let k = cut.parse::<u32>().ok().filter(|k| 0 < *k).ok_or_else(unknown)?;
        match family {
            "P" => Ok(Self::Precision(k)),
            "recall" => Ok(Self::Recall(k)),
            "ndcg_cut" => Ok(Self::NdcgCut(k)),
            "success" => Ok(Self::Success(k)),
            _ => Err(unknown()),
        }
    }
}

/// Values of some measures for every judged query.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The measures, in the order asked for.
    pub measures: Vec<Measure>,
    /// Judged query id → one value a measure. Queries that the run lacks are present, with zeros.
    pub per_query: BTreeMap<String, Vec<f64>>,
}

impl Evaluation {
    /// Mean over all judged queries, one value a measure; 0 where nothing is judged.
    pub fn means(&self) -> Vec<f64> {
        (0..self.measures.len()).map(|column| mean(&self.column(column))).collect()
    }

    /// The values of one measure by its position, in query id order.
    pub fn column(&self, column: usize) -> Vec<f64> {
        self.per_query.values().map(|values| values[column]).collect()
    }
}

/// Arithmetic mean, summed in order; 0 for no values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Area under the ROC curve: how often a positive scores above a negative, ties counting half; `None` without both.
pub fn area_under_curve(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    let pairs = positives.len() as f64 * negatives.len() as f64;
    let above = |positive: &f64, negative: &f64| match positive.partial_cmp(negative) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    let ordered: f64 =
        positives.iter().flat_map(|one| negatives.iter().map(move |other| above(one, other))).sum();
    (pairs > 0.0).then(|| ordered / pairs)
}

/// Scores a run on every judged query. `relevance_threshold` is for binary measures alone; nDCG uses grades.
pub fn evaluate(
    judgements: &Judgements,
    run: &Run,
    measures: &[Measure],
    relevance_threshold: i32,
) -> Evaluation {
    let nothing = Vec::new();
    let per_query = judgements
        .iter()
        .map(|(query, grades)| {
            let ranking = run.get(query).unwrap_or(&nothing);
            let judged = JudgedRanking::new(ranking, grades, relevance_threshold);
            (query.clone(), measures.iter().map(|measure| judged.value(*measure)).collect())
        })
        .collect();
    Evaluation { measures: measures.to_vec(), per_query }
}

/// Ids in trec_eval's order: score descending, then id descending.
pub fn trec_order(ranking: &[RankedDocument]) -> Vec<&str> {
    let mut documents: Vec<&RankedDocument> = ranking.iter().collect();
    documents.sort_by(|a, b| {
        let by_score = b.score.partial_cmp(&a.score).unwrap_or_else(|| b.score.total_cmp(&a.score));
        by_score.then_with(|| b.id.cmp(&a.id))
    });
    documents.into_iter().map(|document| document.id.as_str()).collect()
}

/// 1-based rank of the first document whose grade reaches the threshold, in trec_eval's order.
pub fn best_rank(
    ranking: &[RankedDocument],
    grades: &BTreeMap<String, i32>,
    relevance_threshold: i32,
) -> Option<u32> {
    let position = trec_order(ranking)
        .into_iter()
        .position(|id| grades.get(id).is_some_and(|grade| relevance_threshold <= *grade))?;
    u32::try_from(position + 1).ok()
}

/// One ranking as grades in rank order (`None`: not judged), beside what there was to find.
pub(crate) struct JudgedRanking {
    grades: Vec<Option<i32>>,
    /// All positive grades of the query, descending.
    ideal: Vec<i32>,
    relevant: usize,
    threshold: i32,
}

impl JudgedRanking {
    pub(crate) fn new(ranking: &[RankedDocument], judged: &BTreeMap<String, i32>, threshold: i32) -> Self {
        let grades = trec_order(ranking).into_iter().map(|id| judged.get(id).copied()).collect();
        let mut ideal: Vec<i32> = judged.values().copied().filter(|grade| 0 < *grade).collect();
        ideal.sort_unstable_by(|a, b| b.cmp(a));
        let relevant = judged.values().filter(|grade| threshold <= **grade).count();
        Self { grades, ideal, relevant, threshold }
    }

    pub(crate) fn value(&self, measure: Measure) -> f64 {
        match measure {
            Measure::AveragePrecision => self.average_precision(),
            Measure::ReciprocalRank => {
                self.is_relevant().position(|hit| hit).map_or(0.0, |position| 1.0 / (position + 1) as f64)
            }
            Measure::Precision(k) => self.found(k) as f64 / f64::from(k),
            Measure::Recall(k) => ratio(self.found(k) as f64, self.relevant as f64),
            Measure::Ndcg => self.ndcg(usize::MAX),
            Measure::NdcgCut(k) => self.ndcg(k as usize),
            Measure::Success(k) => f64::from(u8::from(0 < self.found(k))),
        }
    }

    fn is_relevant(&self) -> impl Iterator<Item = bool> + '_ {
        self.grades.iter().map(|grade| grade.is_some_and(|grade| self.threshold <= grade))
    }

    fn found(&self, k: u32) -> usize {
        self.is_relevant().take(k as usize).filter(|hit| *hit).count()
    }

    fn average_precision(&self) -> f64 {
        let mut found = 0.0;
        let mut sum = 0.0;
        for (position, hit) in self.is_relevant().enumerate() {
            if hit {
                found += 1.0;
                sum += found / (position + 1) as f64;
            }
        }
        ratio(sum, self.relevant as f64)
    }

    fn ndcg(&self, cut: usize) -> f64 {
        let gained = discounted(self.grades.iter().take(cut).map(|grade| grade.unwrap_or(0)));
        let best = discounted(self.ideal.iter().take(cut).copied());
        ratio(gained, best)
    }
}

fn discounted(grades: impl Iterator<Item = i32>) -> f64 {
    grades
        .enumerate()
        .filter(|(_, grade)| 0 < *grade)
        .map(|(position, grade)| f64::from(grade) / ((position + 2) as f64).log2())
        .sum()
}

/// `part / whole`, or 0 where there is no whole.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

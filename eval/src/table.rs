//! Table A: one row a system, one final ranking a query, ideal DCG from all judgements.
//!
//! Rows carry numbers only; the same numbers are rendered as text, as Markdown and as JSON.
//! Neighbours: [`crate::measures`] and [`crate::significance`] fill it, the command line prints it.

use serde::{Deserialize, Serialize};

use crate::{behaviour::Behaviour, layout, significance::Comparison};

/// Below this corrected p a difference is marked.
pub const SIGNIFICANCE_LEVEL: f64 = 0.05;

/// One system: means over all judged queries, then over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// What the row is called: the strategy, with `@policy` where one was named.
    pub system: String,
    /// Whether it is one of the controls, which adaptive systems are compared with.
    pub is_control: bool,
    /// nDCG@10.
    pub ndcg_10: f64,
    /// Largest less smallest nDCG@10 over the seeds; 0 for one seed.
    pub ndcg_10_spread: f64,
    /// Success@10.
    pub success_10: f64,
    /// Recall@100.
    pub recall_100: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Retrieval calls a query.
    pub retrievals: f64,
    /// Policy tokens read a query.
    pub tokens_prefilled: f64,
    /// Policy tokens written a query.
    pub tokens_decoded: f64,
    /// Wall-clock milliseconds a query.
    pub milliseconds: f64,
    /// Queries that the run answers.
    pub queries: u64,
    /// Answers that are the plain hybrid ranking because the strategy failed.
    pub degraded: u64,
    /// Seeds that went in.
    pub seeds: Vec<u64>,
    /// nDCG@10 against the control's; `None` for the control itself and where no control was named.
    pub against_control: Option<Comparison>,
    /// How its searches moved; `None` for one-shot systems.
    pub behaviour: Option<Behaviour>,
}

/// The headline table of one data set and split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableA {
    /// The data set's name.
    pub dataset: String,
    /// The split's name.
    pub split: String,
    /// Judged queries that means run over.
    pub judged_queries: u64,
    /// Lowest grade that binary measures count.
    pub relevance_threshold: i32,
    /// The row that others are compared with.
    pub control: Option<String>,
    /// In the order asked for.
    pub rows: Vec<TableRow>,
    /// Anything a reader must know; one sentence each.
    pub notes: Vec<String>,
}

const HEADINGS: [&str; 9] = [
    "system",
    "nDCG@10",
    "Success@10",
    "Recall@100",
    "MRR",
    "retrievals",
    "tokens read",
    "tokens written",
    "ms/query",
];

impl TableA {
    /// Aligned plain text; no colour, no line longer than the longest name asks for.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n\n{}", self.title(), layout::aligned(&HEADINGS, &self.cells()));
        self.push_footer(&mut text);
        text
    }

    /// A Markdown table with the same cells.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("**{}**\n\n{}", self.title(), layout::markdown(&HEADINGS, &self.cells()));
        self.push_footer(&mut text);
        text
    }

    fn title(&self) -> String {
        format!("Table A: {}, {} split, {} judged queries", self.dataset, self.split, self.judged_queries)
    }

    fn push_footer(&self, text: &mut String) {
        let mut notes = Vec::new();
        if let Some(control) = &self.control {
            notes.push(format!(
                "▲ ▼: nDCG@10 differs from {control}, paired randomisation with Holm's correction, p < {SIGNIFICANCE_LEVEL}."
            ));
        }
        if self.rows.iter().any(|row| 0.0 < row.ndcg_10_spread) {
            notes.push("±: half the range over seeds.".to_owned());
        }
        notes.extend(
            self.rows.iter().filter_map(|row| Some(behaviour_note(&row.system, row.behaviour.as_ref()?))),
        );
        notes.extend(self.notes.iter().cloned());
        if !notes.is_empty() {
            text.push('\n');
            notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
        }
    }

    fn cells(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.cells()).collect()
    }
}

/// The sign after a number that differs from its control's.
pub(crate) fn mark(comparison: Option<Comparison>) -> &'static str {
    match comparison {
        Some(c) if c.p_holm < SIGNIFICANCE_LEVEL && 0.0 < c.difference => " ▲",
        Some(c) if c.p_holm < SIGNIFICANCE_LEVEL => " ▼",
        _ => "",
    }
}

fn behaviour_note(system: &str, behaviour: &Behaviour) -> String {
    let turns: Vec<String> =
        behaviour.turn_wise_success.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
    let successes = if turns.is_empty() { "none".to_owned() } else { format!("{} %", turns.join(" / ")) };
    format!(
        "{system}: successes first at turn 1, 2, … {successes}; rank stagnation {:.0} %; backtracking {:.0} %; {:.1} words a \
         query (median {:.0}){}{}.",
        behaviour.rank_stagnation * 100.0,
        behaviour.backtracking * 100.0,
        behaviour.mean_query_words,
        behaviour.median_query_words,
        behaviour
            .confidence_auc
            .map_or_else(String::new, |auc| format!("; confidence tells success with AUC {auc:.2}")),
        behaviour.confidence_fit.map_or_else(String::new, |fit| format!(
            " (one half at a negative logarithm of {:.2}, width {:.2})",
            fit.middle, fit.width
        )),
    )
}

impl TableRow {
    fn cells(&self) -> Vec<String> {
        let mut ndcg = format!("{:.4}", self.ndcg_10);
        if 0.0 < self.ndcg_10_spread {
            ndcg.push_str(&format!(" ±{:.4}", self.ndcg_10_spread / 2.0));
        }
        ndcg.push_str(mark(self.against_control));
        let mut system = self.system.clone();
        if 0 < self.degraded {
            system.push_str(&format!(" ({} degraded)", self.degraded));
        }
        vec![
            system,
            ndcg,
            format!("{:.4}", self.success_10),
            format!("{:.4}", self.recall_100),
            format!("{:.4}", self.mrr),
            format!("{:.1}", self.retrievals),
            format!("{:.0}", self.tokens_prefilled),
            format!("{:.0}", self.tokens_decoded),
            format!("{:.1}", self.milliseconds),
        ]
    }
}

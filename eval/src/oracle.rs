//! Table B: the paper's own protocol, which lets the judgements end a search.
//!
//! There an episode "terminates when the target document appears in the top results" (section 3 of the paper), and its
//! nDCG seems to be normalised by what the run retrieved, as its values on HotpotQA exceed what the standard measure
//! allows. A search that learned nothing gains by both, so no number here says what a user gets; Table A does.
//! The search itself knows nothing of this: it runs to its end, and where an oracle would have stopped it is read off
//! its turns afterwards. Neighbours: [`crate::measures`] for the standard measure, [`crate::table`] is Table A.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    layout,
    measures::{JudgedRanking, Measure},
    run::RankedDocument,
    significance::Comparison,
    table::{SIGNIFICANCE_LEVEL, mark},
};

/// A judged document among so many first hits ends a search.
pub const STOP_RANK: usize = 10;

/// What one branch of a search retrieved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Its turn, as the strategy counts.
    pub turn: u32,
    /// Ids in rank order, [`STOP_RANK`] at most.
    pub hits: Vec<String>,
}

/// One search as an oracle would have ended it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// nDCG@10 of the stopping ranking, the ideal taken from all judgements.
    pub ndcg_10: f64,
    /// The same, the ideal taken from the judged documents in the ranking itself.
    pub ndcg_10_of_retrieved: f64,
    /// 1 where a relevant document was found at any turn.
    pub success_10: f64,
    /// One over the rank of the first relevant document among the ten.
    pub mrr: f64,
    /// Turns taken, the stopping one included.
    pub turns: f64,
    /// Looks taken, all of the stopping turn included.
    pub looks: f64,
}

/// Ends a search at the first turn of which some look has a relevant document; the look whose document ranks best is
/// the answer, the earlier of equals. Without such a turn it is `ranking`, the search's own answer.
pub fn stop(
    looks: &[Look],
    ranking: &[String],
    grades: &BTreeMap<String, i32>,
    relevance_threshold: i32,
) -> Stopped {
    let is_relevant = |id: &String| grades.get(id).is_some_and(|grade| relevance_threshold <= *grade);
    let rank = |look: &Look| look.hits.iter().take(STOP_RANK).position(is_relevant);
    let turns: std::collections::BTreeSet<u32> = looks.iter().map(|look| look.turn).collect();
    let best_of = |turn: u32| {
        let of_turn = looks.iter().filter(|look| look.turn == turn);
        of_turn.filter_map(|look| Some((rank(look)?, look))).min_by_key(|(rank, _)| *rank)
    };
    let found = turns.iter().find_map(|turn| Some((*turn, best_of(*turn)?.1)));
    let last = found.map_or(u32::MAX, |(turn, _)| turn);
    let hits = found.map_or(ranking, |(_, look)| &look.hits);
    // Ids in rank order, as a ranking whose scores say just that.
    let ranked: Vec<RankedDocument> = hits
        .iter()
        .take(STOP_RANK)
        .enumerate()
        .map(|(place, id)| RankedDocument { id: id.clone(), score: -(place as f32) })
        .collect();
    let retrieved: BTreeMap<String, i32> =
        hits.iter().take(STOP_RANK).filter_map(|id| Some((id.clone(), *grades.get(id)?))).collect();
    let judged = JudgedRanking::new(&ranked, grades, relevance_threshold);
    let lenient = JudgedRanking::new(&ranked, &retrieved, relevance_threshold);
    Stopped {
        ndcg_10: judged.value(Measure::NdcgCut(10)),
        ndcg_10_of_retrieved: lenient.value(Measure::NdcgCut(10)),
        success_10: judged.value(Measure::Success(10)),
        mrr: judged.value(Measure::ReciprocalRank),
        turns: turns.iter().filter(|turn| **turn <= last).count() as f64,
        looks: looks.iter().filter(|look| look.turn <= last).count() as f64,
    }
}

/// One system: means over all judged queries, then over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OracleRow {
    /// What the row is called.
    pub system: String,
    /// Each of its numbers as a mean.
    #[serde(flatten)]
    pub means: Stopped,
    /// nDCG@10 of the same searches' own answers, which no judgement has touched: Table A's.
    pub honest_ndcg_10: f64,
    /// Seeds that went in.
    pub seeds: Vec<u64>,
    /// [`Stopped::ndcg_10`] against the control's; `None` for the control itself and where none was named.
    pub against_control: Option<Comparison>,
}

/// The paper's protocol on one data set and split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableB {
    /// The data set's name.
    pub dataset: String,
    /// The split's name.
    pub split: String,
    /// Judged queries that means run over.
    pub judged_queries: u64,
    /// Lowest grade that stops a search.
    pub relevance_threshold: i32,
    /// The row that others are compared with.
    pub control: Option<String>,
    /// In the order asked for.
    pub rows: Vec<OracleRow>,
}

const HEADINGS: [&str; 8] = [
    "system",
    "nDCG@10",
    "nDCG@10 of retrieved",
    "Success@10",
    "MRR",
    "turns",
    "retrievals",
    "nDCG@10 without oracle",
];

impl TableB {
    /// Aligned plain text.
    pub fn to_text(&self) -> String {
        format!("{}\n\n{}\n{}", self.title(), layout::aligned(&HEADINGS, &self.cells()), self.footer())
    }

    /// A Markdown table with the same cells.
    pub fn to_markdown(&self) -> String {
        format!("**{}**\n\n{}\n{}", self.title(), layout::markdown(&HEADINGS, &self.cells()), self.footer())
    }

    fn title(&self) -> String {
        format!(
            "Table B, paper protocol (oracle stop): {}, {} split, {} judged queries",
            self.dataset, self.split, self.judged_queries
        )
    }

    fn footer(&self) -> String {
        let mut notes = "The judgements end each search at its first turn with a relevant document among ten: no user gets \
                         this. The first nDCG@10 takes its ideal from all judgements, the second from the ten alone.\n"
            .to_owned();
        if let Some(control) = &self.control {
            notes.push_str(&format!(
                "▲ ▼: the first nDCG@10 differs from {control}, paired randomisation with Holm's correction, p < {SIGNIFICANCE_LEVEL}.\n"
            ));
        }
        notes
    }

    fn cells(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(OracleRow::cells).collect()
    }
}

impl OracleRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.system.clone(),
            format!("{:.4}{}", self.means.ndcg_10, mark(self.against_control)),
            format!("{:.4}", self.means.ndcg_10_of_retrieved),
            format!("{:.4}", self.means.success_10),
            format!("{:.4}", self.means.mrr),
            format!("{:.1}", self.means.turns),
            format!("{:.1}", self.means.looks),
            format!("{:.4}", self.honest_ndcg_10),
        ]
    }
}

//! Retrieval data sets, measures and significance tests.
//!
//! A leaf: it knows files, judgements and rankings, and nothing of the index, the policy or the host, so
//! that whatever is measured cannot reach its judge. The flow is
//! [`dataset`] (BEIR folders) → a ranking by anyone → [`run`] (TREC run files) → [`measures`] (equal to
//! trec_eval 9) → [`significance`] → [`table`] (Table A). [`split`] says which queries may be trained or
//! tuned on, and [`behaviour`] describes how a multi-turn search moved.
//!
//! Absent on purpose: no function here takes a ranking function. A run is written first, scored later.

pub mod behaviour;
pub mod dataset;
mod error;
mod lines;
pub mod measures;
pub mod run;
pub mod significance;
pub mod split;
pub mod table;

pub use dataset::{CorpusDocument, Dataset, Judgements, Query};
pub use error::EvalError;
pub use measures::{Evaluation, Measure};
pub use run::{RankedDocument, Run};
pub use table::{TableA, TableRow};

//! Retrieval data sets, measures and significance tests.
//!
//! A leaf: it knows files, judgements and rankings, and nothing of the index, the policy or the host, so
//! that whatever is measured cannot reach its judge. The flow is
//! [`dataset`] (BEIR folders) → a ranking by anyone → [`run`] (TREC run files) → [`measures`] (equal to
//! trec_eval 9) → [`significance`] → [`table`] (Table A), and [`oracle`] (Table B, the paper's protocol). [`split`] says
//! which queries may be trained or tuned on, [`behaviour`] describes how a multi-turn search moved, and [`plots`] draws
//! tables.
//!
//! Sets of other layouts come in through [`bright`], [`trec`], [`archive`] (published zip files) and [`import`], which
//! writes them as BEIR folders.
//!
//! Absent on purpose: no function here takes a ranking function. A run is written first, scored later.

pub mod archive;
pub mod behaviour;
pub mod bright;
pub mod dataset;
mod error;
pub mod import;
mod layout;
mod lines;
pub mod logistic;
pub mod measures;
pub mod oracle;
mod parquet_rows;
pub mod plots;
pub mod run;
pub mod significance;
pub mod split;
mod staged;
pub mod table;
pub mod trec;

pub use archive::{ArchiveLimits, unpack_beir};
pub use bright::{BrightDocuments, BrightTask};
pub use dataset::{Corpus, CorpusDocument, Dataset, Judgements, Query};
pub use error::EvalError;
pub use import::{BeirWriter, Excluded, Imported, Judged, without_excluded};
pub use measures::{Evaluation, Measure};
pub use oracle::{Look, OracleRow, TableB};
pub use run::{RankedDocument, Run};
pub use table::{TableA, TableRow};
pub use trec::{TopicField, copy_corpus, read_topics, read_trec, read_trec_qrels};

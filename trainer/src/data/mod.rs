//! Training data: trajectories on disk, encoded examples, and the order in which batches are made of them.

mod batches;
mod record;

pub use batches::{Padded, plan_epoch};
pub use record::{
    Part, Piece, Record, SearchQuery, Snippet, TurnNote, read_records, retriever_name, write_records,
};

/// One encoded trajectory.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token, whether the model is to learn to predict it. The first is never learned.
    pub learn: Vec<bool>,
}

/// Which tokens carry loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    /// Every token: gets language and copying going.
    All,
    /// The paper's mask: think and query content and end markers.
    Masked,
}

impl Example {
    /// Cuts to `limit` tokens and applies the choice of loss.
    pub fn prepared(mut self, limit: usize, loss: LossOn) -> Self {
        self.tokens.truncate(limit);
        self.learn.truncate(limit);
        if loss == LossOn::All {
            self.learn.fill(true);
        }
        if let Some(first) = self.learn.first_mut() {
            *first = false;
        }
        self
    }

    /// Number of tokens that carry loss.
    pub fn learned(&self) -> usize {
        self.learn.iter().filter(|learn| **learn).count()
    }
}

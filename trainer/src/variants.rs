//! Variants of supervised training: what is learned from, in which order, in which format.
//!
//! The paper compares random order, a curriculum from simple behaviours to complex ones, specialists of one behaviour
//! (which [`crate::soup`] merges), and policies without thoughts or without markers. Each is a choice here: records are
//! filtered and put into lessons by their `archetype`; the format is the policy crate's own, and goes into the trained
//! policy's `orion.json`, so that what serves it obeys it.

use crate::data::Record;
use crate::error::{Result, TrainError};
use orion_policy::{Config, FormatKind, FormatSpec, PolicyTokenizer, TrajectoryFormat};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The archetypes in the order of the paper's Table 6 as the bundle has them, which is the order of the lessons unless
/// another is given.
pub const LESSONS: [&str; 11] = [
    "adaptive-context-learner",
    "random-walk-wanderer",
    "breadth-first-explorer",
    "depth-first-driller",
    "wrong-direction-specialist",
    "early-success-validator",
    "exploitation-heavy-validator",
    "greedy-hill-climber",
    "best-first-hypothesis-selector",
    "multi-beam-parallel",
    "pseudo-document",
];

/// In which order examples are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// All of them shuffled, anew in each pass.
    #[default]
    Random,
    /// Lesson after lesson, shuffled within each; all passes over one before the next begins.
    Curriculum,
}

/// A format that can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TrainedFormat {
    /// Thoughts and queries between markers.
    Full,
    /// Queries between markers, no thoughts.
    NoThink,
    /// Thoughts and queries, a line each, no markers.
    NoMarker,
}

impl From<TrainedFormat> for FormatKind {
    fn from(format: TrainedFormat) -> Self {
        match format {
            TrainedFormat::Full => Self::Full,
            TrainedFormat::NoThink => Self::NoThink,
            TrainedFormat::NoMarker => Self::NoMarker,
        }
    }
}

/// What the command line says of the variant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct VariantArguments {
    /// Learn from records of this archetype only; may be repeated. One makes a specialist.
    #[arg(long)]
    pub archetype: Vec<String>,
    /// Learn from records of this set only; may be repeated.
    #[arg(long)]
    pub set: Vec<String>,
    /// Learn from records with a turn made by this rule only; may be repeated.
    #[arg(long)]
    pub rule: Vec<String>,
    /// Order of the examples.
    #[arg(long, value_enum, default_value_t)]
    pub order: Order,
    /// An archetype of the curriculum, in order; repeat for each. Default: the order of the paper's table.
    #[arg(long = "lesson", value_name = "ARCHETYPE")]
    pub lessons: Vec<String>,
    /// Format to train; the starting policy's own, where none is given.
    #[arg(long, value_enum)]
    pub format: Option<TrainedFormat>,
}

impl VariantArguments {
    /// The records that are learned from or measured on, in their order.
    ///
    /// # Errors
    /// None is left.
    pub fn select(&self, records: Vec<Record>) -> Result<Vec<Record>> {
        let admits = |names: &[String], name: &str| names.is_empty() || names.iter().any(|own| own == name);
        let total = records.len();
        let selected: Vec<Record> = records
            .into_iter()
            .filter(|record| {
                admits(&self.archetype, record.archetype.as_deref().unwrap_or(""))
                    && admits(&self.set, &record.set)
                    && (self.rule.is_empty()
                        || record.turns.iter().any(|turn| self.rule.contains(&turn.rule)))
            })
            .collect();
        if selected.is_empty() {
            return Err(TrainError::Setting {
                name: "archetype, set, rule",
                expected: "a choice that some records fit".into(),
                got: format!("none of {total}"),
            });
        }
        Ok(selected)
    }

    /// The lesson of each record, where the order is a curriculum.
    ///
    /// # Errors
    /// A record whose archetype is in no lesson.
    pub fn lessons_of<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<Option<Vec<usize>>> {
        if self.order == Order::Random {
            return Ok(None);
        }
        let names: Vec<&str> = if self.lessons.is_empty() {
            LESSONS.to_vec()
        } else {
            self.lessons.iter().map(String::as_str).collect()
        };
        records
            .map(|record| {
                let own = record.archetype.as_deref();
                names.iter().position(|name| Some(*name) == own).ok_or_else(|| TrainError::Setting {
                    name: "order",
                    expected: format!("an archetype of every record among {}", names.join(", ")),
                    got: format!("{} for record `{}`", own.unwrap_or("none"), record.id),
                })
            })
            .collect::<Result<Vec<usize>>>()
            .map(Some)
    }

    /// The format to train a policy folder's model in.
    ///
    /// # Errors
    /// A tokenizer that lacks what the format needs.
    pub fn format(&self, folder: &Path, config: &Config) -> Result<TrajectoryFormat> {
        let policy_error = |error: orion_policy::CheckpointError| TrainError::Policy(error.to_string());
        let own = TrajectoryFormat::load(folder, config).map_err(policy_error)?;
        let Some(format) = self.format else { return Ok(own) };
        let format: FormatKind = format.into();
        let grounded_queries = own.spec().grounded_queries && format.has_marker_tokens();
        let spec = FormatSpec { format, grounded_queries, ..own.spec().clone() };
        let tokenizer = PolicyTokenizer::load(folder).map_err(policy_error)?;
        TrajectoryFormat::new(spec, tokenizer, config).map_err(policy_error)
    }
}

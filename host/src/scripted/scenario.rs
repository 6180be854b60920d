//! The format of a scenario file, and how it is read and run.
//!
//! Unknown fields, unknown ids and impossible numbers are refused with their names: a scenario that tests something else
//! than it says is worse than none. Neighbours: `world.rs`, `policy.rs`, `judge.rs` act on [`Scripts`]; `expect.rs` holds
//! the `[expect]` table.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::expect::{Checked, Expectations};
use super::judge::ScriptedJudge;
use super::policy::ScriptedPolicy;
use super::world::ScriptedCollection;
use crate::cancel::CancelToken;
use crate::contract::Retriever;
use crate::host::Host;
use crate::limits::Limits;
use crate::load::{OptionError, Strategy};
use crate::outcome::Request;
use crate::services::{Generate, Judge, Services};

/// Why a scenario could not be read or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("could not read scenario `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML of this format; the message has line, column and the field's name.
    #[error("scenario `{name}`: {message}")]
    Format {
        /// The scenario.
        name: String,
        /// What the reader says.
        message: String,
    },
    /// It contradicts itself.
    #[error("scenario `{name}`: {what}: expected {expected}, got {got}")]
    Value {
        /// The scenario.
        name: String,
        /// The field.
        what: String,
        /// What would do.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// Its request has options that the strategy does not take.
    #[error("scenario `{name}`: {source}")]
    Options {
        /// The scenario.
        name: String,
        /// Which one.
        source: OptionError,
    },
}

/// One scenario: a world, a request, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// The file's content.
    pub scripts: Scripts,
    limits: Limits,
}

/// A scenario file, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scripts {
    /// What the scenario shows, in one line.
    pub about: String,
    /// Whether there is a dense encoder; without one `dense`, `hybrid` and `similarity` are unavailable.
    pub encoder: Option<bool>,
    /// Whether there is a policy; by default where proposals or perplexities are scripted.
    pub policy: Option<bool>,
    /// What is asked.
    pub request: RequestScript,
    /// The collection.
    pub document: Vec<ScriptedDocument>,
    /// Rankings of queries that the word-overlap search should not answer.
    pub ranking: Vec<ScriptedRanking>,
    /// What the policy proposes.
    pub proposal: Vec<ScriptedProposal>,
    /// How sure the policy is.
    pub perplexity: Vec<ScriptedPerplexity>,
    /// What the judge says; without any, the host assesses itself.
    pub quality: Vec<ScriptedQuality>,
    /// Fields of [`Limits`]; those not named keep the defaults, with an hour's deadline.
    pub limits: toml::Table,
    /// What is expected.
    pub expect: Expectations,
}

/// `[request]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestScript {
    /// The user's words.
    pub query: String,
    /// Documents wanted.
    #[serde(default = "ten")]
    pub k: u32,
    /// All that is random follows from it.
    #[serde(default = "one")]
    pub seed: u64,
    /// Values of the strategy's parameters: texts, numbers or booleans.
    #[serde(default)]
    pub options: toml::Table,
}

impl Default for RequestScript {
    fn default() -> Self {
        Self { query: String::new(), k: ten(), seed: one(), options: toml::Table::new() }
    }
}

fn ten() -> u32 {
    10
}

fn one() -> u64 {
    1
}

/// `[[document]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedDocument {
    /// Its id.
    pub id: String,
    /// May be empty.
    #[serde(default)]
    pub title: String,
    /// May be empty.
    #[serde(default)]
    pub text: String,
}

/// `[[ranking]]`: what a query finds, or the error it meets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedRanking {
    /// The whole text of the query.
    pub query: String,
    /// Only with this retriever; with any, if absent.
    pub retriever: Option<ScriptedRetriever>,
    /// Best first. A bare id at rank r has the score 1/r.
    #[serde(default)]
    pub hits: Vec<ScriptedHit>,
    /// Instead of hits: the service fails with this message.
    pub error: Option<String>,
}

/// A retriever by its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the contract documents them")]
pub enum ScriptedRetriever {
    Lexical,
    Dense,
    Hybrid,
}

impl ScriptedRetriever {
    /// The contract's own.
    pub fn to_contract(self) -> Retriever {
        match self {
            Self::Lexical => Retriever::Lexical,
            Self::Dense => Retriever::Dense,
            Self::Hybrid => Retriever::Hybrid,
        }
    }

    /// From the contract's own.
    pub fn from_contract(retriever: Retriever) -> Self {
        match retriever {
            Retriever::Lexical => Self::Lexical,
            Retriever::Dense => Self::Dense,
            Retriever::Hybrid => Self::Hybrid,
        }
    }
}

/// An id, or an id with its score.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ScriptedHit {
    /// `"frost"`
    Id(String),
    /// `{ id = "frost", score = 0.7 }`
    Scored {
        /// The document.
        id: String,
        /// Finite; scores must not rise.
        score: f32,
    },
}

impl ScriptedHit {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Scored { id, .. } => id,
        }
    }
}

/// `[[proposal]]`: proposals that fit a node are given in file order, from the first again after the last.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedProposal {
    /// Only after this query: the trajectory's last, the user's own at first.
    pub after: Option<String>,
    /// Only in this turn, counted from 1.
    pub turn: Option<u32>,
    /// The thought; `look for …` if absent.
    pub think: Option<String>,
    /// The search query.
    pub query: String,
    /// The policy's choice of retriever.
    pub retriever: Option<ScriptedRetriever>,
    /// Tokens of thought and query; their words if absent.
    pub tokens: Option<u32>,
    /// Sum over the tokens; minus their number if absent.
    pub log_probability: Option<f32>,
}

/// `[[perplexity]]`: of every text after a trajectory; the first that fits counts, 10 where none does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedPerplexity {
    /// Only after this query.
    pub after: Option<String>,
    /// Only in this turn: the number of search queries so far.
    pub turn: Option<u32>,
    /// At least 1.
    pub value: f32,
}

/// `[[quality]]`: of a turn; the first that fits counts, 0 where none does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedQuality {
    /// Only of this search query.
    pub query: Option<String>,
    /// Only in this turn.
    pub turn: Option<u32>,
    /// In [0, 1].
    pub value: f32,
}

impl Scenario {
    /// Reads a scenario file; its name is the file's without the ending.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Self::parse(&name, &text)
    }

    /// Reads a scenario.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let format = |message: String| ScenarioError::Format { name: name.to_owned(), message };
        let scripts: Scripts =
            toml::from_str(text).map_err(|error| format(error.to_string().trim_end().to_owned()))?;
        let limits = limits(&scripts.limits).map_err(|message| format(format!("limits: {message}")))?;
        check(&scripts).map_err(|(what, expected, got)| ScenarioError::Value {
            name: name.to_owned(),
            what,
            expected,
            got,
        })?;
        Ok(Self { name: name.to_owned(), scripts, limits })
    }

    /// The scripted world.
    pub fn services(&self) -> Services {
        let scripts = &self.scripts;
        let has_policy =
            scripts.policy.unwrap_or(!scripts.proposal.is_empty() || !scripts.perplexity.is_empty());
        let generate: Option<Arc<dyn Generate>> =
            has_policy.then(|| Arc::new(ScriptedPolicy::new(scripts)) as Arc<dyn Generate>);
        let feedback: Option<Arc<dyn Judge>> = (!scripts.quality.is_empty())
            .then(|| Arc::new(ScriptedJudge(scripts.quality.clone())) as Arc<dyn Judge>);
        Services { retrieve: Arc::new(ScriptedCollection::new(scripts)), generate, feedback }
    }

    /// What is asked.
    pub fn request(&self) -> Request {
        let asked = &self.scripts.request;
        let options = asked.options.iter().map(|(name, value)| (name.clone(), plain_text(value)));
        Request {
            query: asked.query.clone(),
            k: asked.k,
            filter: None,
            seed: asked.seed,
            options: options.collect(),
        }
    }

    /// Under which limits: [`Limits::unhurried`] with the scenario's own, and never above `ceiling`.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Searches, and compares with what is expected. Blocks.
    pub fn run(&self, host: &Host, strategy: &Strategy) -> Result<Checked, ScenarioError> {
        let request = self.request();
        strategy
            .check_options(&request.options)
            .map_err(|source| ScenarioError::Options { name: self.name.clone(), source })?;
        let (outcome, recording) = host.search_recorded_blocking(
            strategy,
            request,
            &self.services(),
            &self.limits,
            CancelToken::new(),
        );
        Ok(Checked::new(&self.scripts.expect, outcome, recording))
    }
}

/// A parameter's value as the contract passes it.
pub(super) fn plain_text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn limits(own: &toml::Table) -> Result<Limits, String> {
    let mut table = toml::Table::try_from(Limits::unhurried()).map_err(|error| error.to_string())?;
    for (name, value) in own {
        table.insert(name.clone(), value.clone());
    }
    table.try_into().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
}

/// Field, expected, got.
type Complaint = (String, String, String);

fn check(scripts: &Scripts) -> Result<(), Complaint> {
    let complain = |what: String, expected: &str, got: String| Err((what, expected.to_owned(), got));
    if scripts.request.query.is_empty() {
        return complain("request.query".to_owned(), "the user's query", "nothing".to_owned());
    }
    for (name, value) in &scripts.request.options {
        if value.is_array() || value.is_table() || value.is_datetime() {
            let expected = "text, a number or a boolean";
            return complain(format!("request.options.{name}"), expected, value.type_str().to_owned());
        }
    }
    let mut ids = BTreeSet::new();
    for document in &scripts.document {
        if !ids.insert(document.id.as_str()) {
            return complain("document.id".to_owned(), "each id once", format!("`{}` twice", document.id));
        }
    }
    for ranking in &scripts.ranking {
        let what = format!("ranking of `{}`", ranking.query);
        let mut previous = f32::INFINITY;
        let mut found = BTreeSet::new();
        for hit in &ranking.hits {
            if !ids.contains(hit.id()) || !found.insert(hit.id()) {
                let expected = "ids of documents, each once";
                return complain(what, expected, format!("`{}`", hit.id()));
            }
            if let ScriptedHit::Scored { score, .. } = hit {
                if !score.is_finite() || *score > previous {
                    return complain(what, "finite scores that never rise", score.to_string());
                }
                previous = *score;
            }
        }
        if ranking.error.is_some() && !ranking.hits.is_empty() {
            return complain(what, "hits or an error", "both".to_owned());
        }
    }
    for perplexity in scripts.perplexity.iter().map(|script| script.value) {
        if !(1.0..=f32::MAX).contains(&perplexity) {
            return complain("perplexity.value".to_owned(), "at least 1", perplexity.to_string());
        }
    }
    for quality in scripts.quality.iter().map(|script| script.value) {
        if !(0.0..=1.0).contains(&quality) {
            return complain("quality.value".to_owned(), "0 to 1", quality.to_string());
        }
    }
    let has_policy_scripts = !scripts.proposal.is_empty() || !scripts.perplexity.is_empty();
    if scripts.policy == Some(false) && has_policy_scripts {
        let got = "scripts for one that is not there".to_owned();
        return complain("policy".to_owned(), "no proposal and no perplexity without a policy", got);
    }
    Ok(())
}

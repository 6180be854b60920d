//! Scenarios of rewards: turns and options in a file, and the rewards that are expected of them.
//!
//! A reward needs no world, so this is short: the real component scores in the real host, under its limits. Neighbour:
//! `scenario.rs` is the same for strategies.
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::expect::{Difference, Maybe};
use super::scenario::{ScenarioError, limits, plain_text};
use crate::contract::Observation;
use crate::host::Host;
use crate::limits::Limits;
use crate::reward::{Reward, ScoreError, Scores};

/// How far a reward may be from what is expected, unless a scenario says otherwise: decimals that people write.
const WITHIN: f32 = 1e-4;

/// One scenario of a reward.
#[derive(Clone, Debug)]
pub struct RewardScenario {
    /// The file's name without its ending.
    pub name: String,
    /// The file's content.
    pub scripts: RewardScripts,
    limits: Limits,
}

/// A scenario file of a reward, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardScripts {
    /// What the scenario shows, in one line.
    pub about: String,
    /// Values of the reward's parameters: texts, numbers or booleans.
    pub options: toml::Table,
    /// What is scored, in order.
    pub turn: Vec<ScriptedTurn>,
    /// Fields of [`Limits`]; those not named keep the defaults, with an hour's deadline.
    pub limits: toml::Table,
    /// What is expected.
    pub expect: ExpectedScores,
}

/// `[[turn]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedTurn {
    /// Of the best retrieved document; in [-1, 1].
    pub cosine: f32,
    /// 1-based, of the best target.
    pub rank: u64,
    /// Documents of the corpus.
    pub corpus_size: u64,
}

/// `[expect]` of a reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedScores {
    /// One for each turn.
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    pub rewards: Maybe<Vec<f32>>,
    /// How far each may be from that; 0.0001 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<f32>,
    /// A part of the reason for which nothing can be scored; without it a reward that fails fails its scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// How one scenario went.
#[derive(Clone, Debug)]
pub struct RewardChecked {
    /// What came.
    pub scores: Result<Scores, ScoreError>,
    /// Where that is not what was expected.
    pub differences: Vec<Difference>,
    /// Fields that wait to be written.
    pub marked: Vec<String>,
}

impl RewardScenario {
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
        let scripts: RewardScripts =
            toml::from_str(text).map_err(|error| format(error.to_string().trim_end().to_owned()))?;
        let limits = limits(&scripts.limits).map_err(|message| format(format!("limits: {message}")))?;
        let value = |what: &str, expected: &str, got: String| ScenarioError::Value {
            name: name.to_owned(),
            what: what.to_owned(),
            expected: expected.to_owned(),
            got,
        };
        for (option, given) in &scripts.options {
            if given.is_array() || given.is_table() || given.is_datetime() {
                let (what, got) = (format!("options.{option}"), given.type_str().to_owned());
                return Err(value(&what, "text, a number or a boolean", got));
            }
        }
        let within = scripts.expect.within.unwrap_or(WITHIN);
        if !(0.0..=f32::MAX).contains(&within) {
            return Err(value("expect.within", "a number of at least 0", within.to_string()));
        }
        let rewards = scripts.expect.rewards.value();
        if let Some(rewards) = rewards.filter(|rewards| rewards.len() != scripts.turn.len()) {
            let expected = format!("{}, one for each turn", scripts.turn.len());
            return Err(value("expect.rewards", &expected, rewards.len().to_string()));
        }
        if scripts.expect.fails.is_some() && !scripts.expect.rewards.is_absent() {
            return Err(value("expect", "rewards or a failure", "both".to_owned()));
        }
        Ok(Self { name: name.to_owned(), scripts, limits })
    }

    /// The turns, as the contract passes them.
    pub fn observations(&self) -> Vec<Observation> {
        let observation = |turn: &ScriptedTurn| Observation {
            cosine: turn.cosine,
            rank: turn.rank,
            corpus_size: turn.corpus_size,
            options: Vec::new(),
        };
        self.scripts.turn.iter().map(observation).collect()
    }

    /// The options, as the contract passes them.
    pub fn options(&self) -> Vec<(String, String)> {
        self.scripts.options.iter().map(|(name, value)| (name.clone(), plain_text(value))).collect()
    }

    /// Scores, and compares with what is expected. Blocks.
    pub fn run(&self, host: &Host, reward: &Reward) -> Result<RewardChecked, ScenarioError> {
        let options = self.options();
        reward
            .check_options(&options)
            .map_err(|source| ScenarioError::Options { name: self.name.clone(), source })?;
        let scores = host.score_blocking(reward, &self.observations(), &options, &self.limits);
        let expected = &self.scripts.expect;
        let mut differences = Vec::new();
        let mut differ = |what: &'static str, expected: Vec<String>, actual: Vec<String>| {
            differences.push(Difference { what, expected, actual });
        };
        let mut marked = Vec::new();
        match (&scores, &expected.fails) {
            (Ok(came), None) => {
                let within = expected.within.unwrap_or(WITHIN);
                if let Some(wanted) = expected.rewards.value() {
                    let is_near = |(wanted, came): (&f32, &f32)| (wanted - came).abs() <= within;
                    if !wanted.iter().zip(&came.rewards).all(is_near) {
                        differ("rewards", shown(wanted), shown(&came.rewards));
                    }
                }
                if expected.rewards.is_marked() {
                    marked.push("rewards".to_owned());
                }
            }
            (Ok(came), Some(part)) => {
                differ("fails", vec![format!("failed: … {part} …")], shown(&came.rewards));
            }
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            (Err(error), part) => {
                let wanted = part.as_ref();
                let wanted = wanted.map_or("rewards".to_owned(), |part| format!("failed: … {part} …"));
                differ("fails", vec![wanted], vec![error.to_string()]);
            }
        }
        Ok(RewardChecked { scores, differences, marked })
    }
}

/// A line for each turn.
fn shown(rewards: &[f32]) -> Vec<String> {
    let line = |(turn, reward): (usize, &f32)| format!("turn {}  {reward}", turn + 1);
    rewards.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        RewardScenario::parse("short", text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        const TURN: &str = "[[turn]]\ncosine = 0.5\nrank = 2\ncorpus_size = 9\n";
        RewardScenario::parse("short", &format!("{TURN}[expect]\nrewards = [0.5]\n")).unwrap();
        RewardScenario::parse("short", &format!("{TURN}[expect]\nrewards = \"?\"\n")).unwrap();
        for (end, part) in [
            ("[expect]\nrewards = [1.0, 2.0]\n", "expect.rewards: expected 1, one for each turn, got 2"),
            ("[expect]\nrewards = [1.0]\nfails = \"x\"\n", "expect: expected rewards or a failure, got both"),
            ("[expect]\nwithin = -1.0\n", "expect.within: expected a number of at least 0, got -1"),
            ("[options]\nshift = [1]\n", "options.shift: expected text, a number or a boolean, got array"),
            ("[expects]\n", "unknown field `expects`"),
            ("[limits]\nfule = 1\n", "unknown field `fule`"),
        ] {
            let said = complaint(&format!("{TURN}{end}"));
            assert!(said.contains(part), "{said}");
        }
    }
}

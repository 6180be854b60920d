//! Scripted worlds: strategies tested as real components in the real host, against services that say what a file says.
//!
//! A [`Scenario`] (one TOML file; `plugins/README.md` documents the format) holds documents, scripted rankings, a
//! scripted policy, qualities and limits, one request, and what is expected of it. [`Scenario::run`] searches and says
//! where the search differs. Everything is deterministic. Neighbours: `world.rs` and `policy.rs` are the services,
//! `expect.rs` compares; `reward.rs` is the same for rewards; `orion plugin test` shows the result.
mod expect;
mod judge;
mod policy;
mod reward;
mod scenario;
mod world;

pub use expect::{
    Checked, Difference, Expectations, ExpectedBranch, ExpectedSearch, Fate, Maybe, NoParent, ParentBranch,
};
pub use reward::{ExpectedScores, RewardChecked, RewardScenario, RewardScripts, ScriptedTurn};
pub use scenario::{
    RequestScript, Scenario, ScenarioError, ScriptedDocument, ScriptedHit, ScriptedPerplexity,
    ScriptedProposal, ScriptedQuality, ScriptedRanking, ScriptedRetriever, Scripts,
};

//! Rewards: loaded like strategies, called by a trainer to score the turns of a trajectory.
//!
//! Unlike a failed search, a failed score has nothing to fall back on, so it is an error. Neighbours: `load.rs` checks
//! and compiles, `bounded.rs` runs the call.
use std::path::Path;
use std::sync::Arc;

use crate::bindings::reward::RewardPre;
use crate::class::GuestClass;
use crate::contract::{Description, Observation, Setting};
use crate::host::Host;
use crate::limits::Limits;
use crate::load::{LoadError, OptionError, check_options, describe_limits, read_component, version};
use crate::manifest::Manifest;
use crate::outcome::{Degraded, DegradedKind};
use crate::state::{SearchState, error_text};
use crate::world::World;

/// A loaded reward: checked, compiled, linked. Shared by any number of calls at once.
pub struct Reward {
    name: String,
    description: Description,
    component: String,
    pre: RewardPre<SearchState>,
    version: String,
    manifest: Option<Manifest>,
    class: GuestClass,
    from_cache: bool,
}

impl std::fmt::Debug for Reward {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reward")
            .field("name", &self.name)
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

impl Reward {
    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// SHA-256 of its component, in hexadecimal.
    pub fn component_sha256(&self) -> &str {
        &self.component
    }

    /// What tells this version from another: a SHA-256 over component and manifest, or the component's own where it has no
    /// manifest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its manifest; `None` for the standard reward and for components without one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Whether its compiled form came from the cache.
    pub fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// Whether every option names a parameter and has a value of its kind.
    pub fn check_options(&self, options: &[(String, String)]) -> Result<(), OptionError> {
        check_options(World::Reward, &self.name, &self.description, options)
    }
}

/// The rewards of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One finite number for each turn, in order.
    pub rewards: Vec<f32>,
    /// Instructions of the guest: the same for the same turns and options.
    pub fuel: u64,
    /// The guest's linear memory at its largest.
    pub peak_memory_bytes: u64,
}

/// Why turns could not be scored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// It refused ([`DegradedKind::Failed`]), trapped, or was stopped at a limit.
    #[error("reward `{reward}`: could not score {turns} turns: {reason}")]
    Stopped {
        /// The reward.
        reward: String,
        /// How many turns it was given.
        turns: usize,
        /// What stopped it, or its own reason.
        reason: Degraded,
    },
    /// Another number of rewards than turns.
    #[error("reward `{reward}`: expected {expected} rewards, one for each turn, got {got}")]
    Length {
        /// The reward.
        reward: String,
        /// Turns.
        expected: usize,
        /// Rewards.
        got: usize,
    },
    /// A reward that is no number.
    #[error("reward `{reward}`: turn {turn}: expected a finite number, got {got}")]
    NotFinite {
        /// The reward.
        reward: String,
        /// 0-based place of the turn.
        turn: usize,
        /// NaN or an infinity.
        got: f32,
    },
}

impl Host {
    /// Loads the reward in a file: under the name and the rules of the manifest beside it ([`Manifest::beside`]), or,
    /// without one, under the file's name without its ending.
    pub fn load_reward_file(&self, path: &Path) -> Result<Arc<Reward>, LoadError> {
        let (name, bytes) = read_component(path)?;
        match Manifest::beside(path)? {
            Some(manifest) => self.load_reward_with(&bytes, manifest),
            None => self.load_reward(&name, &bytes),
        }
    }

    /// Loads a reward under its manifest: name, limits and defaults are the manifest's.
    pub fn load_reward_with(&self, bytes: &[u8], manifest: Manifest) -> Result<Arc<Reward>, LoadError> {
        manifest.expect_world(World::Reward)?;
        let name = manifest.name().to_owned();
        self.load_any_reward(&name, bytes, Some(manifest))
    }

    /// Loads a reward. Nothing is compiled before the whole of it is checked; a strategy is refused.
    pub fn load_reward(&self, name: &str, bytes: &[u8]) -> Result<Arc<Reward>, LoadError> {
        self.load_any_reward(name, bytes, None)
    }

    fn load_any_reward(
        &self,
        name: &str,
        bytes: &[u8],
        manifest: Option<Manifest>,
    ) -> Result<Arc<Reward>, LoadError> {
        let prepared = self.prepare(name, bytes, World::Reward, None, None)?;
        let pre =
            self.reward_linker().instantiate_pre(&prepared.component).and_then(RewardPre::new).map_err(
                |error| LoadError::Contract { name: name.to_owned(), message: format!("{error:#}") },
            )?;
        let guest = pre.clone();
        let limits = manifest.as_ref().map_or_else(describe_limits, |own| own.limits(&describe_limits()));
        let described = self.describe(name, prepared.class, limits, move |store| {
            Box::pin(async move {
                let reward = guest.instantiate_async(&mut *store).await?;
                reward.call_describe(store).await
            })
        })?;
        let description = match &manifest {
            Some(manifest) => manifest.describe(described)?,
            None => described,
        };
        let (component, class, from_cache) = (prepared.sha256, prepared.class, prepared.from_cache);
        let version = version(&component, manifest.as_ref());
        let name = name.to_owned();
        Ok(Arc::new(Reward { name, description, component, pre, version, manifest, class, from_cache }))
    }

    /// One reward for each turn. The same turns and options give the same rewards for the same fuel.
    ///
    /// Has to run inside a tokio runtime with its clock enabled. Of `limits`, those of fuel, memory, tables, log, bytes
    /// and time count. An empty list of turns is scored too: options are checked by the reward itself.
    pub async fn score(
        &self,
        reward: &Reward,
        turns: &[Observation],
        options: &[(String, String)],
        limits: &Limits,
    ) -> Result<Scores, ScoreError> {
        let stopped =
            |reason| ScoreError::Stopped { reward: reward.name.clone(), turns: turns.len(), reason };
        let mut settings: Vec<Setting> =
            options.iter().cloned().map(|(name, value)| Setting { name, value }).collect();
        for (name, value) in reward.manifest.iter().flat_map(Manifest::parameters) {
            if !settings.iter().any(|given| given.name == name) {
                settings.push(Setting { name: name.to_owned(), value: value.to_owned() });
            }
        }
        let limits = reward.manifest.as_ref().map_or_else(|| limits.clone(), |own| own.limits(limits));
        let observations = turns.to_vec();
        let pre = reward.pre.clone();
        let called = self.call_bounded(reward.class, limits, move |store| {
            Box::pin(async move {
                let guest = pre.instantiate_async(&mut *store).await?;
                guest.call_score(store, &observations, &settings).await
            })
        });
        let called = called.await.map_err(stopped)?;
        let rewards =
            called.value.map_err(|error| stopped(Degraded::new(DegradedKind::Failed, error_text(&error))))?;
        if rewards.len() != turns.len() {
            let (expected, got) = (turns.len(), rewards.len());
            return Err(ScoreError::Length { reward: reward.name.clone(), expected, got });
        }
        if let Some((turn, got)) = rewards.iter().copied().enumerate().find(|(_, reward)| !reward.is_finite())
        {
            return Err(ScoreError::NotFinite { reward: reward.name.clone(), turn, got });
        }
        Ok(Scores { rewards, fuel: called.fuel, peak_memory_bytes: called.peak_memory_bytes })
    }

    /// [`Host::score`] from a thread that may wait.
    pub fn score_blocking(
        &self,
        reward: &Reward,
        turns: &[Observation],
        options: &[(String, String)],
        limits: &Limits,
    ) -> Result<Scores, ScoreError> {
        self.block_on(self.score(reward, turns, options, limits))
    }
}

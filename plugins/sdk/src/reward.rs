//! The seam of a reward: [`Reward`], which it implements. It calls nothing, so tests need no host.
//!
//! Neighbours: `guest.rs` does the same for strategies; `plugins/reward` is the standard one.

use crate::guest::report_panics;
use crate::reward_bindings::{Guest, Observation};
use crate::{Description, Error, Setting};

/// A reward for the turns of a trajectory, used in training: says what it is, and scores.
pub trait Reward {
    /// Name, one line of help, parameters. Called when the component is loaded; must not depend on anything.
    fn describe() -> Description;

    /// One finite reward for each turn, in order; higher is better. `options` are values of the reward's own
    /// parameters; those not named keep their defaults. The same arguments must give the same rewards.
    ///
    /// # Errors
    /// Any [`Error`]; nothing is scored then.
    fn score(turns: &[Observation], options: &[Setting]) -> Result<Vec<f32>, Error>;
}

/// The world's exports, answered by a [`Reward`].
#[doc(hidden)]
#[derive(Debug)]
pub struct RewardAdapter<R>(std::marker::PhantomData<R>);

impl<R: Reward> Guest for RewardAdapter<R> {
    fn describe() -> Description {
        report_panics();
        R::describe()
    }

    fn score(turns: Vec<Observation>, options: Vec<Setting>) -> Result<Vec<f32>, Error> {
        report_panics();
        R::score(&turns, &options)
    }
}

impl Observation {
    /// A turn whose best document has this cosine, and whose best target stands at this 1-based rank of a corpus.
    pub fn new(cosine: f32, rank: u64, corpus_size: u64) -> Self {
        Self { cosine, rank, corpus_size, options: Vec::new() }
    }
}

/// Makes the crate a reward component: `orion_sdk::export_reward!(MyReward);`, once, at the top level of a `cdylib`.
///
/// Outside `wasm32` it expands to nothing, so that the crate compiles and tests natively.
#[macro_export]
macro_rules! export_reward {
    ($reward:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::RewardAdapter<$reward>;
    $crate::reward_bindings::export_reward_world!(Component with_types_in $crate::reward_bindings);
        };
    };
}

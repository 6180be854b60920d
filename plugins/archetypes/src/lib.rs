//! The ten search behaviours of the paper's Table 6 ("Think Before You Retrieve", appendix B.2), and an eleventh.
//!
//! All of them walk a graph of reformulations: a step is one query, what it retrieved, and how good that was; every
//! step can spawn others. `walk.rs` is that core, one small file for each archetype says where to go next and why, in
//! words. The same code serves searches, where quality is self-assessed, and makes trajectories to train on, where it
//! is judged; it cannot tell which. Queries come from the policy, or, where there is none, from `rules.rs`.
//!
//! A trajectory is the chosen branches in order of their numbers; `parent` says which query each one reformulates.
//! Pruned branches were tried for comparison only.
//!
//! Where this fills what the paper leaves open (its table gives a sentence and an example for each):
//! 1. A step is proposed from the state of the query that it reformulates, so turning back also forgets the wrong turn;
//!    the trace keeps it, and the thought says what happened.
//! 2. What a policy proposes and what an archetype's own rule needs may not meet (a policy need not offer a refinement);
//!    the archetype then writes the query itself, and its thought is what the policy reads before it.
//! 3. The answer is a fused ranking of the user's own query and of all steps that were not pruned, by quality.
//! 4. Thresholds are ours; each says why beside its line.

mod adaptive_context;
mod best_first;
mod breadth_first;
mod depth_first;
mod early_success;
mod exploitation;
mod hill_climber;
mod multi_beam;
mod offers;
mod pseudo_document;
mod random_walk;
mod rules;
mod settings;
mod terms;
mod walk;
mod wrong_direction;

use orion_sdk::{Description, Error, Host, Outcome, Request, Strategy};

/// Each archetype: its type, its file, its name, its line of help.
macro_rules! archetypes {
    ($($(#[$comment:meta])* $archetype:ident, $file:ident, $name:literal, $help:literal;)*) => {$(
        $(#[$comment])*
        #[derive(Debug)]
        pub struct $archetype;

        impl Strategy for $archetype {
            fn describe() -> Description {
                Description::new($name, $help, settings::describe($file::parameters()))
            }

            fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
                walk::search(host, request, |walk| $file::run(walk))
            }
        }
    )*};
}

archetypes! {
    /// Learns from results and adds words of retrieved documents.
    AdaptiveContextLearner, adaptive_context, "adaptive-context-learner",
        "archetype: learns from results and adds their words to the query";
    /// Goes wherever chance leads, whatever the last results were worth.
    RandomWalkWanderer, random_walk, "random-walk-wanderer",
        "archetype: explores in random directions without a plan";
    /// Covers all siblings before it goes deeper into each.
    BreadthFirstExplorer, breadth_first, "breadth-first-explorer",
        "archetype: covers all related topics before it goes deeper into each";
    /// Goes deep in one direction until nothing new comes, then backtracks.
    DepthFirstDriller, depth_first, "depth-first-driller",
        "archetype: goes deep in one direction until it is exhausted, then backtracks";
    /// Notices falling quality, says why, and turns.
    WrongDirectionSpecialist, wrong_direction, "wrong-direction-specialist",
        "archetype: notices that results get worse, says why, and turns";
    /// Recognises an early success, stays with it, and stops when it is confirmed.
    EarlySuccessValidator, early_success, "early-success-validator",
        "archetype: recognises good results early, confirms them, and stops";
    /// Refines the best query again and again.
    ExploitationHeavyValidator, exploitation, "exploitation-heavy-validator",
        "archetype: keeps refining the best query and tries nothing else";
    /// Tries several variants and takes the best, as long as it is an improvement.
    GreedyHillClimber, hill_climber, "greedy-hill-climber",
        "archetype: tests several variants and takes the biggest improvement";
    /// Keeps several hypotheses open and pursues the most promising one.
    BestFirstHypothesisSelector, best_first, "best-first-hypothesis-selector",
        "archetype: keeps several hypotheses and pursues the most promising";
    /// Several lines of search side by side.
    MultiBeamParallel, multi_beam, "multi-beam-parallel",
        "archetype: runs several different lines of search at the same time";
    /// Writes what an answer might look like and searches for that.
    PseudoDocument, pseudo_document, "pseudo-document",
        "archetype: writes what an answer might look like and searches for that";
}

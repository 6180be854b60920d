//! The component side of the seams: [`Imports`] calls the contract, [`Adapter`] turns a [`Strategy`] into the world's
//! exports, and a panic hook sends the message to the host's log before the trap swallows it.
//!
//! Everything compiles natively as well, so that lints and types are checked there; it runs only in wasm.

use crate::bindings::orion::search::{budget, feedback, log, policy, retrieval, trace};
use crate::bindings::{Guest, Outcome, Request};
use crate::{
    Candidate, Description, Document, Error, Event, Hit, Host, JudgedText, Level, Node, Query, Remaining,
    Sampling, Segment, Strategy, Turn,
};

/// The contract's imports as a [`Host`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Imports;

impl Host for Imports {
    fn search(&mut self, queries: &[Query]) -> Result<Vec<Vec<Hit>>, Error> {
        retrieval::search(queries)
    }
    fn documents(&mut self, ids: &[String], max_chars: u32) -> Result<Vec<Option<Document>>, Error> {
        retrieval::documents(ids, max_chars)
    }
    fn similarity(&mut self, pairs: &[(String, String)]) -> Result<Vec<f32>, Error> {
        retrieval::similarity(pairs)
    }
    fn extend(&mut self, steps: &[(Option<Node>, Vec<Segment>)]) -> Result<Vec<Node>, Error> {
        policy::extend(steps)
    }
    fn propose(&mut self, nodes: &[Node], sampling: &Sampling) -> Result<Vec<Vec<Candidate>>, Error> {
        policy::propose(nodes, sampling)
    }
    fn perplexity(&mut self, requests: &[(Node, Vec<String>)]) -> Result<Vec<Vec<JudgedText>>, Error> {
        policy::perplexity(requests)
    }
    fn quality(&mut self, turns: &[Turn]) -> Result<Vec<f32>, Error> {
        feedback::quality(turns)
    }
    fn budget(&mut self) -> Remaining {
        budget::left()
    }
    fn trace(&mut self, events: &[Event]) {
        trace::emit(events);
    }
    fn log(&mut self, level: Level, message: &str) {
        log::write(level, message);
    }
}

/// The world's exports, answered by a [`Strategy`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Adapter<S>(std::marker::PhantomData<S>);

impl<S: Strategy> Guest for Adapter<S> {
    fn describe() -> Description {
        report_panics();
        S::describe()
    }

    fn search(request: Request) -> Result<Outcome, Error> {
        report_panics();
        S::search(&mut Imports, &request)
    }
}

/// Sends panic messages to the host's log; the instance is gone right afterwards.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|information| {
        log::write(Level::Error, &format!("the plugin panicked: {information}"));
    }));
}

/// Makes the crate a component: `orion_sdk::export!(MyStrategy);`, once, at the top level of a `cdylib`.
///
/// Outside `wasm32` it expands to nothing, so that the crate compiles and tests natively.
#[macro_export]
macro_rules! export {
    ($strategy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::Adapter<$strategy>;
    $crate::bindings::export_strategy_world!(Component with_types_in $crate::bindings);
        };
    };
}

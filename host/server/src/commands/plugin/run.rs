//! `orion plugin run`: search an index with a component file.

use orion_host::Request;

use crate::{
    Verdict,
    args::PluginRunArgs,
    commands::{
        Session,
        search::{Showing, search},
    },
    engine::Engine,
    failure::Failure,
    meant::{PolicyChoice, strategy_options},
};

pub(super) fn run(args: &PluginRunArgs, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &args.strategy_args.plugin)?;
    let strategy = super::load(&engine, &args.file, session)?;
    let policy = PolicyChoice::parse(&args.strategy_args.policy)?;
    let request = Request {
        query: args.query.clone(),
        k: args.k,
        filter: None,
        seed: args.seed,
        options: strategy_options(&args.strategy_args)?,
    };
    let showing = Showing::new(args.trace.as_ref(), Some(&args.file));
    search(&engine, session, &args.index, &strategy, &policy, request, &args.budget, &showing)
}

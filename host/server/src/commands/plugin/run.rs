//! `orion plugin run`: search an index, or the bundled corpus, with a component file.

use orion_host::Request;

use crate::{
    Verdict,
    args::PluginRunArgs,
    commands::{
        Session,
        search::{Collection, Showing, search},
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
    let collection = args.index.as_ref().map_or(Collection::Bundled, Collection::Named);
    search(&engine, session, collection, &strategy, &policy, request, &args.budget, &showing)
}

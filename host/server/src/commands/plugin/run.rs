//! `orion plugin run`: search an index, or the bundled corpus, with a component file or a folder's draft.

use orion_host::{Request, contract::World};

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
    let root = super::source_root(&args.file);
    let engine = Engine::for_author(session, &args.strategy_args.plugin, root)?;
    let query = match (super::world_of(&args.file)?, &args.query, &args.scenario) {
        (World::Reward, _, Some(scenario)) => {
            return super::rewards::run(&engine, &args.file, scenario, session);
        }
        (World::Strategy, Some(query), None) => query,
        (world, ..) => {
            let wanted = if world == World::Reward { "--scenario FILE" } else { "--query TEXT" };
            return Err(Failure::new(format!(
                "running the {world} in `{}`: expected {wanted}",
                args.file.display()
            ))
            .hint("a strategy answers a query, a reward scores the turns of a scenario file"));
        }
    };
    let recorded = args.trace.iter().flatten().next();
    if let (true, Some(trace)) = (args.file.is_dir(), recorded) {
        return Err(Failure::new(format!(
            "recording a search with the draft of `{}` in `{}`: a draft cannot be replayed",
            args.file.display(),
            trace.display()
        ))
        .hint("build it with `orion plugin build`, then name the component instead of the folder"));
    }
    let strategy = if args.file.is_dir() {
        super::load_draft(&engine, &args.file, session)?
    } else {
        super::load(&engine, &args.file, session)?
    };
    let policy = PolicyChoice::parse(&args.strategy_args.policy)?;
    let request = Request {
        query: query.clone(),
        k: args.k,
        filter: None,
        seed: args.seed,
        options: strategy_options(&args.strategy_args)?,
    };
    let showing = Showing::new(args.trace.as_ref(), Some(&args.file));
    let collection = args.index.as_ref().map_or(Collection::Bundled, Collection::Named);
    search(&engine, session, collection, &strategy, &policy, request, &args.budget, &showing)
}

//! `orion plugin new`: a folder to begin with.

use std::path::Path;

use orion_host::contract::World;

use crate::{
    Verdict, args::PluginNewArgs, authoring::scaffold::write_folder, commands::Session, failure::Failure,
    terminal::Ink,
};

pub(super) fn run(args: &PluginNewArgs, session: &Session) -> Result<Verdict, Failure> {
    let (name, language) = (&args.name, args.lang.language());
    write_folder(Path::new(name), name, language, args.world.world())?;
    let terminal = &session.terminal;
    if terminal.json {
        terminal.print_json(&serde_json::json!({
            "folder": name, "language": language.name(), "world": args.world.world().name(),
        }))?;
        return Ok(Verdict::Answered);
    }
    let source = args.lang.source();
    let (world, run) = match args.world.world() {
        World::Strategy => ("strategy", "--query \"some words\" --trace"),
        World::Reward => ("reward", "--scenario tests/ranks.toml"),
    };
    terminal.print(&format!(
        "{} is a {world} that works; {name}/{source} is where to change it\n\n  \
         cd {name}\n  orion plugin test\n  orion plugin run . {run}\n  orion plugin build\n",
        terminal.ink(Ink::Strong, name),
    ))?;
    Ok(Verdict::Answered)
}

//! `orion plugin build`: a component from a plugin's folder.

use crate::{
    Verdict, args::PluginBuildArgs, authoring::build::build, commands::Session, failure::Failure,
    terminal::grouped,
};

pub(super) fn run(args: &PluginBuildArgs, session: &Session) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    let built = build(&args.folder, session.places.toolchains(), terminal)?;
    let path = built.component.display().to_string();
    if terminal.json {
        terminal.print_json(&serde_json::json!({
            "component": path, "bytes": built.bytes, "language": built.language.name(),
        }))?;
    } else {
        terminal.print(&format!("{path}  {} bytes\n", grouped(built.bytes)))?;
    }
    Ok(Verdict::Answered)
}

//! `orion plugin new`: a folder to begin with.

use std::path::Path;

use crate::{
    Verdict, args::PluginNewArgs, authoring::scaffold::write_folder, commands::Session, failure::Failure,
    terminal::Ink,
};

pub(super) fn run(args: &PluginNewArgs, session: &Session) -> Result<Verdict, Failure> {
    let (name, language) = (&args.name, args.lang.language());
    write_folder(Path::new(name), name, language)?;
    let terminal = &session.terminal;
    if terminal.json {
        terminal.print_json(&serde_json::json!({ "folder": name, "language": language.name() }))?;
        return Ok(Verdict::Answered);
    }
    let source = args.lang.source();
    terminal.print(&format!(
        "{} is a strategy that works; {name}/{source} is where to change it\n\n  \
         cd {name}\n  orion plugin test\n  \
         orion plugin run {name}.wasm --query \"some words\" --trace\n",
        terminal.ink(Ink::Strong, name),
    ))?;
    Ok(Verdict::Answered)
}

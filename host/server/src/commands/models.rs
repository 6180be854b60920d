//! `orion models fetch | list | path`.

use super::Session;
use crate::{Verdict, args::ModelsCommand, failure::Failure, minilm, places::Places};

pub(super) fn run(command: &ModelsCommand, session: &Session) -> Result<Verdict, Failure> {
    let (places, terminal) = (&session.places, &session.terminal);
    match command {
        ModelsCommand::Fetch { from, .. } => {
            let folder = minilm::fetch(places.models(), from.as_deref(), terminal)?;
            terminal.say("all-MiniLM-L6-v2 is there and is the pinned one");
            print_folder(&folder, session)
        }
        ModelsCommand::List => {
            let (folder, present) = (places.minilm(), minilm::is_present(&places.minilm()));
            if terminal.json {
                terminal.print_json(&serde_json::json!([
                    { "name": "minilm", "model": minilm::FOLDER, "present": present, "folder": folder }
                ]))?;
            } else {
                let state = if present { "present" } else { "missing" };
                terminal.print(&format!("minilm  {}  {state}  {}\n", minilm::FOLDER, folder.display()))?;
            }
            Ok(Verdict::Answered)
        }
        ModelsCommand::Path { .. } => {
            let folder = places.minilm();
            if !minilm::is_present(&folder) {
                terminal.say(&format!(
                    "all-MiniLM-L6-v2 is not in `{}`; {}",
                    folder.display(),
                    Places::models_hint()
                ));
                return Ok(Verdict::NoAnswer);
            }
            print_folder(&folder, session)
        }
    }
}

fn print_folder(folder: &std::path::Path, session: &Session) -> Result<Verdict, Failure> {
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "name": "minilm", "folder": folder }))?;
    } else {
        session.terminal.print(&format!("{}\n", folder.display()))?;
    }
    Ok(Verdict::Answered)
}

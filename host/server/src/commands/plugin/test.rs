//! `orion plugin test`: a plugin's scenarios, one line each, and a diff for each expectation that did not come true.

use std::path::{Path, PathBuf};

use orion_host::{
    TraceFile,
    contract::World,
    scripted::{Checked, Difference, Scenario},
};
use similar::{ChangeTag, TextDiff};

use super::{folder, load, load_draft, update};
use crate::{
    Verdict,
    args::PluginTestArgs,
    authoring::build::{MANIFEST, build, read_manifest},
    commands::Session,
    engine::Engine,
    failure::{Explain, Failure},
    terminal::{Ink, Terminal, fitted},
    tree::counted,
};

/// Equal lines that a diff shows around those that differ.
const CONTEXT: usize = 3;

/// One scenario and how it went.
struct Tested {
    scenario: Scenario,
    checked: Checked,
    is_written: bool,
}

impl Tested {
    fn holds(&self) -> bool {
        self.is_written && self.checked.differences.is_empty() || self.checked.holds()
    }
}

pub(super) fn run(args: &PluginTestArgs, session: &Session) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    if super::world_of(args.component.as_deref().unwrap_or(&args.folder))? == World::Reward {
        return super::rewards::test(args, session);
    }
    let scenarios =
        chosen(folder::scenarios(&args.folder, Scenario::read)?, &args.only, |scenario| &scenario.name)?;
    let engine = Engine::for_author(session, &[], &args.folder)?;
    let component = match &args.component {
        Some(file) => Some(file.clone()),
        // A recording is of a component that can be replayed.
        None if args.built || args.traces.is_some() || !is_buildable(&args.folder)? => {
            Some(own_component(&args.folder, session)?)
        }
        None => None,
    };
    let strategy = match &component {
        Some(file) => load(&engine, file, session)?,
        None => load_draft(&engine, &args.folder, session)?,
    };
    let mut tested = Vec::with_capacity(scenarios.len());
    for (path, scenario) in scenarios {
        let checked =
            scenario.run(engine.host(), &strategy).attempt(format!("running `{}`", path.display()))?;
        if let Some(place) = &args.traces {
            std::fs::create_dir_all(place).attempt(format!("creating `{}`", place.display()))?;
            let (outcome, recording) = (checked.outcome.clone(), checked.recording.clone());
            TraceFile::new(&strategy, component.as_deref(), outcome, recording)
                .write(&place.join(format!("{}.trace.json", scenario.name)))
                .attempt("recording the search")?;
        }
        let is_written = args.update && update::write(&path, &scenario.scripts.expect, &checked.actual)?;
        tested.push(Tested { scenario, checked, is_written });
    }
    if terminal.json {
        let list: Vec<serde_json::Value> = tested.iter().map(to_json).collect();
        terminal.print_json(&list)?;
    } else {
        terminal.print(&to_text(&tested, terminal))?;
    }
    Ok(if tested.iter().all(Tested::holds) { Verdict::Answered } else { Verdict::NoAnswer })
}

/// The scenarios of these names; all, without names.
pub(super) fn chosen<T>(
    scenarios: Vec<(PathBuf, T)>,
    only: &[String],
    name: impl Fn(&T) -> &str,
) -> Result<Vec<(PathBuf, T)>, Failure> {
    if let Some(unknown) =
        only.iter().find(|wanted| scenarios.iter().all(|(_, known)| name(known) != **wanted))
    {
        let names: Vec<&str> = scenarios.iter().map(|(_, scenario)| name(scenario)).collect();
        return Err(Failure::new(format!("choosing scenario `{unknown}`: there is none of that name"))
            .hint(format!("there are {}", names.join(", "))));
    }
    let is_chosen = |scenario: &T| only.is_empty() || only.iter().any(|wanted| wanted == name(scenario));
    Ok(scenarios.into_iter().filter(|(_, scenario)| is_chosen(scenario)).collect())
}

/// The folder's component, built anew where a source is newer and the manifest says from which language.
pub(super) fn own_component(place: &Path, session: &Session) -> Result<PathBuf, Failure> {
    let component = folder::component(place)?;
    let newer = folder::newer_source(place, &component);
    if is_buildable(place)? && (newer.is_some() || !component.is_file()) {
        build(place, session.places.toolchains(), &session.terminal)?;
    } else if !component.is_file() {
        return Err(Failure::new(format!("testing `{}`: it is not built yet", component.display()))
            .hint("`orion plugin build` builds it, where `[build]` in plugin.toml gives the language"));
    } else if let Some(source) = newer {
        session.terminal.warn(&format!(
            "`{}` changed after `{}` was built; this tests the old one",
            source.display(),
            component.display()
        ));
    }
    Ok(component)
}

/// Whether a folder's manifest says how its component is made.
pub(super) fn is_buildable(place: &Path) -> Result<bool, Failure> {
    Ok(place.join(MANIFEST).is_file() && read_manifest(place)?.language().is_some())
}

fn to_json(tested: &Tested) -> serde_json::Value {
    let checked = &tested.checked;
    serde_json::json!({
        "scenario": tested.scenario.name,
        "about": tested.scenario.scripts.about,
        "holds": tested.holds(),
        "differences": checked.differences,
        "not_written": if tested.is_written { &[][..] } else { &checked.marked[..] },
        "written": tested.is_written,
        "degraded": checked.outcome.degraded,
        "failure": checked.outcome.failure,
        "cost": checked.outcome.cost,
    })
}

fn to_text(tested: &[Tested], terminal: &Terminal) -> String {
    let mut text = String::new();
    for one in tested {
        push(&mut text, one, terminal);
    }
    let failed = tested.iter().filter(|one| !one.holds()).count();
    push_summary(&mut text, tested.len(), failed, terminal);
    text
}

fn push(text: &mut String, tested: &Tested, terminal: &Terminal) {
    let checked = &tested.checked;
    push_verdict(
        text,
        &tested.scenario.name,
        &tested.scenario.scripts.about,
        tested.holds(),
        tested.is_written,
        terminal,
    );
    for difference in &checked.differences {
        push_difference(text, difference, terminal);
    }
    if !tested.is_written {
        for field in &checked.marked {
            text.push_str(&format!("     {field} is not written yet: --update writes it\n"));
        }
    }
    if let Some(failure) = checked.outcome.failure.as_ref().filter(|_| !tested.holds()) {
        for failure_line in failure.to_string().lines() {
            text.push_str(&format!("     {}\n", terminal.ink(Ink::Bad, failure_line)));
        }
    }
}

/// One scenario's line.
pub(super) fn push_verdict(
    text: &mut String,
    name: &str,
    about: &str,
    holds: bool,
    is_written: bool,
    terminal: &Terminal,
) {
    let (word, ink) = match (holds, is_written) {
        (true, false) => ("ok  ", Ink::Good),
        (true, true) => ("new ", Ink::Good),
        (false, _) => ("FAIL", Ink::Bad),
    };
    let room = terminal.width().saturating_sub(name.chars().count() + 8);
    let line =
        format!("{} {name}  {}", terminal.ink(ink, word), terminal.ink(Ink::Faint, &fitted(about, room)));
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The last line.
pub(super) fn push_summary(text: &mut String, scenarios: usize, failed: usize, terminal: &Terminal) {
    let verdict = match failed {
        0 => terminal.ink(Ink::Good, "all hold"),
        _ => terminal.ink(Ink::Bad, &format!("{failed} failed")),
    };
    text.push_str(&format!("{}: {verdict}\n", counted(scenarios, "scenario", "scenarios")));
}

/// What was expected (`-`) and what came (`+`), with a few equal lines around.
pub(super) fn push_difference(text: &mut String, difference: &Difference, terminal: &Terminal) {
    let heading = format!("{} (- expected, + came)", difference.what);
    text.push_str(&format!("     {}\n", terminal.ink(Ink::Strong, &heading)));
    let expected: Vec<&str> = difference.expected.iter().map(String::as_str).collect();
    let actual: Vec<&str> = difference.actual.iter().map(String::as_str).collect();
    let diff = TextDiff::from_slices(&expected, &actual);
    for (position, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if position > 0 {
            text.push_str("       …\n");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, ink) = match change.tag() {
                ChangeTag::Delete => ('-', Some(Ink::Bad)),
                ChangeTag::Insert => ('+', Some(Ink::Good)),
                ChangeTag::Equal => (' ', None),
            };
            // Guests and documents write these lines: one line each, nothing that a terminal would obey.
            let shown = harmless(change.value());
            let line = format!("{sign} {shown}");
            let painted = ink.map_or_else(|| line.clone(), |ink| terminal.ink(ink, &line));
            text.push_str(&format!("     {}\n", painted.trim_end()));
        }
    }
}

fn harmless(line: &str) -> String {
    let indent: String = line.chars().take_while(|character| *character == ' ').collect();
    format!("{indent}{}", fitted(line, 400))
}

//! `orion plugin list` and `orion plugin watch`: what the plugin directory holds, and what changes in it.

use std::time::Duration;

use orion_host::{Change, Plugin, PluginDirectory, Plugins};

use crate::{
    Verdict,
    args::PluginWatchArgs,
    commands::Session,
    engine::Engine,
    failure::{Explain, Failure},
    terminal::Ink,
};

/// Digits of a version that people are shown.
const SHOWN_DIGITS: usize = 12;

pub(super) fn run(session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let directory = engine.directory()?.ok_or_else(no_directory)?;
    let plugins = directory.current();
    if session.terminal.json {
        let list: Vec<serde_json::Value> =
            plugins.iter().map(|(name, plugin)| to_json(name, plugin)).collect();
        session.terminal.print_json(&list)?;
    } else {
        session.terminal.print(&to_text(&plugins, session))?;
    }
    Ok(if plugins.is_empty() { Verdict::NoAnswer } else { Verdict::Answered })
}

/// Looks again and again and prints every change: a line each, or an object a line with `--json`.
pub(super) fn watch(args: &PluginWatchArgs, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let options = session.plugins.clone().ok_or_else(no_directory)?;
    let attempted = format!("looking at `{}`", options.folder.display());
    let directory = PluginDirectory::new(options);
    let mut look = 0;
    loop {
        for change in directory.refresh(engine.host()).attempt(attempted.clone())? {
            let line = if session.terminal.json {
                serde_json::to_string(&change).attempt("writing JSON")?
            } else {
                say(&change)
            };
            session.terminal.print(&format!("{line}\n"))?;
        }
        look += 1;
        if args.looks.is_some_and(|looks| looks <= look) {
            return Ok(Verdict::Answered);
        }
        std::thread::sleep(Duration::from_millis(args.pause_ms));
    }
}

/// What to do without a plugin directory.
pub(super) fn no_directory() -> Failure {
    Failure::new("looking for plugins: there is no plugin directory").hint(
        "--plugins FOLDER or ORION_PLUGINS_DIR names one; so does a folder `plugins` in the data folder",
    )
}

fn say(change: &Change) -> String {
    match change {
        Change::Loaded { name, version } => format!("loaded    {name} {}", short(version)),
        Change::Replaced { name, from, to } => {
            format!("replaced  {name} {} by {}", short(from), short(to))
        }
        Change::Refused { name, reason, serving } => {
            let serving = serving.as_deref().map_or("nothing", short);
            format!("refused   {name} ({serving} serves): {reason}")
        }
        Change::Retired { name } => format!("retired   {name}"),
        _ => String::new(),
    }
}

fn short(version: &str) -> &str {
    version.get(..SHOWN_DIGITS).unwrap_or(version)
}

/// How a plugin stands, in a few words.
fn state(name: &str, plugin: &Plugin) -> &'static str {
    match (&plugin.strategy, &plugin.refusal) {
        (None, None) if plugin.reward.is_some() => "a reward",
        (None, Some(_)) if plugin.reward.is_some() => "a reward, old version",
        (None, _) => "refused",
        (Some(_), Some(_)) => "old version",
        (Some(_), None) if orion_bundle::component(name).is_some() => "in place of the standard one",
        (Some(_), None) => "serves",
    }
}

fn to_json(name: &str, plugin: &Plugin) -> serde_json::Value {
    let strategy = plugin.strategy.as_deref();
    let reward = plugin.reward.as_deref();
    let component = strategy.map(|strategy| strategy.component_sha256());
    let manifest = plugin.served_manifest();
    serde_json::json!({
        "name": name,
        "state": state(name, plugin),
        "manifest": plugin.manifest,
        "world": manifest.map(|manifest| manifest.world().name()),
        "version": plugin.version(),
        "component_sha256": component.or_else(|| reward.map(|reward| reward.component_sha256())),
        "grants": manifest.map(|manifest| manifest.grants().names()),
        "signer": plugin.signer.as_ref().map(|signer| &signer.name),
        "refused": plugin.refusal.as_ref().map(|refusal| refusal.to_string()),
        "statistics": strategy.map(|strategy| strategy.statistics()),
    })
}

fn to_text(plugins: &Plugins, session: &Session) -> String {
    let terminal = &session.terminal;
    let mut text = String::new();
    for (name, plugin) in plugins {
        let version = plugin.version().map_or("", short);
        text.push_str(&format!("{}  {}  {version}\n", terminal.ink(Ink::Strong, name), state(name, plugin)));
        if let Some(manifest) = plugin.served_manifest().filter(|_| plugin.strategy.is_some()) {
            let grants = manifest.grants().names();
            let granted = if grants.is_empty() { "nothing".to_owned() } else { grants.join(", ") };
            text.push_str(&format!("  granted {granted}\n"));
        }
        if let Some(signer) = &plugin.signer {
            text.push_str(&format!("  signed by {} ({})\n", signer.name, signer.key));
        }
        if let Some(refusal) = &plugin.refusal {
            text.push_str(&format!("  {}\n", terminal.ink(Ink::Bad, &format!("refused: {refusal}"))));
        }
    }
    text
}

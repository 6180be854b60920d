//! `orion strategies`: what there is, as the strategies say it themselves.

use orion_host::{Strategy, contract::Kind};

use super::Session;
use crate::{
    Verdict,
    engine::Engine,
    failure::Failure,
    terminal::{Ink, columns, wrapped},
};

pub(super) fn run(name: Option<&str>, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => engine.strategy_names()?,
    };
    let strategies = names.iter().map(|name| engine.strategy(name)).collect::<Result<Vec<_>, _>>()?;
    if session.terminal.json {
        let list: Vec<serde_json::Value> = strategies.iter().map(|strategy| to_json(strategy)).collect();
        session.terminal.print_json(&list)?;
        return Ok(Verdict::Answered);
    }
    let mut text = String::new();
    for strategy in &strategies {
        push(&mut text, strategy, session);
    }
    session.terminal.print(&text)?;
    Ok(Verdict::Answered)
}

/// A parameter's kind as people read it.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Text => "text",
    }
}

/// A strategy as programs read it.
pub(crate) fn to_json(strategy: &Strategy) -> serde_json::Value {
    let description = strategy.description();
    let parameters: Vec<serde_json::Value> = description
        .parameters
        .iter()
        .map(|p| {
            serde_json::json!({ "name": p.name, "kind": kind_name(p.kind), "default": p.default, "help": p.help })
        })
        .collect();
    serde_json::json!({
        "name": description.name,
        "help": description.help,
        "parameters": parameters,
        "component_sha256": strategy.component_sha256(),
        "version": strategy.version(),
        "manifest": strategy.manifest().map(orion_host::Manifest::path),
    })
}

fn push(text: &mut String, strategy: &Strategy, session: &Session) {
    let terminal = &session.terminal;
    let description = strategy.description();
    text.push_str(&format!("{}  {}\n", terminal.ink(Ink::Strong, &description.name), description.help));
    let shown: Vec<(String, &str)> = description
        .parameters
        .iter()
        .map(|p| {
            let default = if p.default.is_empty() { "\"\"" } else { &p.default };
            (format!("{} <{}> = {default}", p.name, kind_name(p.kind)), p.help.as_str())
        })
        .collect();
    let widest = shown.iter().map(|(left, _)| columns(left)).max().unwrap_or(0).min(40);
    for (left, help) in shown {
        let room = terminal.width().saturating_sub(widest + 4).max(30);
        for (position, line) in wrapped(help, room).iter().enumerate() {
            let label = if position == 0 { left.as_str() } else { "" };
            let padding = " ".repeat(widest.saturating_sub(columns(label)));
            text.push_str(&format!("  {}{padding}  {line}\n", terminal.ink(Ink::Quoted, label)));
        }
    }
    text.push('\n');
}

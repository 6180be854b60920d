//! `orion plugin check`: a component's imports, exports and parameters, and why a host would refuse it.

use orion_host::{GuestClass, Host, HostOptions, ImportRefusal};
use serde_json::json;

use crate::{
    Verdict,
    args::PluginCheckArgs,
    authoring::check::{Report, check, needed_grant},
    commands::{Session, strategies::kind_name},
    failure::{Explain, Failure},
    terminal::{Ink, grouped, wrapped},
};

pub(super) fn run(args: &PluginCheckArgs, session: &Session) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    let report = check(&args.path, || {
        let cache_folder = Some(session.places.component_cache().to_owned());
        Host::new(HostOptions { cache_folder, concurrent_searches: 1, ..HostOptions::default() })
            .attempt("starting the sandbox")
    })?;
    if terminal.json {
        terminal.print_json(&to_json(&report))?;
    } else {
        terminal.print(&to_text(&report, session))?;
    }
    Ok(if report.refusals.is_empty() { Verdict::Answered } else { Verdict::NoAnswer })
}

fn to_text(report: &Report, session: &Session) -> String {
    let terminal = &session.terminal;
    let path = report.component.display().to_string();
    let mut text = format!("{}  {} bytes\n", terminal.ink(Ink::Strong, &path), grouped(report.bytes));
    if let Some(manifest) = &report.manifest {
        let grants = manifest.grants().names().join(", ");
        let grants = if grants.is_empty() { "nothing".to_owned() } else { grants };
        text += &format!(
            "  manifest   {}: contract {}, grants {grants}\n",
            manifest.path().display(),
            manifest.contract()
        );
    }
    if let Some(found) = &report.inspection {
        let mut label = "imports";
        for import in &found.imports {
            text += &format!(
                "  {label:<9}  {}  {}\n",
                import.name,
                standing(report, &import.name, import.refusal)
            );
            label = "";
        }
        text += &format!("  exports    {}: a {}\n", found.exports.join(", "), report.world);
        text += &format!(
            "  inside     {} core instances, {} KiB of memory at the start: a {} guest\n",
            found.core_instances,
            grouped(found.memory_bytes >> 10),
            GuestClass::of(found).name()
        );
    }
    if let Some(description) = &report.description {
        text +=
            &format!("  describes  {}: {}\n", terminal.ink(Ink::Strong, &description.name), description.help);
        for parameter in &description.parameters {
            let default = if parameter.default.is_empty() { "\"\"" } else { &parameter.default };
            let left = format!("{} <{}> = {default}", parameter.name, kind_name(parameter.kind));
            text += &format!("             {}  {}\n", terminal.ink(Ink::Quoted, &left), parameter.help);
        }
    }
    for refusal in &report.refusals {
        text += &format!("\n{} {}\n", terminal.ink(Ink::Bad, "refused:"), refusal.problem);
        for line in wrapped(&refusal.remedy, terminal.width().saturating_sub(4)) {
            text += &format!("    {line}\n");
        }
    }
    if report.refusals.is_empty() {
        text += &format!("  {}\n", terminal.ink(Ink::Good, "a host takes it"));
    }
    text
}

/// Whether an import is there for the component.
fn standing(report: &Report, name: &str, refusal: Option<ImportRefusal>) -> &'static str {
    match (refusal, needed_grant(name), &report.manifest) {
        (Some(_), ..) => "refused",
        (None, Some(grant), Some(manifest)) if !manifest.grants().has(grant) => "not granted",
        (None, Some(_), _) => "granted",
        (None, None, _) => "always there",
    }
}

fn to_json(report: &Report) -> serde_json::Value {
    let imports = report.inspection.iter().flat_map(|found| &found.imports).map(
        |import| json!({ "name": import.name, "standing": standing(report, &import.name, import.refusal) }),
    );
    let refusals = report.refusals.iter().map(|r| json!({ "problem": r.problem, "remedy": r.remedy }));
    json!({
        "component": report.component.display().to_string(),
        "bytes": report.bytes,
        "accepted": report.refusals.is_empty(),
        "manifest": report.manifest.as_ref().map(|manifest| json!({
            "path": manifest.path().display().to_string(),
            "contract": manifest.contract(),
            "grants": manifest.grants().names(),
        })),
        "imports": imports.collect::<Vec<_>>(),
        "world": report.world.name(),
        "exports": report.inspection.as_ref().map(|found| &found.exports),
        "core_instances": report.inspection.as_ref().map(|found| found.core_instances),
        "class": report.inspection.as_ref().map(|found| GuestClass::of(found).name()),
        "memory_bytes": report.inspection.as_ref().map(|found| found.memory_bytes),
        "description": report.description.as_ref().map(|description| json!({
            "name": description.name,
            "help": description.help,
            "parameters": description.parameters.iter().map(|parameter| json!({
                "name": parameter.name, "kind": kind_name(parameter.kind),
                "default": parameter.default, "help": parameter.help,
            })).collect::<Vec<_>>(),
        })),
        "refusals": refusals.collect::<Vec<_>>(),
    })
}

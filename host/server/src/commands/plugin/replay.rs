//! `orion plugin replay`: a recorded search once more, from its file alone, and whether anything differs.

use std::sync::Arc;

use orion_host::{
    Divergence, MadeCall, RecordedAnswer, Recording, Replayed, Strategy, TraceFile, TraceFileError,
    contract::Document, scripted::Difference,
};

use super::{load, test::push_difference};
use crate::{
    Verdict,
    args::PluginReplayArgs,
    commands::Session,
    engine::Engine,
    failure::{Explain, Failure},
    terminal::{Ink, Terminal},
    tree::{Documents, Shown, counted, draw_ranking, draw_tree},
};

pub(super) fn run(args: &PluginReplayArgs, session: &Session) -> Result<Verdict, Failure> {
    let file = TraceFile::read(&args.file).map_err(|error| {
        let hint = match &error {
            TraceFileError::Truncated { .. } => Some("the file was not written to its end; record again"),
            TraceFileError::Version { .. } => Some("record the search again with this version of Orion"),
            TraceFileError::Format { .. } => {
                Some("`--trace FILE` of `orion search` or `plugin run` writes one")
            }
            _ => None,
        };
        let failure = Failure::new(error.to_string());
        hint.map_or_else(|| Failure::new(error.to_string()), |hint| failure.hint(hint))
    })?;
    let engine = Engine::new(session, &[])?;
    let strategy = strategy(&engine, &file, args, session)?;
    let replayed = engine
        .host()
        .replay_file(&strategy, &file)
        .attempt(format!("replaying `{}`", args.file.display()))?;
    let terminal = &session.terminal;
    if terminal.json {
        terminal.print_json(&to_json(&file, &replayed))?;
    } else {
        terminal.print(&to_text(&file, &replayed, terminal))?;
    }
    Ok(if replayed.is_identical() { Verdict::Answered } else { Verdict::NoAnswer })
}

/// The component to replay with: the one asked for, the recorded file, or the strategy of that name.
fn strategy(
    engine: &Engine<'_>,
    file: &TraceFile,
    args: &PluginReplayArgs,
    session: &Session,
) -> Result<Arc<Strategy>, Failure> {
    if let Some(component) = &args.component {
        return load(engine, component, session);
    }
    if let Some(component) = file.component_file.as_ref().filter(|component| component.is_file()) {
        return load(engine, component, session);
    }
    engine.strategy(&file.strategy).map_err(|failure| {
        match &file.component_file {
            Some(component) => Failure::new(format!(
                "looking for the recorded component `{}`: it is not there",
                component.display()
            )),
            None => failure,
        }
        .hint("--component FILE names the component to replay with")
    })
}

fn word(is_identical: bool) -> &'static str {
    if is_identical { "identical" } else { "differs" }
}

fn to_text(file: &TraceFile, replayed: &Replayed, terminal: &Terminal) -> String {
    let documents = documents(&file.recording);
    let mut text = draw_tree(&replayed.outcome.trace, &documents, terminal);
    text.push('\n');
    text.push_str(&draw_ranking(&replayed.outcome.ranking, &documents, terminal));
    text.push('\n');
    let component = if replayed.is_same_component { "the recorded one" } else { "another one" };
    text.push_str(&format!("component  {component}\n"));
    let mut lines = vec![
        ("answer", replayed.is_answer_identical),
        ("trace", replayed.is_trace_identical),
        ("calls", replayed.divergence.is_none()),
    ];
    // Another component's instructions are its own affair.
    if replayed.is_same_component {
        lines.push(("cost", replayed.is_cost_identical));
    }
    for (what, is_identical) in lines {
        let ink = if is_identical { Ink::Good } else { Ink::Bad };
        text.push_str(&format!("{what:<9}  {}\n", terminal.ink(ink, word(is_identical))));
    }
    if let Some(divergence) = &replayed.divergence {
        let number = file.recording.calls.len();
        let of = counted(number, "recorded call", "recorded calls");
        text.push_str(&format!("\nfirst difference at call {} of {of}\n", divergence.call));
        push_difference(&mut text, &difference(divergence), terminal);
    }
    if let Some(degraded) = &replayed.outcome.degraded {
        // After a divergence there is nothing to answer the guest with; that is no failure of its own.
        if replayed.divergence.is_none() {
            text.push_str(&format!("degraded   {degraded}\n"));
        }
    }
    if let Some(failure) = replayed.outcome.failure.as_ref().filter(|_| replayed.divergence.is_none()) {
        text.push_str(&format!("{failure}\n"));
    }
    text
}

fn difference(divergence: &Divergence) -> Difference {
    Difference {
        what: "call",
        expected: divergence.expected.as_ref().map_or_else(|| vec!["no further call".to_owned()], call_lines),
        actual: divergence.got.as_ref().map_or_else(|| vec!["no further call".to_owned()], call_lines),
    }
}

/// A call's name, then its arguments, one a line.
fn call_lines(call: &MadeCall) -> Vec<String> {
    let mut lines = vec![call.call.clone()];
    if let Ok(json) = serde_json::to_string_pretty(&call.asked) {
        lines.extend(json.lines().map(|line| format!("  {line}")));
    }
    lines
}

/// Titles and texts that the recorded search read.
fn documents(recording: &Recording) -> Documents {
    let mut documents = Documents::new();
    for call in recording.calls.iter().filter(|call| call.call == "retrieval.documents") {
        let RecordedAnswer::Value(answer) = &call.answer else { continue };
        let found: Vec<Option<Document>> =
            serde_json::from_value(answer["value"].clone()).unwrap_or_default();
        for document in found.into_iter().flatten() {
            documents.insert(document.id, Shown { title: document.title, text: document.text });
        }
    }
    documents
}

fn to_json(file: &TraceFile, replayed: &Replayed) -> serde_json::Value {
    serde_json::json!({
        "strategy": file.strategy,
        "same_component": replayed.is_same_component,
        "identical": replayed.is_identical(),
        "answer_identical": replayed.is_answer_identical,
        "trace_identical": replayed.is_trace_identical,
        "calls_identical": replayed.divergence.is_none(),
        "cost_identical": replayed.is_cost_identical,
        "recorded_calls": file.recording.calls.len(),
        "divergence": replayed.divergence,
        "outcome": replayed.outcome,
    })
}

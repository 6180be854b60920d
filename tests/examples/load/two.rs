//! One `orion serve` over a PostgreSQL, then two of them over the same, with the same clients spread over both: what that is
//! worth on one machine, and whether both give the same answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::latency::{body, phase};
use crate::postgres::{INDEX, Postgres};
use crate::server::{PATIENCE, Server, queries};

const CLIENTS: [usize; 3] = [1, 4, 16];
const KINDS: [&str; 3] = ["lexical", "hybrid", "adaptive"];
/// Adaptive questions that both are asked: each takes long.
const COMPARED_ADAPTIVE: usize = 12;

/// What differs between two runs of one search: times, and nothing else.
fn without_times(mut reply: Value) -> Value {
    reply["took"] = Value::Null;
    if let Some(cost) = reply["ext"]["adaptive"]["cost"].as_object_mut() {
        cost.retain(|name, _| !name.ends_with("_ms"));
    }
    reply
}

/// Asks both the same, and gives back how many questions that were, and the first one that was answered in two ways.
fn compared(servers: &[Server], kind: &str, texts: &[String]) -> Result<Value> {
    let texts = if kind == "adaptive" { &texts[..COMPARED_ADAPTIVE.min(texts.len())] } else { texts };
    let mut clients = servers.iter().map(Server::client).collect::<Result<Vec<_>>>()?;
    let (mut different, mut first) = (0, Value::Null);
    for text in texts {
        let mut answers = Vec::new();
        for client in &mut clients {
            let (status, answer) = client.ask("POST", &format!("/{INDEX}/_search"), &body(kind, text))?;
            if status != 200 {
                return Err(format!("{kind} `{text}`: {status} {answer}").into());
            }
            answers.push(without_times(serde_json::from_str(&answer)?));
        }
        if answers.iter().any(|answer| *answer != answers[0]) {
            different += 1;
            first = if first.is_null() { json!(text) } else { first };
        }
    }
    Ok(json!({ "kind": kind, "asked": texts.len(), "different": different, "first_different": first }))
}

pub(crate) fn run(
    program: &Path,
    models: Option<&Path>,
    programs: &Path,
    duration: Duration,
) -> Result<(Value, bool)> {
    let models = models.ok_or("the database needs the encoder's vectors: `--models-dir FOLDER`")?;
    let texts = queries()?;
    let database = Postgres::start(programs)?;
    database.load(program, models)?;
    // A search that its budget cuts short is another one each time; clients are as patient as this and no more.
    let budget_ms = PATIENCE.as_millis() - 10_000;
    let configuration = format!("{}\n[adaptive]\nms = {budget_ms}", database.configuration());
    let start = || Server::over(Arc::new(tempfile::tempdir()?), program, Some(models), &configuration);
    let servers = [start()?, start()?];
    // Also compiles and loads what the first use does.
    let answers = KINDS.iter().map(|kind| compared(&servers, kind, &texts)).collect::<Result<Vec<_>>>()?;
    let path = format!("/{INDEX}/_search");
    let mut phases = Vec::new();
    for kind in KINDS {
        for clients in CLIENTS {
            let one = phase(&servers[..1], &path, kind, clients, duration, &texts)?;
            let two = phase(&servers, &path, kind, clients, duration, &texts)?;
            let both = json!({ "one": one, "two": two });
            eprintln!("{both}");
            phases.push(both);
        }
    }
    let is_answered = |phase: &Value| phase["wrong"] == 0 && phase["answered"] != 0;
    let is_sound = answers.iter().all(|one| one["different"] == 0)
        && phases.iter().all(|both| is_answered(&both["one"]) && is_answered(&both["two"]));
    Ok((json!({ "seconds_a_phase": duration.as_secs(), "answers": answers, "phases": phases }), is_sound))
}

//! `orion index push`: an index's documents, with their vectors, into another engine.
//!
//! Batches go in the order of ids, each acknowledged by the engine before the next. A journal in the data folder says how
//! far a push came and of which state of the index; it goes when the push is whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orion_engines::{Engine as Backend, Half, Kind};
use orion_host::index::{Index, Kind as IndexKind, Searcher, Space};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Session;
use crate::{
    Verdict,
    adapters::backends::{Backends, to_pushed},
    engine::Engine,
    failure::{Explain, Failure},
    http::{config::Config, persist::write_whole},
    places::IndexName,
    tree::counted,
};

/// Bytes of texts and vectors of one batch: well below what any of the engines takes.
const MOST_BATCH_BYTES: usize = 4 << 20;

/// What was asked for.
pub(super) struct Order {
    pub(super) name: IndexName,
    pub(super) to: String,
    pub(super) config: PathBuf,
    pub(super) batch: usize,
    pub(super) fresh: bool,
}

/// How far a push came.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Journal {
    /// The committed state of the index, and where it goes.
    state: String,
    /// Ids up to this one are there.
    last: String,
}

pub(super) fn run(order: &Order, session: &Session) -> Result<Verdict, Failure> {
    let config = Config::read(&order.config)?;
    let backends = Backends::open(&config)?;
    let Some(backend) = backends.engine(&order.to) else {
        let known: Vec<&str> = config.backends.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        return Err(Failure::new(format!("choosing backend `{}`: there is none of that name", order.to))
            .hint(format!("{known}; `[backends]` of `{}` names them", order.config.display())));
    };
    let engine = Engine::new(session, &[])?;
    let index = engine.open_index(&order.name)?;
    let searcher = index.searcher();
    let ids = searcher.ids();
    let dense = index.settings().dense.as_ref();
    // Engines get a space of cosines.
    if let Some(other) = dense.filter(|dense| dense.space != Space::Cosine) {
        return Err(Failure::new(format!(
            "pushing `{}` to `{}`: expected vectors compared by cosine, got {}",
            order.name,
            order.to,
            other.space.name()
        )));
    }
    let has_vectors = dense.is_some() && backend.kind().can_be(Half::Dense);
    if !has_vectors && !backend.kind().can_be(Half::Lexical) {
        return Err(Failure::new(format!(
            "pushing `{}` to `{}`: expected an index with vectors, got a lexical one",
            order.name, order.to
        )));
    }
    let attempted = format!("pushing `{}` to `{}`", order.name, order.to);
    if has_vectors && 0 < searcher.unencoded() {
        let waiting = counted(searcher.unencoded() as usize, "document", "documents");
        let failure =
            Failure::new(format!("{attempted}: expected a vector of each document, {waiting} wait for one"));
        return Err(failure.hint(format!(
            "a running server embeds them: `POST /{0}/_refresh` waits; without one, `orion index commit {0}`",
            order.name
        )));
    }
    let dimensions = dense.filter(|_| has_vectors).map(|dense| dense.dimensions);
    let kinds = searcher.metadata().iter().filter_map(|(name, kind)| Some((name.clone(), to_kind(*kind)?)));
    backend.prepare(dimensions, &kinds.collect()).attempt(attempted.clone())?;

    let file = session.places.data().join("push").join(format!("{}-{}.json", order.name, order.to));
    let state = state(&index, order, &config)?;
    let begun = if order.fresh { None } else { begun(&file, &state)? };
    let start = begun.as_ref().map_or(0, |last| ids.partition_point(|id| id <= last));
    if 0 < start {
        session.terminal.say(&format!("going on after {}", counted(start, "document", "documents")));
    }
    let bar = session.terminal.bar(
        &format!("pushing {} to {}", order.name, order.to),
        ids.len() as u64,
        "documents",
    );
    bar.set_position(start as u64);
    let mut at = start;
    while at < ids.len() {
        let end = push_batch(&searcher, backend, &ids, at, order.batch, has_vectors).map_err(|failure| {
            bar.finish_and_clear();
            failure.hint("what was put stays; the same command goes on from there")
        })?;
        at = end;
        let journal = Journal { state: state.clone(), last: ids[at - 1].clone() };
        save(&file, &journal)?;
        bar.set_position(at as u64);
    }
    bar.finish_and_clear();
    backend.refresh().attempt(attempted)?;
    // It is whole: the next push is another one.
    let _ = fs::remove_file(&file);
    let pushed = ids.len() - start;
    session.terminal.say(&format!(
        "{}: {} put into {}{}",
        order.name,
        counted(pushed, "document", "documents"),
        order.to,
        if has_vectors { ", with vectors" } else { "" }
    ));
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({
            "index": order.name.to_string(), "backend": order.to, "pushed": pushed, "before": start,
            "documents": ids.len(), "vectors": has_vectors, "retried": backend.state().retried,
        }))?;
    }
    Ok(Verdict::Answered)
}

/// Puts the next documents and returns where those after them begin.
fn push_batch(
    searcher: &Searcher,
    backend: &Backend,
    ids: &[String],
    start: usize,
    most: usize,
    has_vectors: bool,
) -> Result<usize, Failure> {
    let names: Vec<&str> = ids[start..].iter().take(most).map(String::as_str).collect();
    let found = searcher.documents(&names).attempt("reading documents")?;
    let vectors = if has_vectors { searcher.vectors_of(&names) } else { vec![None; names.len()] };
    let (mut batch, mut bytes, mut end) = (Vec::new(), 0, start);
    for (document, vector) in found.into_iter().zip(vectors) {
        if let Some(document) = document {
            // A number of a vector takes some ten characters in JSON.
            let size =
                document.title.len() + document.text.len() + vector.as_ref().map_or(0, |one| 10 * one.len());
            if !batch.is_empty() && MOST_BATCH_BYTES < bytes + size {
                break;
            }
            bytes += size;
            batch.push(to_pushed(document, vector));
        }
        end += 1;
    }
    backend.push(&batch).attempt(format!("putting documents from `{}` on", ids[start]))?;
    Ok(end)
}

/// Names the committed state of the index and its destination.
fn state(index: &Index, order: &Order, config: &Config) -> Result<String, Failure> {
    let file = index.dir().join("lexical/meta.json");
    let committed = fs::read(&file).attempt(format!("reading `{}`", file.display()))?;
    let settings = config.backends.get(&order.to).map(|backend| &backend.settings);
    let place = settings.map_or_else(String::new, |one| format!("{} {}", one.url, one.collection));
    let hash = Sha256::new().chain_update(committed).chain_update(place).finalize();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last id of an interrupted push of the same state.
fn begun(file: &Path, state: &str) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let journal: Option<Journal> = serde_json::from_str(&text).ok();
            Ok(journal.filter(|journal| journal.state == state).map(|journal| journal.last))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).attempt(format!("reading `{}`", file.display())),
    }
}

fn save(file: &Path, journal: &Journal) -> Result<(), Failure> {
    let attempted = || format!("writing `{}`", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).attempt(attempted())?;
    }
    write_whole(file, &serde_json::json!(journal).to_string()).attempt(attempted())
}

/// `None` for a type that engines do not know.
fn to_kind(kind: IndexKind) -> Option<Kind> {
    Some(match kind {
        IndexKind::Keyword => Kind::Keyword,
        IndexKind::Text => Kind::Text,
        IndexKind::Number => Kind::Number,
        IndexKind::Date => Kind::Date,
        IndexKind::Boolean => Kind::Boolean,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_push_of_the_same_state_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("push/notes-cluster.json");
        assert_eq!(begun(&file, "one").unwrap(), None);
        save(&file, &Journal { state: "one".to_owned(), last: "d7".to_owned() }).unwrap();
        assert_eq!(begun(&file, "one").unwrap().as_deref(), Some("d7"));
        assert_eq!(begun(&file, "two").unwrap(), None);
        std::fs::write(&file, "{\"state\":").unwrap();
        assert_eq!(begun(&file, "one").unwrap(), None);
    }
}

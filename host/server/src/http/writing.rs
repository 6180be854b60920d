//! The thread that writes one index: jobs first, embedding between them, a commit when there is a pause.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, Weak,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use orion_host::index::Writer;
use serde_json::{Map, Value};

use super::{
    collection::{Change, Collection, Done, Job, Kept, Operation, Outcomes},
    error::ApiError,
};

/// Documents embedded between two looks at the queue: a fraction of a second on a slow machine.
const EMBED_STEP: usize = 16;
/// Jobs that share one sync of the log.
const JOBS_A_SYNC: usize = 8;
/// Under steady load a commit comes after this many refresh intervals, embedded or not.
const LATEST_INTERVALS: u32 = 30;
/// How long an idle thread sleeps at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// Works until it is told to stop or the collection is gone.
pub(super) fn run(collection: &Weak<Collection>, jobs: &Receiver<Job>) {
    let mut state = State::default();
    loop {
        let job = match jobs.recv_timeout(state.patience(collection)) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(collection) = collection.upgrade() else { return };
        let mut batch: Vec<Job> = job.into_iter().collect();
        while !batch.is_empty() && batch.len() < JOBS_A_SYNC {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        if state.work_off(&collection, batch) {
            return;
        }
        if let Err(error) = state.get_on(&collection) {
            tracing::error!(index = collection.name, "the writer failed and starts anew: {}", error.reason);
            state.writer = None;
        }
    }
}

#[derive(Default)]
struct State {
    /// Opened with the first change, so that the command line can write to an index that nobody changes here.
    writer: Option<Writer>,
    /// When the first change came that is not committed.
    dirty_since: Option<Instant>,
}

impl State {
    fn patience(&self, collection: &Weak<Collection>) -> Duration {
        let Some(since) = self.dirty_since else { return IDLE };
        if self.writer.as_ref().is_some_and(|writer| 0 < writer.waiting_texts()) {
            return Duration::ZERO;
        }
        let Some(collection) = collection.upgrade() else { return Duration::ZERO };
        let bounds = *collection.bounds.read().unwrap_or_else(PoisonError::into_inner);
        bounds.refresh.saturating_sub(since.elapsed())
    }

    /// Whether it is to stop.
    fn work_off(&mut self, collection: &Arc<Collection>, batch: Vec<Job>) -> bool {
        let mut answers = Vec::new();
        let mut refreshes = Vec::new();
        let mut fresh = BTreeMap::new();
        let mut stop = false;
        for job in batch {
            match job {
                Job::Write(operations, sender) => {
                    collection.queued.fetch_sub(1, Ordering::Relaxed);
                    answers.push((self.apply(collection, operations, &mut fresh), sender));
                }
                Job::Refresh(sender) => {
                    collection.queued.fetch_sub(1, Ordering::Relaxed);
                    refreshes.push(sender);
                }
                Job::Stop => stop = true,
            }
        }
        let synced = match &mut self.writer {
            Some(writer) if !fresh.is_empty() => writer.sync().map_err(ApiError::from),
            _ => Ok(()),
        };
        if synced.is_ok() && !fresh.is_empty() {
            collection.pending.write().unwrap_or_else(PoisonError::into_inner).append(&mut fresh);
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        // Before the answers, so that who has one meets the bound that it caused.
        self.note_waiting(collection);
        for (mut outcomes, sender) in answers {
            if let Err(error) = &synced {
                // Nothing of it was acknowledged.
                let failed = |outcome: Result<Done, (String, ApiError)>| match outcome {
                    Ok(done) => Err((done.id, error.clone())),
                    Err(failed) => Err(failed),
                };
                outcomes = outcomes.into_iter().map(failed).collect();
            }
            // A client that has gone is told nothing; its changes stay.
            let _ = sender.send(outcomes);
        }
        if synced.is_err() {
            self.writer = None;
        }
        if !refreshes.is_empty() {
            let done = self.commit(collection);
            if done.is_err() {
                self.writer = None;
            }
            refreshes.into_iter().for_each(|sender| {
                let _ = sender.send(done.clone());
            });
        }
        if stop && self.writer.as_ref().is_some_and(|writer| writer.waiting_texts() == 0) {
            // What is not committed is in the log and comes with the next start.
            let _ = self.commit(collection);
        }
        stop
    }

    /// Embeds some, or commits, when it is time.
    fn get_on(&mut self, collection: &Arc<Collection>) -> Result<(), ApiError> {
        let (Some(since), Some(writer)) = (self.dirty_since, &mut self.writer) else { return Ok(()) };
        let refresh = collection.bounds.read().unwrap_or_else(PoisonError::into_inner).refresh;
        if 0 < writer.waiting_texts() && since.elapsed() < refresh * LATEST_INTERVALS {
            writer.encode_some(EMBED_STEP)?;
            self.note_waiting(collection);
            return Ok(());
        }
        if refresh <= since.elapsed() {
            self.commit(collection)?;
        }
        Ok(())
    }

    fn note_waiting(&self, collection: &Collection) {
        let waiting = self.writer.as_ref().map_or(0, Writer::waiting_texts);
        collection.waiting.store(waiting, Ordering::Relaxed);
    }

    fn commit(&mut self, collection: &Arc<Collection>) -> Result<(), ApiError> {
        let Some(writer) = &mut self.writer else {
            // Another process may have written.
            collection.index.refresh()?;
            return Ok(());
        };
        while 0 < writer.waiting_texts() {
            if collection.stopping.load(Ordering::Relaxed) {
                return Err(ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "index_closed_exception",
                    "the server is stopping; what was acknowledged is in the log",
                ));
            }
            writer.encode_some(EMBED_STEP * 4)?;
            collection.waiting.store(writer.waiting_texts(), Ordering::Relaxed);
        }
        writer.commit()?;
        collection.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.dirty_since = None;
        Ok(())
    }

    fn apply(
        &mut self,
        collection: &Arc<Collection>,
        operations: Vec<Operation>,
        fresh: &mut BTreeMap<String, Option<Kept>>,
    ) -> Outcomes {
        let one = |operation: Operation| {
            let id = operation.id.clone().unwrap_or_default();
            self.apply_one(collection, operation, fresh).map_err(|error| (id, error))
        };
        operations.into_iter().map(one).collect()
    }

    fn apply_one(
        &mut self,
        collection: &Arc<Collection>,
        operation: Operation,
        fresh: &mut BTreeMap<String, Option<Kept>>,
    ) -> Result<Done, ApiError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(collection.index.writer()?),
        };
        let sequence = writer.sequence();
        let id = match operation.id {
            Some(id) => id,
            // Numbers of changes are never used twice.
            None => {
                let mut id = format!("{sequence:020x}");
                while writer.contains(&id)? {
                    id.push('x');
                }
                id
            }
        };
        let known = match fresh.get(&id) {
            Some(known) => known.clone(),
            None => collection.get(&id)?,
        };
        check_sequence(&id, operation.if_sequence, known.as_ref())?;
        let version = known.as_ref().map_or(0, |known| known.version) + 1;
        let mut done = Done { id: id.clone(), result: "created", version, sequence };
        let source = match operation.change {
            Change::Delete => {
                if known.is_none() {
                    return Ok(Done { result: "not_found", ..done });
                }
                writer.delete(&id)?;
                fresh.insert(id, None);
                done.result = "deleted";
                return Ok(done);
            }
            Change::Create(_) if known.is_some() => {
                let version = version - 1;
                return Err(conflict(&id, &format!("document already exists (current version [{version}])")));
            }
            Change::Index(source) | Change::Create(source) => source,
            Change::Update(body) => match updated(&id, body, known.as_ref())? {
                Some(source) => source,
                None => {
                    let sequence = known.as_ref().map_or(0, |known| known.sequence);
                    return Ok(Done { result: "noop", version: version - 1, sequence, ..done });
                }
            },
        };
        if known.is_some() {
            done.result = "updated";
        }
        let text = Value::Object(source.clone()).to_string();
        let kept = Kept { version, sequence, source: text };
        let before = collection.meta();
        let mut meta = (*before).clone();
        let document = meta.mapping.document(&id, &source, kept.to_stored())?;
        if meta != *before {
            collection.set_meta(meta)?;
        }
        writer.add(document)?;
        fresh.insert(id, Some(kept));
        Ok(done)
    }
}

fn conflict(id: &str, reason: &str) -> ApiError {
    let reason = format!("[{id}]: version conflict, {reason}");
    ApiError::new(StatusCode::CONFLICT, "version_conflict_engine_exception", reason)
}

fn check_sequence(id: &str, wanted: Option<u64>, known: Option<&Kept>) -> Result<(), ApiError> {
    let Some(wanted) = wanted else { return Ok(()) };
    match known {
        Some(known) if known.sequence == wanted => Ok(()),
        Some(known) => Err(conflict(
            id,
            &format!(
                "required seqNo [{wanted}], primary term [1]. current document has seqNo [{}] and primary term [1]",
                known.sequence
            ),
        )),
        None => Err(conflict(
            id,
            &format!("required seqNo [{wanted}], primary term [1]. but no document was found"),
        )),
    }
}

/// The source after an update; `None` where it changes nothing.
fn updated(
    id: &str,
    mut body: Map<String, Value>,
    known: Option<&Kept>,
) -> Result<Option<Map<String, Value>>, ApiError> {
    let known_keys = ["doc", "upsert", "doc_as_upsert", "detect_noop"];
    if let Some(key) = body.keys().find(|key| !known_keys.contains(&key.as_str())) {
        let what = if key == "script" { "scripts are not supported" } else { "unknown field" };
        return Err(ApiError::illegal(format!("update of [{id}]: [{key}]: {what}")));
    }
    let flag = |name: &str, usual: bool| body.get(name).and_then(Value::as_bool).unwrap_or(usual);
    let (as_upsert, detect_noop) = (flag("doc_as_upsert", false), flag("detect_noop", true));
    let part = body.remove("doc");
    let missing = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "document_missing_exception",
            format!("[{id}]: document missing"),
        )
    };
    let Some(known) = known else {
        return match (body.remove("upsert"), part) {
            (Some(Value::Object(upsert)), _) => Ok(Some(upsert)),
            (None, Some(Value::Object(part))) if as_upsert => Ok(Some(part)),
            _ => Err(missing()),
        };
    };
    let Some(Value::Object(part)) = part else {
        return Err(ApiError::illegal(format!("update of [{id}]: expected an object in [doc]")));
    };
    let before = known.object();
    let mut after = before.clone();
    merge(&mut after, part);
    Ok((after != before || !detect_noop).then_some(after))
}

/// Objects are merged, everything else replaced.
fn merge(into: &mut Map<String, Value>, part: Map<String, Value>) {
    for (name, value) in part {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

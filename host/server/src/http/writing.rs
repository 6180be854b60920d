//! The thread that writes one index: jobs first, embedding between them, and commits.
//!
//! Nothing here keeps a job waiting for longer than a few embeddings or one commit take. Changes are published once they
//! are as old as the refresh interval, embedded or not: searches by words find them then, searches by vector follow. A
//! refresh is answered by the first commit after everything before it was embedded, while later changes go on coming in.

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
use tokio::sync::oneshot;

use super::{
    collection::{Change, Collection, Done, Job, Kept, Operation, Outcomes},
    error::ApiError,
};

/// How long embedding may take between two looks at the queue: as many documents as this is enough for on this machine, with
/// what else it does. Clients see it as the least that a write takes under load.
const STEP_TIME: Duration = Duration::from_millis(200);
/// Most documents of one step: more at once are not encoded quicker.
const MOST_STEP: usize = 64;
/// Jobs that share one sync of the log.
const JOBS_A_SYNC: usize = 8;
/// While many documents wait to be embedded, a commit comes every so many refresh intervals, for those that are.
const LATEST_INTERVALS: u32 = 30;
/// How long an idle thread sleeps at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// Works until it is told to stop or the collection is gone.
pub(super) fn run(collection: &Weak<Collection>, jobs: &Receiver<Job>) {
    let mut state = State::default();
    if let Some(collection) = collection.upgrade() {
        state.begin(&collection);
    }
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
            state.fail(&error);
        }
    }
}

/// Who waits for a refresh.
type Refreshed = oneshot::Sender<Result<(), ApiError>>;

#[derive(Default)]
struct State {
    /// Opened with the first change, so that the command line can write to an index that nobody changes here.
    writer: Option<Writer>,
    /// Whether anything is not committed, or not with its vectors.
    is_dirty: bool,
    /// When the first change came that no search sees yet.
    unseen_since: Option<Instant>,
    /// When the last commit was, or the writer failed.
    last: Option<Instant>,
    /// Who waits until the changes up to a number are embedded and visible.
    refreshes: Vec<(u64, Refreshed)>,
    /// How long the last commit took.
    took: Duration,
    /// Documents of the next step of embedding.
    step: usize,
}

impl State {
    /// What a crash or a stop left is embedded without being asked for, unless another process writes here.
    fn begin(&mut self, collection: &Collection) {
        let searcher = collection.searcher();
        if searcher.unencoded() == 0 || !searcher.can_encode() {
            return;
        }
        match collection.index.writer() {
            Ok(writer) => (self.writer, self.is_dirty) = (Some(writer), true),
            Err(error) => {
                tracing::warn!(index = collection.name, "documents wait to be embedded, by others: {error}");
            }
        }
    }

    /// How old changes become before they are published. Where commits are slow they take a fifth of the time, no more.
    fn interval(&self, collection: &Collection) -> Duration {
        let refresh = collection.bounds.read().unwrap_or_else(PoisonError::into_inner).refresh;
        refresh.max(self.took * 4)
    }

    fn patience(&self, collection: &Weak<Collection>) -> Duration {
        if !self.is_dirty {
            return IDLE;
        }
        let Some(collection) = collection.upgrade() else { return Duration::ZERO };
        let interval = self.interval(&collection);
        match (&self.writer, self.unseen_since) {
            // After a failure.
            (None, _) => self.last.map_or(Duration::ZERO, |last| interval.saturating_sub(last.elapsed())),
            (Some(writer), Some(since)) if writer.waiting_texts() == 0 && self.refreshes.is_empty() => {
                interval.saturating_sub(since.elapsed())
            }
            _ => Duration::ZERO,
        }
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
            self.unseen_since.get_or_insert_with(Instant::now);
            self.is_dirty = true;
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
        if let Err(error) = &synced {
            self.fail(error);
        }
        for sender in refreshes {
            self.refresh(collection, sender);
        }
        if stop {
            self.stop(collection);
        }
        stop
    }

    fn refresh(&mut self, collection: &Arc<Collection>, sender: Refreshed) {
        let target = match self.writer(collection).map(|writer| writer.map(|writer| writer.sequence())) {
            Ok(Some(sequence)) => sequence,
            // Nobody writes here; another process may have written.
            Ok(None) => {
                let _ = sender.send(collection.index.refresh().map(drop).map_err(ApiError::from));
                return;
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        self.refreshes.push((target, sender));
    }

    /// The writer, where there is anything for it to do.
    fn writer(&mut self, collection: &Arc<Collection>) -> Result<Option<&mut Writer>, ApiError> {
        if self.writer.is_none() && self.is_dirty {
            self.writer = Some(collection.index.writer()?);
        }
        Ok(self.writer.as_mut())
    }

    fn fail(&mut self, error: &ApiError) {
        self.writer = None;
        self.last = Some(Instant::now());
        for (_, sender) in self.refreshes.drain(..) {
            let _ = sender.send(Err(error.clone()));
        }
    }

    fn stop(&mut self, collection: &Arc<Collection>) {
        if self.writer.as_ref().is_some_and(|writer| writer.waiting_texts() == 0) {
            // What is not committed is in the log and comes with the next start.
            let _ = self.commit(collection);
        }
        let reason = "the server is stopping; what was acknowledged is in the log";
        let stopping = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "index_closed_exception", reason);
        self.fail(&stopping);
    }

    /// Embeds some, or commits, when it is time.
    fn get_on(&mut self, collection: &Arc<Collection>) -> Result<(), ApiError> {
        let (unseen_since, last) = (self.unseen_since, self.last);
        let interval = self.interval(collection);
        let Some(writer) = self.writer(collection)? else { return Ok(()) };
        let is_waiting = 0 < writer.waiting_texts();
        let through = writer.encoded_through();
        let is_asked = self.refreshes.iter().any(|(target, _)| *target <= through);
        let is_time = match unseen_since {
            Some(since) => interval <= since.elapsed(),
            None if is_waiting => last.is_none_or(|last| interval * LATEST_INTERVALS <= last.elapsed()),
            None => self.is_dirty,
        };
        if is_asked || is_time {
            return self.commit(collection);
        }
        if is_waiting && let Some(writer) = &mut self.writer {
            let began = Instant::now();
            writer.encode_some(self.step.max(1))?;
            self.step = next_step(self.step, began.elapsed());
            self.note_waiting(collection);
        }
        Ok(())
    }

    fn note_waiting(&self, collection: &Collection) {
        let waiting = self.writer.as_ref().map_or(0, Writer::waiting_texts);
        collection.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Makes everything visible, and whole as far as it is embedded; answers who waited for that.
    fn commit(&mut self, collection: &Arc<Collection>) -> Result<(), ApiError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let began = Instant::now();
        writer.publish()?;
        self.took = began.elapsed();
        let through = writer.encoded_through();
        self.is_dirty = 0 < writer.waiting_texts();
        self.unseen_since = None;
        self.last = Some(Instant::now());
        collection.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
        for (_, sender) in self.refreshes.extract_if(.., |(target, _)| *target <= through) {
            let _ = sender.send(Ok(()));
        }
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

/// Documents of the step after one of `step` that took so long.
fn next_step(step: usize, took: Duration) -> usize {
    let next = if STEP_TIME < took {
        step / 2
    } else if took * 2 < STEP_TIME {
        step * 2
    } else {
        step
    };
    next.clamp(1, MOST_STEP)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MOST_STEP, next_step};

    #[test]
    fn steps_of_embedding_fit_the_machine() {
        // A document takes so many milliseconds.
        for (each, expected) in [(500, 1..=1), (45, 2..=4), (10, 10..=20), (1, MOST_STEP..=MOST_STEP)] {
            let settled =
                (0..20).fold(0, |step, _| next_step(step, Duration::from_millis(each * step.max(1) as u64)));
            assert!(expected.contains(&settled), "{each} ms: {settled}");
        }
    }
}

//! `metrics.jsonl`: what a run measures, one line a step, and the same for TensorBoard beside it.
//!
//! Lines are appended as they come. A resumed run first drops the lines after its checkpoint, which it is about to
//! write again, so that every step is there once; the event file is made anew from the lines that stay.

use crate::error::{Result, TrainError};
use crate::events;
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The open files.
pub struct Metrics {
    lines: (File, PathBuf),
    events: (File, PathBuf),
}

fn replace(path: &Path, content: &[u8]) -> Result<File> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).map_err(TrainError::file("write", &partial))?;
    std::fs::rename(&partial, path).map_err(TrainError::file("write", path))?;
    std::fs::OpenOptions::new().append(true).open(path).map_err(TrainError::file("open", path))
}

impl Metrics {
    /// Opens the files of a run folder. With `last`, lines up to and including that step stay; a line that was cut off
    /// in the middle, or is none of ours, goes. Without it the files start empty.
    pub fn open(run: &Path, last: Option<u64>) -> Result<Self> {
        let (lines, events) = (run.join("metrics.jsonl"), run.join(events::FILE));
        let text = match std::fs::read(&lines) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(TrainError::file("read", lines)(error)),
        };
        let (mut kept, mut curves) = (String::new(), events::header());
        for line in text.lines() {
            let Ok(metric) = serde_json::from_str::<Value>(line) else { continue };
            if metric["step"].as_u64().is_some_and(|step| last.is_some_and(|last| step <= last)) {
                kept.push_str(line);
                kept.push('\n');
                curves.extend(events::of_metric(&metric));
            }
        }
        Ok(Self {
            lines: (replace(&lines, kept.as_bytes())?, lines),
            events: (replace(&events, &curves)?, events),
        })
    }

    /// Appends one measurement, which has a field `step`.
    pub fn record(&mut self, metric: &impl Serialize) -> Result<()> {
        let (file, path) = &mut self.lines;
        let value = serde_json::to_value(metric)
            .map_err(|error| TrainError::content(&*path, "a metric that is JSON", error))?;
        writeln!(file, "{value}").map_err(TrainError::file("write", &*path))?;
        let (file, path) = &mut self.events;
        file.write_all(&events::of_metric(&value)).map_err(TrainError::file("write", &*path))
    }
}

//! `budget`, `trace` and `log`: what a guest may know of its limits and say of its work.
//!
//! `trace` and `log` cannot answer an error, so log lines are cut and floods trap.
use crate::bindings::orion::search::{budget, log, trace};
use crate::contract::{Event, Level};
use crate::fault::Fault;
use crate::record::CallError;
use crate::state::SearchState;
use crate::trace::{LogLine, one_line};

impl budget::Host for SearchState {
    async fn left(&mut self) -> wasmtime::Result<budget::Remaining> {
        self.count_call()?;
        let stop = self.stop.clone();
        let clock = async move { Ok::<u64, CallError>(stop.left_ms()) };
        let milliseconds = self.journal.run("budget.left", &(), clock).await?.unwrap_or(0);
        self.check_replay()?;
        Ok(budget::Remaining {
            retrievals: self.limits.retrievals.saturating_sub(self.spent.retrievals),
            tokens: self.limits.tokens.saturating_sub(self.spent.usage.total()),
            nodes: self.limits.nodes.saturating_sub(self.spent.nodes),
            milliseconds,
        })
    }
}

impl trace::Host for SearchState {
    async fn emit(&mut self, events: Vec<Event>) -> wasmtime::Result<()> {
        self.count_call()?;
        for event in events {
            let branch = self.tree.apply(event, &self.limits)?;
            if let Some(observer) = &self.observer {
                observer(branch);
            }
        }
        Ok(())
    }
}

impl log::Host for SearchState {
    async fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        self.spent.log_lines += 1;
        if self.spent.log_lines > self.limits.log_lines {
            return Err(Fault::Flood { what: "log lines", limit: self.limits.log_lines }.into());
        }
        self.note_complaint(level, &message);
        let message = one_line(&message, self.limits.log_line_bytes);
        match level {
            Level::Debug => tracing::debug!(target: "orion::guest", "{message}"),
            Level::Info => tracing::info!(target: "orion::guest", "{message}"),
            Level::Warn => tracing::warn!(target: "orion::guest", "{message}"),
            Level::Error => tracing::error!(target: "orion::guest", "{message}"),
        }
        self.log.push(LogLine { level, message });
        Ok(())
    }
}

//! The plugin folder while the server serves: looked at every so often, and on SIGHUP.
//!
//! What a look does is the host's business (`host/src/directory.rs`): a new version is loaded beside the one that serves,
//! then both change places in one step; a broken one is refused and the old one stays. Here is when, and what is said of it.

use std::{sync::Arc, time::Duration};

use orion_host::{Change, DirectoryError, Watcher};

use super::app::App;
use crate::failure::{Explain, Failure};

/// Looks again and again until it is dropped.
pub(super) struct Watch {
    every_ms: u64,
    _watcher: Option<Watcher>,
}

impl Watch {
    /// Begins with a look; `every_ms` of 0 never looks.
    pub(super) fn start(app: &App, every_ms: u64) -> Result<Self, Failure> {
        let none = Self { every_ms, _watcher: None };
        if every_ms == 0 {
            return Ok(none);
        }
        let Some(directory) = app.engine.directory()? else {
            tracing::warn!("`watch_plugins_ms`: there is no plugin folder to look at");
            return Ok(none);
        };
        let (directory, host) = (Arc::clone(directory), app.engine.shared_host());
        let mut said = String::new();
        let tell = move |news: Result<Vec<Change>, DirectoryError>| match news {
            Ok(changes) => {
                said.clear();
                changes.iter().for_each(say);
            }
            // A folder that stays unreadable is told of once.
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    tracing::error!("plugins stay as they are: {text}");
                    said = text;
                }
            }
        };
        let watcher = directory.watch(host, Duration::from_millis(every_ms), tell);
        Ok(Self { every_ms, _watcher: Some(watcher.attempt("starting to look at the plugin folder")?) })
    }

    /// Goes on as another configuration wants it.
    pub(super) fn adapt(&mut self, app: &App, every_ms: u64) -> Result<(), Failure> {
        if every_ms != self.every_ms {
            *self = Self::start(app, every_ms)?;
        }
        Ok(())
    }
}

/// One look, now.
pub(super) fn look(app: &App) {
    let Ok(Some(directory)) = app.engine.directory() else { return };
    match directory.refresh(app.engine.host()) {
        Ok(changes) => changes.iter().for_each(say),
        Err(error) => tracing::error!("plugins were not loaded again: {error}"),
    }
}

fn say(change: &Change) {
    match change {
        Change::Loaded { name, version } => tracing::info!(plugin = name, version, "plugin loaded"),
        Change::Replaced { name, from, to } => {
            tracing::info!(plugin = name, from, version = to, "plugin replaced");
        }
        Change::Refused { name, reason, serving } => {
            tracing::warn!(plugin = name, serving, "plugin refused: {reason}");
        }
        Change::Retired { name } => tracing::info!(plugin = name, "plugin retired"),
        other => tracing::info!("plugin changed: {other:?}"),
    }
}

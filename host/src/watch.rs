//! Looks at a plugin directory every so often, on a thread of its own, for as long as somebody keeps the watcher.
//!
//! Neighbour: `directory.rs` does the looking.
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::directory::{Change, DirectoryError, PluginDirectory};
use crate::host::Host;

/// Keeps the thread; dropping it ends the thread after the look that is under way.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl PluginDirectory {
    /// Looks at the folder now and then again after each `pause`. `tell` hears of every look that changed something or
    /// failed. Errors: the thread cannot be started.
    pub fn watch(
        self: Arc<Self>,
        host: Arc<Host>,
        pause: Duration,
        mut tell: impl FnMut(Result<Vec<Change>, DirectoryError>) + Send + 'static,
    ) -> io::Result<Watcher> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = stop.clone();
        let watch = move || {
            let (is_over, changed) = &*shared;
            loop {
                match self.refresh(&host) {
                    Ok(changes) if changes.is_empty() => {}
                    news => tell(news),
                }
                let is_over = is_over.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = changed.wait_timeout_while(is_over, pause, |is_over| !*is_over);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("orion-plugins".to_owned()).spawn(watch)?;
        Ok(Watcher { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported by it.
            let _ = thread.join();
        }
    }
}

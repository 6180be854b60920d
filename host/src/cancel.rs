//! Cancellation: one flag that any holder may raise and any number of searches may wait for.
//!
//! Written here rather than taken from a crate because a watch channel is all it needs.
use std::sync::Arc;

use tokio::sync::watch;

/// Cancels the searches it was given to. Clones share one flag; raising it cannot be undone.
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<watch::Sender<bool>>);

impl CancelToken {
    /// A token that nobody has raised.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Stops every search that holds a clone: the guest and the model end at their next step.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the token is raised; never, if it never is.
    pub async fn cancelled(&self) {
        let mut raised = self.0.subscribe();
        // The sender lives as long as `self`, so the wait can only end by the flag.
        let _ = raised.wait_for(|flag| *flag).await;
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

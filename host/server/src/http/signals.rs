//! SIGTERM and SIGINT end the server, SIGHUP reads the configuration again.

use std::future::Future;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::failure::{Explain, Failure};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Read the configuration again.
    Reload,
    /// End.
    End,
}

/// Signals as they come.
pub(super) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Listens; the future resolves with the first signal that ends the server.
    pub(super) fn start() -> Result<(Self, impl Future<Output = ()> + Send + 'static), Failure> {
        let listen = |kind| signal(kind).attempt("listening for signals");
        let (mut hangup, mut terminate, mut interrupt) = (
            listen(SignalKind::hangup())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        );
        let (sender, receiver) = mpsc::channel(4);
        let (end, mut ended) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    _ = hangup.recv() => Signal::Reload,
                    _ = terminate.recv() => Signal::End,
                    _ = interrupt.recv() => Signal::End,
                };
                if asked == Signal::End {
                    end.send_replace(true);
                }
                if sender.send(asked).await.is_err() {
                    return;
                }
            }
        });
        let first = async move {
            // The sender lives in the task above, which ends only after this server.
            let _ = ended.wait_for(|ended| *ended).await;
        };
        Ok((Self(receiver), first))
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

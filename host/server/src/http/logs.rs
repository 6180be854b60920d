//! Log lines on standard error: JSON or text, with the request's id, from a level upwards that can change.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::config::Config;

/// The least level of the moment.
#[derive(Clone, Default)]
pub(super) struct Level(Arc<AtomicU8>);

impl Level {
    /// Takes the level of a configuration.
    pub(super) fn set(&self, config: &Config) {
        let number = match config.log_level.as_str() {
            "error" => 1,
            "warn" => 2,
            "debug" => 4,
            _ => 3,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let most = match self.0.load(Ordering::Relaxed) {
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::INFO,
        };
        // The libraries below have much to say that no operator asked for.
        let own = metadata.target().starts_with("orion");
        *metadata.level() <= if own { most } else { LevelFilter::WARN.min(most) }
    }
}

/// Starts logging; a second start in one process changes nothing but the level.
pub(super) fn start(config: &Config) -> Level {
    let level = Level::default();
    level.set(config);
    let asked = level.clone();
    let filter =
        tracing_subscriber::filter::dynamic_filter_fn(move |metadata, _| asked.lets_through(metadata));
    let layer = if config.json_log {
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed()
    } else {
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr).boxed()
    };
    // Fails where a subscriber is set already, which only a test does.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    level
}

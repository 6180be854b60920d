//! The host: one engine, one pool, one cache; strategies are loaded into it and searches run in it.
//!
//! Neighbours: `load.rs` (loading), `run.rs` (searching), `reward.rs` (scoring).
use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Engine, Store};

use crate::cache::{Cache, CacheError};
use crate::class::GuestClass;
use crate::counters::{CounterRegistry, PluginStatistics};
use crate::engine::{self, POOL_TABLE_ELEMENTS, Ticker};
use crate::outcome::{Degraded, DegradedKind};
use crate::state::SearchState;

/// How a host is made.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Small guests that run at once; more searches wait.
    pub concurrent_searches: u32,
    /// Large guests ([`GuestClass::Large`]) that run at once.
    pub concurrent_large_searches: u32,
    /// Upper bound for [`crate::Limits::memory_bytes`].
    pub max_memory_bytes: u64,
    /// Larger components are refused.
    pub max_component_bytes: u64,
    /// Folder for compiled components; `None` compiles anew each time.
    pub cache_folder: Option<PathBuf>,
    /// Failures in a row after which a strategy rests; 0 for never.
    pub breaker_failures: u32,
    /// How long it rests the first time, in milliseconds; each further time twice as long.
    pub breaker_ms: u64,
    /// The longest rest, in milliseconds.
    pub breaker_longest_ms: u64,
    /// For authors: the folder of a plugin's sources. Failures of components that carry line tables then name file and
    /// line of the frames whose sources lie in it. `None` leaves such tables unread.
    pub source_root: Option<PathBuf>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            concurrent_searches: 64,
            // Interpreters compute most of the time, so more of them than processors gains little.
            concurrent_large_searches: 8,
            max_memory_bytes: 256 << 20,
            max_component_bytes: 64 << 20,
            cache_folder: None,
            breaker_failures: 10,
            breaker_ms: 5_000,
            breaker_longest_ms: 600_000,
            source_root: None,
        }
    }
}

/// Why a host could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The machine gives no room for the pool, or cannot run compiled code.
    #[error("could not set up the sandbox: {0}")]
    Engine(String),
    /// The compile cache is not usable.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// No thread for the epoch clock.
    #[error("could not start the sandbox's clock: {0}")]
    Clock(#[source] std::io::Error),
}

/// Runs strategies. One for a process is enough; it is shared by reference.
pub struct Host {
    options: HostOptions,
    engine: Engine,
    linker: Linker<SearchState>,
    reward_linker: Linker<SearchState>,
    ticker: Ticker,
    cache: Option<Cache>,
    small_permits: Semaphore,
    large_permits: Semaphore,
    runtime: OnceLock<Runtime>,
    counters: CounterRegistry,
}

impl Host {
    /// Makes the engine, its pool and its cache.
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        let failed = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let (small, large) = (options.concurrent_searches.max(1), options.concurrent_large_searches.max(1));
        let engine = engine::engine(small, large, options.max_memory_bytes).map_err(failed)?;
        let linker = engine::linker(&engine).map_err(failed)?;
        let reward_linker = engine::reward_linker(&engine).map_err(failed)?;
        let ticker = Ticker::start(&engine).map_err(HostError::Clock)?;
        let cache = options.cache_folder.as_deref().map(|folder| Cache::open(folder, &engine)).transpose()?;
        let [small_permits, large_permits] = [small, large].map(|guests| Semaphore::new(guests as usize));
        Ok(Self {
            options,
            engine,
            linker,
            reward_linker,
            ticker,
            cache,
            small_permits,
            large_permits,
            runtime: OnceLock::new(),
            counters: CounterRegistry::default(),
        })
    }

    /// What each version of each plugin did since this host was made, in the order in which they were first loaded.
    pub fn statistics(&self) -> Vec<PluginStatistics> {
        self.counters.snapshots(Instant::now())
    }

    /// How often a component's compiled form was in the cache folder, and how often it was not.
    pub fn compiled_hits_and_misses(&self) -> (u64, u64) {
        self.cache.as_ref().map_or((0, 0), Cache::counts)
    }

    pub(crate) fn counters(&self) -> &CounterRegistry {
        &self.counters
    }

    pub(crate) fn options(&self) -> &HostOptions {
        &self.options
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn linker(&self) -> &Linker<SearchState> {
        &self.linker
    }

    pub(crate) fn reward_linker(&self) -> &Linker<SearchState> {
        &self.reward_linker
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Places for guests of a class.
    pub(crate) fn permits(&self, class: GuestClass) -> &Semaphore {
        match class {
            GuestClass::Small => &self.small_permits,
            GuestClass::Large => &self.large_permits,
        }
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// A store that holds `state` and enforces its limits.
    pub(crate) fn store(&self, mut state: SearchState) -> Result<Store<SearchState>, Degraded> {
        let limits = &mut state.limits;
        limits.memory_bytes = limits.memory_bytes.min(self.options.max_memory_bytes);
        limits.table_elements = limits.table_elements.min(POOL_TABLE_ELEMENTS as u32);
        let (fuel, call_bytes) = (limits.fuel, limits.call_bytes as usize);
        state.limiter = crate::limiter::MemoryLimiter::new(limits.memory_bytes, limits.table_elements);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(call_bytes);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_fuel(fuel).map_err(|error| {
            Degraded::new(DegradedKind::HostFault, format!("could not set fuel: {error:#}"))
        })?;
        Ok(store)
    }

    /// Runs a future to its end on the host's own runtime, from any thread, a runtime's threads included.
    ///
    /// # Panics
    /// Where the operating system gives no thread.
    pub(crate) fn block_on<F>(&self, work: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        let runtime = self.runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("orion-host")
                .enable_time()
                .build()
                .unwrap_or_else(|error| panic!("could not start the host's threads: {error}"))
        });
        if tokio::runtime::Handle::try_current().is_err() {
            return runtime.block_on(work);
        }
        // A runtime's thread must not block on another runtime; a plain thread may.
        std::thread::scope(|scope| match scope.spawn(|| runtime.block_on(work)).join() {
            Ok(output) => output,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which is not allowed inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

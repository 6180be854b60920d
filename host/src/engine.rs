//! The wasmtime engine: how guests are compiled, where they live and how they are interrupted.
//!
//! Deterministic code generation (canonical NaNs, deterministic relaxed SIMD), fuel always on, epochs ticking while
//! guests run. Neighbours: `check.rs` accepts the same features, `limits.rs` bounds each search within the pool.
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings;
use crate::class::GuestClass;
use crate::limiter::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::state::SearchState;

/// Stack of a guest: enough for any sane recursion, small enough to be had by the hundred.
const GUEST_STACK_BYTES: usize = 512 << 10;
/// Stack that host functions have on a guest's fiber, polls of services included.
const HOST_STACK_BYTES: usize = 1 << 20;
/// How often a computing guest lets others run.
const TICK: Duration = Duration::from_millis(10);
/// Elements of one table that the pool has room for; [`crate::Limits::table_elements`] may be lower.
pub(crate) const POOL_TABLE_ELEMENTS: usize = 100_000;

/// Engine for guests, with room for `small` and `large` ones at once of `memory_bytes` each memory.
pub(crate) fn engine(small: u32, large: u32, memory_bytes: u64) -> wasmtime::Result<Engine> {
    let (instances, memories, tables) = (CORE_INSTANCES as u32, MEMORIES as u32, TABLES as u32);
    let places = |class: GuestClass, guests: u32| guests.saturating_mul(class.core_instances() as u32);
    let guests = small.saturating_add(large);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // Most components have a handful of these; the per-component bounds stop the odd one.
        .total_core_instances(
            places(GuestClass::Small, small).saturating_add(places(GuestClass::Large, large)),
        )
        .total_memories(guests.saturating_mul(2))
        .total_tables(guests.saturating_mul(4))
        .total_stacks(guests)
        .max_core_instances_per_component(instances)
        .max_memories_per_component(memories)
        .max_tables_per_component(tables)
        .table_elements(POOL_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(memory_bytes).unwrap_or(usize::MAX));
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(GUEST_STACK_BYTES + HOST_STACK_BYTES)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .concurrency_support(false);
    Engine::new(&config)
}

/// The imports of the world `strategy`, implemented by [`SearchState`].
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<SearchState>> {
    let mut linker = Linker::new(engine);
    bindings::Strategy::add_to_linker::<SearchState, HasSelf<SearchState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// The imports of the world `reward`: nothing but types and the log.
pub(crate) fn reward_linker(engine: &Engine) -> wasmtime::Result<Linker<SearchState>> {
    let mut linker = Linker::new(engine);
    bindings::reward::Reward::add_to_linker::<SearchState, HasSelf<SearchState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Advances an engine's epoch while guests run; an idle host has no ticking thread.
pub(crate) struct Ticker {
    running: Arc<Running>,
}

#[derive(Default)]
struct Running {
    guests: Mutex<Guests>,
    changed: Condvar,
}

#[derive(Default)]
struct Guests {
    count: usize,
    closed: bool,
}

impl Ticker {
    /// Errors: the thread cannot be started.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let running = Arc::new(Running::default());
        let (shared, engine) = (running.clone(), engine.weak());
        std::thread::Builder::new().name("orion-epoch".to_owned()).spawn(move || tick(&shared, &engine))?;
        Ok(Self { running })
    }

    /// Ticks at least as long as the guard lives.
    pub(crate) fn guard(&self) -> TickGuard {
        self.running.guests.lock().unwrap_or_else(PoisonError::into_inner).count += 1;
        self.running.changed.notify_one();
        TickGuard(self.running.clone())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.running.guests.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.running.changed.notify_one();
    }
}

/// One running guest.
pub(crate) struct TickGuard(Arc<Running>);

impl Drop for TickGuard {
    fn drop(&mut self) {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner).count -= 1;
    }
}

fn tick(running: &Running, engine: &EngineWeak) {
    loop {
        let guests = running.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = running
            .changed
            .wait_while(guests, |guests| guests.count == 0 && !guests.closed)
            .unwrap_or_else(PoisonError::into_inner);
        // A guest may outlive its host for a moment; it must not lose its clock.
        if guests.closed && guests.count == 0 {
            return;
        }
        drop(guests);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        std::thread::sleep(TICK);
    }
}

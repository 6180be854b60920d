//! A small thread pool for short parallel regions.
//!
//! Why here: one decoding step opens some twenty regions of tens of microseconds, so a region must cost about a
//! microsecond to open. Workers spin briefly for the next region and then sleep. One region runs at a time; a caller
//! that finds the pool taken (another thread's region, or a region inside a region) runs its parts itself, which is
//! what the pool's other threads would have kept it from gaining by anyway.
#![expect(unsafe_code, reason = "workers call a closure that borrows from the caller's stack")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// Turns of the spin loop before a worker sleeps: some 50 µs, longer than the serial work between two regions of a
/// decoding step and too short to matter to whoever else wants the core.
const SPINS_BEFORE_SLEEP: u32 = 1_500;

/// Turns of the spin loop before a caller that waits for the last part lets other threads run.
const SPINS_BEFORE_YIELD: u32 = 200;

/// A pool of threads. Dropping it ends them.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Held by the caller whose region runs.
    taken: AtomicBool,
    /// The region that is open to workers, or null. It lives on its caller's stack.
    region: AtomicPtr<Region<'static>>,
    /// Counts opened regions; workers wait for a change.
    opened: AtomicU64,
    /// Workers that may hold a pointer to the region. Its caller does not return before this is 0.
    inside: AtomicUsize,
    sleepers: AtomicUsize,
    ending: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

struct Region<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    parts: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

impl Region<'_> {
    /// Takes parts until none is left. A panic is kept for the caller, and the parts not yet taken are dropped.
    fn take_parts(&self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let part = self.next.fetch_add(1, SeqCst);
                if self.parts <= part {
                    return;
                }
                (self.work)(part);
            }
        }));
        if let Err(payload) = outcome {
            self.next.store(self.parts, SeqCst);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }
}

impl Threads {
    /// A pool of `count` threads, the caller of [`Threads::run`] among them; 0 counts as 1. Threads that the system
    /// refuses to start are done without.
    pub fn new(count: usize) -> Self {
        let shared = Arc::new(Shared {
            taken: AtomicBool::new(false),
            region: AtomicPtr::new(std::ptr::null_mut()),
            opened: AtomicU64::new(0),
            inside: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..count)
            .map_while(|i| {
                let worker_shared = Arc::clone(&shared);
                let named = std::thread::Builder::new().name(format!("orion-kernels-{i}"));
                named.spawn(move || worker(&worker_shared)).ok()
            })
            .collect();
        Self { shared, workers }
    }

    /// The pool of the process: as many threads as the machine gives it cores, unless [`Threads::set_global`] came
    /// first.
    pub fn global() -> &'static Threads {
        GLOBAL.get_or_init(|| Threads::new(std::thread::available_parallelism().map_or(1, usize::from)))
    }

    /// Sets the size of the process's pool; false where it has been made already, and stays as it is.
    pub fn set_global(count: usize) -> bool {
        let mut made = false;
        GLOBAL.get_or_init(|| {
            made = true;
            Threads::new(count)
        });
        made
    }

    /// Threads that share a region, the caller's among them.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once with each of `0..parts`, in any order and on any thread, and returns when all are done.
    ///
    /// May be called from several threads at once and from inside `work`. A panic in `work` is passed on to the
    /// caller; parts that had not begun are then not run.
    pub fn run(&self, parts: usize, work: impl Fn(usize) + Sync) {
        let alone = parts <= 1 || self.workers.is_empty();
        if alone || self.shared.taken.swap(true, SeqCst) {
            (0..parts).for_each(work);
            return;
        }
        let region = Region { work: &work, parts, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        let shared = &*self.shared;
        shared.region.store((&raw const region).cast_mut().cast(), SeqCst);
        shared.opened.fetch_add(1, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _guard = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        region.take_parts();
        // From here no worker can find the region; those that did are counted in `inside`.
        shared.region.store(std::ptr::null_mut(), SeqCst);
        let mut turns = 0;
        while shared.inside.load(SeqCst) > 0 {
            turns += 1;
            if turns < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        shared.taken.store(false, SeqCst);
        let panic = region.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

/// A pointer that threads may share because they write disjoint parts behind it.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut<T>(*mut T);

impl<T> SharedOut<T> {
    pub(crate) fn new(out: &mut [T]) -> Self {
        Self(out.as_mut_ptr())
    }

    /// The pointer; by a method, so that closures capture the wrapper and not its field.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: only a pointer; each use says why its writes are disjoint, and the values behind it may change threads.
unsafe impl<T: Send> Send for SharedOut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOut<T> {}

static GLOBAL: OnceLock<Threads> = OnceLock::new();

impl Threads {
    /// Calls `work(first, chunk)` once with each chunk of `chunk_len` values, the last one shorter where it does not
    /// come out even; `first` is the place of the chunk's first value in `data`. As [`Threads::run`] otherwise.
    ///
    /// # Panics
    /// Where `chunk_len` is 0.
    pub fn run_chunks<T: Send>(
        &self,
        data: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(chunk_len > 0, "chunks must hold something");
        let total = data.len();
        let shared = SharedOut::new(data);
        self.run(total.div_ceil(chunk_len), |part| {
            let first = part * chunk_len;
            let count = chunk_len.min(total - first);
            // SAFETY: within `data`, which is borrowed until `run` returns; each part is run once and the chunks of
            // different parts are disjoint.
            work(first, unsafe { std::slice::from_raw_parts_mut(shared.get().add(first), count) });
        });
    }

    /// As [`Threads::run_chunks`] over two slices at once: `work` gets the chunks of one place in both.
    ///
    /// # Panics
    /// Where `chunk_len` is 0 or the slices differ in length.
    pub fn run_chunk_pairs<T: Send, U: Send>(
        &self,
        first: &mut [T],
        second: &mut [U],
        chunk_len: usize,
        work: impl Fn(&mut [T], &mut [U]) + Sync,
    ) {
        assert_eq!(first.len(), second.len(), "both slices must be of one length");
        let shared = SharedOut::new(second);
        self.run_chunks(first, chunk_len, |place, chunk| {
            // SAFETY: as long as `first`, so within `second`, which is borrowed until `run_chunks` returns; the chunks of
            // different places are disjoint.
            let other = unsafe { std::slice::from_raw_parts_mut(shared.get().add(place), chunk.len()) };
            work(chunk, other);
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.ending.store(true, SeqCst);
        {
            let _guard = self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for handle in self.workers.drain(..) {
            // A worker cannot panic: `take_parts` catches. There is nothing to pass on.
            let _ = handle.join();
        }
    }
}

fn worker(shared: &Shared) {
    let mut seen = 0;
    while await_region(shared, &mut seen) {
        shared.inside.fetch_add(1, SeqCst);
        let region = shared.region.load(SeqCst);
        if !region.is_null() {
            // SAFETY: the caller stores null before it waits for `inside` to be 0. `inside` was raised before the
            // pointer was read, and both are sequentially consistent: so the caller waits for this worker.
            unsafe { &*region }.take_parts();
        }
        shared.inside.fetch_sub(1, SeqCst);
    }
}

/// Waits until a region has been opened since `seen`; false when the pool ends.
fn await_region(shared: &Shared, seen: &mut u64) -> bool {
    for _ in 0..SPINS_BEFORE_SLEEP {
        if news(shared, seen) {
            return !shared.ending.load(SeqCst);
        }
        std::hint::spin_loop();
    }
    let mut guard = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
    // Raised before the last look: an opener either sees the sleeper or is seen.
    shared.sleepers.fetch_add(1, SeqCst);
    while !news(shared, seen) {
        guard = shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleepers.fetch_sub(1, SeqCst);
    !shared.ending.load(SeqCst)
}

fn news(shared: &Shared, seen: &mut u64) -> bool {
    let opened = shared.opened.load(SeqCst);
    let changed = opened != *seen;
    *seen = opened;
    changed || shared.ending.load(SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_one(count: &AtomicUsize) {
        count.fetch_add(1, SeqCst);
    }

    #[test]
    fn every_part_runs_once() {
        for count in [1, 2, 4] {
            let pool = Threads::new(count);
            for parts in [0, 1, 2, 7, 100] {
                let hits: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, |i| {
                    hits[i].fetch_add(1, SeqCst);
                });
                assert!(hits.iter().all(|h| h.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn nested_and_concurrent_callers() {
        let pool = Threads::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(5, |_| pool.run(3, |_| count_one(&total)));
                    }
                });
            }
        });
        assert_eq!(total.load(SeqCst), 4 * 500 * 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Threads::new(2);
        for _ in 0..50 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, |i| {
                    if i == 3 {
                        std::panic::resume_unwind(Box::new("three"))
                    }
                })
            }));
            assert!(outcome.is_err());
            let done = AtomicUsize::new(0);
            pool.run(8, |_| count_one(&done));
            assert_eq!(done.load(SeqCst), 8);
        }
    }

    #[test]
    fn chunks_cover_the_data_once() {
        let pool = Threads::new(3);
        for count in [0, 1, 7, 8, 9] {
            let mut data = vec![0; count];
            pool.run_chunks(&mut data, 4, |first, chunk| {
                for (i, value) in chunk.iter_mut().enumerate() {
                    *value += first + i + 1;
                }
            });
            assert_eq!(data, (1..=count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Threads::new(2);
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let done = AtomicUsize::new(0);
            pool.run(4, |_| count_one(&done));
            assert_eq!(done.load(SeqCst), 4);
        }
    }
}

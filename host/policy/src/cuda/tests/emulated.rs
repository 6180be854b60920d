//! The CPU as a device, for tests: compiles the kernels' source as C and runs it fiber by fiber (`cuda/emulator.c`).

#![expect(unsafe_code, reason = "a library that the test has just compiled is loaded and called")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libloading::Library;

use super::super::error::DeviceError;
use super::super::launcher::{Arguments, Launcher};

type LaunchFunction = unsafe extern "C" fn(*const i8, u32, u32, u32, u32, *const u64) -> i32;

/// One launch of a recording.
type Recorded = (String, [u32; 3], u32, Arguments);

#[derive(Default)]
struct World {
    memory: BTreeMap<u64, Layout>,
    graphs: Vec<Vec<Recorded>>,
    capture: Option<Vec<Recorded>>,
    refuses_capture: bool,
    /// Launches until everything fails; for tests of failures.
    fails_after: Option<usize>,
    launches: usize,
    replays: usize,
}

/// The emulated device. All of its world is behind one lock, so launches come one at a time.
pub(super) struct Emulated {
    library: &'static Library,
    free_bytes: usize,
    world: Mutex<World>,
}

/// The one lock on the emulator itself: its fibers are global.
static RUNNING: Mutex<()> = Mutex::new(());

fn failed(operation: &'static str, reason: impl Into<String>) -> DeviceError {
    DeviceError::Failed { operation, reason: reason.into() }
}

/// Compiles the emulator, once in a process; `None`, and one line, where there is no C compiler.
#[expect(clippy::disallowed_methods, reason = "tests ask whether they run in CI")]
fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda/emulator.c");
        let folder = tempfile::tempdir().unwrap();
        let out: PathBuf = folder.path().join("emulator.so");
        let options = ["-x", "c", "-std=gnu11", "-O2", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-fPIC"];
        let made = Command::new("cc")
            .args(options)
            .args(["-shared", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"])
            .arg("-o")
            .arg(&out)
            .arg(&source)
            .arg("-lm")
            .output();
        let Ok(made) = made else {
            assert!(std::env::var_os("CI").is_none(), "no C compiler `cc` to emulate a device with");
            println!("skipped: no C compiler `cc` to emulate a device with");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // SAFETY: the library was just made from the source in this folder; loading it runs no code of its own.
        Some(unsafe { Library::new(&out) }.unwrap())
    });
    library.as_ref()
}

impl Emulated {
    /// A device with that much memory; `None` where there is no C compiler.
    pub(super) fn new(free_bytes: usize) -> Option<Arc<Self>> {
        Some(Arc::new(Self { library: library()?, free_bytes, world: Mutex::default() }))
    }

    /// Whether there is a kernel of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let c_name = CString::new(name).unwrap();
        type HasFunction = unsafe extern "C" fn(*const i8) -> i32;
        // SAFETY: the emulator defines this function with this type; it reads a text that ends with a zero byte.
        unsafe { self.library.get::<HasFunction>(b"orion_has\0").unwrap()(c_name.as_ptr().cast()) == 1 }
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse_capture(&self) {
        self.world().refuses_capture = true;
    }

    pub(super) fn fail_after(&self, launches: usize) {
        self.world().fails_after = Some(launches);
    }

    /// Launches outside recordings, and replays of recordings.
    pub(super) fn counts(&self) -> (usize, usize) {
        let world = self.world();
        (world.launches, world.replays)
    }

    /// Blocks of memory that were not given back.
    pub(super) fn blocks(&self) -> usize {
        self.world().memory.len()
    }

    fn run(&self, (name, blocks, threads, arguments): &Recorded) -> Result<(), DeviceError> {
        let _one_at_a_time = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let c_name = CString::new(name.as_str()).map_err(|error| failed("launching", error.to_string()))?;
        // SAFETY: the emulator defines this function with this type.
        let launch = unsafe { self.library.get::<LaunchFunction>(b"orion_launch\0") }
            .map_err(|error| failed("launching", error.to_string()))?;
        // SAFETY: one launch at a time; addresses are this process's, laid out as the kernel of that name expects, for
        // which the code under test answers.
        let code = unsafe {
            launch(c_name.as_ptr().cast(), blocks[0], blocks[1], blocks[2], *threads, arguments.as_ptr())
        };
        if code == 0 { Ok(()) } else { Err(failed("launching", format!("`{name}`: code {code}"))) }
    }

    /// The block that holds all of a range.
    fn check(&self, address: u64, bytes: usize) -> Result<(), DeviceError> {
        let world = self.world();
        let found = world.memory.range(..=address).next_back();
        let fits =
            found.is_some_and(|(start, layout)| address + bytes as u64 <= start + layout.size() as u64);
        if fits { Ok(()) } else { Err(failed("copying", format!("{bytes} bytes at {address:#x}"))) }
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.world().memory);
        for (address, layout) in left {
            // SAFETY: allocated with this layout, and given back once.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }
}

impl Launcher for Emulated {
    fn describe(&self) -> String {
        "emulated".to_owned()
    }

    fn free_bytes(&self) -> Result<usize, DeviceError> {
        let used: usize = self.world().memory.values().map(Layout::size).sum();
        Ok(self.free_bytes.saturating_sub(used))
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        if self.free_bytes()? < bytes {
            return Err(failed("allocating", "out of memory"));
        }
        let layout = Layout::from_size_align(bytes, 256).unwrap();
        // SAFETY: never empty.
        let address = unsafe { alloc_zeroed(layout) } as u64;
        // What a device hands out is not cleared: numbers that are no numbers show who reads before writing.
        // SAFETY: just allocated with that size.
        unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }.fill(0xff);
        self.world().memory.insert(address, layout);
        Ok(address)
    }

    fn release(&self, address: u64) {
        if let Some(layout) = self.world().memory.remove(&address) {
            // SAFETY: allocated with this layout, and given back once.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }

    fn upload(&self, bytes: &[u8], to: u64) -> Result<(), DeviceError> {
        self.check(to, bytes.len())?;
        // SAFETY: within one block of this device.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.check(from, bytes.len())?;
        // SAFETY: within one block of this device.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError> {
        self.check(from, bytes)?;
        self.check(to, bytes)?;
        // SAFETY: both within blocks of this device.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError> {
        self.check(at, bytes)?;
        // SAFETY: within one block of this device.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    fn launch(
        &self,
        kernel: &str,
        blocks: [u32; 3],
        threads: u32,
        arguments: &Arguments,
    ) -> Result<(), DeviceError> {
        let recorded = (kernel.to_owned(), blocks, threads, *arguments);
        let mut world = self.world();
        if let Some(capture) = &mut world.capture {
            capture.push(recorded);
            return Ok(());
        }
        world.launches += 1;
        if world.fails_after.is_some_and(|most| most < world.launches) {
            return Err(failed("launching", "as the test asked"));
        }
        drop(world);
        self.run(&recorded)
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        let mut world = self.world();
        if world.refuses_capture {
            return Err(failed("recording", "as the test asked"));
        }
        world.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<usize, DeviceError> {
        let mut world = self.world();
        let capture = world.capture.take().ok_or_else(|| failed("recording", "nothing was begun"))?;
        world.graphs.push(capture);
        Ok(world.graphs.len() - 1)
    }

    fn replay(&self, graph: usize) -> Result<(), DeviceError> {
        let recorded = {
            let mut world = self.world();
            world.replays += 1;
            world.graphs.get(graph).cloned().ok_or_else(|| failed("replaying", "no such recording"))?
        };
        recorded.iter().try_for_each(|one| self.run(one))
    }

    fn forget_graphs(&self) {
        self.world().graphs.clear();
    }
}

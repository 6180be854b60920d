//! A device through NVIDIA's driver, which is looked for at run time.
//!
//! One stream, so that operations happen in order; the primary context, made current before each call because states
//! are dropped by whichever thread holds them last. Handles of the driver are plain numbers here.

#![expect(unsafe_code, reason = "calls into the driver; each says what it relies on")]

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::{result, sys};

use super::error::DeviceError;
use super::launcher::{Arguments, Buffer, Launcher};

/// The kernels, made from the sources beside it.
const KERNELS: &str = include_str!("../../cuda/kernels.ptx");

/// The least compute capability that the kernels are made for.
const LEAST_MAJOR: i32 = 8;

/// One CUDA device of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub index: usize,
    /// What it calls itself.
    pub name: String,
    /// Compute capability: before and after the point.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory_bytes: usize,
    /// The CUDA version of the driver, such as `13.0`.
    pub driver: String,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, name, capability: (major, minor), memory_bytes, driver } = self;
        let mib = memory_bytes >> 20;
        write!(formatter, "cuda:{index} {name}, {mib} MiB, compute {major}.{minor}, driver of CUDA {driver}")
    }
}

/// All devices of this machine.
///
/// # Errors
/// Where there is no driver, or it does not start.
pub fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
    if !start()? {
        return Ok(Vec::new());
    }
    let count = result::device::get_count().map_err(|error| DeviceError::Start(text(error)))?;
    (0..count.max(0) as usize).map(info).collect()
}

/// Whether there is a device at all.
fn start() -> Result<bool, DeviceError> {
    // A program that links the driver would not have started without it.
    #[cfg(not(feature = "linked-cuda"))]
    // SAFETY: only tries to open a library by its well-known name.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoDriver);
    }
    use sys::CUresult as Code;
    match result::init() {
        Ok(()) => Ok(true),
        Err(error) if error.0 == Code::CUDA_ERROR_NO_DEVICE => Ok(false),
        // What toolkits bring to link with, where the real library is not there.
        Err(error) if error.0 == Code::CUDA_ERROR_STUB_LIBRARY => Err(DeviceError::NoDriver),
        Err(error) => Err(DeviceError::Start(text(error))),
    }
}

fn text(error: result::DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let words = error.error_string().map(|words| words.to_string_lossy().into_owned());
    match (name, words) {
        (Ok(name), Ok(words)) => format!("{name} ({words})"),
        _ => format!("{:?}", error.0),
    }
}

fn failed(operation: &'static str) -> impl Fn(result::DriverError) -> DeviceError {
    move |error| DeviceError::Failed { operation, reason: text(error) }
}

fn driver_version() -> String {
    let mut version = 0;
    // SAFETY: writes one number.
    let outcome = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    if outcome.is_ok() { format!("{}.{}", version / 1000, version % 1000 / 10) } else { "unknown".to_owned() }
}

fn info(index: usize) -> Result<DeviceInfo, DeviceError> {
    let ask = failed("asking what it is");
    let device = result::device::get(index as i32).map_err(&ask)?;
    use sys::CUdevice_attribute as Attribute;
    // SAFETY: the device was given by the driver.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) }.map_err(&ask);
    Ok(DeviceInfo {
        index,
        name: result::device::get_name(device).map_err(&ask)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: the device was given by the driver.
        memory_bytes: unsafe { result::device::total_mem(device) }.map_err(&ask)?,
        driver: driver_version(),
    })
}

/// Opens device `index`; `None` takes the first that the kernels run on.
pub(crate) fn open(index: Option<usize>) -> Result<Arc<dyn Launcher>, DeviceError> {
    let all = devices()?;
    let chosen = match index {
        Some(wanted) => all.get(wanted).ok_or(DeviceError::NoDevice { wanted, count: all.len() })?,
        None => all
            .iter()
            .find(|one| LEAST_MAJOR <= one.capability.0)
            .or(all.first())
            .ok_or(DeviceError::NoDevice { wanted: 0, count: 0 })?,
    };
    let (major, minor) = chosen.capability;
    if major < LEAST_MAJOR {
        return Err(DeviceError::TooOld { device: chosen.index, name: chosen.name.clone(), major, minor });
    }
    Ok(Arc::new(Driver::new(chosen.clone())?))
}

/// Bytes a second of a copy within the memory of a device, read and written: the ceiling of all that streams.
///
/// # Errors
/// Where the device does not open or has no room for two buffers.
pub fn copy_bandwidth(index: usize, bytes: usize) -> Result<f64, DeviceError> {
    let launcher = open(Some(index))?;
    let [from, to] =
        [0, 1].map(|_| Buffer::new(&launcher, "measuring bandwidth", bytes.next_multiple_of(16)));
    let (from, to) = (from?, to?);
    launcher.clear(from.address(), from.bytes())?;
    let blocks = 132 * 16;
    let mut arguments = Arguments::default();
    arguments[..4].copy_from_slice(&[from.address(), to.address(), from.bytes() as u64 / 16, blocks]);
    let (repeats, mut best) = (10u32, f64::INFINITY);
    for _ in 0..5 {
        launcher.download(to.address(), &mut [0; 16])?;
        let started = Instant::now();
        for _ in 0..repeats {
            launcher.launch("stream", [blocks as u32, 1, 1], 256, &arguments)?;
        }
        launcher.download(to.address(), &mut [0; 16])?;
        best = best.min(started.elapsed().as_secs_f64() / f64::from(repeats));
    }
    Ok(2.0 * from.bytes() as f64 / best)
}

/// Handles as numbers, so that they may cross threads: the driver's own calls are safe from any thread.
struct Driver {
    info: DeviceInfo,
    context: usize,
    module: usize,
    stream: usize,
    functions: BTreeMap<String, usize>,
    graphs: Mutex<Vec<usize>>,
}

impl Driver {
    fn new(info: DeviceInfo) -> Result<Self, DeviceError> {
        let opening = failed("opening it");
        let device = result::device::get(info.index as i32).map_err(&opening)?;
        // SAFETY: the device was given by the driver.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(&opening)?;
        let mut driver = Self {
            context: context as usize,
            module: 0,
            stream: 0,
            functions: BTreeMap::new(),
            graphs: Mutex::default(),
            info,
        };
        driver.enter()?;
        let kernels = |reason: String| DeviceError::Kernels { reason, driver: driver_version() };
        let image = CString::new(KERNELS).map_err(|error| kernels(error.to_string()))?;
        // SAFETY: a text that ends with a zero byte.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }
            .map_err(|error| kernels(text(error)))?;
        driver.module = module as usize;
        for line in KERNELS.lines() {
            let Some(name) = line.strip_prefix(".visible .entry ").and_then(|rest| rest.strip_suffix('('))
            else {
                continue;
            };
            let c_name = CString::new(name).map_err(|error| kernels(error.to_string()))?;
            // SAFETY: the module was just loaded.
            let function = unsafe { result::module::get_function(module, c_name) }
                .map_err(|error| kernels(format!("`{name}`: {}", text(error))))?;
            driver.functions.insert(name.to_owned(), function as usize);
        }
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(opening)?;
        driver.stream = stream as usize;
        Ok(driver)
    }

    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is retained as long as this lives.
        unsafe { result::ctx::set_current(self.context as sys::CUcontext) }
            .map_err(failed("entering its context"))
    }

    fn stream(&self) -> sys::CUstream {
        self.stream as sys::CUstream
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        self.forget_graphs();
        // SAFETY: each was made by `new`, is freed once, and nothing can be asked of it any more. What the driver says
        // is of no use here.
        unsafe {
            if self.stream != 0 {
                let _ = result::stream::synchronize(self.stream());
                let _ = result::stream::destroy(self.stream());
            }
            if self.module != 0 {
                let _ = result::module::unload(self.module as sys::CUmodule);
            }
            if let Ok(device) = result::device::get(self.info.index as i32) {
                let _ = result::primary_ctx::release(device);
            }
        }
    }
}

impl Launcher for Driver {
    fn describe(&self) -> String {
        format!("CUDA device {} ({})", self.info.index, self.info.name)
    }

    fn free_bytes(&self) -> Result<usize, DeviceError> {
        self.enter()?;
        Ok(result::mem_get_info().map_err(failed("asking for its free memory"))?.0)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.enter()?;
        // SAFETY: nothing reads the memory before it is written.
        unsafe { result::malloc_sync(bytes) }.map_err(failed("allocating memory"))
    }

    fn release(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: `allocate` gave it; freeing waits for launches that still use it. Memory of a broken context is
            // gone with it.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn upload(&self, bytes: &[u8], to: u64) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller answers for the range; bytes of pageable memory are staged before the call returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream()) }.map_err(failed("copying to it"))
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller answers for the range; the stream is waited for before the bytes are looked at.
        unsafe {
            result::memcpy_dtoh_async(bytes, from, self.stream()).map_err(failed("copying from it"))?;
            result::stream::synchronize(self.stream()).map_err(failed("waiting for it"))
        }
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller answers for both ranges.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream()) }
            .map_err(failed("copying within it"))
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller answers for the range.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream()) }.map_err(failed("clearing memory"))
    }

    fn launch(
        &self,
        kernel: &str,
        blocks: [u32; 3],
        threads: u32,
        arguments: &Arguments,
    ) -> Result<(), DeviceError> {
        self.enter()?;
        let function = *self.functions.get(kernel).ok_or_else(|| DeviceError::Failed {
            operation: "launching a kernel",
            reason: format!("there is no `{kernel}`"),
        })?;
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast::<c_void>()];
        // SAFETY: every kernel takes one `Arguments` by value, copied during the call; what it holds is laid out as the
        // kernel expects, for which `steps` and `answers` answer.
        unsafe {
            result::launch_kernel(
                function as sys::CUfunction,
                (blocks[0], blocks[1], blocks[2]),
                (threads, 1, 1),
                0,
                self.stream(),
                &mut parameters,
            )
        }
        .map_err(failed("launching a kernel"))
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as this.
        unsafe { result::stream::begin_capture(self.stream(), mode) }.map_err(failed("recording a graph"))
    }

    fn end_capture(&self) -> Result<usize, DeviceError> {
        self.enter()?;
        let recording = failed("recording a graph");
        // SAFETY: a recording was begun on this stream; the graph is destroyed once its instance is there.
        let instance = unsafe {
            let graph = result::stream::end_capture(self.stream()).map_err(&recording)?;
            if graph.is_null() {
                let reason = "the recording was broken off".to_owned();
                return Err(DeviceError::Failed { operation: "recording a graph", reason });
            }
            // SAFETY: no flags is a legal value of this type of flags.
            let flags = sys::CUgraphInstantiate_flags(0);
            let instance = result::graph::instantiate(graph, flags).map_err(&recording);
            let _ = result::graph::destroy(graph);
            instance?
        };
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        graphs.push(instance as usize);
        Ok(graphs.len() - 1)
    }

    fn replay(&self, graph: usize) -> Result<(), DeviceError> {
        self.enter()?;
        let graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = *graphs.get(graph).ok_or_else(|| DeviceError::Failed {
            operation: "replaying a graph",
            reason: "it was forgotten".to_owned(),
        })?;
        // SAFETY: instances live until they are forgotten.
        unsafe { result::graph::launch(instance as sys::CUgraphExec, self.stream()) }
            .map_err(failed("replaying a graph"))
    }

    fn forget_graphs(&self) {
        let graphs = std::mem::take(&mut *self.graphs.lock().unwrap_or_else(PoisonError::into_inner));
        if self.enter().is_ok() {
            for instance in graphs {
                // SAFETY: each was made by `end_capture` and is destroyed once, after what it runs has ended.
                unsafe {
                    let _ = result::stream::synchronize(self.stream());
                    let _ = result::graph::exec_destroy(instance as sys::CUgraphExec);
                }
            }
        }
    }
}

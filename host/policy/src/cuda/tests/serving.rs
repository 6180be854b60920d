//! Whole searches on the emulated device: as on the CPU, whatever the memory, with recordings and without, and what a
//! failure leaves behind.

use std::sync::Arc;

use super::super::emulated::Emulated;
use super::super::model::DeviceModel;
use super::{MEMORY, options};
use crate::backend::{Backend, Device};
use crate::checkpoint::{Checkpoint, NumberFormat};
use crate::config::Config;
use crate::cuda::DeviceError;
use crate::error::PolicyError;
use crate::format::TrajectoryFormat;
use crate::generate::Sampling;
use crate::random::{random_checkpoint_in, tiny_config, tiny_policy};
use crate::session::{Policy, PolicyOptions, Session, Source};
use crate::tests::pressure::{Seen, all_at_once, search};
use crate::tests::serving::{SAMPLING, block_on, node};

fn folder(numbers: NumberFormat) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 5).unwrap();
    let config = Config { hidden_size: 64, feed_forward_size: 72, head_size: 16, ..tiny_config() };
    random_checkpoint_in(numbers, &config, 3, folder.path()).unwrap();
    folder
}

fn on_device(folder: &tempfile::TempDir, device: &Arc<Emulated>, options: &PolicyOptions) -> Policy {
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let format = TrajectoryFormat::load(folder.path(), checkpoint.config()).unwrap();
    let context = options.max_context_tokens;
    let model = DeviceModel::load(device.clone(), &checkpoint, context, options).unwrap();
    Policy::start("test", &checkpoint, format, options, Backend::Cuda(Box::new(model)), Vec::new()).unwrap()
}

fn alone(policy: &Policy, count: u64) -> Vec<Seen> {
    let one = |index| block_on(search(&policy.session(), &format!("question {index}"), index));
    (0..count).map(one).collect()
}

#[test]
fn searches_are_those_of_the_cpu() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let folder = folder(NumberFormat::F32);
    let cpu = Policy::load(&Source::Folder(folder.path().to_owned()), &options()).unwrap();
    let policy = on_device(&folder, &device, &options());
    assert!(policy.describe().device.starts_with("emulated, F32"));
    let (expected, got) = (alone(&cpu, 2), alone(&policy, 2));
    let near = |a: u32, b: u32| (f32::from_bits(a) - f32::from_bits(b)).abs() < 1e-3;
    for (a, b) in expected.iter().flatten().zip(got.iter().flatten()) {
        let ids = |trace: &[(u32, Option<u32>)]| trace.iter().map(|fed| fed.0).collect::<Vec<u32>>();
        assert_eq!(ids(&a.trace), ids(&b.trace), "the same words");
        assert!(near(a.log_probability, b.log_probability));
        assert!(a.judgements.iter().zip(&b.judgements).all(|(x, y)| near(*x, *y)));
    }
    let (one, other) = (cpu.counters(), policy.counters());
    assert_eq!((one.rows, one.decoded_tokens), (other.rows, other.decoded_tokens));
}

#[test]
fn searches_do_not_depend_on_memory_company_or_recordings() {
    for numbers in [NumberFormat::F32, NumberFormat::Bf16] {
        let Some(device) = Emulated::new(MEMORY) else { return };
        let folder = folder(numbers);
        let policy = on_device(&folder, &device, &options());
        let expected = alone(&policy, 2);
        let (_, replays) = device.counts();
        assert!(0 < replays, "short steps are replayed");
        // Enough for the longest trajectory and little more.
        let bytes = 130_000 / if numbers == NumberFormat::F32 { 1 } else { 2 };
        let tight = PolicyOptions { max_state_bytes: bytes + 60_000, max_step_tokens: 37, ..options() };
        let pressed = on_device(&folder, &device, &tight);
        let sessions: Vec<Session> = (0..2).map(|_| pressed.session()).collect();
        assert_eq!(all_at_once(&pressed, &sessions), expected, "{numbers:?}");
        let counters = pressed.counters();
        assert!(0 < counters.evicted_states && 0 < counters.recomputed_tokens, "{counters:?}");
        let Some(other) = Emulated::new(MEMORY) else { return };
        let plain = on_device(&folder, &other, &PolicyOptions { record_steps: false, ..options() });
        assert_eq!(alone(&plain, 1)[..], expected[..1]);
        assert_eq!(other.counts().1, 0);
        let Some(stubborn) = Emulated::new(MEMORY) else { return };
        stubborn.refuse_capture();
        assert_eq!(alone(&on_device(&folder, &stubborn, &options()), 1)[..], expected[..1]);
        assert_eq!(stubborn.counts().1, 0);
    }
}

#[test]
fn a_failure_is_told_to_all_who_wait_and_memory_comes_back() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let folder = folder(NumberFormat::F16);
    let policy = on_device(&folder, &device, &options());
    let session = policy.session();
    let root = node(&session, "why does ice float?");
    device.fail_after(device.counts().0 + 30);
    let failed = |error: PolicyError| matches!(error, PolicyError::Device(DeviceError::Failed { .. }));
    let sampling = Sampling { max_think_tokens: 30, ..SAMPLING };
    assert!(failed(block_on(session.propose(vec![root; 4], sampling)).unwrap_err()));
    assert!(failed(block_on(session.perplexity(vec![(root, vec!["so".to_owned()])])).unwrap_err()));
    // It goes on once the device does.
    device.fail_after(usize::MAX);
    assert_eq!(block_on(session.propose(vec![root], SAMPLING)).unwrap()[0].len(), 3);
    assert_eq!((policy.counters().active_sequences, policy.counters().waiting_sequences), (0, 0));
    drop(session);
    drop(policy);
    // The policy's thread ends on its own time.
    for _ in 0..1000 {
        if device.blocks() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} blocks of memory are left", device.blocks());
}

#[test]
fn devices_have_names() {
    for (text, device) in [
        ("auto", Device::Auto),
        ("cpu", Device::Cpu),
        ("cuda", Device::Cuda(0)),
        ("cuda:0", Device::Cuda(0)),
        ("cuda:3", Device::Cuda(3)),
    ] {
        assert_eq!(text.parse(), Ok(device));
    }
    assert_eq!(Device::Cuda(3).to_string(), "cuda:3");
    for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
        let error = text.parse::<Device>().unwrap_err().to_string();
        assert!(error.contains(&format!("got `{text}`")), "{error}");
    }
}

#[test]
fn what_is_not_there_is_said_or_done_without() {
    let folder = folder(NumberFormat::F32);
    let source = Source::Folder(folder.path().to_owned());
    // Whatever this machine has: there is no such device, or no driver.
    let wanted = PolicyOptions { device: Device::Cuda(4096), ..options() };
    let error = Policy::load(&source, &wanted).err().unwrap();
    assert!(matches!(error, PolicyError::Device(_)), "{error}");
    let policy = Policy::load(&source, &PolicyOptions { device: Device::Auto, ..options() }).unwrap();
    if crate::cuda::devices().is_err() {
        assert_eq!(policy.describe().device, "CPU");
        assert!(policy.describe().warnings.is_empty());
    }
}

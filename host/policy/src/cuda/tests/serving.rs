//! Whole searches on the emulated device: as on the CPU, whatever the memory, with recordings and without, and what a
//! failure leaves behind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::super::model::DeviceModel;
use super::emulated::Emulated;
use super::{MEMORY, options};
use crate::backend::{Backend, Device};
use crate::checkpoint::{Checkpoint, NumberFormat};
use crate::config::Config;
use crate::cuda::DeviceError;
use crate::error::PolicyError;
use crate::format::{Segment, Snippet, TrajectoryFormat};
use crate::generate::Sampling;
use crate::random::{random_checkpoint_in, tiny_config, tiny_policy};
use crate::session::{Policy, PolicyOptions, Session, Source};
use crate::tests::grounded::grounded_folder;
use crate::tests::serving::{SAMPLING, block_on, block_on_all, node};

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

/// What a search sees: the tokens of its candidates, and the bits of all log-probabilities.
#[derive(Debug, PartialEq)]
struct Seen {
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
}

/// A small search: two turns, the second from both proposals of the first; at the end the first is judged once more.
async fn search(session: &Session, seed: u64) -> Seen {
    let sampling = Sampling { candidates: 2, max_think_tokens: 4, max_query_tokens: 3, seed, ..SAMPLING };
    let question = vec![Segment::UserQuery(format!("question {seed}?"))];
    let root = session.extend(vec![(None, question)]).await.unwrap();
    let first = session.propose(root, sampling).await.unwrap().concat();
    let snippet = || Snippet { title: "Ice".to_owned(), text: "less dense than water".to_owned() };
    let steps = first.iter().map(|one| (Some(one.node), vec![Segment::TopKResponse(vec![snippet()])]));
    let read = session.extend(steps.collect()).await.unwrap();
    let second = session.propose(read.clone(), sampling).await.unwrap().concat();
    let judged = |node| (node, vec!["so it is".to_owned(), "no".to_owned()]);
    let judgements = session.perplexity(read.into_iter().map(judged).collect()).await.unwrap();
    let all = || first.iter().chain(&second);
    let judged = judgements.concat().into_iter().flat_map(|one| one.log_probabilities);
    Seen {
        tokens: all().flat_map(|one| one.trace.iter().map(|fed| fed.id)).collect(),
        log_probabilities: all().map(|one| one.log_probability).chain(judged).collect(),
    }
}

fn alone(policy: &Policy, seeds: u64) -> Vec<Seen> {
    (0..seeds).map(|seed| block_on(search(&policy.session(), seed))).collect()
}

fn together(policy: &Policy, seeds: u64) -> Vec<Seen> {
    let sessions: Vec<Session> = (0..seeds).map(|_| policy.session()).collect();
    let start =
        |(seed, session)| -> Pin<Box<dyn Future<Output = Seen> + '_>> { Box::pin(search(session, seed)) };
    block_on_all((0..).zip(&sessions).map(start).collect())
}

/// The same tokens, and log-probabilities as near as another order of sums leaves them.
fn assert_near(expected: &[Seen], got: &[Seen]) {
    for (a, b) in expected.iter().zip(got) {
        assert_eq!(a.tokens, b.tokens);
        let pairs = a.log_probabilities.iter().zip(&b.log_probabilities);
        assert!(pairs.into_iter().all(|(x, y)| (x - y).abs() < 1e-3), "{a:?} {b:?}");
    }
}

#[test]
fn grounded_searches_are_those_of_the_cpu() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let folder = folder(NumberFormat::F32);
    let grounded = grounded_folder();
    std::fs::copy(grounded.path().join("orion.json"), folder.path().join("orion.json")).unwrap();
    let cpu = Policy::load(&Source::Folder(folder.path().to_owned()), &options()).unwrap();
    let policy = on_device(&folder, &device, &options());
    assert_near(&alone(&cpu, 3), &alone(&policy, 3));
}

#[test]
fn searches_are_those_of_the_cpu() {
    let Some(device) = Emulated::new(MEMORY) else { return };
    let folder = folder(NumberFormat::F32);
    let cpu = Policy::load(&Source::Folder(folder.path().to_owned()), &options()).unwrap();
    let policy = on_device(&folder, &device, &options());
    assert!(policy.describe().device.starts_with("emulated, F32"));
    assert_near(&alone(&cpu, 2), &alone(&policy, 2));
    let (one, other) = (cpu.counters(), policy.counters());
    assert_eq!((one.rows, one.decoded_tokens), (other.rows, other.decoded_tokens));
}

#[test]
fn searches_do_not_depend_on_memory_company_or_recordings() {
    for (numbers, state_bytes) in [(NumberFormat::F32, 40_000), (NumberFormat::Bf16, 26_000)] {
        let Some(device) = Emulated::new(MEMORY) else { return };
        let folder = folder(numbers);
        let policy = on_device(&folder, &device, &options());
        let expected = alone(&policy, 2);
        assert!(0 < device.counts().1, "short steps are replayed");
        // Enough for the longest trajectory and little more.
        let tight = PolicyOptions { max_state_bytes: state_bytes, max_step_tokens: 37, ..options() };
        let pressed = on_device(&folder, &device, &tight);
        assert_eq!(together(&pressed, 2), expected, "{numbers:?}");
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

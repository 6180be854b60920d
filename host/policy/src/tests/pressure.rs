//! Serving with too little memory: slower, never different.

use std::future::Future;
use std::pin::Pin;

use super::serving::{SAMPLING, block_on, block_on_all, node, response, start};
use crate::checkpoint::NumberFormat;
use crate::config::Config;
use crate::generate::Sampling;
use crate::matrices::WeightFormat;
use crate::random::{random_checkpoint_in, tiny_config, tiny_policy};
use crate::session::{Candidate, JudgedText, NodeId, Policy, PolicyOptions, Session, Source};

/// What a search sees of a candidate, in bits: all that must not depend on memory.
#[derive(Debug, PartialEq)]
struct Sight {
    log_probability: u32,
    trace: Vec<(u32, Option<u32>)>,
    judgements: Vec<u32>,
}

type Seen = Vec<Sight>;

fn seen(candidate: &Candidate, judged: &[JudgedText]) -> Sight {
    let judgements = judged.iter().flat_map(|one| &one.log_probabilities);
    let bits = |value: &Option<f32>| value.map(f32::to_bits);
    Sight {
        log_probability: candidate.log_probability.to_bits(),
        trace: candidate.trace.iter().map(|fed| (fed.id, bits(&fed.log_probability))).collect(),
        judgements: judgements.map(|value| value.to_bits()).collect(),
    }
}

/// A search over a tree: every turn each survivor proposes, each proposal reads results and is judged, two survive;
/// after every turn the first node of all is branched from again, and at the end the first turn is judged once more.
async fn search(session: &Session, question: &str, seed: u64) -> Seen {
    let mut out = Vec::new();
    let root = session.extend(vec![(None, start(question))]).await.unwrap()[0];
    let mut survivors = vec![root];
    let mut early = Vec::new();
    for turn in 0..3 {
        survivors.push(root);
        let sampling = Sampling { seed: seed + turn, ..SAMPLING };
        let proposed: Vec<Candidate> = session.propose(survivors.clone(), sampling).await.unwrap().concat();
        let steps = proposed.iter().map(|candidate| (Some(candidate.node), response())).collect();
        let read: Vec<NodeId> = session.extend(steps).await.unwrap();
        let texts = read.iter().map(|node| (*node, vec!["the documents are relevant".to_owned()])).collect();
        let judged = session.perplexity(texts).await.unwrap();
        out.extend(proposed.iter().zip(&judged).map(|(candidate, texts)| seen(candidate, texts)));
        if turn == 0 {
            early = proposed.into_iter().zip(read.clone()).collect();
        }
        survivors = read.into_iter().step_by(2).take(2).collect();
    }
    let texts = early.iter().map(|(_, node)| (*node, vec!["no".to_owned(), "they are".to_owned()])).collect();
    let judged = session.perplexity(texts).await.unwrap();
    out.extend(early.iter().zip(&judged).map(|((candidate, _), texts)| seen(candidate, texts)));
    out
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 5).unwrap();
    let config = Config { hidden_size: 256, feed_forward_size: 256, head_size: 64, ..tiny_config() };
    random_checkpoint_in(NumberFormat::F32, &config, 3, folder.path()).unwrap();
    folder
}

fn load(folder: &tempfile::TempDir, options: &PolicyOptions) -> Policy {
    Policy::load(&Source::Folder(folder.path().to_owned()), options).unwrap()
}

fn all_at_once(policy: &Policy, sessions: &[Session]) -> Vec<Seen> {
    assert!(policy.counters().active_sequences == 0);
    let futures = sessions
        .iter()
        .enumerate()
        .map(|(index, session)| -> Pin<Box<dyn Future<Output = Seen> + '_>> {
            Box::pin(async move { search(session, &format!("question {index}"), index as u64).await })
        })
        .collect();
    block_on_all(futures)
}

#[test]
fn evicted_equals_kept_in_every_format() {
    let folder = folder();
    for weights in [WeightFormat::AsStored, WeightFormat::Q8_0, WeightFormat::Q4K] {
        let roomy = PolicyOptions { weights, ..PolicyOptions::default() };
        let kept = load(&folder, &roomy);
        let alone: Vec<Seen> = (0..3)
            .map(|index| {
                let session = kept.session();
                block_on(search(&session, &format!("question {index}"), index))
            })
            .collect();
        let counters = kept.counters();
        assert_eq!((counters.evicted_states, counters.recomputed_tokens), (0, 0));
        // Enough for the longest trajectory and little more.
        let tight = PolicyOptions { max_state_bytes: 2_500_000, max_step_tokens: 37, ..roomy };
        let policy = load(&folder, &tight);
        let sessions: Vec<Session> = (0..3).map(|_| policy.session()).collect();
        assert_eq!(all_at_once(&policy, &sessions), alone, "{weights}");
        let pressed = policy.counters();
        assert!(0 < pressed.evicted_states && 0 < pressed.recomputed_tokens, "{pressed:?}");
        assert!(pressed.state_bytes <= 2_500_000);
        // What sessions are charged does not tell of it.
        assert_eq!(
            (pressed.prefilled_tokens, pressed.decoded_tokens),
            (counters.prefilled_tokens, counters.decoded_tokens)
        );
        assert_eq!(pressed.rows - pressed.recomputed_tokens, counters.rows);
        assert_eq!((pressed.active_sequences, pressed.waiting_sequences), (0, 0));
    }
}

#[test]
fn a_session_that_is_dropped_while_others_wait_for_its_states_harms_nobody() {
    let folder = folder();
    let options = PolicyOptions { max_state_bytes: 4_000_000, ..PolicyOptions::default() };
    let roomy = load(&folder, &PolicyOptions::default());
    let session = roomy.session();
    let root = node(&session, "why does ice float?");
    let expected = block_on(session.propose(vec![root; 6], SAMPLING)).unwrap();
    let policy = load(&folder, &options);
    let kept = policy.session();
    let own_root = node(&kept, "why does ice float?");
    // Others push its root out, and are given up one after another while it is being read again.
    for turn in 0..4 {
        let other = policy.session();
        let other_root = node(&other, &"a long question ".repeat(8));
        let mut call = Box::pin(other.propose(vec![other_root; 12], SAMPLING));
        let mut own = Box::pin(kept.propose(vec![own_root; 6], SAMPLING));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(call.as_mut().poll(&mut context).is_pending());
        let _ = own.as_mut().poll(&mut context);
        if turn % 2 == 0 {
            drop(call);
            drop(other);
            assert_eq!(log_probabilities(&block_on(own).unwrap()), log_probabilities(&expected));
        } else {
            drop(own);
            drop(call);
        }
    }
    let again = block_on(kept.propose(vec![own_root; 6], SAMPLING)).unwrap();
    assert_eq!(log_probabilities(&again), log_probabilities(&expected));
}

fn log_probabilities(groups: &[Vec<Candidate>]) -> Vec<u32> {
    groups.iter().flatten().map(|candidate| candidate.log_probability.to_bits()).collect()
}

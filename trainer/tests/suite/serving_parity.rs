//! One policy, two forward passes: the trainer's log-probabilities equal those of the serving engine to 1e-5.

use orion_policy::{Checkpoint, NodeId, Policy, PolicyOptions, Segment, Snippet, Source, tiny_policy};
use orion_trainer::data::{Example, Padded};
use orion_trainer::model::Lfm2;
use std::path::Path;

/// A future that is polled in place; the policy's own thread does the work.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn compare(folder: &Path, tolerance: f32) {
    let policy = Policy::load(&Source::Folder(folder.to_owned()), &PolicyOptions::default()).unwrap();
    let segments = vec![
        Segment::UserQuery("who built the breakwater at oskhaven".into()),
        Segment::Think("the key terms are built breakwater oskhaven.".into()),
        Segment::SearchQuery {
            query: "breakwater oskhaven".into(),
            retriever: Some(orion_policy::Retriever::Dense),
        },
        Segment::TopKResponse(vec![Snippet {
            title: "The long breakwater at Oskhaven".into(),
            text: "Tobiah Lunt began the long breakwater in 286".into(),
        }]),
    ];
    let text = "result 1, the long breakwater at oskhaven, fits breakwater; add lunt.";
    let judged = wait(async {
        let session = policy.session();
        let nodes: Vec<NodeId> = session.extend(vec![(None, segments.clone())]).await.unwrap();
        session.perplexity(vec![(nodes[0], vec![text.to_owned()])]).await.unwrap()
    });
    let served = &judged[0][0].log_probabilities;

    let format = policy.format();
    let mut all = segments;
    let before = format.encode_trajectory(&all).tokens.len();
    all.push(Segment::Think(text.into()));
    let span = format.encode_trajectory(&all);
    // After the start marker, before the end marker.
    let learn = (0..span.tokens.len()).map(|place| before < place && place + 1 < span.tokens.len()).collect();
    let example = Example { tokens: span.tokens, learn };
    let padded = Padded::new(&[&example], 0);
    let checkpoint = Checkpoint::open(folder).unwrap();
    let model = Lfm2::from_weights(checkpoint.config().clone(), checkpoint.weights().unwrap()).unwrap();
    let losses = model.token_losses(&padded.input, &padded.wanted).unwrap().to_vec1::<f32>().unwrap();

    assert_eq!(losses.len(), served.len());
    for (place, (loss, log_probability)) in losses.iter().zip(served).enumerate() {
        let gap = (loss + log_probability).abs();
        assert!(
            gap < tolerance * loss.abs().max(1.0),
            "token {place}: trained {}, served {log_probability}",
            -loss
        );
    }
}

#[test]
fn a_random_policy_has_the_same_log_probabilities_in_both() {
    let folder = tempfile::tempdir().unwrap();
    tiny_policy(folder.path(), 3).unwrap();
    compare(folder.path(), 1e-5);
}

#[test]
fn so_does_the_policy_that_ships() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/policy/nano");
    if folder.join("model.safetensors").exists() {
        // Thousands of tiny terms beside a 1: the order in which f32 sums them shows in the fifth digit.
        compare(&folder, 3e-5);
    } else {
        eprintln!("skipped: `{}` is not here yet", folder.display());
    }
}

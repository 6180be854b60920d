//! Speed of the policy on random weights of a given shape, against a floor from operations and bytes.
//!
//! `cargo run --release -p orion-policy --example bench_policy -- [nano|350M] [threads] [as-stored|q8_0|q4_0|q4_k]`
//!
//! The floor takes the machine's own measured peaks: multiply-adds of a matrix product that fits the cache, and bytes
//! of a product with one row, which streams its weights. Sampling is without a nucleus: random weights spread over the
//! whole vocabulary, which a nucleus would sort at every token; a trained model's is a handful.

#[path = "support/shapes.rs"]
mod shapes;
#[path = "support/waiting.rs"]
mod waiting;

use std::time::Instant;

use orion_kernels::{Packed, Precision, Threads, linear};
use orion_policy::{
    NodeId, NumberFormat, Policy, PolicyOptions, Sampling, Segment, Session, Snippet, Source, WeightFormat,
    random_checkpoint_in, tiny_policy,
};

use waiting::block_on;

/// Bytes of a weight of the product that bandwidth is measured with: f16, as those of the policy that ships.
const WEIGHT_BYTES: usize = 2;

/// The best of several runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Multiply-adds a second of a product in cache, and bytes a second of a product with one row over `bytes` of weights.
fn peaks(threads: &Threads, bytes: usize) -> (f64, f64) {
    let (rows, size) = (256, 256);
    let small = Packed::pack(&vec![0.5; size * size], size, size);
    let x = vec![0.25; rows * size];
    let mut out = vec![0.0; rows * size];
    let seconds = best(|| (0..20).for_each(|_| linear(&x, rows, &small, None, &mut out, threads)));
    let operations = (20 * rows * size * size) as f64 / seconds;
    let inputs = 1024;
    let outputs = (bytes / WEIGHT_BYTES / inputs).div_ceil(16) * 16;
    let large = Packed::pack_in(Precision::F16, &vec![0.5; outputs * inputs], outputs, inputs);
    let row = vec![0.25; inputs];
    let mut column = vec![0.0; outputs];
    let streamed = best(|| linear(&row, 1, &large, None, &mut column, threads));
    (operations, (outputs * inputs * WEIGHT_BYTES) as f64 / streamed)
}

fn node(session: &Session, parent: Option<NodeId>, segment: Segment) -> NodeId {
    block_on(session.extend(vec![(parent, vec![segment])])).expect("within limits")[0]
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "nano".to_owned());
    let threads: usize = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    let config = shapes::shape(&name).expect(shapes::NAMES);
    let weights =
        std::env::args().nth(3).map_or(WeightFormat::AsStored, |text| text.parse().expect("a format"));
    let folder = std::env::temp_dir().join(format!("bench-policy-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    tiny_policy(&folder, 1).expect("writable");
    random_checkpoint_in(NumberFormat::F16, &config, 1, &folder).expect("writable");
    let options = PolicyOptions { threads, weights, ..PolicyOptions::default() };
    let policy = Policy::load(&Source::Folder(folder.clone()), &options).expect("a good checkpoint");
    std::fs::remove_dir_all(&folder).expect("removable");

    let body = config.parameters() - (config.vocabulary_size * config.hidden_size) as u64;
    let head = (config.vocabulary_size * config.hidden_size) as u64;
    let pool = if threads == 0 { None } else { Some(Threads::new(threads)) };
    let pool = pool.as_ref().unwrap_or_else(|| Threads::global());
    let weight_bytes = policy.describe().weight_bytes;
    let (operations, bandwidth) = peaks(pool, weight_bytes);
    println!(
        "{name}: {} parameters, {} kernels, {} threads; {:.1} G multiply-adds/s, {:.1} GB/s of weights",
        config.parameters(),
        orion_kernels::cpu_level(),
        pool.count(),
        operations / 1e9,
        bandwidth / 1e9
    );

    for tokens in [64usize, 256, 1024] {
        let seconds = best(|| {
            let session = policy.session();
            node(&session, None, Segment::UserQuery("x".repeat(tokens - 3)));
        });
        let floor = tokens as f64 * body as f64 / operations;
        println!(
            "prefill {tokens:5}: {:8.0} tokens/s, {:.2} of the floor",
            tokens as f64 / seconds,
            seconds / floor
        );
    }
    for batch in [1u32, 2, 4, 8, 16, 64] {
        let session = policy.session();
        let root = node(&session, None, Segment::UserQuery("x".repeat(300)));
        let length = 40;
        let sampling = Sampling {
            candidates: batch,
            temperature: 1.0,
            top_p: 1.0,
            max_think_tokens: length,
            max_query_tokens: 1,
            seed: 3,
        };
        let mut tokens = 0;
        let seconds = best(|| {
            let all = block_on(session.propose(vec![root], sampling)).expect("within limits");
            tokens = all[0].iter().map(|candidate| candidate.tokens).sum::<u32>();
        });
        // A step must stream all weights and compute its rows.
        let steps = f64::from(length + 3);
        let stream = weight_bytes as f64 / bandwidth;
        let compute = f64::from(batch) * (body + head) as f64 / operations;
        let floor = steps * stream.max(compute);
        println!(
            "decode x{batch:3}: {:8.0} tokens/s, {:6.2} ms a step, {:.2} of the floor",
            f64::from(tokens) / seconds,
            seconds * 1e3 / steps,
            seconds / floor
        );
    }

    let started = Instant::now();
    let session = policy.session();
    let mut nodes = vec![node(&session, None, Segment::UserQuery("x".repeat(12)))];
    let sampling = Sampling {
        candidates: 2,
        temperature: 1.0,
        top_p: 1.0,
        max_think_tokens: 30,
        max_query_tokens: 10,
        seed: 4,
    };
    for _ in 0..4 {
        let proposed = block_on(session.propose(nodes.clone(), sampling)).expect("within limits").concat();
        let snippets = vec![Snippet { title: "t".repeat(5), text: "x".repeat(25) }; 5];
        let steps = proposed
            .iter()
            .map(|candidate| (Some(candidate.node), vec![Segment::TopKResponse(snippets.clone())]))
            .collect();
        let read = block_on(session.extend(steps)).expect("within limits");
        let texts = read.iter().map(|node| (*node, vec!["y".repeat(40)])).collect();
        block_on(session.perplexity(texts)).expect("within limits");
        nodes = read.into_iter().take(2).collect();
    }
    let seconds = started.elapsed().as_secs_f64();
    let usage = session.usage();
    let read = usage.prefilled_tokens as f64 * body as f64 / operations;
    let steps = 4.0 * 43.0;
    let written = steps * (weight_bytes as f64 / bandwidth).max(4.0 * (body + head) as f64 / operations);
    println!(
        "beam of 4 turns, 2 x 2: {:.0} ms; {} tokens read, {} written; {:.2} of the floor ({:.0} + {:.0} ms)",
        seconds * 1e3,
        usage.prefilled_tokens,
        usage.decoded_tokens,
        seconds / (read + written),
        read * 1e3,
        written * 1e3
    );
}

//! Linear layers of a search policy at the few rows of decoding: microseconds and multiply-adds a second, by the
//! precision that holds the weights.
//!
//! `bench_linear [THREADS]` prints a table: the best of many short runs, so that a busy machine disturbs little.

use std::time::Instant;

use std::sync::Arc;

use orion_kernels::{BlockFormat, BlockRows, Packed, Precision, Threads, linear, quantise_blocks};

fn best(mut run: impl FnMut()) -> f64 {
    let timed = (0..50).map(|_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64() * 1e6
    });
    timed.fold(f64::INFINITY, f64::min)
}

fn main() {
    let threads: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let pool = Threads::new(threads);
    for (outputs, inputs) in [(8192, 256), (1280, 256), (256, 640), (768, 256), (4608, 1024), (65536, 1024)] {
        let weight: Vec<f32> = (0..outputs * inputs).map(|i| (i % 17) as f32 / 16.0).collect();
        let plain = [Precision::F32, Precision::F16, Precision::Bf16].map(|precision| {
            (format!("{precision:?}"), Packed::pack_in(precision, &weight, outputs, inputs))
        });
        let blocks =
            BlockFormat::ALL.into_iter().filter(|format| inputs % format.block_len() == 0).map(|format| {
                let bytes = Arc::new(quantise_blocks(format, &weight));
                let rows = vec![BlockRows { format, bytes, start: 0, rows: outputs }];
                (format!("{format:?}"), Packed::from_blocks(rows, inputs, &pool))
            });
        for (name, packed) in plain.into_iter().chain(blocks) {
            print!("[{outputs:5}, {inputs:4}] {name}");
            for rows in [1, 2, 3, 4, 6, 8, 16, 96] {
                let x = vec![0.25; rows * inputs];
                let mut out = vec![0.0; rows * outputs];
                let us = best(|| linear(&x, rows, &packed, None, &mut out, &pool));
                let operations = (rows * inputs * outputs) as f64 / us / 1e3;
                print!("  x{rows} {us:.0} µs {operations:.1} G/s");
            }
            println!();
        }
    }
}

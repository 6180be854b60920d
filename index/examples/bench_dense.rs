//! How fast vectors are searched, how much is found and what building costs, in each way of searching them.
//!
//! ```text
//! bench_dense write FILE [VECTORS] [QUERIES]      made-up vectors and queries, little-endian f32, one after the other
//! bench_dense exact|quantised|graph FILE [QUERIES]
//! ```
//! The last line of the output is one JSON object. A file is also what `tests/bench/index/peer_dense.py` reads, so that
//! both search the same; its last QUERIES vectors (300 where not said) are the queries. Made-up vectors have 384
//! dimensions and lie in clusters, with most of what tells them apart in 24 directions, as embeddings of text do.
//! Recall is against exact search of the same index.

#[path = "support/figures.rs"]
mod figures;

use figures::{Figures, Random, memory_mb, put, put_times};
use orion_index::{DenseSearch, DenseSettings, Document, Index, IndexSettings, OpenOptions};
use std::collections::BTreeSet;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DIMENSIONS: usize = 384;
/// Directions in which vectors differ much.
const LATENT: usize = 24;
/// Vectors of one cluster, on average.
const IN_A_CLUSTER: u64 = 1000;
const QUERIES: u64 = 300;

fn write(file: &Path, vectors: u64, queries: u64) -> Outcome<()> {
    let directions: Vec<Vec<f32>> =
        (0..LATENT as u64).map(|number| Random(1 << 50 | number).normals(DIMENSIONS)).collect();
    let clusters = vectors.div_ceil(IN_A_CLUSTER) + 15;
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    // Queries come from the same clusters.
    for number in (0..vectors).chain((0..queries).map(|query| 1 << 40 | query)) {
        let mut own = Random(number);
        let middle = Random((1 << 45) | (own.next() % clusters)).normals(LATENT);
        let mut vector: Vec<f32> = own.normals(DIMENSIONS).iter().map(|value| value * 0.2).collect();
        for (middle, direction) in middle.iter().zip(&directions) {
            let much = (middle + 0.6 * own.normal()) * 0.6;
            for (value, part) in vector.iter_mut().zip(direction) {
                *value += much * part;
            }
        }
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

fn read_vector(input: &mut impl Read) -> Outcome<Vec<f32>> {
    let mut bytes = vec![0; DIMENSIONS * 4];
    input.read_exact(&mut bytes)?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

fn run(search: DenseSearch, file: &Path, query_count: u64) -> Outcome<serde_json::Value> {
    let vectors = (std::fs::metadata(file)?.len() / (DIMENSIONS as u64 * 4))
        .checked_sub(query_count)
        .ok_or("the file has fewer vectors than there should be queries")?;
    let mut input = BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    // Beside the vectors, where there is room for a copy of them.
    let place =
        tempfile::tempdir_in(file.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new(".")))?;
    let dense = DenseSettings { dimensions: DIMENSIONS, search, graph_from: 1, ..DenseSettings::default() };
    let settings = IndexSettings { dense: Some(dense), ..IndexSettings::default() };
    let index = Index::create(&place.path().join("index"), &settings, OpenOptions::default())?;
    let mut writer = index.writer()?;
    let start = Instant::now();
    for number in 0..vectors {
        let vector = Some(read_vector(&mut input)?);
        writer.add(Document {
            id: number.to_string(),
            text: "x".to_owned(),
            vector,
            ..Document::default()
        })?;
    }
    let added_s = start.elapsed().as_secs_f64();
    writer.commit()?;
    let built_s = start.elapsed().as_secs_f64();
    drop(writer);
    let stats = index.stats()?;
    let searcher = index.searcher();
    let mut queries = Vec::new();
    for _ in 0..query_count {
        queries.push(read_vector(&mut input)?);
    }
    let mut figures = Figures::new();
    put(&mut figures, "vectors", vectors as f64);
    put(&mut figures, "add_s", added_s);
    put(&mut figures, "commit_s", built_s - added_s);
    put(&mut figures, "build_vectors_per_s", vectors as f64 / built_s);
    put(&mut figures, "disk_mb", stats.disk_bytes as f64 / 1e6);
    put(&mut figures, "graph_vectors", stats.graph_vectors as f64);
    put(&mut figures, "build_peak_mb", memory_mb("VmHWM:"));
    for k in [10, 100] {
        let mut times = Vec::new();
        let (mut found_of_best, mut best_of_all) = (0, 0);
        for timed in [false, true] {
            for query in &queries {
                let start = Instant::now();
                let found = searcher.dense_vector(query, k, None)?;
                let elapsed = start.elapsed();
                if timed {
                    times.push(elapsed.as_secs_f64() * 1000.0);
                    continue;
                }
                let best = searcher.dense_vector_by(query, k, None, DenseSearch::Exact)?;
                let best: BTreeSet<String> = best.into_iter().map(|hit| hit.id).collect();
                best_of_all += best.len();
                found_of_best += found.iter().filter(|hit| best.contains(&hit.id)).count();
            }
        }
        put_times(&mut figures, &format!("k{k}"), times);
        put(&mut figures, &format!("recall_at_{k}"), found_of_best as f64 / best_of_all as f64);
    }
    put(&mut figures, "search_rss_mb", memory_mb("VmRSS:"));
    Ok(serde_json::Value::Object(figures))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (what, file, numbers) = match words.as_slice() {
        [what, file, numbers @ ..] => (*what, Path::new(*file), numbers),
        _ => return Err("expected `write`, `exact`, `quantised` or `graph`, and a file".into()),
    };
    let number = |place: usize, default: u64| numbers.get(place).map_or(Ok(default), |text| text.parse());
    let search = match what {
        "write" => return write(file, number(0, 100_000)?, number(1, QUERIES)?),
        "exact" => DenseSearch::Exact,
        "quantised" => DenseSearch::Quantised,
        "graph" => DenseSearch::Graph,
        other => {
            return Err(
                format!("way: expected `write`, `exact`, `quantised` or `graph`, got `{other}`").into()
            );
        }
    };
    println!("{}", run(search, file, number(0, QUERIES)?)?);
    Ok(())
}

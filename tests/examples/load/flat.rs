//! Everything at once for as long as one likes, while memory, open files, threads and disk are looked at.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::latency::{PATH, body};
use crate::server::{Server, queries};

/// Searches at once.
const SEARCHERS: usize = 4;
/// Documents that come and go; the index stays as large as it is.
const CHURNED: u64 = 500;
/// Documents of one bulk request.
const BULK: u64 = 25;
/// Looks at the process; more for long runs would only make a longer report.
const SAMPLES: u32 = 60;
/// What the later half may be larger than the earlier one by, beside a share: caches and allocators breathe.
const SLACK_KIB: u64 = 32 << 10;
/// The share.
const SLACK: f64 = 1.15;

/// What happened, by name.
#[derive(Default)]
struct Counts {
    searches: AtomicU64,
    given_up: AtomicU64,
    changes: AtomicU64,
    made_anew: AtomicU64,
    exchanged: AtomicU64,
    refused: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Counts {
    /// Notes an answer that may be 429 and should otherwise be one of `fine`.
    fn note(&self, what: &AtomicU64, status: u16, fine: &[u16], answer: &str) {
        if status == 429 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        } else if fine.contains(&status) {
            what.fetch_add(1, Ordering::Relaxed);
        } else if let Ok(mut wrong) = self.wrong.lock() {
            wrong.push(format!("{status} {answer}"));
        }
    }
}

/// One of the things that go on, until `stop`.
type Work = fn(&Server, &Counts, &AtomicBool, usize, &[String]) -> Result<()>;

fn search(server: &Server, counts: &Counts, stop: &AtomicBool, own: usize, texts: &[String]) -> Result<()> {
    let mut client = server.client()?;
    let kinds = ["lexical", "hybrid", "lexical", "adaptive", "auto"];
    for number in own.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = &texts[number * 7 % texts.len()];
        let asked = body(kinds[number % kinds.len()], text);
        let (status, answer) = client.ask("POST", PATH, &asked)?;
        counts.note(&counts.searches, status, &[200], &answer);
    }
    Ok(())
}

/// Streams that are begun and left.
fn give_up(server: &Server, counts: &Counts, stop: &AtomicBool, _own: usize, texts: &[String]) -> Result<()> {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut client = server.client()?;
        client.send("POST", "/isles/_search/stream", &body("adaptive", &texts[number % texts.len()]))?;
        std::thread::sleep(Duration::from_millis(20 + (number as u64 * 37) % 200));
        counts.given_up.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Documents that are put, changed and deleted.
fn change(server: &Server, counts: &Counts, stop: &AtomicBool, _own: usize, texts: &[String]) -> Result<()> {
    let mut client = server.client()?;
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut bulk = String::new();
        for number in 0..BULK {
            let id = format!("churn-{}", (round * BULK + number) % CHURNED);
            if (round + number) % 3 == 0 {
                bulk.push_str(&format!("{}\n", json!({ "delete": { "_id": id } })));
            } else {
                let text = &texts[((round + number) as usize) % texts.len()];
                let source =
                    json!({ "title": text, "text": format!("{text}, round {round}"), "year": round % 400 });
                bulk.push_str(&format!("{}\n{source}\n", json!({ "index": { "_id": id } })));
            }
        }
        let path = if round % 20 == 0 { "/isles/_bulk?refresh=true" } else { "/isles/_bulk" };
        let (status, answer) = client.ask("POST", path, &bulk)?;
        counts.note(&counts.changes, status, &[200], &answer);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Indexes that are made, filled, searched and deleted, and snapshots of them.
fn make_anew(
    server: &Server,
    counts: &Counts,
    stop: &AtomicBool,
    _own: usize,
    _texts: &[String],
) -> Result<()> {
    let mut client = server.client()?;
    let repository = json!({ "type": "fs", "settings": { "location": "load" } }).to_string();
    client.ask("PUT", "/_snapshot/load", &repository)?;
    while !stop.load(Ordering::Relaxed) {
        let steps = [
            ("PUT", "/passing", String::new()),
            ("PUT", "/passing/_doc/1?refresh=true", json!({ "title": "a lamp" }).to_string()),
            (
                "PUT",
                "/_snapshot/load/passing?wait_for_completion=true",
                json!({ "indices": "passing" }).to_string(),
            ),
            ("DELETE", "/passing", String::new()),
            ("POST", "/_snapshot/load/passing/_restore?wait_for_completion=true", String::new()),
            ("POST", "/passing/_search", json!({ "query": { "match": { "title": "lamp" } } }).to_string()),
            ("DELETE", "/passing", String::new()),
            ("DELETE", "/_snapshot/load/passing", String::new()),
        ];
        for (method, path, body) in steps {
            let (status, answer) = client.ask(method, path, &body)?;
            counts.note(&counts.made_anew, status, &[200, 201], &answer);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // What an interrupted round left is the folder's, which goes.
    Ok(())
}

/// A plugin in place of a standard one, in two versions that take turns.
fn exchange(
    server: &Server,
    counts: &Counts,
    stop: &AtomicBool,
    _own: usize,
    _texts: &[String],
) -> Result<()> {
    let folder = server.folder.path().join("plugins");
    let component = orion_bundle::component("hybrid").ok_or("`hybrid` is not bundled")?;
    std::fs::write(folder.join("hybrid.wasm"), component.bytes)?;
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let fuel = 10_000_000_000 + round % 2;
        let manifest = format!(
            "name = \"hybrid\"\ncomponent = \"hybrid.wasm\"\ncontract = \"0.1\"\ngrants = [\"retrieval\"]\n[limits]\nfuel = {fuel}\n"
        );
        let draft = folder.join(".hybrid.draft");
        std::fs::write(&draft, manifest)?;
        std::fs::rename(&draft, folder.join("hybrid.toml"))?;
        counts.exchanged.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

pub(crate) fn run(program: &Path, models: Option<&Path>, duration: Duration) -> Result<(Value, bool)> {
    let texts = queries()?;
    let configuration = "snapshots = \"snapshots\"\nwatch_plugins_ms = 200\n[bounds]\nadaptive_searches = 8\n[adaptive]\nms = 2000";
    let server = Server::start(program, models, configuration)?;
    let (counts, stop) = (Counts::default(), AtomicBool::new(false));
    let began = Instant::now();
    let mut works: Vec<Work> = vec![give_up, change, make_anew, exchange];
    works.extend([search as Work; SEARCHERS]);
    let (samples, failures) = std::thread::scope(|scope| {
        let (server, counts, stop, texts) = (&server, &counts, &stop, texts.as_slice());
        let threads: Vec<_> = works
            .into_iter()
            .enumerate()
            .map(|(own, work)| scope.spawn(move || work(server, counts, stop, own, texts)))
            .collect();
        let mut samples = Vec::new();
        for number in 1..=SAMPLES {
            let until = duration * number / SAMPLES;
            std::thread::sleep(until.saturating_sub(began.elapsed()));
            samples.push(look(server, began));
        }
        stop.store(true, Ordering::Relaxed);
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("a thread panicked".to_owned()),
        });
        (samples, ended.flatten().collect::<Vec<String>>())
    });
    let samples = samples.into_iter().collect::<Result<Vec<Value>>>()?;
    // The first third warms caches and policies up; then the first half of the rest against the second.
    let resident = |from: usize, to: usize| {
        let mut values: Vec<u64> =
            samples[from..to].iter().filter_map(|sample| sample["resident_kib"].as_u64()).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let (third, all) = (samples.len() / 3, samples.len());
    let (earlier, later) = (resident(third, 2 * third), resident(2 * third, all));
    let is_flat = later as f64 <= earlier as f64 * SLACK + SLACK_KIB as f64;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let wrong = counts.wrong.lock().map_err(|_| "a thread panicked")?;
    let report = json!({
        "seconds": began.elapsed().as_secs_f64().round(),
        "earlier_resident_kib": earlier,
        "later_resident_kib": later,
        "is_flat": is_flat,
        "searches": read(&counts.searches),
        "given_up": read(&counts.given_up),
        "bulk_requests": read(&counts.changes),
        "index_steps": read(&counts.made_anew),
        "plugins_exchanged": read(&counts.exchanged),
        "refused": read(&counts.refused),
        "wrong": wrong.len(),
        "first_wrong": wrong.first(),
        "failures": failures,
        "samples": samples,
    });
    let is_sound = is_flat && wrong.is_empty() && failures.is_empty();
    Ok((report, is_sound))
}

fn look(server: &Server, began: Instant) -> Result<Value> {
    Ok(json!({
        "second": (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        "resident_kib": server.status("VmRSS")?,
        "threads": server.status("Threads")?,
        "open_files": server.open_files()?,
        "disk_bytes": server.disk_bytes()?,
    }))
}

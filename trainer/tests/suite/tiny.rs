//! A collection of eight documents with a made-up encoder, for tests of training: no data, no model, no download.

use orion_eval::dataset::{CorpusDocument, Query};
use orion_host::index::Embedder;
use orion_trainer::data::Part;
use orion_trainer::grpo::grounds::Grounds;
use orion_trainer::trajectories::collection::open_index;
use orion_trainer::trajectories::{PermittedSet, Source};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const TEXTS: [&str; 8] = [
    "lamp of the reef",
    "the long breakwater",
    "a keeper of bees",
    "salt trade by boat",
    "the glass of oskhaven",
    "two winters of ice",
    "a map without names",
    "the bell that sank",
];

/// One query for each document; every fourth is held out.
pub(crate) fn source() -> Source {
    let documents = TEXTS.iter().enumerate().map(|(place, text)| CorpusDocument {
        id: format!("d{place}"),
        title: String::new(),
        text: (*text).to_owned(),
        metadata: serde_json::Map::new(),
    });
    let queries = TEXTS.iter().enumerate().map(|(place, text)| {
        let query = Query { id: format!("q{place}"), text: format!("{text}?") };
        (query, if place % 4 == 3 { Part::HeldOut } else { Part::Train })
    });
    let targets = (0..TEXTS.len()).map(|place| (format!("q{place}"), vec![format!("d{place}")]));
    Source {
        set: PermittedSet::Bundled,
        documents: documents.collect(),
        queries: queries.collect(),
        targets: targets.collect::<BTreeMap<_, _>>(),
    }
}

/// Counts of letter pairs, folded into 384 places: similar spelling, similar vector.
fn embedder() -> Embedder {
    Embedder::new("letter-pairs", 384, |texts| {
        let vector = |text: &&str| {
            let mut vector = vec![0.0f32; 384];
            // Never the zero vector.
            vector[0] = 0.1;
            for pair in text.as_bytes().windows(2) {
                vector[(usize::from(pair[0]) * 31 + usize::from(pair[1])) % 384] += 1.0;
            }
            vector
        };
        Ok(texts.iter().map(vector).collect())
    })
}

/// The collection with the reward plugin, made once for all tests of a program.
pub(crate) fn grounds() -> &'static Grounds {
    static GROUNDS: OnceLock<Grounds> = OnceLock::new();
    GROUNDS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep().join("index");
        let searcher = open_index(&source(), &folder, Some(embedder()), None).unwrap();
        Grounds::new(vec![searcher], "reward").unwrap()
    })
}

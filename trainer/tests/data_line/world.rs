//! A set of a dozen documents in a folder of its own, in the place of the bundled corpus.

use orion_trainer::nano::{Inputs, Places};
use orion_trainer::pool::{PoolHeader, SetStamp};
use orion_trainer::trajectories::PermittedSet;
use orion_trainer::trajectories::collection::{Collection, RetrieverChoice, SampleSize};
use std::fmt::Write;
use std::path::Path;

const DOCUMENTS: [(&str, &str); 12] = [
    ("Defrost cycle", "A heat pump reverses its valve to melt ice that grows on the outdoor coil in winter."),
    (
        "Outdoor coil",
        "Moist air freezes on the coil of a heat pump when the refrigerant is colder than the dew point.",
    ),
    ("Refrigerant", "The refrigerant carries heat from the outdoor coil to the indoor coil of the pump."),
    ("Cave bear", "The cave bear lived on plants, as isotopes in its bones and teeth show."),
    ("Isotopes in bone", "Nitrogen isotopes in collagen tell what an animal ate, plants or meat."),
    ("Brown bear", "Brown bears eat berries, roots, fish and meat, whatever the season offers."),
    ("Breakwater", "The long breakwater at Oskhaven was built by Tobiah Lunt of granite blocks."),
    ("Tobiah Lunt", "Tobiah Lunt, builder of harbours, learned his trade in the granite quarries."),
    ("Granite", "Granite is a hard stone that lasts in salt water and storm waves."),
    ("Sourdough", "Sourdough rises by wild yeast and lactic bacteria that live in flour."),
    ("Yeast", "Yeast turns sugar of the flour into gas, which makes dough rise."),
    ("Lens", "The lens of a lighthouse sends one thin ray through the reef gap at night."),
];

/// Query id, split, judged document, text.
const QUERIES: [(&str, &str, usize, &str); 11] = [
    ("q1", "train", 0, "why does ice on the heat pump melt now and then in winter"),
    ("q2", "train", 3, "what did cave bears live on according to their bones"),
    ("q3", "train", 6, "who built the long breakwater at the harbour of oskhaven"),
    ("q4", "train", 9, "which bacteria and yeast make the dough of sour bread rise"),
    ("q5", "train", 8, "which hard stone lasts in salt water and waves"),
    ("q6", "train", 4, "how do isotopes tell whether an animal ate plants or meat"),
    ("q7", "train", 11, "which lens sends a thin ray through the gap at night"),
    ("q8", "dev", 1, "when does moist air freeze on the outdoor coil"),
    ("q9", "dev", 7, "where did the builder of harbours learn his trade"),
    ("q10", "test", 5, "what do brown bears eat"),
    ("q11", "test", 10, "sugar flour gas dough"),
];

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) places: Places,
}

pub(crate) const SAMPLE: SampleSize =
    SampleSize { documents: 100, train_queries: 100, held_out_queries: 100 };

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        write_set(&root.join("corpus"));
        let places = Places {
            inputs: Inputs {
                data: root.join("data"),
                bundled: root.join("corpus"),
                encoder: root.join("no-encoder"),
                cache: root.join("cache"),
            },
            run: root.join("run"),
        };
        Self { folder, places }
    }

    pub(crate) fn collection(&self) -> Collection {
        Collection::open(PermittedSet::Bundled, &self.places, SAMPLE, None).unwrap()
    }

    pub(crate) fn header(&self, collection: &Collection) -> PoolHeader {
        PoolHeader {
            orion_pool: 1,
            retriever: RetrieverChoice::Lexical,
            turns: 4,
            depth: 12,
            seed: 7,
            sample: SAMPLE,
            sets: vec![SetStamp::of(collection)],
        }
    }
}

fn write_set(folder: &Path) {
    std::fs::create_dir_all(folder.join("qrels")).unwrap();
    let mut corpus = String::new();
    for (place, (title, text)) in DOCUMENTS.iter().enumerate() {
        let line = serde_json::json!({"_id": format!("d{place}"), "title": title, "text": text});
        writeln!(corpus, "{line}").unwrap();
    }
    std::fs::write(folder.join("corpus.jsonl"), corpus).unwrap();
    let mut queries = String::new();
    for (id, _, _, text) in QUERIES {
        writeln!(queries, "{}", serde_json::json!({"_id": id, "text": text})).unwrap();
    }
    std::fs::write(folder.join("queries.jsonl"), queries).unwrap();
    for split in ["train", "dev", "test"] {
        let mut table = "query-id\tcorpus-id\tscore\n".to_owned();
        for (id, _, target, _) in QUERIES.iter().filter(|query| query.1 == split) {
            writeln!(table, "{id}\td{target}\t1").unwrap();
        }
        std::fs::write(folder.join("qrels").join(format!("{split}.tsv")), table).unwrap();
    }
}

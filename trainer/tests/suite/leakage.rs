//! Nothing of a test split is learned from: no test query is a user query, a thought or an issued query of any record.

use crate::common;
use orion_eval::dataset::Dataset;
use orion_trainer::data::{Part, Piece};
use orion_trainer::grpo::command::tasks;
use orion_trainer::trajectories::copies::{self, CopySettings};
use orion_trainer::trajectories::words::words;
use orion_trainer::trajectories::{PermittedSet, Source};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn read() -> Option<Vec<(PathBuf, Source)>> {
    let data = common::shared("data")?;
    let bundled = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let read = |set: PermittedSet| {
        let folder = set.folder(&bundled, &data);
        let source = Source::read(set, &folder).unwrap();
        (folder, source)
    };
    Some(PermittedSet::TRAINABLE.into_iter().map(read).collect())
}

fn texts(folder: &std::path::Path, split: &str) -> BTreeSet<String> {
    let dataset = Dataset::open(folder).unwrap();
    dataset.split_queries(split).unwrap().iter().map(|query| words(&query.text).join(" ")).collect()
}

#[test]
fn no_permitted_query_has_the_text_of_a_test_query() {
    let Some(sources) = read() else { return };
    for (folder, source) in &sources {
        let test = texts(folder, "test");
        assert!(test.len() > 20, "{}", folder.display());
        assert!(source.queries.iter().filter(|(_, part)| *part == Part::Train).count() > 50);
        assert!(source.queries.iter().filter(|(_, part)| *part == Part::HeldOut).count() > 20);
        for (query, _) in &source.queries {
            assert!(!test.contains(&words(&query.text).join(" ")), "{}", query.text);
        }
    }
}

#[test]
fn reinforcement_sees_neither_test_nor_held_out_queries() {
    let Some(sources) = read() else { return };
    for (folder, source) in &sources {
        let plain = |part: Part| -> BTreeSet<String> {
            tasks(0, source, part).iter().map(|task| words(&task.text).join(" ")).collect()
        };
        let (train, held_out, test) = (plain(Part::Train), plain(Part::HeldOut), texts(folder, "test"));
        assert!(train.len() > 50 && held_out.len() > 20, "{}", folder.display());
        assert!(train.is_disjoint(&test) && held_out.is_disjoint(&test) && train.is_disjoint(&held_out));
    }
}

#[test]
fn no_held_out_query_is_trained_on() {
    let Some(sources) = read() else { return };
    for (_, source) in &sources {
        let of = |wanted: Part| -> BTreeSet<String> {
            let chosen = source.queries.iter().filter(|(_, part)| *part == wanted);
            chosen.map(|(query, _)| words(&query.text).join(" ")).collect()
        };
        assert!(of(Part::Train).is_disjoint(&of(Part::HeldOut)));
    }
}

#[test]
fn the_first_lesson_holds_no_test_query() {
    let Some(sources) = read() else { return };
    let test: BTreeSet<String> = sources.iter().flat_map(|(folder, _)| texts(folder, "test")).collect();
    let sources: Vec<Source> = sources.into_iter().map(|(_, source)| source).collect();
    let records = copies::make(&sources, &CopySettings { count: 300, ..CopySettings::default() }, 5).unwrap();
    assert!(records.len() > 250);
    for record in &records {
        for piece in &record.segments {
            let text = match piece {
                Piece::UserQuery(text) | Piece::Think(text) => text,
                Piece::SearchQuery(issued) => &issued.query,
                Piece::TopKResponse(_) => continue,
            };
            assert!(!test.contains(&words(text).join(" ")), "{text}");
        }
    }
}

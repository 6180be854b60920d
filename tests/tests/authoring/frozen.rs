//! A trace of format 1, written when the format was made, that every later host must replay.
//!
//! `tests/data/trace-1` holds the component (`lexical`, as bundled then) and what it recorded. A format that changes
//! gets a new number and a new folder; this one stays.

use orion_host::TraceFile;

use crate::world::host;

#[test]
fn the_first_trace_format_still_replays() {
    let folder = orion_tests::root().join("tests/data/trace-1");
    let strategy = host().load_file(&folder.join("lexical.wasm")).expect("the frozen component loads");
    let file = TraceFile::read(&folder.join("salt.trace.json")).expect("the frozen trace reads");
    let replayed = host().replay_file(&strategy, &file).expect("a replay");
    assert!(replayed.is_same_component);
    assert!(
        replayed.is_identical(),
        "{:?}\n{:#?}\n{:#?}",
        replayed.divergence,
        file.outcome.cost,
        replayed.outcome.cost
    );
}

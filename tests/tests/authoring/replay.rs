//! A trace file replays bit for bit, says where a changed component leaves it, and is refused when it is damaged.

use orion_host::scripted::Scenario;
use orion_host::{TraceFile, TraceFileError};

use crate::world::{SCENARIO, host, searched, strategy};

#[test]
fn beam_searches_the_scripted_world_as_the_scripts_say() {
    let checked = searched();
    assert_eq!(checked.outcome.degraded, None);
    let asked: Vec<&str> =
        checked.outcome.trace.branches.iter().map(|branch| branch.query.as_str()).collect();
    assert!(
        asked.contains(&"heat pump ice frost") && asked.contains(&"reversing valve condenser"),
        "{asked:?}"
    );
    let pruned = checked.outcome.trace.branches.iter().find(|branch| branch.query == "winter tariff cost");
    assert!(pruned.is_some_and(|branch| branch.pruned), "{:?}", checked.outcome.trace.branches);
    // What came, taken as the expectation, holds.
    let mut scenario = Scenario::parse("pump", SCENARIO).expect("a scenario");
    scenario.scripts.expect = checked.actual;
    let again = scenario.run(host(), &strategy("beam")).expect("a search");
    assert!(again.holds(), "{:?}", again.differences);
}

#[test]
fn a_written_trace_replays_bit_for_bit() {
    let beam = strategy("beam");
    let checked = searched();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pump.trace.json");
    TraceFile::new(&beam, None, checked.outcome, checked.recording).write(&path).expect("a file");
    let file = TraceFile::read(&path).expect("the file reads");
    let replayed = host().replay_file(&beam, &file).expect("a replay");
    assert!(replayed.is_same_component && replayed.is_cost_identical, "{:?}", replayed.outcome.cost);
    assert!(replayed.is_identical(), "{:?}", replayed.divergence);
}

#[test]
fn another_component_is_caught_at_its_first_other_call() {
    let checked = searched();
    let file = TraceFile::new(&strategy("beam"), None, checked.outcome, checked.recording);
    let replayed = host().replay_file(&strategy("lexical"), &file).expect("a replay");
    assert!(!replayed.is_same_component && !replayed.is_identical());
    let divergence = replayed.divergence.expect("a divergence");
    assert_eq!(divergence.call, 1);
    let got = divergence.got.expect("a call");
    assert_eq!(got.call, "retrieval.search");
    assert_eq!(got.asked[0]["text"], "why does the outdoor unit stop in winter");
    assert!(divergence.expected.is_some_and(|expected| expected.asked != got.asked));
}

#[test]
fn damaged_trace_files_are_refused_with_a_reason() {
    let checked = searched();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pump.trace.json");
    TraceFile::new(&strategy("beam"), None, checked.outcome, checked.recording).write(&path).expect("a file");
    let whole = std::fs::read_to_string(&path).expect("a text");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        TraceFile::read(&path).expect_err("a refusal")
    };
    assert!(matches!(read(&whole[..whole.len() / 2]), TraceFileError::Truncated { .. }));
    assert!(matches!(read(""), TraceFileError::Truncated { .. }));
    assert!(matches!(read("{\"a\": nonsense}"), TraceFileError::Format { .. }));
    assert!(matches!(read("{\"branches\": []}"), TraceFileError::Format { .. }));
    assert!(matches!(read(&whole.replacen("\"limits\"", "\"limit\"", 1)), TraceFileError::Format { .. }));
    let newer = whole.replacen("\"version\": 1", "\"version\": 2", 1);
    assert!(matches!(read(&newer), TraceFileError::Version { got, .. } if got == "2"));
}

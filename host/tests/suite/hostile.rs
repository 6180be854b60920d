//! Hostile guests: each behaviour's exact outcome, and a canary search beside it that must not notice.
//!
//! The behaviours are those of `tests/guests/hostile`; the list is shared, so an unexpected one does not compile.
#[macro_use]
#[path = "../../../tests/guests/hostile/src/behaviours.rs"]
mod behaviours;

use std::sync::{Arc, OnceLock};

use crate::common::{hits, hostile_component, options, services};
use behaviours::Behaviour;
use orion_host::contract::Retriever;
use orion_host::{CancelToken, DegradedKind, Hit, Host, Limits, Outcome, Request, Strategy};

/// What a behaviour must lead to.
struct Expected {
    /// Kind and reason of the degraded search; `None` where the strategy's answer stands.
    degraded: Option<(DegradedKind, &'static str)>,
    /// The ranking.
    ranking: Vec<Hit>,
}

const K: usize = 5;

/// The plain ranking with this kind and reason.
fn plain(kind: DegradedKind, reason: &'static str) -> Expected {
    Expected { degraded: Some((kind, reason)), ranking: hits(Retriever::Hybrid, K) }
}

/// The strategy's own answer: the best `k`.
fn own(k: usize) -> Expected {
    Expected { degraded: None, ranking: hits(Retriever::Hybrid, k) }
}

fn failed(reason: &'static str) -> Expected {
    plain(DegradedKind::Failed, reason)
}

/// Small enough that every flood ends soon, and far from the clock where the clock is not the point.
fn limits() -> Limits {
    Limits {
        deadline_ms: 600_000,
        grace_ms: 50,
        fuel: 300_000_000,
        memory_bytes: 8 << 20,
        retrievals: 20,
        tokens: 2_000,
        nodes: 100,
        host_calls: 500,
        trace_events: 500,
        trace_bytes: 1_000_000,
        log_lines: 100,
        ..Limits::default()
    }
}

fn limits_for(behaviour: Behaviour) -> Limits {
    match behaviour {
        // The clock is the point.
        Behaviour::SpinForever | Behaviour::CancelledStubborn => {
            Limits { deadline_ms: 200, fuel: u64::MAX / 2, ..limits() }
        }
        Behaviour::HangInService => Limits { deadline_ms: 200, grace_ms: 60_000, ..limits() },
        Behaviour::CancelledPolite | Behaviour::CallsAfterCancel => Limits { grace_ms: 60_000, ..limits() },
        Behaviour::HugeCall => Limits { memory_bytes: 64 << 20, ..limits() },
        Behaviour::FloodCandidates => Limits { tokens: 1_000_000, ..limits() },
        _ => limits(),
    }
}

fn expected(behaviour: Behaviour) -> Expected {
    use DegradedKind::{BadAnswer, BadHandle, Cancelled, Deadline, Flood, Fuel, Memory, Trap};
    match behaviour {
        Behaviour::Polite => own(K),
        Behaviour::PoliteWithPolicy => Expected { degraded: None, ranking: hits(Retriever::Dense, 3) },
        Behaviour::Spin => plain(Fuel, "all instructions used up"),
        Behaviour::SpinForever => plain(Deadline, "still running after deadline and grace"),
        Behaviour::GrowMemory => plain(Memory, "memory: tried to hold "),
        Behaviour::Recurse => plain(Trap, "wasm trap: call stack exhausted"),
        Behaviour::RecurseWithFrames => plain(Trap, "wasm trap: out of bounds memory access"),
        Behaviour::Unreachable => plain(Trap, "wasm trap: wasm `unreachable` instruction executed"),
        Behaviour::Panic => plain(
            Trap,
            "wasm trap: wasm `unreachable` instruction executed; it last logged: panicked at \
             tests/guests/hostile/src/guest.rs",
        ),
        Behaviour::FloodNodes => failed("budget exhausted: nodes"),
        Behaviour::FloodCandidates => failed("budget exhausted: nodes"),
        Behaviour::FloodHostCalls => plain(Flood, "flood: host calls: expected at most 500"),
        Behaviour::FloodTrace => plain(Flood, "flood: trace events: expected at most 500"),
        Behaviour::FloodTraceBytes => plain(Flood, "flood: trace bytes: expected at most 1000000"),
        Behaviour::FloodLog => plain(Flood, "flood: log lines: expected at most 100"),
        Behaviour::FilthyLog => own(3),
        Behaviour::GreedyRetrievals => own(5),
        Behaviour::GreedyTokens => failed("budget exhausted: nodes"),
        Behaviour::HugeQuery => {
            failed("invalid input: query text: expected at most 65536 bytes, got 1048576")
        }
        Behaviour::HugeCall => plain(Flood, "flood: too many bytes in one call"),
        Behaviour::HugeList => failed("invalid input: queries: expected at most 1024 items, got 5000"),
        Behaviour::NoHits => failed("invalid input: k: expected 1 to 1000, got 0"),
        Behaviour::TooManyHits => failed("invalid input: k: expected 1 to 1000, got 1000000000"),
        Behaviour::WeightTooLarge => failed("invalid input: dense-weight: expected 0 to 1 or NaN, got 1.5"),
        Behaviour::BillionCandidates => failed("invalid input: candidates: expected 1 to 64, got 1000000000"),
        Behaviour::NanTemperature => failed("invalid input: temperature: expected 0 to 100, got NaN"),
        Behaviour::ZeroTopP => failed("invalid input: top-p: expected more than 0, at most 1, got 0"),
        Behaviour::EscapeFilter => failed("invalid input: filter `year:1) OR (year:2`"),
        Behaviour::ReadBehindFilter => failed("saw: None"),
        Behaviour::UnknownParent => {
            plain(BadHandle, "policy.extend: unknown node handle 7: this search made 0 nodes")
        }
        Behaviour::UnknownNode => {
            plain(BadHandle, "policy.propose: unknown node handle 1: this search made 1 nodes")
        }
        Behaviour::UnknownJudgedNode => plain(
            BadHandle,
            "feedback.quality: unknown node handle 18446744073709551615: this search made 0 nodes",
        ),
        Behaviour::UnknownBranch => plain(BadHandle, "trace: branch 3 was never expanded"),
        Behaviour::BranchTwice => plain(BadHandle, "trace: branch 0 was expanded twice"),
        Behaviour::RankNan => plain(BadAnswer, "rank 2: expected a finite score, got NaN"),
        Behaviour::RankTwice => plain(BadAnswer, "rank 3: id `d2` stands there twice"),
        Behaviour::RankForeign => plain(BadAnswer, "rank 1: id `secret` was never retrieved in this search"),
        Behaviour::RankRising => plain(BadAnswer, "rank 2: score 9.99 is higher than 9.98 before it"),
        Behaviour::RankTooLong => own(K),
        Behaviour::SureBeyondOne => plain(BadAnswer, "confidence: expected 0 to 1 or NaN, got 2"),
        Behaviour::GiveUp => failed("tired: no more"),
        Behaviour::HangInService => own(2),
        Behaviour::CancelledPolite => Expected {
            degraded: Some((Cancelled, "the caller cancelled")),
            ranking: hits(Retriever::Hybrid, 2),
        },
        Behaviour::CancelledStubborn => plain(Cancelled, "the caller cancelled"),
        // Every call answers `cancelled`, until there are too many; the caller is told of the cancellation.
        Behaviour::CallsAfterCancel => plain(Cancelled, "the caller cancelled"),
        Behaviour::TrapHoldingNodes => plain(Trap, "wasm trap: wasm `unreachable` instruction executed"),
        Behaviour::HoardDocuments => plain(Memory, "memory: tried to hold "),
        Behaviour::RankInfinite => plain(BadAnswer, "rank 1: expected a finite score, got inf"),
        Behaviour::SureInfinitely => plain(BadAnswer, "confidence: expected 0 to 1 or NaN, got inf"),
        Behaviour::InfiniteTemperature => failed("invalid input: temperature: expected 0 to 100, got inf"),
        Behaviour::InfiniteWeight => failed("invalid input: dense-weight: expected 0 to 1 or NaN, got -inf"),
        Behaviour::JudgedNan => own(3),
        Behaviour::HugeRemarks => {
            plain(BadAnswer, "options: expected at most 100 of 65536 bytes, got 1 of 100006")
        }
        Behaviour::HugeThought => failed("invalid input: think: expected at most 65536 bytes, got 1048576"),
        Behaviour::NodeOfAnotherSearch => {
            plain(BadHandle, "policy.perplexity: unknown node handle 0: this search made 0 nodes")
        }
    }
}

struct Stage {
    host: Host,
    hostile: Arc<Strategy>,
    canary: Arc<Strategy>,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let host = Host::new(options()).expect("a host");
        let hostile = host.load_bytes("hostile", hostile_component()).expect("the hostile guest loads");
        let canary = host.load_bytes("canary", hostile_component()).expect("the canary loads");
        Stage { host, hostile, canary }
    })
}

fn request(behaviour: Behaviour) -> Request {
    let options = vec![("behaviour".to_owned(), behaviour.name().to_owned())];
    let filter = match behaviour {
        Behaviour::EscapeFilter | Behaviour::ReadBehindFilter => Some("year:1".to_owned()),
        _ => None,
    };
    Request { options, filter, ..Request::new("the user's words", K as u32) }
}

/// Runs the behaviour and, at the same time on the same runtime, a canary.
fn run(behaviour: Behaviour) -> (Outcome, Outcome) {
    let stage = stage();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let cancel = CancelToken::new();
        let hostile_services = services(&cancel);
        let hostile_limits = limits_for(behaviour);
        let request = request(behaviour);
        let hostile =
            stage.host.search(&stage.hostile, request, &hostile_services, &hostile_limits, cancel, None);
        let (calm, calm_limits) = (CancelToken::new(), limits());
        let canary_services = services(&calm);
        let canary = Request::new("canary", 3);
        let canary = stage.host.search(&stage.canary, canary, &canary_services, &calm_limits, calm, None);
        tokio::join!(hostile, canary)
    })
}

fn check(behaviour: Behaviour) {
    let (outcome, canary) = run(behaviour);
    let expected = expected(behaviour);
    match (&outcome.degraded, expected.degraded) {
        (None, None) => {}
        (Some(degraded), Some((kind, reason))) => {
            assert_eq!(degraded.kind, kind, "{degraded}");
            assert!(degraded.reason.starts_with(reason), "expected `{reason}`, got `{}`", degraded.reason);
        }
        (got, wanted) => panic!("expected {wanted:?}, got {got:?}"),
    }
    assert_eq!(outcome.ranking, expected.ranking);
    assert_eq!(canary.degraded, None);
    assert_eq!(canary.ranking, hits(Retriever::Hybrid, 3));
    assert!(outcome.cost.peak_memory_bytes <= limits_for(behaviour).memory_bytes);
    assert!(outcome.cost.retrievals <= limits().retrievals + 1);
    assert!(outcome.cost.nodes <= limits().nodes);
}

macro_rules! tests {
    ($($variant:ident $name:ident,)*) => {
        $(#[test]
        fn $name() {
            check(Behaviour::$variant);
        })*
    };
}
each_behaviour!(tests);

#[test]
fn every_behaviour_has_its_own_name() {
    let names: std::collections::BTreeSet<&str> = Behaviour::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(names.len(), Behaviour::ALL.len());
}

#[test]
fn logged_lines_are_harmless() {
    let (outcome, _) = run(Behaviour::FilthyLog);
    let [line] = outcome.trace.log.as_slice() else { panic!("{:?}", outcome.trace.log) };
    assert!(line.message.starts_with(" [2J forged line xxx"), "{}", line.message);
    assert!(line.message.len() <= 1_024 + '…'.len_utf8());
}

#[test]
fn the_same_search_costs_the_same() {
    let (first, _) = run(Behaviour::PoliteWithPolicy);
    let (second, _) = run(Behaviour::PoliteWithPolicy);
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.cost.fuel, second.cost.fuel);
    assert_eq!(first.cost.peak_memory_bytes, second.cost.peak_memory_bytes);
}

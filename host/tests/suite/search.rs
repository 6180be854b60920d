//! A polite search from end to end: answer, trace, cost, fallbacks, recording and replay.
use std::sync::{Arc, Mutex, OnceLock};

use crate::common::{FakeRetrieve, hits, hostile_component, options, services};
use orion_host::contract::{Document, Query, Retriever, Turn};
use orion_host::{
    BoxFuture, Branch, BranchObserver, CancelToken, DegradedKind, Hit, Host, HostOptions, Judge,
    JudgeContext, Limits, Metered, OptionError, Recording, ReplayError, Request, Retrieve, ServiceError,
    Services, Strategy, Usage,
};

fn stage() -> &'static (Host, Arc<Strategy>) {
    static STAGE: OnceLock<(Host, Arc<Strategy>)> = OnceLock::new();
    STAGE.get_or_init(|| {
        let host = Host::new(HostOptions { breaker_failures: 2, ..options() }).expect("a host");
        let strategy = host.load_bytes("polite", hostile_component()).expect("the guest loads");
        (host, strategy)
    })
}

fn request(behaviour: &str) -> Request {
    let options = vec![("behaviour".to_owned(), behaviour.to_owned())];
    Request { options, ..Request::new("the user's words", 5) }
}

#[test]
fn a_search_is_answered_with_tree_and_cost() {
    let (host, strategy) = stage();
    let cancel = CancelToken::new();
    let limits = Limits::unhurried();
    let outcome =
        host.search_blocking(strategy, request("polite_with_policy"), &services(&cancel), &limits, cancel);
    assert_eq!(outcome.degraded, None);
    assert_eq!(outcome.ranking, hits(Retriever::Dense, 3));
    // Perplexity e is the middle of the default calibration.
    assert_eq!(outcome.confidence, Some(0.5));
    let [first, second] = outcome.trace.branches.as_slice() else { panic!("{:?}", outcome.trace) };
    assert_eq!((first.query.as_str(), first.chosen, first.pruned), ("proposal 0", true, false));
    assert_eq!((second.query.as_str(), second.chosen, second.pruned), ("proposal 1", false, true));
    assert_eq!(first.hits, hits(Retriever::Dense, 3));
    let calls: Vec<&str> = outcome.trace.calls.iter().map(|call| call.call.as_str()).collect();
    let branch =
        ["retrieval.search", "retrieval.documents", "policy.extend", "policy.perplexity", "feedback.quality"];
    let expected = [["policy.extend", "policy.propose"].as_slice(), &branch, &branch].concat();
    assert_eq!(calls, expected);
    assert_eq!((outcome.call_ms.len(), outcome.call_at_ms.len()), (calls.len(), calls.len()));
    assert!(outcome.call_at_ms.is_sorted());
    assert_eq!((outcome.cost.retrievals, outcome.cost.nodes), (2, 5));
    assert_eq!((outcome.cost.tokens_prefilled, outcome.cost.tokens_decoded), (15 + 8, 8));
    assert!(outcome.cost.fuel > 0 && outcome.cost.peak_memory_bytes > 0);
    let text = serde_json::to_string(&outcome).expect("an outcome is data");
    let read: orion_host::Outcome = serde_json::from_str(&text).expect("and can be read back");
    assert_eq!(read.trace, outcome.trace);
}

/// Every state of every branch is told in order, and the last one of each is the tree.
#[test]
fn an_observer_sees_the_tree_grow() {
    let (host, strategy) = stage();
    let cancel = CancelToken::new();
    let told: Arc<Mutex<Vec<Branch>>> = Arc::default();
    let kept = Arc::clone(&told);
    let observer: BranchObserver =
        Arc::new(move |branch: &Branch| kept.lock().expect("a list").push(branch.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("threads");
    let (services, limits) = (services(&cancel), Limits::unhurried());
    let request = request("polite_with_policy");
    let search = host.search(strategy, request, &services, &limits, cancel, Some(observer));
    let outcome = runtime.block_on(search);
    let told = told.lock().expect("a list");
    assert!(told[0].hits.is_empty() && told[0].confidence.is_none() && !told[0].chosen);
    for branch in &outcome.trace.branches {
        let states: Vec<&Branch> = told.iter().filter(|one| one.branch == branch.branch).collect();
        assert_eq!(states.last(), Some(&branch));
        assert!(3 <= states.len(), "{states:?}");
    }
}

#[test]
fn without_an_encoder_the_plain_ranking_is_lexical() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let retrieve = FakeRetrieve { has_encoder: false, ..FakeRetrieve::default() };
    let services = Services::retrieval_only(Arc::new(retrieve));
    let limits = Limits::unhurried();
    let outcome =
        host.search_blocking(&strategy, request("unreachable"), &services, &limits, CancelToken::new());
    assert_eq!(outcome.degraded.map(|degraded| degraded.kind), Some(DegradedKind::Trap));
    assert_eq!(outcome.ranking, hits(Retriever::Lexical, 5));
}

#[test]
fn without_a_policy_the_guest_is_told_so() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let services = Services::retrieval_only(Arc::new(FakeRetrieve::default()));
    let limits = Limits::unhurried();
    let request = request("polite_with_policy");
    let outcome = host.search_blocking(&strategy, request, &services, &limits, CancelToken::new());
    let degraded = outcome.degraded.expect("degraded");
    assert_eq!(degraded.to_string(), "failed: unavailable: policy: no model is loaded");
}

#[test]
fn where_nothing_can_be_looked_up_the_reason_says_so() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let services = Services::retrieval_only(Arc::new(FakeRetrieve::default()));
    let request = Request { query: "broken".to_owned(), ..request("polite") };
    let limits = Limits::unhurried();
    let outcome = host.search_blocking(&strategy, request, &services, &limits, CancelToken::new());
    assert!(outcome.ranking.is_empty());
    let reason = "broken: disk on fire; nor is there a plain ranking: broken: disk on fire";
    assert_eq!(outcome.degraded.map(|degraded| degraded.reason).as_deref(), Some(reason));
}

#[test]
fn a_bad_request_is_refused_without_running_anything() {
    let (host, strategy) = stage();
    let limits = Limits::default();
    let cancel = CancelToken::new();
    for k in [0, 1_001] {
        let request = Request { k, ..request("polite") };
        let outcome = host.search_blocking(strategy, request, &services(&cancel), &limits, cancel.clone());
        let degraded = outcome.degraded.expect("degraded");
        assert_eq!(degraded.to_string(), format!("bad-request: k: expected 1 to 1000, got {k}"));
        assert!(outcome.ranking.is_empty() && outcome.cost.fuel == 0);
    }
}

#[test]
fn options_are_checked_against_the_description() {
    let (_, strategy) = stage();
    assert_eq!(strategy.description().name, "hostile");
    assert_eq!(strategy.check_options(&[("behaviour".into(), "spin".into())]), Ok(()));
    let unknown = strategy.check_options(&[("beam".into(), "2".into())]);
    assert!(matches!(unknown, Err(OptionError::Unknown { .. })), "{unknown:?}");
}

#[test]
fn a_strategy_that_keeps_failing_rests() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let limits = Limits::unhurried();
    let kind = |behaviour: &str| {
        let cancel = CancelToken::new();
        let outcome =
            host.search_blocking(&strategy, request(behaviour), &services(&cancel), &limits, cancel);
        assert_eq!(outcome.ranking, hits(Retriever::Hybrid, 5));
        outcome.degraded.map(|degraded| degraded.kind)
    };
    assert_eq!(kind("unreachable"), Some(DegradedKind::Trap));
    assert_eq!(kind("polite"), None);
    assert_eq!(kind("unreachable"), Some(DegradedKind::Trap));
    assert_eq!(kind("unreachable"), Some(DegradedKind::Trap));
    assert_eq!(kind("polite"), Some(DegradedKind::BreakerOpen));
}

/// Says the same of every turn.
struct Opinion(f32);

impl Judge for Opinion {
    fn quality(
        &self,
        turns: Vec<Turn>,
        _: JudgeContext,
    ) -> BoxFuture<'_, Result<Metered<Vec<f32>>, ServiceError>> {
        let value = vec![self.0; turns.len()];
        Box::pin(async move { Ok(Metered { value, usage: Usage::default() }) })
    }
}

#[test]
fn the_caller_may_bring_a_judge() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let judged_by = |opinion: f32| {
        let cancel = CancelToken::new();
        let services = Services { feedback: Some(Arc::new(Opinion(opinion))), ..services(&cancel) };
        let limits = Limits::unhurried();
        host.search_blocking(&strategy, request("polite_with_policy"), &services, &limits, cancel)
    };
    assert_eq!(judged_by(0.9).confidence, Some(0.9));
    let reason = judged_by(1.5).degraded.expect("degraded").reason;
    assert!(reason.starts_with("judge-fault: "), "{reason}");
}

/// Answers more than was asked.
struct Chatty;

impl Retrieve for Chatty {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        let answers = vec![Vec::new(); queries.len() + 1];
        Box::pin(async move { Ok(answers) })
    }

    fn documents(
        &self,
        _: Vec<String>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Box::pin(async { Ok(vec![None]) })
    }

    fn similarity(&self, _: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Box::pin(async { Ok(vec![f32::NAN]) })
    }
}

#[test]
fn a_faulty_service_is_named() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let services = Services::retrieval_only(Arc::new(Chatty));
    let limits = Limits::unhurried();
    let outcome = host.search_blocking(&strategy, request("polite"), &services, &limits, CancelToken::new());
    let reason = outcome.degraded.expect("degraded").reason;
    assert_eq!(reason, "retrieval-fault: expected 1 answers, got 2");
}

#[tokio::test]
async fn a_full_host_answers_with_the_plain_ranking() {
    let host = Host::new(HostOptions { concurrent_searches: 1, ..options() }).expect("a host");
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let (long, short) = (CancelToken::new(), CancelToken::new());
    let patient = Limits { deadline_ms: 1_000, grace_ms: 60_000, ..Limits::default() };
    let hasty = Limits { deadline_ms: 100, ..Limits::default() };
    let (long_services, short_services) = (services(&long), services(&short));
    let first = host.search(&strategy, request("hang_in_service"), &long_services, &patient, long, None);
    let second = host.search(&strategy, request("polite"), &short_services, &hasty, short, None);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.degraded, None);
    assert_eq!(second.degraded.map(|degraded| degraded.kind), Some(DegradedKind::Overloaded));
    assert_eq!(second.ranking, hits(Retriever::Hybrid, 5));
}

#[tokio::test]
async fn a_recorded_search_replays_bit_for_bit() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let short = Limits { deadline_ms: 200, grace_ms: 20, fuel: u64::MAX / 2, ..Limits::default() };
    let cases = [
        ("polite_with_policy", Limits::unhurried()),
        ("flood_nodes", Limits::unhurried()),
        ("unreachable", Limits::unhurried()),
        ("cancelled_stubborn", short.clone()),
        ("cancelled_polite", Limits::unhurried()),
        ("spin_forever", short),
    ];
    for (behaviour, limits) in cases {
        let cancel = CancelToken::new();
        let services = services(&cancel);
        let recorded = host.search_recorded(&strategy, request(behaviour), &services, &limits, cancel).await;
        let (outcome, recording) = recorded;
        let text = serde_json::to_string(&recording).expect("a recording is data");
        let recording: Recording = serde_json::from_str(&text).expect("and can be read back");
        let replayed = host.replay(&strategy, &recording).await.expect("the recording fits");
        assert_eq!(replayed.ranking, outcome.ranking, "{behaviour}");
        assert_eq!(replayed.confidence, outcome.confidence, "{behaviour}");
        assert_eq!(replayed.degraded, outcome.degraded, "{behaviour}");
        assert_eq!(replayed.trace, outcome.trace, "{behaviour}");
        // A guest that the clock stopped computed for as long as the clock let it.
        if recording.ended.is_none() {
            assert_eq!(replayed.cost.fuel, outcome.cost.fuel, "{behaviour}");
        }
    }
}

#[tokio::test]
async fn a_changed_recording_does_not_replay() {
    let (host, _) = stage();
    let strategy = host.load_bytes("own", hostile_component()).expect("the guest loads");
    let cancel = CancelToken::new();
    let services = services(&cancel);
    let request = request("polite");
    let limits = Limits::unhurried();
    let (_, recording) = host.search_recorded(&strategy, request, &services, &limits, cancel).await;

    let mut other_question = recording.clone();
    other_question.request.query = "other words".to_owned();
    let outcome = host.replay(&strategy, &other_question).await.expect("it starts");
    assert_eq!(outcome.degraded.map(|degraded| degraded.kind), Some(DegradedKind::HostFault));

    let mut other_component = recording;
    other_component.component = "0".repeat(64);
    let refused = host.replay(&strategy, &other_component).await;
    assert!(matches!(refused, Err(ReplayError::Component { .. })), "{refused:?}");
}

//! What the guest does on request. Neighbours: `behaviours.rs` lists it.
//!
//! Where a host function answers an error, the guest gives up with that very error, so that a test sees it as the
//! reason of the degraded search. Expected outcomes stand in `host/tests/suite/hostile.rs`.

use std::hint::black_box;

use crate::behaviours::Behaviour;
use crate::bindings::orion::search::about::{Description, Kind, Parameter};
use crate::bindings::orion::search::feedback::Turn;
use crate::bindings::orion::search::log::Level;
use crate::bindings::orion::search::policy::{Issued, Sampling, Segment, Snippet};
use crate::bindings::orion::search::retrieval::Query;
use crate::bindings::orion::search::trace::{Event, Expanded, Judged, Retrieved};
use crate::bindings::orion::search::types::{Error, Hit, Retriever, Setting};
use crate::bindings::orion::search::{budget, feedback, log, policy, retrieval, trace};
use crate::bindings::{Guest, Outcome, Request};

pub(crate) struct Hostile;

impl Guest for Hostile {
    fn describe() -> Description {
        let parameter = Parameter {
            name: "behaviour".to_owned(),
            kind: Kind::Text,
            default: "polite".to_owned(),
            help: "how to misbehave".to_owned(),
        };
        Description {
            name: "hostile".to_owned(),
            help: "misbehaves on request".to_owned(),
            parameters: vec![parameter],
            options: Vec::new(),
        }
    }

    fn search(request: Request) -> Result<Outcome, Error> {
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string())));
        let named = request.options.iter().find(|option| option.name == "behaviour");
        let name = named.map_or("polite", |option| option.value.as_str());
        let known = Behaviour::ALL.iter().find(|behaviour| behaviour.name() == name);
        let Some(behaviour) = known else {
            return Err(Error::InvalidInput(format!("behaviour: got `{name}`")));
        };
        behave(*behaviour, &request)
    }
}

fn behave(behaviour: Behaviour, request: &Request) -> Result<Outcome, Error> {
    match behaviour {
        Behaviour::Polite => answer(search(query(&request.query, 10))?),
        Behaviour::PoliteWithPolicy => polite_with_policy(request),
        Behaviour::Spin | Behaviour::SpinForever => spin(),
        Behaviour::GrowMemory => loop {
            black_box(Box::leak(vec![1_u8; 1 << 20].into_boxed_slice()));
        },
        Behaviour::Recurse => {
            black_box(recurse(request.seed));
            answer(Vec::new())
        }
        Behaviour::RecurseWithFrames => {
            black_box(recurse_with_frames(request.seed));
            answer(Vec::new())
        }
        Behaviour::Unreachable => trap(),
        Behaviour::Panic => panic!("this guest panics"),
        Behaviour::FloodNodes => loop {
            let steps: Vec<_> = (0..8).map(|_| (None, vec![Segment::UserQuery("q".to_owned())])).collect();
            policy::extend(&steps)?;
        },
        Behaviour::FloodCandidates => {
            let node = root("q")?;
            loop {
                policy::propose(&[node], &sampling(64))?;
            }
        }
        Behaviour::FloodHostCalls => loop {
            black_box(budget::left());
        },
        Behaviour::FloodTrace => {
            trace::emit(&[expanded(0, None)]);
            loop {
                trace::emit(&vec![Event::Pruned(0); 100]);
            }
        }
        Behaviour::FloodTraceBytes => {
            for branch in 0_u32.. {
                let thought = "t".repeat(10_000);
                let Event::Expanded(plain) = expanded(branch, None) else { continue };
                trace::emit(&[Event::Expanded(Expanded { think: thought, ..plain })]);
            }
            answer(Vec::new())
        }
        Behaviour::FloodLog => loop {
            log::write(Level::Info, "again");
        },
        Behaviour::FilthyLog => {
            log::write(Level::Warn, &format!("\u{1b}[2J\nforged line {}", "x".repeat(100_000)));
            answer(search(query(&request.query, 3))?)
        }
        Behaviour::GreedyRetrievals => {
            let mut best = Vec::new();
            loop {
                match search(query(&request.query, 5)) {
                    Ok(hits) => best = hits,
                    Err(Error::BudgetExhausted(_)) => return answer(best),
                    Err(other) => return Err(other),
                }
            }
        }
        Behaviour::GreedyTokens => {
            let node = root(&request.query)?;
            loop {
                policy::propose(&[node], &sampling(4))?;
            }
        }
        Behaviour::HugeQuery => answer(search(query(&"q".repeat(1 << 20), 10))?),
        Behaviour::HugeCall => answer(search(query(&"q".repeat(16 << 20), 10))?),
        Behaviour::HugeList => {
            retrieval::search(&vec![query("q", 1); 5_000])?;
            answer(Vec::new())
        }
        Behaviour::NoHits => answer(search(query(&request.query, 0))?),
        Behaviour::TooManyHits => answer(search(query(&request.query, 1_000_000_000))?),
        Behaviour::WeightTooLarge => {
            answer(search(Query { dense_weight: 1.5, ..query(&request.query, 10) })?)
        }
        Behaviour::BillionCandidates => propose_with(sampling(1_000_000_000)),
        Behaviour::NanTemperature => propose_with(Sampling { temperature: f32::NAN, ..sampling(1) }),
        Behaviour::ZeroTopP => propose_with(Sampling { top_p: 0.0, ..sampling(1) }),
        Behaviour::EscapeFilter => {
            let filter = Some("year:1) OR (year:2".to_owned());
            answer(search(Query { filter, ..query(&request.query, 10) })?)
        }
        Behaviour::ReadBehindFilter => {
            let documents = retrieval::documents(&["d1".to_owned()], 100)?;
            let text = documents.into_iter().flatten().next().map(|document| document.text);
            Err(Error::Other(("saw".to_owned(), format!("{text:?}"))))
        }
        Behaviour::UnknownParent => {
            policy::extend(&[(Some(7), vec![Segment::Think("t".to_owned())])])?;
            answer(Vec::new())
        }
        Behaviour::UnknownNode => {
            let node = root("q")?;
            policy::propose(&[node + 1], &sampling(1))?;
            answer(Vec::new())
        }
        Behaviour::UnknownJudgedNode => {
            feedback::quality(&[turn(request, Vec::new(), Some(u64::MAX))])?;
            answer(Vec::new())
        }
        Behaviour::UnknownBranch => {
            trace::emit(&[Event::Chosen(3)]);
            answer(Vec::new())
        }
        Behaviour::BranchTwice => {
            trace::emit(&[expanded(0, None), expanded(0, None)]);
            answer(Vec::new())
        }
        Behaviour::RankNan => {
            let mut hits = search(query(&request.query, 3))?;
            hits[1].score = f32::NAN;
            answer(hits)
        }
        Behaviour::RankTwice => {
            let mut hits = search(query(&request.query, 3))?;
            hits[2] = hits[1].clone();
            answer(hits)
        }
        Behaviour::RankForeign => {
            search(query(&request.query, 1))?;
            answer(vec![Hit { id: "secret".to_owned(), score: 1.0 }])
        }
        Behaviour::RankRising => {
            let mut hits = search(query(&request.query, 3))?;
            hits.reverse();
            answer(hits)
        }
        Behaviour::RankTooLong => answer(search(query(&request.query, request.k * 2))?),
        Behaviour::SureBeyondOne => {
            let ranking = search(query(&request.query, 3))?;
            Ok(Outcome { ranking, confidence: 2.0, options: Vec::new() })
        }
        Behaviour::GiveUp => Err(Error::Other(("tired".to_owned(), "no more".to_owned()))),
        Behaviour::HangInService => {
            let hits = search(query(&request.query, 2))?;
            match search(query("hang", 2)) {
                Err(Error::BudgetExhausted(budget)) if budget == "milliseconds" => answer(hits),
                other => Err(Error::Other(("saw".to_owned(), format!("{other:?}")))),
            }
        }
        Behaviour::CancelledPolite => {
            let hits = search(query(&request.query, 2))?;
            match search(query("cancel", 2)) {
                Err(Error::Cancelled) => answer(hits),
                other => Err(Error::Other(("saw".to_owned(), format!("{other:?}")))),
            }
        }
        Behaviour::CancelledStubborn => {
            let _ = search(query("cancel", 2));
            spin()
        }
        Behaviour::CallsAfterCancel => {
            let _ = search(query("cancel", 2));
            loop {
                let _ = search(query(&request.query, 2));
                let _ = root("q");
            }
        }
        Behaviour::TrapHoldingNodes => {
            let steps: Vec<_> = (0..50).map(|_| (None, vec![Segment::UserQuery("q".to_owned())])).collect();
            black_box(policy::extend(&steps)?);
            trap()
        }
        Behaviour::HoardDocuments => {
            let ids: Vec<String> = (0..1_000).map(|number| format!("d{number}")).collect();
            loop {
                black_box(Box::leak(retrieval::documents(&ids, 100)?.into_boxed_slice()));
            }
        }
        Behaviour::RankInfinite => {
            let mut hits = search(query(&request.query, 3))?;
            hits[0].score = f32::INFINITY;
            answer(hits)
        }
        Behaviour::SureInfinitely => {
            let ranking = search(query(&request.query, 3))?;
            Ok(Outcome { ranking, confidence: f32::INFINITY, options: Vec::new() })
        }
        Behaviour::InfiniteTemperature => {
            propose_with(Sampling { temperature: f32::INFINITY, ..sampling(1) })
        }
        Behaviour::InfiniteWeight => {
            answer(search(Query { dense_weight: f32::NEG_INFINITY, ..query(&request.query, 10) })?)
        }
        Behaviour::JudgedNan => {
            let judged = Judged { branch: 0, confidence: f32::NAN, options: Vec::new() };
            trace::emit(&[expanded(0, None), Event::Judged(judged)]);
            answer(search(query(&request.query, 3))?)
        }
        Behaviour::HugeRemarks => {
            let ranking = search(query(&request.query, 3))?;
            let remark = Setting { name: "remark".to_owned(), value: "r".repeat(100_000) };
            Ok(Outcome { ranking, confidence: f32::NAN, options: vec![remark] })
        }
        Behaviour::HugeThought => {
            policy::extend(&[(None, vec![Segment::Think("t".repeat(1 << 20))])])?;
            answer(Vec::new())
        }
        Behaviour::NodeOfAnotherSearch => {
            // Handles count from 0 in every search: one kept from elsewhere names nothing here.
            policy::perplexity(&[(0, vec!["it is relevant".to_owned()])])?;
            answer(Vec::new())
        }
    }
}

/// Every interface once, as a good strategy would use it.
fn polite_with_policy(request: &Request) -> Result<Outcome, Error> {
    let start = root(&request.query)?;
    let proposals = policy::propose(&[start], &sampling(2))?;
    let mut ranking = Vec::new();
    let mut confidence = 0.0;
    for (number, candidate) in (0_u32..).zip(&proposals[0]) {
        let retriever = candidate.retriever.unwrap_or(Retriever::Hybrid);
        let hits = search(Query { retriever, ..query(&candidate.query, 3) })?;
        let ids: Vec<String> = hits.iter().map(|hit| hit.id.clone()).collect();
        let documents = retrieval::documents(&ids, 50)?;
        let snippets: Vec<Snippet> = documents
            .into_iter()
            .flatten()
            .map(|document| Snippet { title: document.title, text: document.text })
            .collect();
        let nodes = policy::extend(&[(Some(candidate.node), vec![Segment::TopKResponse(snippets)])])?;
        let judged = policy::perplexity(&[(nodes[0], vec!["it is relevant".to_owned()])])?;
        confidence = feedback::quality(&[turn(request, hits.clone(), Some(nodes[0]))])?[0];
        trace::emit(&[
            Event::Expanded(Expanded {
                branch: number,
                parent: None,
                turn: 1,
                think: candidate.think.clone(),
                query: candidate.query.clone(),
                retriever,
            }),
            Event::Retrieved(Retrieved { branch: number, hits: hits.clone() }),
            Event::Judged(Judged {
                branch: number,
                confidence: judged[0][0].perplexity,
                options: Vec::new(),
            }),
            if number == 0 { Event::Chosen(number) } else { Event::Pruned(number) },
        ]);
        if number == 0 {
            ranking = hits;
        }
    }
    black_box(budget::left());
    log::write(Level::Debug, "done");
    Ok(Outcome { ranking, confidence, options: Vec::new() })
}

fn answer(ranking: Vec<Hit>) -> Result<Outcome, Error> {
    Ok(Outcome { ranking, confidence: f32::NAN, options: Vec::new() })
}

fn search(query: Query) -> Result<Vec<Hit>, Error> {
    Ok(retrieval::search(&[query])?.into_iter().next().unwrap_or_default())
}

fn query(text: &str, k: u32) -> Query {
    Query {
        text: text.to_owned(),
        retriever: Retriever::Hybrid,
        dense_weight: f32::NAN,
        k,
        filter: None,
        options: Vec::new(),
    }
}

fn sampling(candidates: u32) -> Sampling {
    Sampling {
        candidates,
        temperature: 0.7,
        top_p: 0.95,
        max_think_tokens: 8,
        max_query_tokens: 8,
        seed: 1,
        options: Vec::new(),
    }
}

fn propose_with(settings: Sampling) -> Result<Outcome, Error> {
    let node = root("q")?;
    policy::propose(&[node], &settings)?;
    answer(Vec::new())
}

fn root(text: &str) -> Result<u64, Error> {
    let segments = vec![
        Segment::UserQuery(text.to_owned()),
        Segment::Think("first".to_owned()),
        Segment::SearchQuery(Issued { query: text.to_owned(), retriever: None }),
    ];
    Ok(policy::extend(&[(None, segments)])?[0])
}

fn turn(request: &Request, hits: Vec<Hit>, node: Option<u64>) -> Turn {
    Turn { user_query: request.query.clone(), turn: 1, search_query: request.query.clone(), hits, node }
}

fn expanded(branch: u32, parent: Option<u32>) -> Event {
    Event::Expanded(Expanded {
        branch,
        parent,
        turn: 1,
        think: String::new(),
        query: String::new(),
        retriever: Retriever::Lexical,
    })
}

fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

/// Keeps nothing in linear memory, so it is the engine's stack that ends.
#[expect(unconditional_recursion, reason = "the point of it")]
fn recurse(depth: u64) -> u64 {
    recurse(depth.wrapping_mul(3) | 1).rotate_left(1) ^ depth
}

/// Fills the stack that the compiler keeps in linear memory, whose end is a guarded page.
#[expect(unconditional_recursion, reason = "the point of it")]
fn recurse_with_frames(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse_with_frames(depth + 1) + black_box(frame[3])
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

//! Running an archetype by name, and its trace as something to look at.

use std::collections::BTreeMap;
use std::fmt;

use orion_sdk::mock::MockHost;
use orion_sdk::{Description, Error, Event, Host, Outcome, Request, Strategy};

macro_rules! row {
    ($name:literal, $archetype:ident) => {
        (
            $name,
            |host, request| orion_archetypes::$archetype::search(host, request),
            orion_archetypes::$archetype::describe,
        )
    };
}

type Search = fn(&mut MockHost, &Request) -> Result<Outcome, Error>;
type Row = (&'static str, Search, fn() -> Description);

/// The ten of the paper's table, in its order, and the eleventh.
const TABLE: [Row; 11] = [
    row!("adaptive-context-learner", AdaptiveContextLearner),
    row!("random-walk-wanderer", RandomWalkWanderer),
    row!("breadth-first-explorer", BreadthFirstExplorer),
    row!("depth-first-driller", DepthFirstDriller),
    row!("wrong-direction-specialist", WrongDirectionSpecialist),
    row!("early-success-validator", EarlySuccessValidator),
    row!("exploitation-heavy-validator", ExploitationHeavyValidator),
    row!("greedy-hill-climber", GreedyHillClimber),
    row!("best-first-hypothesis-selector", BestFirstHypothesisSelector),
    row!("multi-beam-parallel", MultiBeamParallel),
    row!("pseudo-document", PseudoDocument),
];

/// The names of all.
pub(crate) const ARCHETYPES: [&str; 11] = {
    let mut names = [""; 11];
    let mut index = 0;
    while index < names.len() {
        names[index] = TABLE[index].0;
        index += 1;
    }
    names
};

fn row_of(name: &str) -> &'static Row {
    TABLE.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no archetype is called {name}"))
}

pub(crate) fn search(name: &str, host: &mut MockHost, request: &Request) -> Result<Outcome, Error> {
    (row_of(name).1)(host, request)
}

pub(crate) fn describe(name: &str) -> Description {
    (row_of(name).2)()
}

/// One branch of a trace.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) branch: u32,
    pub(crate) parent: u32,
    pub(crate) turn: u32,
    pub(crate) query: String,
    pub(crate) think: String,
    /// Ids of what it found, best first.
    pub(crate) hits: Vec<String>,
    pub(crate) quality: f32,
    pub(crate) pruned: bool,
    pub(crate) chosen: bool,
}

/// A walk as its trace tells it, without the root.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) user_query: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) stopped: String,
    /// Title and text of every document, by id.
    pub(crate) documents: BTreeMap<String, String>,
}

impl Walked {
    /// The steps with this turn.
    pub(crate) fn turn(&self, turn: u32) -> Vec<&Step> {
        self.steps.iter().filter(|step| step.turn == turn).collect()
    }

    /// `turn < parent's query: query`, and what became of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let query = |branch: u32| {
            let found = self.steps.iter().find(|step| step.branch == branch);
            found.map_or("user", |step| step.query.as_str())
        };
        let line = |step: &Step| {
            let fate = if step.pruned { " (pruned)" } else { "" };
            format!("{} {} < {}{fate}", step.turn, step.query, query(step.parent))
        };
        self.steps.iter().map(line).collect()
    }
}

impl fmt::Display for Walked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  user: {}", self.user_query)?;
        for (step, line) in self.steps.iter().zip(self.lines()) {
            writeln!(
                out,
                "  {line}, quality {:.2}, found {:?}\n      {}",
                step.quality, step.hits, step.think
            )?;
        }
        writeln!(out, "  stopped: {}", self.stopped)
    }
}

/// A whole walk that has to end with an answer.
pub(crate) fn walk(name: &str, mut host: MockHost, request: &Request) -> Walked {
    let outcome = search(name, &mut host, request).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    read(&mut host, request, &outcome)
}

/// The walk that a host's events tell of.
pub(crate) fn read(host: &mut MockHost, request: &Request, outcome: &Outcome) -> Walked {
    let mut steps: Vec<Step> = Vec::new();
    let mut all_hits: Vec<String> = Vec::new();
    for event in &host.events {
        let with = |steps: &mut Vec<Step>, branch: u32, change: &dyn Fn(&mut Step)| {
            steps.iter_mut().filter(|step| step.branch == branch).for_each(change);
        };
        match event {
            Event::Expanded(expanded) => {
                let Some(parent) = expanded.parent else { continue };
                steps.push(Step {
                    branch: expanded.branch,
                    parent,
                    turn: expanded.turn,
                    query: expanded.query.clone(),
                    think: expanded.think.clone(),
                    hits: Vec::new(),
                    quality: f32::NAN,
                    pruned: false,
                    chosen: false,
                });
            }
            Event::Retrieved(retrieved) => {
                let ids: Vec<String> = retrieved.hits.iter().map(|hit| hit.id.clone()).collect();
                all_hits.extend(ids.iter().cloned());
                with(&mut steps, retrieved.branch, &|step| step.hits = ids.clone());
            }
            Event::Judged(judged) => {
                with(&mut steps, judged.branch, &|step| step.quality = judged.confidence);
            }
            Event::Pruned(branch) => with(&mut steps, *branch, &|step| step.pruned = true),
            Event::Chosen(branch) => with(&mut steps, *branch, &|step| step.chosen = true),
        }
    }
    all_hits.sort();
    all_hits.dedup();
    let found = host.documents(&all_hits, 10_000).expect("documents that were found");
    let texts = found.into_iter().flatten().map(|document| format!("{} {}", document.title, document.text));
    let stopped = outcome.options.iter().find(|option| option.name == "stopped").expect("a reason to stop");
    Walked {
        user_query: request.query.clone(),
        steps,
        stopped: stopped.value.clone(),
        documents: all_hits.iter().cloned().zip(texts).collect(),
    }
}

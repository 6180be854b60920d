//! Services that note their answers, and services that give noted answers again at once: with the model's and the
//! index's time gone, what is left is the strategy's own and that of whatever runs it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use orion_host::contract::{Candidate, Document, Hit, JudgedText, Node, Query, Sampling, Segment};
use orion_host::{
    BoxFuture, Generate, GenerateSession, Metered, Retrieve, SelfAssessment, ServiceError, Services,
};

#[derive(Clone)]
enum Note {
    Rankings(Vec<Vec<Hit>>),
    Documents(Vec<Option<Document>>),
    Similarities(Vec<f32>),
    Nodes(Metered<Vec<Node>>),
    Candidates(Metered<Vec<Vec<Candidate>>>),
    Judged(Metered<Vec<Vec<JudgedText>>>),
}

/// The answers of one search in the order of its calls.
#[derive(Clone, Default)]
pub(crate) struct Tape {
    notes: Arc<Mutex<VecDeque<Note>>>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, ServiceError>>;

impl Tape {
    /// Services that ask `services` and note what they say.
    pub(crate) fn recorder(&self, services: &Services) -> Services {
        let retrieve = Arc::new(Recorder { tape: self.clone(), inner: services.retrieve.clone() });
        let generate = services
            .generate
            .clone()
            .map(|inner| -> Arc<dyn Generate> { Arc::new(Recorder { tape: self.clone(), inner }) });
        Services { retrieve, generate, feedback: None }
    }

    /// Services that repeat what was noted, from the beginning, for one search.
    pub(crate) fn player(&self) -> Services {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let player = Arc::new(Player { notes: Arc::new(Mutex::new(notes)) });
        Services { retrieve: player.clone(), generate: Some(player), feedback: None }
    }

    /// How many calls were noted.
    pub(crate) fn calls(&self) -> usize {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push_back(note);
    }

    fn noting<'a, T: Clone + Send + 'a>(
        &'a self,
        asked: Answer<'a, T>,
        note: impl FnOnce(T) -> Note + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let answer = asked.await?;
            self.note(note(answer.clone()));
            Ok(answer)
        })
    }
}

struct Recorder<S> {
    tape: Tape,
    inner: S,
}

impl Retrieve for Recorder<Arc<dyn Retrieve>> {
    fn search(&self, queries: Vec<Query>) -> Answer<'_, Vec<Vec<Hit>>> {
        self.tape.noting(self.inner.search(queries), Note::Rankings)
    }

    fn documents(&self, ids: Vec<String>, max_chars: u32) -> Answer<'_, Vec<Option<Document>>> {
        self.tape.noting(self.inner.documents(ids, max_chars), Note::Documents)
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> Answer<'_, Vec<f32>> {
        self.tape.noting(self.inner.similarity(pairs), Note::Similarities)
    }
}

impl Generate for Recorder<Arc<dyn Generate>> {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(Recorder { tape: self.tape.clone(), inner: self.inner.session() })
    }

    fn self_assessment(&self) -> SelfAssessment {
        self.inner.self_assessment()
    }
}

impl GenerateSession for Recorder<Box<dyn GenerateSession>> {
    fn extend(&self, steps: Vec<(Option<Node>, Vec<Segment>)>) -> Answer<'_, Metered<Vec<Node>>> {
        self.tape.noting(self.inner.extend(steps), Note::Nodes)
    }

    fn propose(&self, nodes: Vec<Node>, sampling: Sampling) -> Answer<'_, Metered<Vec<Vec<Candidate>>>> {
        self.tape.noting(self.inner.propose(nodes, sampling), Note::Candidates)
    }

    fn perplexity(&self, requests: Vec<(Node, Vec<String>)>) -> Answer<'_, Metered<Vec<Vec<JudgedText>>>> {
        self.tape.noting(self.inner.perplexity(requests), Note::Judged)
    }
}

struct Player {
    notes: Arc<Mutex<VecDeque<Note>>>,
}

impl Player {
    /// The next note, if `pick` finds what was asked for in it.
    fn next<T: Send + 'static>(&self, pick: impl FnOnce(Note) -> Option<T>) -> Answer<'static, T> {
        let note = self.notes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let answer = note.and_then(pick).ok_or_else(|| ServiceError::Fault {
            code: "tape".to_owned(),
            message: "expected the calls that were noted, got another".to_owned(),
        });
        Box::pin(std::future::ready(answer))
    }
}

macro_rules! pick {
    ($kind:ident) => {
        |note| if let Note::$kind(answer) = note { Some(answer) } else { None }
    };
}

impl Retrieve for Player {
    fn search(&self, _: Vec<Query>) -> Answer<'_, Vec<Vec<Hit>>> {
        self.next(pick!(Rankings))
    }

    fn documents(&self, _: Vec<String>, _: u32) -> Answer<'_, Vec<Option<Document>>> {
        self.next(pick!(Documents))
    }

    fn similarity(&self, _: Vec<(String, String)>) -> Answer<'_, Vec<f32>> {
        self.next(pick!(Similarities))
    }
}

impl Generate for Player {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(Self { notes: self.notes.clone() })
    }
}

impl GenerateSession for Player {
    fn extend(&self, _: Vec<(Option<Node>, Vec<Segment>)>) -> Answer<'_, Metered<Vec<Node>>> {
        self.next(pick!(Nodes))
    }

    fn propose(&self, _: Vec<Node>, _: Sampling) -> Answer<'_, Metered<Vec<Vec<Candidate>>>> {
        self.next(pick!(Candidates))
    }

    fn perplexity(&self, _: Vec<(Node, Vec<String>)>) -> Answer<'_, Metered<Vec<Vec<JudgedText>>>> {
        self.next(pick!(Judged))
    }
}

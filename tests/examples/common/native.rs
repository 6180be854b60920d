//! A strategy outside the sandbox: the SDK's `Host` over the services of the real host, without limits, budgets or trace.
//!
//! What a component gains over this in safety, it pays in time; that price is what is measured with it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use orion_host::contract as there;
use orion_host::{BoxFuture, GenerateSession, Metered, Retrieve, ServiceError, Services};
use orion_sdk as here;

/// The services of one search, called directly.
pub(crate) struct NativeHost<'r> {
    retrieve: Arc<dyn Retrieve>,
    session: Option<Box<dyn GenerateSession>>,
    runtime: &'r tokio::runtime::Runtime,
}

type Answer<T> = Result<T, here::Error>;

impl<'r> NativeHost<'r> {
    /// A fresh policy session over `services`; `runtime` waits for what is not ready.
    pub(crate) fn new(services: &Services, runtime: &'r tokio::runtime::Runtime) -> Self {
        let session = services.generate.as_ref().map(|generate| generate.session());
        Self { retrieve: services.retrieve.clone(), session, runtime }
    }

    fn session(&self) -> Answer<&dyn GenerateSession> {
        self.session.as_deref().ok_or_else(|| here::Error::Unavailable("policy".to_owned()))
    }

    /// What is ready at once is taken at once; else this thread waits.
    fn wait<T>(&self, future: BoxFuture<'_, Result<T, ServiceError>>) -> Answer<T> {
        // Services may start blocking work of their own.
        let _entered = self.runtime.enter();
        let mut future = pin!(future);
        let answer = match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => self.runtime.block_on(future),
        };
        answer.map_err(|error| here::Error::Other(("service".to_owned(), error.to_string())))
    }

    fn metered<T>(&self, future: BoxFuture<'_, Result<Metered<T>, ServiceError>>) -> Answer<T> {
        self.wait(future).map(|metered| metered.value)
    }
}

impl here::Host for NativeHost<'_> {
    fn search(&mut self, queries: &[here::Query]) -> Answer<Vec<Vec<here::Hit>>> {
        let queries = queries
            .iter()
            .map(|query| there::Query {
                text: query.text.clone(),
                retriever: retriever(query.retriever),
                dense_weight: query.dense_weight,
                k: query.k,
                filter: query.filter.clone(),
                options: Vec::new(),
            })
            .collect();
        let rankings = self.wait(self.retrieve.search(queries))?;
        let hit = |hit: there::Hit| here::Hit { id: hit.id, score: hit.score };
        Ok(rankings.into_iter().map(|hits| hits.into_iter().map(hit).collect()).collect())
    }

    fn documents(&mut self, ids: &[String], max_chars: u32) -> Answer<Vec<Option<here::Document>>> {
        let found = self.wait(self.retrieve.documents(ids.to_vec(), max_chars))?;
        let document = |one: there::Document| here::Document { id: one.id, title: one.title, text: one.text };
        Ok(found.into_iter().map(|one| one.map(document)).collect())
    }

    fn similarity(&mut self, pairs: &[(String, String)]) -> Answer<Vec<f32>> {
        self.wait(self.retrieve.similarity(pairs.to_vec()))
    }

    fn extend(&mut self, steps: &[(Option<here::Node>, Vec<here::Segment>)]) -> Answer<Vec<here::Node>> {
        let steps = steps
            .iter()
            .map(|(parent, segments)| (*parent, segments.iter().map(segment).collect()))
            .collect();
        self.metered(self.session()?.extend(steps))
    }

    fn propose(
        &mut self,
        nodes: &[here::Node],
        sampling: &here::Sampling,
    ) -> Answer<Vec<Vec<here::Candidate>>> {
        let sampling = there::Sampling {
            candidates: sampling.candidates,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            max_think_tokens: sampling.max_think_tokens,
            max_query_tokens: sampling.max_query_tokens,
            seed: sampling.seed,
            options: settings(&sampling.options),
        };
        let proposed = self.metered(self.session()?.propose(nodes.to_vec(), sampling))?;
        let candidate = |one: there::Candidate| here::Candidate {
            node: one.node,
            think: one.think,
            query: one.query,
            retriever: one.retriever.map(retriever_back),
            log_probability: one.log_probability,
            tokens: one.tokens,
            options: Vec::new(),
        };
        Ok(proposed.into_iter().map(|list| list.into_iter().map(candidate).collect()).collect())
    }

    fn perplexity(&mut self, requests: &[(here::Node, Vec<String>)]) -> Answer<Vec<Vec<here::JudgedText>>> {
        let judged = self.metered(self.session()?.perplexity(requests.to_vec()))?;
        let text = |one: there::JudgedText| here::JudgedText {
            perplexity: one.perplexity,
            tokens: one.tokens,
            log_probabilities: one.log_probabilities,
        };
        Ok(judged.into_iter().map(|list| list.into_iter().map(text).collect()).collect())
    }

    fn quality(&mut self, _: &[here::Turn]) -> Answer<Vec<f32>> {
        Err(here::Error::Unavailable("feedback".to_owned()))
    }

    fn budget(&mut self) -> here::Remaining {
        let all = u64::MAX;
        here::Remaining { retrievals: all, tokens: all, nodes: all, milliseconds: all }
    }

    fn trace(&mut self, _: &[here::Event]) {}

    fn log(&mut self, _: here::Level, _: &str) {}
}

fn settings(list: &[here::Setting]) -> Vec<there::Setting> {
    list.iter().map(|one| there::Setting { name: one.name.clone(), value: one.value.clone() }).collect()
}

fn segment(segment: &here::Segment) -> there::Segment {
    match segment {
        here::Segment::UserQuery(text) => there::Segment::UserQuery(text.clone()),
        here::Segment::Think(text) => there::Segment::Think(text.clone()),
        here::Segment::SearchQuery(issued) => there::Segment::SearchQuery(there::Issued {
            query: issued.query.clone(),
            retriever: issued.retriever.map(retriever),
        }),
        here::Segment::TopKResponse(snippets) => there::Segment::TopKResponse(
            snippets
                .iter()
                .map(|one| there::Snippet { title: one.title.clone(), text: one.text.clone() })
                .collect(),
        ),
    }
}

fn retriever(retriever: here::Retriever) -> there::Retriever {
    match retriever {
        here::Retriever::Lexical => there::Retriever::Lexical,
        here::Retriever::Dense => there::Retriever::Dense,
        here::Retriever::Hybrid => there::Retriever::Hybrid,
    }
}

fn retriever_back(retriever: there::Retriever) -> here::Retriever {
    match retriever {
        there::Retriever::Lexical => here::Retriever::Lexical,
        there::Retriever::Dense => here::Retriever::Dense,
        there::Retriever::Hybrid => here::Retriever::Hybrid,
    }
}

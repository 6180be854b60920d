//! The policy in this process as a [`Generate`] service.
//!
//! A session of orion-policy counts its tokens in total; one search makes one call at a time, so the difference across
//! a call is that call's cost.
use orion_policy::{NodeId, Policy, PolicyError, Session};

use crate::contract::{Candidate, JudgedText, Node, Retriever, Sampling, Segment};
use crate::self_assessment::SelfAssessment;
use crate::services::{BoxFuture, Generate, GenerateSession, Metered, ServiceError, Usage};

impl Generate for Policy {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(LocalSession(Policy::session(self)))
    }

    fn self_assessment(&self) -> SelfAssessment {
        let uncalibrated = SelfAssessment::default();
        self.describe().format.self_assessment.map_or(uncalibrated.clone(), |measured| SelfAssessment {
            middle_log_perplexity: measured.middle_log_perplexity,
            log_perplexity_width: measured.log_perplexity_width,
            ..uncalibrated
        })
    }
}

struct LocalSession(Session);

impl LocalSession {
    async fn metered<T>(
        &self,
        work: impl Future<Output = Result<T, PolicyError>> + Send,
    ) -> Result<Metered<T>, ServiceError> {
        let before = self.0.usage();
        let value = work.await.map_err(service_error)?;
        let after = self.0.usage();
        let usage = Usage {
            prefilled_tokens: after.prefilled_tokens.saturating_sub(before.prefilled_tokens),
            decoded_tokens: after.decoded_tokens.saturating_sub(before.decoded_tokens),
        };
        Ok(Metered { value, usage })
    }
}

impl GenerateSession for LocalSession {
    fn extend(
        &self,
        steps: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>> {
        let to_policy = |(parent, segments): (Option<Node>, Vec<Segment>)| {
            (parent.map(NodeId), segments.into_iter().map(to_segment).collect())
        };
        let steps = steps.into_iter().map(to_policy).collect();
        Box::pin(async move {
            let Metered { value, usage } = self.metered(self.0.extend(steps)).await?;
            Ok(Metered { value: value.into_iter().map(|node| node.0).collect(), usage })
        })
    }

    fn propose(
        &self,
        nodes: Vec<Node>,
        sampling: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>> {
        let nodes = nodes.into_iter().map(NodeId).collect();
        let settings = orion_policy::Sampling {
            candidates: sampling.candidates,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            max_think_tokens: sampling.max_think_tokens,
            max_query_tokens: sampling.max_query_tokens,
            seed: sampling.seed,
        };
        Box::pin(async move {
            let Metered { value, usage } = self.metered(self.0.propose(nodes, settings)).await?;
            let value = value.into_iter().map(|each| each.into_iter().map(to_candidate).collect()).collect();
            Ok(Metered { value, usage })
        })
    }

    fn perplexity(
        &self,
        requests: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>> {
        let requests = requests.into_iter().map(|(node, texts)| (NodeId(node), texts)).collect();
        Box::pin(async move {
            let Metered { value, usage } = self.metered(self.0.perplexity(requests)).await?;
            let value = value.into_iter().map(|each| each.into_iter().map(to_judged).collect()).collect();
            Ok(Metered { value, usage })
        })
    }
}

fn to_segment(segment: Segment) -> orion_policy::Segment {
    match segment {
        Segment::UserQuery(text) => orion_policy::Segment::UserQuery(text),
        Segment::Think(text) => orion_policy::Segment::Think(text),
        Segment::SearchQuery(issued) => orion_policy::Segment::SearchQuery {
            query: issued.query,
            retriever: issued.retriever.map(|retriever| match retriever {
                Retriever::Lexical => orion_policy::Retriever::Lexical,
                Retriever::Dense => orion_policy::Retriever::Dense,
                Retriever::Hybrid => orion_policy::Retriever::Hybrid,
            }),
        },
        Segment::TopKResponse(snippets) => {
            let to_policy = |snippet: crate::contract::Snippet| orion_policy::Snippet {
                title: snippet.title,
                text: snippet.text,
            };
            orion_policy::Segment::TopKResponse(snippets.into_iter().map(to_policy).collect())
        }
    }
}

fn to_candidate(candidate: orion_policy::Candidate) -> Candidate {
    Candidate {
        node: candidate.node.0,
        think: candidate.think,
        query: candidate.query,
        retriever: candidate.retriever.map(|retriever| match retriever {
            orion_policy::Retriever::Lexical => Retriever::Lexical,
            orion_policy::Retriever::Dense => Retriever::Dense,
            orion_policy::Retriever::Hybrid => Retriever::Hybrid,
        }),
        log_probability: candidate.log_probability,
        tokens: candidate.tokens,
        options: Vec::new(),
    }
}

fn to_judged(judged: orion_policy::JudgedText) -> JudgedText {
    JudgedText {
        perplexity: judged.perplexity,
        tokens: judged.tokens,
        log_probabilities: judged.log_probabilities,
    }
}

fn service_error(error: PolicyError) -> ServiceError {
    let code = match &error {
        PolicyError::InvalidInput { .. } => return ServiceError::InvalidInput(error.to_string()),
        PolicyError::ContextFull { .. } => "context-full",
        PolicyError::TooManyNodes { .. } => "too-many-nodes",
        PolicyError::MemoryFull { .. } => "policy-memory-full",
        _ => "policy",
    };
    ServiceError::Fault { code: code.to_owned(), message: error.to_string() }
}

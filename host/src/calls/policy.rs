//! `policy`: nodes, proposals and perplexities.
//!
//! Tokens are reserved before they are decoded: a proposal whose worst case does not fit the budget is refused whole, so
//! a budget is never overrun by decoding. Reading may overrun it once, by at most one call's strings.
use super::{Answer, check_answer, check_length, check_options, check_range, check_text};
use crate::bindings::orion::search::policy::Host;
use crate::contract::{Candidate, Error, JudgedText, Node, Sampling, Segment};
use crate::fault::Fault;
use crate::limits::Limits;
use crate::state::{SearchState, Work};

/// The contract's bound on candidates for one node.
const NODE_CANDIDATES: u32 = 64;
/// Beyond this every distribution is uniform in f32; a larger temperature is a mistake.
const HOTTEST: f32 = 100.0;

impl Host for SearchState {
    async fn extend(&mut self, steps: Vec<(Option<Node>, Vec<Segment>)>) -> Answer<Vec<Node>> {
        self.count_call()?;
        if let Err(error) = check_steps(&steps, &self.limits) {
            return Ok(Err(error));
        }
        let mut resolved = Vec::with_capacity(steps.len());
        for (parent, segments) in steps {
            let parent = parent.map(|handle| self.resolve("policy.extend", handle)).transpose()?;
            resolved.push((parent, segments));
        }
        let Some(session) = self.session.clone() else {
            return Ok(Err(no_policy()));
        };
        if let Err(error) = self.reserve(resolved.len() as u64, 0) {
            return Ok(Err(error));
        }
        let asked = resolved.clone();
        let work = async move {
            let expected = asked.len();
            check_answer("policy", session.extend(asked).await?, expected, |_| true)
        };
        let answer = self.serve("policy.extend", Work::Model, resolved.len(), &resolved, work).await?;
        Ok(answer.map(|nodes| {
            self.spent.nodes += nodes.len() as u64;
            nodes.into_iter().map(|node| self.name_node(node)).collect()
        }))
    }

    async fn propose(&mut self, nodes: Vec<Node>, sampling: Sampling) -> Answer<Vec<Vec<Candidate>>> {
        self.count_call()?;
        if let Err(error) = check_sampling(&nodes, &sampling, &self.limits) {
            return Ok(Err(error));
        }
        let nodes: Vec<Node> = nodes
            .iter()
            .map(|handle| self.resolve("policy.propose", *handle))
            .collect::<Result<_, Fault>>()?;
        let Some(session) = self.session.clone() else {
            return Ok(Err(no_policy()));
        };
        let candidates = nodes.len() as u64 * u64::from(sampling.candidates);
        let longest = u64::from(sampling.max_think_tokens) + u64::from(sampling.max_query_tokens);
        if let Err(error) = self.reserve(candidates, candidates * longest) {
            return Ok(Err(error));
        }
        let (asked, settings) = (nodes.clone(), sampling.clone());
        let work = async move {
            let (expected, each) = (asked.len(), settings.candidates as usize);
            let answer = session.propose(asked, settings).await?;
            check_answer("policy", answer, expected, |proposals: &Vec<Candidate>| {
                proposals.len() == each
                    && proposals.iter().all(|candidate| candidate.log_probability.is_finite())
            })
        };
        let items = nodes.len();
        let answer = self.serve("policy.propose", Work::Model, items, &(nodes, sampling), work).await?;
        Ok(answer.map(|mut proposals| {
            for candidate in proposals.iter_mut().flatten() {
                self.spent.nodes += 1;
                candidate.node = self.name_node(candidate.node);
            }
            proposals
        }))
    }

    async fn perplexity(&mut self, requests: Vec<(Node, Vec<String>)>) -> Answer<Vec<Vec<JudgedText>>> {
        self.count_call()?;
        if let Err(error) = check_texts(&requests, &self.limits) {
            return Ok(Err(error));
        }
        let mut resolved = Vec::with_capacity(requests.len());
        for (handle, texts) in requests {
            resolved.push((self.resolve("policy.perplexity", handle)?, texts));
        }
        let Some(session) = self.session.clone() else {
            return Ok(Err(no_policy()));
        };
        if let Err(error) = self.reserve(0, 1) {
            return Ok(Err(error));
        }
        let asked = resolved.clone();
        let work = async move {
            let lengths: Vec<usize> = asked.iter().map(|(_, texts)| texts.len()).collect();
            let answer = session.perplexity(asked).await?;
            let has_lengths = answer.value.iter().map(Vec::len).eq(lengths.iter().copied());
            check_answer("policy", answer, lengths.len(), |judged| {
                has_lengths && judged.iter().all(is_judgement)
            })
        };
        let items = resolved.len();
        Ok(self.serve("policy.perplexity", Work::Model, items, &resolved, work).await?)
    }
}

impl SearchState {
    /// Whether `nodes` more nodes and at least `tokens` more tokens fit the budgets.
    fn reserve(&self, nodes: u64, tokens: u64) -> Result<(), Error> {
        let nodes_left = self.limits.nodes.saturating_sub(self.spent.nodes);
        let tokens_left = self.limits.tokens.saturating_sub(self.spent.usage.total());
        if nodes > nodes_left {
            return Err(Error::BudgetExhausted("nodes".to_owned()));
        }
        if tokens_left == 0 || tokens > tokens_left {
            return Err(Error::BudgetExhausted("tokens".to_owned()));
        }
        Ok(())
    }
}

fn check_steps(steps: &[(Option<Node>, Vec<Segment>)], limits: &Limits) -> Result<(), Error> {
    check_length("steps", steps.len(), limits.list_items)?;
    for (_, segments) in steps {
        check_length("segments", segments.len(), limits.list_items)?;
        for segment in segments {
            match segment {
                Segment::UserQuery(text) => check_text("user query", text, limits)?,
                Segment::Think(text) => check_text("think", text, limits)?,
                Segment::SearchQuery(issued) => check_text("search query", &issued.query, limits)?,
                Segment::TopKResponse(snippets) => {
                    check_length("snippets", snippets.len(), limits.list_items)?;
                    for snippet in snippets {
                        check_text("snippet title", &snippet.title, limits)?;
                        check_text("snippet text", &snippet.text, limits)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_sampling(nodes: &[Node], sampling: &Sampling, limits: &Limits) -> Result<(), Error> {
    check_length("nodes", nodes.len(), limits.list_items)?;
    check_range("candidates", sampling.candidates, 1, NODE_CANDIDATES)?;
    let candidates = nodes.len().saturating_mul(sampling.candidates as usize);
    check_length("candidates of all nodes", candidates, limits.candidates)?;
    check_range("max-think-tokens", sampling.max_think_tokens, 0, limits.generated_tokens)?;
    check_range("max-query-tokens", sampling.max_query_tokens, 1, limits.generated_tokens)?;
    check_options(&sampling.options, limits)?;
    if !(0.0..=HOTTEST).contains(&sampling.temperature) {
        let got = sampling.temperature;
        return Err(Error::InvalidInput(format!("temperature: expected 0 to {HOTTEST}, got {got}")));
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        let got = sampling.top_p;
        return Err(Error::InvalidInput(format!("top-p: expected more than 0, at most 1, got {got}")));
    }
    Ok(())
}

fn check_texts(requests: &[(Node, Vec<String>)], limits: &Limits) -> Result<(), Error> {
    check_length("requests", requests.len(), limits.list_items)?;
    for (_, texts) in requests {
        check_length("texts", texts.len(), limits.list_items)?;
        texts.iter().try_for_each(|text| check_text("text", text, limits))?;
    }
    Ok(())
}

fn is_judgement(judged: &JudgedText) -> bool {
    judged.perplexity.is_finite() && judged.log_probabilities.iter().all(|value| value.is_finite())
}

fn no_policy() -> Error {
    Error::Unavailable("policy: no model is loaded".to_owned())
}

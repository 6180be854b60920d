//! The policy driver: section 3.4 of the paper.
//!
//! Proposals are sampled (think, search query); titles and beginnings of what was retrieved are appended; confidence is
//! the perplexity of one reflection sentence about the turn. That sentence repeats the search query and the user's, so
//! a query that copies looks confident for nothing; two other readings of it stand beside the paper's for comparison.

use orion_sdk::parameters::Choice;
use orion_sdk::random::Random;
use orion_sdk::reading::Reading;
use orion_sdk::usual::{describe_sampling, sampling};
use orion_sdk::{Error, Host, JudgedText, Parameter, Request, Sampling, Segment, setting};

use crate::settings::Tree as Settings;
use crate::tree::{self, Judgement, Proposal, Retrieval};

/// Which reading of the reflection sentence's log-probabilities is the confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// Mean over the whole sentence: the paper's.
    Sentence,
    /// Mean over what follows the repeated search query: the part that is the same for all branches.
    Tail,
    /// Sum over the sentence, divided by a length penalty that grows slower than the length.
    LengthCorrected,
}

const CONFIDENCE: Choice<Measure> = Choice {
    name: "confidence",
    choices: &[
        ("sentence", Measure::Sentence),
        ("tail", Measure::Tail),
        ("length-corrected", Measure::LengthCorrected),
    ],
    help: "how the reflection's perplexity is read",
};

/// Exponent of the length penalty ((5 + n) / 6)^a (Wu et al., arXiv:1609.08144, best between 0.6 and 0.7).
const LENGTH_EXPONENT: f32 = 0.6;

/// Number of tokens at which the length-corrected measure equals the mean: about the length of the sentence.
const REFERENCE_TOKENS: f32 = 32.0;

pub(crate) fn describe() -> Vec<Parameter> {
    let mut parameters = Vec::from(describe_sampling());
    parameters.extend(Reading::describe());
    parameters.push(CONFIDENCE.describe());
    parameters
}

pub(crate) struct Driver<'a> {
    request: &'a Request,
    /// The seed is replaced for each turn.
    sampling: Sampling,
    reading: Reading,
    measure: Measure,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(request: &'a Request, settings: &Settings) -> Result<Self, Error> {
        let options = &request.options;
        Ok(Self {
            request,
            sampling: sampling(options, settings.width)?,
            reading: Reading::new(options)?,
            measure: CONFIDENCE.read(options)?,
        })
    }

    /// The texts to judge: the sentence, and for the tail also what it has to be told apart from.
    fn texts(&self, turn: u32, query: &str) -> Vec<String> {
        let head = format!("Given turn {turn} and search query {query},");
        let user_query = &self.request.query;
        let sentence = format!("{head} the retrieved documents are relevant to the user query {user_query}.");
        match self.measure {
            Measure::Tail => vec![sentence, head],
            Measure::Sentence | Measure::LengthCorrected => vec![sentence],
        }
    }
}

impl tree::Driver for Driver<'_> {
    const JUDGES: bool = true;

    fn begin(&mut self, host: &mut impl Host) -> Result<u64, Error> {
        let nodes = host.extend(&[(None, vec![Segment::UserQuery(self.request.query.clone())])])?;
        nodes.first().copied().ok_or_else(|| short_answer("extend"))
    }

    fn propose(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        states: &[u64],
    ) -> Result<Vec<Vec<Proposal>>, Error> {
        self.sampling.seed = Random::derive(self.request.seed, &[u64::from(turn)]).next_u64();
        let candidates = host.propose(states, &self.sampling)?;
        let proposals = candidates.into_iter().map(|list| {
            let proposals = list.into_iter().map(|candidate| Proposal {
                think: candidate.think,
                query: candidate.query,
                retriever: candidate.retriever,
                state: candidate.node,
            });
            proposals.collect()
        });
        Ok(proposals.collect())
    }

    fn judge(
        &mut self,
        host: &mut impl Host,
        turn: u32,
        children: &[Retrieval<'_>],
    ) -> Result<Vec<Judgement>, Error> {
        self.reading.fetch(host, children.iter().map(|child| child.hits))?;
        let response = |child: &Retrieval<'_>| vec![Segment::TopKResponse(self.reading.of(child.hits))];
        let steps: Vec<_> = children.iter().map(|child| (Some(child.state), response(child))).collect();
        let states = host.extend(&steps)?;
        let reflections: Vec<_> = states
            .iter()
            .zip(children)
            .map(|(&state, child)| (state, self.texts(turn, child.query)))
            .collect();
        let judged = host.perplexity(&reflections)?;
        if judged.len() != children.len() {
            return Err(short_answer("perplexity"));
        }
        let judgements = states.into_iter().zip(&judged).map(|(state, texts)| {
            let doubt = self.measure.doubt(texts);
            let tokens = texts.first().map_or(0, |text| text.tokens);
            let options = vec![setting("perplexity", doubt.exp()), setting("judged-tokens", tokens)];
            Judgement { state, doubt, options }
        });
        Ok(judgements.collect())
    }
}

impl Measure {
    /// Natural logarithm of the perplexity under this reading; NaN where the host judged nothing.
    fn doubt(self, texts: &[JudgedText]) -> f32 {
        let Some(sentence) = texts.first() else { return f32::NAN };
        let all = &sentence.log_probabilities;
        match self {
            Self::Sentence => sentence.perplexity.ln(),
            Self::Tail => {
                let head_tokens = texts.get(1).map_or(0, |head| head.tokens as usize);
                let tail = all.get(head_tokens..).unwrap_or_default();
                -tail.iter().sum::<f32>() / tail.len() as f32
            }
            Self::LengthCorrected => {
                let penalty = |tokens: f32| ((5.0 + tokens) / 6.0).powf(LENGTH_EXPONENT);
                let scale = penalty(REFERENCE_TOKENS) / penalty(all.len() as f32) / REFERENCE_TOKENS;
                -all.iter().sum::<f32>() * scale
            }
        }
    }
}

/// The contract promises one answer for each item; a host that breaks it must not make the guest trap.
fn short_answer(function: &str) -> Error {
    Error::Other(("short-answer".to_owned(), format!("`policy.{function}` answered fewer items than asked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(log_probabilities: &[f32]) -> JudgedText {
        let mean = -log_probabilities.iter().sum::<f32>() / log_probabilities.len() as f32;
        JudgedText {
            perplexity: mean.exp(),
            tokens: log_probabilities.len() as u32,
            log_probabilities: log_probabilities.to_vec(),
        }
    }

    fn close(left: f32, right: f32) -> bool {
        (left - right).abs() < 1e-5
    }

    #[test]
    fn the_sentence_is_the_mean_and_the_tail_leaves_the_head_out() {
        let texts = [judged(&[-4.0, -2.0, -1.0, -1.0]), judged(&[-4.0, -2.0])];
        assert!(close(Measure::Sentence.doubt(&texts), 2.0));
        assert!(close(Measure::Tail.doubt(&texts), 1.0));
    }

    #[test]
    fn the_length_correction_is_neutral_at_its_reference_and_charges_cheap_extra_tokens() {
        let reference = judged(&[-1.5; REFERENCE_TOKENS as usize]);
        assert!(close(Measure::LengthCorrected.doubt(&[reference]), 1.5));
        // Twenty copied tokens at almost no cost take 0.54 off the mean, and 0.29 off the corrected one.
        let mut padded = vec![-1.5; 32];
        padded.extend([-0.1; 20]);
        let texts = [judged(&padded)];
        assert!(Measure::Sentence.doubt(&texts) < 1.0);
        assert!(Measure::LengthCorrected.doubt(&texts) > 1.15);
    }

    #[test]
    fn nothing_judged_is_not_a_number() {
        for measure in [Measure::Sentence, Measure::Tail, Measure::LengthCorrected] {
            assert!(measure.doubt(&[]).is_nan());
        }
        assert!(Measure::Tail.doubt(&[judged(&[-1.0]), judged(&[-1.0])]).is_nan());
    }
}

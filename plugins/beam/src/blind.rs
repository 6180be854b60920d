//! The blind driver: queries are seeded perturbations of the user's, and nothing is judged.
//!
//! Perturbs the user's query rather than the parent's: edits upon edits would only drift, and a control should be as
//! strong as blindness allows. Variants do not repeat while a few draws find a new one, so that this makes at least as
//! many retrievals as `beam`.

use orion_sdk::perturb::perturb;
use orion_sdk::random::Random;
use orion_sdk::text::normalise;
use orion_sdk::{Error, Host, Request};

use crate::settings::Tree as Settings;
use crate::tree::{self, Judgement, Proposal, Retrieval};

/// Draws for one variant before a repeated one is accepted (and dropped by the tree where it must be).
const DRAWS: usize = 32;

pub(crate) struct Driver<'a> {
    request: &'a Request,
    width: u32,
    issued: Vec<String>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(request: &'a Request, settings: &Settings) -> Self {
        Self { request, width: settings.width, issued: vec![normalise(&request.query)] }
    }

    fn variant(&mut self, random: &mut Random) -> String {
        let mut variant = perturb(&self.request.query, random);
        for _ in 1..DRAWS {
            if !self.issued.contains(&normalise(&variant)) {
                break;
            }
            variant = perturb(&self.request.query, random);
        }
        self.issued.push(normalise(&variant));
        variant
    }
}

impl tree::Driver for Driver<'_> {
    const JUDGES: bool = false;

    fn begin(&mut self, _host: &mut impl Host) -> Result<u64, Error> {
        Ok(0)
    }

    fn propose(
        &mut self,
        _host: &mut impl Host,
        turn: u32,
        states: &[u64],
    ) -> Result<Vec<Vec<Proposal>>, Error> {
        let mut proposals = Vec::new();
        for position in 0..states.len() as u64 {
            let mut random = Random::derive(self.request.seed, &[u64::from(turn), position]);
            let variants = (0..self.width).map(|_| Proposal {
                think: String::new(),
                query: self.variant(&mut random),
                retriever: None,
                state: 0,
            });
            proposals.push(variants.collect());
        }
        Ok(proposals)
    }

    fn judge(
        &mut self,
        _host: &mut impl Host,
        _turn: u32,
        children: &[Retrieval<'_>],
    ) -> Result<Vec<Judgement>, Error> {
        Ok(children.iter().map(|_| Judgement { state: 0, doubt: 0.0, options: Vec::new() }).collect())
    }
}

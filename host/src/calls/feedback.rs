//! `feedback`: one quality for each turn, from whichever judge the caller plugged in.
use super::{Answer, check_answer, check_length, check_text};
use crate::bindings::orion::search::feedback::Host;
use crate::contract::{Error, Turn};
use crate::limits::Limits;
use crate::state::{SearchState, Work};

impl Host for SearchState {
    async fn quality(&mut self, turns: Vec<Turn>) -> Answer<Vec<f32>> {
        self.count_call()?;
        if let Err(error) = check_turns(&turns, &self.limits) {
            return Ok(Err(error));
        }
        let mut resolved = Vec::with_capacity(turns.len());
        for mut turn in turns {
            turn.node = turn.node.map(|handle| self.resolve("feedback.quality", handle)).transpose()?;
            resolved.push(turn);
        }
        let Some(context) = self.judge_context() else {
            return Ok(Err(Error::Unavailable("no collection: this is not a search".to_owned())));
        };
        if self.spent.usage.total() >= self.limits.tokens {
            return Ok(Err(Error::BudgetExhausted("tokens".to_owned())));
        }
        let (judge, asked) = (self.judge.clone(), resolved.clone());
        let work = async move {
            let expected = asked.len();
            let answer = judge.quality(asked, context).await?;
            check_answer("judge", answer, expected, |quality| (0.0..=1.0).contains(quality))
        };
        Ok(self.serve("feedback.quality", Work::Model, resolved.len(), &resolved, work).await?)
    }
}

fn check_turns(turns: &[Turn], limits: &Limits) -> Result<(), Error> {
    check_length("turns", turns.len(), limits.list_items)?;
    for turn in turns {
        check_text("user query", &turn.user_query, limits)?;
        check_text("search query", &turn.search_query, limits)?;
        check_length("hits", turn.hits.len(), limits.hits)?;
        turn.hits.iter().try_for_each(|hit| check_text("id", &hit.id, limits))?;
    }
    Ok(())
}

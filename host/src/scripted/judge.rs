//! The scripted judge: qualities by search query and turn. Neighbour: `scenario.rs` has the entries.
use super::scenario::ScriptedQuality;
use crate::contract::Turn;
use crate::services::{BoxFuture, Judge, JudgeContext, Metered, ServiceError, Usage};

pub(super) struct ScriptedJudge(pub(super) Vec<ScriptedQuality>);

impl Judge for ScriptedJudge {
    fn quality(
        &self,
        turns: Vec<Turn>,
        _: JudgeContext,
    ) -> BoxFuture<'_, Result<Metered<Vec<f32>>, ServiceError>> {
        let quality = |turn: &Turn| {
            let fits = |script: &&ScriptedQuality| {
                script.query.as_ref().is_none_or(|query| *query == turn.search_query)
                    && script.turn.is_none_or(|number| number == turn.turn)
            };
            self.0.iter().find(fits).map_or(0.0, |script| script.value)
        };
        let value = turns.iter().map(quality).collect();
        Box::pin(std::future::ready(Ok(Metered { value, usage: Usage::default() })))
    }
}

//! The worked examples that stand before every trajectory of a stock checkpoint, which never saw the markers.
//! They are built from the same segments as a trajectory, so the one encoder in `format` writes them.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::PolicyError;
use crate::format::{FormatKind, Segment, Snippet, TrajectoryFormat};
use crate::model::{Feed, Scratch};
use crate::state::{Sequence, State};

/// What the model is told first.
pub(crate) const PREFACE: &str = "Search step by step. Each turn, write a short thought and one search query; \
then the results are shown. Use words from the results to improve the next query.\n";

/// Two turns on one question: the second query takes its words from the first results.
pub(crate) fn examples() -> Vec<Segment> {
    let snippet = |title: &str, text: &str| Snippet { title: title.to_owned(), text: text.to_owned() };
    let query = |text: &str| Segment::SearchQuery { query: text.to_owned(), retriever: None };
    vec![
        Segment::UserQuery("why does bread go hard faster in the fridge".to_owned()),
        Segment::Think("Staleness of bread and cold storage; start with the everyday words.".to_owned()),
        query("bread stale refrigerator"),
        Segment::TopKResponse(vec![
            snippet(
                "Keeping bread",
                "Bread stored cold turns firm within a day as its starch recrystallises.",
            ),
            snippet("Fridge care", "Wipe the shelves weekly and keep the door seal clean."),
        ]),
        Segment::Think("The first result names the cause: starch recrystallising. Ask for that.".to_owned()),
        query("starch retrogradation bread cold temperature"),
        Segment::TopKResponse(vec![snippet(
            "Starch retrogradation",
            "Gelled starch reorders into crystals fastest a little above freezing, which makes crumb hard.",
        )]),
    ]
}

/// Share of marker tokens that must be the model's first guess for the format to count as followed; a model that
/// copies the examples guesses nearly all of them, one that ignores them next to none.
const FOLLOWED_SHARE: f64 = 0.5;

/// A warning, where a model that reads the examples does not expect markers where they belong. One short pass: a
/// trajectory written by us is read, and the model's guesses at its markers are counted.
pub(crate) fn check(
    model: &Backend,
    format: &TrajectoryFormat,
    root: Option<&Arc<State>>,
    context_tokens: usize,
) -> Result<Option<String>, PolicyError> {
    if format.spec().format != FormatKind::Prompt {
        return Ok(None);
    }
    let segments = [
        Segment::UserQuery("which plants keep mosquitoes away".to_owned()),
        Segment::Think("Plants that repel mosquitoes; name the effect and the insect.".to_owned()),
        Segment::SearchQuery { query: "mosquito repellent plants".to_owned(), retriever: None },
    ];
    let spans = format.encode(&segments);
    let mut tokens = Vec::new();
    let mut is_marker = Vec::new();
    for (span, markers) in spans.iter().zip([None, Some(&format.think), Some(&format.search_query)]) {
        let (start, end) = markers.map_or((0, 0), |marker| (marker.start.len(), marker.end.len()));
        let count = span.tokens.len();
        is_marker.extend((0..count).map(|index| index < start || count - end <= index && markers.is_some()));
        tokens.extend_from_slice(&span.tokens);
    }
    if context_tokens < root.map_or(0, |state| state.length) + tokens.len() {
        let warning = "the context is too short to check whether the model follows the format";
        return Ok(Some(warning.to_owned()));
    }
    let mut sequence = Sequence::new(model.sizes(), root.and_then(|state| state.pin().ok()));
    let mut scratch = Scratch::default();
    model.forward(&mut [Feed { sequence: &mut sequence, tokens: &tokens, wanted_from: 0 }], &mut scratch)?;
    let (mut markers, mut guessed) = (0u32, 0u32);
    let mut logits = Vec::new();
    for index in 0..tokens.len() {
        if is_marker.get(index + 1) == Some(&true) {
            model.logits(&scratch, index..index + 1, &mut logits)?;
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id as u32);
            markers += 1;
            guessed += u32::from(best == Some(tokens[index + 1]));
        }
    }
    Ok((f64::from(guessed) < FOLLOWED_SHARE * f64::from(markers)).then(|| {
        format!(
            "the model does not follow the search format: expected most of {markers} marker tokens guessed, got \
             {guessed}; its proposals will be poor"
        )
    }))
}

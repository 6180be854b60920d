//! The worked examples that stand before every trajectory of a stock checkpoint, which never saw the markers.
//! They are built from the same segments as a trajectory, so the one encoder in `format` writes them.

use crate::format::{Segment, Snippet};

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

//! Adaptive Context Learner: "learns from search results and adds relevant keywords from retrieved documents".
//!
//! Movement: the next query is the last one and words of the documents it found. Where that made things worse, the
//! words are taken back and others from the same documents tried.

use orion_sdk::parameters::Integer;
use orion_sdk::text::words;
use orion_sdk::{Host, Parameter};

use crate::offers::{Offer, first};
use crate::terms::{added, kept_share};
use crate::walk::{Halt, ROOT, Stop, Walk};

/// The table's example adds two: climate change, carbon emissions.
const KEYWORDS: Integer = Integer {
    name: "keywords",
    default: 2,
    min: 1,
    max: 8,
    help: "words of the results that are added at a time",
};

pub(crate) fn parameters() -> Vec<Parameter> {
    vec![KEYWORDS.describe()]
}

pub(crate) fn run(walk: &mut Walk<'_, impl Host>) -> Result<Stop, Halt> {
    let keywords = KEYWORDS.read(&walk.request.options)? as usize;
    let Some(opening) = first(walk.offers(ROOT, 1)?) else { return Ok(Stop::Exhausted) };
    let why = "I ask first and learn the right words from what comes back.".to_owned();
    let mut last = walk.go(ROOT, opening, why)?;
    let mut tried: Vec<String> = Vec::new();

    while walk.left() > 0 {
        let parent = walk.step(last).parent.unwrap_or(ROOT);
        let got_worse = parent != ROOT && walk.step(last).quality < walk.step(parent).quality;
        let base = if got_worse { parent } else { last };
        let Some(offer) = learned(walk, base, keywords, &tried)? else { return Ok(Stop::Exhausted) };
        let base_query = &walk.step(base).query;
        let learned_words = added(base_query, &offer.query);
        let listed = learned_words.join(" and ");
        let why = if got_worse {
            let misleading = added(base_query, &walk.step(last).query).join(" and ");
            format!("Adding {misleading} made it worse, so I take {listed} from the results instead.")
        } else {
            format!("The results speak of {listed}, so I add that to {base_query}.")
        };
        tried.extend(learned_words);
        last = walk.go(base, offer, why)?;
    }
    Ok(Stop::Turns)
}

/// A query that keeps all words of `base` and adds none but words that its documents have: offered, or its own.
fn learned(
    walk: &mut Walk<'_, impl Host>,
    base: usize,
    keywords: usize,
    tried: &[String],
) -> Result<Option<Offer>, Halt> {
    let query = walk.step(base).query.clone();
    let texts =
        walk.documents(base).into_iter().map(|document| format!("{} {}", document.title, document.text));
    let found: Vec<String> = texts.flat_map(|text| words(&text)).collect();
    let learns = |offer: &Offer| {
        let new = added(&query, &offer.query);
        kept_share(&query, &offer.query) == 1.0
            && !new.is_empty()
            && new.iter().all(|word| found.contains(word) && !tried.contains(word))
    };
    if let Some(offer) = walk.offers(base, 1)?.into_iter().find(learns) {
        return Ok(Some(offer));
    }
    let mut topics = walk.topics(base);
    topics.retain(|topic| !tried.contains(topic));
    topics.truncate(keywords);
    let own = format!("{query} {}", topics.join(" "));
    Ok((!topics.is_empty() && walk.is_new(&own)).then(|| Offer::own(own)))
}

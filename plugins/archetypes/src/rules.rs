//! Reformulations without a policy: a query's own words, and words of what it found.
//!
//! Openings use the user's words alone, because a trajectory has shown nothing yet. Replies narrow (add a word of the
//! results), exchange (a word of the results for one of the query's), follow (a title) and broaden (leave a word out).
//! The order is drawn from the request's seed; archetypes choose by their own rules.

use orion_sdk::Snippet;
use orion_sdk::random::Random;
use orion_sdk::text::beginning;

use crate::offers::Offer;
use crate::terms::{content, topics};

/// Words of the results that are tried: beyond the first few they are what one document alone says.
const TOPICS: usize = 4;

/// Characters of a title that is followed: about eight words.
const TITLE_CHARS: usize = 60;

/// First queries: all the words that carry the question, without each of them, and each half.
pub(crate) fn openings(user_query: &str, random: &mut Random) -> Vec<Offer> {
    let words = content(user_query);
    let mut offers = without_one(&words);
    if words.len() >= 4 {
        for half in [&words[..words.len() / 2], &words[words.len() / 2..]] {
            let part = half.join(" ");
            offers.push(Offer::by_rule(part.clone(), format!("One part of the question is {part}.")));
        }
    }
    random.shuffle(&mut offers);
    // The plainest one leads: without a policy nobody knows better.
    let all = words.join(" ");
    offers.insert(0, Offer::by_rule(all.clone(), format!("The words that matter are {all}.")));
    offers
}

/// Queries after `query` found `documents`.
pub(crate) fn replies(
    user_query: &str,
    query: &str,
    documents: &[Snippet],
    random: &mut Random,
) -> Vec<Offer> {
    let words = content(query);
    let user_words = content(user_query);
    let mut known = words.clone();
    known.extend(user_words.iter().cloned());
    let topics = topics(documents, &known);

    let mut offers = without_one(&words);
    for topic in topics.iter().take(TOPICS) {
        let narrowed = format!("{} {topic}", words.join(" "));
        offers.push(Offer::by_rule(narrowed, format!("The results mention {topic}, which narrows it.")));
        if let Some((last, others)) = words.split_last() {
            let exchanged = format!("{} {topic}", others.join(" "));
            offers.push(Offer::by_rule(exchanged, format!("Perhaps it is {topic} rather than {last}.")));
        }
        let renewed = format!("{} {topic}", user_words.join(" "));
        offers.push(Offer::by_rule(renewed, format!("I ask the question again with {topic}.")));
    }
    for document in documents.iter().filter(|document| !document.title.is_empty()) {
        let title = beginning(&document.title, TITLE_CHARS);
        offers.push(Offer::by_rule(title.clone(), format!("{title} may lead further.")));
    }
    random.shuffle(&mut offers);
    offers
}

/// The words without each of them in turn, where enough remain to ask anything.
fn without_one(words: &[String]) -> Vec<Offer> {
    if words.len() < 3 {
        return Vec::new();
    }
    let offer = |left_out: usize| {
        let mut rest = words.to_vec();
        let word = rest.remove(left_out);
        Offer::by_rule(rest.join(" "), format!("Without {word} the query is broader."))
    };
    (0..words.len()).map(offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(offers: &[Offer]) -> Vec<&str> {
        offers.iter().map(|offer| offer.query.as_str()).collect()
    }

    #[test]
    fn openings_lead_with_the_words_that_matter() {
        let offers = openings("why do heat pumps freeze", &mut Random::new(7));
        assert_eq!(offers[0].query, "heat pumps freeze");
        let mut others = queries(&offers[1..]);
        others.sort_unstable();
        assert_eq!(others, ["heat freeze", "heat pumps", "pumps freeze"]);
    }

    #[test]
    fn replies_use_what_was_found() {
        let documents = [Snippet { title: "Defrost cycle".into(), text: "a valve melts ice".into() }];
        let offers = replies("why do heat pumps freeze", "heat pumps", &documents, &mut Random::new(7));
        let queries = queries(&offers);
        for expected in ["heat pumps defrost", "heat defrost", "heat pumps freeze defrost", "Defrost cycle"] {
            assert!(queries.contains(&expected), "{expected} is not in {queries:?}");
        }
    }

    #[test]
    fn the_order_is_the_seeds() {
        let draw = |seed| {
            let offers = openings("old stone bridge over the northern river", &mut Random::new(seed));
            queries(&offers).join("|")
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

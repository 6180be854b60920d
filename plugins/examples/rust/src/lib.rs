//! Searches, reads the titles of the first documents, and searches again with the words that most of them share.

use std::collections::BTreeMap;

use orion_sdk::fusion::{Fusion, RECIPROCAL_RANK_CONSTANT, Weighted};
use orion_sdk::parameters::Integer;
use orion_sdk::text::{is_stop_word, words};
use orion_sdk::{
    Description, Error, Event, Expanded, Hit, Host, Outcome, Query, Request, Retrieved, Retriever, Strategy,
};

/// The strategy; `export!` below makes a component of it.
pub struct SecondLook;

const READ: Integer = Integer { name: "read", default: 5, min: 1, max: 50, help: "titles that are read" };
const WORDS: Integer = Integer { name: "words", default: 3, min: 0, max: 20, help: "words that are added" };

impl Strategy for SecondLook {
    fn describe() -> Description {
        let parameters = vec![READ.describe(), WORDS.describe()];
        Description::new("second-look", "search, read the titles, search again with their words", parameters)
    }

    fn search(host: &mut impl Host, request: &Request) -> Result<Outcome, Error> {
        let read = READ.read(&request.options)? as usize;
        let added = WORDS.read(&request.options)? as usize;

        let first = look(host, 0, &request.query, request.k)?;
        let ids: Vec<String> = first.iter().take(read).map(|hit| hit.id.clone()).collect();
        let titles: Vec<String> =
            host.documents(&ids, 0)?.into_iter().flatten().map(|document| document.title).collect();
        let new_words = shared_words(&request.query, &titles, added);
        if new_words.is_empty() {
            host.trace(&[Event::Chosen(0)]);
            return Ok(Outcome::ranked(first, request.k, f32::NAN));
        }

        let text = format!("{} {}", request.query, new_words.join(" "));
        let second = look(host, 1, &text, request.k)?;
        host.trace(&[Event::Chosen(0), Event::Chosen(1)]);
        let rankings = [Weighted { weight: 1.0, hits: &first }, Weighted { weight: 1.0, hits: &second }];
        let fused = Fusion::ReciprocalRank { constant: RECIPROCAL_RANK_CONSTANT }.fuse(&rankings);
        Ok(Outcome::ranked(fused, request.k, f32::NAN))
    }
}

/// One search, and its place in the tree that `--trace` shows.
fn look(host: &mut impl Host, branch: u32, text: &str, k: u32) -> Result<Vec<Hit>, Error> {
    let hits = host.search(&[Query::new(text, Retriever::Hybrid, 0.5, k)])?.pop().unwrap_or_default();
    host.trace(&[
        Event::Expanded(Expanded {
            branch,
            parent: branch.checked_sub(1),
            turn: branch + 1,
            think: String::new(),
            query: text.to_owned(),
            retriever: Retriever::Hybrid,
        }),
        Event::Retrieved(Retrieved { branch, hits: hits.clone() }),
    ]);
    Ok(hits)
}

/// Words of the titles that the query does not have: those of most titles first, then alphabetically.
fn shared_words(query: &str, titles: &[String], most: usize) -> Vec<String> {
    let known = words(query);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for title in titles {
        for word in words(title) {
            if !known.contains(&word) && !is_stop_word(&word) {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let mut found: Vec<(String, usize)> = counts.into_iter().collect();
    // Stable, so that equal counts stay in alphabetical order.
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    found.into_iter().take(most).map(|(word, _)| word).collect()
}

orion_sdk::export!(SecondLook);

#[cfg(test)]
mod tests {
    use super::*;
    use orion_sdk::mock::MockHost;

    #[test]
    fn the_second_look_adds_the_words_of_the_titles() -> Result<(), Error> {
        let mut host = MockHost::new()
            .document("frost", "Defrost cycle", "a reversing valve melts the ice")
            .document("sun", "Sun", "warm days");
        let outcome = SecondLook::search(&mut host, &Request::new("valve", 10, 7))?;
        assert_eq!(host.searched(), ["valve", "valve cycle defrost"]);
        assert_eq!(outcome.ranking[0].id, "frost");
        Ok(())
    }
}

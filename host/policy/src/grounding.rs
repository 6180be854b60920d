//! Queries made of words that were read: which tokens go on to a word of the question or of the results.
//!
//! A small policy knows which word matters better than how it is spelt. A checkpoint whose `orion.json` says
//! `grounded_queries` is held to whole words of what stands before the query: those of the user's question and of all
//! results on its branch, as they are written and in small letters. What it thought and asked itself does not count, or
//! a word misspelt once would stay. No query says a word twice: what is left of a small policy's doubt about how to go on are
//! loops. The words are a trie of tokens with two roots: a word that opens a query has no space before it, one that follows
//! another has, and many tokenizers tell these apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::format::TrajectoryFormat;
use crate::tokenizer::PolicyTokenizer;

/// Words whose tokens are kept; beyond that the table begins anew. A few megabytes.
const KEPT_WORDS: usize = 1 << 15;

/// Longest word in bytes: what is longer is no word but an address or a sequence.
const LONGEST_WORD_BYTES: usize = 48;

/// Signs that a word may have inside. What has others is words side by side, such as a marker that a document wrote.
const SIGNS_INSIDE: [char; 7] = ['-', '\'', '’', '.', '/', '+', '_'];

/// A place in the trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u32);

impl Place {
    /// Before the first word.
    const OPENING: Self = Self(0);
    const FOLLOWING: Self = Self(1);

    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Default)]
struct Node {
    children: BTreeMap<u32, Place>,
    /// The number of the word that ends here: the same wherever in a query, and in capitals or not.
    word: Option<u32>,
}

/// The words that a query may be made of.
pub(crate) struct Words {
    nodes: Vec<Node>,
}

impl Words {
    /// Words of the questions and results among the tokens of a branch; `None` where there are none.
    pub(crate) fn among(
        tokens: &[u32],
        format: &TrajectoryFormat,
        spellings: &mut Spellings,
    ) -> Option<Self> {
        let mut words = BTreeSet::new();
        for span in format.spans_read(tokens) {
            let text = format.tokenizer().decode(span);
            text.lines().for_each(|line| collect_words(without_number(line), &mut words));
        }
        let mut trie = Self { nodes: vec![Node::default(), Node::default()] };
        let mut numbers = BTreeMap::new();
        for word in words {
            let next = numbers.len() as u32;
            let number = *numbers.entry(word.to_lowercase()).or_insert(next);
            let (opening, following) = spellings.of(word, format.tokenizer());
            trie.insert(Place::OPENING, opening, number);
            trie.insert(Place::FOLLOWING, following, number);
        }
        (!trie.nodes[0].children.is_empty()).then_some(trie)
    }

    fn insert(&mut self, root: Place, tokens: &[u32], number: u32) {
        let mut at = root;
        for token in tokens {
            let next = Place(self.nodes.len() as u32);
            let place = *self.nodes[at.index()].children.entry(*token).or_insert(next);
            if place == next {
                self.nodes.push(Node::default());
            }
            at = place;
        }
        if at != root {
            self.nodes[at.index()].word.get_or_insert(number);
        }
    }
}

/// One query in the making: where it is in the trie, and the words that it has said.
pub(crate) struct Walk {
    words: Arc<Words>,
    place: Place,
    said: BTreeSet<u32>,
}

impl Walk {
    /// Before the first word.
    pub(crate) fn new(words: Arc<Words>) -> Self {
        Self { words, place: Place::OPENING, said: BTreeSet::new() }
    }

    /// Tokens that may follow where `left` tokens still fit: such that the last word can be finished, and is new.
    /// Empty only where the query may end.
    pub(crate) fn allowed(&self, left: usize) -> Vec<u32> {
        let fitting = |from: Place, ended: Option<u32>| {
            let children = self.children(from).iter();
            let fits = move |child: Place| 0 < left && self.ends_within(child, left - 1, ended);
            children.filter(move |(_, child)| fits(**child)).map(|(token, _)| *token)
        };
        let ended = self.new_word(self.place, None);
        let mut allowed: Vec<u32> = fitting(self.place, None).collect();
        if ended.is_some() {
            allowed.extend(fitting(Place::FOLLOWING, ended));
        } else if allowed.is_empty() {
            // No word is short enough for the cap: a piece of one is better than nothing.
            allowed.extend(self.children(self.place).keys());
        }
        allowed
    }

    /// Whether the query may end here: after a whole word that it has not said before.
    pub(crate) fn may_end(&self) -> bool {
        self.new_word(self.place, None).is_some()
    }

    /// Takes one of the allowed tokens, when `left` tokens still fit. Where it both goes on with a word and begins the next
    /// one, it goes on.
    pub(crate) fn take(&mut self, token: u32, left: usize) {
        let next = |from: Place| self.children(from).get(&token).copied();
        let going_on = next(self.place);
        let fitting = going_on.filter(|place| self.ends_within(*place, left.saturating_sub(1), None));
        let beginning = self.new_word(self.place, None).zip(next(Place::FOLLOWING));
        match (fitting, beginning) {
            (None, Some((word, place))) => {
                self.said.insert(word);
                self.place = place;
            }
            (fitting, _) => self.place = fitting.or(going_on).unwrap_or(self.place),
        }
    }

    fn children(&self, place: Place) -> &BTreeMap<u32, Place> {
        &self.words.nodes[place.index()].children
    }

    /// The word that ends at a place, if it is not `ended`, the last one, and was not said before.
    fn new_word(&self, place: Place, ended: Option<u32>) -> Option<u32> {
        self.words.nodes[place.index()].word.filter(|word| Some(*word) != ended && !self.said.contains(word))
    }

    /// Whether a new word ends at a place or at most `left` tokens below it. No deeper than a word has tokens.
    fn ends_within(&self, place: Place, left: usize, ended: Option<u32>) -> bool {
        let below = |child: &Place| self.ends_within(*child, left - 1, ended);
        self.new_word(place, ended).is_some() || (0 < left && self.children(place).values().any(below))
    }
}

/// A line of results without its number.
fn without_number(line: &str) -> &str {
    // Many vocabularies write a space before a first word.
    let own = line.trim_start();
    let rest = own.trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() < own.len() { rest.strip_prefix(". ").unwrap_or(own) } else { own }
}

/// Adds the words of a line: what stands between spaces without the signs around it, and its parts where there are
/// signs inside; each also in small letters.
fn collect_words(line: &str, words: &mut BTreeSet<String>) {
    for group in line.split_whitespace() {
        let whole = group.trim_matches(|c: char| !c.is_alphanumeric());
        let parts = whole.split(|c: char| !c.is_alphanumeric()).filter(|part| *part != whole);
        let is_word = |word: &&str| {
            let joins = |c: char| c.is_alphanumeric() || SIGNS_INSIDE.contains(&c);
            !word.is_empty() && word.len() <= LONGEST_WORD_BYTES && word.chars().all(joins)
        };
        for word in std::iter::once(whole).chain(parts).filter(is_word) {
            words.insert(word.to_lowercase());
            words.insert(word.to_owned());
        }
    }
}

/// How words are written in tokens, opening a query and following another word; kept, for results repeat.
#[derive(Default)]
pub(crate) struct Spellings {
    kept: BTreeMap<String, (Vec<u32>, Vec<u32>)>,
}

impl Spellings {
    fn of(&mut self, word: String, tokenizer: &PolicyTokenizer) -> (&[u32], &[u32]) {
        if self.kept.len() == KEPT_WORDS && !self.kept.contains_key(&word) {
            self.kept.clear();
        }
        let (opening, following) = self
            .kept
            .entry(word)
            .or_insert_with_key(|word| (tokenizer.encode(word), tokenizer.encode(&format!(" {word}"))));
        (opening, following)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedCheckpoint;
    use crate::format::{FormatKind, FormatSpec, Segment, Snippet};

    fn nano_format() -> TrajectoryFormat {
        EmbeddedCheckpoint::nano().unwrap().open().unwrap().1
    }

    fn branch() -> Vec<Segment> {
        vec![
            Segment::UserQuery("Who tuned the glass harp?".into()),
            Segment::Think("mispelt thoughtless".into()),
            Segment::SearchQuery { query: "misasked".into(), retriever: None },
            Segment::TopKResponse(vec![
                Snippet { title: "Lamp-Board".into(), text: "It met at 4 o'clock, 381 times.".into() },
                Snippet { title: String::new(), text: "Sorrel".into() },
            ]),
        ]
    }

    /// All queries of at most two words that the trie admits, in words.
    fn admitted(words: &Arc<Words>, format: &TrajectoryFormat, left: usize) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![Vec::new()];
        while let Some(tokens) = open.pop() {
            let walk = walked(words, &tokens, left);
            let text = format.tokenizer().decode(&tokens).trim_start().to_owned();
            if walk.may_end() {
                found.insert(text.clone());
            }
            if tokens.len() == left || text.split(' ').count() > 2 {
                continue;
            }
            let longer = |token| tokens.iter().copied().chain([token]).collect();
            open.extend(walk.allowed(left - tokens.len()).into_iter().map(longer));
        }
        found
    }

    /// The walk after these tokens of a query of at most `most`.
    fn walked(words: &Arc<Words>, tokens: &[u32], most: usize) -> Walk {
        let mut walk = Walk::new(Arc::clone(words));
        for (place, token) in tokens.iter().enumerate() {
            assert!(walk.allowed(most - place).contains(token));
            walk.take(*token, most - place);
        }
        walk
    }

    fn among(segments: &[Segment], format: &TrajectoryFormat) -> Option<Arc<Words>> {
        let tokens = format.encode_trajectory(segments).tokens;
        Words::among(&tokens, format, &mut Spellings::default()).map(Arc::new)
    }

    #[test]
    fn words_of_question_and_results_alone() {
        let format = nano_format();
        let words = among(&branch(), &format).unwrap();
        let all = admitted(&words, &format, 12);
        let single: BTreeSet<&str> =
            all.iter().map(String::as_str).filter(|text| !text.contains(' ')).collect();
        // This vocabulary knows small letters alone.
        let expected =
            "who tuned the glass harp lamp-board lamp board it met at 4 o'clock o clock 381 times sorrel";
        let expected: BTreeSet<&str> = expected.split(' ').collect();
        assert_eq!(single, expected);
        assert!(all.contains("glass harp") && all.contains("sorrel 381"));
        // A word that another begins with does not stand in its way.
        assert!(all.contains("o o'clock") && all.contains("lamp-board lamp"));
        assert!(!all.contains("harp harp") && !all.contains("board board"));
    }

    #[test]
    fn a_query_ends_when_all_is_said() {
        let format = nano_format();
        let words = among(&[Segment::UserQuery("Boards board, BOARD!".into())], &format).unwrap();
        let said: BTreeSet<String> = admitted(&words, &format, 20);
        let expected = ["board", "boards", "board boards", "boards board"];
        assert_eq!(said, expected.map(str::to_owned).into());
    }

    #[test]
    fn the_cap_leaves_no_half_word_unless_none_is_short_enough() {
        let format = nano_format();
        let words = among(&branch(), &format).unwrap();
        for most in 1..4 {
            let mut open = vec![Vec::new()];
            while let Some(tokens) = open.pop() {
                let walk = walked(&words, &tokens, most);
                assert!(tokens.len() < most || walk.may_end());
                let next = if tokens.len() == most { Vec::new() } else { walk.allowed(most - tokens.len()) };
                open.extend(next.into_iter().map(|token| tokens.iter().copied().chain([token]).collect()));
            }
        }
        let long = among(&[Segment::UserQuery("xqzvkjw".into())], &format).unwrap();
        assert_eq!(Walk::new(long).allowed(1).len(), 1);
    }

    #[test]
    fn no_word_no_trie() {
        let format = nano_format();
        for text in ["", "?! — …"] {
            assert!(among(&[Segment::UserQuery(text.into())], &format).is_none());
        }
    }

    #[test]
    fn spellings_are_bounded() {
        let format = nano_format();
        let mut spellings = Spellings::default();
        for number in 0..KEPT_WORDS + 10 {
            spellings.of(number.to_string(), format.tokenizer());
        }
        assert!(spellings.kept.len() <= KEPT_WORDS);
        let (opening, following) = spellings.of("harp".into(), format.tokenizer());
        // This vocabulary writes a space before a first word too.
        assert_eq!(format.tokenizer().decode(opening), " harp");
        assert_eq!(format.tokenizer().decode(following), " harp");
    }

    #[test]
    fn a_format_without_markers_cannot_be_grounded() {
        for format in [FormatKind::NoMarker, FormatKind::Prompt] {
            let spec = FormatSpec { grounded_queries: true, ..FormatSpec::new(format, false) };
            let error = FormatSpec::parse(&serde_json::to_vec(&spec).unwrap(), "orion.json").unwrap_err();
            assert!(error.to_string().contains("grounded_queries"), "{error}");
        }
    }
}

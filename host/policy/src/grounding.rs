//! Queries made of words that were read: which tokens go on to a word of the question or of the results.
//!
//! A small policy knows which word matters better than how it is spelt. A checkpoint whose `orion.json` says
//! `grounded_queries` is held to whole words of what stands before the query: those of the user's question and of all
//! results on its branch, as they are written and in small letters. What it thought and asked itself does not count, or
//! a word misspelt once would stay. The words are a trie of tokens with two roots: a word that opens a query has no space
//! before it, one that follows another has, and many tokenizers tell these apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::TrajectoryFormat;
use crate::tokenizer::PolicyTokenizer;

/// Words whose tokens are kept; beyond that the table begins anew. A few megabytes.
const KEPT_WORDS: usize = 1 << 15;

/// Longest word in bytes: what is longer is no word but an address or a sequence.
const LONGEST_WORD_BYTES: usize = 48;

/// Signs that a word may have inside. What has others is words side by side, such as a marker that a document wrote.
const SIGNS_INSIDE: [char; 7] = ['-', '\'', '’', '.', '/', '+', '_'];

/// A place in the trie. It begins at [`Place::OPENING`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// Before the first word.
    pub(crate) const OPENING: Self = Self(0);
    const FOLLOWING: Self = Self(1);

    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Default)]
struct Node {
    children: BTreeMap<u32, Place>,
    /// Whether a word ends here.
    is_word: bool,
    /// Tokens from here to the nearest end of a word.
    missing: usize,
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
        for word in words {
            let (opening, following) = spellings.of(word, format.tokenizer());
            trie.insert(Place::OPENING, opening);
            trie.insert(Place::FOLLOWING, following);
        }
        // Children stand behind their parents.
        for index in (0..trie.nodes.len()).rev() {
            let below = |child: &Place| trie.nodes[child.index()].missing + 1;
            let nearest = trie.nodes[index].children.values().map(below).min().unwrap_or(0);
            trie.nodes[index].missing = if trie.nodes[index].is_word { 0 } else { nearest };
        }
        (!trie.nodes[0].children.is_empty()).then_some(trie)
    }

    fn insert(&mut self, root: Place, tokens: &[u32]) {
        let mut at = root;
        for token in tokens {
            let next = Place(self.nodes.len() as u32);
            let place = *self.nodes[at.index()].children.entry(*token).or_insert(next);
            if place == next {
                self.nodes.push(Node::default());
            }
            at = place;
        }
        self.nodes[at.index()].is_word |= at != root;
    }

    /// Tokens that may follow at a place where `left` tokens still fit: such that the last word can be finished.
    /// Empty only where the query may end.
    pub(crate) fn allowed(&self, place: Place, left: usize) -> Vec<u32> {
        let fitting = |place: Place| {
            let children = self.nodes[place.index()].children.iter();
            children.filter(move |(_, child)| self.nodes[child.index()].missing < left)
        };
        let mut allowed: Vec<u32> = fitting(place).map(|(token, _)| *token).collect();
        if self.may_end(place) {
            allowed.extend(fitting(Place::FOLLOWING).map(|(token, _)| *token));
        } else if allowed.is_empty() {
            // No word is short enough for the cap: a piece of one is better than nothing.
            allowed.extend(self.nodes[place.index()].children.keys());
        }
        allowed
    }

    /// Whether the query may end here: after a whole word.
    pub(crate) fn may_end(&self, place: Place) -> bool {
        self.nodes[place.index()].is_word
    }

    /// The place after one of the allowed tokens. Where a token both goes on with a word and begins the next one, it
    /// goes on.
    pub(crate) fn after(&self, place: Place, token: u32) -> Place {
        let next = |from: Place| self.nodes[from.index()].children.get(&token).copied();
        next(place).or_else(|| next(Place::FOLLOWING)).unwrap_or(place)
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
    fn admitted(words: &Words, format: &TrajectoryFormat, left: usize) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![(Place::OPENING, Vec::new())];
        while let Some((place, tokens)) = open.pop() {
            let text = format.tokenizer().decode(&tokens).trim_start().to_owned();
            if words.may_end(place) {
                found.insert(text.clone());
            }
            if tokens.len() == left || text.split(' ').count() > 2 {
                continue;
            }
            for token in words.allowed(place, left - tokens.len()) {
                let longer = tokens.iter().copied().chain([token]).collect();
                open.push((words.after(place, token), longer));
            }
        }
        found
    }

    #[test]
    fn words_of_question_and_results_alone() {
        let format = nano_format();
        let tokens = format.encode_trajectory(&branch()).tokens;
        let words = Words::among(&tokens, &format, &mut Spellings::default()).unwrap();
        let all = admitted(&words, &format, 12);
        let single: BTreeSet<&str> =
            all.iter().map(String::as_str).filter(|text| !text.contains(' ')).collect();
        // This vocabulary knows small letters alone.
        let expected =
            "who tuned the glass harp lamp-board lamp board it met at 4 o'clock o clock 381 times sorrel";
        let expected: BTreeSet<&str> = expected.split(' ').collect();
        assert_eq!(single, expected);
        assert!(all.contains("glass harp") && all.contains("sorrel 381"));
    }

    #[test]
    fn the_cap_leaves_no_half_word_unless_none_is_short_enough() {
        let format = nano_format();
        let mut spellings = Spellings::default();
        let tokens = format.encode_trajectory(&branch()).tokens;
        let words = Words::among(&tokens, &format, &mut spellings).unwrap();
        for left in 1..4 {
            let mut open = vec![(Place::OPENING, left)];
            while let Some((place, rest)) = open.pop() {
                assert!(0 < rest || words.may_end(place));
                let next = if rest == 0 { Vec::new() } else { words.allowed(place, rest) };
                open.extend(next.into_iter().map(|token| (words.after(place, token), rest - 1)));
            }
        }
        let long = [Segment::UserQuery("xqzvkjw".into())];
        let tokens = format.encode_trajectory(&long).tokens;
        let words = Words::among(&tokens, &format, &mut spellings).unwrap();
        assert_eq!(words.allowed(Place::OPENING, 1).len(), 1);
    }

    #[test]
    fn no_word_no_trie() {
        let format = nano_format();
        let mut spellings = Spellings::default();
        for text in ["", "?! — …"] {
            let tokens = format.encode_trajectory(&[Segment::UserQuery(text.into())]).tokens;
            assert!(Words::among(&tokens, &format, &mut spellings).is_none());
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

//! TREC topics and TREC judgements, for collections whose documents one holds oneself.
//!
//! Topics come in the classic form (`<top>`, `<num>`, `<title>`, `<desc>`, `<narr>`, which are seldom closed) or as
//! `id<TAB>text` lines; which of the two a file is shows in its first line. Judgements are `query iteration document grade`
//! in columns divided by white space; documents are JSON lines. Neighbours: [`crate::run`] reads TREC run files,
//! [`crate::import`] writes BEIR folders.

use std::{collections::BTreeSet, path::Path};

use crate::{
    dataset::{Corpus, Judgements, Query},
    error::EvalError,
    import::{BeirWriter, Excluded, Judged},
    lines::NumberedLines,
};

/// Which part of a topic is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicField {
    /// A few words.
    Title,
    /// A sentence.
    Description,
    /// Both, the title first.
    TitleAndDescription,
}

/// A topic as it is read: which part the words at hand belong to, and the words of each.
#[derive(Default)]
struct Topic {
    number: String,
    title: String,
    description: String,
    part: Part,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Other,
    Number,
    Title,
    Description,
}

/// The labels that follow a tag in the classic form.
const LABELS: [(&str, Part, &str); 4] = [
    ("<num>", Part::Number, "Number:"),
    ("<title>", Part::Title, "Topic:"),
    ("<desc>", Part::Description, "Description:"),
    ("<narr>", Part::Other, "Narrative:"),
];

/// Reads topics in file order.
///
/// # Errors
/// Neither of the two forms, a topic without number or without words in the wanted part, a number twice, a file that ends
/// within a topic. Each names the line.
pub fn read_topics(path: &Path, field: TopicField) -> Result<Vec<Query>, EvalError> {
    let mut lines = NumberedLines::open(path)?;
    let mut queries: Vec<Query> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut topic: Option<Topic> = None;
    let mut is_classic = None;
    while let Some(line) = lines.next_line()? {
        let text = line.trim();
        let classic = *is_classic.get_or_insert(text.starts_with('<'));
        let ended = if !classic {
            let Some((id, words)) =
                line.split_once('\t').filter(|(id, words)| !id.trim().is_empty() && !words.trim().is_empty())
            else {
                return Err(lines.malformed("`id<TAB>text`, or a file that begins with `<top>`", &line));
            };
            Some(Query { id: id.trim().to_owned(), text: one_line(words) })
        } else if text == "<top>" {
            if topic.is_some() {
                return Err(lines.malformed("`</top>` before the next topic", text));
            }
            topic = Some(Topic::default());
            None
        } else if text == "</top>" {
            let Some(read) = topic.take() else {
                return Err(lines.malformed("`<top>` before `</top>`", text));
            };
            let query = read.query(field);
            if query.id.is_empty() || query.text.is_empty() {
                return Err(lines.malformed("a topic with a number and words in the wanted part", &query.id));
            }
            Some(query)
        } else {
            // Head matter before the first topic is allowed, as TREC files have it.
            if let Some(topic) = &mut topic {
                topic.read(text);
            }
            None
        };
        if let Some(query) = ended {
            if !seen.insert(query.id.clone()) {
                return Err(lines.malformed("each topic once", &query.id));
            }
            queries.push(query);
        }
    }
    match topic {
        Some(topic) => Err(lines.malformed("`</top>` at the end of the last topic", topic.number.trim())),
        None => Ok(queries),
    }
}

impl Topic {
    fn read(&mut self, line: &str) {
        let mut words = line;
        for (tag, part, label) in LABELS {
            if let Some(rest) = line.strip_prefix(tag) {
                self.part = part;
                let rest = rest.trim();
                words = rest.strip_prefix(label).unwrap_or(rest);
            }
        }
        // Where a tag is closed, the part ends.
        let (words, is_closed) = match words.find("</") {
            Some(end) => (&words[..end], true),
            None => (words, false),
        };
        let target = match self.part {
            Part::Number => Some(&mut self.number),
            Part::Title => Some(&mut self.title),
            Part::Description => Some(&mut self.description),
            Part::Other => None,
        };
        if let Some(target) = target {
            target.push(' ');
            target.push_str(words);
        }
        if is_closed {
            self.part = Part::Other;
        }
    }

    fn query(&self, field: TopicField) -> Query {
        let text = match field {
            TopicField::Title => self.title.clone(),
            TopicField::Description => self.description.clone(),
            TopicField::TitleAndDescription => format!("{} {}", self.title, self.description),
        };
        Query { id: one_line(&self.number), text: one_line(&text) }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads judgements; negative grades (spam, in some tracks) are kept as they are.
///
/// # Errors
/// A line of another form, two grades for one query and document; each names the line.
pub fn read_trec_qrels(path: &Path) -> Result<Judgements, EvalError> {
    let mut lines = NumberedLines::open(path)?;
    let mut judgements = Judgements::new();
    while let Some(line) = lines.next_line()? {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let grade = fields.get(3).and_then(|grade| grade.parse::<i32>().ok());
        let (&[query, _, document, _], Some(grade)) = (fields.as_slice(), grade) else {
            return Err(lines.malformed("`query iteration document grade` with a whole grade", &line));
        };
        let earlier = judgements.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
        if let Some(other) = earlier.filter(|other| *other != grade) {
            return Err(lines.malformed("one grade a query and document", &format!("{other} and {grade}")));
        }
    }
    Ok(judgements)
}

/// Topics and their judgements, and the ids of judged queries that have no topic: these are left out.
///
/// # Errors
/// As [`read_topics`] and [`read_trec_qrels`]; and judgements of other topics altogether.
pub fn read_trec(
    topics: &Path,
    field: TopicField,
    qrels: &Path,
) -> Result<(Judged, BTreeSet<String>), EvalError> {
    let queries = read_topics(topics, field)?;
    let known: BTreeSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
    let (judgements, others): (Judgements, Judgements) =
        read_trec_qrels(qrels)?.into_iter().partition(|(query, _)| known.contains(query.as_str()));
    let strangers: BTreeSet<String> = others.into_keys().collect();
    if judgements.is_empty() {
        let quoted = |id: Option<&str>| id.map_or("none".to_owned(), |id| format!("`{id}`"));
        return Err(EvalError::Strangers {
            qrels: qrels.to_owned(),
            topic: quoted(known.first().copied()),
            judged: quoted(strangers.first().map(String::as_str)),
        });
    }
    Ok((Judged { queries, judgements, excluded: Excluded::new() }, strangers))
}

/// Copies a file of JSON lines, a document each (`_id` or `id`, `title`, `text` or `contents`, `metadata`), into a set.
/// `progress` hears of each document.
///
/// # Errors
/// A line of another form, an id twice; each names the line.
pub fn copy_corpus(path: &Path, set: &mut BeirWriter, progress: &mut dyn FnMut()) -> Result<(), EvalError> {
    let mut corpus = Corpus::open(path)?;
    while let Some(document) = corpus.next() {
        let document = document?;
        let id = document.id.clone();
        if !set.document(document)? {
            return Err(corpus.malformed("each document id once, and none that is empty", &id));
        }
        progress();
    }
    Ok(())
}

//! The journal of one system and seed: a line of settings, then one line for each answered query.
//!
//! Lines are appended as queries are answered, so that a stopped evaluation goes on where it was; a last line
//! that was cut off is dropped and its query answered again. Other settings than those in the first line are
//! refused: rankings of two systems must never end up in one file. Neighbours: [`super::runs`] writes,
//! [`super::score`] reads.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use orion_eval::{Look, RankedDocument, Run};
use serde::{Deserialize, Serialize};

use crate::failure::{Explain, Failure};

/// What a journal's rankings depend on. Two runs with equal settings give equal rankings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// The row's name: `beam`, `beam@untrained`.
    pub system: String,
    /// SHA-256 of the strategy's component.
    pub component: String,
    /// The strategy's parameters that were given.
    pub options: Vec<(String, String)>,
    /// The policy's identity; `none` without one.
    pub policy: String,
    /// The collection's identity.
    pub collection: String,
    /// Seed of sampling.
    pub seed: u64,
    /// Depth of rankings.
    pub k: u32,
    /// Everything that bounded the searches, as JSON.
    pub limits: serde_json::Value,
}

/// One turn on the way to the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakenTurn {
    /// The search query.
    pub query: String,
    /// Ids in rank order, at most the first hundred.
    pub hits: Vec<String>,
}

/// One answered query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The query's id.
    pub query: String,
    /// Ids and scores, best first.
    pub ranking: Vec<(String, f32)>,
    /// The strategy's confidence.
    pub confidence: Option<f32>,
    /// Why the ranking is the plain hybrid one, where it is.
    pub degraded: Option<String>,
    /// Retrieval calls.
    pub retrievals: u64,
    /// Policy tokens read.
    pub tokens_prefilled: u64,
    /// Policy tokens written.
    pub tokens_decoded: u64,
    /// Wall-clock milliseconds of the search.
    pub milliseconds: f64,
    /// The turns that led to the first chosen leaf of the tree.
    pub path: Vec<TakenTurn>,
    /// The first hits of every branch; empty for a strategy that keeps no tree, `None` in journals of before.
    #[serde(default)]
    pub looks: Option<Vec<Look>>,
}

/// Files of one system and seed in a folder.
#[derive(Debug, Clone)]
pub struct RunFiles {
    /// Settings and answers, JSON lines.
    pub journal: PathBuf,
    /// The rankings as a TREC run file.
    pub trec: PathBuf,
}

impl RunFiles {
    /// Names them; characters that file systems dislike become `_`.
    pub fn new(folder: &Path, system: &str, seed: u64) -> Self {
        let plain: String = system
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '@' | '-' | '.') { c } else { '_' })
            .collect();
        Self {
            journal: folder.join(format!("{plain}.seed{seed}.jsonl")),
            trec: folder.join(format!("{plain}.seed{seed}.trec")),
        }
    }
}

/// An open journal with what it holds so far.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    answers: BTreeMap<String, Answer>,
}

impl Journal {
    /// Opens or begins a journal for these settings.
    pub fn open(path: &Path, settings: &RunSettings) -> Result<Self, Failure> {
        let reading = || format!("reading `{}`", path.display());
        let writing = || format!("writing `{}`", path.display());
        let mut answers = BTreeMap::new();
        let mut sound_bytes = 0;
        if path.exists() {
            let (earlier, read_answers, length) = parse(&fs::read_to_string(path).attempt(reading())?);
            match earlier {
                Some(earlier) if earlier != *settings => {
                    return Err(Failure::new(format!(
                        "going on with `{}`: expected rankings made with the same {}, got other ones",
                        path.display(),
                        difference(&earlier, settings)
                    ))
                    .hint("--fresh answers all queries anew; --out names another folder"));
                }
                Some(_) => (answers, sound_bytes) = (read_answers, length),
                None => {}
            }
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).attempt(writing())?;
        file.set_len(sound_bytes).attempt(writing())?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).attempt(writing())?;
        let mut journal = Self { path: path.to_owned(), file, answers };
        if sound_bytes == 0 {
            journal.write_line(settings)?;
        }
        Ok(journal)
    }

    /// Whether a query was answered already.
    pub fn has(&self, query: &str) -> bool {
        self.answers.contains_key(query)
    }

    /// Keeps an answer.
    pub fn push(&mut self, answer: Answer) -> Result<(), Failure> {
        self.write_line(&answer)?;
        self.answers.insert(answer.query.clone(), answer);
        Ok(())
    }

    /// All rankings, as a run.
    pub fn run(&self) -> Run {
        self.answers
            .values()
            .map(|answer| {
                let ranking = answer
                    .ranking
                    .iter()
                    .map(|(id, score)| RankedDocument { id: id.clone(), score: *score })
                    .collect();
                (answer.query.clone(), ranking)
            })
            .collect()
    }

    fn write_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let attempted = || format!("writing `{}`", self.path.display());
        let mut line = serde_json::to_string(value).attempt(attempted())?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).attempt(attempted())
    }
}

/// Reads a finished journal.
pub fn read(path: &Path) -> Result<(RunSettings, BTreeMap<String, Answer>), Failure> {
    let text = fs::read_to_string(path)
        .attempt(format!("reading `{}`", path.display()))
        .map_err(|failure| failure.hint("without --score-only the rankings are made first"))?;
    let (settings, answers, _) = parse(&text);
    let settings = settings.ok_or_else(|| {
        Failure::new(format!("reading `{}`: expected a line of settings first, got none", path.display()))
    })?;
    Ok((settings, answers))
}

/// Settings, answers, and the length in bytes of the sound beginning.
fn parse(text: &str) -> (Option<RunSettings>, BTreeMap<String, Answer>, u64) {
    let mut settings = None;
    let mut answers = BTreeMap::new();
    let mut sound_bytes = 0;
    for line in text.split_inclusive('\n') {
        if !line.ends_with('\n') {
            break;
        }
        if settings.is_none() {
            match serde_json::from_str::<RunSettings>(line) {
                Ok(read) => settings = Some(read),
                Err(_) => break,
            }
        } else {
            match serde_json::from_str::<Answer>(line) {
                Ok(answer) => answers.insert(answer.query.clone(), answer),
                Err(_) => break,
            };
        }
        sound_bytes += line.len() as u64;
    }
    (settings, answers, sound_bytes)
}

fn difference(earlier: &RunSettings, settings: &RunSettings) -> &'static str {
    let checks = [
        (earlier.component == settings.component, "strategy component"),
        (earlier.options == settings.options, "parameters"),
        (earlier.policy == settings.policy, "policy"),
        (earlier.collection == settings.collection, "collection"),
        (earlier.k == settings.k, "depth"),
        (earlier.limits == settings.limits, "budgets"),
    ];
    checks.iter().find(|(same, _)| !same).map_or("settings", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(k: u32) -> RunSettings {
        RunSettings {
            system: "beam".to_owned(),
            component: "c0".to_owned(),
            options: Vec::new(),
            policy: "none".to_owned(),
            collection: "c1".to_owned(),
            seed: 1,
            k,
            limits: serde_json::json!({}),
        }
    }

    fn answer(query: &str) -> Answer {
        Answer {
            query: query.to_owned(),
            ranking: vec![("d1".to_owned(), 0.1)],
            confidence: None,
            degraded: None,
            retrievals: 1,
            tokens_prefilled: 0,
            tokens_decoded: 0,
            milliseconds: 1.5,
            path: Vec::new(),
            looks: None,
        }
    }

    #[test]
    fn goes_on_after_a_cut_line_and_refuses_other_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beam.jsonl");
        let mut journal = Journal::open(&path, &settings(100)).unwrap();
        journal.push(answer("q1")).unwrap();
        journal.push(answer("q2")).unwrap();
        drop(journal);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();

        let mut resumed = Journal::open(&path, &settings(100)).unwrap();
        assert!(resumed.has("q1") && !resumed.has("q2"));
        resumed.push(answer("q2")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        assert_eq!(resumed.run().len(), 2);
        assert_eq!(read(&path).unwrap().1.len(), 2);

        let refused = Journal::open(&path, &settings(10)).unwrap_err();
        assert!(refused.to_string().contains("made with the same depth"), "{refused}");
    }
}

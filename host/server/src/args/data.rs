//! `orion data …` as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `orion data …`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Fetch a judged set as a zip archive in BEIR's layout, check it, and unpack it
    ///
    /// Archives of BEIR are held against the MD5 that BEIR publishes. A fetch that was cut off goes on where it stopped.
    /// The sets' own licences apply.
    #[command(
        after_help = "Examples:\n  orion data fetch scifact\n  orion data fetch nfcorpus --into data\n  orion data fetch notes --url http://127.0.0.1:8000/notes.zip --md5 0f343b0931126a20f133d67c2b018a3b\n  orion data fetch scifact --archive scifact.zip"
    )]
    Fetch {
        /// The set, as `orion data list` writes it; with --url, any name for the folder
        name: String,
        /// Folder that gets a folder of the set's name
        #[arg(long, value_name = "FOLDER", default_value = "data")]
        into: PathBuf,
        /// Fetch from this address instead
        #[arg(long, value_name = "URL", conflicts_with = "archive")]
        url: Option<String>,
        /// Take this archive instead of fetching one
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
        /// MD5 that the archive must have, in hexadecimal; for sets of BEIR the published one
        #[arg(long, value_name = "HEX")]
        md5: Option<String>,
    },
    /// List the sets that can be fetched by name
    #[command(after_help = "Examples:\n  orion data list\n  orion data list --json")]
    List,
    /// Bring a judged set of another layout into the one that `orion eval` reads
    #[command(subcommand, arg_required_else_help = true)]
    Import(ImportCommand),
}

/// `orion data import …`
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Bring in a task of the BRIGHT benchmark
    Bright(BrightArgs),
    /// Bring in TREC topics and judgements with a collection of your own
    Trec(TrecArgs),
}

/// Which of BRIGHT's documents are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BrightTable {
    /// The table `documents`
    #[default]
    Passages,
    /// The table `long_documents`
    Pages,
}

/// `orion data import bright`
#[derive(Debug, Args)]
#[command(
    long_about = "Bring in a task of the BRIGHT benchmark.\n\nFOLDER is a copy of the benchmark as it is published: a folder for \
                  each table (documents, examples), and in it a task's Parquet files (TASK.parquet, or all of \
                  TASK-00000-of-00001.parquet and so on, packed by snappy or not at all) or TASK.jsonl. Without --task, \
                  FOLDER is the task's own: documents.parquet and examples.parquet, or .jsonl. Documents that the benchmark \
                  excludes for a query go into excluded/SPLIT.tsv, and `orion eval` leaves them out of that query's \
                  rankings. Blanks in ids become `_`, as run files divide columns by blanks.",
    after_help = "Examples:\n  orion data import bright BRIGHT --task biology --out data/bright-biology\n  orion data import bright BRIGHT --task biology --documents pages --out data/bright-biology-pages\n  orion data import bright BRIGHT --task pony --examples gpt4_reason --out data/bright-pony-gpt4"
)]
pub struct BrightArgs {
    /// The benchmark's folder, or with no --task the task's own
    pub folder: PathBuf,
    /// The task
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub task: Option<String>,
    /// Search passages, or the whole pages that they were cut from
    #[arg(long, value_enum, default_value_t)]
    pub documents: BrightTable,
    /// Table of the questions; others hold them as a model rewrote them
    #[arg(long, value_name = "TABLE", default_value = "examples", value_parser = plain_name)]
    pub examples: String,
    /// Where the set goes.
    #[command(flatten)]
    pub target: ImportTarget,
}

/// Which part of a TREC topic is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FieldChoice {
    /// A few words
    #[default]
    Title,
    /// A sentence
    Description,
    /// The title, then the description
    Both,
}

/// `orion data import trec`
#[derive(Debug, Args)]
#[command(
    long_about = "Bring in TREC topics and judgements with a collection of your own.\n\nTopics are in TREC's own form (<top>, \
                  <num>, <title>, <desc>) or lines of `id<TAB>text`; judgements are lines of `query iteration document \
                  grade`. The collection is JSON lines: `_id` or `id`, `title`, `text` or `contents`, `metadata`. Judged \
                  documents that it lacks count as missed.",
    after_help = "Examples:\n  orion data import trec --topics topics.301-450.txt --qrels qrels.301-450.txt --corpus robust.jsonl --out data/robust\n  orion data import trec --topics topics.txt --qrels qrels.txt --corpus corpus.jsonl --field description --split dev --out data/mine"
)]
pub struct TrecArgs {
    /// The topics
    #[arg(long, value_name = "FILE")]
    pub topics: PathBuf,
    /// The judgements
    #[arg(long, value_name = "FILE")]
    pub qrels: PathBuf,
    /// The documents
    #[arg(long, value_name = "FILE")]
    pub corpus: PathBuf,
    /// Which part of a topic is the query; lines of `id<TAB>text` have one part only
    #[arg(long, value_enum, default_value_t)]
    pub field: FieldChoice,
    /// Where the set goes.
    #[command(flatten)]
    pub target: ImportTarget,
}

/// Where an imported set goes.
#[derive(Debug, Args)]
pub struct ImportTarget {
    /// Folder for the set, which must not be there yet
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Name of the split that the judgements make
    #[arg(long, value_name = "NAME", default_value = "test", value_parser = plain_name)]
    pub split: String,
}

/// A name that is one part of a path and hidden nowhere.
pub(crate) fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_plain) {
        return Err("expected a name of letters, digits and `-_.`".to_owned());
    }
    Ok(text.to_owned())
}

//! `orion index …` as typed.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::places::IndexName;

/// Language of lexical analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[expect(missing_docs, reason = "the names say all")]
pub enum LanguageChoice {
    Plain,
    Arabic,
    Danish,
    Dutch,
    #[default]
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

/// `orion index …`
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make an empty index
    #[command(
        after_help = "Examples:\n  orion index create notes\n  orion index create notes --language german --metadata year=number --metadata lang=keyword\n  orion index create logs --lexical-only"
    )]
    Create {
        /// Its name
        name: IndexName,
        /// Keep no vectors; searches are lexical
        #[arg(long)]
        lexical_only: bool,
        /// Language of lexical analysis
        #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
        language: LanguageChoice,
        /// Declare a metadata field, as NAME=TYPE with keyword, text, number, date or boolean; undeclared fields
        /// take the type of the first value seen
        #[arg(long, value_name = "NAME=TYPE")]
        metadata: Vec<String>,
    },
    /// Add documents from files; a document whose id is there already replaces it
    #[command(
        after_help = "Examples:\n  orion index add notes corpus.jsonl\n  orion index add notes part-1.jsonl part-2.jsonl --no-commit"
    )]
    Add {
        /// The index; made with default settings where it does not exist
        name: IndexName,
        /// Files of JSON lines: `_id` or `id`, `title`, `text`, `metadata`, `vector`; all else is metadata
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Leave the documents in the write-ahead log; `orion index commit` makes them visible
        #[arg(long)]
        no_commit: bool,
    },
    /// Delete documents by id
    #[command(after_help = "Examples:\n  orion index delete notes d17 d18")]
    Delete {
        /// The index
        name: IndexName,
        /// Ids of documents; unknown ones are no error
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Leave the deletions in the write-ahead log
        #[arg(long)]
        no_commit: bool,
    },
    /// Make what was added and deleted visible
    #[command(after_help = "Examples:\n  orion index commit notes")]
    Commit {
        /// The index
        name: IndexName,
    },
    /// Say what an index holds
    #[command(after_help = "Examples:\n  orion index stats notes\n  orion index stats notes --json")]
    Stats {
        /// The index
        name: IndexName,
    },
    /// List indexes
    #[command(after_help = "Examples:\n  orion index list")]
    List,
    /// Remove an index and everything in it
    #[command(after_help = "Examples:\n  orion index drop notes --yes")]
    Drop {
        /// The index
        name: IndexName,
        /// Do not ask back
        #[arg(long)]
        yes: bool,
    },
    /// Copy what is committed of indexes into a folder, while others may write to them
    #[command(
        after_help = "Examples:\n  orion index snapshot backups/monday notes\n  orion index snapshot backups/tuesday"
    )]
    Snapshot {
        /// The snapshot: a folder that must not exist, named with a-z 0-9 - _ .
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// The indexes; all of them without
        #[arg(value_name = "NAME")]
        names: Vec<IndexName>,
    },
    /// Make an index from one of a snapshot; every file is compared first
    #[command(
        after_help = "Examples:\n  orion index restore backups/monday notes\n  orion index restore backups/monday notes --as notes-of-monday"
    )]
    Restore {
        /// The snapshot's folder
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// The index in it
        name: IndexName,
        /// Its new name
        #[arg(long = "as", value_name = "NAME")]
        target: Option<IndexName>,
    },
    /// Find the best weight of the dense half on judged queries that are not a test split
    #[command(after_help = "Examples:\n  orion index tune scifact --data data/scifact --split dev")]
    Tune {
        /// The index, holding the corpus of the data folder
        name: IndexName,
        /// Folder in BEIR layout
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
        /// The split whose judgements are used
        #[arg(long, default_value = "dev")]
        split: String,
    },
}

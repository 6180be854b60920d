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

/// How vectors are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DenseSearchChoice {
    /// Score every vector
    Exact,
    /// Look at every vector in one byte a dimension, score the best candidates
    Quantised,
    /// Walk a graph in large segments, score the best candidates
    Graph,
    /// Exact where few, quantised where more, the graph where it is the shorter way
    #[default]
    Auto,
}

/// `orion index …`
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make an empty index
    #[command(
        after_help = "Examples:\n  orion index create notes\n  orion index create notes --language german --metadata year=number --metadata lang=keyword\n  orion index create logs --lexical-only\n  orion index create images --vectors 512\n  orion index create papers --dense-search graph"
    )]
    Create {
        /// Its name
        name: IndexName,
        /// Keep no vectors; searches are lexical
        #[arg(long)]
        lexical_only: bool,
        /// Keep vectors of so many numbers that documents bring, compared by cosine, in place of an encoder's
        #[arg(long, value_name = "DIMENSION", conflicts_with = "lexical_only", value_parser = clap::value_parser!(u32).range(1..=16_000))]
        vectors: Option<u32>,
        /// Language of lexical analysis
        #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
        language: LanguageChoice,
        /// Declare a metadata field, as NAME=TYPE with keyword, text, number, date or boolean; undeclared fields
        /// take the type of the first value seen
        #[arg(long, value_name = "NAME=TYPE")]
        metadata: Vec<String>,
        /// How vectors are searched; scores are exact in any case
        #[arg(long, value_enum, default_value_t, value_name = "WAY", conflicts_with = "lexical_only")]
        dense_search: DenseSearchChoice,
        /// Build a graph for each segment of at least so many vectors [default: 50000]
        #[arg(long, value_name = "VECTORS", conflicts_with = "lexical_only")]
        graph_from: Option<u64>,
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
        /// How vectors are searched, where this makes the index; one that is there must have been made so
        #[arg(long, value_enum, value_name = "WAY")]
        dense_search: Option<DenseSearchChoice>,
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
    /// Load an index's documents, with their vectors, into another engine
    ///
    /// Documents are put under their ids, in batches: pushing twice changes nothing, and an interrupted push goes on where
    /// it stopped. Documents that the index no longer has stay in the engine.
    ///
    /// Tried with the real PostgreSQL 18 with pgvector, Sphinx 2.2 and Milvus 2.3. OpenSearch, Elasticsearch and Milvus 2.4 were
    /// tried by their protocols alone, Manticore not at all.
    #[command(
        after_help = "Examples:\n  orion index push notes --to cluster --config orion.toml\n  orion index push notes --to cluster --config orion.toml --fresh --json"
    )]
    Push {
        /// The index
        name: IndexName,
        /// The engine: a name from `[backends]`
        #[arg(long, value_name = "BACKEND")]
        to: String,
        /// The configuration that names it, as `orion serve` reads it
        #[arg(long, value_name = "FILE", default_value = "orion.toml")]
        config: PathBuf,
        /// Documents of one batch
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
        batch: u32,
        /// Begin anew instead of going on with an interrupted push
        #[arg(long)]
        fresh: bool,
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

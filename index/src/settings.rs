//! How an index is laid out: fixed at creation, kept in `orion.json` under a format number and a checksum.
//! What changes with every commit is in the manifest (`manifest.rs`).

use crate::document::{Kind, is_metadata_name};
use crate::error::{IndexError, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Number of the on-disk format; any other number is refused.
pub const FORMAT: u32 = 1;

/// Name of the settings file inside an index folder.
pub(crate) const SETTINGS_FILE: &str = "orion.json";

/// Settings of one index, fixed when it is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexSettings {
    /// Language of the lexical analysis: lower-casing, stop words where known, stemming.
    pub language: Language,
    /// Whether frequent function words are dropped, where the language has a list.
    pub stop_words: bool,
    /// The dense half; `None` makes a lexical index.
    pub dense: Option<DenseSettings>,
    /// Metadata types declared beforehand; other names take the type of the first value seen.
    pub metadata: BTreeMap<String, Kind>,
    /// How many texts of a document can be searched one by one ([`crate::Document::fields`]), with phrases; title
    /// and text are searched together in any case. At most [`MOST_FIELDS`].
    // Left out where there are none: settings of before stay what they were, to the checksum.
    #[serde(skip_serializing_if = "is_zero")]
    pub fields: u8,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// Most numbered fields: each costs a byte a document even where it is empty.
pub const MOST_FIELDS: u8 = 64;

/// The dense half of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseSettings {
    /// Length of every vector.
    pub dimensions: usize,
    /// The encoder that made the vectors; another one is refused. `None` takes any of the right length.
    pub encoder: Option<String>,
    /// Where the vectors come from.
    // This and what follows: left out where it is the default, so that settings of before stay what they were.
    #[serde(skip_serializing_if = "is_default")]
    pub source: VectorSource,
    /// How vectors are compared; those of an encoder by cosine.
    #[serde(skip_serializing_if = "is_default")]
    pub space: Space,
    /// How vectors are searched; [`DenseSearch::Exact`] where they are not compared by cosine.
    #[serde(skip_serializing_if = "is_default")]
    pub search: DenseSearch,
    /// Vector segments of at least so many rows get a graph, where `search` provides for one.
    #[serde(skip_serializing_if = "is_graph_from")]
    pub graph_from: u64,
    /// How many candidates get an exact score for each hit that is wanted, where not all rows do; at least 100 do in
    /// any case.
    #[serde(skip_serializing_if = "is_oversampling")]
    pub oversampling: u32,
}

/// A walk for ten hits then costs what looking at a quarter of all codes does, and building takes about a minute.
const GRAPH_FROM: u64 = 50_000;
/// By codes, twice as many as hits lost none of the best 10 or 100 of 300 queries over 69,000 MiniLM embeddings; the rest
/// is for walks.
const OVERSAMPLING: u32 = 4;
/// More than this is a mistake: exact search is quicker.
const MOST_OVERSAMPLING: u32 = 1000;

/// Longest vector of a client: as in OpenSearch, and some times what today's models make.
pub const MOST_DIMENSIONS: usize = 16_000;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_graph_from(rows: &u64) -> bool {
    *rows == GRAPH_FROM
}

fn is_oversampling(factor: &u32) -> bool {
    *factor == OVERSAMPLING
}

/// Where the vectors of an index come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorSource {
    /// The encoder makes them from title and text; a document may bring one of the same kind.
    #[default]
    Encoder,
    /// Documents bring them, or have none and are found by words alone. Whatever encoder the index is opened with
    /// knows nothing of them, so texts are answered lexically and vectors by [`crate::Searcher::dense_vector`].
    Client,
}

/// How two vectors are compared; a larger number is always the nearer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// The cosine of the angle between them. Vectors are brought to unit length, and none may be all zeros.
    #[default]
    Cosine,
    /// Minus the square of the distance between them.
    Euclidean,
    /// Their inner product.
    InnerProduct,
}

impl Space {
    /// The words for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean distance",
            Self::InnerProduct => "inner product",
        }
    }
}

/// How vectors are searched. Scores are exact in any case; the ways differ in how many rows get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenseSearch {
    /// Every row gets its exact score.
    Exact,
    /// Every row is looked at in short codes of one byte a dimension, and the best get their exact scores: nearly
    /// always the same answer, from a quarter of the memory traffic and a quarter more disk.
    Quantised,
    /// Large segments have a graph over those codes, and only rows that a walk towards the query meets are looked at:
    /// a little recall for time that hardly grows with the collection. Building it takes about a millisecond a vector,
    /// at the commit. Filters that let little through, and small segments, are searched by codes.
    Graph,
    /// Exact for small segments, codes for larger ones, the graph where it is the shorter way.
    #[default]
    Auto,
}

impl DenseSearch {
    /// The name in settings and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Quantised => "quantised",
            Self::Graph => "graph",
            Self::Auto => "auto",
        }
    }
}

impl Default for IndexSettings {
    fn default() -> Self {
        Self {
            language: Language::English,
            stop_words: true,
            dense: Some(DenseSettings::default()),
            metadata: BTreeMap::new(),
            fields: 0,
        }
    }
}

impl IndexSettings {
    /// The default settings without a dense half.
    pub fn lexical_only() -> Self {
        Self { dense: None, ..Self::default() }
    }

    /// The default settings with vectors that documents bring: at most [`MOST_DIMENSIONS`] long.
    pub fn client_vectors(dimensions: usize, space: Space) -> Self {
        let search = if space == Space::Cosine { DenseSearch::Auto } else { DenseSearch::Exact };
        let source = VectorSource::Client;
        Self {
            dense: Some(DenseSettings { dimensions, source, space, search, ..DenseSettings::default() }),
            ..Self::default()
        }
    }

    /// Whether an encoder makes this index's vectors.
    pub fn has_encoded_vectors(&self) -> bool {
        self.dense.as_ref().is_some_and(|dense| dense.source == VectorSource::Encoder)
    }

    /// The dense half, where documents bring its vectors.
    pub fn client_half(&self) -> Option<&DenseSettings> {
        self.dense.as_ref().filter(|dense| dense.source == VectorSource::Client)
    }
}

impl Default for DenseSettings {
    /// The shape of all-MiniLM-L6-v2.
    fn default() -> Self {
        Self {
            dimensions: 384,
            encoder: None,
            source: VectorSource::default(),
            space: Space::default(),
            search: DenseSearch::default(),
            graph_from: GRAPH_FROM,
            oversampling: OVERSAMPLING,
        }
    }
}

/// Languages with a stemmer; `Plain` only lower-cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say all")]
#[non_exhaustive]
pub enum Language {
    Plain,
    Arabic,
    Danish,
    Dutch,
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

/// The settings file: a format number that is read first, a checksum, the settings.
#[derive(Serialize, Deserialize)]
struct SettingsFile {
    format: u32,
    crc32: u32,
    settings: serde_json::Value,
}

impl IndexSettings {
    fn check(&self) -> Result<()> {
        let invalid = |what, expected: String, got: String| Err(IndexError::Invalid { what, expected, got });
        if let Some(dense) = &self.dense
            && !(1..=65_536).contains(&dense.dimensions)
        {
            return invalid("dimensions", "1 to 65536".to_owned(), dense.dimensions.to_string());
        }
        if let Some(dense) = &self.dense
            && !(1..=MOST_OVERSAMPLING).contains(&dense.oversampling)
        {
            return invalid(
                "oversampling",
                format!("1 to {MOST_OVERSAMPLING}"),
                dense.oversampling.to_string(),
            );
        }
        if let Some(dense) = self.client_half()
            && MOST_DIMENSIONS < dense.dimensions
        {
            return invalid("dimensions", format!("1 to {MOST_DIMENSIONS}"), dense.dimensions.to_string());
        }
        if let Some(dense) = &self.dense
            && dense.space != Space::Cosine
            && (dense.source, dense.search) != (VectorSource::Client, DenseSearch::Exact)
        {
            let expected = format!("exact search of vectors that documents bring, by {}", dense.space.name());
            return invalid("dense search", expected, format!("{} search", dense.search.name()));
        }
        if MOST_FIELDS < self.fields {
            return invalid("fields", format!("at most {MOST_FIELDS}"), self.fields.to_string());
        }
        match self.metadata.keys().find(|name| !is_metadata_name(name)) {
            None => Ok(()),
            Some(name) => invalid(
                "metadata name",
                "1 to 64 letters, digits, `_`, not starting with a digit, joined by dots".to_owned(),
                format!("`{name}`"),
            ),
        }
    }

    /// Writes the settings file; it must not exist yet.
    pub(crate) fn save(&self, index_dir: &Path) -> Result<()> {
        self.check()?;
        let settings = serde_json::to_value(self).map_err(|error| IndexError::Invalid {
            what: "settings",
            expected: "values that JSON can hold".to_owned(),
            got: error.to_string(),
        })?;
        // Values of serde_json are sorted maps, so the text is the same whenever the settings are.
        let crc32 = crc32fast::hash(settings.to_string().as_bytes());
        let file = serde_json::json!({ "format": FORMAT, "crc32": crc32, "settings": settings });
        files::write_atomically(&index_dir.join(SETTINGS_FILE), format!("{file:#}\n").as_bytes())
    }

    /// Reads and verifies the settings file.
    pub(crate) fn load(index_dir: &Path) -> Result<Self> {
        let path = index_dir.join(SETTINGS_FILE);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => IndexError::NotFound { path: index_dir.to_owned() },
            _ => IndexError::io("read", &path)(error),
        })?;
        let foreign = |got: String| IndexError::Format {
            path: path.clone(),
            expected: format!("format {FORMAT}"),
            got,
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| IndexError::corrupt(&path, "a JSON object", error.to_string()))?;
        match value.get("format") {
            Some(number) if *number == FORMAT => {}
            Some(number) => return Err(foreign(format!("format {number}"))),
            None => return Err(foreign("no format number".to_owned())),
        }
        let file: SettingsFile = serde_json::from_value(value)
            .map_err(|error| IndexError::corrupt(&path, "format, crc32 and settings", error.to_string()))?;
        let crc32 = crc32fast::hash(file.settings.to_string().as_bytes());
        if crc32 != file.crc32 {
            let (expected, got) = (format!("checksum {:08x}", file.crc32), format!("{crc32:08x}"));
            return Err(IndexError::corrupt(&path, expected, got));
        }
        serde_json::from_value(file.settings)
            .map_err(|error| IndexError::corrupt(&path, "known settings", error.to_string()))
    }
}

//! PostgreSQL: full text by `tsvector`, vectors by pgvector, in one table.
//!
//! The client library is asynchronous; a small runtime of this engine's own carries its connections, and callers block on
//! it with their deadline. Connections are kept for the next call; one on which anything failed is closed.
//!
//! Ranking is `ts_rank` over the words' positions, divided by 1 + log(length): PostgreSQL has no BM25. A document fits
//! where any word of the query occurs, as in Orion's own index. Ranking reads the words of everything that fits, so a table
//! that is made here keeps them ready in a column of its own; in a table that has none they are made anew in each search,
//! which is slow.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value as Json};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    condition::Condition,
    document::{Document, Hit, Ranking, Stored},
    error::Fault,
    postgres_filter::{Sql, constant, quoted},
    postgres_tls,
    settings::{Fields, Settings},
};

/// Characters of title and text whose words are indexed: a `tsvector` may have a megabyte.
const INDEXED_CHARS: u32 = 200_000;
/// The column of a document's words, in the text search configuration that is searched with.
const STORED_WORDS: &str = "orion_words";
/// How a refusal ends where a column is missing: PostgreSQL's code.
const NO_COLUMN: &str = "(42703)";
/// pgvector's largest `hnsw.ef_search`, and what it is at least here, so that a search of ten is as good as one of 100.
const CANDIDATES: (usize, usize) = (100, 1_000);

/// One table of a database.
pub(crate) struct Postgres {
    runtime: Runtime,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    idle: Mutex<Vec<Connection>>,
    most_idle: usize,
    /// Table and columns, quoted.
    table: String,
    /// The table's name, for the names of its indexes.
    plain_table: String,
    columns: Fields,
    /// The text search configuration, quoted.
    language: String,
    /// Whether the table was seen to have [`STORED_WORDS`]; while it was not, every search looks again, which costs little
    /// beside making the words of all that fits.
    has_words: AtomicBool,
}

struct Connection {
    client: Client,
    /// What `hnsw.ef_search` is set to on it.
    candidates: usize,
}

impl Postgres {
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let (mut config, tls) = postgres_tls::prepared(&settings.url)?;
        if let Some(user) = &settings.user {
            config.user(user);
        }
        if let Some(secret) = &settings.secret {
            config.password(secret);
        }
        let statement_ms = settings.timeout.as_millis().max(1);
        // The server ends what nobody waits for any more; iterative scans keep filtered searches from ending early.
        let options = format!(
            "-c statement_timeout={statement_ms} -c application_name=orion -c hnsw.iterative_scan=relaxed_order"
        );
        let options = match config.get_options() {
            Some(given) => format!("{options} {given}"),
            None => options,
        };
        config.options(options).connect_timeout(settings.timeout);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|error| format!("no thread for its connections: {error}"))?;
        let fields = &settings.fields;
        Ok(Self {
            runtime,
            config,
            tls,
            idle: Mutex::default(),
            most_idle: settings.connections as usize,
            table: quoted(&settings.collection),
            plain_table: settings.collection.replace('.', "_"),
            columns: Fields {
                id: quoted(&fields.id),
                title: quoted(&fields.title),
                text: quoted(&fields.text),
                vector: quoted(&fields.vector),
                metadata: quoted(&fields.metadata),
            },
            language: constant(&settings.language),
            has_words: AtomicBool::new(false),
        })
    }

    /// The words of a document as PostgreSQL indexes them: the same column or expression in the index and in every search.
    fn words(&self, time: Duration) -> Result<String, Fault> {
        if !self.has_words.load(Ordering::Relaxed) {
            let mut sql = Sql::default();
            sql.push("SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(")
                .parameter(self.table.as_str());
            sql.push(&format!(
                ") AND attname = '{STORED_WORDS}' AND atttypid = 'tsvector'::regtype AND NOT attisdropped"
            ));
            if self.rows(&sql, None, time)?.is_empty() {
                return Ok(self.made_words());
            }
            self.has_words.store(true, Ordering::Relaxed);
        }
        Ok(STORED_WORDS.to_owned())
    }

    fn made_words(&self) -> String {
        let Fields { title, text, .. } = &self.columns;
        format!("to_tsvector({}, left({title} || ' ' || {text}, {INDEXED_CHARS}))", self.language)
    }

    pub(crate) fn lexical(
        &self,
        text: &str,
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        match self.ranked(text, k, filter, time) {
            // The column of words is gone, if it is that one.
            Err(Fault::Refused(reason)) if reason.ends_with(NO_COLUMN) && self.forget_words() => {
                self.ranked(text, k, filter, time)
            }
            found => found,
        }
    }

    /// Looks for the column of words again; whether it was there before.
    fn forget_words(&self) -> bool {
        self.has_words.swap(false, Ordering::Relaxed)
    }

    fn ranked(
        &self,
        text: &str,
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let (id, words) = (&self.columns.id, self.words(time)?);
        let mut sql = Sql::default();
        // Quoted words hold no blanks, so ` & ` stands between words only.
        sql.push(&format!("WITH asked AS (SELECT replace(plainto_tsquery({}, ", self.language))
            .parameter(text)
            .push(")::text, ' & ', ' | ')::tsquery AS query) ");
        sql.push(&format!(
            "SELECT {id}::text, ts_rank({words}, query, 1) AS score FROM {}, asked WHERE {words} @@ query",
            self.table
        ));
        self.filtered(&mut sql, filter);
        sql.push(&format!(" ORDER BY score DESC, {id}::text COLLATE \"C\" LIMIT {k}"));
        let rows = self.rows(&sql, None, time)?;
        let hit = |row: &Row| Ok(Hit { id: row.try_get(0)?, score: row.try_get(1)? });
        let hits = rows.iter().map(hit).collect::<Result<_, tokio_postgres::Error>>().map_err(fault)?;
        Ok(Ranking::ordered(hits, None, k))
    }

    pub(crate) fn dense(
        &self,
        vector: &[f32],
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let Fields { id, vector: column, .. } = &self.columns;
        let mut sql = Sql::default();
        sql.push(&format!("SELECT {id}::text, {column} <=> "))
            .parameter(literal(vector))
            .push("::vector AS distance");
        sql.push(&format!(" FROM {} WHERE {column} IS NOT NULL", self.table));
        self.filtered(&mut sql, filter);
        sql.push(&format!(" ORDER BY {column} <=> $1::text::vector LIMIT {k}"));
        let rows = self.rows(&sql, Some(k.clamp(CANDIDATES.0, CANDIDATES.1)), time)?;
        let hit =
            |row: &Row| Ok(Hit { id: row.try_get(0)?, score: (1.0 - row.try_get::<_, f64>(1)?) as f32 });
        let hits = rows.iter().map(hit).collect::<Result<_, tokio_postgres::Error>>().map_err(fault)?;
        Ok(Ranking::ordered(hits, None, k))
    }

    fn filtered(&self, sql: &mut Sql, filter: Option<&Condition>) {
        if let Some(filter) = filter {
            sql.push(" AND ").condition(filter, &self.columns.metadata, &self.language);
        }
    }

    pub(crate) fn documents(
        &self,
        ids: &[&str],
        most_chars: usize,
        time: Duration,
    ) -> Result<Vec<Option<Stored>>, Fault> {
        let Fields { id, title, text, metadata, .. } = &self.columns;
        let mut sql = Sql::default();
        sql.push(&format!(
            "SELECT {id}::text, {title}, left({text}, {}), {metadata}::text FROM {} WHERE {id}::text = ANY(ARRAY[",
            most_chars.min(i32::MAX as usize),
            self.table
        ));
        for (place, one) in ids.iter().enumerate() {
            sql.push(if place == 0 { "" } else { ", " }).parameter(*one);
        }
        sql.push("]::text[])");
        let rows = self.rows(&sql, None, time)?;
        let read = |row: &Row| -> Result<Stored, tokio_postgres::Error> {
            let metadata: Option<String> = row.try_get(3)?;
            let metadata = metadata.and_then(|text| serde_json::from_str::<Map<String, Json>>(&text).ok());
            Ok(Stored {
                id: row.try_get(0)?,
                title: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
                text: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
                metadata: metadata.unwrap_or_default(),
            })
        };
        let mut found = BTreeMap::new();
        for row in &rows {
            let stored = read(row).map_err(fault)?;
            found.insert(stored.id.clone(), stored);
        }
        Ok(ids.iter().map(|id| found.get(*id).cloned()).collect())
    }

    pub(crate) fn count(&self, time: Duration) -> Result<u64, Fault> {
        let sql = Sql { text: format!("SELECT count(*) FROM {}", self.table), parameters: Vec::new() };
        let rows = self.rows(&sql, None, time)?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(fault)?;
        Ok(count.unsigned_abs())
    }

    /// Makes table and indexes where they are not there.
    pub(crate) fn prepare(&self, dimensions: Option<usize>, time: Duration) -> Result<(), Fault> {
        let Fields { id, title, text, vector, metadata } = &self.columns;
        let index = |of: &str| quoted(&format!("{}_{of}", self.plain_table).replace('.', "_"));
        let mut script = String::new();
        let vectors = match dimensions {
            Some(dimensions) => {
                script.push_str("CREATE EXTENSION IF NOT EXISTS vector; ");
                format!(", {vector} vector({dimensions})")
            }
            None => String::new(),
        };
        script.push_str(&format!(
            "CREATE TABLE IF NOT EXISTS {table} ({id} text COLLATE \"C\" PRIMARY KEY, {title} text NOT NULL, \
             {text} text NOT NULL, {metadata} jsonb NOT NULL{vectors}, \
             {STORED_WORDS} tsvector GENERATED ALWAYS AS ({words}) STORED); ",
            table = self.table,
            words = self.made_words(),
        ));
        self.with(None, time, async |client| client.batch_execute(&script).await)?;
        let mut script = format!(
            "CREATE INDEX IF NOT EXISTS {} ON {} USING gin ({}); ",
            index("words"),
            self.table,
            self.words(time)?
        );
        if dimensions.is_some() {
            script.push_str(&format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({vector} vector_cosine_ops); ",
                index("vectors"),
                self.table
            ));
        }
        self.with(None, time, async |client| client.batch_execute(&script).await)
    }

    pub(crate) fn push(&self, documents: &[Document], time: Duration) -> Result<(), Fault> {
        let Fields { id, title, text, vector, metadata } = &self.columns;
        let has_vectors = documents.iter().any(|document| document.vector.is_some());
        let columns = if has_vectors { format!(", {vector}") } else { String::new() };
        let mut sql = Sql::default();
        sql.push(&format!("INSERT INTO {} ({id}, {title}, {text}, {metadata}{columns}) VALUES ", self.table));
        for (place, document) in documents.iter().enumerate() {
            sql.push(if place == 0 { "(" } else { ", (" }).parameter(document.id.as_str()).push(", ");
            sql.parameter(document.title.as_str()).push(", ").parameter(document.text.as_str()).push(", ");
            let values: Map<String, Json> =
                document.metadata.iter().map(|(name, value)| (name.clone(), value.with_seconds())).collect();
            // `jsonb` refuses the escape that JSON has for NUL.
            sql.parameter(Json::Object(values).to_string().replace("\\u0000", "\\ufffd")).push("::jsonb");
            match &document.vector {
                Some(vector) => sql.push(", ").parameter(literal(vector)).push("::vector"),
                None if has_vectors => sql.push(", NULL"),
                None => &mut sql,
            };
            sql.push(")");
        }
        let kept = |column: &String| format!("{column} = excluded.{column}");
        let mut changed: Vec<String> = [title, text, metadata].into_iter().map(kept).collect();
        changed.extend(has_vectors.then(|| kept(vector)));
        sql.push(&format!(" ON CONFLICT ({id}) DO UPDATE SET {}", changed.join(", ")));
        self.rows(&sql, None, time).map(|_| ())
    }

    fn rows(&self, sql: &Sql, candidates: Option<usize>, time: Duration) -> Result<Vec<Row>, Fault> {
        let parameters: Vec<&(dyn ToSql + Sync)> =
            sql.parameters.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        self.with(candidates, time, async |client| client.query(&sql.text, &parameters).await)
    }

    /// Runs work on a connection, which is kept unless something failed.
    fn with<T>(
        &self,
        candidates: Option<usize>,
        time: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let whole = async {
            let mut connection = match idle.filter(|connection| !connection.client.is_closed()) {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if let Some(candidates) = candidates.filter(|wanted| *wanted != connection.candidates) {
                connection.client.batch_execute(&format!("SET hnsw.ef_search = {candidates}")).await?;
                connection.candidates = candidates;
            }
            let answer = work(&connection.client).await?;
            Ok::<_, tokio_postgres::Error>((answer, connection))
        };
        let ended = self.runtime.block_on(async { tokio::time::timeout(time, whole).await });
        let (answer, connection) = match ended {
            Ok(answered) => answered.map_err(fault)?,
            Err(_) => return Err(Fault::failed(format!("no answer within {} ms", time.as_millis()))),
        };
        let mut kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most_idle {
            kept.push(connection);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        // It ends when its client is dropped; what went wrong on it, the client is told.
        tokio::spawn(connection);
        Ok(Connection { client, candidates: 0 })
    }
}

/// A vector as pgvector reads it.
fn literal(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// What the server says by its code: broken connections (08), too little of something (53), an operator or a time-out
/// that intervened (57), conflicts (40) pass; all else will be the same next time.
fn fault(error: tokio_postgres::Error) -> Fault {
    if let Some(reason) = postgres_tls::refusal(&error) {
        return Fault::Refused(reason);
    }
    let Some(said) = error.as_db_error() else {
        use std::error::Error;
        let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
        return Fault::failed(format!("{error}{cause}"));
    };
    let reason = format!("{} ({})", said.message(), said.code().code());
    match said.code().code().get(..2) {
        Some("08" | "40" | "53" | "57") => Fault::failed(reason),
        _ => Fault::Refused(reason),
    }
}

//! Sphinx and Manticore over SphinxQL; lexical only.
//!
//! An index has two full-text fields `title` and `text`, string attributes `doc` (the id) and `stored` (title and text as
//! JSON, which Sphinx's fields do not give back), and a JSON attribute for metadata. Sphinx's own ids are numbers, made
//! from the id by [`number_of`]. A distributed index is searched as one; what its shards did not answer comes as a
//! warning with the rows and is told as a partial ranking. It cannot be written to, so documents go to its shards.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::{
    condition::Condition,
    document::{Document, Hit, Ranking, Stored, first_chars, text_of},
    error::Fault,
    mysql_wire::{Connection, LONGEST_PACKET, Rows},
    settings::Settings,
    sphinx_filter::{constant, expression},
};

/// BM25 with the constants of Orion's own index; weights are whole numbers, so that four digits are kept.
const RANKER: &str = "ranker=expr('10000*bm25a(1.2,0.75)')";
const RANKER_SCALE: f32 = 10_000.0;
/// Words of a query that are looked for; longer ones are pasted texts.
const MOST_WORDS: usize = 200;

/// One index, and where it is written.
pub(crate) struct Sphinx {
    searched: Place,
    /// Without shards, the searched index itself.
    shards: Vec<Place>,
    metadata: String,
}

/// An index at an address.
struct Place {
    address: String,
    index: String,
    idle: Mutex<Vec<Connection>>,
}

impl Sphinx {
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let place = |address: &str, index: &str| -> Result<Place, String> {
            let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
            });
            if !has_port {
                return Err(format!("expected HOST:PORT, got `{address}`"));
            }
            let is_name = !index.is_empty()
                && index.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            if !is_name {
                return Err(format!("expected an index name of letters, digits, `_` and `-`, got `{index}`"));
            }
            Ok(Place { address: address.to_owned(), index: index.to_owned(), idle: Mutex::default() })
        };
        let shard = |text: &String| match text.split_once('/') {
            Some((address, index)) => place(address, index),
            None => Err(format!("`shards`: expected HOST:PORT/INDEX, got `{text}`")),
        };
        Ok(Self {
            searched: place(&settings.url, &settings.collection)?,
            shards: settings.shards.iter().map(shard).collect::<Result<_, _>>()?,
            metadata: settings.fields.metadata.clone(),
        })
    }

    pub(crate) fn lexical(
        &self,
        text: &str,
        k: usize,
        filter: Option<&Condition>,
        time: Duration,
    ) -> Result<Ranking, Fault> {
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(MOST_WORDS)
            .collect();
        if words.is_empty() {
            return Ok(Ranking::default());
        }
        let (column, also) = match filter {
            None => (String::new(), ""),
            Some(filter) => {
                (format!(", {} AS orion_fits", expression(filter, &self.metadata)?), " AND orion_fits=1")
            }
        };
        // What shards have by then is worth more than nothing at all after the deadline.
        let patience = (time.as_millis() * 4 / 5).max(1);
        let statement = format!(
            "SELECT doc, WEIGHT() AS score{column} FROM {} WHERE MATCH({}){also} ORDER BY score DESC, id ASC \
             LIMIT {k} OPTION {RANKER}, max_matches={k}, max_query_time={patience}",
            self.searched.index,
            constant(&words.join(" | ")),
        );
        let (found, partial) = self.searched.query(&statement, time)?;
        let hit = |row: &Vec<Option<String>>| match row.as_slice() {
            [Some(id), Some(score), ..] => {
                Some(Hit { id: id.clone(), score: score.parse::<f32>().ok()? / RANKER_SCALE })
            }
            _ => None,
        };
        let hits: Option<Vec<Hit>> = found.rows.iter().map(hit).collect();
        let hits = hits.ok_or_else(|| Fault::failed("expected rows of `doc` and a weight, got others"))?;
        Ok(Ranking::ordered(hits, partial, k))
    }

    pub(crate) fn documents(
        &self,
        ids: &[&str],
        most_chars: usize,
        time: Duration,
    ) -> Result<Vec<Option<Stored>>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<String> = ids.iter().map(|id| number_of(id).to_string()).collect();
        let statement = format!(
            "SELECT doc, stored, {} FROM {} WHERE id IN ({}) LIMIT {count} OPTION max_matches={count}",
            self.metadata,
            self.searched.index,
            numbers.join(","),
            count = ids.len(),
        );
        let (found, partial) = self.searched.query(&statement, time)?;
        // A document that is not told from one that is not there would be an answer that is wrong.
        if let Some(partial) = partial.filter(|_| found.rows.len() < ids.len()) {
            return Err(Fault::failed(partial));
        }
        let object = |cell: Option<&Option<String>>| -> Map<String, Json> {
            let text = cell.and_then(Option::as_deref).unwrap_or_default();
            serde_json::from_str(text).unwrap_or_default()
        };
        let stored = |id: &&str| {
            let row = found.rows.iter().find(|row| row.first().and_then(Option::as_deref) == Some(id))?;
            let stored = object(row.get(1));
            Some(Stored {
                id: (*id).to_owned(),
                title: text_of(&stored, "title"),
                text: first_chars(text_of(&stored, "text"), most_chars),
                metadata: object(row.get(2)),
            })
        };
        Ok(ids.iter().map(stored).collect())
    }

    pub(crate) fn count(&self, time: Duration) -> Result<u64, Fault> {
        let (found, partial) =
            self.searched.query(&format!("SELECT COUNT(*) FROM {}", self.searched.index), time)?;
        if let Some(partial) = partial {
            return Err(Fault::failed(partial));
        }
        let cell = found.rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
        cell.unwrap_or("0").parse().map_err(|_| Fault::failed("expected a count, got text"))
    }

    fn places(&self) -> &[Place] {
        if self.shards.is_empty() { std::slice::from_ref(&self.searched) } else { &self.shards }
    }

    /// Indexes of Sphinx are made by its own configuration; this looks whether they are as they have to be.
    pub(crate) fn prepare(&self, time: Duration) -> Result<(), Fault> {
        for place in self.places() {
            let (found, _) = place.query(&format!("DESCRIBE {}", place.index), time)?;
            let names: Vec<&str> =
                found.rows.iter().filter_map(|row| row.first().and_then(Option::as_deref)).collect();
            if let Some(missing) = ["title", "text", "doc", "stored", &self.metadata]
                .into_iter()
                .find(|name| !names.contains(name))
            {
                return Err(Fault::Refused(format!(
                    "index `{}` at {}: expected fields `title` and `text`, string attributes `doc` and `stored` and \
                     the JSON attribute `{}`, got none named `{missing}`",
                    place.index, place.address, self.metadata
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn push(&self, documents: &[Document], time: Duration) -> Result<(), Fault> {
        let started = Instant::now();
        let places = self.places();
        let mut rows: Vec<Vec<String>> = vec![Vec::new(); places.len()];
        for document in documents {
            let number = number_of(&document.id);
            let stored = json!({ "title": document.title, "text": document.text });
            let metadata: Map<String, Json> =
                document.metadata.iter().map(|(name, value)| (name.clone(), value.with_seconds())).collect();
            let row = format!(
                "({number},{},{},{},{},{})",
                constant(&document.title),
                constant(&document.text),
                constant(&document.id),
                constant(&stored.to_string()),
                constant(&Json::Object(metadata).to_string()),
            );
            rows[(number % places.len() as u64) as usize].push(row);
        }
        for (place, rows) in places.iter().zip(rows) {
            let head =
                format!("REPLACE INTO {} (id,title,text,doc,stored,{}) VALUES ", place.index, self.metadata);
            let mut statement = String::new();
            for row in rows {
                if !statement.is_empty() && LONGEST_PACKET <= statement.len() + row.len() + 1 {
                    place.query(&statement, time.saturating_sub(started.elapsed()))?;
                    statement.clear();
                }
                statement.push_str(if statement.is_empty() { &head } else { "," });
                statement.push_str(&row);
            }
            if !statement.is_empty() {
                place.query(&statement, time.saturating_sub(started.elapsed()))?;
            }
        }
        Ok(())
    }
}

impl Place {
    /// Rows, and what the warnings say that came with them.
    fn query(&self, statement: &str, time: Duration) -> Result<(Rows, Option<String>), Fault> {
        let kept = self.idle().pop();
        let mut connection = match kept {
            Some(mut connection) => {
                connection.within(time);
                connection
            }
            None => Connection::open(&self.address, time)?,
        };
        let asked = connection.query(statement).and_then(|found| {
            let warned = if found.warnings == 0 { None } else { Some(connection.query("SHOW WARNINGS")?) };
            Ok((found, warned))
        });
        match asked {
            Ok((found, warned)) => {
                self.idle().push(connection);
                let message = |row: Vec<Option<String>>| row.into_iter().nth(2).flatten();
                let partial = warned.map(|warned| {
                    let said: Vec<String> = warned.rows.into_iter().filter_map(message).collect();
                    orion_endpoint::shortened(&said.join("; "))
                });
                Ok((found, partial))
            }
            Err(error @ Fault::Refused(_)) => {
                self.idle().push(connection);
                Err(error)
            }
            Err(error) => {
                // Connections that were kept as long are as dead.
                self.idle().clear();
                Err(error)
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number for an id, where an engine has numbers for keys: 63 bits of its SHA-256, never 0. Two of a million documents
/// share one with a probability of 1 in 18 million.
pub(crate) fn number_of(id: &str) -> u64 {
    let hash = Sha256::digest(id.as_bytes());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    (number >> 1).max(1)
}

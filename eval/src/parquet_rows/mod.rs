//! Rows of Parquet files: columns of text and of lists of text, as published tables have them.
//!
//! The format is read by the `parquet` crate. A file comes from elsewhere and is not trusted, and that crate takes some
//! numbers of a file on trust, so three things are kept from it: a schema that could exhaust the stack (`footer`), pages
//! that claim more than their bytes can hold (`pages`), and chunks that lie outside the file (here). Should it give up
//! on a file nevertheless, that is an error as any other. Rows are read in small batches; only the columns that are
//! wanted are touched.
//! Neighbour: [`crate::bright`] reads its tables through it.

mod footer;
mod pages;

use std::{
    collections::VecDeque,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{Compression, Type},
    column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType},
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};
use serde_json::{Map, Value};

use crate::error::{EvalError, shortened};

/// Rows that are held at once.
const BATCH_ROWS: usize = 16;
/// Bytes of a row's texts at most, as of a line of JSON.
const LONGEST_ROW_BYTES: usize = 64 << 20;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Texts,
}

/// A column that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether a file without it is refused.
    pub(crate) needed: bool,
}

/// A column that is read: its place among the file's, and the chunk at hand.
struct Column {
    name: &'static str,
    kind: Kind,
    place: usize,
    /// The definition level at which a value is there.
    present: i16,
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
}

/// The rows of one file.
pub(crate) struct ParquetRows {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    metadata: ParquetMetaData,
    columns: Vec<Column>,
    next_group: usize,
    /// Rows of the group at hand that are still to come.
    group_left: i64,
    batch: VecDeque<Map<String, Value>>,
    /// The row that was given last, from 1.
    row: u64,
    /// Bytes of text that may still come: a file of a few bytes can repeat one text for ever.
    bytes_left: u64,
}

impl ParquetRows {
    /// Opens a file for these columns; it gives at most `most_bytes` of text.
    pub(crate) fn open(path: &Path, wanted: &[Wanted], most_bytes: u64) -> Result<Self, EvalError> {
        let file = File::open(path).map_err(EvalError::io("opening", path))?;
        let bytes = file.metadata().map_err(EvalError::io("reading", path))?.len();
        let footer = footer::read(path, &file, bytes)?;
        let metadata = unpanicked(|| ParquetMetaDataReader::decode_metadata(&footer))
            .map_err(|got| refuse(path, "footer", "the description of a table", &got))?;
        let mut columns = Vec::new();
        for column in wanted {
            if let Some(place) = place_of(path, &metadata, column)? {
                let present = metadata.file_metadata().schema_descr().column(place).max_def_level();
                columns.push(Column { name: column.name, kind: column.kind, place, present, reader: None });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            bytes,
            metadata,
            columns,
            next_group: 0,
            group_left: 0,
            batch: VecDeque::new(),
            row: 0,
            bytes_left: most_bytes,
        })
    }

    /// The next row, as an object of the wanted columns; a text that is null is left out, a list that is null is empty.
    pub(crate) fn next_row(&mut self) -> Result<Option<Map<String, Value>>, EvalError> {
        while self.batch.is_empty() {
            if self.columns.iter().all(|column| column.reader.is_none()) && !self.open_group()? {
                return Ok(None);
            }
            self.read_batch()?;
        }
        self.row += 1;
        Ok(self.batch.pop_front())
    }

    /// An error at the row that was read last.
    pub(crate) fn malformed(&self, expected: &'static str, got: &str) -> EvalError {
        refuse(&self.path, &format!("row {}", self.row), expected, got)
    }

    /// Opens the next group of rows; false after the last.
    fn open_group(&mut self) -> Result<bool, EvalError> {
        let Some(group) = self.metadata.row_groups().get(self.next_group) else { return Ok(false) };
        self.next_group += 1;
        self.group_left = group.num_rows();
        for column in &mut self.columns {
            let place = format!("column `{}`", column.name);
            let Some(chunk) = group.columns().get(column.place) else {
                return Err(refuse(&self.path, &place, "a chunk in each group of rows", "none"));
            };
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let is_inside = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let is_inside = is_inside
                .and_then(|(start, length)| start.checked_add(length))
                .is_some_and(|end| end <= self.bytes);
            if !is_inside {
                return Err(refuse(&self.path, &place, "a chunk inside the file", "one outside of it"));
            }
            let packing = chunk.compression();
            if !matches!(packing, Compression::UNCOMPRESSED | Compression::SNAPPY) {
                let expected = "pages packed by snappy or not at all";
                return Err(refuse(&self.path, &place, expected, &packing.to_string()));
            }
            let reader = unpanicked(|| {
                let pages = pages::Pages::open(Arc::clone(&self.file), chunk)?;
                Ok(get_typed_column_reader(get_column_reader(chunk.column_descr_ptr(), Box::new(pages))))
            });
            column.reader = Some(reader.map_err(|got| refuse(&self.path, &place, "pages of text", &got))?);
        }
        Ok(true)
    }

    /// Reads some rows of the group at hand, or finds its end.
    fn read_batch(&mut self) -> Result<(), EvalError> {
        let mut rows: Option<Vec<Map<String, Value>>> = None;
        for column in &mut self.columns {
            let place = format!("column `{}` after row {}", column.name, self.row);
            let Some(reader) = &mut column.reader else { continue };
            let cells = unpanicked(|| read_cells(reader, column.kind, column.present))
                .map_err(|got| refuse(&self.path, &place, "pages of text", &got))?;
            let rows = rows.get_or_insert_with(|| vec![Map::new(); cells.len()]);
            if rows.len() != cells.len() {
                return Err(refuse(
                    &self.path,
                    &place,
                    "as many rows as the other columns have",
                    "another number",
                ));
            }
            for (row, cell) in rows.iter_mut().zip(cells) {
                let length: usize = cell.iter().map(ByteArray::len).sum();
                let left = self.bytes_left.checked_sub(length as u64);
                let Some(left) = left.filter(|_| length <= LONGEST_ROW_BYTES) else {
                    return Err(refuse(&self.path, &place, "less text", "more than a table of its kind has"));
                };
                self.bytes_left = left;
                let text = |bytes: ByteArray| match std::str::from_utf8(bytes.data()) {
                    Ok(text) => Ok(Value::String(text.to_owned())),
                    Err(_) => Err(refuse(&self.path, &place, "UTF-8 text", "other bytes")),
                };
                let mut texts = cell.into_iter().map(text).collect::<Result<Vec<Value>, EvalError>>()?;
                match column.kind {
                    Kind::Texts => drop(row.insert(column.name.to_owned(), Value::Array(texts))),
                    Kind::Text => {
                        if let Some(text) = texts.pop() {
                            row.insert(column.name.to_owned(), text);
                        }
                    }
                }
            }
        }
        let rows = rows.unwrap_or_default();
        self.group_left = self.group_left.saturating_sub(rows.len() as i64);
        if rows.is_empty() {
            if self.group_left != 0 {
                let (place, got) = (format!("row {}", self.row), format!("{} less", self.group_left));
                return Err(refuse(&self.path, &place, "as many rows as its group claims to have", &got));
            }
            self.columns.iter_mut().for_each(|column| column.reader = None);
        }
        self.batch.extend(rows);
        Ok(())
    }
}

/// The place of a wanted column among the leaves of the schema.
fn place_of(path: &Path, metadata: &ParquetMetaData, wanted: &Wanted) -> Result<Option<usize>, EvalError> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let own: Vec<usize> =
        (0..leaves.len()).filter(|leaf| leaves[*leaf].path().parts()[0] == wanted.name).collect();
    let place = || format!("column `{}`", wanted.name);
    match own.as_slice() {
        [] if wanted.needed => {
            let names: Vec<&str> = leaves.iter().map(|leaf| leaf.path().parts()[0].as_str()).collect();
            Err(refuse(path, &place(), "such a column", &format!("only {}", names.join(", "))))
        }
        [] => Ok(None),
        [leaf] => {
            let column = &leaves[*leaf];
            let lists = match wanted.kind {
                Kind::Text => 0,
                Kind::Texts => 1,
            };
            if column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == lists {
                return Ok(Some(*leaf));
            }
            let nested = ["", "lists of ", "lists of lists of "];
            let got = nested.get(column.max_rep_level() as usize).unwrap_or(&"deep lists of ");
            let got = format!("{got}{}", column.physical_type());
            let expected = if wanted.kind == Kind::Text { "text" } else { "lists of text" };
            Err(refuse(path, &place(), expected, &got))
        }
        several => Err(refuse(path, &place(), "text or lists of text", &format!("{} parts", several.len()))),
    }
}

/// The values of the next rows, those of a row together: none for a null, one for a text, as many as it has for a list.
fn read_cells(
    reader: &mut ColumnReaderImpl<ByteArrayType>,
    kind: Kind,
    present: i16,
) -> Result<Vec<Vec<ByteArray>>, ParquetError> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (_, _, levels) =
        reader.read_records(BATCH_ROWS, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
    let mut values = values.into_iter();
    let mut cells: Vec<Vec<ByteArray>> = Vec::new();
    for level in 0..levels {
        if kind == Kind::Text || repetitions.get(level) == Some(&0) {
            cells.push(Vec::new());
        }
        let Some(cell) = cells.last_mut() else {
            return Err(ParquetError::General("a list that begins in its middle".to_owned()));
        };
        // Without definition levels every value is there.
        if definitions.get(level).is_none_or(|own| *own == present) {
            cell.extend(values.next());
        }
    }
    Ok(cells)
}

/// What the reader gives, or why it did not, whether it said so or gave up on a file that is not as it must be.
fn unpanicked<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::General(message))) => Err(message),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("bytes that make no sense".to_owned()),
    }
}

fn refuse(path: &Path, place: &str, expected: &'static str, got: &str) -> EvalError {
    EvalError::Table { path: path.to_owned(), place: place.to_owned(), expected, got: shortened(got) }
}

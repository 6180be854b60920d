//! The pages of a column, unpacked here: no page becomes longer than its bytes can say.
//!
//! The `parquet` crate makes room for what a page's head claims, up to two gigabytes, before it unpacks it, and for as
//! many values as a dictionary claims. So it is told that the column is not packed, and hands out each page as it lies;
//! what it unpacks to is known from the packed bytes, which cannot be exceeded more than [`SNAPPY_RATIO`] times.

use std::{fs::File, sync::Arc};

use parquet::{
    basic::{Compression, Encoding},
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{metadata::ColumnChunkMetaData, reader::SerializedPageReader},
};

/// Snappy's longest copy makes 64 bytes of three.
const SNAPPY_RATIO: usize = 22;
/// Values of a column in one group of rows; writers begin a new group at a million rows or before. Equal values may take
/// no room at all, so bytes say nothing here.
const MOST_VALUES: u64 = 1 << 22;

/// Pages of one column in one group of rows.
pub(super) struct Pages {
    packed: SerializedPageReader<File>,
    is_snappy: bool,
    has_dictionary: bool,
    has_definitions: bool,
    has_repetitions: bool,
    values_left: u64,
}

impl Pages {
    pub(super) fn open(file: Arc<File>, chunk: &ColumnChunkMetaData) -> Result<Self> {
        let is_snappy = chunk.compression() == Compression::SNAPPY;
        let as_it_lies = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let packed = SerializedPageReader::new(file, &as_it_lies, 0, None)?;
        let column = chunk.column_descr();
        Ok(Self {
            packed,
            is_snappy,
            has_dictionary: false,
            has_definitions: 0 < column.max_def_level(),
            has_repetitions: 0 < column.max_rep_level(),
            values_left: MOST_VALUES,
        })
    }

    /// Checks what the decoders take on trust.
    fn check(&mut self, values: u32, encoding: Encoding) -> Result<()> {
        let Some(left) = self.values_left.checked_sub(u64::from(values)) else {
            return Err(general(format!("more than {MOST_VALUES} values in one group of rows")));
        };
        self.values_left = left;
        let is_dictionary = matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
        if is_dictionary && !self.has_dictionary {
            return Err(general("a page that needs a dictionary before there is one".to_owned()));
        }
        if !is_dictionary && encoding != Encoding::PLAIN {
            return Err(general(format!("a page in the encoding {encoding}")));
        }
        Ok(())
    }

    fn opened(&mut self, page: Page) -> Result<Page> {
        match page {
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                let buf = if self.is_snappy { unpack(&buf)?.into() } else { buf };
                // Each value has its length in four bytes.
                if buf.len() / 4 < num_values as usize {
                    return Err(general(format!("a dictionary of {num_values} in {} bytes", buf.len())));
                }
                self.has_dictionary = true;
                Ok(Page::DictionaryPage { buf, num_values, encoding, is_sorted })
            }
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => {
                self.check(num_values, encoding)?;
                let levels =
                    [(self.has_definitions, def_level_encoding), (self.has_repetitions, rep_level_encoding)];
                if let Some((_, other)) = levels.iter().find(|(used, own)| *used && *own != Encoding::RLE) {
                    return Err(general(format!("levels in the encoding {other}")));
                }
                let buf = if self.is_snappy { unpack(&buf)?.into() } else { buf };
                Ok(Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    def_level_encoding,
                    rep_level_encoding,
                    statistics,
                })
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                self.check(num_values, encoding)?;
                let levels = (def_levels_byte_len as usize).checked_add(rep_levels_byte_len as usize);
                let Some((levels, values)) = levels.and_then(|levels| buf.split_at_checked(levels)) else {
                    return Err(general("a page shorter than its levels".to_owned()));
                };
                let buf = if self.is_snappy && is_compressed && !values.is_empty() {
                    [levels, &unpack(values)?].concat().into()
                } else {
                    buf
                };
                Ok(Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics,
                })
            }
        }
    }
}

/// What packed bytes unpack to.
fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    let broken = |error: snap::Error| general(error.to_string());
    let length = snap::raw::decompress_len(packed).map_err(broken)?;
    if packed.len().saturating_mul(SNAPPY_RATIO) < length {
        return Err(general(format!("a page of {} bytes that claims to hold {length}", packed.len())));
    }
    snap::raw::Decoder::new().decompress_vec(packed).map_err(broken)
}

fn general(message: String) -> ParquetError {
    ParquetError::General(message)
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.packed.get_next_page()?.map(|page| self.opened(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.packed.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.packed.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_unpacks_to_more_than_its_bytes_can_say() {
        let text = "reef ".repeat(100_000);
        let packed = snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap();
        assert_eq!(unpack(&packed).unwrap(), text.as_bytes());
        let claims = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &packed[3..]].concat();
        let error = unpack(&claims).unwrap_err().to_string();
        assert!(error.contains("claims to hold 4294967295"), "{error}");
    }
}

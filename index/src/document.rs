//! What is indexed: a document with typed metadata and, where the client has one, its own vector.
//! `reader.rs` makes these from files; `writer.rs` takes them; `selection.rs` compares their metadata.

use crate::error::{IndexError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest id in bytes; a generous URL fits (the common limit of search engines).
pub const MAX_ID_BYTES: usize = 512;
/// Longest metadata name in bytes, with the names of the objects that it lies in.
const MAX_NAME_BYTES: usize = 255;
/// What a metadata name has to be, for messages.
pub(crate) const METADATA_NAMES: &str =
    "metadata names of 1 to 64 letters, digits, `_`, not starting with a digit, joined by dots";

/// A document as it is added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// Unique name; adding the same id again replaces the document.
    pub id: String,
    /// May be empty. Searched together with the text, as one field.
    pub title: String,
    /// The body.
    pub text: String,
    /// Typed values that filters can ask for.
    pub metadata: BTreeMap<String, Value>,
    /// Texts that are searched one by one as well, by number; below [`crate::IndexSettings::fields`].
    pub fields: BTreeMap<u8, String>,
    /// What the client sent, kept as it is and handed out again; nothing in it is searched.
    pub source: Option<String>,
    /// The client's own embedding; without it the index's encoder makes one, where it has one.
    /// Brought to unit length on the way in, where vectors are compared by cosine.
    pub vector: Option<Vec<f32>>,
}

/// A document as it is kept; vectors are not handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDocument {
    /// As it was added.
    pub id: String,
    /// As it was added.
    pub title: String,
    /// As it was added.
    pub text: String,
    /// As it was added, after conversion to the declared types.
    pub metadata: BTreeMap<String, Value>,
    /// As it was added.
    pub source: Option<String>,
}

/// One metadata value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Value {
    /// Compared as a whole.
    Keyword(String),
    /// Several keywords; a comparison holds if it holds for one of them, `!=` if `=` holds for none.
    Keywords(Vec<String>),
    /// Several numbers, dates or booleans, all of one of these types; compared as several keywords are.
    Several(Vec<Value>),
    /// Compared word by word, after the analysis of the index's language.
    Text(String),
    /// A finite number.
    Number(f64),
    /// Seconds since 1970-01-01 UTC.
    Date(i64),
    /// True or false.
    Boolean(bool),
}

/// The type of a metadata field; the first value seen fixes it for the whole index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Compared as a whole; one or several.
    Keyword,
    /// Compared word by word.
    Text,
    /// A finite number.
    Number,
    /// A point in time, to the second.
    Date,
    /// True or false.
    Boolean,
}

impl Kind {
    /// The word for messages and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Text => "text",
            Self::Number => "number",
            Self::Date => "date",
            Self::Boolean => "boolean",
        }
    }
}

impl Value {
    /// The type of this value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Keyword(_) | Self::Keywords(_) => Kind::Keyword,
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
            Self::Date(_) => Kind::Date,
            Self::Boolean(_) => Kind::Boolean,
            Self::Several(values) => values.first().map_or(Kind::Keyword, Self::kind),
        }
    }

    /// Whether it is one value, or several of one type.
    fn is_sound(&self) -> bool {
        let Self::Several(values) = self else { return true };
        let is_scalar = |value: &Self| matches!(value, Self::Number(_) | Self::Date(_) | Self::Boolean(_));
        !values.is_empty() && values.iter().all(|value| is_scalar(value) && value.kind() == self.kind())
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Number(number) => number.is_finite(),
            Self::Several(values) => values.iter().all(Self::is_finite),
            _ => true,
        }
    }

    /// This value as `kind`, where that loses nothing: keywords become text or dates, whole numbers dates.
    pub(crate) fn into_kind(self, kind: Kind) -> std::result::Result<Self, Self> {
        match (self, kind) {
            (value, wanted) if value.kind() == wanted => Ok(value),
            (Self::Keyword(word), Kind::Text) => Ok(Self::Text(word)),
            (Self::Text(text), Kind::Keyword) => Ok(Self::Keyword(text)),
            (Self::Keyword(word), Kind::Date) => match parse_date(&word) {
                Some(seconds) => Ok(Self::Date(seconds)),
                None => Err(Self::Keyword(word)),
            },
            (Self::Number(number), Kind::Date) if number.fract() == 0.0 && number.abs() < 1e15 => {
                Ok(Self::Date(number as i64))
            }
            (Self::Several(values), _) => {
                let converted: std::result::Result<_, Self> =
                    values.iter().map(|value| value.clone().into_kind(kind)).collect();
                converted.map(Self::Several).map_err(|_| Self::Several(values))
            }
            (value, _) => Err(value),
        }
    }
}

/// `2024-05-06` or RFC 3339, as seconds since 1970 UTC.
pub fn parse_date(text: &str) -> Option<i64> {
    let (day, clock) = match text.split_once(['T', 't', ' ']) {
        Some((day, clock)) => (day, Some(clock)),
        None => (text, None),
    };
    let mut parts = day.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let date = digits(parts.next()?, 2)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1..=12).contains(&month) || date < 1 || lengths[month as usize - 1] < date {
        return None;
    }
    // Days from civil date: years start in March, so that the leap day is the last of the year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = match clock {
        None => 0,
        Some(clock) => parse_clock(clock)?,
    };
    Some(days * 86_400 + seconds)
}

/// Seconds since 1970 UTC as [`parse_date`] reads them; years 0 to 9999, else `None`.
pub fn format_date(seconds: i64) -> Option<String> {
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days, the inverse of the above.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    (0..=9_999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// `hh:mm:ss`, fraction ignored, then `Z` or an offset.
fn parse_clock(clock: &str) -> Option<i64> {
    let split = clock.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = clock.split_at(split);
    let time = match time.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        Some(_) => return None,
        None => time,
    };
    let mut parts = time.splitn(3, ':');
    let hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let second = digits(parts.next()?, 2)?;
    if 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60)
        }
    };
    Some(hour * 3600 + minute * 60 + second - offset)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    if text.len() != length || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl Document {
    /// Checks id, metadata names and values; `kinds` holds the types known so far.
    /// Values are converted to the declared type where that loses nothing; new names are added to `kinds`.
    pub(crate) fn check(&mut self, kinds: &mut BTreeMap<String, Kind>) -> Result<()> {
        check_id(&self.id)?;
        let fail =
            |expected: String, got: String| IndexError::Document { id: self.id.clone(), expected, got };
        let mut converted = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.metadata) {
            if !is_metadata_name(&name) {
                return Err(fail(METADATA_NAMES.to_owned(), format!("`{name}`")));
            }
            if !value.is_sound() {
                let expected = format!("several values of one type in metadata `{name}`");
                return Err(fail(expected, "none, or several types".to_owned()));
            }
            let value = match kinds.get(&name) {
                None => value,
                Some(&kind) => {
                    let came = value.kind();
                    value.into_kind(kind).map_err(|_| {
                        fail(format!("metadata `{name}` of type {}", kind.name()), came.name().to_owned())
                    })?
                }
            };
            if !value.is_finite() {
                return Err(fail(
                    format!("a finite number in metadata `{name}`"),
                    "NaN or infinity".to_owned(),
                ));
            }
            converted.insert(name, value);
        }
        for (name, value) in &converted {
            kinds.entry(name.clone()).or_insert(value.kind());
        }
        self.metadata = converted;
        Ok(())
    }
}

/// Ids are not empty and at most [`MAX_ID_BYTES`] long.
pub(crate) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || MAX_ID_BYTES < id.len() {
        let shown: String = id.chars().take(40).collect();
        return Err(IndexError::Document {
            id: shown,
            expected: format!("an id of 1 to {MAX_ID_BYTES} bytes"),
            got: format!("{} bytes", id.len()),
        });
    }
    Ok(())
}

/// Names that a filter can spell; what lies in an object is named by its path.
pub(crate) fn is_metadata_name(name: &str) -> bool {
    let is_plain = |part: &str| {
        part.len() <= 64
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_plain)
}

/// Title and text as the one searched and embedded field.
pub(crate) fn joined(title: &str, text: &str) -> String {
    let mut whole = String::with_capacity(title.len() + 1 + text.len());
    whole.push_str(title.trim());
    if !whole.is_empty() && !text.trim().is_empty() {
        whole.push(' ');
    }
    whole.push_str(text.trim());
    whole
}

#[cfg(test)]
mod tests {
    use super::{format_date, parse_date};

    #[test]
    fn dates_are_written_as_they_are_read() {
        // Every 37 days and some seconds, from year 0 to 9999.
        for seconds in (-62_167_219_200..253_402_300_800_i64).step_by(37 * 86_400 + 12_345) {
            assert_eq!(format_date(seconds).as_deref().and_then(parse_date), Some(seconds), "{seconds}");
        }
        assert_eq!(format_date(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(format_date(i64::MAX / 2), None);
    }

    #[test]
    fn dates() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_date(text), expected, "{text}");
        check("1970-01-01", Some(0));
        check("1969-12-31", Some(-86_400));
        check("2000-02-29T12:00:00Z", Some(951_825_600));
        check("2000-02-29T12:00:00.25+02:00", Some(951_818_400));
        check("2024-03-01", Some(1_709_251_200));
        check("1900-02-29", None);
        check("2024-13-01", None);
        check("2024-1-01", None);
        check("2024-01-01T25:00:00Z", None);
        check("2024-01-01T10:00:00", None);
        check("yesterday", None);
    }
}

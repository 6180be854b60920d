//! What one commit consists of. It travels as the payload of the lexical half's commit, so that both halves
//! become visible, and durable, at one instant.

use crate::document::Kind;
use crate::error::{IndexError, Result};
use crate::settings::FORMAT;
use crate::vectors::SegmentEntry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The state that a commit makes current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// Checksum of the settings that this state was written under.
    pub(crate) settings_crc32: u32,
    /// Living documents; the lexical half must count the same.
    pub(crate) documents: u64,
    /// How many of them have no vector: where documents bring their own, or texts wait to be encoded.
    // Left out where there are none: manifests of before stay what they were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) without_vector: u64,
    /// Up to this change of the log the state is whole. Where texts wait to be encoded it holds later ones too, which the log
    /// keeps.
    pub(crate) log_sequence: u64,
    /// The next key; keys are never used twice.
    pub(crate) next_key: u64,
    /// The next vector segment; numbers are never used twice.
    pub(crate) next_segment: u64,
    /// The vector segments, in the order of their keys.
    pub(crate) vectors: Vec<SegmentEntry>,
    /// Types of the metadata seen so far, and of those declared.
    pub(crate) metadata: BTreeMap<String, Kind>,
    /// The encoder whose vectors are in here, once there is one.
    pub(crate) encoder: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    crc32: u32,
    manifest: serde_json::Value,
}

impl Manifest {
    /// The state of an index that was never committed.
    pub(crate) fn initial(settings_crc32: u32, metadata: BTreeMap<String, Kind>) -> Self {
        Self { format: FORMAT, settings_crc32, next_key: 1, next_segment: 1, metadata, ..Self::default() }
    }

    pub(crate) fn seal(&self) -> String {
        let manifest = serde_json::json!(self);
        let crc32 = crc32fast::hash(manifest.to_string().as_bytes());
        serde_json::json!({ "crc32": crc32, "manifest": manifest }).to_string()
    }

    /// Reads a sealed manifest; `path` is the file that it was found in.
    pub(crate) fn unseal(payload: &str, path: &Path) -> Result<Self> {
        let sealed: Sealed = serde_json::from_str(payload)
            .map_err(|error| IndexError::corrupt(path, "a sealed manifest", error.to_string()))?;
        let crc32 = crc32fast::hash(sealed.manifest.to_string().as_bytes());
        if crc32 != sealed.crc32 {
            let (expected, got) = (format!("manifest checksum {:08x}", sealed.crc32), format!("{crc32:08x}"));
            return Err(IndexError::corrupt(path, expected, got));
        }
        if let Some(format) = sealed.manifest.get("format").filter(|format| **format != FORMAT) {
            return Err(IndexError::Format {
                path: path.to_owned(),
                expected: format!("format {FORMAT}"),
                got: format!("format {format}"),
            });
        }
        serde_json::from_value(sealed.manifest)
            .map_err(|error| IndexError::corrupt(path, "a manifest", error.to_string()))
    }
}

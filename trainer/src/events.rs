//! TensorBoard event files: the same numbers as `metrics.jsonl`, for people who watch curves.
//!
//! The format is a list of records, each a length, its checksum, a protocol-buffers `Event`, its checksum (TensorFlow's
//! `record_writer` and `event.proto`). Five fields are needed, so they are written by hand: a protobuf library and
//! its generated code would be larger than this file. Wall time is the metric's own `seconds`: no clock is read here.

use serde_json::Value;

/// The name of the event file of a run; TensorBoard looks for `tfevents`.
pub const FILE: &str = "events.out.tfevents.orion";

/// CRC-32C (Castagnoli, polynomial 0x82f63b78 reversed), a bit at a time: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The checksum as records carry it: rotated and shifted, so that the sum of data that holds sums is no fixed point.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes: key, length, content.
fn bytes(key: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// `wall_time`, field 1 of an event, a double.
fn wall_time(seconds: f64, out: &mut Vec<u8>) {
    out.push(0x09);
    out.extend(seconds.to_le_bytes());
}

/// What stands at the start of every event file.
pub fn header() -> Vec<u8> {
    let mut event = Vec::new();
    wall_time(0.0, &mut event);
    bytes(0x1a, b"brain.Event:2", &mut event);
    record(&event)
}

/// The numbers below `value`, with their paths; `step` and `seconds` are axes, not curves.
fn scalars(path: &str, value: &Value, out: &mut Vec<(String, f32)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "step" && *name != "seconds") {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                scalars(&path, value, out);
            }
        }
        Value::Number(number) => out.extend(number.as_f64().map(|number| (path.to_owned(), number as f32))),
        _ => {}
    }
}

/// One metrics line as a record; empty where it has no numbers beside its axes.
pub fn of_metric(metric: &Value) -> Vec<u8> {
    let mut found = Vec::new();
    scalars("", metric, &mut found);
    if found.is_empty() {
        return Vec::new();
    }
    let mut summary = Vec::new();
    for (tag, value) in &found {
        let mut entry = Vec::new();
        bytes(0x0a, tag.as_bytes(), &mut entry);
        entry.push(0x15);
        entry.extend(value.to_le_bytes());
        bytes(0x0a, &entry, &mut summary);
    }
    let mut event = Vec::new();
    wall_time(metric["seconds"].as_f64().unwrap_or(0.0), &mut event);
    event.push(0x10);
    varint(metric["step"].as_u64().unwrap_or(0), &mut event);
    bytes(0x2a, &summary, &mut event);
    record(&event)
}

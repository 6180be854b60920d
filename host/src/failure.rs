//! What a guest's author needs to see of a failure: the message it left, and where in its code it stood.
//!
//! The message is what the guest last logged at error level (Rust's panic hook and the exception handlers of other
//! languages log there), line breaks kept; the frames are wasm functions under their names, as far as the component
//! carries names. Neighbours: `run.rs` fills it beside [`crate::Degraded`], whose reason stays one line for operators.
use serde::{Deserialize, Serialize};
use wasmtime::WasmBacktrace;

use crate::places::SourcePlaces;

/// A failed guest, for its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFailure {
    /// What the guest said before it ended: a panic's or an exception's message, several lines perhaps.
    pub message: Option<String>,
    /// Functions of the guest, innermost first, demangled, each with ` at FILE:LINE:COLUMN` where that is
    /// known; the innermost twenty, as the engine keeps them.
    pub frames: Vec<String>,
}

/// Bytes of a guest's message that are kept: a long Python traceback.
pub(crate) const MESSAGE_BYTES: usize = 16 << 10;

/// Frames that are kept where inlined functions count too.
const FRAMES_KEPT: usize = 64;

/// Frames that [`GuestFailure`] shows.
const FRAMES_SHOWN: usize = 8;

/// How a function is called that the component has no name for.
const NAMELESS: &str = "function ";

/// How Rust's own machinery between a panic and its trap begins: no author wants to read it.
const MACHINERY: [&str; 10] = [
    "abort",
    "core::panicking::",
    "core::option::expect_failed",
    "core::option::unwrap_failed",
    "core::result::unwrap_failed",
    "std::panicking::",
    "std::process::",
    "std::sys::",
    "__rustc",
    "rust_panic",
];

impl GuestFailure {
    pub(crate) fn new(
        message: Option<&str>,
        error: Option<&wasmtime::Error>,
        places: Option<&SourcePlaces>,
    ) -> Option<Self> {
        let backtrace = error.and_then(|error| error.downcast_ref::<WasmBacktrace>());
        let frames: Vec<String> = match (backtrace.map(WasmBacktrace::frames), places) {
            (None, _) => Vec::new(),
            (Some(frames), None) => frames.iter().map(frame_name).collect(),
            (Some(frames), Some(places)) => {
                let offsets: Vec<Option<usize>> = frames.iter().map(|frame| frame.module_offset()).collect();
                let located = places.locate(&offsets);
                let lines = frames.iter().zip(located).flat_map(|(frame, inlined)| {
                    if inlined.is_empty() { vec![frame_name(frame)] } else { inlined }
                });
                lines.take(FRAMES_KEPT).collect()
            }
        };
        // Frames without a single name say nothing.
        if message.is_none() && frames.iter().all(|frame| frame.starts_with(NAMELESS)) {
            return None;
        }
        Some(Self { message: message.map(str::to_owned), frames })
    }
}

fn frame_name(frame: &wasmtime::FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => function_name(name),
        None => format!("{NAMELESS}{}", frame.func_index()),
    }
}

/// A function as its author calls it. The alternate form leaves out the hash that rustc appends.
pub(crate) fn function_name(mangled: &str) -> String {
    printable(&format!("{:#}", rustc_demangle::demangle(mangled)), 300)
}

/// A guest's text with line breaks, but no other control characters; cut at a character.
pub(crate) fn printable(text: &str, limit_bytes: usize) -> String {
    let end = text.floor_char_boundary(limit_bytes.min(text.len()));
    let is_kept = |character: char| character == '\n' || !character.is_control();
    text[..end].chars().map(|character| if is_kept(character) { character } else { ' ' }).collect()
}

/// The parts of a Rust panic's message: what happened, and `file:line:column`.
fn panic_parts(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("panicked at ")?;
    let (place, text) = rest.split_once(":\n")?;
    Some((text.trim(), place.trim()))
}

impl std::fmt::Display for GuestFailure {
    /// `panic: …` with its place for Rust, the message as it came for all others; then the innermost frames.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = Vec::new();
        if let Some(message) = &self.message {
            match panic_parts(message) {
                Some((text, place)) => {
                    lines.extend([format!("panic: {text}"), format!("  at {place}")]);
                }
                None => lines.extend(message.trim_end().lines().map(str::to_owned)),
            }
        }
        let is_machinery =
            |frame: &&String| MACHINERY.iter().any(|start| frame.trim_start_matches('<').starts_with(start));
        let own: Vec<&String> = self.frames.iter().skip_while(is_machinery).collect();
        if own.iter().any(|frame| !frame.starts_with(NAMELESS)) {
            lines.extend(own.iter().take(FRAMES_SHOWN).map(|frame| format!("  in {frame}")));
            if own.len() > FRAMES_SHOWN {
                lines.push(format!("  … {} more", own.len() - FRAMES_SHOWN));
            }
        }
        formatter.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_shown_with_its_place_and_its_own_frames() {
        let failure = GuestFailure {
            message: Some("the strategy panicked: panicked at src/lib.rs:7:9:\nno title".to_owned()),
            frames: [
                "abort",
                "std::process::abort",
                "std::panicking::rust_panic",
                "core::panicking::panic_fmt",
                "echo::search",
                "search",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        assert_eq!(
            failure.to_string(),
            "panic: no title\n  at src/lib.rs:7:9\n  in echo::search\n  in search"
        );
    }

    #[test]
    fn a_traceback_keeps_its_lines_and_nameless_frames_are_left_out() {
        let failure = GuestFailure {
            message: Some("Traceback:\n  File \"app.py\", line 3\nValueError: no title\n".to_owned()),
            frames: vec!["function 12".to_owned()],
        };
        assert_eq!(failure.to_string(), "Traceback:\n  File \"app.py\", line 3\nValueError: no title");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb", 100), "a [31m\nb");
        assert_eq!(printable("aä", 2), "a");
    }
}
